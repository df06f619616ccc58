/**
 * The one scheduler: {@linkcode loop}, {@linkcode poll} and {@linkcode closeAll}. It decides when a channel is asked what it wants
 * and when its handlers run; what is ready it learns from the map, and it knows no dispatcher and no socket.
 *
 * One pass: start the reads that the predicates want; if nothing is ready, wait; serve a snapshot of what is ready: reads,
 * writes, exceptional conditions, closes; start the writes.
 *
 * @module
 */

import {
  askReadable,
  askWritable,
  type Channel,
  type ChannelMap,
  channelMap,
  isOwn,
  type Registration,
  running,
  type Selector,
  selectorOf,
} from "./channel_map.ts";
import {
  ACTIVE,
  ARMED,
  CLOSE_SERVED,
  type Direction,
  END_SERVED,
  ENDING,
  EXAMINING,
  EXCEPTIONAL,
  READ,
  SWEEPING,
  WRITE,
} from "./flags.ts";
import { Batch } from "./queue.ts";
import { Alarm, microtask } from "./clock.ts";
import { report, run, runClose } from "./handling.ts";

/**
 * A chain of passes yields to timers and other I/O after this many milliseconds: Deno's operations yield by themselves every
 * 128, code that uses none does not.
 */
const MAX_CHAIN = 5;

/** The pause after a sweep, in durations of that sweep: sweeping takes 5 % of the time at most. */
const SWEEP_PAUSE = 20;

/** Options of {@linkcode poll}. */
export interface PollOptions {
  /**
   * Serve channel by channel (read, write, exceptional condition, close) instead of event by event.
   *
   * @default {false}
   */
  readonly usePoll?: boolean;
}

/** Options of {@linkcode loop}. */
export interface LoopOptions extends PollOptions {
  /**
   * The longest wait of one pass, in milliseconds; 0 does not wait, `Infinity` waits for as long as it takes.
   *
   * @default {30_000}
   */
  readonly timeout?: number;
  /**
   * The channels to serve.
   *
   * @default {channelMap}
   */
  readonly map?: ChannelMap;
  /**
   * At most so many passes; 0 or less means none.
   *
   * @default {as many as it takes}
   */
  readonly count?: number;
  /** Ends the loop after the current pass; the channels stay open. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode closeAll}. */
export interface CloseAllOptions {
  /**
   * The channels to close.
   *
   * @default {channelMap}
   */
  readonly map?: ChannelMap;
  /**
   * Drop errors that `close()` throws.
   *
   * @default {false}
   */
  readonly ignoreAll?: boolean;
}

/**
 * Serves a map until it is empty: no channel is open, no closed socket still writes and no async handler is unsettled.
 *
 * - **Order**: a pass runs all reads (accepts included), then all writes, then exceptional conditions, then closes.
 * - **Fairness**: a channel gets at most one read and one write event per pass.
 * - **Idle**: a loop with nothing to do sleeps, whatever the predicates say.
 * - **Process**: a running loop holds the process; after it has left, only writes under way do.
 *
 * As `asyncore.loop`, but times are milliseconds and it returns a promise.
 *
 * @param options See {@linkcode LoopOptions}.
 * @throws {TypeError} If the map is being served already.
 * @throws {RangeError} If `timeout` is negative or NaN, or `count` is NaN.
 * @throws {ExitNow} If a handler or predicate throws it: channels stay open, and the loop can be called again.
 *
 * @example A server and a client in one loop
 * ```ts
 * import { Dispatcher, loop } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * class Echo extends Dispatcher {
 *   override handleRead() {
 *     this.send(this.recv());
 *   }
 * }
 *
 * class Server extends Dispatcher {
 *   override handleAccepted(conn: Deno.Conn) {
 *     new Echo(conn);
 *     this.close();
 *   }
 * }
 *
 * let answer = "";
 *
 * class Client extends Dispatcher {
 *   override handleConnect() {
 *     this.send(new TextEncoder().encode("hello"));
 *   }
 *   override handleRead() {
 *     answer = new TextDecoder().decode(this.recv());
 *     this.close();
 *   }
 * }
 *
 * const server = new Server();
 * server.createSocket();
 * server.bind({ hostname: "127.0.0.1", port: 0 });
 * server.listen();
 * const client = new Client();
 * client.createSocket();
 * client.connect(server.addr as Deno.NetAddr);
 * await loop();
 * assertEquals(answer, "hello");
 * ```
 */
export async function loop(options: LoopOptions = {}): Promise<void> {
  const {
    timeout = 30_000,
    usePoll = false,
    map = channelMap,
    count = Infinity,
    signal,
  } = options;
  if (Number.isNaN(count)) {
    throw new RangeError("Cannot run the loop: count is NaN");
  }
  const selector = selectorOf(map);
  await new Serving(selector, {
    timeout,
    usePoll,
    count,
    signal,
    unpark: true,
    left: () =>
      selector.registrations.size > 0 || selector.rejections.length > 0 ||
      selector.unsettled > 0 || selector.lingering > 0,
  }).run();
}

/**
 * Serves a map for one pass; a map with no channel returns at once. As `asyncore.poll` and `poll2`.
 *
 * @param timeout The longest wait, in milliseconds; 0 waits one turn of the event loop, so that I/O gets in.
 * @param map The channels to serve.
 * @param options See {@linkcode PollOptions}.
 * @throws {TypeError} If the map is being served already.
 * @throws {RangeError} If `timeout` is negative or NaN.
 * @throws {ExitNow} If a handler or predicate throws it.
 *
 * @example
 * ```ts
 * import { ChannelMap, poll } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * const map = new ChannelMap();
 * await poll(30_000, map);
 * assertEquals(map.size, 0);
 * ```
 */
export async function poll(
  timeout = 0,
  map: ChannelMap = channelMap,
  options: PollOptions = {},
): Promise<void> {
  const { usePoll = false } = options;
  const selector = selectorOf(map);
  await new Serving(selector, {
    timeout,
    usePoll,
    count: 1,
    unpark: false,
    left: () =>
      selector.registrations.size > 0 || selector.rejections.length > 0,
  }).run();
}

/**
 * Closes every channel of a map and waits until what `send()` took is written.
 *
 * Unlike CPython's `close_all` it closes all of them, then tells what failed.
 *
 * @param options See {@linkcode CloseAllOptions}.
 * @throws {AggregateError} If channels' `close()` threw, unless `ignoreAll`.
 * @throws {ExitNow} If a channel's `close()` threw it, always.
 *
 * @example
 * ```ts
 * import { ChannelMap, closeAll, Dispatcher } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * const map = new ChannelMap();
 * new Dispatcher(null, { map }).createSocket();
 * assertEquals(map.size, 1);
 * await closeAll({ map });
 * assertEquals(map.size, 0);
 * ```
 */
export async function closeAll(options: CloseAllOptions = {}): Promise<void> {
  const { map = channelMap, ignoreAll = false } = options;
  await selectorOf(map).closeAll(ignoreAll);
}

/** How to serve. */
interface ServingOptions {
  readonly timeout: number;
  readonly usePoll: boolean;
  readonly count: number;
  readonly signal?: AbortSignal | undefined;
  /** Whether parked channels get another chance at once. */
  readonly unpark: boolean;
  /** Whether anything is left to serve. */
  readonly left: () => boolean;
}

/**
 * One run of `loop()` or `poll()`. A pass is three steps: begin, wait, finish. They are callbacks, which microtasks and the clock
 * call, and not one async function, so that a pass makes no promises.
 */
class Serving {
  readonly #selector: Selector;
  readonly #options: ServingOptions;
  /** One timer for all passes: it ends waits, and it holds the process. */
  readonly #alarm: Alarm;
  /** Ends a wait for a sweep that may not begin yet. Not the other one, which would be set to and fro by every pass. */
  readonly #sweepAlarm: Alarm;
  #passes = 0;
  /** When the running chain of passes began. */
  #turnStart = 0;
  #passStart = 0;
  #deadline = 0;
  #timedOut = false;
  #resolve: () => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor(selector: Selector, options: ServingOptions) {
    const { timeout } = options;
    if (!(timeout >= 0)) {
      throw new RangeError(
        `Cannot serve the map: timeout must be 0 or more milliseconds, got ${timeout}`,
      );
    }
    if (selector.serving) {
      throw new TypeError("Cannot serve the map: it is being served already");
    }
    this.#selector = selector;
    this.#options = options;
    this.#alarm = new Alarm(selector.clock, this.#notify);
    this.#sweepAlarm = new Alarm(selector.clock, this.#notifySweep);
  }

  /** Runs; the promise settles when it is done. */
  run(): Promise<void> {
    const { signal } = this.#options;
    this.#selector.serving = true;
    signal?.addEventListener("abort", this.#notify);
    // Nothing runs inside the caller's call, so that handlers never nest.
    microtask(this.#start);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  #end(): void {
    this.#options.signal?.removeEventListener("abort", this.#notify);
    this.#alarm.clear();
    this.#sweepAlarm.clear();
    this.#selector.serving = false;
  }

  get #aborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  readonly #notify = (): void => this.#selector.notify();

  readonly #notifySweep = (): void => {
    const { sweepAt, clock } = this.#selector;
    if (sweepAt === Infinity) return;
    if (sweepAt > clock.now()) this.#sweepAlarm.set(sweepAt);
    else this.#selector.notify();
  };

  readonly #start = (): void => {
    if (this.#options.unpark) refresh(this.#selector);
    this.#beginTurn();
  };

  /** After timers and other I/O had their turn. */
  readonly #beginTurn = (): void => {
    this.#turnStart = this.#selector.clock.now();
    this.#begin();
  };

  /** Starts the reads that are wanted, then waits if nothing is ready. */
  #begin(): void {
    const selector = this.#selector;
    const { clock } = selector;
    const { timeout, count, left } = this.#options;
    if (this.#passes >= count || this.#aborted || !left()) {
      this.#end();
      return this.#resolve();
    }
    const now = clock.now();
    if (now - this.#turnStart > MAX_CHAIN) return clock.defer(this.#beginTurn);
    this.#passStart = now;
    this.#passes++;
    selector.pass++;
    selector.counters.passes++;
    try {
      ask(selector, now, false);
    } catch (error) {
      return this.#fail(error);
    }
    this.#timedOut = false;
    if (!this.#mayWait) {
      // Not without a microtask: async handlers go on there, and operations that had room complete.
      microtask(this.#finish);
    } else if (timeout === 0) {
      clock.defer(this.#timeOut);
    } else {
      this.#deadline = now + timeout;
      this.#wait();
    }
  }

  /** Whether there is nothing to do, but something may come. */
  get #mayWait(): boolean {
    return !this.#selector.stirred && !this.#aborted && this.#options.left();
  }

  #wait(): void {
    const selector = this.#selector;
    const { sweepAt } = selector;
    this.#alarm.set(this.#deadline);
    this.#sweepAlarm.rang = false;
    if (sweepAt < this.#deadline) this.#sweepAlarm.set(sweepAt);
    selector.sleep(this.#wake);
  }

  /** The wait was ended: by news, or by an alarm. */
  readonly #wake = (): void => {
    const selector = this.#selector;
    const now = selector.clock.now();
    // Nobody was kept waiting while there was nothing to do.
    if (now - this.#passStart > 1) this.#turnStart = now;
    if (this.#alarm.rang || this.#sweepAlarm.rang) {
      this.#timedOut = now >= this.#deadline;
      try {
        if (!this.#timedOut) ask(selector, now, false);
      } catch (error) {
        return this.#fail(error);
      }
      if (!this.#timedOut && this.#mayWait) return this.#wait();
    }
    this.#finish();
  };

  readonly #timeOut = (): void => {
    this.#timedOut = true;
    this.#finish();
  };

  /** Serves what is ready, then begins the next pass. */
  readonly #finish = (): void => {
    const selector = this.#selector;
    try {
      ask(selector, -Infinity, this.#timedOut || selector.woken);
      serveReady(selector, this.#options.usePoll);
    } catch (error) {
      return this.#fail(error);
    }
    this.#begin();
  };

  #fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }
}

// Asking.

/** Asks the channels about which there is news, or all, and sweeps if that is due at `now`. */
function ask(selector: Selector, now: number, all: boolean): void {
  running.held = true;
  try {
    if (all) {
      selector.woken = false;
      refresh(selector);
    }
    examineQueued(selector);
    if (now >= selector.sweepAt) sweep(selector);
  } finally {
    running.end();
  }
}

/** Unparks every channel, to be examined. */
function refresh(selector: Selector): void {
  for (const registration of selector.registrations) {
    registration.unpark();
    selector.examine(registration);
  }
}

function examineQueued(selector: Selector): void {
  if (selector.examines.length === 0) return;
  const batch = selector.examines.take();
  let i = 0;
  try {
    for (; i < batch.length; i++) {
      const registration = batch.at(i);
      if (registration.selector !== selector) continue;
      registration.clear(EXAMINING);
      examine(selector, registration);
    }
  } finally {
    // After an ExitNow the rest stays to be asked, and the one that threw it.
    for (; i < batch.length; i++) {
      const registration = batch.at(i);
      if (registration.selector !== selector) continue;
      registration.clear(EXAMINING);
      selector.examine(registration);
    }
    batch.clear();
  }
}

/**
 * Asks the channels of which nobody tells when their wishes change. Those that only said no are asked again, after a handler's
 * progress the parked ones are tried again, too. A channel that said yes and is not ready needs no question.
 */
function sweep(selector: Selector): void {
  const { clock, sweeps, progressed } = selector;
  const start = clock.now();
  selector.progressed = selector.askAgain = false;
  const batch = sweeps.take();
  let i = 0;
  try {
    for (; i < batch.length; i++) {
      const registration = batch.at(i);
      // It may have left, or changed over to another map.
      if (registration.selector !== selector || !registration.has(ACTIVE)) {
        continue;
      }
      registration.clear(SWEEPING);
      if (progressed) registration.unpark();
      else if (registration.has(READ.parked | WRITE.parked)) {
        selector.sweepLater(registration);
      }
      examine(selector, registration);
    }
  } finally {
    // After an ExitNow the rest is still to be swept.
    if (i < batch.length) {
      selector.progressed ||= progressed;
      selector.askAgain = true;
    }
    for (; i < batch.length; i++) {
      const registration = batch.at(i);
      if (registration.selector !== selector) continue;
      registration.clear(SWEEPING);
      selector.sweepLater(registration);
    }
    batch.clear();
  }
  const end = clock.now();
  selector.nextSweep = end + (end - start) * SWEEP_PAUSE;
}

/** Asks one channel what it wants, and starts a read or queues what is ready already. */
function examine(selector: Selector, registration: Registration): void {
  const { socket } = registration;
  if (
    !registration.has(ACTIVE) || registration.has(ENDING) || socket === null
  ) return;
  // A channel is served from the pass after the one in which it was added.
  if (registration.since >= selector.pass) {
    return selector.examine(registration);
  }
  if (registration.failing !== "no") {
    return examineFailed(selector, registration);
  }
  if (
    !registration.has(READ.queued) &&
    (socket.waiting || !registration.has(ARMED))
  ) {
    if (wants(selector, registration, READ)) {
      if (socket.waiting) selector.reads.push(registration);
      else startRead(registration);
    }
  }
  if (!registration.has(WRITE.queued) && socket.writeReady) {
    if (wants(selector, registration, WRITE)) {
      selector.writes.push(registration);
    }
  }
}

/**
 * After a failed write: what was received before is delivered while it is wanted, then the connection ends. What there is
 * still to receive shows by the time I/O had its turn, so a read that takes longer is not waited for.
 */
function examineFailed(selector: Selector, registration: Registration): void {
  const { socket } = registration;
  if (
    registration.has(READ.queued) || registration.has(READ.held) ||
    registration.failing === "reading"
  ) {
    return;
  }
  if (registration.failing === "found" && wants(selector, registration, READ)) {
    if (socket!.waiting) return selector.reads.push(registration);
    registration.failing = "reading";
    startRead(registration);
    selector.clock.defer(() => {
      if (registration.failing !== "reading") return;
      registration.failing = "over";
      registration.selector.examine(registration);
    });
  } else if (registration.has(ACTIVE)) {
    registration.selector.except(registration);
  }
}

function startRead(registration: Registration): void {
  if (registration.has(ARMED)) return;
  registration.set(ARMED);
  registration.socket!.startRead();
}

/** Asks the predicate of one direction, if that may be asked. */
function wants(
  selector: Selector,
  registration: Registration,
  direction: Direction,
): boolean {
  const { channel } = registration;
  if (direction === READ && registration.has(END_SERVED)) {
    return askable(selector, registration, direction);
  }
  if (!askable(selector, registration, direction)) return false;
  running.current = registration;
  try {
    const answer = direction === READ
      ? askReadable(channel)
      : askWritable(channel);
    // The predicate may have closed the channel.
    if (answer) return askable(selector, registration, direction);
  } catch (error) {
    report(selector, registration, error);
    // Unless handleError has moved it to another map, where it begins anew.
    if (registration.selector === selector) {
      selector.park(registration, direction, true);
    }
    return false;
  } finally {
    running.current = null;
  }
  const asked = direction === READ ? channel.readable : channel.writable;
  if (!isOwn(asked)) selector.sweepLater(registration);
  return false;
}

/** Whether a direction may be asked. */
function askable(
  selector: Selector,
  registration: Registration,
  direction: Direction,
): boolean {
  if (!registration.free(direction) || !registration.has(ACTIVE)) return false;
  // What was asked before may have moved it to another map, which asks it itself.
  if (registration.selector !== selector) return false;
  // After an end of file the write event of that pass still comes.
  return !registration.has(ENDING) || registration.endPass === selector.pass;
}

// Serving.

const readEvent = (channel: Channel) => channel.handleReadEvent();
const writeEvent = (channel: Channel) => channel.handleWriteEvent();
const exptEvent = (channel: Channel) => channel.handleExptEvent();

/** Serves what is ready now; what becomes ready meanwhile waits for the next pass. */
function serveReady(selector: Selector, usePoll: boolean): void {
  running.held = true;
  try {
    tellRejections(selector);
    if (usePoll) serveByChannel(selector);
    else serveByEvent(selector);
  } finally {
    running.end();
  }
}

/** As `poll`: event by event. */
function serveByEvent(selector: Selector): void {
  each(selector, selector.reads.take(), serveRead);
  each(selector, selector.writes.take(), serveWrite);
  each(selector, selector.excepts.take(), serveExcept);
  each(selector, selector.closes.take(), serveClose);
}

/** As `poll2`: channel by channel, in the order in which their I/O completed. */
function serveByChannel(selector: Selector): void {
  const { reads, writes, excepts, closes } = selector;
  const ready = new Set<Registration>();
  for (const queue of [reads, writes, excepts, closes]) {
    const batch = queue.take();
    for (let i = 0; i < batch.length; i++) ready.add(batch.at(i));
    batch.clear();
  }
  const batch = new Batch<Registration>();
  for (const registration of ready) batch.push(registration);
  batch.sort((registration) =>
    Math.min(
      registration.has(READ.queued | EXCEPTIONAL)
        ? registration.order(READ)
        : Number.MAX_SAFE_INTEGER,
      registration.has(WRITE.queued)
        ? registration.order(WRITE)
        : Number.MAX_SAFE_INTEGER,
    )
  );
  each(selector, batch, serveChannel);
  // Those that were ended by another channel's handler.
  each(selector, closes.take(), serveClose);
}

function serveChannel(selector: Selector, registration: Registration): void {
  serveRead(selector, registration);
  serveWrite(selector, registration);
  serveExcept(selector, registration);
  serveClose(selector, registration);
}

/** Serves one after the other; what `ExitNow` leaves over stays ready. */
function each(
  selector: Selector,
  batch: Batch<Registration>,
  serveOne: (selector: Selector, registration: Registration) => void,
): void {
  let i = 0;
  try {
    for (; i < batch.length; i++) {
      const registration = batch.at(i);
      // It may have changed over to another map, whose flags these are now.
      if (registration.selector === selector) serveOne(selector, registration);
    }
  } finally {
    for (; i < batch.length; i++) selector.putBack(batch.at(i));
    batch.clear();
  }
}

/** Whether a channel may get an event in this pass. */
function servable(selector: Selector, registration: Registration): boolean {
  if (!registration.has(ACTIVE) || registration.selector !== selector) {
    return false;
  }
  if (registration.since < selector.pass) return true;
  selector.examine(registration);
  return false;
}

function serveRead(selector: Selector, registration: Registration): void {
  const { socket } = registration;
  if (!registration.has(READ.queued)) return;
  const served = servable(selector, registration) &&
    !registration.has(ENDING) &&
    socket!.waiting && wants(selector, registration, READ);
  // Not before the predicate: it may throw ExitNow, and the event stays.
  registration.clear(READ.queued);
  if (!served) {
    // It was taken from outside of the read event: the next read is to be started.
    if (!socket!.waiting) selector.examine(registration);
    return;
  }
  selector.counters.reads++;
  run(selector, registration, READ, readEvent);
}

function serveWrite(selector: Selector, registration: Registration): void {
  const { socket } = registration;
  if (!registration.has(WRITE.queued)) return;
  const served = servable(selector, registration) && socket!.writeReady &&
    wants(selector, registration, WRITE);
  registration.clear(WRITE.queued);
  if (!served) return;
  selector.counters.writes++;
  run(selector, registration, WRITE, writeEvent);
}

/** Whether something has been received that may be delivered. */
function canRead(registration: Registration): boolean {
  const { socket } = registration;
  return registration.free(READ) && socket!.waiting && !socket!.atEnd;
}

function serveExcept(selector: Selector, registration: Registration): void {
  if (!registration.has(EXCEPTIONAL) || registration.has(ENDING)) return;
  if (!servable(selector, registration)) return selector.putBack(registration);
  const failed = registration.failing === "found";
  // Its reader was parked, and has taken some since: the rest comes first.
  const wanted = failed && canRead(registration) &&
    wants(selector, registration, READ);
  registration.clear(EXCEPTIONAL);
  if (wanted) return selector.reads.push(registration);
  // The end waits for it, and is looked at again then.
  if (failed && registration.has(READ.held)) return;
  run(selector, registration, null, exptEvent);
}

function serveClose(selector: Selector, registration: Registration): void {
  if (!registration.has(ENDING) || registration.has(CLOSE_SERVED)) return;
  if (!servable(selector, registration)) return selector.putBack(registration);
  if (registration.unsettled > 0) return; // it is due again when they have settled
  registration.set(CLOSE_SERVED);
  runClose(selector, registration);
}

/** Tells what async handlers rejected with. */
function tellRejections(selector: Selector): void {
  const rejections = selector.rejections;
  if (rejections.length === 0) return;
  selector.rejections = [];
  for (let i = 0; i < rejections.length; i++) {
    const { registration, error } = rejections[i]!;
    try {
      running.current = registration;
      report(selector, registration, error);
    } catch (exit) {
      selector.rejections.unshift(...rejections.slice(i + 1));
      throw exit;
    } finally {
      running.current = null;
      running.flush();
    }
    registration.selector.examine(registration);
  }
}
