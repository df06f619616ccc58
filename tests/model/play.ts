/**
 * Plays one program: sets the stage, runs it until nothing happens any more,
 * lets everybody come to an end, closes all, and asks the checker.
 *
 * @module
 */

import { type ChannelMap, loop } from "../../mod.ts";
import {
  type LinkOptions,
  type SimConn,
  type SimListener,
  SimNet,
} from "../../testing.ts";
import { Actor, type Site, type Stage } from "./actor.ts";
import { End } from "./books.ts";
import * as calls from "./calls.ts";
import { type Breach, Checker } from "./checker.ts";
import {
  breaksConnections,
  type ClientPlan,
  type Outside,
  type Program,
  type ServerPlan,
} from "./program.ts";
import { RawPeer } from "./raw_peer.ts";
import { checkAtRest, checkDelivered, checkGone, checkLinger } from "./rest.ts";

/** Where the servers are: one port each, the last is nobody's. */
const FIRST_PORT = 1_000;

/** Passes of one map in one run: honest programs take a tenth. */
const MOST_PASSES = 5_000;

/** Turns of the simulation in one run, likewise. */
const MOST_TURNS = 20_000;

/** Milliseconds of real time for one run: honest programs take a thousandth. */
const DEADLINE = 5_000;

/** How often a loop may be started again after `ExitNow`. */
const MOST_RUNS = 60;

/** What came of a program. */
export interface Outcome {
  readonly breach: Breach | null;
  readonly trace: readonly string[] | null;
}

/** Whether a connection takes many bytes at a time. */
function fast(link: LinkOptions): boolean {
  const { segmentSize, readSize, writeSize, window } = link;
  return [segmentSize, readSize, writeSize, window]
    .every((size) => size === undefined || size === 65_536);
}

/** A run neither ends nor does anything. */
class Stuck extends Error {}

/** Waits for a run, but not for ever: real time decides nothing else. */
async function inTime(run: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Stuck("the loops never end")),
      DEADLINE,
    );
  });
  try {
    await Promise.race([run, late]);
  } finally {
    clearTimeout(timer);
  }
}

class Theatre implements Stage {
  readonly net: SimNet;
  readonly maps: readonly ChannelMap[];
  readonly checker: Checker;
  readonly actors: Actor[] = [];
  readonly peers: RawPeer[] = [];
  finishing = false;
  /** Nothing counts any more. */
  over = false;
  /** Timers of the program's own. */
  sleeping = 0;
  /** What went wrong in the harness itself. */
  crash: unknown = undefined;
  readonly #program: Program;
  readonly #sites: Site[];
  readonly #listeners: SimListener[] = [];
  /** Ends by the port of the client: both ends of a connection know it. */
  readonly #ports = new Map<number, End>();
  #spawned = 0;

  constructor(program: Program, traced: boolean) {
    this.#program = program;
    this.net = new SimNet({ seed: program.seed, tick: program.tick });
    this.maps = [this.net.map, this.net.createMap()];
    this.checker = new Checker(
      () => this.net.now,
      [...this.maps],
      program.usePoll,
      traced,
    );
    this.#sites = [...program.servers, null].map((plan, i) => {
      const link: LinkOptions = plan?.link ?? {};
      const port = FIRST_PORT + i;
      this.net.setLink({ hostname: "127.0.0.1", port }, link);
      const faults = link.faults ?? [];
      return {
        plan,
        port,
        most: fast(link) ? Infinity : 40,
        book: Checker.server(
          !breaksConnections(faults),
          plan !== null && plan.backlog >= 10 &&
            !faults.some(({ on }) => on === "connect" || on === "accept"),
          link.window ?? 65_536,
        ),
      };
    });
  }

  get watches(): boolean {
    return this.#program.watches;
  }

  sleep(ms: number): Promise<void> {
    this.sleeping++;
    return this.net.sleep(ms).then(() => void this.sleeping--);
  }

  after(ms: number, run: () => void): void {
    this.sleep(ms).then(run).catch((error) => this.crash ??= error);
  }

  open(
    site: Site,
    options: Omit<ConstructorParameters<typeof End>[1], "server">,
  ): End {
    const end = new End(this.checker.ends.length, {
      ...options,
      server: site.book,
    });
    this.checker.ends.push(end);
    return end;
  }

  known(end: End, port: number): void {
    end.port = port;
    const other = this.#ports.get(port);
    if (other === undefined) this.#ports.set(port, end);
    else this.checker.pair(end, other);
  }

  spawn(to: number): void {
    const plan = this.#program.clients[0];
    if (plan === undefined || this.#spawned++ >= 3) return;
    this.client({ ...plan, to }, { ...plan.behaviour, on: {} });
  }

  client({ to, steps }: ClientPlan, behaviour: ClientPlan["behaviour"]): void {
    const site = this.#sites[to % this.#sites.length]!;
    if (steps === null) return new Actor(this, site, behaviour, null).connect();
    this.net.connect({ hostname: "127.0.0.1", port: site.port }).then(
      (conn) => {
        this.#peer(site, conn, (conn.localAddr as Deno.NetAddr).port, steps);
      },
      (error) => this.#refused(site, error),
    ).catch((error) => this.crash ??= error);
  }

  #refused(site: Site, error: unknown): void {
    this.checker.deed();
    if (site.book.answers && site.book.listens) {
      this.checker.broke(8, `a connect by hand failed with ${error}`);
    }
  }

  #peer(
    site: Site,
    conn: SimConn,
    port: number,
    steps: ClientPlan["steps"],
  ): void {
    const end = this.open(site, { library: false });
    const peer = new RawPeer(this.checker, conn, end, (ms) => this.sleep(ms));
    this.peers.push(peer);
    this.known(end, port);
    peer.play(steps ?? []).catch((error) => this.crash ??= error);
  }

  server(site: Site, plan: ServerPlan): void {
    if (plan.listener !== null) {
      return new Actor(this, site, plan.listener, null).listen();
    }
    const listener = this.net.listen({
      hostname: "127.0.0.1",
      port: site.port,
      tcpBacklog: plan.backlog,
    });
    this.#listeners.push(listener);
    site.book.listens = true;
    this.#accept(site, listener, plan).catch((error) => this.crash ??= error);
  }

  async #accept(
    site: Site,
    listener: SimListener,
    plan: ServerPlan,
  ): Promise<void> {
    while (site.book.listens) {
      let conn: SimConn;
      try {
        conn = await listener.accept() as SimConn;
      } catch {
        // An accept that failed by a fault, or the listener was closed.
        if (this.over || !site.book.listens) return;
        await this.sleep(1);
        continue;
      }
      this.#peer(
        site,
        conn,
        (conn.remoteAddr as Deno.NetAddr).port,
        plan.steps,
      );
    }
  }

  begin(): void {
    const { servers, clients, outside } = this.#program;
    servers.forEach((plan, i) => this.server(this.#sites[i]!, plan));
    for (const plan of clients) {
      if (plan.at === 0) this.client(plan, plan.behaviour);
      else this.after(plan.at, () => this.client(plan, plan.behaviour));
    }
    for (const step of outside) this.after(step.at, () => this.#outside(step));
    // Those that are accepted later, too.
    const behaviours = [
      ...this.actors.map(({ behaviour }) => behaviour),
      ...servers.flatMap(({ accepts }) => accepts),
    ];
    for (const { readable, writable } of behaviours) {
      for (const { also } of [readable, writable]) {
        if (also?.[0] !== "after") continue;
        this.after(also[1], () => {
          for (const map of this.maps) map.wake();
          this.checker.stirAll(null);
        });
      }
    }
  }

  #outside({ act }: Outside): void {
    const actor = this.actors[0];
    if (actor === undefined || this.finishing) return;
    this.checker.deed();
    actor.act(act, "outside");
  }

  /** Serves until nothing can happen. */
  async run(): Promise<void> {
    const { checker, net } = this;
    for (let runs = 0; runs < MOST_RUNS; runs++) {
      checker.serving();
      const before = this.maps.map((map) => checker.passOf(map));
      let error: unknown;
      let failed = false;
      try {
        await inTime(net.run({
          usePoll: this.#program.usePoll,
          maxTurns: MOST_TURNS,
        }));
      } catch (reason) {
        error = reason;
        failed = true;
      }
      if (this.crash !== undefined) throw this.crash;
      if (error instanceof Stuck) return checker.broke(13, error.message);
      checker.served(failed ? error : undefined);
      if (checker.breach !== null) return;
      this.maps.forEach((map, i) => {
        if (checker.passOf(map) - before[i]! >= MOST_PASSES) {
          checker.broke(13, `${MOST_PASSES} passes and no end`);
        }
      });
      if (!failed || checker.breach !== null) return;
    }
    checker.broke(11, `${MOST_RUNS} loops ended by ExitNow`);
  }

  /** Serves what is left as programs do, by `loop()`: it waits for what lingers. */
  async loops(): Promise<void> {
    const { checker } = this;
    const { usePoll } = this.#program;
    checker.serving();
    const loops = this.maps.map((map) => loop({ map, usePoll }));
    const settled = Promise.allSettled(loops);
    try {
      await inTime(settled);
      const results = await settled;
      const failed = results.filter(({ status }) => status === "rejected");
      if (failed.length === 0) checker.served();
      for (const each of failed) {
        checker.served((each as PromiseRejectedResult).reason);
      }
    } catch (error) {
      if (!(error instanceof Stuck)) throw error;
      checker.broke(13, error.message);
    }
    if (this.crash !== undefined) throw this.crash;
  }

  /** Takes away what holds things up. */
  settle(): void {
    this.finishing = true;
    const { checker } = this;
    for (const { seat } of this.actors) {
      if (seat.suspended) calls.enter(checker, seat, seat.map);
    }
    for (const map of this.maps) map.wake();
    checker.stirAll(null);
  }

  /** Closes everything. */
  close(): void {
    const { checker } = this;
    const { ending } = this.#program;
    this.actors.forEach(({ seat }, i) => {
      if (seat.end === null && !seat.listening) return;
      if (seat.end?.left) return;
      calls.close(
        checker,
        seat,
        ending === "abort" || (ending === "half" && i % 2 === 1)
          ? "abort"
          : "close",
      );
    });
    for (const listener of this.#listeners) {
      listener.close();
    }
    for (const { book } of this.#sites) {
      book.listens = false;
      book.gaveUp = true;
    }
  }
}

/** Plays a program. */
export async function play(program: Program, traced = false): Promise<Outcome> {
  const theatre = new Theatre(program, traced);
  const { checker, net } = theatre;
  const outcome = () => ({ breach: checker.breach, trace: checker.trace });
  try {
    theatre.begin();
    await theatre.run();
    if (checker.breach !== null) return outcome();
    checkAtRest(checker);
    if (checker.breach !== null) return outcome();
    theatre.settle();
    await theatre.run();
    if (checker.breach !== null) return outcome();
    checkAtRest(checker);
    checkDelivered(checker, "open");
    if (checker.breach !== null) return outcome();
    const start = net.now;
    theatre.close();
    await theatre.loops();
    if (checker.breach !== null) return outcome();
    checkLinger(checker, net.leaks(), net.now - start, theatre.sleeping);
    for (const peer of theatre.peers) peer.close();
    await theatre.run();
    if (checker.breach !== null) return outcome();
    checkDelivered(checker, "closed");
    checkGone(checker);
    for (const map of theatre.maps) {
      if (map.size > 0) {
        checker.broke(5, `${map.size} channels are left in a map`);
      }
    }
    const leaks = net.leaks();
    if (leaks.length > 0) {
      checker.broke(9, `left at the end: ${leaks.join(", ")}`);
    }
    return outcome();
  } finally {
    theatre.over = true;
    // What is stuck cannot be closed, either: it is left behind.
    await inTime(net[Symbol.asyncDispose]()).catch((error) => {
      if (!(error instanceof Stuck)) throw error;
      checker.broke(13, "the network cannot be closed");
    });
  }
}
