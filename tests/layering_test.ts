import { assertEquals } from "@std/assert";
import { exports, modules } from "./package.ts";
import { visit } from "./syntax.ts";

/**
 * Who may import whom, type imports included. `sockets/` and `testing/` stand
 * for the whole folders. A new file gets a line of its own here, which is a
 * decision.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  "mod.ts": [
    "async_chat.ts",
    "framing.ts",
    "producers.ts",
    "dispatcher_with_send.ts",
    "dispatcher.ts",
    "loop.ts",
    "channel_map.ts",
    "clock.ts",
    "errors.ts",
    "sockets/socket.ts",
  ],
  "async_chat.ts": [
    "framing.ts",
    "producers.ts",
    "dispatcher.ts",
    "channel_map.ts",
    "clock.ts",
    "errors.ts",
  ],
  "framing.ts": [],
  "producers.ts": ["channel_map.ts"],
  "dispatcher_with_send.ts": [
    "dispatcher.ts",
    "channel_map.ts",
    "errors.ts",
    "sockets/",
  ],
  "dispatcher.ts": [
    "channel_map.ts",
    "flags.ts",
    "clock.ts",
    "errors.ts",
    "sockets/",
  ],
  "loop.ts": [
    "handling.ts",
    "channel_map.ts",
    "flags.ts",
    "queue.ts",
    "clock.ts",
    "errors.ts",
  ],
  "handling.ts": ["channel_map.ts", "flags.ts", "errors.ts"],
  "channel_map.ts": [
    "flags.ts",
    "queue.ts",
    "clock.ts",
    "errors.ts",
    "sockets/socket.ts",
  ],
  "testing.ts": ["channel_map.ts", "loop.ts", "clock.ts", "testing/"],
  "testing/": ["testing/", "channel_map.ts", "clock.ts", "sockets/"],
  "flags.ts": [],
  "queue.ts": [],
  "sockets/": ["sockets/", "clock.ts", "errors.ts"],
  "clock.ts": [],
  "errors.ts": [],
};

/** What can be used to measure or to wait. */
const CLOCKWORK = new Set([
  "Date",
  "clearImmediate",
  "clearInterval",
  "clearTimeout",
  "nextTick",
  "performance",
  "queueMicrotask",
  "setImmediate",
  "setInterval",
  "setTimeout",
]);

/** What the files outside `sockets/` may use of Deno: nothing that does I/O. */
const NO_IO = new Set(["errors", "inspect"]);

/** What testing.ts may use in addition: it looks for a seed. */
const ENVIRONMENT = new Set(["env", "permissions"]);

const graph = await modules();
/** The package's own modules: what comes with Deno is in the graph, too. */
const files = [...graph.keys()].filter((path) => !path.startsWith("node:"));

/** The line of the table for a file. */
function row(path: string): string {
  const folder = path.slice(0, path.indexOf("/") + 1);
  return folder === "sockets/" || folder === "testing/" ? folder : path;
}

function mayImport(from: string, to: string): boolean {
  // What comes with Deno, and only where the system's side is.
  if (to.startsWith("node:")) return row(from) === "sockets/";
  const allowed = MAY_IMPORT[row(from)] ?? [];
  return allowed.includes(to) || allowed.includes(row(to));
}

Deno.test("every export of deno.json is a module that was found", () => {
  for (const entry of Object.values(exports)) {
    assertEquals(graph.has(entry.replace("./", "")), true, entry);
  }
});

Deno.test("imports go one way, and none leaves the package", () => {
  const wrong = files.flatMap((from) =>
    graph.get(from)!.filter((to) => !mayImport(from, to))
      .map((to) => `${from} -> ${to}`)
  );
  assertEquals(wrong, []);
});

Deno.test("every file has its line in the table of imports", () => {
  const unknown = files.filter((path) => !(row(path) in MAY_IMPORT));
  assertEquals(unknown, []);
});

Deno.test("no module imports itself by way of others", () => {
  const done = new Set<string>();
  function walk(path: string, way: string[]): string[] {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    if (done.has(path)) return [];
    for (const next of graph.get(path) ?? []) {
      const cycle = walk(next, [...way, path]);
      if (cycle.length > 0) return cycle;
    }
    done.add(path);
    return [];
  }
  for (const path of files) assertEquals(walk(path, []), []);
});

Deno.test("sockets/socket.ts holds interfaces only", async () => {
  assertEquals(Object.keys(await import("../sockets/socket.ts")), []);
});

Deno.test("clock.ts is the only file that uses the runtime's clocks and timers", () => {
  const wrong: string[] = [];
  const right: string[] = [];
  for (const path of files) {
    visit(path, {
      Identifier({ name }) {
        if (!CLOCKWORK.has(name)) return;
        (path === "clock.ts" ? right : wrong).push(`${path}: ${name}`);
      },
      "MemberExpression[object.name='AbortSignal'][property.name='timeout']"() {
        wrong.push(`${path}: AbortSignal.timeout`);
      },
    });
  }
  assertEquals(wrong, []);
  assertEquals(right.includes("clock.ts: setTimeout"), true);
});

Deno.test("sockets/ is the only folder that uses Deno's network and files", () => {
  const wrong: string[] = [];
  const right: string[] = [];
  for (const path of files) {
    visit(path, {
      Identifier({ name, parent }) {
        // Deno.Conn as a type is fine, also as one that is extended.
        if (name !== "Deno" || parent.type === "TSQualifiedName") return;
        const extended = parent.type === "MemberExpression" &&
          parent.parent.type === "TSInterfaceHeritage";
        if (extended) return;
        const used = parent.type === "MemberExpression" &&
            parent.property.type === "Identifier"
          ? parent.property.name
          : "the whole of Deno";
        if (NO_IO.has(used)) return;
        if (path === "testing.ts" && ENVIRONMENT.has(used)) return;
        (row(path) === "sockets/" ? right : wrong).push(`${path}: ${used}`);
      },
    });
  }
  assertEquals(wrong, []);
  assertEquals(right.length > 0, true);
});
