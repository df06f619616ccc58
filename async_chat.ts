/**
 * A dispatcher that speaks in frames: what comes in is cut at terminators, what goes out waits in a queue. On top of the
 * dispatcher; where frames end is the business of `framing.ts`, what the queue holds that of `producers.ts`.
 *
 * @module
 */

import type { Clock, Timer } from "./clock.ts";
import {
  declareOwn,
  isOwn,
  isPromise,
  logThrough,
  type Registration,
} from "./channel_map.ts";
import { Dispatcher, type DispatcherOptions, friend } from "./dispatcher.ts";
import type { CloseReason } from "./errors.ts";
import { Framer, type Terminator } from "./framing.ts";
import {
  END,
  Outbox,
  type ProducerLike,
  type Source,
  sourceOf,
  toBytes,
} from "./producers.ts";

/** Options of an {@linkcode AsyncChat}. */
export interface AsyncChatOptions extends DispatcherOptions {
  /**
   * The longest frame, in bytes without its terminator; see {@linkcode AsyncChat.maxFrameLength}.
   *
   * @default {65_536}
   */
  readonly maxFrameLength?: number;
  /**
   * How many bytes may wait to be sent before it is worth telling when they are gone; see {@linkcode AsyncChat.highWaterMark}.
   *
   * @default {65_536}
   */
  readonly highWaterMark?: number;
}

/** Options of {@linkcode AsyncChat.closeWhenDone}. */
export interface CloseWhenDoneOptions {
  /**
   * How long it may take, in milliseconds.
   *
   * @default {Infinity}
   */
  readonly deadline?: number;
}

const MAX_FRAME_LENGTH = 65_536;
const HIGH_WATER_MARK = 65_536;

/** One read event brings one receive buffer, and none is larger. */
const WHOLE_BUFFER = 262_144;

/** So many pieces a producer makes in one event: small ones leave room for ever, and empty ones more so. */
const MAX_PULLS = 1_000;

const NOTHING = new Uint8Array(0);

/**
 * Copies of short pieces lie side by side in a common buffer: one of its own for each takes longer to make than all the rest that is
 * done with a frame. Not a large one, since somebody who keeps one piece keeps all of it.
 */
const SHORT_PIECE = 256;
const COMMON_BUFFER = 4_096;
let common = new Uint8Array(COMMON_BUFFER);
let commonUsed = 0;

function copyOf(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const { length } = data;
  if (length > SHORT_PIECE) return data.slice() as Uint8Array<ArrayBuffer>;
  if (commonUsed + length > COMMON_BUFFER) {
    common = new Uint8Array(COMMON_BUFFER);
    commonUsed = 0;
  }
  const copy = common.subarray(commonUsed, commonUsed += length);
  copy.set(data);
  return copy;
}

/** Received bytes that are being cut into frames. */
interface Cursor {
  readonly data: Uint8Array;
  /** What comes next. */
  at: number;
}

/**
 * A connection that carries frames: asynchat's `async_chat`.
 *
 * - **Input**: `setTerminator()` says what ends a frame. What arrives goes to `collectIncomingData()`, which keeps it; at the
 *   terminator comes `foundTerminator()`, which takes it by `takeIncoming()`. It does not matter in which pieces the bytes arrive.
 * - **Output**: `push()` queues bytes and `pushWithProducer()` what makes them; everything leaves in that order.
 * - **Pace**: `foundTerminator()` may return a promise: until it settles the next frame waits, and queued output goes on
 *   leaving.
 * - **Limits**: a frame longer than `maxFrameLength` ends the connection. The queue has no limit: look at `queuedBytes`.
 * - **End**: at the peer's end of file everything queued is sent first, then comes `handleClose({ kind: "eof" })`.
 *   `closeWhenDone()` ends it from our side likewise, with the kind `done`. `close()` drops the queue, but not what is in the send
 *   buffer already.
 *
 * @example Lines in, lines out
 * ```ts
 * import { AsyncChat, Dispatcher, loop } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * class Shouter extends AsyncChat {
 *   constructor(conn: Deno.Conn) {
 *     super(conn);
 *     this.setTerminator("\r\n");
 *   }
 *   override foundTerminator() {
 *     const line = new TextDecoder().decode(this.takeIncoming());
 *     this.push(`${line.toUpperCase()}!\r\n`);
 *   }
 * }
 *
 * class Server extends Dispatcher {
 *   override handleAccepted(conn: Deno.Conn) {
 *     new Shouter(conn);
 *     this.close();
 *   }
 * }
 *
 * const server = new Server();
 * server.createSocket();
 * server.bind({ hostname: "127.0.0.1", port: 0 });
 * server.listen();
 *
 * const { port } = server.addr as Deno.NetAddr;
 * const answer = Deno.connect({ port }).then(async (conn) => {
 *   await conn.write(new TextEncoder().encode("hello\r\nbye\r\n"));
 *   await conn.closeWrite();
 *   return await new Response(conn.readable).text();
 * });
 * await loop();
 * assertEquals(await answer, "HELLO!\r\nBYE!\r\n");
 * ```
 */
export class AsyncChat extends Dispatcher {
  // Input.
  readonly #framer = new Framer();
  /** Bytes that were held back for a terminator that is not the one any more: they come before what arrives. */
  #carried: Uint8Array<ArrayBuffer> | null = null;
  /** Bytes of the frame so far. */
  #frameLength = 0;
  /** Whether the rest of the frame, which is too long, is dropped. */
  #skipping = false;
  /** The terminator was found, and `foundTerminator()` is still to be called. */
  #due = false;
  #cursor: Cursor | null = null;
  /** How many bytes the last read event has left in the socket. */
  #left = 0;
  /** How many of them were used up already: they are there so that there is another read event. */
  #again = 0;
  #incoming: Uint8Array<ArrayBuffer> | null = null;
  #incomingLength = 0;
  #maxFrameLength = MAX_FRAME_LENGTH;

  // Output.
  #outbox: Outbox | null = null;
  /** The source whose next piece is being waited for. */
  #pulling: Source | null = null;
  /** What the connection ends with when everything is sent. */
  #ending: "eof" | "done" | null = null;
  /** A handler of the end of file has not settled: it may have more to send. */
  #endPending = false;
  /** `shutdown()` was called, and waits for the queue. */
  #shutDown = false;
  /** Why a source has failed, to be told by the next write event. */
  #failure: { readonly error: unknown } | null = null;
  /** Ends the waiting for the source whose next piece is being waited for. */
  #stopPulling: (() => void) | null = null;
  #deadline: { readonly clock: Clock; readonly timer: Timer } | null = null;
  #highWaterMark = HIGH_WATER_MARK;
  /** Whether more than that waited, and `handleDrained()` is due. */
  #high = false;

  static {
    declareOwn(this.prototype.writable);
    declareOwn(this.prototype.collectIncomingData as () => void);
  }

  /**
   * Makes a channel, with an open connection or without a socket.
   *
   * @param conn As for {@linkcode Dispatcher}.
   * @param options See {@linkcode AsyncChatOptions}.
   * @throws {TypeError} If `conn` is no connection, closed, or was adopted before.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(conn: Deno.Conn | null = null, options: AsyncChatOptions = {}) {
    const { maxFrameLength, highWaterMark } = options;
    // Before the connection is adopted: what fails must leave it alone.
    if (maxFrameLength !== undefined) {
      checkBytes("maxFrameLength", maxFrameLength);
    }
    if (highWaterMark !== undefined) checkBytes("highWaterMark", highWaterMark);
    super(conn, options);
    if (maxFrameLength !== undefined) this.#maxFrameLength = maxFrameLength;
    if (highWaterMark !== undefined) this.#highWaterMark = highWaterMark;
  }

  /** Makes a socket, as {@linkcode Dispatcher.createSocket} does, with nothing received and nothing queued. The terminator stays. */
  override createSocket(...args: Parameters<Dispatcher["createSocket"]>): void {
    super.createSocket(...args);
    this.#left = 0;
    this.#forgetInput();
    this.#framer.reset();
    this.#forgetOutput();
    this.#ending = null;
    this.#shutDown = false;
  }

  // Input.

  /**
   * Sets what ends a frame. In `foundTerminator()` it applies to what has been received behind the frame. Bytes that were held back,
   * since the terminator before may have begun with them, are looked at again when more arrives.
   *
   * @param terminator A sequence of bytes of any length, where text is UTF-8; or how many bytes make the frame; `null`, 0 or an
   * empty sequence collect everything. At first it is `null`.
   * @throws {TypeError} If it is none of these.
   * @throws {RangeError} If it is a number, but not a whole one, 0 or more.
   */
  setTerminator(terminator: Terminator): void {
    const { heldBack } = this.#framer;
    this.#framer.terminator = terminator;
    if (heldBack.length > 0) this.#carried = heldBack;
    this.#skipping = false;
  }

  /**
   * What ends a frame.
   *
   * @returns What was set; of a number what is missing, 0 after the frame.
   */
  getTerminator(): Terminator {
    return this.#framer.terminator;
  }

  /**
   * A piece of a frame has arrived. Keeps a copy for {@linkcode AsyncChat.takeIncoming}.
   *
   * @param data The bytes, never none: a view, good as long as that of {@linkcode Dispatcher.recvView} in the running event. In which
   * pieces a frame comes depends on the network.
   * @throws {TypeError} If an override returns a promise, to `handleError()`.
   */
  collectIncomingData(data: Uint8Array): void {
    const length = this.#incomingLength + data.length;
    if (this.#incoming === null) this.#incoming = copyOf(data);
    else {
      if (length > this.#incoming.length) {
        const larger = new Uint8Array(this.#capacityFor(length));
        larger.set(this.#incoming.subarray(0, this.#incomingLength));
        this.#incoming = larger;
      }
      this.#incoming.set(data, this.#incomingLength);
    }
    this.#incomingLength = length;
  }

  /** Twice as much as before, but not more than the frame needs, if that is known. */
  #capacityFor(length: number): number {
    const { missing } = this.#framer;
    const ample = Math.max(length, this.#incomingLength * 2);
    return missing > 0 ? Math.min(ample, length + missing) : ample;
  }

  /**
   * Takes what {@linkcode AsyncChat.collectIncomingData} has kept.
   *
   * @returns The bytes, which are the caller's own; not so their `buffer`, which short frames share.
   */
  takeIncoming(): Uint8Array<ArrayBuffer> {
    const incoming = this.#incoming;
    if (incoming === null) return new Uint8Array(0);
    const exact = incoming.length === this.#incomingLength;
    const taken = exact ? incoming : incoming.subarray(0, this.#incomingLength);
    this.#incoming = null;
    this.#incomingLength = 0;
    return taken;
  }

  /**
   * A frame is complete. Logs a warning and drops it.
   *
   * A promise that never settles keeps the channel: whoever waits here for something that may not come looks at `signal`, which may have
   * been aborted before, since frames that had arrived are delivered after a failed write, too.
   */
  foundTerminator(): void | Promise<void> {
    this.takeIncoming();
    logThrough(this, "unhandled frame", "warning");
  }

  /**
   * A frame is longer than {@linkcode AsyncChat.maxFrameLength}. Ends the connection by `disconnect({ kind: "limit" })`; if a subclass
   * does not, the rest of the frame is dropped, and there is no `foundTerminator()` for it. What was collected of it can be taken
   * here, and is dropped afterwards.
   *
   * @param _length How many bytes of it have arrived so far.
   */
  handleFrameTooLong(_length: number): void | Promise<void> {
    this.disconnect({ kind: "limit" });
  }

  /**
   * The peer has ended within a frame; or, without a terminator, {@linkcode AsyncChat.collectIncomingData} has kept something that was
   * not taken. `handleClose()` follows when everything queued is sent. Drops it.
   *
   * @param _data What was kept and not taken.
   */
  handleIncompleteFrame(_data: Uint8Array<ArrayBuffer>): void | Promise<void> {}

  /**
   * The longest frame, in bytes without its terminator, where a sequence of bytes ends it; a number is its own limit. Without a
   * terminator it is the most that is kept for {@linkcode AsyncChat.takeIncoming}. `Infinity` is no limit.
   *
   * @default {65_536}
   */
  get maxFrameLength(): number {
    return this.#maxFrameLength;
  }

  set maxFrameLength(length: number) {
    checkBytes("maxFrameLength", length);
    this.#maxFrameLength = length;
  }

  /** Cuts what has arrived into frames. */
  override handleRead(): void | Promise<void> {
    // Ported programs call it without a read event.
    if (friend.current(this) === null) return;
    let view: Uint8Array;
    try {
      view = this.recvView(WHOLE_BUFFER);
    } catch (error) {
      if (error instanceof Deno.errors.WouldBlock) return;
      throw error;
    }
    return this.#receive(view);
  }

  /** Tells of an incomplete frame, then ends the connection when everything queued is sent. */
  override handleEof(): void | Promise<void> {
    // From now on whatever happens leads to the end.
    this.#ending ??= "eof";
    this.#endPending = true;
    let result: void | Promise<void> = undefined;
    try {
      result = this.#endInput();
    } finally {
      if (!isPromise(result)) this.#inputEnded();
    }
    if (!isPromise(result)) return;
    return Promise.resolve(result).finally(() => this.#inputEnded());
  }

  #inputEnded(): void {
    this.#endPending = false;
    this.#endIfDone();
  }

  #endInput(): void | Promise<void> {
    if (friend.current(this) === null) return;
    const received = this.#receive(NOTHING);
    if (isPromise(received)) {
      return Promise.resolve(received).then(() => this.#endInput());
    }
    if (friend.current(this) === null) return;
    const { heldBack, endless } = this.#framer;
    this.#framer.rewind();
    if (heldBack.length > 0 && !this.#skipping) this.#collect(heldBack);
    const partial = endless ? this.#incomingLength > 0 : this.#frameLength > 0;
    this.#frameLength = 0;
    if (!partial || this.#skipping) return;
    return this.handleIncompleteFrame(this.takeIncoming());
  }

  /** Cuts bytes, and those that were carried, into frames, up to the first that has to be waited for. */
  #receive(view: Uint8Array): void | Promise<void> {
    const registration = friend.current(this)!;
    let data = view;
    if (this.#carried !== null) {
      data = new Uint8Array(this.#carried.length + view.length);
      data.set(this.#carried);
      data.set(view, this.#carried.length);
      this.#carried = null;
    }
    this.#left = 0;
    const cursor = this.#cursor = { data, at: this.#again };
    this.#again = 0;
    try {
      return this.#cut(cursor, registration);
    } finally {
      // What a handler leaves that fails comes with the next sweep: something was taken, which is progress.
      this.#cursor = null;
      this.#leave(cursor, view, registration);
    }
  }

  /** Leaves what was not cut for the next read event. */
  #leave(cursor: Cursor, view: Uint8Array, registration: Registration): void {
    const rest = cursor.data.length - cursor.at;
    if (rest === 0 && this.#due && view.length > 0 && friend.open(this)) {
      this.#left = this.#again = 1;
      return friend.putBack(registration, 1);
    }
    if (rest === 0) return;
    const carried = rest - view.length;
    if (carried > 0) {
      this.#carried = cursor.data.slice(cursor.at, cursor.at + carried);
    }
    this.#left = Math.min(rest, view.length);
    friend.putBack(registration, this.#left);
  }

  /** A write event that sent nothing parks the channel; but something was used up, so it may go on with the rest. */
  #tryAgain(registration: Registration | null): void {
    friend.clock(this).defer(() => registration?.touch());
  }

  /**
   * Cuts frames until the bytes are used up, a promise is to be waited for, or the channel is not to be served any more. Before each
   * handler everything is as it will be when it fails, or closes or suspends the channel, so that it goes on there.
   */
  #cut(cursor: Cursor, registration: Registration): void | Promise<void> {
    const { data } = cursor;
    while (friend.current(this) === registration) {
      let result: void | Promise<void> = undefined;
      if (this.#due) {
        this.#due = false;
        this.#frameLength = 0;
        result = this.foundTerminator();
      } else if (cursor.at < data.length) result = this.#cutPiece(cursor);
      else return;
      if (isPromise(result)) return Promise.resolve(result);
    }
  }

  /** Cuts one piece off. */
  #cutPiece(cursor: Cursor): void | Promise<void> {
    const framer = this.#framer;
    const { data, at: start } = cursor;
    const { bySequence, endless } = framer;
    framer.scan(data, start);
    const { released, kept, end, next, found } = framer;
    const length = released + end - start;
    if (this.#skipping) {
      cursor.at = next;
      this.#skipping = !found;
    } else if (this.#isTooLong(length, bySequence, endless)) {
      cursor.at = next;
      this.#skipping = bySequence && !found;
      return this.#frameTooLong(length);
    } else if (released > 0) {
      // The rest is scanned again.
      const { releasedBytes } = framer;
      framer.rewind(kept);
      this.#collect(releasedBytes);
    } else if (end > start) this.#cutData(cursor, end, next, found);
    else {
      cursor.at = next;
      this.#due = found;
    }
  }

  #cutData(cursor: Cursor, end: number, next: number, found: boolean): void {
    const framer = this.#framer;
    const { data, at: start } = cursor;
    const { terminator, bySequence } = framer;
    if (!bySequence) {
      cursor.at = next;
      this.#due = found;
      return this.#collect(data.subarray(start, end));
    }
    const { held } = framer;
    cursor.at = end;
    framer.rewind();
    this.#collect(data.subarray(start, end));
    // Unless something has changed, the terminator need not be looked for again.
    const changed = cursor.at !== end || framer.terminator !== terminator ||
      friend.current(this) === null;
    if (changed) return;
    if (!found) framer.rewind(held);
    cursor.at = next;
    this.#due = found;
  }

  #collect(data: Uint8Array): void {
    this.#frameLength += data.length;
    const result: unknown = this.collectIncomingData(data);
    if (!isPromise(result)) return;
    // Its rejection, if it comes, is beside the point: the collector itself is wrong.
    Promise.resolve(result).catch(() => {});
    throw new TypeError(
      "Cannot use collectIncomingData(): it returned a promise",
    );
  }

  /** Whether so many more bytes are too many. */
  #isTooLong(length: number, bySequence: boolean, endless: boolean): boolean {
    if (!bySequence && !endless) return false;
    // Frames that are not taken add up. What an own collector does with what has no end is its own business.
    const ours = isOwn(this.collectIncomingData as () => void);
    const kept = ours ? this.#incomingLength : 0;
    const before = bySequence ? Math.max(this.#frameLength, kept) : kept;
    return (bySequence || ours) && before + length > this.#maxFrameLength;
  }

  #frameTooLong(length: number): void | Promise<void> {
    const total = this.#frameLength + length;
    this.#frameLength = 0;
    try {
      return this.handleFrameTooLong(total);
    } finally {
      this.takeIncoming();
    }
  }

  #forgetInput(): void {
    this.takeIncoming();
    this.#framer.rewind();
    this.#carried = null;
    this.#frameLength = 0;
    this.#skipping = this.#due = false;
    this.#again = 0;
    if (this.#cursor !== null) this.#cursor.at = this.#cursor.data.length;
    else if (this.#left > 0) friend.drop(this, this.#left);
    this.#left = 0;
  }

  // Output.

  /**
   * Queues bytes. They leave in the order of the calls; several small pieces in one system call. After `close()` and once the
   * connection has ended nothing happens.
   *
   * @param data The bytes, which belong to the channel from now on and must not be changed; or text, which is sent as UTF-8. None are
   * no error.
   * @throws {TypeError} If `data` is neither, there is no socket or it listens, or after `closeWhenDone()` or `shutdown("write")`.
   */
  push(data: Uint8Array | string): void {
    const bytes = toBytes(data, "push");
    if (!this.#checkPush() || bytes.length === 0) return;
    const taken = this.#outboxEmpty ? super.send(bytes) : 0;
    if (taken < bytes.length) this.#queue(bytes.subarray(taken));
    else this.#noteLevel();
  }

  /**
   * Queues what makes bytes. It is asked for the next piece when there is room to send it, after everything queued before has left; its
   * errors go to `handleError()`. `close()`, `abort()` and `discardBuffers()` end it by `return()` or `cancel()`.
   *
   * @param producer An object with `more()`, as in asynchat; a `ReadableStream`; anything iterable, asynchronously or not; or bytes or
   * text, as for {@linkcode AsyncChat.push}.
   * @throws {TypeError} If it is none of these; and as `push()`.
   */
  pushWithProducer(producer: ProducerLike): void {
    if (producer instanceof Uint8Array || typeof producer === "string") {
      return this.push(producer);
    }
    const open = this.#checkPush();
    const source = sourceOf(producer);
    if (open) this.#queue(source);
    else this.#end([source]);
  }

  /**
   * Ends the connection when everything queued has been sent, producers included: `handleClose({ kind: "done" })` follows. Frames that
   * arrive until then are still delivered. Twice is once, but for the deadline.
   *
   * @param options See {@linkcode CloseWhenDoneOptions}. When the deadline comes first, the rest is dropped, and
   * `handleClose({ kind: "timeout", bytesUnsent })` follows.
   * @throws {TypeError} If there is no socket, or it listens.
   * @throws {RangeError} If the deadline is negative or NaN.
   */
  closeWhenDone(options: CloseWhenDoneOptions = {}): void {
    const { deadline = Infinity } = options;
    if (!(deadline >= 0)) {
      throw new RangeError(
        `Cannot close when done: the deadline must be 0 or more milliseconds, got ${deadline}`,
      );
    }
    // Throws if there is no socket, or it listens.
    if (!friend.shutDown(this)) super.send(NOTHING);
    if (!friend.open(this)) return;
    this.#ending = "done";
    this.#clearDeadline();
    if (deadline < Infinity) this.#setDeadline(deadline);
    this.#endIfDone();
    this.wake();
  }

  /**
   * Drops what was received and not cut into frames yet, and what is queued, a `closeWhenDone()` or `shutdown()` that waits for it
   * among it; not what is in the send buffer, nor the terminator.
   */
  discardBuffers(): void {
    this.#forgetInput();
    this.#forgetOutput();
    // The peer's end of file remains one.
    if (this.#ending === "done") this.#ending = null;
    this.#shutDown = false;
    this.#endIfDone();
    this.wake();
  }

  /** How many bytes wait to be sent, those in the send buffer included, without what producers have not made yet. */
  get queuedBytes(): number {
    return (this.#outbox?.length ?? 0) + friend.unsent(this);
  }

  /**
   * When more bytes than this have waited, {@linkcode AsyncChat.handleDrained} says when no more than half of it do.
   *
   * @default {65_536}
   */
  get highWaterMark(): number {
    return this.#highWaterMark;
  }

  set highWaterMark(bytes: number) {
    checkBytes("highWaterMark", bytes);
    this.#highWaterMark = bytes;
    this.#noteLevel();
  }

  /** More bytes than {@linkcode AsyncChat.highWaterMark} waited, and now no more than half of it do. Does nothing. */
  handleDrained(): void | Promise<void> {}

  /** Whether there is something to send, or to say about it. */
  override writable(): boolean {
    if (!this.connected || this.#high || this.#shutDown) return true;
    if (this.#failure !== null) return true;
    if (this.#ending !== null && !this.#endPending) return true;
    return !this.#outboxEmpty && this.#pulling === null;
  }

  /** Sends what is queued. */
  override handleWrite(): void | Promise<void> {
    const registration = friend.current(this);
    let complete = false;
    try {
      const result = this.#write();
      complete = true;
      return result;
    } finally {
      if (!complete && registration !== null) this.#tryAgain(registration);
    }
  }

  #write(): void | Promise<void> {
    if (this.#failure !== null) {
      const { error } = this.#failure;
      this.#failure = null;
      throw error;
    }
    this.#pump();
    let result: void | Promise<void> = undefined;
    if (this.#high && this.queuedBytes * 2 <= this.#highWaterMark) {
      this.#high = false;
      result = this.handleDrained();
    }
    this.#endIfDone();
    return result;
  }

  /** Half-closes, as {@linkcode Dispatcher.shutdown} does, after everything queued; pushing afterwards throws. */
  override shutdown(how: "write"): void {
    if (how !== "write" || this.#outboxEmpty || !this.connected) {
      super.shutdown(how);
    } else this.#shutDown = true;
    this.#endIfDone();
  }

  /** Ends the connection as the dispatcher that has no use for it does. */
  override handleClose(_reason?: CloseReason): void | Promise<void> {
    this.close();
  }

  /** Closes as {@linkcode Dispatcher.close} does: what is in the send buffer is sent, what is still queued is dropped. */
  override close(): void {
    super.close();
    this.#forgetOutput();
  }

  /** Closes at once and drops everything. */
  override abort(): void {
    super.abort();
    this.#forgetOutput();
  }

  get #outboxEmpty(): boolean {
    return this.#outbox?.empty ?? true;
  }

  /** Whether something may be queued; throws where it must not. */
  #checkPush(): boolean {
    // Throws if there is no socket, or it listens, or is shut down.
    super.send(NOTHING);
    if (!friend.open(this)) return false;
    const why = this.#ending === "done"
      ? "closeWhenDone() was called"
      : this.#shutDown
      ? 'shutdown("write") was called'
      : null;
    if (why === null) return true;
    throw new TypeError(`Cannot push to ${Deno.inspect(this)}: ${why}`);
  }

  #queue(item: Uint8Array | Source): void {
    if (this.#outbox === null) {
      this.#outbox = new Outbox();
      friend.setOutbox(this, this.#outbox);
    }
    this.#outbox.push(item);
    this.#noteLevel();
    this.wake();
  }

  #noteLevel(): void {
    if (this.queuedBytes > this.#highWaterMark) this.#high = true;
  }

  /** Sends as much as there is room for. */
  #pump(): void {
    const outbox = this.#outbox;
    if (outbox === null) return;
    let pulls = 0;
    while (!outbox.empty && this.room > 0 && this.#pulling === null) {
      const head = outbox.head!;
      if (head instanceof Uint8Array) outbox.consume(super.send(head));
      else if (++pulls <= MAX_PULLS) this.#pull(outbox, head);
      else {
        this.#tryAgain(friend.current(this));
        break;
      }
    }
    this.#noteLevel();
    if (this.#shutDown && outbox.empty) {
      this.#shutDown = false;
      super.shutdown("write");
    }
  }

  #pull(outbox: Outbox, source: Source): void {
    let piece: unknown;
    try {
      piece = source.pull();
    } catch (error) {
      if (outbox.head === source) outbox.consume();
      throw error;
    }
    if (piece instanceof Promise) this.#pullLater(outbox, source, piece);
    else this.#pulled(outbox, source, piece);
  }

  #pulled(outbox: Outbox, source: Source, piece: unknown): void {
    // What made it may have dropped the queue.
    if (outbox.head !== source) return;
    if (piece === END) return outbox.consume();
    try {
      const bytes = toBytes(piece, "send what a producer made");
      if (bytes.length > 0) outbox.putBefore(bytes);
    } catch (error) {
      outbox.consume();
      this.#end([source]);
      throw error;
    }
  }

  /** Not as part of the event: the end of the connection must not wait for a producer. */
  #pullLater(outbox: Outbox, source: Source, piece: Promise<unknown>): void {
    this.#pulling = source;
    const settle = (act: () => void) => {
      // It may have been ended meanwhile.
      if (this.#pulling !== source) return;
      this.#pulling = this.#stopPulling = null;
      try {
        act();
      } finally {
        this.wake();
      }
    };
    this.#stopPulling = friend.follow(
      this,
      piece.then(
        (piece) => settle(() => this.#pulled(outbox, source, piece)),
        (error) => {
          if (this.#pulling !== source) throw error;
          // Told before what comes next is sent.
          settle(() => {
            outbox.consume();
            this.#failure = { error };
          });
        },
      ),
    );
  }

  /** Ends the connection if that is asked for and everything is sent. */
  #endIfDone(): void {
    if (this.#ending === null || this.#endPending || !this.connected) return;
    if (!this.#outboxEmpty || this.#failure !== null) return;
    if (friend.unsent(this) === 0) {
      this.#clearDeadline();
      this.disconnect({ kind: this.#ending });
    } else if (friend.shutDown(this)) {
      // There are no more write events.
      friend.onWritten(this, () => this.#endIfDone());
    }
  }

  #setDeadline(deadline: number): void {
    const clock = friend.clock(this);
    const timer = clock.setTimer(clock.now() + deadline, () => {
      this.#deadline = null;
      this.disconnect({ kind: "timeout" });
    });
    this.#deadline = { clock, timer };
  }

  #clearDeadline(): void {
    if (this.#deadline === null) return;
    const { clock, timer } = this.#deadline;
    clock.clearTimer(timer);
    this.#deadline = null;
  }

  #forgetOutput(): void {
    this.#high = false;
    this.#failure = null;
    this.#clearDeadline();
    const pulled = this.#pulling;
    this.#pulling = null;
    // It may never settle, and its end wait for that.
    this.#stopPulling?.();
    this.#stopPulling = null;
    if (this.#outbox !== null) this.#end(this.#outbox.clear(), pulled);
  }

  /** Says to producers that no more is wanted: later, since it is their code that runs. The loop waits, but not for `pulled`. */
  #end(sources: Source[], pulled: Source | null = null): void {
    for (const source of sources) {
      const ended = Promise.resolve().then(() => source.end());
      const stop = friend.follow(this, ended);
      if (source === pulled) stop();
    }
  }
}

function checkBytes(name: string, bytes: number): void {
  const whole = Number.isInteger(bytes) || bytes === Infinity;
  if (whole && bytes > 0) return;
  throw new RangeError(
    `Cannot set ${name}: it must be a whole number above 0, or Infinity, got ${bytes}`,
  );
}
