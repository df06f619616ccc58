/**
 * The model-based tests are tested themselves: each mutant of the library is to
 * be caught by the programs that `model_test.ts` runs every time, and the
 * library as it is is not.
 */

import { assert, assertEquals } from "@std/assert";
import { mutants } from "./mutants/all.ts";
import type { Suspect, Verdict } from "./mutants/worker.ts";

/** A worker that says nothing for so long, in milliseconds, never will. */
const DEADLINE = 60_000;

/** Has a worker of its own judge a mutant. The worker is ended in any case, also when it spins. */
async function judge(suspect: Suspect): Promise<Verdict | "no answer"> {
  const { promise, resolve } = Promise.withResolvers<Verdict | "no answer">();
  const worker = new Worker(new URL("mutants/worker.ts", import.meta.url), {
    type: "module",
  });
  const deadline = setTimeout(() => resolve("no answer"), DEADLINE);
  worker.onmessage = ({ data }: MessageEvent<Verdict>) => resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    resolve({ broken: null, failure: event.message });
  };
  worker.postMessage(suspect);
  try {
    return await promise;
  } finally {
    clearTimeout(deadline);
    worker.terminate();
  }
}

Deno.test("mutants have names and lines", () => {
  assertEquals(new Set(mutants.map(({ name }) => name)).size, mutants.length);
  for (const { line } of mutants) assert(line >= 1 && line <= 18);
});

Deno.test("mutant: none, and nothing is caught", async () => {
  assertEquals(await judge(null), { broken: null });
});

for (const { name, line, what, spins = false } of mutants) {
  Deno.test(`mutant: ${name} is caught (line ${line})`, async () => {
    const verdict = await judge(name);
    // What never rests may keep the checker from saying so.
    if (verdict === "no answer") return assert(spins, "it never rests");
    const { broken, failure } = verdict;
    assertEquals(failure, undefined);
    assert(broken !== null, `not caught: ${what}`);
  });
}
