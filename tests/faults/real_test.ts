import { fileURLToPath } from "node:url";
import { run } from "../subprocess.ts";
import { hasTool, toolTest } from "../tools.ts";
import { playForReal } from "./real_stage.ts";
import { assertSeen } from "./seen.ts";
import type { Row, Seen } from "./story.ts";
import { table } from "./table.ts";

const PLAY_ROW = fileURLToPath(new URL("play_row.ts", import.meta.url));

/** Few, but more than Deno needs for itself and for the peers. */
const DESCRIPTORS = 128;

/**
 * How to start a program in a network namespace of its own: as root, or as root
 * of a user namespace.
 */
const NAMESPACES = [
  ["unshare", "--net"],
  ["unshare", "--net", "--map-root-user"],
];

/** Whether cables can be laid in such a namespace. */
function cables([program, ...args]: readonly string[]): boolean {
  const { success } = new Deno.Command(program!, {
    args: [...args, ..."ip link add near type veth peer name far".split(" ")],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).outputSync();
  return success;
}

const CABLE_TOOLS = ["ip", "nsenter", "python3", "unshare"];

const namespace = CABLE_TOOLS.every(hasTool)
  ? NAMESPACES.find(cables)
  : undefined;

/** Plays a row in a process of its own, which `start` starts. */
async function playApart(
  row: Row,
  [program, ...args]: readonly string[],
): Promise<Seen> {
  const { code, stdout, stderr } = await run(program!, [
    ...args,
    Deno.execPath(),
    "run",
    "--quiet",
    "--allow-all",
    PLAY_ROW,
    row.name,
  ]);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(new TextDecoder().decode(stdout));
}

function play(row: Row): Promise<Seen> {
  if (row.needs === "cable") return playApart(row, namespace!);
  if (row.needs === "descriptors") {
    const limited = `ulimit -S -n ${DESCRIPTORS} && exec "$@"`;
    return playApart(row, ["sh", "-c", limited, "sh"]);
  }
  return playForReal(row);
}

/** So many rows are played at once: they wait more than they work. */
const AT_ONCE = 4;

/** Plays rows; each result throws, or returns what was seen. */
async function playTogether(rows: readonly Row[]): Promise<(() => Seen)[]> {
  const results: (() => Seen)[] = [];
  const queue = rows.entries();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const [i, row] of queue) {
      results[i] = await play(row).then((seen) => () => seen, (error) => () => {
        throw error;
      });
    }
  }));
  return results;
}

for (const row of table) {
  if (row.needs === "cable") continue;
  const tools = row.needs === "descriptors" ? ["sh", "python3"] : ["python3"];
  toolTest(`real: ${row.name}`, tools, async () => {
    assertSeen(await play(row), row);
  });
}

const name = "real: faults of a cable";
if (namespace === undefined && CABLE_TOOLS.every(hasTool)) {
  console.error(`Skipped, network namespaces are not allowed here: ${name}`);
  Deno.test({ name, ignore: true, fn: () => {} });
} else {
  toolTest(name, CABLE_TOOLS, async (t) => {
    const rows = table.filter(({ needs }) => needs === "cable");
    const results = await playTogether(rows);
    for (const [i, row] of rows.entries()) {
      await t.step(row.name, () => assertSeen(results[i]!(), row));
    }
  });
}
