/**
 * The dispatchers under test, which note what they see.
 *
 * @module
 */

import { type ChannelMap, type CloseReason, Dispatcher } from "../../mod.ts";
import { type Address, contents, fits } from "./stage.ts";

/** `ConnectionReset`, or `Error EMFILE`, or `Error failed to lookup …`. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.constructor !== Error) return error.constructor.name;
  const { code } = error as { code?: string };
  return `Error ${code ?? error.message.replace(/:.*/s, "")}`;
}

/** What a {@linkcode Subject} does. */
export interface Behaviour {
  /**
   * How many bytes it sends, as fast as it may.
   *
   * @default {0}
   */
  readonly sends?: number;
  /**
   * Whether it closes when it has sent that.
   *
   * @default {false}
   */
  readonly closes?: boolean;
  /**
   * How many bytes it sends after the peer's end of file, before it closes;
   * with 0 the end of file is the end.
   *
   * @default {0}
   */
  readonly answers?: number;
  /**
   * Whether it reads.
   *
   * @default {true}
   */
  readonly reads?: boolean;
  /**
   * As of {@linkcode Dispatcher}.
   *
   * @default {10_000}
   */
  readonly lingerTimeout?: number;
}

/** A connection under test. */
export class Subject extends Dispatcher {
  /** What happened, in order; a row of reads or of writes is one event. */
  readonly events: string[] = [];
  /** What `handleClose` was told to be lost. */
  unsent: number | undefined;
  /** How many bytes `send()` took. */
  sent = 0;
  /** How many bytes came in. */
  received = 0;
  /** How many bytes are still to be sent. */
  left: number;
  /** Whether it reads. */
  reads: boolean;
  /** Whether it closes when nothing is left to be sent. */
  closes: boolean;
  readonly #answers: number;

  constructor(conn: Deno.Conn | null, map: ChannelMap, we: Behaviour = {}) {
    super(conn, { map, lingerTimeout: we.lingerTimeout ?? 10_000 });
    this.left = we.sends ?? 0;
    this.closes = we.closes ?? false;
    this.reads = we.reads ?? true;
    this.#answers = we.answers ?? 0;
  }

  /** Whether the send buffer is too full for a write event. */
  get full(): boolean {
    return this.connected && this.room * 2 < this.sendBufferSize;
  }

  /** Whether its socket is closed. */
  get closed(): boolean {
    return !this.connected && !this.connecting && !this.closing;
  }

  override readable(): boolean {
    return this.reads;
  }
  override writable(): boolean {
    return this.connecting || this.left > 0;
  }
  override handleConnect(): void {
    this.events.push("connect");
  }
  override handleRead(): void {
    const data = this.recv();
    if (!fits(data, this.received)) this.events.push("wrong bytes");
    if (this.received > 0 && this.events.at(-1) === `read ${this.received}`) {
      if (data.length > 0) this.events.pop();
    }
    this.received += data.length;
    this.events.push(`read ${data.length === 0 ? 0 : this.received}`);
  }
  override handleWrite(): void {
    if (this.events.at(-1) !== "write") this.events.push("write");
    for (let length = 1; length > 0 && this.left > 0;) {
      length = this.send(contents(this.sent, this.left));
      this.sent += length;
      this.left -= length;
    }
    if (this.left === 0 && this.closes) this.close();
  }
  override handleEof(): void | Promise<void> {
    this.events.push("eof");
    if (this.#answers === 0) return super.handleEof();
    this.left += this.#answers;
    this.closes = true;
  }
  override handleClose(reason?: CloseReason): void {
    const { kind, error, bytesUnsent } = reason!;
    this.events.push(`close ${kind} ${error ? describe(error) : ""}`.trim());
    this.unsent = bytesUnsent;
    if (bytesUnsent !== this.sent - this.bytesWritten) {
      this.events.push("wrong bytesUnsent");
    }
  }
  override handleError(error: unknown): void {
    this.events.push(`error ${describe(error)}`);
  }
  override logInfo(message: string, type: string): void {
    this.events.push(`log ${type} ${message}`);
  }
}

/** A listener under test, and what it accepted. */
export class Door extends Dispatcher {
  /** What happened, in order. */
  readonly events: string[] = [];
  /** The connections it accepted. */
  readonly subjects: Subject[] = [];
  /** Whether it accepts. */
  open = true;
  readonly #map: ChannelMap;
  readonly #we: Behaviour;
  readonly #most: number;

  /** Accepts so many connections, which behave as told. */
  constructor(
    map: ChannelMap,
    addr: Address,
    options: { we?: Behaviour; most?: number; backlog?: number } = {},
  ) {
    super(null, { map });
    this.#map = map;
    this.#we = options.we ?? {};
    this.#most = options.most ?? 1;
    this.createSocket();
    this.bind(addr);
    this.listen(options.backlog);
  }

  override readable(): boolean {
    return this.open;
  }
  override handleAccepted(conn: Deno.Conn): void {
    this.events.push("accepted");
    this.subjects.push(new Subject(conn, this.#map, this.#we));
    if (this.subjects.length === this.#most) this.close();
  }
  override handleClose(reason?: CloseReason): void {
    this.events.push(`close ${reason?.kind}`);
  }
  override handleError(error: unknown): void {
    this.events.push(`error ${describe(error)}`);
  }
  override logInfo(_message: string, type: string): void {
    this.events.push(`log ${type}`);
  }
}
