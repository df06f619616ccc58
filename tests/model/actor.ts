/**
 * The players: dispatchers that do what a program says, and tell the checker.
 *
 * @module
 */

import {
  type ChannelMap,
  type Dispatcher,
  type DispatcherOptions,
  ExitNow,
} from "../../mod.ts";
import { type End, Seat, type ServerBook } from "./books.ts";
import * as calls from "./calls.ts";
import type { Checker, Turn } from "./checker.ts";
import { PLAYERS } from "./players.ts";
import type {
  Act,
  Behaviour,
  Handler,
  Outcome,
  Reaction,
  ServerPlan,
} from "./program.ts";

/** An address of a program: what is planned and known of it. */
export interface Site {
  readonly plan: ServerPlan | null;
  readonly book: ServerBook;
  readonly port: number;
  /** The most bytes to send at a time: what goes byte by byte takes long. */
  readonly most: number;
}

/** What the players stand on. */
export interface Stage {
  readonly checker: Checker;
  readonly actors: Actor[];
  readonly maps: readonly ChannelMap[];
  /** Everybody shall come to an end: take everything, do nothing new. */
  readonly finishing: boolean;
  /** The checker is told of completions: it costs the library's reads a microtask. */
  readonly watches: boolean;
  sleep(ms: number): Promise<void>;
  /** Does something later, from outside. */
  after(ms: number, run: () => void): void;
  /** Starts one more client, if there are not too many. */
  spawn(to: number): void;
  /** Makes a book of a new end of a connection. */
  open(
    site: Site,
    options: Omit<ConstructorParameters<typeof End>[1], "server">,
  ): End;
  /** The end of a connection is known by the client's port. */
  known(end: End, port: number): void;
}

/** How long a handler waits for its signal at most, in ms: an open connection's would hold up the end. */
const PATIENCE = 30;

/** Reads that take little: what is large would take too many. */
const FEW_READS = 20;

/** What is thrown where a program says so. */
export class Planned extends Error {
  override name = "Planned";
}

/** One dispatcher and what it does. */
export class Actor {
  readonly seat: Seat;
  readonly channel: Dispatcher;
  readonly index: number;
  readonly behaviour: Behaviour;
  /** Bytes received on all of its connections. */
  get received(): number {
    return this.#before + (this.seat.end?.received ?? 0);
  }
  readonly #stage: Stage;
  readonly #site: Site;
  readonly #turns: Partial<Record<Handler, number>> = {};
  readonly #asks = { read: 0, write: 0 };
  readonly #want: { read: boolean; write: boolean };
  /** Errors of handlers of an earlier socket: they are not this one's end. */
  readonly #stale = new Set<unknown>();
  /** Whose acts are being done. */
  #turn: Turn | null = null;
  #before = 0;
  #spoken = 0;
  #opened = 0;
  #adopted = 0;

  constructor(
    stage: Stage,
    site: Site,
    behaviour: Behaviour,
    conn: Deno.Conn | null,
  ) {
    this.#stage = stage;
    this.#site = site;
    this.behaviour = behaviour;
    this.index = stage.actors.length;
    this.#want = {
      read: behaviour.readable.want,
      write: behaviour.writable.want,
    };
    const map = stage.maps[behaviour.map % stage.maps.length]!;
    const options: DispatcherOptions = {
      map,
      sendBufferSize: behaviour.sendBufferSize,
      lingerTimeout: behaviour.lingerTimeout,
    };
    const Player =
      PLAYERS[behaviour.withSend ? "withSend" : "plain"][behaviour.overrides];
    const { checker } = stage;
    if (conn !== null && stage.watches) this.#watch(conn);
    const channel = checker.call(() => new Player(conn, options));
    channel.actor = this;
    this.channel = channel;
    this.seat = new Seat(
      `#${this.index}`,
      channel,
      map,
      behaviour.overrides,
      (direction) => this.#wants(direction),
    );
    stage.actors.push(this);
    checker.seats.push(this.seat);
    if (conn === null) return;
    this.#opens(true);
    stage.known(this.seat.end!, (conn.remoteAddr as Deno.NetAddr).port);
    checker.stir(this.seat);
  }

  /** Tells the checker when a read completes, a moment before the library hears of it. */
  #watch(conn: Deno.Conn): void {
    const read = conn.read.bind(conn);
    conn.read = (buffer) =>
      read(buffer).finally(() =>
        this.#stage.checker.passes.completed(this.seat)
      );
  }

  #opens(adopted: boolean): void {
    const { behaviour, seat } = this;
    this.#before += seat.end?.received ?? 0;
    seat.end = this.#stage.open(this.#site, {
      library: true,
      adopted,
      withSend: behaviour.withSend,
      size: behaviour.sendBufferSize,
      linger: behaviour.lingerTimeout,
    });
    seat.suspended = false;
    for (const state of [seat.read, seat.write]) {
      state.idleSince = Infinity;
      state.askedAt = state.servedIn = -1;
      state.readySince = Infinity;
      state.seen = state.ahead = state.retries = 0;
      state.everYes = state.answer = false;
    }
  }

  /** Connects, for the first time or again. */
  connect(): void {
    const { channel, seat } = this;
    const { checker } = this.#stage;
    checker.note(() => `${seat.name} connect()`);
    checker.call(() => channel.createSocket());
    checker.call(() =>
      channel.connect({ hostname: "127.0.0.1", port: this.#site.port })
    );
    this.#opens(false);
    checker.stir(seat);
  }

  listen(): void {
    const { channel, seat } = this;
    const { checker } = this.#stage;
    const { book, plan, port } = this.#site;
    checker.note(() => `${seat.name} listen()`);
    checker.call(() => channel.createSocket());
    checker.call(() => channel.bind({ hostname: "127.0.0.1", port }));
    checker.call(() => channel.listen(plan!.backlog));
    seat.listener = book;
    seat.listening = book.listens = true;
    checker.stir(seat);
  }

  logged(message: string, type: string): void {
    this.#stage.checker.logged(this.seat, message, type);
    if (this.behaviour.logThrows) throw new Planned("logInfo");
  }

  /** What the predicate would say. */
  #wants(direction: "read" | "write"): boolean {
    const { behaviour } = this;
    if (behaviour.overrides !== "all") {
      return direction === "read" || !behaviour.withSend;
    }
    if (this.#stage.finishing) return direction === "read";
    if (!this.#want[direction]) return false;
    const also =
      (direction === "read" ? behaviour.readable : behaviour.writable).also;
    if (also === undefined) return true;
    if (also[0] === "room") return this.channel.room >= also[1];
    if (also[0] === "after") return this.#stage.checker.now >= also[1];
    return this.#other(also[2]).received >= also[1];
  }

  /** A predicate. */
  ask(direction: "read" | "write"): boolean {
    const { checker } = this.#stage;
    const { fails } = direction === "read"
      ? this.behaviour.readable
      : this.behaviour.writable;
    if (
      fails !== undefined && fails[0] === this.#asks[direction]++ &&
      !this.#stage.finishing
    ) {
      checker.asked(this.seat, direction, false);
      const name = direction === "read" ? "readable" : "writable";
      if (fails[1] === "promise") {
        // The library makes the error itself.
        checker.throws(this.seat, name, TypeError);
        return Promise.resolve(true) as unknown as boolean;
      }
      const error = fails[1] === "exit" ? new ExitNow(name) : new Planned(name);
      checker.throws(this.seat, name, error);
      throw error;
    }
    const answer = this.#wants(direction);
    checker.asked(this.seat, direction, answer);
    return answer;
  }

  /** A handler. */
  play(
    handler: Handler,
    argument?: unknown,
    above?: () => void | Promise<void>,
  ): void | Promise<void> {
    const { seat } = this;
    const { checker, finishing } = this.#stage;
    const { end } = seat;
    const turn = checker.enter(seat, handler, argument);
    if (handler === "connect" && end !== null) {
      const local = this.channel.localAddr as Deno.NetAddr | null;
      if (local !== null) this.#stage.known(end, local.port);
    }
    const nth = this.#turns[handler] ?? 0;
    this.#turns[handler] = nth + 1;
    const reaction = finishing ? undefined : this.behaviour.on[handler]?.[nth];
    try {
      if (reaction === undefined) {
        const pending = this.#byDefault(handler, argument, above);
        calls.giveBack(checker, turn);
        checker.leave(turn, pending ? "wait" : "return");
        return pending?.finally(() => checker.settled(turn, "return"));
      }
      this.#turn = turn;
      this.#acts(reaction.acts, handler, above);
      const conn = handler === "accepted" ? argument as Deno.Conn : null;
      const adopts = this.#adopts();
      if (conn !== null && adopts === "before") this.#adopt(conn);
      const rest = conn === null || adopts === "before"
        ? null
        : () => this.#dispose(conn, adopts, reaction.outcome);
      if (reaction.wait !== undefined) {
        checker.leave(turn, "wait");
        return this.#later(turn, reaction, rest);
      }
      rest?.();
      calls.giveBack(checker, turn);
    } catch (error) {
      // Only the harness itself throws here.
      checker.leave(turn, "throw");
      throw error;
    }
    const { outcome } = reaction;
    checker.leave(turn, outcome === "return" ? "return" : "throw");
    if (outcome === "return") return;
    const error = this.#error(handler, outcome);
    checker.throws(seat, handler, error, turn.map);
    if (!this.#stale.has(argument)) this.#gone(handler, end, error);
    throw error;
  }

  async #later(
    turn: Turn,
    reaction: Reaction,
    rest: (() => void) | null,
  ): Promise<void> {
    const { checker } = this.#stage;
    const { seat, handler } = turn;
    const wait = reaction.wait!;
    if (wait === "signal") {
      await Promise.race([this.#aborted(), this.#stage.sleep(PATIENCE)]);
    } else if (wait > 0) await this.#stage.sleep(wait);
    else for (let i = wait; i <= 0; i++) await null;
    checker.deed();
    this.#turn = turn;
    if (!this.#stage.finishing) this.#acts(reaction.later ?? [], "later");
    rest?.();
    calls.giveBack(checker, turn);
    const { outcome } = reaction;
    checker.settled(turn, outcome === "return" ? "return" : "throw");
    checker.parks(turn);
    if (outcome === "return") return;
    const error = this.#error(handler, outcome);
    checker.rejects(seat, handler, error);
    if (turn.end !== seat.end) this.#stale.add(error);
    throw error;
  }

  #error(handler: Handler, outcome: Outcome): Error {
    const message = `${this.seat.name} ${handler} ${this.#turns[handler]}`;
    return outcome === "exit" ? new ExitNow(message) : new Planned(message);
  }

  /** What follows when `handleError` or `handleClose` throws. */
  #gone(handler: Handler, end: End | null, error: Error): void {
    if (error instanceof ExitNow || end === null || end !== this.seat.end) {
      return;
    }
    if (handler === "error" && !this.channel.closing) {
      this.#stage.checker.becameDue(this.seat, "error", undefined);
    }
  }

  /** Until the signal of the connection aborts. */
  #aborted(): Promise<void> {
    const signal = this.#signal();
    return new Promise((resolve) => {
      if (signal === null || signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  #signal(): AbortSignal | null {
    const { end } = this.seat;
    if (end === null) return null;
    end.signal ??= this.channel.signal;
    return end.signal;
  }

  #adopts(): "before" | "after" | "never" {
    const adopts = this.#site.plan?.adopts ?? [];
    return adopts[this.#adopted % adopts.length] ?? "before";
  }

  #adopt(conn: Deno.Conn): void {
    const { accepts } = this.#site.plan!;
    const behaviour = accepts[this.#adopted++ % accepts.length]!;
    new Actor(this.#stage, this.#site, behaviour, conn);
  }

  /** Adopts a connection late, or never: if the handler fails then, the library closes it. */
  #dispose(conn: Deno.Conn, adopts: "after" | "never", outcome: Outcome): void {
    if (adopts === "after") return this.#adopt(conn);
    this.#site.book.gaveUp = true;
    if (outcome === "return") this.#stage.checker.call(() => conn.close());
  }

  #byDefault(
    handler: Handler,
    argument: unknown,
    above?: () => void | Promise<void>,
  ): void | Promise<void> {
    const { seat, channel } = this;
    const { checker, finishing } = this.#stage;
    const { closing } = channel;
    switch (handler) {
      case "read":
        return calls.recv(
          checker,
          seat,
          "recv",
          finishing || this.#turns.read! > FEW_READS
            ? 65_536
            : this.behaviour.takes,
          [],
        );
      case "write": {
        const [total, piece] = this.behaviour.talk;
        const n = Math.min(piece, total - this.#spoken);
        if (finishing || n <= 0 || seat.end?.shut) this.#want.write = false;
        else this.#spoken += calls.send(checker, seat, n, "own");
        return;
      }
      case "accept":
        return above?.(); // calls handleAccepted()
      case "accepted":
        return this.#adopt(argument as Deno.Conn);
      case "eof":
        checker.call(() => above?.());
        if (channel.connected && !channel.closing) {
          checker.broke(7, `${seat.name} not closing after handleEof()`);
        }
        return closing ? undefined : checker.becameDue(seat, "eof", undefined);
      case "error":
        checker.call(() => above?.());
        if (!closing && channel.closing) {
          checker.becameDue(seat, "error", argument);
        }
        return;
    }
  }

  #acts(
    acts: readonly Act[],
    where: Handler | "later" | "outside",
    above?: () => void | Promise<void>,
  ): void {
    for (const act of acts) this.act(act, where, above);
  }

  #other(who: number): Actor {
    const { actors } = this.#stage;
    return actors[(this.index + who) % actors.length]!;
  }

  /** Does one thing. */
  act(
    [verb, n, who]: Act,
    where: Handler | "later" | "outside",
    above?: () => void | Promise<void>,
  ): void {
    const { checker, maps } = this.#stage;
    const target = this.#other(who);
    const { seat } = target;
    const own = target === this && where !== "later" && where !== "outside";
    const from = own ? "own" : "elsewhere";
    switch (verb) {
      case "recv":
      case "recvInto":
      case "recvView":
        if (target !== this || where === "outside") return;
        calls.recv(checker, seat, verb, n, this.#turn?.lent ?? []);
        return;
      case "send":
        calls.send(checker, seat, Math.min(n, target.#site.most), from);
        return;
      case "close":
      case "abort":
        if (seat.end !== null || seat.listening) {
          calls.close(checker, seat, verb);
        }
        return;
      case "disconnect":
        return calls.disconnect(
          checker,
          seat,
          calls.KINDS[n % calls.KINDS.length]!,
        );
      case "shutdown":
        return calls.shutdown(checker, seat);
      case "wantRead":
      case "wantWrite":
        target.#want[verb === "wantRead" ? "read" : "write"] = n % 2 === 1;
        if (where === "outside") target.act(["wake", 0, 0], where);
        return;
      case "wake":
        checker.call(() => seat.channel.wake());
        return own ? checker.deed() : checker.stir(seat);
      case "wakeMap":
        checker.call(() => seat.map.wake());
        return checker.stirAll(seat.map);
      case "suspend":
        if (!calls.suspend(checker, seat)) return;
        return this.#stage.after(n, () => {
          if (seat.suspended) {
            calls.enter(checker, seat, maps[n % maps.length]!);
          }
        });
      case "move":
        return calls.enter(checker, seat, maps[n % maps.length]!);
      case "spawn":
        return this.#stage.spawn(n);
      case "reopen":
        if (seat.end === null || seat.end.adopted || target.#opened++ > 2) {
          return;
        }
        if (seat.end.left === null) calls.close(checker, seat, "close");
        return target.connect();
      case "signal":
        target.#signal();
        return;
      case "super":
        if (own && above !== undefined && where === "error") {
          this.#byDefault("error", undefined, above);
        }
        if (own && above !== undefined && where === "eof") {
          this.#byDefault("eof", undefined, above);
        }
    }
  }
}
