/**
 * Forwards connections: what clients send to LISTEN goes to TARGET, and back.
 *
 *     deno run --allow-net examples/port_forwarder.ts LISTEN TARGET
 *
 * Both are host:port, an IPv6 address in brackets, as in
 * `127.0.0.1:8080 example.com:80` or `[::1]:0 localhost:22`. It prints where it
 * listens; with port 0 the system chooses one. Ctrl-C ends it.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { Dispatcher, loop } from "../mod.ts";

/** One of two ends, back to back: what it receives, the other one sends. */
class Relay extends Dispatcher {
  other!: Relay;
  /** Whether the other end has no room, so that we do not read. */
  paused = false;
  /** Whether our peer will send no more. */
  ended = false;

  override readable() {
    return !this.paused;
  }

  override handleRead() {
    this.other.send(this.recvView(this.other.room));
    this.paused = this.other.room === 0;
  }

  override writable() {
    return this.other.paused;
  }

  // We have room again: the other end may read on.
  override handleWrite() {
    this.other.paused = false;
    this.other.wake();
  }

  // Passes the half-close on. The way back stays open until it ends, too.
  override handleEof() {
    this.ended = true;
    this.other.shutdown("write");
    if (this.other.ended) this.disconnect({ kind: "eof" });
  }

  override handleClose() {
    this.close();
    this.other.close();
  }
}

class Forwarder extends Dispatcher {
  target: Deno.ConnectOptions;

  constructor(listen: Deno.ConnectOptions, target: Deno.ConnectOptions) {
    super();
    this.target = target;
    this.createSocket();
    this.bind(listen);
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn) {
    const client = new Relay(conn);
    const server = new Relay();
    client.other = server;
    server.other = client;
    // There is no room before there is a connection.
    client.paused = true;
    server.createSocket();
    server.connect(this.target);
  }
}

function parseAddress(text: string): Deno.ConnectOptions {
  const [, ipv6, name, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const hostname = ipv6 ?? name;
  if (hostname === undefined || Number(port) > 65_535) {
    throw new TypeError(`${text} is not of the form host:port`);
  }
  return { hostname, port: Number(port) };
}

function startForwarder(): Forwarder {
  try {
    const [listen, target, ...rest] = Deno.args;
    if (listen === undefined || target === undefined || rest.length > 0) {
      throw new TypeError("it takes two arguments, LISTEN and TARGET");
    }
    return new Forwarder(parseAddress(listen), parseAddress(target));
  } catch (error) {
    console.error(`Cannot start the forwarder: ${(error as Error).message}`);
    Deno.exit(2);
  }
}

const { hostname, port } = startForwarder().addr as Deno.NetAddr;
console.log(`Listening on ${hostname} port ${port}`);
await loop();
