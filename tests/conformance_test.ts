/**
 * The scenarios of conformance/ give the same traces on this module as on
 * CPython's asyncore, but for the differences that are named here. CPython's
 * are recorded in conformance/traces.json.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { VERBS } from "./conformance/actions.ts";
import { runScenario } from "./conformance/driver.ts";
import { findPython, record, type Recording } from "./conformance/record.ts";
import {
  type Action,
  type Difference,
  type Mode,
  MODES,
  type Scenario,
  SCENARIOS,
  type Trace,
  type Traces,
} from "./conformance/scenario.ts";
import data from "./conformance/traces.json" with { type: "json" };

const recording = data as Recording;

/**
 * Where we differ from CPython on purpose, by the number of the contract's line.
 * A scenario's `differs` names one or more of them; any other difference is a
 * bug.
 */
const DIFFERENCES: Readonly<Record<string, string>> = {
  "1": "no handler runs inside a call",
  "2": "predicates are asked again right before the handler",
  "3": "the order of completion, not of the map",
  "4": "a pass serves a snapshot, one event of a kind per channel",
  "5": "after close() no handler runs; channels are known by identity",
  "6": "handleClose runs once, last in the pass, and the socket is closed",
  "7": "an end of file is a read event with no data, then handleEof",
  "8": "connected is true in handleConnect; a failed connect is one error",
  "9": "send() fills a buffer, and never calls handleClose",
  "10": "recv() returns 0 bytes, and never calls handleClose",
  "11": "one channel's trouble never ends the loop; a listener survives it",
  "12": "handlers may return promises",
  "13": "no progress, no retry",
  "14": "code outside the loop says when a predicate may have changed",
  "15": "a pass costs what is ready, not what is open",
  "16": "sockets do not hold the process, the loop does",
  "17": "an accepted connection has an owner",
  "18": "delChannel() suspends, addChannel() resumes",
  "closeAll": "closes all, then throws",
  "nested": "a map that is being served cannot be served again",
};

/** The lines of each channel, peer or loop by themselves, whatever lies between. */
function bySubject(trace: Trace): Record<string, string[]> {
  return Object.groupBy(trace, (line) => line.split(" ")[0]!) as Record<
    string,
    string[]
  >;
}

/** Whether two traces are the same as far as the scenario cares. */
function view(scenario: Scenario, trace: Trace): unknown {
  return scenario.compare === "channels" ? bySubject(trace) : trace;
}

function isSame(scenario: Scenario, a: Trace, b: Trace): boolean {
  try {
    assertEquals(view(scenario, a), view(scenario, b));
    return true;
  } catch {
    // assertEquals is the one judge of what is the same; here its verdict is asked, not enforced.
    return false;
  }
}

function expectedDifference(
  { name, differs }: Scenario,
  mode: Mode,
): Difference | undefined {
  assert(
    differs?.both === undefined || Object.keys(differs).length === 1,
    `${name}: differs has "both" and something else`,
  );
  return differs?.[mode] ?? differs?.both;
}

for (const scenario of SCENARIOS) {
  for (const mode of MODES) {
    Deno.test(`conformance: ${scenario.name} (${mode})`, async () => {
      const recorded: Traces | undefined = recording.traces[scenario.name];
      const cpython = recorded?.[mode] ?? recorded?.both;
      assert(cpython, "Not recorded: run `deno task conformance:record`");
      const differs = expectedDifference(scenario, mode);
      assert(
        differs === undefined || !isSame(scenario, cpython, differs.trace),
        `Stale: CPython's trace is the same, line ${differs?.line}`,
      );
      const { trace, failures } = await runScenario(scenario, mode);
      assertEquals(
        view(scenario, trace),
        view(scenario, differs?.trace ?? cpython),
        [`Trace: ${JSON.stringify(trace)}`, ...failures].join("\n"),
      );
    });
  }
}

Deno.test("conformance: every difference names a line of the contract", () => {
  for (const { name, differs = {} } of SCENARIOS) {
    for (const { line } of Object.values(differs)) {
      const [numbers = "", gist] = line.split(": ");
      for (const number of numbers.split(", ")) {
        assert(number in DIFFERENCES, `${name}: no line ${number}`);
      }
      assert(gist, `${name}: the line says nothing`);
    }
  }
});

/** The verbs of actions, those within other actions included. */
function verbsOf(actions: readonly Action[]): string[] {
  return actions.flatMap(([verb, ...args]) => {
    if (verb === "at") return verbsOf([args.slice(1) as unknown as Action]);
    if (verb !== "first") return [verb];
    return verbsOf((args as Action[][]).flat());
  });
}

Deno.test("conformance: every verb is known", () => {
  // An unknown one in a handler would merely be an error there, which a scenario may expect.
  for (const { name, channels, steps } of SCENARIOS) {
    const stepsOfChannels = steps
      .filter(([subject, verb]) => subject in channels && verb !== "pair")
      .map(([_, ...action]) => action);
    const inHandlers = Object.values(channels)
      .flatMap(({ on = {} }) => Object.values(on)).flat();
    for (const verb of verbsOf([...stepsOfChannels, ...inHandlers])) {
      assert(VERBS.has(verb), `${name}: no verb ${verb}`);
    }
  }
});

Deno.test("conformance: every recorded trace is that of a scenario", () => {
  const names = SCENARIOS.map(({ name }) => name);
  assertEquals(Object.keys(recording.traces).sort(), names.toSorted());
  assertEquals(new Set(names).size, names.length);
});

Deno.test("runScenario() leaves nothing open when a step fails", async () => {
  await assertRejects(
    () =>
      runScenario({
        name: "a step that fails",
        channels: { c: {}, srv: {} },
        steps: [
          ["c", "pair", "p"],
          ["srv", "serve"],
          ["q", "connect", "srv"],
          ["loop", "pass"],
          ["c", "send", "hello"],
          ["c", "delChannel"],
          ["p", "no such verb"],
        ],
      }, "select"),
    Error,
    "no such verb",
  );
});

Deno.test("runScenario() rejects a scenario that does not settle", async () => {
  await assertRejects(
    () =>
      runScenario({
        name: "every read takes one byte of an endless echo",
        channels: {
          a: {
            writable: "buffer",
            buffer: "x",
            on: { read: [["echo", 1]], write: [["flush"]] },
          },
          srv: { on: { accepted: [["adopt", "b"]] } },
          b: {
            writable: "buffer",
            on: { read: [["echo", 1]], write: [["flush"]] },
          },
        },
        steps: [
          ["srv", "serve"],
          ["a", "create"],
          ["a", "connect", "srv"],
          ["loop", "settle"],
        ],
      }, "select"),
    Error,
    "does not settle",
  );
});

const python = await findPython();
if (python === null && Deno.env.get("CI") !== "true") {
  console.error(
    "Skipped, no Python with asyncore found: CPython's traces recorded afresh",
  );
}
Deno.test({
  name: "conformance: CPython's traces recorded afresh are those in the file",
  ignore: python === null && Deno.env.get("CI") !== "true",
  async fn() {
    assert(python !== null, "No Python with asyncore (3.11 or older) found");
    assertEquals((await record(python)).traces, recording.traces);
  },
});
