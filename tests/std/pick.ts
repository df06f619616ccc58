/**
 * Prints the path of the import map the tests run under: `jsr.json`, which
 * names the real `@std` packages, where JSR answers; `stand_ins.json` where it
 * does not, with one line on stderr saying so.
 *
 * `--import-map` replaces the `imports` of `deno.json` as a whole, so each map
 * holds everything a test, an example or a code block in the docs imports.
 * There is no lock file for the same reason there are two maps: it would name
 * packages that half of the machines never load, and change from one to the
 * next. The library itself depends on nothing that could be locked.
 *
 * @module
 */

/** One import of every package, spelled as the tests spell it. */
const PROBES = ["@std/assert", "@std/net", "@std/testing/mock"];

/** Milliseconds for all downloads. A host that drops packets answers never. */
const PATIENCE = 5_000;

// Kept out of a literal: `import("@std/assert")` would be fetched before this
// program starts, where no time limit can reach it.
const probes = PROBES.map((specifier) => import(specifier));
const patience = new Promise<never>((_, reject) => {
  setTimeout(() => reject(new Error("no answer in time")), PATIENCE);
});

let map = "jsr.json";
try {
  await Promise.race([Promise.all(probes), patience]);
} catch {
  // Whatever the reason, the tests can run; what they run on is all that matters.
  map = "stand_ins.json";
  console.error("JSR does not answer: tests use the stand-ins in tests/std/");
}
console.log(`tests/std/${map}`);
// A download may still be pending; nobody waits for it.
Deno.exit(0);
