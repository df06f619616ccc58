/**
 * Who is watched and who is ready. A {@linkcode ChannelMap} is what users see; behind it stands a {@linkcode Selector} with one
 * {@linkcode Registration} per open channel, as in Java's NIO or mio: what the channel wants, what is ready, what is parked,
 * held or due to close. When anything is asked or called is the business of `loop.ts`.
 *
 * @module
 */

import { type Clock, microtask, systemClock } from "./clock.ts";
import { type CloseKind, ExitNow } from "./errors.ts";
import {
  ACTIVE,
  ARMED,
  DEAD,
  type Direction,
  ENDING,
  EXAMINING,
  EXCEPTIONAL,
  READ,
  SWEEPING,
  WRITE,
} from "./flags.ts";
import { type Batch, Queue } from "./queue.ts";
import type { Network, Socket, SocketListener } from "./sockets/socket.ts";

/** What the scheduler asks and calls: all that `loop.ts` knows of a dispatcher. */
export interface Channel {
  /** Whether it is a listener. */
  readonly accepting: boolean;
  /** Whether it wants to read (a listener: to accept). */
  readable(): boolean;
  /** Whether it wants to write. */
  writable(): boolean;
  /** Something can be read or accepted, or the end was reached. */
  handleReadEvent(): void | Promise<void>;
  /** There is room to write. */
  handleWriteEvent(): void | Promise<void>;
  /** An exceptional condition. */
  handleExptEvent(): void | Promise<void>;
  /** The connection has ended. */
  handleCloseEvent(): void | Promise<void>;
  /** A handler or predicate failed. */
  handleError(error: unknown): void | Promise<void>;
  /** Ends the connection as if it had broken. */
  disconnect(reason: { kind: CloseKind; error?: unknown }): void;
  /** Closes the channel. */
  close(): void;
  /** Logs a message of a type. */
  logInfo(message: string, type?: string): void;
}

/** What a map has counted since it was made. */
export interface Counters {
  /** Passes of the scheduler. */
  readonly passes: number;
  /** Read events, those of listeners included. */
  readonly reads: number;
  /** Write events. */
  readonly writes: number;
  /** Connections that `accept()` handed out. */
  readonly accepts: number;
  /** Connections that `connect()` opened, counted when `handleConnect()` is called. */
  readonly connects: number;
  /** Channels that were closed, for whatever reason. */
  readonly closes: number;
  /** Errors told to `handleError()`. */
  readonly errors: number;
  /** Bytes received. */
  readonly bytesRead: number;
  /** Bytes that went to the operating system. */
  readonly bytesWritten: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Whether a handler's result is a promise. */
export function isPromise(result: unknown): result is PromiseLike<void> {
  return typeof result === "object" && result !== null && "then" in result;
}

function checkAnswer(answer: unknown, name: string): boolean {
  if (answer === true || answer === false) return answer;
  if (!isPromise(answer)) return Boolean(answer);
  // Its rejection, if it comes, is beside the point: the predicate itself is wrong.
  Promise.resolve(answer).catch(() => {});
  throw new TypeError(`Cannot use ${name}(): it returned a promise`);
}

/**
 * Asks a channel whether it wants to read.
 *
 * @throws {TypeError} If the predicate returns a promise; and whatever the predicate throws.
 */
export function askReadable(channel: Channel): boolean {
  return checkAnswer(channel.readable(), "readable");
}

/** As {@linkcode askReadable}, for writing. */
export function askWritable(channel: Channel): boolean {
  return checkAnswer(channel.writable(), "writable");
}

const own = new WeakSet<() => unknown>();

/**
 * Names methods of this library's own classes. Such predicates need not be swept, since their classes say themselves when the
 * answer may have changed; such handlers need not be called again, since more of it would change nothing.
 *
 * @param methods The methods.
 */
export function declareOwn(...methods: (() => unknown)[]): void {
  for (const method of methods) own.add(method);
}

/** Whether a method was named to {@linkcode declareOwn}: nobody has overridden it. */
export function isOwn(method: () => unknown): boolean {
  return own.has(method);
}

/**
 * What is running now, which is one thing for all maps: the handler, and the sockets that took bytes and were not told to write
 * yet. They are when the handler returns, so that several small sends leave in one system call; outside a handler in the next
 * microtask. A handler may send through a channel of any map, or of none.
 */
class Running {
  /** The channel whose handler is running. */
  current: Registration | null = null;
  /** Whether handlers or predicates are running: the loop flushes after each. */
  held = false;
  readonly #sockets: Socket[] = [];
  #scheduled = false;

  /** A socket took bytes. */
  sent(socket: Socket): void {
    if (this.#sockets.at(-1) !== socket) this.#sockets.push(socket);
    if (this.held || this.#scheduled) return;
    this.#scheduled = true;
    microtask(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  /** A handler has returned: what was sent is written. */
  flush(): void {
    if (this.#sockets.length === 0) return;
    for (const socket of this.#sockets) socket.flush();
    this.#sockets.length = 0;
  }

  /** Handlers and predicates have run. */
  end(): void {
    this.held = false;
    this.flush();
  }
}

/** The one {@linkcode Running}. */
export const running: Running = new Running();

/** Channels that are ready, in the order in which their I/O completed. */
export class ReadyQueue extends Queue<Registration> {
  readonly #direction: Direction;
  #last = 0;
  #sorted = true;

  constructor(direction: Direction) {
    super();
    this.#direction = direction;
  }

  override push(registration: Registration): void {
    const order = registration.order(this.#direction);
    if (order < this.#last) this.#sorted = false;
    this.#last = order;
    registration.set(this.#direction.queued);
    super.push(registration);
  }

  override take(): Batch<Registration> {
    const batch = super.take();
    if (!this.#sorted) {
      batch.sort((registration) => registration.order(this.#direction));
    }
    this.#last = 0;
    this.#sorted = true;
    return batch;
  }
}

/**
 * A channel's record in its map: one per socket, so that nothing of an old socket reaches the dispatcher's next one. What can be
 * true or false is a flag, since there is one record for each of many idle connections.
 */
export class Registration implements SocketListener {
  readonly channel: Channel;
  socket: Socket | null = null;
  /** The map's selector; the last one while suspended. */
  selector: Selector;
  #flags = 0;
  #readHolds = 0;
  #writeHolds = 0;
  /** When a read and a write completed last, as a running number. */
  #readOrder = 0;
  #writeOrder = 0;
  /** The pass in which it was added: it is served in later ones only. */
  since = 0;
  /** The pass in which an end of file was found, whose write event still comes. */
  endPass = -1;
  /** Promises of handlers that did not settle yet. */
  unsettled = 0;
  /**
   * A write has failed. `found`: what was received before is to be delivered, or read; `reading`: a read is tried for a moment;
   * `over`: nothing came, so the connection ends. A read that brings something leads back to `found`.
   */
  failing: "no" | "found" | "reading" | "over" = "no";
  /** Called when the connection has ended, for whatever reason. */
  onEnd: (() => void) | null = null;
  /** Called when bytes have left. */
  onWritten: (() => void) | null = null;

  constructor(channel: Channel, selector: Selector) {
    this.channel = channel;
    this.selector = selector;
  }

  /** Whether a flag is set, or one of several. */
  has(flags: number): boolean {
    return (this.#flags & flags) !== 0;
  }

  set(flags: number): void {
    this.#flags |= flags;
  }

  clear(flags: number): void {
    this.#flags &= ~flags;
  }

  /** Whether a direction may be asked and served. */
  free(direction: Direction): boolean {
    return (this.#flags & direction.free) === direction.open;
  }

  /** When a direction's I/O completed. */
  order(direction: Direction): number {
    return direction === READ ? this.#readOrder : this.#writeOrder;
  }

  /** Holds a direction: it is neither asked nor served until it is released as often. */
  hold(direction: Direction): void {
    if (direction === READ) this.#readHolds++;
    else this.#writeHolds++;
    this.set(direction.held);
  }

  /** Takes back one hold. */
  release(direction: Direction): void {
    const left = direction === READ ? --this.#readHolds : --this.#writeHolds;
    if (left > 0) return;
    this.clear(direction.held);
    this.selector.examine(this);
  }

  // Told by the socket.

  connected(): void {
    this.set(READ.open | WRITE.open);
    this.#readOrder = this.#writeOrder = this.selector.nextOrder();
    this.selector.examine(this);
  }

  readReady(bytes: number): void {
    const { selector } = this;
    this.clear(ARMED);
    selector.counters.bytesRead += bytes;
    this.#readOrder = selector.nextOrder();
    this.unpark();
    if (this.failing !== "no") {
      // An end that is read after a failed write is the same failure again.
      this.failing = bytes > 0 ? "found" : "over";
      selector.examine(this);
    } else if (
      this.has(ACTIVE) && this.free(READ) && !this.has(READ.queued | ENDING)
    ) {
      // Not asked yet: the predicate is asked right before the handler.
      selector.reads.push(this);
      selector.notify();
    }
  }

  writeReady(bytes: number): void {
    const { selector } = this;
    selector.counters.bytesWritten += bytes;
    this.onWritten?.();
    this.#writeOrder = selector.nextOrder();
    // It made room, which predicates of other channels may look at.
    selector.askAgain = true;
    if (selector.sweeps.length > 0) selector.notify();
    // Where a read is in flight and nobody wants to write there is nothing to ask: no pass is spent on that.
    if (this.has(ARMED) && (this.has(WRITE.retired) || !this.has(WRITE.open))) {
      return;
    }
    if (!this.has(READ.threw)) this.clear(READ.parked);
    if (!this.has(WRITE.threw)) this.clear(WRITE.parked);
    selector.examine(this);
  }

  writeFailed(): void {
    this.clear(WRITE.open);
    // Before the close: a handler that is pending may wait for it.
    this.onEnd?.();
    this.failing = "found";
    this.selector.examine(this);
  }

  exceptReady(): void {
    this.clear(ARMED);
    this.#readOrder = this.selector.nextOrder();
    this.selector.except(this);
  }

  acceptFailed(error: unknown, first: boolean): void {
    if (!first) return;
    logThrough(
      this.channel,
      `cannot accept for now, will try again (${String(error)})`,
      "error",
    );
  }

  retry(): void {
    this.clear(ARMED);
    this.selector.examine(this);
  }

  lingerStarted(): void {
    this.selector.lingering++;
  }

  lingerEnded(): void {
    const { selector } = this;
    if (--selector.lingering === 0) selector.lingered();
  }

  // Told by the dispatcher.

  /**
   * Has the loop wait for something that is no handler, and so holds nothing; what it rejects with is told.
   *
   * @param promise What to wait for.
   * @returns Ends the waiting, not the telling.
   */
  follow(promise: Promise<unknown>): () => void {
    const { selector } = this;
    let waiting = true;
    selector.unsettled++;
    const stop = () => {
      if (!waiting) return;
      waiting = false;
      selector.unsettled--;
      selector.notify();
    };
    promise.then(stop, (error) => {
      stop();
      selector.reject(this, error);
    });
    return stop;
  }

  /** Whether one of the channel's own handlers is running, or has not settled. */
  get handling(): boolean {
    return running.current === this || this.unsettled > 0;
  }

  /** Whether the running pass may still serve it: in the map since an earlier one, and not ended. */
  get served(): boolean {
    return this.has(ACTIVE) && !this.has(ENDING) &&
      this.since < this.selector.pass;
  }

  /** Whether the connection has ended, or was closed. */
  get ended(): boolean {
    return this.has(DEAD | ENDING) || this.failing !== "no";
  }

  /** Notes that bytes, or a connection, were taken. */
  took(): void {
    this.set(READ.progress);
    // What there is to take is bounded, so this cannot go on for ever.
    if (running.current !== null) this.selector.progressed = true;
    this.touch();
  }

  /** Notes that bytes were given to the socket, whose writing is to start. */
  sent(): void {
    this.set(WRITE.progress);
    running.sent(this.socket!);
    this.touch();
  }

  /** Notes that the channel's state was changed; by somebody else's code that is news. */
  touch(): void {
    if (running.current === this) return;
    this.unpark();
    this.selector.examine(this);
  }

  /** Serves a parked channel again. */
  unpark(): void {
    this.clear(READ.parked | READ.threw | WRITE.parked | WRITE.threw);
  }

  /** The connection has ended; after an end of file the write event of this pass still comes. */
  end(endOfFile: boolean): void {
    if (this.has(ENDING)) return;
    this.set(ENDING);
    if (endOfFile) this.endPass = this.selector.pass;
    this.selector.dueClose(this);
    this.onEnd?.();
  }

  /** Enters a map. */
  add(selector: Selector): void {
    if (this.has(ACTIVE)) this.delete();
    this.selector = selector;
    this.set(ACTIVE);
    this.since = selector.pass;
    this.endPass = -1;
    selector.registrations.add(this);
    this.clear(READ.queued | WRITE.queued | EXAMINING | SWEEPING);
    this.unpark();
    selector.examine(this);
    if (this.has(ENDING)) selector.dueClose(this);
    else if (this.has(EXCEPTIONAL)) selector.excepts.push(this);
  }

  /** Leaves the map. */
  delete(): void {
    if (!this.has(ACTIVE)) return;
    this.clear(ACTIVE);
    this.selector.registrations.delete(this);
    this.selector.notify();
  }

  /** The socket is being closed by us: no more events. */
  close(): void {
    this.set(DEAD);
    this.selector.counters.closes++;
    this.selector.askAgain = true;
    this.delete();
  }

  /** Closes the socket if the channel's own `close()` did not. */
  destroy(): void {
    if (this.has(DEAD)) return;
    this.close();
    this.socket?.close();
    this.onEnd?.();
  }
}

/** A rejection of an async handler, which the next pass tells. */
export interface Rejection {
  readonly registration: Registration;
  readonly error: unknown;
}

/**
 * Who wants to know what happens to channels: right before each handler, by its name without `handle`, and after each call that does
 * something, by its name with `()`.
 */
export interface Tracer {
  /**
   * Something happens.
   *
   * @param channel To whom.
   * @param event What.
   * @param bytes How many bytes, where it is about bytes.
   * @param detail The kind of a close, an error, an address.
   */
  trace(
    channel: Channel,
    event: string,
    bytes?: number,
    detail?: unknown,
  ): void;
}

/** What a {@linkcode ChannelMap} consists of, for the scheduler and the dispatchers. */
export class Selector {
  readonly clock: Clock;
  network: Network | null;
  /** Who is told what happens, if anybody is. */
  tracer: Tracer | null = null;
  readonly counters: Mutable<Counters> = {
    passes: 0,
    reads: 0,
    writes: 0,
    accepts: 0,
    connects: 0,
    closes: 0,
    errors: 0,
    bytesRead: 0,
    bytesWritten: 0,
  };
  readonly registrations = new Set<Registration>();
  readonly reads: ReadyQueue = new ReadyQueue(READ);
  readonly writes: ReadyQueue = new ReadyQueue(WRITE);
  readonly excepts: Queue<Registration> = new Queue();
  readonly closes: Queue<Registration> = new Queue();
  rejections: Rejection[] = [];
  /** To be asked in the next pass. */
  readonly examines: Queue<Registration> = new Queue();
  /** Those that want nothing for now, and of which nobody tells when that changes: the user's predicate said no, or parked. */
  readonly sweeps: Queue<Registration> = new Queue();
  /** The number of the running pass, or of the last one. */
  pass = 0;
  /** Whether a loop or poll serves the map. */
  serving = false;
  /** Whether a handler made progress, which may have changed anything. */
  progressed = false;
  /** Whether a write made room or a channel was closed: a reason to ask predicates again, not to try parked handlers again. */
  askAgain = false;
  /** Whether somebody asked for every channel to be looked at. */
  woken = false;
  /** The time before which no sweep begins. */
  nextSweep = -Infinity;
  /** Sockets that were closed and still write. */
  lingering = 0;
  /** Promises of handlers that did not settle. */
  unsettled = 0;
  #order = 0;
  #sleeper: (() => void) | null = null;
  #lingered: (() => void)[] = [];

  constructor(clock: Clock, network: Network | null) {
    this.clock = clock;
    this.network = network;
  }

  /** The next running number. */
  nextOrder(): number {
    return ++this.#order;
  }

  /** Whether the next pass has something to serve. */
  get ready(): boolean {
    return this.reads.length > 0 || this.writes.length > 0 ||
      this.excepts.length > 0 || this.closes.length > 0 ||
      this.rejections.length > 0;
  }

  /** Whether the next pass has something to do and need not wait. */
  get stirred(): boolean {
    return this.ready || this.woken || this.examines.length > 0;
  }

  /** When the next sweep is due. */
  get sweepAt(): number {
    const wanted = this.sweeps.length > 0 && (this.progressed || this.askAgain);
    return wanted ? this.nextSweep : Infinity;
  }

  /** Has a channel examined. */
  examine(registration: Registration): void {
    if (registration.has(EXAMINING) || !registration.has(ACTIVE)) return;
    registration.set(EXAMINING);
    this.examines.push(registration);
    this.notify();
  }

  /** Makes a channel ready again that was taken and not served. */
  putBack(registration: Registration): void {
    if (!registration.has(ACTIVE) || registration.selector !== this) return;
    if (registration.has(READ.queued)) this.reads.push(registration);
    if (registration.has(WRITE.queued)) this.writes.push(registration);
    if (registration.has(ENDING)) this.closes.push(registration);
    else if (registration.has(EXCEPTIONAL)) this.excepts.push(registration);
  }

  /** Parks one direction of a channel until something may have changed. */
  park(registration: Registration, direction: Direction, threw = false): void {
    registration.set(
      threw ? direction.parked | direction.threw : direction.parked,
    );
    this.sweepLater(registration);
  }

  /** Has a channel looked at by the next sweep. */
  sweepLater(registration: Registration): void {
    if (registration.has(SWEEPING) || !registration.has(ACTIVE)) return;
    if (registration.selector !== this) return;
    registration.set(SWEEPING);
    this.sweeps.push(registration);
  }

  /** Has an exceptional condition served. */
  except(registration: Registration): void {
    if (registration.has(EXCEPTIONAL)) return;
    registration.set(EXCEPTIONAL);
    if (!registration.has(ACTIVE)) return;
    this.excepts.push(registration);
    this.notify();
  }

  /** Has the end of a connection served. */
  dueClose(registration: Registration): void {
    if (!registration.has(ACTIVE)) return;
    this.closes.push(registration);
    this.notify();
  }

  /** Has a rejection told. */
  reject(registration: Registration, error: unknown): void {
    this.rejections.push({ registration, error });
    this.notify();
  }

  /** Has every channel looked at, by the waiting pass or the next one. */
  wake(): void {
    this.woken = true;
    this.notify();
  }

  /** Ends the wait of the running pass, if it waits: in a microtask, so that the rest of a batch of completions is in. */
  notify(): void {
    if (this.#sleeper === null) return;
    microtask(this.#sleeper);
    this.#sleeper = null;
  }

  /** Has `wake` called after the next {@linkcode Selector.notify}. */
  sleep(wake: () => void): void {
    this.#sleeper = wake;
    this.clock.idle();
  }

  /** The last lingering socket is closed. */
  lingered(): void {
    this.notify();
    for (const resolve of this.#lingered.splice(0)) resolve();
  }

  /** Closes every channel, waits for lingering sockets, then throws what failed. */
  async closeAll(ignoreAll: boolean): Promise<void> {
    const errors: unknown[] = [];
    const pending: Promise<void>[] = [];
    const registrations = [...this.registrations];
    for (const registration of registrations) {
      try {
        // An overridden close() may be asynchronous.
        const closing: unknown = registration.channel.close();
        if (isPromise(closing)) pending.push(Promise.resolve(closing));
      } catch (error) {
        errors.push(error);
      }
    }
    for (const closing of pending) {
      await closing.catch((error) => void errors.push(error));
    }
    for (const registration of registrations) registration.destroy();
    if (this.lingering > 0) {
      await new Promise<void>((resolve) => this.#lingered.push(resolve));
    }
    const exit = errors.find((error) => error instanceof ExitNow);
    if (exit !== undefined) throw exit;
    if (errors.length > 0 && !ignoreAll) {
      throw new AggregateError(errors, "Cannot close all channels");
    }
  }
}

/**
 * Logs through a channel. What an overridden `logInfo` throws or rejects with is dropped: what it should tell counts.
 *
 * @param channel Whose `logInfo` to call.
 * @param message The text.
 * @param type The type of the message.
 */
export function logThrough(
  channel: Channel,
  message: string,
  type: string,
): void {
  try {
    const result: unknown = channel.logInfo(message, type);
    if (isPromise(result)) Promise.resolve(result).catch(() => {});
  } catch {
    // Dropped, as said.
  }
}

/** Options of a {@linkcode ChannelMap}. */
export interface ChannelMapOptions {
  /**
   * Where the time comes from.
   *
   * @default {the system's monotonic clock}
   */
  readonly clock?: Clock;
  /**
   * Where sockets come from.
   *
   * @default {Deno's network}
   */
  readonly network?: Network;
}

let selectorOfMap: (map: ChannelMap) => Selector;

/**
 * The open channels that one {@linkcode loop} serves: asyncore's `socket_map`. Iterating gives the channels in the order in
 * which they were added.
 *
 * @example A map of one's own
 * ```ts
 * import { ChannelMap, Dispatcher, loop } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * await using map = new ChannelMap();
 * const server = new Dispatcher(null, { map });
 * server.createSocket("inet");
 * server.bind({ hostname: "127.0.0.1", port: 0 });
 * server.listen();
 * assertEquals([...map], [server]);
 * await loop({ map, count: 1, timeout: 0 });
 * assertEquals(map.counters.passes, 1);
 * ```
 */
export class ChannelMap implements Iterable<Channel>, AsyncDisposable {
  readonly #selector: Selector;

  static {
    selectorOfMap = (map) => {
      if (typeof map === "object" && map !== null && #selector in map) {
        return map.#selector;
      }
      throw new TypeError(
        `Cannot use ${Deno.inspect(map)} as a map: it is no ChannelMap`,
      );
    };
  }

  /**
   * Makes an empty map.
   *
   * @param options Clock and network, where they are not the system's.
   */
  constructor(options: ChannelMapOptions = {}) {
    const { clock = systemClock, network = null } = options;
    this.#selector = new Selector(clock, network);
  }

  /** The number of channels. */
  get size(): number {
    return this.#selector.registrations.size;
  }

  /** What happened so far: a snapshot. */
  get counters(): Counters {
    return { ...this.#selector.counters };
  }

  /**
   * Says that something changed which a predicate may see: every channel is asked again, parked ones included, by the pass
   * that waits or else by the next one, which does not wait.
   */
  wake(): void {
    this.#selector.wake();
  }

  /** The channels, in the order in which they were added. */
  *[Symbol.iterator](): IterableIterator<Channel> {
    for (const { channel } of this.#selector.registrations) yield channel;
  }

  /**
   * Closes every channel and waits until what `send()` took is written.
   *
   * @throws {AggregateError} If a channel's `close()` throws, after all were closed.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#selector.closeAll(false);
  }
}

/**
 * The selector of a map, for this library's own files.
 *
 * @throws {TypeError} If `map` is no {@linkcode ChannelMap}.
 */
export function selectorOf(map: ChannelMap): Selector {
  return selectorOfMap(map);
}

/** The map that dispatchers enter, and that `loop()` serves, where none is given. */
export const channelMap: ChannelMap = new ChannelMap();
