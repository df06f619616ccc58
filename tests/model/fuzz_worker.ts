/**
 * A thread of the fuzzer: checks the batches it is sent.
 *
 * @module
 */

import { type Broken, check } from "./check.ts";

/** What a thread is told to check. */
export interface Batch {
  readonly seed: number;
  readonly runs: number;
}

/** What came of it; `failure`: the check itself failed. */
export interface Report {
  readonly broken: Broken | null;
  readonly failure?: string;
}

/** The members of a worker's global scope that are used here. */
interface WorkerScope {
  onmessage: (event: MessageEvent<Batch>) => void;
  postMessage(report: Report): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = async ({ data }) => {
  try {
    scope.postMessage({ broken: await check(data) });
  } catch (error) {
    const failure = error instanceof Error ? error.stack : undefined;
    scope.postMessage({ broken: null, failure: failure ?? String(error) });
  }
};
