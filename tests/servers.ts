/**
 * What tests of `examples/` share: an example is started as its first lines
 * say, and talked to by hand, by Python or in simulation.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import type { SimConn, SimNet } from "../testing.ts";
import { listenTcp, readToEnd, text, within, writeAll } from "./net.ts";
import { type Ending, Subprocess } from "./subprocess.ts";

/** What starts an example, with no permission but the network and these. */
function command(
  name: string,
  args: readonly string[],
  permissions: readonly string[],
): [program: string, args: string[]] {
  const { href } = new URL(`../examples/${name}`, import.meta.url);
  const run = ["run", "--no-prompt", "--allow-net", ...permissions];
  return [Deno.execPath(), [...run, href, ...args]];
}

/** Starts an example that needs no permission but the network. */
export function example(name: string, ...args: string[]): Subprocess {
  return new Subprocess(...command(name, args, []));
}

/** How an example differs from most. */
export interface ExampleOptions {
  /** What it is permitted besides the network. */
  readonly permissions?: readonly string[];
  /** How it says where it listens. */
  readonly says?: RegExp;
  /** The exit code when it fails. */
  readonly code?: number;
}

/** The example fails with these arguments, and says why in one line. */
export async function assertFails(
  name: string,
  args: readonly string[],
  line: RegExp,
  { permissions = [], code = 2 }: ExampleOptions = {},
): Promise<void> {
  await using process = new Subprocess(...command(name, args, permissions));
  const { stdout, stderr, ...ending } = await process.end();
  assertMatch(stderr, line);
  assertEquals(stderr.trimEnd().split("\n").length, 1);
  assertEquals([ending.code, text(stdout)], [code, ""]);
}

/** An example that listens. */
export class Server extends Subprocess {
  #port = 0;

  /** Starts it, and waits until it listens. */
  static async start(
    name: string,
    args: readonly string[] = [],
    {
      permissions = [],
      says = /^Listening on 127\.0\.0\.1 port (\d+)$/,
    }: ExampleOptions = {},
  ): Promise<Server> {
    const server = new Server(...command(name, args, permissions));
    try {
      const line = await server.line();
      const [, port] = says.exec(line) ?? [];
      assert(port !== undefined, line);
      server.#port = Number(port);
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where it listens, on this machine. */
  get port(): number {
    return this.#port;
  }

  /** Connects a client. */
  async connect(): Promise<Talk<Deno.TcpConn>> {
    return new Talk(await connect(this.port));
  }

  /**
   * The most memory it has had so far, in bytes; 0 where the system does not
   * say.
   */
  peakMemory(): number {
    if (Deno.build.os !== "linux") return 0;
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }

  /** How many times it has a file open; 0 where the system does not say. */
  openFiles(path: string): number {
    if (Deno.build.os !== "linux") return 0;
    const folder = `/proc/${this.pid}/fd`;
    return [...Deno.readDirSync(folder)].filter(({ name }) => {
      try {
        return Deno.readLinkSync(`${folder}/${name}`) === path;
      } catch {
        return false; // It is closed by now.
      }
    }).length;
  }

  /**
   * Has it end: after whatever a test did to it, it must end well, and have
   * nothing more to say.
   */
  async stop(signal: Deno.Signal = "SIGINT"): Promise<void> {
    this.kill(signal);
    const { code, stdout, stderr } = await this.end();
    assertEquals([code, text(stdout), stderr], [0, "", ""]);
  }
}

/** The program did what it was to do, and had nothing to complain about. */
export function assertGood({ code, stderr }: Ending): void {
  assertEquals([code, stderr], [0, ""]);
}

/** Not `assertEquals`, which would print megabytes. */
export function assertSameBytes(
  actual: Uint8Array,
  expected: Uint8Array,
): void {
  assertEquals(actual.length, expected.length);
  assert(actual.every((byte, i) => byte === expected[i]), "other bytes");
}

/** A port on which nobody listens. */
export function deadPort(): number {
  using listener = listenTcp();
  return listener.addr.port;
}

/** Connects to a server on this machine. */
export function connect(port: number): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: "127.0.0.1", port });
}

/** Bytes of latin1. */
export function latin1(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Latin1 of bytes. */
export function fromLatin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

/** A client by hand: says what it is told, and reads lines and bytes. */
export class Talk<Conn extends Deno.Conn = Deno.Conn> implements Disposable {
  readonly conn: Conn;
  #unread = new Uint8Array(0);

  constructor(conn: Conn) {
    this.conn = conn;
  }

  /** Sends text, each character as a byte. */
  async send(said: string | Uint8Array): Promise<void> {
    await writeAll(this.conn, typeof said === "string" ? latin1(said) : said);
  }

  /** Sends something, then no more, and reads up to the end of file. */
  async sendLast(said: string | Uint8Array): Promise<string> {
    const sent = this.send(said).then(() => this.conn.closeWrite());
    const [heard] = await Promise.all([this.until(() => false), sent]);
    return heard;
  }

  /** Reads a line, without its end; throws if the connection ends before. */
  async line(end = "\r\n"): Promise<string> {
    for (;;) {
      const length = this.#unread.indexOf(10) + 1;
      if (length === 0) {
        if (await this.#more()) continue;
        throw new Error(`The end came after "${text(this.#unread)}"`);
      }
      const line = text(await this.bytes(length));
      assert(line.endsWith(end), `no ${JSON.stringify(end)} behind "${line}"`);
      return line.slice(0, -end.length);
    }
  }

  /** Reads so many bytes; throws if the connection ends before. */
  async bytes(length: number): Promise<Uint8Array<ArrayBuffer>> {
    while (this.#unread.length < length) {
      if (await this.#more()) continue;
      throw new Error(`The end came ${length - this.#unread.length} early`);
    }
    const bytes = this.#unread.slice(0, length);
    this.#unread = this.#unread.slice(length);
    return bytes;
  }

  /** Reads until `done` says so of what came, as latin1, or the end comes. */
  async until(done: (heard: string) => boolean): Promise<string> {
    for (let heard = "";;) {
      heard += fromLatin1(await this.bytes(this.#unread.length));
      if (done(heard) || !await this.#more()) return heard;
    }
  }

  /** Reads up to the end of file. */
  async rest(): Promise<Uint8Array<ArrayBuffer>> {
    const unread = await this.bytes(this.#unread.length);
    return await new Blob([unread, await readToEnd(this.conn)]).bytes();
  }

  async #more(): Promise<boolean> {
    const buffer = new Uint8Array(65_536);
    const length = await within(this.conn.read(buffer));
    if (length === null) return false;
    const unread = new Uint8Array(this.#unread.length + length);
    unread.set(this.#unread);
    unread.set(buffer.subarray(0, length), this.#unread.length);
    this.#unread = unread;
    return true;
  }

  [Symbol.dispose](): void {
    try {
      this.conn.close();
    } catch (error) {
      // A test may have closed it, or broken it.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}

/**
 * Returns when a count stands still: a hundred times in a row `serveOther`,
 * which makes the same server do something else, changes nothing.
 */
export async function untilStill(
  count: () => number,
  serveOther: () => Promise<void>,
): Promise<void> {
  for (let last = count(), still = 0; still < 100; still++) {
    await serveOther();
    if (count() !== last) still = 0;
    last = count();
  }
}

/** Sends the same again and again, until the server takes no more. */
export async function sendUntilFull(
  talk: Talk,
  data: Uint8Array,
  serveOther: () => Promise<void>,
): Promise<void> {
  let sent = 0;
  const sending = (async () => {
    for (;;) sent += await talk.conn.write(data.subarray(sent % data.length));
  })();
  // It ends when the connection is closed.
  sending.catch(() => {});
  await untilStill(() => sent, serveOther);
}

/** Runs a simulation to its end, and what was begun in it. */
export async function simulate<T extends unknown[]>(
  net: SimNet,
  ...acts: { [K in keyof T]: Promise<T[K]> }
): Promise<T> {
  const all = Promise.all(acts);
  // Waited for below, unless the simulation fails before.
  all.catch(() => {});
  await net.run();
  return await all as T;
}

/**
 * Runs clients against a server in simulation, until nothing happens any more;
 * `connect()` makes one, which is closed at the end.
 */
export async function simulateClients(
  net: SimNet,
  addr: { hostname: string; port: number },
  clients: (connect: () => Promise<Talk<SimConn>>) => Promise<void>,
): Promise<void> {
  const servers = [...net.map];
  using talks = new DisposableStack();
  const connect = async () => talks.use(new Talk(await net.connect(addr)));
  await simulate(net, clients(connect).finally(() => talks.dispose()));
  // Every client is gone, the server is still there.
  assertEquals([...net.map], servers);
}

/** Starts a Python script, which can `connect()` to the port, `receive()` all of so many bytes or a `line()`, and `reset()` a connection. */
export function python(script: string, port = 0): Subprocess {
  const prelude = `
import socket, struct

def connect():
    conn = socket.create_connection(("127.0.0.1", ${port}))
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn

def receive(conn, length):
    data = b""
    while len(data) < length:
        more = conn.recv(length - len(data))
        if not more:
            break
        data += more
    return data

def line(conn):
    data = b""
    while not data.endswith(b"\\n"):
        more = conn.recv(1)
        if not more:
            break
        data += more
    return data

def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
`;
  return new Subprocess("python3", ["-c", prelude + script]);
}

/** Runs a Python script to its end, which has to be a good one. */
export async function runPython(script: string, port: number): Promise<void> {
  await using process = python(script, port);
  assertGood(await process.end());
}
