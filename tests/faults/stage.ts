/**
 * What a fault is played on: the {@linkcode Stage}, which is a real network or
 * a simulated one, and the peer's part.
 *
 * @module
 */

import type { ChannelMap } from "../../mod.ts";

/** An address at which somebody listens, or nobody. */
export type Address = Deno.NetAddr | Deno.UnixAddr;

/**
 * One thing that the peer does, on its only connection:
 *
 * - `listen`, `accept`, `connect`: opens it;
 * - `wait`: waits for a cue;
 * - `send`, `receive`: so many bytes, `all` is up to the end, at most `piece` in
 *   one call;
 * - `fill`: sends what goes without waiting;
 * - `finish`: half-closes; `close`; `reset`: a RST in place of a FIN;
 * - `cut`, `mend`: from here on the cable carries nothing, or everything again.
 */
export type Step =
  | "listen"
  | "accept"
  | "connect"
  | "wait"
  | "fill"
  | "finish"
  | "close"
  | "reset"
  | "cut"
  | "mend"
  | { readonly send: number; readonly piece?: number }
  | { readonly receive: number | "all"; readonly piece?: number };

/** What the peer saw. */
export interface Report {
  /** How many bytes it sent. */
  readonly sent: number;
  /** How many bytes it received. */
  readonly received: number;
  /** Whether they were the right ones, in order. */
  readonly intact: boolean;
  /** How the connection ended, if the peer came to see that. */
  readonly end: "eof" | "reset" | null;
}

/** Who plays its {@linkcode Step}s. */
export interface Peer {
  /** Where it listens; `null` if it does not. */
  readonly address: Address | null;
  /** Whether it has come to a `wait`, and had no cue since. */
  readonly waiting: boolean;
  /** Lets it go on from a `wait`, now or when it gets there. */
  cue(): void;
  /** Waits until it has played everything, whether the map is served or not. */
  report(): Promise<Report>;
}

/** Where nobody answers as one would wish. */
export type Nowhere =
  | "no listener"
  | "no name"
  | "no socket"
  | "no route"
  | "no answer";

/** Where a row is played. */
export interface Stage {
  /** The map of the dispatchers under test. */
  readonly map: ChannelMap;
  /** A peer that listens, over TCP unless told otherwise. */
  listener(steps: readonly Step[], transport?: "tcp" | "unix"): Promise<Peer>;
  /** A peer that connects. */
  caller(to: Address, steps: readonly Step[]): Promise<Peer>;
  /** An address to listen at. */
  here(transport: "tcp" | "unix"): Address;
  /** An address that leads nowhere. */
  nowhere(kind: Nowhere): Address;
  /** Serves the map until `done()`. */
  until(done: () => boolean): Promise<void>;
  /** Serves the map until nothing happens by itself any more. */
  quiet(): Promise<void>;
  /** Serves the map until it is empty and nothing lingers. */
  finish(): Promise<void>;
  /** Lets time pass, on the stages of rows that say `timed`. */
  advance(ms: number): Promise<void>;
  /** Takes all descriptors there are. */
  exhaust(): void;
  /** Gives them back. */
  relieve(): void;
}

/** The byte at place `n` of a stream is `n % 251`. */
const BYTES = Uint8Array.from({ length: 251 * 300 }, (_, n) => n % 251);
const PIECE = 65_536;

/** What a stream has from place `at` on. */
export function contents(at: number, length: number): Uint8Array<ArrayBuffer> {
  return BYTES.subarray(at % 251, at % 251 + Math.min(length, PIECE));
}

/** Whether a stream may have `data` from place `at` on. */
export function fits(data: Uint8Array, at: number): boolean {
  return data.every((byte, i) => byte === (at + i) % 251);
}
