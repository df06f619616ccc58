/**
 * What stands in a source file, comments and strings left aside. Runs under
 * `deno test` only: that is where Deno lends its parser out.
 *
 * @module
 */

/**
 * Parses a file of the package and calls a visitor for its nodes.
 *
 * @param path The file, relative to the package's folder.
 * @param visitor As for a lint plugin: callbacks by node type.
 */
export function visit(path: string, visitor: Deno.lint.LintVisitor): void {
  const source = Deno.readTextFileSync(new URL(`../${path}`, import.meta.url));
  Deno.lint.runPlugin(
    { name: "visit", rules: { visit: { create: () => visitor } } },
    path,
    source,
  );
}
