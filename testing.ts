/**
 * A network in memory, for tests of dispatchers: {@linkcode SimNet}. The loop, the dispatchers and their sockets are the real ones; what
 * is simulated is the system under them, and time.
 *
 * - **Unchanged code**: a dispatcher that is given the network's map runs as it is.
 * - **Virtual time**: it passes when nothing else can happen, by jumping to what happens next. A timeout of 30 s takes
 *   microseconds.
 * - **Any network**: latency, bandwidth, pieces of any size, and {@linkcode Fault}s.
 * - **Replay**: everything that is left to chance comes from a seed (mulberry32). The same seed gives the same run, on any machine.
 *
 * What the code under test does with the real world (files, real sockets, `setTimeout`) is no part of the simulation: time does not
 * wait for it.
 *
 * @example An echo server on a bad line
 * ```ts
 * import { Dispatcher } from "@asyncore/asyncore";
 * import { SimNet } from "@asyncore/asyncore/testing";
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
 *     new Echo(conn, { map: net.map });
 *   }
 * }
 *
 * await using net = new SimNet({ seed: 7, link: { latency: [10, 80], segmentSize: 1 } });
 * const server = new Server(null, { map: net.map });
 * server.createSocket();
 * server.bind({ port: 7 });
 * server.listen();
 *
 * const client = net.connect({ port: 7 }).then(async (conn) => {
 *   await conn.write(new TextEncoder().encode("hello"));
 *   await conn.closeWrite();
 *   const answer = await new Response(conn.readable).text();
 *   assertEquals(answer, "hello");
 * });
 * await net.run();
 * await client;
 * ```
 *
 * @module
 */

import { ChannelMap, selectorOf } from "./channel_map.ts";
import type { Clock } from "./clock.ts";
import { closeAll, loop } from "./loop.ts";
import type { LinkOptions } from "./testing/link.ts";
import { Random } from "./testing/random.ts";
import type { SimConn, SimDatagram, SimListener } from "./testing/peer.ts";
import type { Simulation } from "./testing/sim_conn.ts";
import { CountingPool, SimNetwork } from "./testing/sim_network.ts";
import {
  type ConnectTarget,
  type LinkTarget,
  type ListenTarget,
  SimSystem,
} from "./testing/sim_system.ts";
import { Trace, type TraceEntry } from "./testing/trace.ts";
import { VirtualClock } from "./testing/virtual_clock.ts";

export type {
  AcceptFault,
  ConnectFault,
  Fault,
  FaultOccurrence,
  LinkOptions,
  StreamFault,
} from "./testing/link.ts";
export type { Range } from "./testing/random.ts";
export type { SimConn, SimDatagram, SimListener } from "./testing/peer.ts";
export type {
  ConnectTarget,
  LinkTarget,
  ListenTarget,
} from "./testing/sim_system.ts";
export type { TraceEntry } from "./testing/trace.ts";

/** Turns of the simulation after which it is taken for one that never ends. */
const MAX_TURNS = 1_000_000;

/** Options of a {@linkcode SimNet}. */
export interface SimNetOptions {
  /**
   * Where all chance comes from: a whole number, of which the low 32 bits count.
   *
   * @default {the environment variable SIMNET_SEED, or else a fresh one}
   */
  readonly seed?: number;
  /**
   * How connections behave, unless {@linkcode SimNet.setLink} says otherwise.
   *
   * @default {perfectly}
   */
  readonly link?: LinkOptions;
  /**
   * How long a look at the clock takes, in milliseconds; the loop looks about once in each pass. With 0 code takes no time, unless it
   * never rests.
   *
   * @default {0}
   */
  readonly tick?: number;
}

/** Options of {@linkcode SimNet.run}. */
export interface RunOptions {
  /**
   * When to stop, in milliseconds since the start of the simulation.
   *
   * @default {Infinity}
   */
  readonly until?: number;
  /**
   * As for `loop()`.
   *
   * @default {false}
   */
  readonly usePoll?: boolean;
  /**
   * The longest wait of one pass, in virtual milliseconds. With a limit a loop never rests, so that `run()` needs `until` or a map
   * that gets empty.
   *
   * @default {Infinity}
   */
  readonly timeout?: number;
  /**
   * At most so many turns of the simulation: a run that takes more is taken for one that never ends.
   *
   * @default {1_000_000}
   */
  readonly maxTurns?: number;
}

/** See the module's documentation. */
export class SimNet implements AsyncDisposable {
  /** Where all chance comes from. */
  readonly seed: number;
  /** The map for the dispatchers under test. */
  readonly map: ChannelMap;
  readonly #simulation: Simulation;
  readonly #system: SimSystem;
  readonly #network: SimNetwork;
  readonly #pool = new CountingPool();
  readonly #trace: Trace;
  readonly #maps: ChannelMap[] = [];
  #running: Run | null = null;

  /**
   * Makes a network, at time 0.
   *
   * @param options See {@linkcode SimNetOptions}.
   * @throws {RangeError} If a number is out of range.
   * @throws {TypeError} If there is no such fault.
   */
  constructor(options: SimNetOptions = {}) {
    const { seed = anySeed(), link = {}, tick = 0 } = options;
    if (!Number.isInteger(seed)) {
      throw new RangeError(
        `Cannot simulate a network: the seed must be a whole number, got ${seed}`,
      );
    }
    if (!(tick >= 0)) {
      throw new RangeError(
        `Cannot simulate a network: tick must be 0 or more milliseconds, got ${tick}`,
      );
    }
    this.seed = seed;
    const random = new Random(seed);
    const clock = new VirtualClock(random, tick);
    this.#simulation = { clock, random, open: new Set(), operations: 0 };
    this.#system = new SimSystem(this.#simulation, link);
    this.#network = new SimNetwork(
      this.#simulation,
      this.#system,
      this.#pool,
    );
    this.#trace = new Trace(() => clock.time);
    this.map = this.createMap();
  }

  /** Makes another map on the network; {@linkcode SimNet.run} serves it, too. */
  createMap(): ChannelMap {
    const { clock } = this.#simulation;
    const map = new ChannelMap({ clock, network: this.#network });
    selectorOf(map).tracer = this.#trace;
    this.#maps.push(map);
    return map;
  }

  /** The clock of the maps. */
  get clock(): Clock {
    return this.#simulation.clock;
  }

  /** The time, in milliseconds since the start of the simulation. */
  get now(): number {
    return this.#simulation.clock.time;
  }

  /** What happened so far, in order. */
  get trace(): readonly TraceEntry[] {
    return this.#trace.entries;
  }

  /**
   * Gives a channel a name in the trace.
   *
   * @param channel A dispatcher, before its first event.
   * @param name The name.
   */
  name(channel: object, name: string): void {
    this.#trace.name(channel, name);
  }

  /**
   * Serves all maps until nothing can happen any more, or a certain time is reached. It can be called again.
   *
   * An async handler that has not settled can make something happen, so it is waited for.
   *
   * @param options See {@linkcode RunOptions}.
   * @throws {ExitNow} What a loop rejects with; the loops of the other maps are stopped.
   * @throws {Error} If it does not come to an end.
   * @throws {TypeError} If it is running already.
   */
  async run(options: RunOptions = {}): Promise<void> {
    if (this.#running !== null) {
      throw new TypeError("Cannot run the network: it is running already");
    }
    this.#running = new Run(this.#simulation.clock, this.#maps, options);
    try {
      await this.#running.result;
    } catch (error) {
      if (error !== this.#running.endless) throw error;
      throw new Error(
        `Cannot run the network: it does not come to an end (${replay(this)})`,
      );
    } finally {
      this.#running = null;
    }
  }

  /**
   * Waits.
   *
   * @param ms How long, in virtual milliseconds.
   */
  sleep(ms: number): Promise<void> {
    const { clock } = this.#simulation;
    return new Promise((resolve) =>
      void clock.setTimer(clock.time + ms, resolve)
    );
  }

  /**
   * Sets how later connections to an address behave, how accepting goes there from now on, and datagrams; the last call that fits
   * counts.
   *
   * @param to Which address.
   * @param options How.
   * @throws {RangeError} If a number is out of range.
   * @throws {TypeError} If there is no such fault.
   */
  setLink(to: LinkTarget, options: LinkOptions): void {
    this.#system.setLink(to, options);
  }

  /**
   * Connects by hand, as `Deno.connect` does.
   *
   * @param addr Where to; without a host name, `127.0.0.1`. A name is whatever a listener was bound to.
   * @returns The connection.
   */
  connect(addr: ConnectTarget): Promise<SimConn> {
    return this.#system.connect(addr);
  }

  /**
   * Listens by hand, as `Deno.listen` does.
   *
   * @param addr Where; port 0 lets the network choose.
   * @returns The listener.
   * @throws {Deno.errors.AddrInUse} If somebody listens there.
   */
  listen(addr: ListenTarget): SimListener {
    return this.#system.listen(addr);
  }

  /**
   * Makes a socket for datagrams by hand, as `Deno.listenDatagram` does for UDP.
   *
   * @param addr Where; port 0 lets the network choose.
   * @returns The socket.
   * @throws {Deno.errors.AddrInUse} If somebody is there.
   */
  listenDatagram(addr: { hostname?: string; port: number }): SimDatagram {
    return this.#system.listenDatagram(addr);
  }

  /**
   * What is still there that a program which has ended leaves behind: open sockets, operations that did not settle, timers, buffers that
   * did not come back.
   *
   * @returns One line for each kind; none if all is clean.
   */
  leaks(): string[] {
    const { open, operations, clock } = this.#simulation;
    const lingering = this.#maps.reduce(
      (sum, map) => sum + selectorOf(map).lingering,
      0,
    );
    return [
      ...[...open].map((each) => `open: ${Deno.inspect(each, { depth: 1 })}`),
      ...counted("sockets that linger", lingering),
      ...counted("operations in flight", operations),
      ...counted("timers", clock.timers),
      ...counted("buffers in use", this.#pool.out),
    ];
  }

  /**
   * Closes every map, gives what lingers its time, then closes everything else that is open.
   *
   * @throws {AggregateError} If a channel's `close()` throws.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const { clock, open } = this.#simulation;
    const errors: unknown[] = [];
    for (const map of this.#maps) {
      const closed = closeAll({ map }).catch((error) =>
        void errors.push(error)
      );
      // Nothing that could end it may be left, such as the peer of a socket that lingers.
      await Promise.race([closed, clock.quiet()]);
    }
    for (const each of open) each.close();
    await clock.quiet();
    clock.stop();
    if (errors.length > 0) {
      throw new AggregateError(errors, "Cannot close the network");
    }
  }
}

function counted(what: string, n: number): string[] {
  return n === 0 ? [] : [`${what}: ${n}`];
}

/** One run: a loop for each map, and again when an empty one gets a channel. */
class Run {
  readonly result: Promise<void>;
  /** What the result is rejected with if it does not end. */
  readonly endless = new Error("Cannot run the network: too many turns");
  readonly #clock: VirtualClock;
  readonly #maps: readonly ChannelMap[];
  readonly #options: RunOptions;
  readonly #controller = new AbortController();
  readonly #served = new Map<ChannelMap, Promise<void>>();
  readonly #lastTurn: number;
  readonly #stopped = Promise.withResolvers<void>();
  #failure: { error: unknown } | null = null;
  #over = false;

  constructor(
    clock: VirtualClock,
    maps: readonly ChannelMap[],
    options: RunOptions,
  ) {
    this.#clock = clock;
    this.#maps = maps;
    this.#options = options;
    this.#lastTurn = clock.turns + (options.maxTurns ?? MAX_TURNS);
    this.result = this.#run();
  }

  async #run(): Promise<void> {
    const clock = this.#clock;
    const { until = Infinity } = this.#options;
    const end = clock.setTimer(until, () => this.#stop());
    clock.onTurn = () => this.#onTurn();
    this.#serve();
    while (!this.#over) {
      await Promise.race([clock.quiet(), this.#stopped.promise]);
      if (this.#serve()) continue;
      // A handler may wait for the real world, or for whoever called.
      if (!this.#maps.some(isUnsettled)) break;
    }
    this.#stop();
    await Promise.all(this.#served.values());
    clock.onTurn = null;
    clock.clearTimer(end);
    if (this.#failure !== null) throw this.#failure.error;
  }

  #onTurn(): boolean {
    if (this.#clock.turns > this.#lastTurn) this.#fail(this.endless);
    return this.#serve();
  }

  /** Starts a loop for each map that has something to serve. Returns whether there was one. */
  #serve(): boolean {
    if (this.#over) return false;
    let found = false;
    const { usePoll = false, timeout = Infinity } = this.#options;
    const { signal } = this.#controller;
    for (const map of this.#maps) {
      if (this.#served.has(map) || !hasWork(map)) continue;
      const served = loop({ map, usePoll, timeout, signal }).then(
        () => void this.#served.delete(map),
        (error) => this.#fail(error),
      );
      this.#served.set(map, served);
      found = true;
    }
    return found;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop();
  }

  #stop(): void {
    this.#over = true;
    this.#stopped.resolve();
    this.#controller.abort();
  }
}

function hasWork(map: ChannelMap): boolean {
  const { registrations, rejections, lingering, unsettled } = selectorOf(map);
  return registrations.size > 0 || rejections.length > 0 || lingering > 0 ||
    unsettled > 0;
}

function isUnsettled(map: ChannelMap): boolean {
  return selectorOf(map).unsettled > 0;
}

// Seeds.

const SEED_VARIABLE = "SIMNET_SEED";

/** The seed that the environment asks for. */
function askedSeed(): number | undefined {
  const permission = { name: "env", variable: SEED_VARIABLE } as const;
  // Asking the environment itself would ask the user.
  if (Deno.permissions.querySync(permission).state !== "granted") return;
  const text = Deno.env.get(SEED_VARIABLE);
  return text === undefined ? undefined : Number(text);
}

function anySeed(): number {
  return askedSeed() ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
}

function replay({ seed }: SimNet): string {
  return `seed ${seed}; to replay it: ${SEED_VARIABLE}=${seed} deno test --allow-env=${SEED_VARIABLE}`;
}

/** Options of {@linkcode forSeeds}. */
export interface ForSeedsOptions extends Omit<SimNetOptions, "seed"> {
  /**
   * The first seed; each further run has the next one.
   *
   * @default {a fresh one}
   */
  readonly seed?: number;
  /**
   * How many runs; one if the environment variable SIMNET_SEED names the seed.
   *
   * @default {100}
   */
  readonly runs?: number;
}

/**
 * Runs a test on many networks, one for each seed. If it fails, the error says with which seed and how to replay that run alone.
 *
 * @param test What to run. The network is closed afterwards.
 * @param options See {@linkcode ForSeedsOptions}.
 * @throws {Error} If a run fails; `cause` is what it threw.
 *
 * @example
 * ```ts
 * import { forSeeds } from "@asyncore/asyncore/testing";
 * import { assert } from "@std/assert";
 *
 * await forSeeds(async (net) => {
 *   await net.sleep(30_000);
 *   assert(net.now >= 30_000);
 * }, { seed: 1, runs: 10 });
 * ```
 */
export async function forSeeds(
  test: (net: SimNet) => void | Promise<void>,
  options: ForSeedsOptions = {},
): Promise<void> {
  const asked = askedSeed();
  const { seed: first = anySeed(), runs = 100, ...rest } = options;
  const seeds = asked === undefined
    ? Array.from({ length: runs }, (_, i) => first + i)
    : [asked];
  for (const [i, seed] of seeds.entries()) {
    const net = new SimNet({ ...rest, seed });
    try {
      await using _ = net;
      await test(net);
    } catch (cause) {
      throw new Error(
        `Run ${i + 1} of ${seeds.length} failed: ${cause} (${replay(net)})`,
        { cause },
      );
    }
  }
}
