/**
 * A tiny HTTP server: it greets whoever asks, whatever they ask for.
 *
 *     deno run --allow-net examples/hello_server.ts [--port N]
 *
 * It prints its address, by default with a port that the system chooses. Try it
 * with `curl -i`; Ctrl-C ends it. `http_client.ts` uses it, too.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { Dispatcher, loop } from "../mod.ts";

/** The longest request head that is accepted, in bytes. */
const MAX_HEAD = 8192;

const encoder = new TextEncoder();
const latin1 = new TextDecoder("latin1");

/** One client: one request, one response, then the end of the connection. */
class HelloHandler extends Dispatcher {
  head = "";

  // There is nothing to write before the request is there, and all of it then.
  override writable() {
    return false;
  }

  override handleRead() {
    this.head += latin1.decode(this.recv());
    if (this.head.includes("\r\n\r\n")) this.answer();
    else if (this.head.length > MAX_HEAD) {
      this.respond("431 Request Header Fields Too Large");
    }
  }

  answer() {
    const [requestLine] = this.head.split("\r\n");
    const [, method] = /^(\S+) \S+ HTTP\/1\.\d$/.exec(requestLine!) ?? [];
    if (method === undefined) this.respond("400 Bad Request");
    else if (method !== "GET" && method !== "HEAD") {
      this.respond("405 Method Not Allowed", "Allow: GET, HEAD");
    } else this.respond("200 OK");
  }

  respond(status: string, ...headers: string[]) {
    const body = status === "200 OK" ? "Hello from asyncore!\n" : `${status}\n`;
    const head = [
      `HTTP/1.0 ${status}`,
      "Content-Type: text/plain; charset=utf-8",
      `Content-Length: ${body.length}`,
      "Connection: close",
      ...headers,
    ].join("\r\n");
    const isHead = this.head.startsWith("HEAD ");
    this.send(encoder.encode(`${head}\r\n\r\n${isHead ? "" : body}`));
    // What was sent still reaches the client.
    this.close();
  }
}

/** Listens on this machine only. */
export class HelloServer extends Dispatcher {
  constructor(port = 0) {
    super();
    this.createSocket();
    this.bind({ hostname: "127.0.0.1", port });
    this.listen();
  }

  /** The address to ask. */
  get url(): string {
    return `http://127.0.0.1:${(this.addr as Deno.NetAddr).port}/`;
  }

  override handleAccepted(conn: Deno.Conn) {
    new HelloHandler(conn);
  }
}

function startServer(): HelloServer {
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: { port: { type: "string", default: "0" } },
    });
    return new HelloServer(Number(values.port));
  } catch (error) {
    const [reason] = (error as Error).message.split("\n");
    console.error(`Cannot start the hello server: ${reason}`);
    Deno.exit(2);
  }
}

if (import.meta.main) {
  console.log(`Listening on ${startServer().url}`);
  await loop();
}
