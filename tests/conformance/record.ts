/**
 * Records CPython's traces of the conformance scenarios afresh:
 *
 *     deno task conformance:record
 *
 * writes traces.json. Needs a Python that still has asyncore: 3.11 or older.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import type { Traces } from "./scenario.ts";

/** What traces.json holds. */
export interface Recording {
  /** The version of CPython that ran the scenarios. */
  readonly python: string;
  /** What each scenario did. */
  readonly traces: Readonly<Record<string, Traces>>;
}

const CANDIDATES = ["python3", ...[11, 10, 9, 8].map((n) => `python3.${n}`)];

/** Python 3.12 has no asyncore of its own, but another package of that name may be installed. */
const PROBE = "import sys; assert sys.version_info < (3, 12); import asyncore";

async function run(
  command: string,
  args: string[],
): Promise<{ success: boolean; out: string; err: string }> {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return {
    success,
    out: decoder.decode(stdout),
    err: decoder.decode(stderr),
  };
}

/** The name of a Python with asyncore, or `null` if there is none. */
export async function findPython(): Promise<string | null> {
  for (const python of CANDIDATES) {
    try {
      if ((await run(python, ["-W", "ignore", "-c", PROBE])).success) {
        return python;
      }
    } catch (error) {
      // Not installed: the next one may be.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return null;
}

/** Runs driver.py with this Python. */
export async function record(python: string): Promise<Recording> {
  const driver = fileURLToPath(new URL("driver.py", import.meta.url));
  const { success, out, err } = await run(python, [driver]);
  if (!success) throw new Error(`Cannot record traces: ${err.trimEnd()}`);
  return JSON.parse(out);
}

if (import.meta.main) {
  const python = await findPython();
  if (python === null) {
    console.error(
      `Cannot record traces: no Python with asyncore (${
        CANDIDATES.join(", ")
      }) found in PATH`,
    );
    Deno.exit(1);
  }
  const recording = await record(python);
  await Deno.writeTextFile(
    new URL("traces.json", import.meta.url),
    `${JSON.stringify(recording, null, 2)}\n`,
  );
  const count = Object.keys(recording.traces).length;
  console.log(`Recorded ${count} scenarios on CPython ${recording.python}`);
}
