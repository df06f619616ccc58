/**
 * Random programs on random networks: no line of the contract is broken. What
 * breaks one is shown with the command that plays it again.
 */

import { assert, assertEquals } from "@std/assert";
import { type Broken, check } from "./model/check.ts";
import { CI_RUNS, CI_SEEDS } from "./model/ci.ts";
import type { Program } from "./model/program.ts";
import { traceHash } from "./model/recorded.ts";
import recorded from "./model/recorded.json" with { type: "json" };

function said({ line, what, program, replay }: Broken): string {
  return `line ${line} is broken: ${what}\n${program}\nto replay it: ${replay}`;
}

async function holds(seed: number): Promise<void> {
  const broken = await check({ seed, runs: CI_RUNS });
  assert(broken === null, broken === null ? "" : said(broken));
}

for (const seed of CI_SEEDS) {
  Deno.test(`random programs keep the contract (seed ${seed})`, () =>
    holds(seed));
}

Deno.test("random programs keep the contract (a fresh seed)", async () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1;
  console.log(`seed ${seed}`);
  await holds(seed);
});

Deno.test("a program does the same each time, on every machine", async () => {
  for (const { hash, program } of recorded) {
    const again = program as unknown as Program;
    assertEquals(
      await traceHash(again),
      hash,
      "deno run -A tests/model/recorded.ts records it afresh",
    );
    assertEquals(await traceHash(again), hash);
  }
});
