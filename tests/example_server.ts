/**
 * What tests of the example servers share: a server in a process of its own,
 * and a client that talks to it, or to one in simulation, by hand.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { readToEnd, text, until, within, writeAll } from "./net.ts";
import { Subprocess } from "./subprocess.ts";

/** An example that listens. */
export class ExampleServer implements AsyncDisposable {
  readonly #process: Subprocess;
  readonly #pid: number;
  /** Where it listens, on this machine. */
  readonly port: number;

  private constructor(process: Subprocess, pid: number, port: number) {
    this.#process = process;
    this.#pid = pid;
    this.port = port;
  }

  /** Starts an example with `--allow-net` and these permissions. */
  static async start(
    name: string,
    permissions: readonly string[],
    ...args: string[]
  ): Promise<ExampleServer> {
    const { href } = new URL(`../examples/${name}`, import.meta.url);
    // The shell says its process id, which is the server's afterwards.
    const process = new Subprocess("sh", [
      "-c",
      'echo $$; exec "$0" "$@"',
      Deno.execPath(),
      "run",
      "--no-prompt",
      "--allow-net",
      ...permissions,
      href,
      ...args,
    ]);
    try {
      const pid = Number(await process.line());
      const line = await process.line();
      const [, port] = /^Listening on 127\.0\.0\.1 port (\d+)$/.exec(line) ??
        [];
      assert(port !== undefined, line);
      return new ExampleServer(process, pid, Number(port));
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Connects a client. */
  async connect(): Promise<Talk> {
    return new Talk(
      await Deno.connect({ hostname: "127.0.0.1", port: this.port }),
    );
  }

  /**
   * The most memory it has had so far, in bytes; 0 where the system does not
   * say.
   */
  peakMemory(): number {
    if (Deno.build.os !== "linux") return 0;
    const status = Deno.readTextFileSync(`/proc/${this.#pid}/status`);
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }

  /** How many times it has a file open; 0 where the system does not say. */
  openFiles(path: string): number {
    if (Deno.build.os !== "linux") return 0;
    const folder = `/proc/${this.#pid}/fd`;
    return [...Deno.readDirSync(folder)].filter(({ name }) => {
      try {
        return Deno.readLinkSync(`${folder}/${name}`) === path;
      } catch {
        return false; // It is closed by now.
      }
    }).length;
  }

  /** The next line that it prints. */
  line(): Promise<string> {
    return this.#process.line();
  }

  /** Has it end: it must end well, and have nothing more to say. */
  async stop(signal: Deno.Signal = "SIGINT"): Promise<void> {
    this.#process.kill(signal);
    const { code, stdout, stderr } = await this.#process.end();
    assertEquals([code, text(stdout), stderr], [0, "", ""]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}

/** A client by hand: says what it is told, and reads lines and bytes. */
export class Talk implements Disposable {
  readonly conn: Deno.Conn;
  #unread = new Uint8Array(0);

  constructor(conn: Deno.Conn) {
    this.conn = conn;
  }

  /** Sends text, each character as a byte. */
  async send(text: string | Uint8Array): Promise<void> {
    await writeAll(
      this.conn,
      typeof text === "string"
        ? Uint8Array.from(text, (char) => char.charCodeAt(0))
        : text,
    );
  }

  /** Reads a line, without its end; throws if the connection ends before. */
  async line(): Promise<string> {
    for (;;) {
      const end = this.#unread.indexOf(10);
      if (end < 0) {
        if (await this.#more()) continue;
        throw new Error(`The end came after "${text(this.#unread)}"`);
      }
      const line = text(this.#unread.subarray(0, end));
      this.#unread = this.#unread.slice(end + 1);
      assert(line.endsWith("\r"), `no CR LF behind "${line}"`);
      return line.slice(0, -1);
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
 * Sends the same again and again, until the server, a hundred times that
 * somebody else was served, has taken no more.
 */
export async function sendUntilFull(
  talk: Talk,
  data: Uint8Array,
  serveOther: () => Promise<void>,
): Promise<number> {
  let sent = 0;
  const sending = (async () => {
    for (;;) sent += await talk.conn.write(data.subarray(sent % data.length));
  })();
  // It ends when the connection is closed.
  sending.catch(() => {});
  for (let last = sent, still = 0; still < 100; still++) {
    await serveOther();
    if (sent !== last) still = 0;
    last = sent;
  }
  return sent;
}

/** Waits until a folder has these files, and no other. */
export async function untilFolderHas(
  path: string,
  ...names: string[]
): Promise<void> {
  const listed = () => [...Deno.readDirSync(path)].map(({ name }) => name);
  await until(() => `${listed().sort()}` === `${names.sort()}`);
}
