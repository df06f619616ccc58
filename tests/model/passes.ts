/**
 * The lines about passes: their order, one turn each, nobody left out, none for
 * nothing (3, 4, 13).
 *
 * @module
 */

import { type ChannelMap, ExitNow } from "../../mod.ts";
import type { Direction, Seat } from "./books.ts";
import type { Checker } from "./checker.ts";
import type { Handler } from "./program.ts";

type Side = "read" | "write";

/** What a map was seen doing. */
interface MapBook {
  /** The pass, and in it: the last phase, the channels in the order they were served. */
  pass: number;
  phase: number;
  served: Seat[];
  /** Number of the completion that was served last. */
  came: number;
  /** When a pass with nothing to show began a row of them. */
  idleFrom: number;
  idleSign: string;
}

/** Passes in a row that may show nothing: one to arm reads, one to be woken, and some more. */
const IDLE_PASSES = 12;

/** Passes that a channel which is ready may have to wait: the one that runs and the next, and sweeps between. */
const PATIENCE = 60;

/** Events in one program: the longest honest ones take a tenth. */
const MOST_EVENTS = 50_000;

/** Phases of a pass, in order. */
const PHASES: Readonly<Record<string, number>> = {
  read: 1,
  accept: 1,
  accepted: 1,
  eof: 1,
  write: 2,
  expt: 3,
  close: 4,
};

export class Passes {
  readonly #checker: Checker;
  readonly #usePoll: boolean;
  readonly #books = new Map<ChannelMap, MapBook>();
  #completions = 0;

  constructor(checker: Checker, usePoll: boolean) {
    this.#checker = checker;
    this.#usePoll = usePoll;
  }

  #book(map: ChannelMap): MapBook {
    let book = this.#books.get(map);
    if (book === undefined) {
      book = {
        pass: -1,
        phase: 0,
        served: [],
        came: 0,
        idleFrom: 0,
        idleSign: "",
      };
      this.#books.set(map, book);
    }
    return book;
  }

  /** 3, 4: the order in a pass, and one event each. */
  ordered(seat: Seat, handler: Handler, asked: Side): void {
    const { map, name } = seat;
    const pass = this.#checker.passOf(map);
    const book = this.#book(map);
    if (book.pass !== pass) {
      book.pass = pass;
      book.phase = 0;
      book.served.length = 0;
      book.came = 0;
    }
    const last = book.served.at(-1);
    if (this.#usePoll && last !== seat) {
      book.phase = 0;
      if (handler !== "close" && book.served.includes(seat)) {
        this.#checker.broke(
          3,
          `${name} ${handler} after ${last?.name}, in parts`,
        );
      }
    }
    if (last !== seat) book.served.push(seat);
    const phase = handler === "connect"
      ? connectPhase(seat, book, asked)
      : PHASES[handler]!;
    if (phase < book.phase) {
      this.#checker.broke(3, `${name} ${handler} after phase ${book.phase}`);
    }
    book.phase = Math.max(phase, book.phase);
    const direction = directionOf(seat, handler);
    if (direction === null) return;
    if (direction.servedIn === pass) {
      this.#checker.broke(4, `${name} ${handler} twice in a pass`);
    }
    direction.servedIn = pass;
    if (handler !== "read" || seat.cameAs === 0) return;
    if (!this.#usePoll && seat.cameAs < book.came) {
      this.#checker.broke(
        3,
        `${name} read came before what was served before it`,
      );
    }
    book.came = seat.cameAs;
    seat.cameAs = 0;
  }

  /** A read of a connection has completed; the library hears of it next. */
  completed(seat: Seat): void {
    const { read, channel } = seat;
    const fresh = seat.waiting === 0 && read.answer && seat.can("read") &&
      read.idleSince === Infinity && !channel.closing;
    seat.cameAs = fresh ? ++this.#completions : 0;
  }

  /** 13: what made no progress is not called again for nothing. */
  sparing(seat: Seat, handler: Handler): void {
    const direction = directionOf(seat, handler);
    if (direction === null || direction.idleSince === Infinity) return;
    if (direction.excuse !== this.#checker.sign()) direction.retries = 0;
    else if (++direction.retries > 2) {
      this.#checker.broke(
        13,
        `${seat.name} ${handler} again and again for nothing`,
      );
    }
  }

  /** 13, 4: passes in which nothing happens, and channels that no pass serves. */
  tick(map: ChannelMap): void {
    const book = this.#book(map);
    const passes = this.#checker.passOf(map);
    if (this.#checker.event > MOST_EVENTS) {
      this.#checker.broke(13, "no end of events");
      if (this.#checker.inHandler) throw new ExitNow("too many events");
    }
    const sign = this.#checker.sign();
    if (book.idleSign !== sign) {
      book.idleSign = sign;
      book.idleFrom = passes;
    } else if (passes - book.idleFrom > IDLE_PASSES) {
      this.#checker.broke(
        13,
        `${passes - book.idleFrom} passes in which nothing happened`,
      );
    }
    for (const seat of this.#checker.seats) {
      if (!seat.channel.closing) seat.waitedOpen = seat.waiting;
      if (seat.map === map) {
        this.#starving(seat, seat.read, "read", passes);
        this.#starving(seat, seat.write, "write", passes);
      }
    }
  }

  #starving(
    seat: Seat,
    state: Direction,
    direction: Side,
    pass: number,
  ): void {
    if (!this.ready(seat, direction) || state.servedIn === pass) {
      state.readySince = Infinity;
    } else if (state.readySince === Infinity) state.readySince = pass;
    else if (pass - state.readySince > PATIENCE) {
      this.#checker.broke(
        4,
        `${seat.name} not served (${direction}) for ${PATIENCE} passes`,
      );
    }
  }

  /** Whether a channel is bound to be served, from what it said last and what can be seen from outside. */
  ready(seat: Seat, direction: Side): boolean {
    const { end } = seat;
    const state = seat[direction];
    if (end === null || !end.connected || !seat.can(direction)) return false;
    if (seat.channel.closing) return false;
    // Parked, and nothing happened since; or it said no, and nobody told the loop that this changed.
    if (
      state.idleSince <= this.#checker.event &&
      state.stirredAt < state.idleSince
    ) {
      return false;
    }
    if (!seat.wants(direction)) return false;
    if (
      state.askedAt >= 0 && !state.answer && state.stirredAt < state.askedAt
    ) return false;
    if (direction === "read") return end.eofs === 0 && seat.waiting > 0;
    // A write that failed is told of later, perhaps.
    if (
      end.peer === null
        ? this.#checker.life.mayEnd(end)
        : end.peer.over || end.peer.mayLose
    ) {
      return false;
    }
    return !end.shut && !end.withSend && seat.overrides !== "some" &&
      seat.unsent * 2 <= end.size;
  }

  /** 4, 9: write-ready is half of the buffer free, unless something was sent in this very pass. */
  roomy(seat: Seat): void {
    const { end } = seat;
    if (
      end === null || end.withSend ||
      end.sentIn === this.#checker.passOf(seat.map)
    ) {
      return;
    }
    if (seat.unsent * 2 > end.size) {
      this.#checker.broke(
        9,
        `${seat.name} write with ${seat.unsent} of ${end.size} bytes waiting`,
      );
    }
  }

  /** Other loops serve the maps now: nothing goes on in a pass of theirs. */
  restart(): void {
    for (const book of this.#books.values()) book.pass = -1;
  }
}

function connectPhase(seat: Seat, { phase }: MapBook, asked: Side): number {
  if (seat.overrides !== "all") return phase;
  return asked === "write" ? 2 : 1;
}

/** The direction that a handler serves. */
export function directionOf(seat: Seat, handler: Handler): Direction | null {
  if (handler === "write") return seat.write;
  return handler === "read" || handler === "accept" ? seat.read : null;
}
