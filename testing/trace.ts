/**
 * What happened in a simulation, written down.
 *
 * @module
 */

import type { Channel, Tracer } from "../channel_map.ts";
import { formatAddress } from "../sockets/address.ts";

/**
 * Something that happened to a channel: a handler is about to be called, or a call has done something.
 *
 * Handlers are called `connect`, `accept`, `accepted`, `read`, `eof`, `write`, `expt`, `close` and `error`; calls are `listen()`,
 * `connect()`, `accept()`, `recv()`, `send()`, `shutdown()`, `disconnect()`, `close()` and `abort()`.
 */
export interface TraceEntry {
  /** When, in milliseconds since the start of the simulation. */
  readonly time: number;
  /** To whom: the name of its class and its running number, as in `Echo#2`, or what {@linkcode SimNet.name} said. */
  readonly channel: string;
  /** What. */
  readonly event: string;
  /** Bytes that wait (`read`), were taken (`recv()`, `send()`) or never left (`close`). */
  readonly bytes?: number;
  /** The kind of the end (`close`, `disconnect()`), the text of an `error`, or an address. */
  readonly detail?: string;
}

/** Writes down what it is told. */
export class Trace implements Tracer {
  readonly entries: TraceEntry[] = [];
  readonly #time: () => number;
  readonly #names = new WeakMap<object, string>();
  readonly #numbers = new Map<string, number>();

  /**
   * Starts an empty trace.
   *
   * @param time Tells the time.
   */
  constructor(time: () => number) {
    this.#time = time;
  }

  /** Gives a channel a name. */
  name(channel: object, name: string): void {
    this.#names.set(channel, name);
  }

  #nameOf(channel: object): string {
    const known = this.#names.get(channel);
    if (known !== undefined) return known;
    const type = channel.constructor.name;
    const number = (this.#numbers.get(type) ?? 0) + 1;
    this.#numbers.set(type, number);
    const name = `${type}#${number}`;
    this.#names.set(channel, name);
    return name;
  }

  trace(
    channel: Channel,
    event: string,
    bytes?: number,
    detail?: unknown,
  ): void {
    this.entries.push({
      time: this.#time(),
      channel: this.#nameOf(channel),
      event,
      ...bytes !== undefined && { bytes },
      ...detail !== undefined && { detail: describe(detail) },
    });
  }
}

function describe(detail: unknown): string {
  const isAddress = typeof detail === "object" && detail !== null &&
    "transport" in detail;
  return isAddress ? formatAddress(detail as Deno.Addr) : String(detail);
}
