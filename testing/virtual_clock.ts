/**
 * Time that passes only when nothing else can happen: it jumps to the next event. What is due is delivered from macrotasks, so
 * promises settle between one delivery and the next as they do in Deno.
 *
 * @module
 */

import { type Clock, macrotask, type Timer } from "../clock.ts";
import type { Random } from "./random.ts";

/** Code may look at the clock so often in one turn before that takes time, … */
const FREE_LOOKS = 1_000;
/** … in milliseconds: code that never rests must not stop time, or nothing else would ever happen. */
const LOOK = 0.01;

/** The most completions that Deno delivers at once, and the most operations that complete at once in one turn. */
const MAX_BATCH = 128;

/** What was deferred waits for what is due, but not for ever: what is due may bring about more without end. */
const PATIENCE = 8;

/** Something that is going to happen. */
interface Event {
  readonly at: number;
  /** Decides between events of the same time. */
  readonly tie: number;
  readonly run: () => void;
  readonly timer: boolean;
  cancelled: boolean;
}

function earlier(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.tie < b.tie);
}

/** What is going to happen, the earliest first: a binary heap. */
class Agenda {
  readonly #events: Event[] = [];

  /** The next event. */
  get next(): Event | undefined {
    while (this.#events[0]?.cancelled) this.#take();
    return this.#events[0];
  }

  /** How many events there are. */
  get length(): number {
    return this.#events.length;
  }

  add(event: Event): void {
    const events = this.#events;
    let child = events.push(event) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!earlier(event, events[parent]!)) break;
      events[child] = events[parent]!;
      child = parent;
    }
    events[child] = event;
  }

  /** Takes the next event, if it is due. */
  takeDue(now: number): Event | undefined {
    const { next } = this;
    return next !== undefined && next.at <= now ? this.#take() : undefined;
  }

  clear(): void {
    this.#events.length = 0;
  }

  #take(): Event {
    const events = this.#events;
    const first = events[0]!;
    const last = events.pop()!;
    if (events.length === 0) return first;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= events.length) break;
      const right = child + 1;
      if (right < events.length && earlier(events[right]!, events[child]!)) {
        child = right;
      }
      if (!earlier(events[child]!, last)) break;
      events[parent] = events[child]!;
      parent = child;
    }
    events[parent] = last;
    return first;
  }
}

/** See the module's documentation. */
export class VirtualClock implements Clock {
  readonly #random: Random;
  readonly #tick: number;
  readonly #agenda = new Agenda();
  readonly #timers = new Set<Event>();
  #deferred: (() => void)[] = [];
  #now = 0;
  #looks = 0;
  #order = 0;
  #armed = false;
  /** For how many turns the deferred have waited. */
  #waited = 0;
  /** How many operations may still complete at once, in which turn. */
  #budget = 0;
  #budgetTurn = -1;
  readonly #quiet: (() => void)[] = [];
  /** Turns so far: deliveries of completions, of a timer, or of what was deferred. */
  turns = 0;
  /** Called at the beginning of every turn; tells whether it has found something to do. */
  onTurn: (() => boolean) | null = null;

  /**
   * Makes a clock that shows 0.
   *
   * @param random Decides the order of what is due at the same time.
   * @param tick What a look at the clock takes, in milliseconds.
   */
  constructor(random: Random, tick: number) {
    this.#random = random;
    this.#tick = tick;
  }

  now(): number {
    this.#looks++;
    if (this.#tick > 0) this.#now += this.#tick;
    else if (this.#looks > FREE_LOOKS) this.#now += LOOK;
    return this.#now;
  }

  /** The time, without the effects of a look at the clock. */
  get time(): number {
    return this.#now;
  }

  setTimer(at: number, run: () => void): Timer {
    const event: Event = {
      at: Math.max(at, this.#now),
      // After completions of the same time, in the order in which they were set.
      tie: 1 + ++this.#order,
      run,
      timer: true,
      cancelled: false,
    };
    this.#timers.add(event);
    if (at < Infinity) this.#add(event);
    return event;
  }

  clearTimer(timer: Timer): void {
    const event = timer as Event;
    event.cancelled = true;
    this.#timers.delete(event);
  }

  /** How many timers are set. */
  get timers(): number {
    return this.#timers.size;
  }

  defer(run: () => void): void {
    this.#deferred.push(run);
    this.#arm();
  }

  idle(): void {
    this.#arm();
  }

  /**
   * Has the completion of an operation happen.
   *
   * @param at When, in milliseconds.
   * @param run What to do then; it must not throw.
   */
  schedule(at: number, run: () => void): void {
    if (at === Infinity) return;
    this.#add({
      at: Math.max(at, this.#now),
      tie: this.#random.next(),
      run,
      timer: false,
      cancelled: false,
    });
  }

  /**
   * Has an operation complete that can: at once, while Deno's budget for one turn lasts, or else in the next turn, in order.
   *
   * @param run Completes it, if it still can.
   */
  soon(run: () => void): void {
    if (this.#budgetTurn !== this.turns) {
      this.#budgetTurn = this.turns;
      // Others may have used it up.
      const untouched = this.#random.chance(0.5);
      this.#budget = untouched ? MAX_BATCH : this.#random.draw([0, 8]);
    }
    if (this.#budget-- > 0) return run();
    this.scheduleInOrder(this.#now, run);
  }

  /** As {@linkcode VirtualClock.schedule}, but those of the same time happen in the order of the calls, and before the others. */
  scheduleInOrder(at: number, run: () => void): void {
    if (at === Infinity) return;
    this.#add({
      at: Math.max(at, this.#now),
      tie: -1 / ++this.#order,
      run,
      timer: false,
      cancelled: false,
    });
  }

  /** Waits until nothing can happen any more. */
  quiet(): Promise<void> {
    return new Promise((resolve) => {
      this.#quiet.push(resolve);
      this.#arm();
    });
  }

  /** Forgets everything that was going to happen. */
  stop(): void {
    this.#agenda.clear();
    this.#timers.clear();
    this.#deferred = [];
  }

  #add(event: Event): void {
    this.#agenda.add(event);
    this.#arm();
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    macrotask(this.#turn);
  }

  readonly #turn = (): void => {
    this.#armed = false;
    this.#looks = 0;
    this.turns++;
    // What was found to do comes before time passes.
    if (this.onTurn?.()) return this.#arm();
    if (!this.#pending) {
      for (const resolve of this.#quiet.splice(0)) resolve();
      return;
    }
    const due = (this.#agenda.next?.at ?? Infinity) <= this.#now;
    if (this.#deferred.length === 0) {
      this.#deliver(this.#random.draw([1, MAX_BATCH]));
    } else if (due && this.#waited++ < PATIENCE) {
      // All of them, but none that they bring about.
      this.#deliver(this.#agenda.length);
    } else this.#runDeferred();
    // Whether all is quiet shows in a turn of its own, after the promises' callbacks of this one.
    if (this.#pending || this.#quiet.length > 0) this.#arm();
  };

  get #pending(): boolean {
    return this.#deferred.length > 0 || this.#agenda.next !== undefined;
  }

  #runDeferred(): void {
    const deferred = this.#deferred;
    this.#deferred = [];
    this.#waited = 0;
    for (const run of deferred) run();
  }

  /** Jumps to the next event and delivers it: a timer, or completions in one batch, before any promise's callback runs. */
  #deliver(most: number): void {
    const { next } = this.#agenda;
    if (next === undefined) return;
    this.#now = Math.max(this.#now, next.at);
    const now = this.#now;
    let left = most;
    let event = this.#agenda.takeDue(now);
    while (event !== undefined) {
      if (event.timer) this.#timers.delete(event);
      event.run();
      // Promises' callbacks run between timers.
      if (--left <= 0 || event.timer || this.#agenda.next?.timer) return;
      event = this.#agenda.takeDue(now);
    }
  }
}
