/**
 * How fast frames are cut: lines of one character, pushed through a connection on loopback, to an `AsyncChat` here and to CPython's
 * `asynchat` (3.11 or older), if there is one. What counts are the ratios: 16 times the input takes 16 times as long here.
 *
 *     deno run -A bench/frames.ts [--rounds N]
 *
 * It prints the CPU seconds of the receiving process, the median of the rounds.
 */

import { parseArgs } from "node:util";
import { AsyncChat, Dispatcher, loop } from "../mod.ts";

const MIB = 1_048_576;

/** The same in Python: it prints its CPU seconds. */
const PYTHON = `
import asynchat, asyncore, resource, socket, sys
class Lines(asynchat.async_chat):
    count = 0
    def __init__(self, sock):
        super().__init__(sock)
        self.set_terminator(b"\\n")
    def collect_incoming_data(self, data):
        self.line = data
    def found_terminator(self):
        self.count += 1
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
conn, _ = listener.accept()
conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1048576)
chat = Lines(conn)
if len(sys.argv) > 1:
    chat.ac_in_buffer_size = int(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF)
asyncore.loop()
after = resource.getrusage(resource.RUSAGE_SELF)
print(chat.count, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
`;

/** What a receiver has counted, and its CPU seconds. */
type Result = readonly [frames: number, seconds: number];

class Lines extends AsyncChat {
  count = 0;

  override foundTerminator() {
    this.takeIncoming();
    this.count++;
  }
}

/** Receives in this process, which `frames.ts --receive` is. */
async function receive(): Promise<void> {
  let lines: Lines | undefined;
  class Server extends Dispatcher {
    override handleAccepted(conn: Deno.Conn) {
      lines = new Lines(conn);
      lines.setTerminator("\n");
      this.close();
    }
  }
  const server = new Server();
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  console.log((server.addr as Deno.NetAddr).port);
  const { cpuUsage } = await import("node:process");
  const before = cpuUsage();
  await loop();
  const { user, system } = cpuUsage(before);
  console.log(lines!.count, (user + system) / 1e6);
}

/** Starts a receiver, sends it so many bytes, and reads what it says. */
async function measure(
  command: string,
  args: string[],
  size: number,
): Promise<Result> {
  const process = new Deno.Command(command, {
    args,
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const said = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) text += (await said.read()).value ?? "\n";
  const conn = await Deno.connect({
    hostname: "127.0.0.1",
    port: parseInt(text),
  });
  const piece = new TextEncoder().encode("x\n".repeat(MIB / 2));
  for (let sent = 0; sent < size; sent += piece.length) {
    for (let rest = piece; rest.length > 0;) {
      rest = rest.subarray(await conn.write(rest));
    }
  }
  await conn.closeWrite();
  for (;;) {
    const { done, value } = await said.read();
    if (done) break;
    text += value;
  }
  conn.close();
  await process.status;
  const [frames, seconds] = text.trim().split("\n").at(-1)!.split(" ");
  return [Number(frames), Number(seconds)];
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      receive: { type: "boolean" },
      rounds: { type: "string", default: "5" },
    },
  });
  if (values.receive) return await receive();
  const ours = (size: number) =>
    measure(
      Deno.execPath(),
      ["run", "-A", import.meta.filename!, "--receive"],
      size,
    );
  const python = (size: number, atOnce?: number) =>
    measure("python3", [
      "-W",
      "ignore",
      "-c",
      PYTHON,
      ...(atOnce ? [`${atOnce}`] : []),
    ], size);

  const seconds: Record<string, number[]> = {};
  for (let round = 0; round < Number(values.rounds); round++) {
    for (
      const [name, size, run] of [
        ["AsyncChat, 1 MiB", MIB, () => ours(MIB)],
        ["AsyncChat, 16 MiB", 16 * MIB, () => ours(16 * MIB)],
        ["asynchat, 1 MiB, 64 KiB at once", MIB, () => python(MIB)],
        ["asynchat, 1 MiB at once", MIB, () => python(MIB, MIB)],
      ] as const
    ) {
      try {
        const [frames, time] = await run();
        if (frames !== size / 2) throw new Error(`${name}: ${frames} frames`);
        (seconds[name] ??= []).push(time);
      } catch (error) {
        if (!name.startsWith("asynchat")) throw error;
        console.error(`${name}: left out (${error})`);
      }
    }
  }
  for (const [name, times] of Object.entries(seconds)) {
    console.log(`${name}: ${median(times).toFixed(3)} s`);
  }
}

if (import.meta.main) await main();
