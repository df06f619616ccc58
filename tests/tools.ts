/**
 * Tests that need a program of the system, such as `curl`.
 *
 * @module
 */

/** Whether `name` is a program that can be started. */
export function hasTool(name: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => {
    try {
      const { isFile, mode } = Deno.statSync(`${folder}/${name}`);
      return isFile && ((mode ?? 0) & 0o111) !== 0;
    } catch {
      // Not there, or not for us to see: then not for us to start, either.
      return false;
    }
  });
}

/**
 * Registers a test that needs the programs `tools`. Where one is missing the
 * test is skipped, with a line saying so; on CI, where everything is installed,
 * it fails.
 */
export function toolTest(
  name: string,
  tools: readonly string[],
  fn: (t: Deno.TestContext) => void | Promise<void>,
): void {
  const missing = tools.filter((tool) => !hasTool(tool)).join(", ");
  if (missing === "") return Deno.test(name, fn);
  if (Deno.env.get("CI") === "true") {
    return Deno.test(name, () => {
      throw new Error(`Cannot run test: ${missing} not found in PATH`);
    });
  }
  console.error(`Skipped, ${missing} not found in PATH: ${name}`);
  Deno.test({ name, ignore: true, fn });
}
