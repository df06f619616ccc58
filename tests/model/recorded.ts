/**
 * What a few programs did, told by the hash of their trace: the same program
 * and seed give the same trace, here and on any other machine.
 *
 *     deno run -A tests/model/recorded.ts       (prints the hashes)
 *
 * @module
 */

import * as fc from "fast-check";
import { program } from "./arbitraries.ts";
import { play } from "./play.ts";
import type { Program } from "./program.ts";

/** The hash of a program's trace. */
export async function traceHash(program: Program): Promise<string> {
  const { trace } = await play(program, true);
  const bytes = new TextEncoder().encode(trace!.join("\n"));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return hash.slice(0, 8).toHex();
}

if (import.meta.main) {
  const programs = fc.sample(program, { seed: 1, numRuns: 5 });
  const recorded = [];
  for (const program of programs) {
    recorded.push({ hash: await traceHash(program), program });
  }
  console.log(JSON.stringify(recorded, null, 1));
}
