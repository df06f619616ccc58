/**
 * The gate: what `deno task ok` runs, in this order, up to the first failure.
 * The last line is always `N passed, N failed`; a step that fails before or
 * beside the tests counts as one failure.
 *
 * @module
 */

import { stripVTControlCharacters } from "node:util";
import { exports, neededFiles, publishedFiles } from "./package.ts";

/** Ends the gate. */
function finish(passed: number, failed: number, failure?: string): never {
  console.log(failure === undefined ? "\nThe gate is passed" : `\n${failure}`);
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(failed > 0 ? 1 : 0);
}

/** Starts Deno, saying so. */
function start(args: string[], stdout: "inherit" | "piped"): Deno.ChildProcess {
  console.log(`\n--- deno ${args.join(" ")}`);
  return new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout })
    .spawn();
}

/** One step of the gate. */
async function step(...args: string[]): Promise<void> {
  const { success, code } = await start(args, "inherit").status;
  if (success) return;
  finish(0, 1, `The gate failed at: deno ${args.join(" ")} (exit ${code})`);
}

/** What is published is what a consumer needs, no less and no more. */
async function checkPublishedFiles(): Promise<void> {
  console.log("\n--- deno publish --dry-run --allow-dirty");
  try {
    const published = new Set(await publishedFiles());
    const needed = new Set(await neededFiles());
    const stray = [...published.difference(needed)];
    const missing = [...needed.difference(published)];
    if (stray.length > 0) throw new Error(`stray files: ${stray.join(", ")}`);
    if (missing.length > 0) throw new Error(`no ${missing.join(", ")}`);
    console.log(`${published.size} files: ${[...published].join(" ")}`);
  } catch (error) {
    finish(0, 1, `The gate failed at: deno publish --dry-run: ${error}`);
  }
}

/** Runs the tests, shows their output and reads the totals from it. */
async function runTests(): Promise<never> {
  const tests = start(["task", "test"], "piped");
  const decoder = new TextDecoder();
  let said = "";
  for await (const bytes of tests.stdout) {
    said += decoder.decode(bytes, { stream: true });
    for (let rest = bytes; rest.length > 0;) {
      rest = rest.subarray(Deno.stdout.writeSync(rest));
    }
  }
  const { success, code } = await tests.status;
  // Not from a JUnit report: it leaves out files that failed as a whole.
  const summary = stripVTControlCharacters(said)
    .matchAll(/^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm)
    .toArray().at(-1);
  const passed = Number(summary?.[1] ?? 0);
  const failed = Number(summary?.[2] ?? 0);
  if (success && summary) finish(passed, failed);
  finish(
    passed,
    Math.max(failed, 1),
    `The gate failed at: deno task test (exit ${code})`,
  );
}

await step("fmt", "--check");
await step("lint");
await step("task", "check");
await step("doc", "--lint", ...Object.values(exports));
await checkPublishedFiles();
await runTests();
