/**
 * Runs random programs and says what was broken, if anything.
 *
 * @module
 */

import * as fc from "fast-check";
import { program } from "./arbitraries.ts";
import type { Breach } from "./checker.ts";
import { play } from "./play.ts";
import type { Program } from "./program.ts";

/** A broken line of the contract, and how to see it again. */
export interface Broken {
  /** The line of the contract (DESIGN.md §2); 0: the harness itself failed. */
  readonly line: number;
  readonly what: string;
  readonly seed: number;
  readonly path: string;
  /** The program, after shrinking. */
  readonly program: string;
  /** The command that runs it again. */
  readonly replay: string;
  /** What happened, if `verbose`. */
  readonly trace?: readonly string[];
}

/** Options of {@linkcode check}. */
export interface CheckOptions {
  readonly seed: number;
  /** How many programs. */
  readonly runs: number;
  /** From an earlier {@linkcode Broken}: begins there. */
  readonly path?: string;
  /** Gives the trace of what broke, too. */
  readonly verbose?: boolean;
}

/** The most programs tried to find a smaller one. */
const MOST_SHRINKS = 1_500;

/** The same if the library spins or hangs, which takes its time. */
const MOST_SLOW_SHRINKS = 5;

/** Plays one program; a failure of the harness or of the network is a breach, too. */
async function breachOf(
  program: Program,
  strays: Strays,
): Promise<Breach | null> {
  try {
    return (await play(program)).breach ?? strays.take();
  } catch (error) {
    const what = error instanceof Error
      ? error.stack ?? error.message
      : `${error}`;
    return { line: 0, what };
  }
}

/** 11: rejections that nobody handles. */
class Strays implements Disposable {
  #found: Breach | null = null;

  readonly #heard = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    this.#found ??= { line: 11, what: `unhandled rejection: ${event.reason}` };
  };

  constructor() {
    globalThis.addEventListener("unhandledrejection", this.#heard);
  }

  /** What came since the last time. */
  take(): Breach | null {
    const found = this.#found;
    this.#found = null;
    return found;
  }

  [Symbol.dispose](): void {
    globalThis.removeEventListener("unhandledrejection", this.#heard);
  }
}

/** Runs `runs` random programs. Returns the first broken line, with the smallest program found that breaks it. */
export async function check(options: CheckOptions): Promise<Broken | null> {
  const { seed, runs, path, verbose = false } = options;
  using strays = new Strays();
  let first: Breach | null = null;
  let tried = 0;
  let slow = false;
  const property = fc.asyncProperty(program, async (program) => {
    const most = slow ? MOST_SLOW_SHRINKS : MOST_SHRINKS;
    if (first !== null && ++tried > most) return true;
    const start = performance.now();
    const breach = await breachOf(program, strays);
    if (breach === null) return true;
    first ??= breach;
    slow ||= performance.now() - start > 1_000;
    // Another line broken by a smaller program is another finding.
    return breach.line !== first.line;
  });
  // Programs make many errors, and nobody looks at their stacks.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 1;
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    ...(path === undefined ? {} : { path, endOnFailure: true }),
  });
  Error.stackTraceLimit = stackTraceLimit;
  if (!details.failed) return null;
  if (details.counterexample === null) {
    throw details.errorInstance ?? new Error("no counterexample");
  }
  const [found] = details.counterexample;
  const { line, what } = await breachOf(found, strays) ?? first!;
  const at = details.counterexamplePath ?? "";
  return {
    line,
    what,
    seed,
    path: at,
    program: JSON.stringify(found),
    replay: `deno task fuzz --runs 1 --seed ${seed} --path ${at}`,
    ...(verbose ? { trace: await traceOf(found) } : {}),
  };
}

async function traceOf(program: Program): Promise<readonly string[]> {
  try {
    return (await play(program, true)).trace ?? [];
  } catch (error) {
    return [`${error}`];
  }
}
