/**
 * The other side of the channels under test: plain connections, moved by the
 * steps of a scenario.
 *
 * @module
 */

import type { Breaker } from "../net.ts";
import { bytesOf, concat, quoted } from "./bytes.ts";
import { type Address, HOST, type Place } from "./place.ts";
import type { Action } from "./scenario.ts";

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

/** The peers of one run, by their names. */
export class Peers {
  readonly #place: Place;
  readonly #trace: (who: string, what: string) => void;
  readonly #addressOf: (target: string) => Address;
  readonly #conns = new Map<string, Deno.Conn>();
  readonly #listeners = new Map<string, Deno.Listener>();
  /** Those that will reset their connection. */
  readonly #breakers = new Map<string, Breaker>();

  /**
   * @param place Where they are.
   * @param trace Where the lines go.
   * @param addressOf Where a name listens.
   */
  constructor(
    place: Place,
    trace: (who: string, what: string) => void,
    addressOf: (target: string) => Address,
  ) {
    this.#place = place;
    this.#trace = trace;
    this.#addressOf = addressOf;
  }

  /** Closes all. */
  close(): void {
    for (const each of [...this.#conns.values(), ...this.#listeners.values()]) {
      each[Symbol.dispose]();
    }
    for (const each of this.#breakers.values()) each.reset();
  }

  /** The address of a peer that listens. */
  address(name: string): Deno.Addr | undefined {
    return this.#listeners.get(name)?.addr;
  }

  /** Makes a peer out of the far end of a new connection, and returns its near end. */
  async connectPair(name: string, family = "inet"): Promise<Deno.Conn> {
    const pairs = `pairs of ${family}`;
    if (!this.#listeners.has(pairs)) this.#listen(pairs, family);
    const listener = this.#listener(pairs);
    const near = await this.#place.connect(listener.addr as Address);
    this.#conns.set(name, await listener.accept());
    return near;
  }

  /** As `connectPair()`, with a peer that can do nothing but send and reset the connection. */
  async breakablePair(name: string): Promise<Deno.Conn> {
    const [near, far] = await this.#place.breakablePair();
    this.#breakers.set(name, far);
    return near;
  }

  /** Sends all of it. */
  async send(name: string, bytes: Uint8Array): Promise<void> {
    const breaker = this.#breakers.get(name);
    if (breaker === undefined) await writeAll(this.#conn(name), bytes);
    else await breaker.write(bytes);
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
        const address = this.#addressOf(args[0] as string);
        this.#conns.set(name, await this.#place.connect(address));
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
      case "reset":
        return await this.#reset(name);
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
    const address: Address = family === "unix"
      ? { transport: "unix", path: `${this.#place.folder}/${name}.sock` }
      : { transport: "tcp", hostname: HOST, port: 0 };
    this.#listeners.set(name, this.#place.listen(address));
  }

  async #reset(name: string): Promise<void> {
    const breaker = this.#breakers.get(name);
    this.#breakers.delete(name);
    if (breaker !== undefined) return await breaker.reset();
    // On a Unix socket it takes no more than unread input; that there is some, driver.py checks.
    this.#conn(name).close();
    this.#conns.delete(name);
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
