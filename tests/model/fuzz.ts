/**
 * Checks any number of random programs, in as many threads as there are
 * processors. Ends with exit code 1 at the first broken line.
 *
 *     deno task fuzz --runs 1000000 [--seed S] [--workers W]
 *     deno task fuzz --seed S --path P      (what it said about a broken line)
 *
 * @module
 */

import { parseArgs } from "node:util";
import { type Broken, check } from "./check.ts";
import type { Batch, Report } from "./fuzz_worker.ts";

/** Programs in a batch: enough to be worth a message, few enough to show progress. */
const BATCH = 500;

/** Milliseconds after which a thread that says nothing is taken to hang: a batch takes a second or two. */
const PATIENCE = 180_000;

/** Seeds of the batches: the golden ratio's, so that nearby seeds share none. */
function seedOf(seed: number, batch: number): number {
  return (seed + Math.imul(batch, 0x9E3779B1)) & 0x7FFFFFFF;
}

/** Shows a broken line. */
function show(broken: Broken): void {
  console.log(`\nBroken: line ${broken.line} of the contract: ${broken.what}`);
  console.log(`\nThe program:\n${broken.program}`);
  if (broken.trace) console.log(`\nThe trace:\n${broken.trace.join("\n")}`);
  console.log(`\nTo replay it: ${broken.replay}`);
}

/** One thread. */
class Thread {
  readonly #worker = new Worker(new URL("./fuzz_worker.ts", import.meta.url), {
    type: "module",
  });

  /** Has a batch checked. */
  check(batch: Batch): Promise<Report> {
    const { promise, resolve } = Promise.withResolvers<Report>();
    const late = setTimeout(() => {
      const failure = `No answer: seed ${batch.seed}, ${batch.runs} programs`;
      resolve({ broken: null, failure });
    }, PATIENCE);
    this.#worker.onmessage = ({ data }) => resolve(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      resolve({
        broken: null,
        failure: `${event.message} (seed ${batch.seed})`,
      });
    };
    this.#worker.postMessage(batch);
    return promise.finally(() => clearTimeout(late));
  }

  end(): void {
    this.#worker.terminate();
  }
}

/** Checks `runs` programs. Returns whether all is well. */
async function fuzz(
  seed: number,
  runs: number,
  threads: number,
): Promise<boolean> {
  const start = performance.now();
  let next = 0;
  let done = 0;
  let bad: Report | null = null;
  const rate = () => Math.round(done / (performance.now() - start) * 1_000);
  async function work(thread: Thread): Promise<void> {
    while (bad === null && next * BATCH < runs) {
      const batch = next++;
      const count = Math.min(BATCH, runs - batch * BATCH);
      const report = await thread.check({
        seed: seedOf(seed, batch),
        runs: count,
      });
      if (report.broken !== null || report.failure !== undefined) {
        bad ??= report;
      } else done += count;
    }
  }
  const line = setInterval(() => {
    console.log(`${done} of ${runs} programs, ${rate()}/s`);
  }, 5_000);
  const pool = Array.from({ length: threads }, () => new Thread());
  await Promise.all(pool.map(work));
  clearInterval(line);
  for (const thread of pool) thread.end();
  const seconds = ((performance.now() - start) / 1_000).toFixed(1);
  console.log(
    `${done} programs in ${seconds} s, ${rate()}/s, ${threads} threads, seed ${seed}`,
  );
  const { broken = null, failure } = bad ?? {} as Partial<Report>;
  if (broken) show(broken);
  if (failure) console.log(`\nThe check failed: ${failure}`);
  return !broken && !failure;
}

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10000" },
    seed: { type: "string" },
    path: { type: "string" },
    workers: { type: "string" },
  },
});
const runs = Number(values.runs);
const seed = Number(
  values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1,
);
const workers = Number(values.workers ?? navigator.hardwareConcurrency);
for (const [name, value] of Object.entries({ runs, seed, workers })) {
  if (!Number.isInteger(value)) {
    throw new TypeError(`Cannot fuzz: --${name} is no whole number`);
  }
}
if (values.path === undefined) {
  Deno.exit(await fuzz(seed, runs, workers) ? 0 : 1);
}
const broken = await check({ seed, runs: 1, path: values.path, verbose: true });
if (broken) show(broken);
else console.log("Not broken any more");
Deno.exit(broken ? 1 : 0);
