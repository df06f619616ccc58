/**
 * Runs the conformance scenarios on this repository's module, as driver.py runs
 * them on CPython's asyncore. README.md says what the words of scenarios.json
 * mean and how a trace is folded.
 *
 *     deno run -A tests/conformance/driver.ts [--only TEXT]
 *
 * prints the traces as JSON.
 *
 * @module
 */

import {
  AsyncChat,
  type ChannelMap,
  closeAll,
  Dispatcher,
  DispatcherWithSend,
  ExitNow,
  loop,
  poll,
} from "../../mod.ts";
import { act, Boom, type Channel, type Stage } from "./actions.ts";
import { bytesOf, isPatterned, patterned } from "./bytes.ts";
import {
  closeMethod,
  frameMethods,
  logMethods,
  setUpFrames,
} from "./methods.ts";
import { Peers } from "./peers.ts";
import { type Address, type Place, SystemPlace } from "./place.ts";
import {
  type Action,
  type ChannelSpec,
  FRAME_EVENTS,
  type Mode,
  type Scenario,
  SCENARIOS,
  type Trace,
  type Traces,
} from "./scenario.ts";
import { FoldedTrace } from "./trace.ts";

/** Milliseconds; reached only by a scenario that hangs, which is a failure. */
const DEADLINE = 30_000;
/** A scenario has settled after so many passes without a new line. */
const QUIET_PASSES = 8;
/** And does not settle if that has not happened by then. */
const MAX_PASSES = 400;

/** What a channel is made of; a dispatcher, unless the scenario says more. */
const BASES = { with_send: DispatcherWithSend, async_chat: AsyncChat };

/** One run of one scenario. */
class World implements Stage {
  readonly #trace = new FoldedTrace();
  /** Errors that both drivers merely call "failure". */
  readonly failures: string[] = [];
  readonly #scenario: Scenario;
  readonly #usePoll: boolean;
  readonly #place: Place;
  readonly flags: Record<string, boolean>;
  readonly #maps = new Map<string, ChannelMap>();
  #map: ChannelMap;
  readonly #channels = new Map<string, Channel>();
  readonly #labels = new Map<unknown, string>();
  readonly #peers: Peers;
  readonly #late = new AbortController();

  private constructor(scenario: Scenario, mode: Mode, place: Place) {
    this.#scenario = scenario;
    this.#usePoll = mode === "poll";
    this.#place = place;
    this.flags = { ...scenario.flags };
    this.#map = this.#useMap("main");
    this.#peers = new Peers(
      place,
      (who, what) => this.trace(who, what),
      (target) => this.addressOf(target),
    );
  }

  static async run(
    scenario: Scenario,
    mode: Mode,
    place: Place,
  ): Promise<World> {
    const world = new World(scenario, mode, place);
    const timer = setTimeout(() => world.#giveUp(), DEADLINE);
    try {
      for (const [subject, ...action] of scenario.steps) {
        await world.#step(subject, action);
        await place.arrival();
      }
    } catch (cause) {
      throw new Error(
        `Cannot run the scenario: ${cause}; so far ${
          JSON.stringify(world.lines)
        }`,
        { cause },
      );
    } finally {
      clearTimeout(timer);
      await world.#tidy();
    }
    return world;
  }

  /** Ends every wait of the scenario. */
  #giveUp(): void {
    this.#late.abort(new Error("It took too long"));
    this.#peers.close();
  }

  async #tidy(): Promise<void> {
    // Peers first, so that no channel lingers for one.
    this.#peers.close();
    for (const map of this.#maps.values()) {
      await closeAll({ map, ignoreAll: true });
    }
    // Not in a map: taken out, or never in one.
    for (const { dispatcher } of this.#channels.values()) dispatcher.abort();
    await this.#place.close();
  }

  get folder(): string {
    return this.#place.folder;
  }

  // The trace.

  get lines(): Trace {
    return this.#trace.lines;
  }

  trace(who: string, what: string): void {
    this.#trace.add(who, what);
  }

  /** The words that both drivers have for an error. */
  #describe(error: unknown): string {
    if (error instanceof Boom) return error.message;
    if (error instanceof ExitNow) return "ExitNow";
    if (error instanceof Deno.errors.ConnectionRefused) return "refused";
    if (error instanceof Deno.errors.ConnectionReset) return "reset";
    if (error instanceof Deno.errors.BrokenPipe) return "reset";
    if (error instanceof Deno.errors.NotFound) return "not found";
    if (error instanceof Deno.errors.WouldBlock) return "would block";
    if (error instanceof RangeError) return "out of range";
    if (error instanceof AggregateError) {
      return error.errors.map((each) => this.#describe(each)).join(", ");
    }
    this.failures.push(error instanceof Error ? `${error.stack}` : `${error}`);
    return "failure";
  }

  // Steps.

  async #step(subject: string, action: Action): Promise<void> {
    const { channels } = this.#scenario;
    if (subject === "loop") return await this.#loopStep(action);
    if (!(subject in channels) && !this.#channels.has(subject)) {
      return await this.#peers.step(subject, action);
    }
    if (action[0] === "pair") {
      // The channel adopts the near end of a new connection; its far end is the peer.
      const [, peer, family] = action as [string, string, string?];
      this.newChannel(subject, await this.#connectPair(peer, family));
      return;
    }
    try {
      act(this, this.channel(subject), [action]);
    } catch (error) {
      this.trace(subject, `raised ${this.#describe(error)}`);
    }
  }

  /** A connection whose far end is the peer. */
  #connectPair(peer: string, family?: string): Promise<Deno.Conn> {
    const { steps } = this.#scenario;
    const resets = steps.some(([name, verb]) =>
      name === peer && verb === "reset"
    );
    return resets && family === undefined
      ? this.#peers.breakablePair(peer)
      : this.#peers.connectPair(peer, family);
  }

  async #loopStep([verb, ...args]: Action): Promise<void> {
    switch (verb) {
      case "pass":
        return await this.#caught(() => this.#passes(Number(args[0] ?? 1)));
      case "settle":
        return await this.#caught(() => this.#settle());
      case "trickle":
        return await this.#caught(() =>
          this.#trickle(args[0] as string, args[1] as string, Number(args[2]))
        );
      case "run":
        return await this.#caught(() =>
          this.#run(args[0] as number | undefined)
        );
      case "closeAll": {
        const ignoreAll = args[0] === true;
        return await this.#caught(() =>
          closeAll({ map: this.#map, ignoreAll })
        );
      }
      case "channels":
        return this.#traceChannels();
      case "map":
        this.#map = this.#useMap(args[0] as string);
        return;
      case "set":
        this.flags[args[0] as string] = args[1] as boolean;
        // Code outside a handler that changes what a predicate sees says so.
        this.#map.wake();
        return;
      case "drain":
        return await this.#drain(args[0] as string, Number(args[1]));
      case "feed":
        return await this.#feed(
          args[0] as string,
          Number(args[1]),
          args[2] as string,
        );
      default:
        throw new TypeError(`Cannot run the loop: no verb "${verb}"`);
    }
  }

  async #caught(serve: () => Promise<void>): Promise<void> {
    try {
      await serve();
    } catch (error) {
      this.#late.signal.throwIfAborted();
      if (error instanceof ExitNow) this.trace("loop", "ExitNow");
      else this.trace("loop", `raised ${this.#describe(error)}`);
    }
  }

  async onePass(): Promise<void> {
    this.#late.signal.throwIfAborted();
    await poll(0, this.#map, { usePoll: this.#usePoll });
  }

  async #passes(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.onePass();
      await this.#place.arrival();
    }
  }

  async #settle(): Promise<void> {
    let quiet = 0;
    for (let i = 0; i < MAX_PASSES; i++) {
      const before = this.lines.length;
      await this.#passes(1);
      quiet = this.lines.length === before ? quiet + 1 : 0;
      if (quiet === QUIET_PASSES) return;
    }
    this.#late.abort(new Error("It does not settle"));
    this.#late.signal.throwIfAborted();
  }

  async #trickle(peer: string, text: string, size: number): Promise<void> {
    for (let at = 0; at < text.length; at += size) {
      await this.#peers.send(peer, bytesOf(text.slice(at, at + size)));
      await this.#place.arrival();
      await this.#settle();
    }
  }

  async #run(count = Infinity): Promise<void> {
    await loop({
      timeout: 50,
      usePoll: this.#usePoll,
      map: this.#map,
      count,
      signal: this.#late.signal,
    });
    this.#late.signal.throwIfAborted();
    this.trace("loop", "ended");
  }

  #traceChannels(): void {
    const names = [...this.#map].map((each) => this.#labels.get(each)).sort();
    this.trace("loop", ["channels", ...names].join(" "));
  }

  #useMap(name: string): ChannelMap {
    const map = this.#maps.get(name) ?? this.#place.createMap();
    this.#maps.set(name, map);
    return map;
  }

  /** Serves until `done`, which something else brings about, is settled. */
  async #serveUntil(done: Promise<unknown>): Promise<void> {
    let settled = false;
    const settle = () => {
      settled = true;
    };
    done.then(settle, settle);
    // A pass over an empty map does not let the event loop have a turn.
    while (!settled && this.#map.size > 0) await this.onePass();
  }

  async #drain(name: string, size: number): Promise<void> {
    let intact = true;
    const reading = this.#peers.receive(name, size, (piece, start) => {
      intact &&= isPatterned(piece, start);
    });
    await this.#serveUntil(reading);
    await reading;
    this.trace(name, `got ${size} bytes ${intact ? "intact" : "damaged"}`);
  }

  async #feed(name: string, size: number, reader: string): Promise<void> {
    const channel = this.channel(reader);
    const writing = this.#peers.send(name, patterned(size));
    await this.#serveUntil(writing);
    await writing;
    while (channel.total < size) await this.onePass();
  }

  /** Where a channel or a peer listens; "nobody" and "nowhere" are places where none does. */
  addressOf(target: string): Address {
    if (target === "nobody") return this.#place.nobody;
    if (target === "nowhere") {
      return { transport: "unix", path: `${this.folder}/nowhere.sock` };
    }
    const channel = this.#channels.get(target);
    const address = channel?.dispatcher.addr ?? this.#peers.address(target);
    if (address === undefined) {
      throw new TypeError(`Cannot find listener: nobody is named "${target}"`);
    }
    return address as Address;
  }

  // Channels.

  channel(name: string): Channel {
    return this.#channels.get(name) ?? this.newChannel(name);
  }

  /** Makes the channel `name`, or its second, third … instance, named name2, name3 … */
  newChannel(name: string, conn: Deno.Conn | null = null): Channel {
    const spec = this.#scenario.channels[name];
    if (spec === undefined) {
      throw new TypeError(`Cannot make channel: none is named "${name}"`);
    }
    let label = name;
    for (let i = 2; this.#channels.has(label); i++) label = `${name}${i}`;
    const Base = spec.type === undefined ? Dispatcher : BASES[spec.type];
    const Class = this.#classOf(Base, label, spec);
    const channel: Channel = {
      label,
      dispatcher: new Class(conn, { map: this.#map }),
      buffer: bytesOf(spec.buffer),
      total: 0,
      intact: true,
      ran: new Set(),
    };
    this.#channels.set(label, channel);
    this.#labels.set(channel.dispatcher, label);
    this.#place.name(channel.dispatcher, label);
    if (channel.dispatcher instanceof AsyncChat) {
      setUpFrames(channel.dispatcher, spec);
    }
    return channel;
  }

  /** A channel's class: with only what the scenario overrides, for the other methods are under test, too. */
  #classOf(
    Base: typeof Dispatcher,
    label: string,
    spec: ChannelSpec,
  ): typeof Dispatcher {
    const Class = class extends Base {};
    const methods = {
      ...logMethods(Base, (what) => this.trace(label, what)),
      ...this.#handlers(label, spec.on ?? {}),
      ...frameMethods(spec.on ?? {}, (what, actions) => {
        this.trace(label, what);
        act(this, this.channel(label), actions);
      }),
      ...this.#predicates(label, spec),
      ...spec.closeRaises && closeMethod(Base, spec.closeRaises),
    };
    for (const [name, value] of Object.entries(methods)) {
      Object.defineProperty(Class.prototype, name, { value, writable: true });
    }
    if (!spec.logsAll) return Class;
    return class extends Class {
      override ignoreLogTypes = new Set<string>();
    };
  }

  #handlers(
    label: string,
    on: NonNullable<ChannelSpec["on"]>,
  ): Record<string, unknown> {
    const methods: Record<string, unknown> = {};
    for (const [event, actions] of Object.entries(on)) {
      if (FRAME_EVENTS.has(event)) continue;
      const play = (what: string, conn?: Deno.Conn) => {
        this.trace(label, what);
        act(this, this.channel(label), actions, conn);
      };
      const name = `handle${event[0]!.toUpperCase()}${event.slice(1)}`;
      if (event === "accepted") {
        methods[name] = (conn: Deno.Conn) => play(event, conn);
      } else if (event === "error") {
        methods[name] = (error: unknown) =>
          play(`error ${this.#describe(error)}`);
      } else methods[name] = () => play(event);
    }
    return methods;
  }

  #predicates(label: string, spec: ChannelSpec): Record<string, unknown> {
    const methods: Record<string, unknown> = {};
    for (const predicate of ["readable", "writable"] as const) {
      const rule = spec[predicate];
      if (rule === undefined) continue;
      methods[predicate] = () => this.#answer(label, rule);
    }
    return methods;
  }

  #answer(label: string, rule: boolean | string): boolean {
    if (typeof rule === "boolean") return rule;
    const channel = this.channel(label);
    if (rule === "buffer") return channel.buffer.length > 0;
    if (rule.startsWith("flag:")) return this.flags[rule.slice(5)]!;
    if (rule !== "exit" && !rule.startsWith("raise:")) {
      throw new TypeError(`Cannot answer: no predicate "${rule}"`);
    }
    if (channel.ran.has(rule)) return true;
    channel.ran.add(rule);
    throw rule === "exit" ? new ExitNow() : new Boom(rule.slice(6));
  }
}

/**
 * Runs a scenario on our module.
 *
 * @param scenario The scenario.
 * @param mode How a pass goes.
 * @param place Where; on the system's network, unless another one is given.
 * @returns Its trace, and the errors of which the trace only says "failure".
 * @throws {Error} If the scenario hangs or does not settle.
 */
export async function runScenario(
  scenario: Scenario,
  mode: Mode,
  place?: Place,
): Promise<{ trace: Trace; failures: readonly string[] }> {
  const { lines, failures } = await World.run(
    scenario,
    mode,
    place ?? await SystemPlace.open(),
  );
  return { trace: lines, failures };
}

if (import.meta.main) {
  const only = Deno.args[0] === "--only" ? Deno.args[1] ?? "" : "";
  const traces: Record<string, Traces> = {};
  for (const scenario of SCENARIOS) {
    if (!scenario.name.includes(only)) continue;
    const { trace: select } = await runScenario(scenario, "select");
    const { trace: poll } = await runScenario(scenario, "poll");
    const same = JSON.stringify(select) === JSON.stringify(poll);
    traces[scenario.name] = same ? { both: select } : { select, poll };
  }
  console.log(JSON.stringify({ deno: Deno.version.deno, traces }, null, 2));
}
