/**
 * What idle connections cost: memory, and CPU time of the busy ones beside
 * them. `examples/echo_server.ts` against `bench/raw_echo.ts`.
 *
 *     deno run -A bench/idle.ts [--connections 8000] [--busy 50] [--rounds 5]
 *
 * Linux only, since the figures come from /proc. Two processes of each server
 * run side by side: one has the idle connections, the other has none. In each
 * round each of the four serves the same requests in turn, and the ratios are
 * taken within the round: what else the machine does meanwhile hits all four.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** Requests of all busy connections together, in one round for one server. */
const REQUESTS = 100_000;
/** Bytes of a request, and of its answer. */
const REQUEST_SIZE = 64;
/** Connections that are being opened at the same time. */
const OPENING = 100;
/** How long memory is sampled, and how long an idle server is watched. */
const WATCH = 2_000;
/** x86-64 and, as a rule, everything else. */
const PAGE_SIZE = 4096;
/** A clock tick of /proc, in milliseconds. */
const TICK = 10;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A server process, with the connections to it. */
class Server {
  readonly #process: Deno.ChildProcess;
  readonly #port: number;
  readonly #busy: Deno.Conn[] = [];
  readonly #idle: Deno.Conn[] = [];

  private constructor(process: Deno.ChildProcess, port: number) {
    this.#process = process;
    this.#port = port;
  }

  /** Starts a server that says on its first line where it listens. */
  static async start(path: string): Promise<Server> {
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-net", new URL(path, import.meta.url).href],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    let said = "";
    for await (
      const text of process.stdout.pipeThrough(new TextDecoderStream())
    ) {
      said += text;
      if (said.includes("\n")) break;
    }
    return new Server(process, Number(/port (\d+)/.exec(said)![1]));
  }

  /** Opens connections, and returns when the server has accepted all of them. */
  async open(count: number, kind: "busy" | "idle"): Promise<void> {
    const conns = kind === "busy" ? this.#busy : this.#idle;
    const before = this.#descriptors();
    for (let left = count; left > 0; left -= OPENING) {
      const batch = Array.from(
        { length: Math.min(left, OPENING) },
        () => Deno.connect({ hostname: "127.0.0.1", port: this.#port }),
      );
      conns.push(...await Promise.all(batch));
    }
    while (this.#descriptors() < before + count) await sleep(10);
  }

  #descriptors(): number {
    return [...Deno.readDirSync(`/proc/${this.#process.pid}/fd`)].length;
  }

  /**
   * Memory of its own, in bytes: what is resident without what belongs to files, such as the runtime's code. The least of some
   * samples, since garbage comes and goes.
   */
  async memory(): Promise<number> {
    let least = Infinity;
    for (let waited = 0; waited < WATCH; waited += 50) {
      await sleep(50);
      const statm = Deno.readTextFileSync(`/proc/${this.#process.pid}/statm`);
      const [, resident, shared] = statm.split(" ").map(Number);
      least = Math.min(least, (resident! - shared!) * PAGE_SIZE);
    }
    return least;
  }

  /** CPU time so far, user and system, in milliseconds. */
  cpu(): number {
    const stat = Deno.readTextFileSync(`/proc/${this.#process.pid}/stat`);
    // The second field is the name in parentheses, and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK;
  }

  /** Sends requests through all busy connections; returns the server's CPU time of one, in microseconds. */
  async serve(requests: number): Promise<number> {
    const before = this.cpu();
    const each = Math.ceil(requests / this.#busy.length);
    await Promise.all(this.#busy.map((conn) => request(conn, each)));
    return (this.cpu() - before) * 1000 / (each * this.#busy.length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const conn of [...this.#busy, ...this.#idle]) conn.close();
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }
}

/** Small requests, one after the other. */
async function request(conn: Deno.Conn, times: number): Promise<void> {
  const data = new Uint8Array(REQUEST_SIZE);
  const buffer = new Uint8Array(REQUEST_SIZE);
  for (; times > 0; times--) {
    await conn.write(data);
    for (let got = 0; got < REQUEST_SIZE;) {
      const n = await conn.read(buffer);
      if (n === null) throw new Error("Cannot measure: the server hung up");
      got += n;
    }
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]!
    : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** What is measured of one kind of server. */
interface Figures {
  /** Bytes for each idle connection, in a process that has been busy before. */
  memory: number;
  /** The same in a process that has just started. */
  cold: number;
  /** CPU time of a server with idle connections only, in milliseconds. */
  idleCpu: number;
  /** CPU time of a request in microseconds, for each round: without and with idle connections. */
  without: number[];
  with: number[];
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      connections: { type: "string", default: "8000" },
      busy: { type: "string", default: "50" },
      rounds: { type: "string", default: "5" },
    },
  });
  const options = {
    connections: Number(values.connections),
    busy: Number(values.busy),
    rounds: Number(values.rounds),
  };
  for (const [name, value] of Object.entries(options)) {
    if (Number.isInteger(value) && value > 0) continue;
    console.error(`Cannot measure: --${name} must be a whole number above 0`);
    Deno.exit(2);
  }
  const limits = Deno.readTextFileSync("/proc/self/limits");
  const limit = /^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity;
  const needed = 2 * options.connections + 4 * options.busy + 100;
  if (Number(limit) < needed) {
    console.error(
      `Cannot measure: ${options.connections} idle connections to two servers need ${needed} open files, the limit is ${limit}. Try: ulimit -n ${needed}`,
    );
    Deno.exit(1);
  }
  return options;
}

const { connections, busy, rounds } = readOptions();

await using disposal = new AsyncDisposableStack();
const start = async (path: string) => {
  const server = disposal.use(await Server.start(path));
  await server.open(busy, "busy");
  return server;
};

/** Bytes for each idle connection of a process that has just started, growth of its heap included. */
async function coldMemory(path: string): Promise<number> {
  await using server = await Server.start(path);
  await server.open(20, "idle");
  const before = await server.memory();
  await server.open(connections, "idle");
  return (await server.memory() - before) / connections;
}

async function prepare(path: string) {
  const cold = await coldMemory(path);
  const plain = await start(path);
  const loaded = await start(path);
  // Until the code is compiled and the heap has its size.
  for (const server of [plain, loaded]) await server.serve(2 * REQUESTS);
  const before = await loaded.memory();
  await loaded.open(connections, "idle");
  const memory = (await loaded.memory() - before) / connections;
  const cpu = loaded.cpu();
  await sleep(WATCH);
  const idleCpu = loaded.cpu() - cpu;
  const figures: Figures = { memory, cold, idleCpu, without: [], with: [] };
  return { plain, loaded, figures };
}

const ours = await prepare("../examples/echo_server.ts");
const raw = await prepare("./raw_echo.ts");
const turns = [ours, raw].flatMap(({ plain, loaded, figures }) => [
  { server: plain, results: figures.without },
  { server: loaded, results: figures.with },
]);
for (let round = 0; round < rounds; round++) {
  // The other way round every other time: nobody is always the first.
  const order = round % 2 === 0 ? turns : turns.toReversed();
  for (const { server, results } of order) {
    results.push(await server.serve(REQUESTS));
  }
}

const us = (times: number[]) => `${median(times).toFixed(1)} µs`;
const ratio = (above: number[], below: number[]) =>
  median(above.map((time, round) => time / below[round]!)).toFixed(2);
const row = (what: string, figure: (figures: Figures) => string) =>
  console.log(
    what.padEnd(32) + figure(ours.figures).padStart(16) +
      figure(raw.figures).padStart(16),
  );

console.log(" ".repeat(34) + "echo_server.ts     raw_echo.ts");
row("memory of an idle connection", (f) => `${Math.round(f.memory)} B`);
row("  of a process just started", (f) => `${Math.round(f.cold)} B`);
row(`CPU of ${WATCH / 1000} s at rest`, (f) => `${f.idleCpu} ms`);
row("CPU of a request, 0 idle", (f) => us(f.without));
row(`CPU of a request, ${connections} idle`, (f) => us(f.with));
row(`  ${connections} idle : 0 idle`, (f) => ratio(f.with, f.without));
row("  : raw_echo.ts, 0 idle", (f) => ratio(f.without, raw.figures.without));
row(
  `  : raw_echo.ts, ${connections} idle`,
  (f) => ratio(f.with, raw.figures.with),
);
