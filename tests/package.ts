/**
 * The package as a whole, as Deno sees it: for the gate and for the tests about
 * what is published and who imports whom.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };

/** The name, version and entry points of the package. */
export const { name, version, exports } = config;

/** The folder of the package. */
export const ROOT = new URL("../", import.meta.url);

/** What the package holds besides the modules its exports lead to. */
const PAPERS = ["CHANGELOG.md", "LICENSE", "README.md", "deno.json"];

/** Runs Deno in the package's folder. Throws what it says when it fails. */
async function deno(
  ...args: string[]
): Promise<{ stdout: string; stderr: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  const said = {
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr),
  };
  if (success) return said;
  throw new Error(
    `Cannot run deno ${args.join(" ")}:\n${said.stdout}${said.stderr}`,
  );
}

/** A path inside the package; anything else stays the URL it is. */
function relative(url: string): string {
  return url.startsWith(ROOT.href) ? url.slice(ROOT.href.length) : url;
}

/** The part of `deno info --json` that is read here. */
interface Info {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: {
      specifier: string;
      code?: { specifier?: string };
      type?: { specifier?: string };
    }[];
  }[];
}

/**
 * Every module the exports lead to, type imports included, with what it
 * imports: paths inside the package, or specifiers of something else.
 */
export async function modules(): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const entry of Object.values(exports)) {
    const { stdout } = await deno("info", "--json", entry);
    const info: Info = JSON.parse(stdout);
    for (const { specifier, error, dependencies = [] } of info.modules) {
      if (error !== undefined) throw new Error(error);
      found.set(
        relative(specifier),
        dependencies.map(({ specifier, code, type }) =>
          relative(code?.specifier ?? type?.specifier ?? specifier)
        ),
      );
    }
  }
  return found;
}

/** The files `deno publish` would upload. It checks for slow types, too. */
export async function publishedFiles(): Promise<string[]> {
  const { stdout, stderr } = await deno(
    "publish",
    "--dry-run",
    "--allow-dirty",
  );
  // Deno 2 lists them on stderr.
  const files = [
    ...(stdout + stderr).matchAll(/^ +(file:\/\/.*) \([^()]*\)$/gm),
  ]
    .map(([, url]) => relative(url!));
  if (files.length === 0) throw new Error(`Cannot find a file in:\n${stderr}`);
  return files.sort();
}

/** The files a consumer needs. */
export async function neededFiles(): Promise<string[]> {
  const own = [...(await modules()).keys()].filter((path) =>
    !path.includes(":")
  );
  return [...own, ...PAPERS].sort();
}
