/**
 * Random schedules on the fake network: arrivals, splits, ends, errors, closes,
 * suspensions, async handlers and `ExitNow`, at any microtask. Whatever happens,
 * the lines of the contract hold that {@linkcode Player} checks.
 */

import { assert, assertEquals } from "@std/assert";
import { ExitNow } from "../../mod.ts";
import { FakeConn, settle, text, World } from "../fakes.ts";
import { Traced } from "./traced.ts";

/** Mulberry32: the same numbers for the same seed. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Chances in one schedule. */
class Dice {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = random(seed);
  }

  /** A whole number from 0 to `n - 1`. */
  roll(n: number): number {
    return Math.floor(this.#next() * n);
  }

  /** True once in `n` times. */
  once(n: number): boolean {
    return this.roll(n) === 0;
  }
}

/** A channel that does anything, and checks what is done to it. */
class Player extends Traced {
  readonly conn: FakeConn;
  readonly #dice: Dice;
  /** Whether its handlers take what there is and do not fail, so that it is never parked. */
  readonly #diligent: boolean;
  /** What the peer sent, and what was received. */
  delivered = "";
  received = "";
  /** What `send()` took. */
  taken = "";
  /** How the peer ended its side. */
  peerEnded: "no" | "eof" | "reset" = "no";
  sawEnd = false;
  closedByUs = false;
  suspended = false;
  closes = 0;
  /** What went against the contract: a handler cannot say so by throwing. */
  readonly faults: string[] = [];
  readonly gates = new Set<() => void>();
  #pending = { read: 0, write: 0 };

  constructor(world: World, dice: Dice, name: string, diligent: boolean) {
    const conn = new FakeConn();
    super(world, name, conn, { sendBufferSize: 50 });
    this.conn = conn;
    this.#dice = dice;
    this.#diligent = diligent;
    this.onRead = () => this.#handler("read", () => this.#read());
    this.onWrite = () => this.#handler("write", () => this.#write());
    this.onEof = () => {
      this.sawEnd = true;
      this.disconnect({ kind: "eof" });
    };
    this.onError = (error) => {
      if (!String(error).startsWith("Error: mine")) this.#fault(`${error}`);
    };
    this.onClose = () => {
      this.#check();
      if (this.#pending.read + this.#pending.write > 0) {
        this.#fault("closed while a handler is pending (12)");
      }
      if (++this.closes > 1) this.#fault("closed twice (6)");
      this.received += text(this.recv(1_000_000));
    };
  }

  #fault(what: string): void {
    this.faults.push(`${this.name}: ${what}`);
  }

  /** No handler of a channel that is closed, suspended or ended. */
  #check(): void {
    if (this.closedByUs) this.#fault("a handler after close() (5)");
    if (this.suspended) this.#fault("a handler while suspended (18)");
    if (this.closes > 0) this.#fault("a handler after handleClose (6)");
  }

  #handler(
    direction: "read" | "write",
    act: () => void,
  ): void | Promise<void> {
    this.#check();
    if (this.#pending[direction] > 0) this.#fault("two at a time (12)");
    const wants = direction === "read" ? this.wantsRead : this.wantsWrite;
    if (!wants) this.#fault(`${direction} while it is not wanted (2)`);
    act();
    if (!this.#diligent) {
      if (this.#dice.once(12)) throw new ExitNow();
      if (this.#dice.once(12)) throw new Error("mine");
    }
    if (!this.#dice.once(5)) return;
    this.#pending[direction]++;
    const fails = !this.#diligent && this.#dice.once(3);
    return new Promise<void>((resolve, reject) => {
      const open = () => {
        this.#pending[direction]--;
        this.gates.delete(open);
        if (fails) reject(new Error("mine, later"));
        else resolve();
      };
      this.gates.add(open);
    });
  }

  #read(): void {
    if (!this.#diligent && this.#dice.once(6)) return; // takes nothing
    const data = this.recv(this.#dice.once(2) ? 1 : 100);
    this.received += text(data);
    if (this.#dice.once(6)) this.speak();
  }

  #write(): void {
    if (!this.#dice.once(6)) this.speak();
    if (this.#dice.once(2)) this.wantsWrite = false;
  }

  /** Sends something. */
  speak(): void {
    const data = "abcdefghijklmnopqrstuvwxyz".slice(this.#dice.roll(26));
    this.taken += data.slice(0, this.say(data));
  }

  /** 13 and 18: when the loop sleeps, nothing is left that could be done. */
  checkAsleep(): void {
    const { conn, name } = this;
    assertEquals(this.faults, []);
    if (!this.#diligent || !this.connected) return;
    if (!conn.writing) assertEquals(conn.sent, this.taken, `${name} sent`);
    if (this.suspended || !this.wantsRead || this.#pending.read > 0) return;
    assertEquals(this.received, this.delivered, `${name} received`);
    if (this.#pending.write === 0) assertEquals(this.peerEnded, "no", name);
  }

  /** Closes, for good. */
  end(): void {
    this.closedByUs = this.closes === 0;
    this.suspended = false;
    if (this.#dice.once(2)) this.close();
    else this.abort();
  }
}

/** Something happens to a channel, from outside. */
function act(dice: Dice, player: Player, world: World): void {
  const { conn } = player;
  switch (dice.roll(14)) {
    case 0:
    case 1:
    case 2: {
      if (player.peerEnded !== "no" || conn.closed) return;
      const data = "0123456789".slice(dice.roll(10));
      player.delivered += data;
      return conn.deliver(data);
    }
    case 3:
      if (!dice.once(4) || player.peerEnded !== "no") return;
      player.peerEnded = dice.once(2) ? "eof" : "reset";
      if (player.peerEnded === "eof") return conn.end();
      return conn.failRead(new Deno.errors.ConnectionReset("gone"));
    case 4:
      if (!conn.writing) {
        conn.onWrite = dice.once(2) ? "wait" : 1 + dice.roll(9);
      }
      return;
    case 5:
    case 6:
      if (conn.writing) conn.release(1 + dice.roll(20));
      return;
    case 7:
      if (player.connected) player.speak();
      return;
    case 8:
      player.wantsRead = dice.once(2);
      return player.wake();
    case 9:
      player.wantsWrite = dice.once(2);
      return player.wake();
    case 10: {
      const [gate] = player.gates;
      return gate?.();
    }
    case 11:
      if (dice.once(2)) return world.map.wake();
      return player.wake();
    case 12:
      if (player.closes > 0 || player.closedByUs) return;
      player.suspended = !player.suspended;
      if (player.suspended) player.delChannel();
      else player.addChannel();
      return;
    default:
      if (dice.once(8)) player.end();
  }
}

/** Serves the map again if an ExitNow ended the loop. */
async function keepServing(world: World, usePoll: boolean): Promise<void> {
  let over = true;
  while (over) {
    over = false;
    world.served.then(() => over = true, (error) => {
      if (!(error instanceof ExitNow)) throw error;
      over = true;
    });
    await settle();
    if (over && world.map.size > 0) await world.serve({ usePoll });
    else over = false;
  }
}

/** Lets everything come to an end that was begun, and checks that nothing was lost. */
async function finish(
  world: World,
  players: Player[],
  usePoll: boolean,
): Promise<void> {
  for (const player of players) {
    player.onRead = () => void (player.received += text(player.recv(1_000)));
    player.onWrite = () => {};
    player.wantsRead = true;
    player.wantsWrite = false;
    player.conn.onWrite = "take";
    if (player.conn.writing) player.conn.release();
    if (player.suspended) {
      player.suspended = false;
      player.addChannel();
    }
  }
  for (const player of players) for (const gate of player.gates) gate();
  await settle();
  world.map.wake();
  await keepServing(world, usePoll);
  for (const player of players) {
    const { name, conn, delivered, received, taken, closedByUs } = player;
    const what = `${name}: ${closedByUs} ${player.closes} ${player.peerEnded}`;
    if (!closedByUs && player.peerEnded !== "reset") {
      assertEquals(received, delivered, what);
    } else assert(delivered.startsWith(received), what);
    if (conn.closed) assert(taken.startsWith(conn.sent), what);
    else assertEquals(conn.sent, taken, what);
    const ended = player.peerEnded !== "no";
    assertEquals(player.closes, ended && !closedByUs ? 1 : 0, what);
    assertEquals(player.connected, !ended && !closedByUs, what);
    if (player.peerEnded === "eof" && !closedByUs) assert(player.sawEnd, what);
  }
  for (const player of players) player.end();
  for (const { conn } of players) if (!conn.closed) conn.end();
  await keepServing(world, usePoll);
  for (const { conn, name, faults } of players) {
    assertEquals(faults, []);
    assert(conn.closed, name);
  }
  assertEquals(world.logs, []);
  assertEquals([world.map.size, world.clock.timers], [0, []]);
}

for (const usePoll of [false, true]) {
  Deno.test(`random schedules keep the contract${usePoll ? " (usePoll)" : ""}`, async () => {
    for (let seed = 1; seed <= 150; seed++) {
      const dice = new Dice(seed);
      const world = new World();
      const players = ["a", "b", "c", "d"].map((name) =>
        new Player(world, dice, name, seed % 2 === 1)
      );
      try {
        await world.serve({ usePoll });
        for (let step = 0; step < 120; step++) {
          act(dice, players[dice.roll(players.length)]!, world);
          for (let i = dice.roll(6); i > 0; i--) await null;
          if (!dice.once(10)) continue;
          await keepServing(world, usePoll);
          for (const player of players) player.checkAsleep();
        }
        await keepServing(world, usePoll);
        await finish(world, players, usePoll);
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  });
}
