/**
 * A thread of its own for one mutant, since what a mutant breaks stays broken.
 *
 * @module
 */

import { type Broken, check } from "../model/check.ts";
import { CI_RUNS, CI_SEEDS } from "../model/ci.ts";
import { mutants } from "./all.ts";

/** What a worker is told to judge: the mutant of this name, or the library as it is. */
export type Suspect = string | null;

/** What it says then: a line that was broken, or what went wrong with the check itself. */
export interface Verdict {
  readonly broken: Broken | null;
  readonly failure?: string;
}

/** The members of a worker's global scope that are used here. */
interface WorkerScope {
  onmessage: (event: MessageEvent<Suspect>) => void;
  postMessage(verdict: Verdict): void;
}

async function judge(suspect: Suspect): Promise<Verdict> {
  try {
    if (suspect !== null) {
      mutants.find(({ name }) => name === suspect)!.apply();
    }
    for (const seed of CI_SEEDS) {
      // With a path nothing smaller is looked for.
      const broken = await check({ seed, runs: CI_RUNS, path: "0" });
      if (broken !== null) return { broken };
    }
    return { broken: null };
  } catch (error) {
    const failure = error instanceof Error ? error.stack : undefined;
    return { broken: null, failure: failure ?? String(error) };
  }
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = async ({ data }) => scope.postMessage(await judge(data));
