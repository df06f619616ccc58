import { assertEquals, assertStringIncludes } from "@std/assert";
import { hasTool } from "./tools.ts";

Deno.test("hasTool() tells programs from other files and from nothing", () => {
  assertEquals(hasTool("sh"), true);
  assertEquals(hasTool("no-such-program"), false);
  // A folder in a folder of PATH.
  assertEquals(hasTool("."), false);
});

/** Runs a test file with one `toolTest()` for a program that does not exist. */
async function runWithoutTool(ci: string) {
  const file = await Deno.makeTempFile({ suffix: "_test.ts" });
  try {
    await Deno.writeTextFile(
      file,
      `import { toolTest } from ${
        JSON.stringify(import.meta.resolve("./tools.ts"))
      };
      toolTest("needs it", ["sh", "no-such-program"], () => {});`,
    );
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-config", "-A", file],
      env: { CI: ci, NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    return { code, said: decoder.decode(stdout) + decoder.decode(stderr) };
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("toolTest() skips a test, and says so, when a program is missing", async () => {
  const { code, said } = await runWithoutTool("");
  assertEquals(code, 0, said);
  assertStringIncludes(said, "0 passed | 0 failed | 1 ignored");
  assertStringIncludes(
    said,
    "Skipped, no-such-program not found in PATH: needs it",
  );
});

Deno.test("toolTest() fails a test on CI when a program is missing", async () => {
  const { code, said } = await runWithoutTool("true");
  assertEquals(code, 1, said);
  assertStringIncludes(said, "0 passed | 1 failed");
  assertStringIncludes(said, "no-such-program not found in PATH");
});
