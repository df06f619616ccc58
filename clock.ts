/**
 * Time and the hop between passes: the only file that calls the runtime's timers. A {@linkcode ChannelMap} gets its
 * {@linkcode Clock} from outside, so that a virtual one can take the place of the system's.
 *
 * @module
 */

/**
 * What the scheduler needs to know about time.
 *
 * All times are milliseconds on one monotonic scale, whose zero is the clock's own business.
 */
export interface Clock {
  /** The current time, in milliseconds. */
  now(): number;
  /**
   * Has `run` called once, at `at` or later, and holds the process until then. A time further away than the clock can count
   * may fire early: whoever waits that long looks at the time again. `Infinity` is allowed.
   */
  setTimer(at: number, run: () => void): Timer;
  /** Takes a timer back; one that has fired or is unknown is ignored. */
  clearTimer(timer: Timer): void;
  /** Has `run` called after the input and output that is ready, and timers that are due, got their turn. */
  defer(run: () => void): void;
  /** Called when a loop is about to wait with nothing to do: a virtual clock jumps to its next event here. */
  idle(): void;
}

/** What {@linkcode Clock.setTimer} gives: whatever the clock likes, but not `undefined`. */
export type Timer = NonNullable<unknown>;

/** The longest delay that `setTimeout` counts; a longer one would fire at once. */
const MAX_DELAY = 2 ** 31 - 1;

/**
 * How many turns of the event loop it takes until I/O got in for sure. While there are immediates to run, Deno 2.9 asks the system
 * for I/O in every 61st turn only (tokio's `event_interval`): a read that waited took up to 62 immediates, which last 50 µs.
 */
const IO_TURNS = 64;

/** The {@linkcode Clock} of the system: `performance.now()`, `setTimeout`, `setImmediate`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (at, run) =>
    setTimeout(
      run,
      Math.min(Math.max(Math.ceil(at - performance.now()), 0), MAX_DELAY),
    ),
  clearTimer: (timer) => clearTimeout(timer as number),
  // Not setTimeout(0), which takes 2 ms, nor a MessageChannel, which keeps the process alive.
  defer: (run) => {
    let turns = IO_TURNS;
    const turn = () => --turns > 0 ? void setImmediate(turn) : run();
    setImmediate(turn);
  },
  idle: () => {},
};

/**
 * Has `run` called after the code that is running now, before anything else gets a turn.
 *
 * @param run What to call; it must not throw.
 */
export function microtask(run: () => void): void {
  queueMicrotask(run);
}

/**
 * Has `run` called after the promises' callbacks that are due: for a simulated clock, which has no I/O to let in.
 *
 * @param run What to call; it must not throw.
 */
export function macrotask(run: () => void): void {
  setImmediate(run);
}

/**
 * One timer for a deadline that moves all the time: a later deadline only changes a number, and the timer looks again when
 * it fires. So a deadline that every pass pushes on costs no timer per pass.
 */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #due = Infinity;
  #armed = Infinity;
  #timer: Timer | undefined;
  /** Whether it rang since it was set. */
  rang = false;

  /**
   * Makes an alarm that is not set.
   *
   * @param clock Where the time comes from.
   * @param ring Called when the deadline is reached.
   */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /**
   * Sets the deadline, in place of the one before.
   *
   * @param at The time, in milliseconds of the clock; `Infinity` holds the process and never rings.
   */
  set(at: number): void {
    this.#due = at;
    this.rang = false;
    if (this.#timer === undefined || at < this.#armed) this.#arm();
  }

  /** Takes the deadline back and lets go of the process. */
  clear(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    this.clear();
    this.#armed = this.#due;
    this.#timer = this.#clock.setTimer(this.#due, this.#fire);
  }

  readonly #fire = (): void => {
    this.#timer = undefined;
    if (this.#clock.now() < this.#due) return this.#arm();
    this.rang = true;
    this.#ring();
  };
}
