/**
 * The checker's books: what it was told about each server, each end of a
 * connection and each dispatcher. They hold facts; rules are in the checker.
 *
 * @module
 */

import type { ChannelMap, CloseKind, Dispatcher } from "../../mod.ts";
import { strayByte } from "./bytes.ts";
import type { Handler } from "./program.ts";

/** What is known of an address. */
export interface ServerBook {
  /** No fault of its link breaks connections. */
  readonly healthy: boolean;
  /** A connect is bound to succeed while it listens. */
  readonly answers: boolean;
  /** Bytes each way that may be under way or unread. */
  readonly window: number;
  listens: boolean;
  /** It stopped listening, or gave up a connection before anyone had it. */
  gaveUp: boolean;
}

/** How its owner ended a connection. */
export type Leave = "close" | "abort" | "reset";

/** One end of one connection: the socket of a dispatcher, until `createSocket()` makes another, or a peer by hand. */
export class End {
  /** Number of the stream of bytes this end sends. */
  readonly stream: number;
  readonly server: ServerBook;
  /** Belongs to a dispatcher. */
  readonly library: boolean;
  /** Was adopted: connected from the start. */
  readonly adopted: boolean;
  readonly withSend: boolean;
  readonly size: number;
  readonly linger: number;
  peer: End | null = null;
  port = 0;

  connected = false;
  connects = 0;
  /** What `connect()` failed with. */
  failure: unknown = undefined;
  /** Bytes the library, or a write by hand, said it took; and bytes it may have taken. */
  taken = 0;
  attempted = 0;
  received = 0;
  /** The end of file was sent, by a half-close. */
  shut = false;
  left: Leave | null = null;
  /** When it was left, or `handleClose` ran. */
  overAt = 0;
  /** The last time bytes were received, or their end. */
  movedAt = 0;
  /** So long after it was over nothing was read at the other end that what waits may be dropped. */
  gaveUp = false;
  /** `recv()` said that there will be no more, or a read by hand did. */
  sawEnd = false;
  eofs = 0;
  /** It will read whatever comes. A peer by hand does not before its steps are done. */
  readsOn = true;
  /** The pass in which something was sent last. */
  sentIn = -1;
  /** The connection broke: a reset was reported. */
  broke = false;
  /** What waits is dropped: a disconnect as reset, timeout or limit. */
  drops = false;
  /** An async `handleError` rejected, which may end the connection. */
  mayFail = false;
  /** `handleClose` is due: since when, and as what. */
  due: { kind: CloseKind | null; error: unknown; pass: number } | null = null;
  closes = 0;
  signal: AbortSignal | null = null;
  /** Handlers that have not settled. */
  readonly pending: Handler[] = [];
  /** Chunks that came before the other end was known. */
  #early: Uint8Array[] = [];
  /** Chunks that are the receiver's own and must stay as they are. */
  readonly #kept: { data: Uint8Array; position: number }[] = [];

  constructor(stream: number, options: {
    server: ServerBook;
    library: boolean;
    adopted?: boolean;
    withSend?: boolean;
    size?: number;
    linger?: number;
  }) {
    this.stream = stream;
    this.server = options.server;
    this.library = options.library;
    this.adopted = options.adopted ?? false;
    this.withSend = options.withSend ?? false;
    this.size = options.size ?? Infinity;
    this.linger = options.linger ?? 10_000;
    this.connected = this.adopted;
  }

  /** Its owner ended it, or was told that it has ended. */
  get over(): boolean {
    return this.left !== null || this.closes > 0;
  }

  /** Holds a direction back. */
  holds(direction: "read" | "write"): boolean {
    return this.pending.some((handler) =>
      handler === "connect" ||
      (direction === "write" ? handler === "write" : READS.has(handler))
    );
  }

  /** Notes that bytes were received, or their end. */
  moved(now: number): void {
    const { peer } = this;
    // The library reads a little earlier than its user, so it is not exact.
    const idle = peer === null ? 0 : now - Math.max(peer.overAt, this.movedAt);
    if (peer?.over && idle >= peer.linger - 100) peer.gaveUp = true;
    this.movedAt = now;
  }

  /** Notes received bytes. Returns what is wrong with them. */
  takeIn(data: Uint8Array, own: boolean, now: number): string | null {
    this.moved(now);
    if (this.peer === null) this.#early.push(data.slice());
    const wrong = this.#compare(data, this.received);
    if (own && this.#kept.length < 20) {
      this.#kept.push({ data, position: this.received });
    }
    this.received += data.length;
    return wrong;
  }

  #compare(data: Uint8Array, position: number): string | null {
    const { peer } = this;
    if (peer === null) return null;
    const stray = strayByte(data, peer.stream, position);
    if (stray >= 0) {
      return `byte ${position + stray} is ${data[stray]}, not what was sent`;
    }
    const end = position + data.length;
    return end <= peer.attempted
      ? null
      : `${end} bytes came, ${peer.attempted} were sent`;
  }

  /** Whether a view lent at `position` still shows the same bytes. */
  still(data: Uint8Array, position: number): boolean {
    return this.peer === null ||
      strayByte(data, this.peer.stream, position) < 0;
  }

  /** Whether everything that was copied out is unchanged. */
  get intact(): boolean {
    return this.#kept.every(({ data, position }) => this.still(data, position));
  }

  /** Makes the other end known. Returns what is wrong with what came before. */
  pair(peer: End): string | null {
    this.peer = peer;
    let position = 0;
    let wrong: string | null = null;
    for (const data of this.#early) {
      wrong ??= this.#compare(data, position);
      position += data.length;
    }
    this.#early = [];
    return wrong;
  }

  /** Whether the other end may see an end, of whatever kind, because of what this one did. */
  get mayEnd(): boolean {
    return this.shut || this.over || this.broke || this.due !== null ||
      !this.server.healthy;
  }

  /** Whether bytes this end sent may be lost. */
  get mayLose(): boolean {
    return !this.server.healthy || this.drops || this.broke || this.gaveUp ||
      this.left === "abort" || this.left === "reset" ||
      (this.over && this.linger === 0);
  }
}

/** A view that was lent, and where in the stream it belongs. */
export interface Lent {
  readonly end: End;
  readonly data: Uint8Array;
  readonly position: number;
}

/** Handlers that a channel's reads wait for. */
export const READS: ReadonlySet<Handler> = new Set([
  "read",
  "eof",
  "accept",
  "accepted",
]);

/** How a direction of a channel stands. */
export class Direction {
  /** What the predicate said, and when; -1: never asked. */
  answer = false;
  askedAt = -1;
  /** When a handler without progress ended; `Infinity` if the last one made some or none ran. */
  idleSince = Infinity;
  /** When something happened since that must lead to a new look. */
  stirredAt = -1;
  /** Handlers without progress that ran though nothing happened. */
  retries = 0;
  /** What had happened in the world when the last handler without progress ended. */
  excuse = "";
  /** The pass in which it was first seen ready; `Infinity`: it is not. */
  readySince = Infinity;
  /** The pass of the last event. */
  servedIn = -1;
  /** `bytesRead` as it was last seen, and how often it grew since the predicate said no. */
  seen = 0;
  ahead = 0;
  /** It said yes on this socket, so that one read may be under way. */
  everYes = false;
}

/** A dispatcher. */
export class Seat {
  readonly name: string;
  readonly channel: Dispatcher;
  /** The predicate's answer now, without telling anyone that it was asked. */
  readonly wants: (direction: "read" | "write") => boolean;
  readonly overrides: "all" | "handlers" | "some";
  map: ChannelMap;
  /** The connection it has, or had. */
  end: End | null = null;
  /** The address it listens on, or listened. */
  listener: ServerBook | null = null;
  listening = false;
  suspended = false;
  /** The number of the completion that made it ready; 0: unknown. */
  cameAs = 0;
  /** Bytes received and not taken, when it was last seen before the end. */
  waitedOpen = 0;
  /** Handlers of a listener that have not settled. */
  readonly accepting: Handler[] = [];
  readonly read = new Direction();
  readonly write = new Direction();
  /** The last handler that began, `handleError` and `handleWrite` aside. */
  previous: Handler | null = null;
  /** Errors of async handlers that `handleError` was not told yet. */
  readonly owed: unknown[] = [];

  constructor(
    name: string,
    channel: Dispatcher,
    map: ChannelMap,
    overrides: Seat["overrides"],
    wants: Seat["wants"],
  ) {
    this.name = name;
    this.channel = channel;
    this.map = map;
    this.overrides = overrides;
    this.wants = wants;
  }

  /** Bytes received and not taken. */
  get waiting(): number {
    return this.end === null ? 0 : this.channel.bytesRead - this.end.received;
  }

  /** Bytes taken and not written. */
  get unsent(): number {
    return this.end === null ? 0 : this.end.taken - this.channel.bytesWritten;
  }

  /** Can be served: it is in a map, open, and nothing holds it. */
  can(direction: "read" | "write"): boolean {
    const { end } = this;
    return end !== null && !this.suspended && !end.over && end.due === null &&
      !end.holds(direction);
  }
}
