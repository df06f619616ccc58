/**
 * Random programs, as fast-check makes and shrinks them.
 *
 * @module
 */

import * as fc from "fast-check";
import type { Fault, LinkOptions } from "../../testing.ts";
import type {
  Act,
  Behaviour,
  ClientPlan,
  Outcome,
  Outside,
  Predicate,
  Program,
  Reaction,
  Script,
  ServerPlan,
  Step,
  Verb,
} from "./program.ts";

type Arb<T> = fc.Arbitrary<T>;

/** One of several, the first being the simplest. */
function weighted<T>(...cases: [weight: number, arbitrary: Arb<T>][]): Arb<T> {
  return fc.oneof(
    { withCrossShrink: true },
    ...cases.map(([weight, arbitrary]) => ({ weight, arbitrary })),
  );
}

function among<T>(...values: T[]): Arb<T> {
  return fc.constantFrom(...values);
}

const who = weighted([4, fc.constant(0)], [1, fc.integer({ min: 0, max: 5 })]);
const size = weighted<number>(
  [12, fc.integer({ min: 0, max: 9 })],
  [4, fc.integer({ min: 10, max: 40 })],
  [1, fc.integer({ min: 41, max: 200 })],
);
/** Sent at a time; the most is more than the system's buffers take. */
const load = weighted<number>([20, size], [1, fc.constant(65_000)]);
const time = fc.integer({ min: 0, max: 20 });

function act(
  verbs: readonly Verb[],
  n: Arb<number>,
  to: Arb<number> = who,
): Arb<Act> {
  return fc.tuple(among(...verbs), n, to);
}

const act_: Arb<Act> = weighted<Act>(
  [6, act(["recv", "recvInto", "recvView"], size, fc.constant(0))],
  [6, act(["send"], load)],
  [2, act(["wantRead", "wantWrite"], fc.integer({ min: 0, max: 1 }))],
  [1, act(["wake", "wakeMap", "signal"], fc.constant(0))],
  [
    2,
    act(
      ["close", "abort", "shutdown", "disconnect"],
      fc.integer({ min: 0, max: 5 }),
    ),
  ],
  [1, act(["suspend", "move"], time)],
  [1, act(["spawn"], fc.integer({ min: 0, max: 3 }))],
  [1, act(["super"], fc.constant(0))],
);

const outcome: Arb<Outcome> = weighted<Outcome>(
  [12, fc.constant("return")],
  [2, fc.constant("throw")],
  [1, fc.constant("exit")],
);

const wait: Arb<number | "signal"> = weighted<number | "signal">(
  [4, fc.integer({ min: -4, max: 0 })],
  [4, fc.integer({ min: 1, max: 20 })],
  [1, fc.constant("signal")],
);

const acts = fc.array(act_, { maxLength: 3 });

const reaction: Arb<Reaction> = weighted<Reaction>(
  [5, fc.record({ acts, outcome })],
  [1, fc.record({ acts, wait, later: acts, outcome })],
);

const reopening: Arb<Reaction> = fc.record({
  acts: acts.map((before): Act[] => [...before, ["reopen", 0, 0]]),
  outcome,
});

const script: Arb<Script> = fc.record({
  connect: fc.array(reaction, { maxLength: 1 }),
  read: fc.array(reaction, { maxLength: 3 }),
  write: fc.array(reaction, { maxLength: 3 }),
  expt: fc.array(reaction, { maxLength: 1 }),
  eof: fc.array(reaction, { maxLength: 1 }),
  close: fc.array(weighted([2, reaction], [1, reopening]), { maxLength: 1 }),
  error: fc.array(reaction, { maxLength: 1 }),
}, { requiredKeys: [] });

const predicate: Arb<Predicate> = weighted<Predicate>(
  [
    6,
    fc.record({
      want: weighted([5, fc.constant(true)], [1, fc.constant(false)]),
    }),
  ],
  [
    1,
    fc.record({
      want: fc.constant(true),
      also: weighted<NonNullable<Predicate["also"]>>(
        [1, fc.tuple(fc.constant("room" as const), size)],
        [1, fc.tuple(fc.constant("received" as const), size, who)],
        [1, fc.tuple(fc.constant("after" as const), time)],
      ),
    }),
  ],
  [
    1,
    fc.record({
      want: fc.constant(true),
      fails: fc.tuple(
        fc.integer({ min: 0, max: 6 }),
        among("throw" as const, "exit" as const, "promise" as const),
      ),
    }),
  ],
);

const behaviour: Arb<Behaviour> = fc.record({
  withSend: weighted([3, fc.constant(false)], [1, fc.constant(true)]),
  overrides: weighted<Behaviour["overrides"]>(
    [6, fc.constant("all")],
    [1, fc.constant("handlers")],
    [1, fc.constant("some")],
  ),
  sendBufferSize: weighted<number>(
    [2, fc.constant(262_144)],
    [2, fc.integer({ min: 1, max: 64 })],
  ),
  lingerTimeout: weighted<number>([5, fc.constant(10_000)], [1, among(0, 5)]),
  map: weighted([3, fc.constant(0)], [1, fc.constant(1)]),
  readable: predicate,
  writable: predicate,
  talk: fc.tuple(size, fc.integer({ min: 1, max: 40 })),
  takes: weighted<number>(
    [2, fc.constant(65_536)],
    [1, fc.integer({ min: 1, max: 9 })],
  ),
  on: script,
  logThrows: weighted([9, fc.constant(false)], [1, fc.constant(true)]),
});

const listener: Arb<Behaviour> = fc.record({
  withSend: fc.constant(false),
  overrides: weighted<Behaviour["overrides"]>([3, fc.constant("all")], [
    1,
    fc.constant("some"),
  ]),
  sendBufferSize: fc.constant(262_144),
  lingerTimeout: fc.constant(10_000),
  map: weighted([3, fc.constant(0)], [1, fc.constant(1)]),
  readable: predicate,
  writable: fc.constant({ want: false }),
  talk: fc.constant([0, 1] as const),
  takes: fc.constant(1),
  on: fc.record({
    accepted: fc.array(reaction, { maxLength: 3 }),
    error: fc.array(reaction, { maxLength: 1 }),
  }, { requiredKeys: [] }),
  logThrows: fc.constant(false),
});

const step: Arb<Step> = weighted<Step>(
  [4, fc.tuple(fc.constant("write" as const), size)],
  [3, fc.tuple(fc.constant("read" as const), size)],
  [2, fc.tuple(fc.constant("sleep" as const), time)],
  [1, fc.constant(["closeWrite"] as const)],
  [1, fc.constant(["close"] as const)],
  [1, fc.constant(["reset"] as const)],
  [1, fc.constant(["urgent"] as const)],
  [1, fc.constant(["hold"] as const)],
);

const steps = fc.array(step, { maxLength: 5 });

const fault: Arb<Fault> = weighted<Fault>(
  [
    1,
    fc.record({
      on: fc.constant("connect" as const),
      what: among("refused", "unreachable", "unanswered", "notFound", "denied"),
      times: fc.integer({ min: 1, max: 2 }),
    }),
  ],
  [
    1,
    fc.record({
      on: fc.constant("accept" as const),
      what: among("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"),
      times: fc.integer({ min: 1, max: 2 }),
    }),
  ],
  [
    2,
    fc.record({
      on: among("toServer" as const, "toClient" as const),
      what: among<"reset" | "stall" | "end" | "writeError" | "urgent">(
        "reset",
        "stall",
        "end",
        "writeError",
        "urgent",
      ),
      at: fc.integer({ min: 0, max: 100 }),
      for: fc.integer({ min: 1, max: 50 }),
      times: fc.integer({ min: 1, max: 2 }),
    }).map(({ for: ms, ...fault }): Fault =>
      fault.what === "stall" ? { ...fault, for: ms } : fault
    ),
  ],
);

const few: Arb<number | readonly [number, number]> = among<
  number | readonly [number, number]
>(
  1,
  [1, 9],
  [5, 100],
  1_000,
);

const link: Arb<LinkOptions> = weighted<LinkOptions>(
  [2, fc.constant({})],
  [
    5,
    fc.record({
      latency: among<number | readonly [number, number]>(0, 1, [0, 3], [
        0.1,
        10,
      ]),
      connectLatency: among<number | readonly [number, number]>(0, 5, [0, 10]),
      bandwidth: among(10_000, 1_000_000),
      segmentSize: few,
      readSize: few,
      writeSize: few,
      window: among(1, 10, 100, 65_536),
      faults: weighted<readonly Fault[]>(
        [2, fc.constant([])],
        [1, fc.array(fault, { maxLength: 2 })],
      ),
    }, { requiredKeys: [] }),
  ],
);

const server: Arb<ServerPlan> = fc.record({
  listener: weighted<Behaviour | null>([5, listener], [1, fc.constant(null)]),
  backlog: weighted([5, fc.constant(128)], [1, fc.integer({ min: 1, max: 3 })]),
  accepts: fc.array(behaviour, { minLength: 1, maxLength: 2 }),
  adopts: weighted<ServerPlan["adopts"]>(
    [3, fc.constant(["before"] as const)],
    [
      1,
      fc.array(among("before" as const, "after" as const, "never" as const), {
        minLength: 1,
        maxLength: 3,
      }),
    ],
  ),
  steps,
  link,
});

const client: Arb<ClientPlan> = fc.record({
  to: weighted([8, fc.integer({ min: 0, max: 2 })], [
    1,
    fc.integer({ min: 0, max: 3 }),
  ]),
  at: weighted([3, fc.constant(0)], [1, time]),
  behaviour,
  steps: weighted<readonly Step[] | null>([3, fc.constant(null)], [1, steps]),
});

const outside: Arb<Outside> = fc.record({
  at: time,
  act: fc.tuple(
    among<Verb>(
      "wake",
      "wakeMap",
      "send",
      "close",
      "abort",
      "shutdown",
      "disconnect",
      "wantRead",
      "wantWrite",
      "suspend",
      "move",
      "reopen",
      "spawn",
      "signal",
    ),
    fc.integer({ min: 0, max: 40 }),
    fc.integer({ min: 0, max: 6 }),
  ),
});

/** Programs. */
export const program: Arb<Program> = fc.record({
  seed: fc.nat({ max: 0x7FFFFFFF }),
  tick: weighted([3, fc.constant(0)], [1, fc.constant(0.001)]),
  usePoll: fc.boolean(),
  watches: fc.boolean(),
  servers: fc.array(server, { minLength: 1, maxLength: 3 }),
  clients: fc.array(client, { minLength: 1, maxLength: 4 }),
  outside: fc.array(outside, { maxLength: 3 }),
  ending: among("close" as const, "abort" as const, "half" as const),
});
