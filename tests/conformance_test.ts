/**
 * The scenarios of conformance/ give the same traces on this module as on
 * CPython's asyncore and asynchat, but for the differences that are named here,
 * on the system's network and on a simulated one. CPython's are recorded in
 * conformance/traces.json.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { VERBS } from "./conformance/actions.ts";
import { runScenario } from "./conformance/driver.ts";
import { type Place, SimPlace } from "./conformance/place.ts";
import { findPython, record, type Recording } from "./conformance/record.ts";
import {
  type Action,
  type Difference,
  FRAME_EVENTS,
  type Mode,
  MODES,
  type Scenario,
  SCENARIOS,
  type Trace,
  type Traces,
} from "./conformance/scenario.ts";
import { FoldedTrace } from "./conformance/trace.ts";
import data from "./conformance/traces.json" with { type: "json" };
import { forSeeds, SimNet } from "../testing.ts";

const recording = data as Recording;

/** So many simulations of each scenario, with other seeds. */
const SIMULATIONS = 5;

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
  "asynchat": "one of those in ASYNCHAT",
  "closeAll": "closes all, then throws",
  "nested": "a map that is being served cannot be served again",
};

/**
 * What the contract's list of differences names of asynchat, but for the kind of error a negative count gets, which has the same
 * word in every trace.
 */
const ASYNCHAT: ReadonlySet<string> = new Set([
  "the terminator defaults to null",
  "text is accepted",
  "no frame after close()",
  "handleIncompleteFrame",
  "maxFrameLength",
  "pushing after closeWhenDone throws",
  "closeWhenDone on an empty queue needs no write event",
  "found_terminator by default logs",
  "what collect_incoming_data fails on is gone, not the end of its frame",
  "a producer that fails is dropped",
]);

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

/** CPython's trace, or the one that is named instead. */
function expectedTrace(scenario: Scenario, mode: Mode): Trace {
  const recorded: Traces | undefined = recording.traces[scenario.name];
  const cpython = recorded?.[mode] ?? recorded?.both;
  assert(cpython, "Not recorded: run `deno task conformance:record`");
  const differs = expectedDifference(scenario, mode);
  assert(
    differs === undefined || !isSame(scenario, cpython, differs.trace),
    `Stale: CPython's trace is the same, line ${differs?.line}`,
  );
  return differs?.trace ?? cpython;
}

/** Runs a scenario and compares its trace. */
async function play(
  scenario: Scenario,
  mode: Mode,
  place?: Place,
): Promise<void> {
  const { trace, failures } = await runScenario(scenario, mode, place);
  assertEquals(
    view(scenario, trace),
    view(scenario, expectedTrace(scenario, mode)),
    [`Trace: ${JSON.stringify(trace)}`, ...failures].join("\n"),
  );
}

for (const scenario of SCENARIOS) {
  for (const mode of MODES) {
    const name = `conformance: ${scenario.name} (${mode}`;
    Deno.test(`${name})`, () => play(scenario, mode));
    Deno.test(`${name}, in simulation)`, () =>
      forSeeds(async (net) => {
        await play(scenario, mode, new SimPlace(net));
        assertEquals(net.leaks(), []);
      }, { seed: 1, runs: SIMULATIONS }));
  }
}

/** An entry of `SimNet.trace`, or what a line says. */
interface Happening {
  readonly channel: string;
  readonly event: string;
}

function parse(line: string): Happening {
  const [channel = "", ...words] = line.split(" ");
  // The line of an error says which one; no other handler's line has more than two words.
  return { channel, event: words[0] === "error" ? "error" : words.join(" ") };
}

/** The lines of the handlers that a scenario overrides, folded as if there were no others. */
function handlersOf(
  { channels }: Scenario,
  happenings: readonly Happening[],
): Trace {
  const folded = new FoldedTrace();
  for (const { channel, event } of happenings) {
    // Without the number of a channel's second, third … instance.
    const { on = {} } = channels[channel.replace(/\d+$/, "")] ?? {};
    if (event in on && !FRAME_EVENTS.has(event)) folded.add(channel, event);
  }
  return folded.lines;
}

Deno.test("SimNet.trace holds the handlers of a scenario's trace", async () => {
  let count = 0;
  for (const scenario of SCENARIOS) {
    for (const mode of MODES) {
      const lines = expectedTrace(scenario, mode).map(parse);
      const expected = handlersOf(scenario, lines);
      count += expected.length;
      await using net = new SimNet({ seed: 1 });
      await runScenario(scenario, mode, new SimPlace(net));
      assertEquals(
        view(scenario, handlersOf(scenario, net.trace)),
        view(scenario, expected),
        scenario.name,
      );
    }
  }
  assert(count > SCENARIOS.length, `Only ${count} lines compared`);
});

Deno.test("conformance: every difference names a line of the contract", () => {
  const shown = new Set<string>();
  for (const { name, differs = {} } of SCENARIOS) {
    for (const { line } of Object.values(differs)) {
      const [numbers = "", gist] = line.split(": ");
      for (const number of numbers.split(", ")) {
        assert(number in DIFFERENCES, `${name}: no line ${number}`);
      }
      assert(gist, `${name}: the line says nothing`);
      if (numbers.includes("asynchat")) shown.add(gist);
    }
  }
  // None but those on the list, and a scenario for each.
  assertEquals(shown, ASYNCHAT);
});

/** The verbs of actions, those within other actions included. */
function verbsOf(actions: readonly Action[]): string[] {
  return actions.flatMap(([verb, ...args]) => {
    if (verb === "at") return verbsOf([args.slice(1) as unknown as Action]);
    if (verb === "pushProducer") {
      const pieces = args[0] as (string | Action)[];
      const actions = pieces.filter((piece) => typeof piece !== "string");
      return [verb, ...verbsOf(actions)];
    }
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
