/**
 * The checker: told by the players what happens, it says which line of the
 * contract (DESIGN.md §2) is broken. It knows the contract and the public API,
 * nothing of how the library works.
 *
 * Here is what can be said at each event; `life.ts` knows the lines about a
 * connection, `passes.ts` those about passes, `calls.ts` checks what calls return,
 * `rest.ts` what must hold when nothing can happen any more.
 *
 * @module
 */

import {
  type ChannelMap,
  type CloseKind,
  type CloseReason,
  ExitNow,
} from "../../mod.ts";
import type { End, Lent, Seat, ServerBook } from "./books.ts";
import { Life } from "./life.ts";
import { directionOf, Passes } from "./passes.ts";
import type { Handler } from "./program.ts";

/** A line of the contract, and how it was broken. */
export interface Breach {
  readonly line: number;
  readonly what: string;
}

/** One call of a handler, and how things stood when it began. */
export interface Turn {
  readonly seat: Seat;
  readonly handler: Handler;
  readonly end: End | null;
  readonly received: number;
  readonly taken: number;
  readonly accepts: number;
  /** The map that called it: the channel itself may move. */
  readonly map: ChannelMap;
  /** What had happened in the world. */
  readonly sign: string;
  /** Views that it was lent. */
  readonly lent: Lent[];
}

export class Checker {
  breach: Breach | null = null;
  readonly seats: Seat[] = [];
  readonly ends: End[] = [];
  /** Everything that happened, as text, if asked for. */
  readonly trace: string[] | null;
  readonly #now: () => number;
  readonly #maps: ChannelMap[];
  readonly life = new Life(this);
  readonly passes: Passes;
  /** Number of the last event, and of those which may change something. */
  #event = 0;
  #deeds = 0;
  readonly #stack: Turn[] = [];
  /** Calls of the library under way. */
  #calls = 0;
  #lastAsk: {
    seat: Seat;
    direction: "read" | "write";
    answer: boolean;
    event: number;
  } | null = null;
  /** A handler threw: who must be told next, of what. */
  #thrown: { seat: Seat; error: unknown; map: ChannelMap } | null = null;
  /** What `handleError` or `handleClose` threw: what the next log line must name. */
  #unlogged: { seat: Seat; error: unknown } | null = null;
  /** `ExitNow`s that no loop rejected with yet. */
  readonly #exits = new Set<unknown>();
  readonly #excused = new Set<unknown>();
  /** Maps whose loop must have stopped. */
  readonly #stopped = new Set<ChannelMap>();

  constructor(
    now: () => number,
    maps: ChannelMap[],
    usePoll: boolean,
    traced: boolean,
  ) {
    this.#now = now;
    this.#maps = maps;
    this.passes = new Passes(this, usePoll);
    this.trace = traced ? [] : null;
  }

  get now(): number {
    return this.#now();
  }

  get event(): number {
    return this.#event;
  }

  /** Whether a handler or predicate runs right now. */
  get inHandler(): boolean {
    return this.#stack.length > 0;
  }

  /** The map from which the running handler was called, if it is that of a channel. */
  homeOf(seat: Seat): ChannelMap | null {
    const turn = this.#stack.at(-1);
    return turn?.seat === seat ? turn.map : null;
  }

  /** Says that a line is broken. The first one counts: the others may follow from it. */
  broke(line: number, what: string): void {
    this.note(() => `BROKEN (${line}) ${what}`);
    this.breach ??= { line, what };
  }

  note(text: () => string): void {
    this.trace?.push(`${this.#now()} ${text()}`);
  }

  /** Passes of a map so far. */
  passOf(map: ChannelMap): number {
    return map.counters.passes;
  }

  /** Something was done that handlers or predicates may answer to. */
  deed(): void {
    this.#deeds++;
    this.#event++;
  }

  /** What can be seen of the world: if it is the same as before, nothing happened. */
  sign(): string {
    let bytes = 0;
    for (const map of this.#maps) {
      const { bytesRead, bytesWritten, closes, accepts } = map.counters;
      bytes += bytesRead + bytesWritten + closes + accepts;
    }
    return `${this.#deeds} ${bytes} ${Math.floor(this.#now())}`;
  }

  /** Runs a call of the library's. */
  call<T>(run: () => T): T {
    this.#calls++;
    try {
      return run();
    } finally {
      this.#calls--;
      this.#event++;
    }
  }

  /** A predicate was asked. */
  asked(seat: Seat, direction: "read" | "write", answer: boolean): void {
    this.#event++;
    const name = direction === "read" ? "readable" : "writable";
    this.note(() => `${seat.name} ${name}: ${answer}`);
    if (this.#calls > 0) this.broke(1, `${seat.name} ${name}() inside a call`);
    if (this.inHandler) {
      this.broke(1, `${seat.name} ${name}() inside a handler`);
    }
    this.#told(`${seat.name} ${name}()`, seat);
    if (seat.end?.left || (seat.listener !== null && !seat.listening)) {
      this.broke(5, `${seat.name} ${name}() asked after close()`);
    }
    if (direction === "write" && seat.end?.shut) {
      this.broke(9, `${seat.name} writable() asked after shutdown()`);
    }
    if (direction === "read" && seat.end !== null && seat.end.eofs > 0) {
      this.broke(7, `${seat.name} readable() asked after handleEof()`);
    }
    const state = seat[direction];
    if (direction === "read" && seat.end !== null) this.#unread(seat);
    if (answer) {
      state.everYes = true;
      state.ahead = 0;
    }
    if (direction === "read" && !answer) seat.cameAs = 0;
    // It may wait from now on: before it said yes it was nobody's turn.
    if (answer && !state.answer) state.readySince = Infinity;
    state.answer = answer;
    state.askedAt = this.#event;
    this.#lastAsk = { seat, direction, answer, event: this.#event };
    this.passes.tick(seat.map);
  }

  /** 2: while `readable()` says no, no read is started; one may have been under way. */
  #unread({ read, channel, name, overrides, end }: Seat): void {
    const { bytesRead } = channel;
    if (bytesRead === read.seen) return;
    read.seen = bytesRead;
    if (read.answer || overrides !== "all" || end?.over) return;
    if (++read.ahead > (read.everYes ? 1 : 0)) {
      this.broke(2, `${name} read while readable() was false`);
    }
  }

  /** A handler begins. */
  enter(seat: Seat, handler: Handler, argument?: unknown): Turn {
    this.#event++;
    const { end } = seat;
    this.note(() => `${seat.name} ${handler}${describe(argument)}`);
    const map = this.#thrown?.map ?? seat.map;
    const outer = this.#stack.at(-1);
    if (this.#calls > 0) this.broke(1, `${seat.name} ${handler} inside a call`);
    if (
      outer !== undefined &&
      !(outer.seat === seat && outer.handler === "accept" &&
        handler === "accepted")
    ) this.broke(1, `${seat.name} ${handler} inside ${outer.handler}`);
    if (handler === "error") this.#failed(seat, argument);
    else {
      this.#told(`${seat.name} ${handler}`, seat);
      this.#open(seat, handler);
      if (end !== null && end.library) {
        this.life.begins(seat, end, handler, argument);
      }
      this.#wanted(seat, handler);
      if (handler === "write") this.passes.roomy(seat);
      this.#hold(seat, handler);
      this.passes.ordered(seat, handler, this.#lastAsk?.direction ?? "read");
      this.passes.sparing(seat, handler);
    }
    if (handler !== "error") (end?.pending ?? seat.accepting).push(handler);
    if (!["error", "write", "expt"].includes(handler)) seat.previous = handler;
    this.passes.tick(seat.map);
    const turn: Turn = {
      seat,
      handler,
      end,
      received: end?.received ?? 0,
      taken: end?.taken ?? 0,
      accepts: map.counters.accepts,
      map,
      sign: this.sign(),
      lent: [],
    };
    this.#stack.push(turn);
    return turn;
  }

  /** A handler has returned or throws; "wait": its promise has not settled. */
  leave(turn: Turn, outcome: "return" | "throw" | "wait"): void {
    this.#event++;
    this.#stack.pop();
    if (outcome === "wait") return;
    if (!this.settled(turn, outcome) || !took(turn)) return;
    // The sweep that follows asks everybody in the same map; the other
    // direction of the channel itself is served again without one.
    const { seat, handler } = turn;
    for (const other of this.seats) {
      if (other.map !== turn.map && other.map !== seat.map) continue;
      if (other !== seat || handler === "write") {
        other.read.stirredAt = this.#event;
      }
      if (other !== seat || handler !== "write") {
        other.write.stirredAt = this.#event;
      }
    }
  }

  /** A handler's promise is about to settle, or it has returned. Returns whether it made progress. */
  settled(turn: Turn, outcome: "return" | "throw"): boolean {
    const { seat, handler, end } = turn;
    if (handler !== "error") {
      const pending = end?.pending ?? seat.accepting;
      const at = pending.lastIndexOf(handler);
      if (at >= 0) pending.splice(at, 1);
    }
    if (!this.inHandler) this.#event++;
    this.note(() => `${seat.name} ${handler} done`);
    const state = directionOf(seat, handler);
    // Who throws is parked, but what was done before that counts for others.
    const deed = made(turn);
    const moved = outcome === "return" && deed;
    if (deed || (state === null && handler !== "error")) this.#deeds++;
    if (state !== null && seat.end === end) {
      state.idleSince = moved ? Infinity : this.#event;
      if (moved) state.retries = 0;
      else state.excuse = turn.sign;
    }
    return moved;
  }

  /** The library hears of a settled promise some microtasks later: until then nothing that happens counts. */
  async parks({ seat, handler, end }: Turn): Promise<void> {
    const state = directionOf(seat, handler);
    if (state === null || state.idleSince === Infinity) return;
    const { idleSince } = state;
    for (let i = 0; i < 10; i++) await null;
    if (state.idleSince === idleSince && seat.end === end) {
      state.idleSince = this.#event;
    }
  }

  /** A handler or predicate throws, now. */
  throws(
    seat: Seat,
    where: Handler | "readable" | "writable",
    error: unknown,
    map = seat.map,
  ): void {
    this.note(() => `${seat.name} ${where} throws ${error}`);
    // No answer is no yes: it is parked.
    if (where === "readable") seat.read.answer = false;
    if (where === "writable") seat.write.answer = false;
    if (error instanceof ExitNow) {
      this.#exits.add(error);
      this.#stopped.add(map);
      // Not served to its end: it may come again.
      if (where === "eof" && seat.end !== null) seat.end.eofs--;
    } else if (where === "error" || where === "close") {
      this.#unlogged = { seat, error };
    } else this.#thrown = { seat, error, map };
  }

  /** An async handler rejects. */
  rejects(seat: Seat, handler: Handler, error: unknown): void {
    this.note(() => `${seat.name} ${handler} rejects with ${error}`);
    if (error instanceof ExitNow) {
      this.#exits.add(error);
      if (handler === "eof" && seat.end !== null) seat.end.eofs--;
    } else if (handler === "error") {
      if (seat.end !== null) seat.end.mayFail = true;
    } else if (handler !== "close") seat.owed.push(error);
  }

  /** A message was logged. */
  logged(seat: Seat, message: string, type: string): void {
    this.note(() => `${seat.name} logs ${type}: ${message.slice(0, 80)}`);
    const due = this.#unlogged;
    if (due === null || type !== "error" || due.seat !== seat) return;
    if (message.includes((due.error as Error).message)) this.#unlogged = null;
  }

  /** Nothing may come between what was thrown and its `handleError` or its message. */
  #told(what: string, seat: Seat, anywhere = false): void {
    if (this.#thrown !== null) {
      this.broke(11, `${what} before ${this.#thrown.seat.name} handleError`);
      this.#thrown = null;
    }
    if (this.#unlogged !== null) {
      this.broke(11, `${what} before ${this.#unlogged.error} was logged`);
      this.#unlogged = null;
    }
    const stopped = anywhere
      ? this.#maps.every((map) => this.#stopped.has(map))
      : this.#stopped.has(seat.map);
    if (stopped) this.broke(11, `${what} after ExitNow`);
  }

  /** `handleError` is told of something. */
  #failed(seat: Seat, error: unknown): void {
    const thrown = this.#thrown;
    const { end } = seat;
    if (thrown !== null) {
      this.#thrown = null;
      const same = thrown.error === TypeError
        ? error instanceof TypeError
        : error === thrown.error;
      if (thrown.seat !== seat || !same) {
        this.broke(
          11,
          `${seat.name} handleError(${error}), ${thrown.error} was thrown`,
        );
      }
      return;
    }
    const at = seat.owed.indexOf(error);
    // What a promise rejected with is told by the map that the channel was in then.
    this.#told(`${seat.name} handleError`, seat, at >= 0);
    if (at >= 0) return void seat.owed.splice(at, 1);
    if (
      end === null || end.connected || end.over || end.failure !== undefined
    ) {
      return this.broke(
        11,
        `${seat.name} handleError(${error}), which nobody threw`,
      );
    }
    end.failure = error;
    this.becameDue(seat, "error", error);
    if (seat.suspended) {
      this.broke(18, `${seat.name} connect failed while suspended`);
    }
    if (end.server.answers && end.server.listens) {
      this.broke(
        8,
        `${seat.name} connect failed with ${error}, the server listens`,
      );
    }
  }

  /** The end of the connection was found: `handleClose` is due. */
  becameDue(seat: Seat, kind: CloseKind | null, error: unknown): void {
    const { end } = seat;
    if (end === null || end.over || end.due !== null) return;
    end.due = { kind, error, pass: this.passOf(seat.map) };
    end.drops = kind === "reset" || kind === "timeout" || kind === "limit";
  }

  /** 5, 18: closed and suspended channels have no handlers. */
  #open(seat: Seat, handler: Handler): void {
    if (seat.suspended) {
      this.broke(18, `${seat.name} ${handler} while suspended`);
    }
    if (seat.end?.left || (seat.listener !== null && !seat.listening)) {
      this.broke(5, `${seat.name} ${handler} after close()`);
    }
  }

  /** 2: the predicate was true right before. */
  #wanted(seat: Seat, handler: Handler): void {
    if (seat.overrides !== "all") return;
    if (
      handler !== "connect" && handler !== "read" && handler !== "write" &&
      handler !== "accept"
    ) return;
    const ask = this.#lastAsk;
    if (ask === null || ask.event !== this.#event - 1 || ask.seat !== seat) {
      return this.broke(
        2,
        `${seat.name} ${handler} without asking right before`,
      );
    }
    const direction = handler === "connect"
      ? ask.direction
      : handler === "write"
      ? "write"
      : "read";
    if (!ask.answer || ask.direction !== direction) {
      this.broke(2, `${seat.name} ${handler} while it is not wanted`);
    }
  }

  /** 12: a handler that has not settled holds its direction. */
  #hold(seat: Seat, handler: Handler): void {
    const { end } = seat;
    if (end === null && handler === "accept" && seat.accepting.length > 0) {
      this.broke(
        12,
        `${seat.name} accept while ${seat.accepting} is pending`,
      );
    }
    if (end === null || handler === "close" || handler === "expt") return;
    const direction = handler === "write" ? "write" : "read";
    if (handler === "accepted" && end.pending.at(-1) === "accept") return;
    if (
      end.holds(direction) || (handler === "connect" && end.holds("write"))
    ) {
      this.broke(12, `${seat.name} ${handler} while ${end.pending} is pending`);
    }
  }

  /** A method of a channel was called from elsewhere, `wake()` among them. */
  stir(seat: Seat): void {
    this.deed();
    seat.read.stirredAt = seat.write.stirredAt = this.#event;
  }

  /** `map.wake()`, or `loop()`: everybody is asked again. */
  stirAll(map: ChannelMap | null): void {
    for (const seat of this.seats) {
      if (map === null || seat.map === map) this.stir(seat);
    }
  }

  /** Something begins that serves the maps. */
  serving(): void {
    this.#stopped.clear();
    this.stirAll(null);
    this.passes.restart();
    for (const seat of this.seats) {
      seat.read.servedIn = seat.write.servedIn = -1;
    }
  }

  /** It has ended, as it should or with an error. */
  served(error?: unknown): void {
    if (this.#thrown !== null) {
      this.broke(11, `${this.#thrown.error} vanished`);
      this.#thrown = null;
    }
    if (this.#unlogged !== null) {
      this.broke(11, `${this.#unlogged.error} was not logged`);
      this.#unlogged = null;
    }
    for (const map of this.#maps) this.passes.tick(map);
    if (error === undefined) {
      for (const exit of this.#exits) {
        if (!this.#excused.has(exit)) this.broke(11, `${exit} vanished`);
      }
    } else if (!this.#exits.has(error)) {
      this.broke(
        11,
        `the loop rejected with ${
          error instanceof Error ? error.stack : error
        }`,
      );
    }
    if (error === undefined) return;
    // Of two loops that leave at once only one can be told of: what the
    // others threw may come next time, or not.
    this.#exits.delete(error);
    for (const exit of this.#exits) this.#excused.add(exit);
  }

  /** Both ends of a connection are known. */
  pair(one: End, other: End): void {
    const wrong = one.pair(other) ?? other.pair(one);
    if (wrong !== null) this.broke(10, wrong);
  }

  /** An address. */
  static server(
    healthy: boolean,
    answers: boolean,
    window: number,
  ): ServerBook {
    return { healthy, answers, window, listens: false, gaveUp: false };
  }
}

/** Whether a handler moved bytes, or connections. */
function took(turn: Turn): boolean {
  return turn.handler !== "read" || turn.end!.received > turn.received;
}

/** Whether a handler made progress. */
function made({ handler, end, received, taken, accepts, map }: Turn): boolean {
  switch (handler) {
    case "read":
      return end !== null && (end.received > received || end.sawEnd);
    case "write":
      return end !== null && end.taken > taken;
    case "accept":
      return map.counters.accepts > accepts;
    default:
      return false;
  }
}

function describe(argument: unknown): string {
  if (argument === undefined) return "";
  if (argument instanceof Error) {
    return ` ${argument.name}: ${argument.message}`;
  }
  const reason = argument as Partial<CloseReason> | null;
  return reason?.kind ? ` ${reason.kind} ${reason.bytesUnsent}` : "";
}
