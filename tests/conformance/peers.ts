/**
 * The other side of the channels under test: plain connections of Deno, moved by
 * the steps of a scenario.
 *
 * @module
 */

import { bytesOf, concat, quoted } from "./bytes.ts";
import type { Action } from "./scenario.ts";

/** Where everything listens. */
export const HOST = "127.0.0.1";

/** Connects to the address of a listener, whose type has no transport that `Deno.connect()` takes. */
function connectTo(address: Deno.Addr): Promise<Deno.Conn> {
  return "path" in address
    ? Deno.connect({ transport: "unix", path: address.path })
    : Deno.connect({ ...address as Deno.NetAddr, transport: "tcp" });
}

/** Writes everything. */
async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) {
    sent += await conn.write(bytes.subarray(sent));
  }
}

/** Reads `size` bytes, or fewer where the stream ends before. */
async function readUpTo(conn: Deno.Conn, size: number): Promise<Uint8Array> {
  let bytes = new Uint8Array();
  while (bytes.length < size) {
    const piece = new Uint8Array(Math.min(size - bytes.length, 65_536));
    const count = await conn.read(piece);
    if (count === null) break;
    bytes = concat(bytes, piece.subarray(0, count));
  }
  return bytes;
}

/** A way through the kernel and back: what was sent before it has arrived after it. */
export class Fence {
  /** The end that connected. */
  readonly near: Deno.Conn;
  readonly #far: Deno.Conn;

  private constructor(near: Deno.Conn, far: Deno.Conn) {
    this.near = near;
    this.#far = far;
  }

  /** Opens it. */
  static async open(): Promise<Fence> {
    using listener = Deno.listen({ hostname: HOST, port: 0 });
    const near = await connectTo(listener.addr);
    return new Fence(near, await listener.accept());
  }

  /** Goes there and back. */
  async passThrough(): Promise<void> {
    await this.#send(this.near, this.#far);
    await this.#send(this.#far, this.near);
  }

  /**
   * The read comes first and finds nothing, so that Deno has to ask the system for news, and hears of all there is. A read that
   * finds its byte at once, or a turn of the event loop by `setImmediate()`, gets no other socket's news in: Deno asks
   * for them when it is idle, else every 61st turn.
   */
  async #send(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const arrival = to.read(new Uint8Array(1));
    await from.write(new Uint8Array(1));
    await arrival;
  }

  /** Closes it. */
  close(): void {
    this.near.close();
    this.#far.close();
  }
}

/** The peers of one run, by their names. */
export class Peers {
  readonly #folder: string;
  readonly #trace: (who: string, what: string) => void;
  readonly #addressOf: (target: string) => Deno.Addr;
  readonly #conns = new Map<string, Deno.Conn>();
  readonly #listeners = new Map<string, Deno.Listener>();

  /**
   * @param folder Where Unix sockets go.
   * @param trace Where the lines go.
   * @param addressOf Where a name listens.
   */
  constructor(
    folder: string,
    trace: (who: string, what: string) => void,
    addressOf: (target: string) => Deno.Addr,
  ) {
    this.#folder = folder;
    this.#trace = trace;
    this.#addressOf = addressOf;
  }

  /** Closes all. */
  close(): void {
    for (const each of [...this.#conns.values(), ...this.#listeners.values()]) {
      each[Symbol.dispose]();
    }
  }

  /** The address of a peer that listens. */
  address(name: string): Deno.Addr | undefined {
    return this.#listeners.get(name)?.addr;
  }

  /** Makes a peer out of the far end of a new connection, and returns its near end. */
  async connectPair(name: string, family = "inet"): Promise<Deno.Conn> {
    const pairs = `pairs of ${family}`;
    if (!this.#listeners.has(pairs)) this.#listen(pairs, family);
    const near = await connectTo(this.#listener(pairs).addr);
    this.#conns.set(name, await this.#listener(pairs).accept());
    return near;
  }

  /** Sends all of it. */
  async send(name: string, bytes: Uint8Array): Promise<void> {
    await writeAll(this.#conn(name), bytes);
  }

  /** Receives so many bytes and has each piece checked. */
  async receive(
    name: string,
    size: number,
    check: (piece: Uint8Array, start: number) => void,
  ): Promise<void> {
    const buffer = new Uint8Array(65_536);
    for (let total = 0; total < size;) {
      const count = await this.#conn(name).read(buffer);
      if (count === null) throw new Error(`${name} ended after ${total} bytes`);
      check(buffer.subarray(0, count), total);
      total += count;
    }
  }

  /** One step of a scenario. */
  async step(name: string, [verb, ...args]: Action): Promise<void> {
    switch (verb) {
      case "connect": {
        const peer = await connectTo(this.#addressOf(args[0] as string));
        this.#conns.set(name, peer);
        return;
      }
      case "listen":
        return this.#listen(name, args[0] as string | undefined);
      case "accept": {
        const listener = this.#listener(args[0] as string);
        this.#conns.set(name, await listener.accept());
        return;
      }
      case "send":
        return await this.send(name, bytesOf(args[0] as string));
      case "shutdown":
        return await this.#conn(name).closeWrite();
      // Closing with unread input makes the kernel send a reset; that there is some, driver.py checks.
      case "reset":
      case "close":
        this.#conn(name).close();
        this.#conns.delete(name);
        return;
      case "expect": {
        const bytes = await readUpTo(this.#conn(name), Number(args[0]));
        return this.#trace(name, `got ${quoted(bytes)}`);
      }
      case "eof": {
        const bytes = await readUpTo(this.#conn(name), Infinity);
        const what = bytes.length === 0 ? "eof" : `eof after ${quoted(bytes)}`;
        return this.#trace(name, what);
      }
      case "gone":
        return await this.#gone(name);
      default:
        throw new TypeError(`Cannot use a peer: no verb "${verb}"`);
    }
  }

  #listen(name: string, family?: string): void {
    const listener = family === "unix"
      ? Deno.listen({
        transport: "unix",
        path: `${this.#folder}/${name}.sock`,
      })
      : Deno.listen({ hostname: HOST, port: 0 });
    this.#listeners.set(name, listener);
  }

  async #gone(name: string): Promise<void> {
    try {
      await readUpTo(this.#conn(name), Infinity);
    } catch (error) {
      // How a connection nobody took comes to its end, by an end of file or a reset, is the system's business.
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
    this.#trace(name, "gone");
  }

  #conn(name: string): Deno.Conn {
    const conn = this.#conns.get(name);
    if (conn === undefined) {
      throw new TypeError(`Cannot find peer: no connection "${name}"`);
    }
    return conn;
  }

  #listener(name: string): Deno.Listener {
    const listener = this.#listeners.get(name);
    if (listener === undefined) {
      throw new TypeError(`Cannot find peer: no listener "${name}"`);
    }
    return listener;
  }
}
