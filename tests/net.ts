/**
 * What tests on real sockets share: peers that are no dispatchers, a deadline
 * that fails a test instead of letting it hang, and a dispatcher that notes
 * what happens to it.
 *
 * @module
 */

import net from "node:net";
import { once } from "node:events";
import { systemClock } from "../clock.ts";
import {
  type ChannelMap,
  type Clock,
  type CloseReason,
  Dispatcher,
  loop,
  type LoopOptions,
  poll,
  type Timer,
} from "../mod.ts";

/** Milliseconds after which whatever a test waits for will not come. */
const DEADLINE = 10_000;
const TOO_LATE = "What was waited for did not come in time";

/** Waits for a promise, but not for ever. */
export function within<T>(promise: Promise<T>): Promise<T> {
  const deadline = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => deadline.reject(new Error(TOO_LATE)),
    DEADLINE,
  );
  return owned(
    Promise.race([promise, deadline.promise]).finally(() =>
      clearTimeout(timer)
    ),
  );
}

/** A test that failed before it waited for this has told enough. */
function owned<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** Gives everybody else `n` turns of the event loop. */
export async function turns(n = 5): Promise<void> {
  for (let i = 0; i < n; i++) {
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }
}

/** Gives everybody else turns of the event loop until `done()`. */
export async function until(done: () => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(TOO_LATE);
    await turns(1);
  }
}

/**
 * Runs `loop()` under a deadline. A pass waits for as long as it takes, so
 * that no timeout makes up for a wake-up that is missing.
 */
export function run(
  map: ChannelMap,
  options: Omit<LoopOptions, "map"> = {},
): Promise<void> {
  const served = within(loop({ map, timeout: Infinity, ...options }));
  return owned(served.catch((error) => cutOff(map, error)));
}

/** Serves a map pass by pass until `done()`, under a deadline. */
export async function serveUntil(
  map: ChannelMap,
  done: () => boolean,
): Promise<void> {
  const served = (async () => {
    while (!done() && map.size > 0) await poll(Infinity, map);
  })();
  await within(served).catch((error) => cutOff(map, error));
  if (!done()) throw new Error("The map is empty before what was waited for");
}

/** Sees to it that a loop that hangs does not go on into the next test. */
async function cutOff(map: ChannelMap, error: unknown): Promise<never> {
  if (error instanceof Error && error.message === TOO_LATE) {
    for (const channel of map) {
      if (channel instanceof Dispatcher) channel.abort();
    }
    await turns();
  }
  throw error;
}

/** Bytes of a text. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Text of bytes. */
export function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

/** Bytes without a visible pattern, the same every time. */
export function noise(length: number): Uint8Array<ArrayBuffer> {
  const data = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0, x = 2_463_534_242; i < data.length; i++) {
    // xorshift32 (Marsaglia, "Xorshift RNGs")
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    data[i] = x;
  }
  return new Uint8Array(data.buffer, 0, length);
}

/** A listener that is no dispatcher. */
export function listenTcp(): Deno.TcpListener {
  return Deno.listen({ hostname: "127.0.0.1", port: 0 });
}

/** Both ends of a connection: the first for a dispatcher, the second the peer. */
export async function tcpPair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = listenTcp();
  const { hostname, port } = listener.addr as Deno.NetAddr;
  return await within(Promise.all([
    Deno.connect({ hostname, port }),
    listener.accept(),
  ]));
}

/** As {@linkcode tcpPair}, over a Unix socket. */
export async function unixPair(): Promise<[Deno.UnixConn, Deno.UnixConn]> {
  using dir = tempDir();
  using listener = Deno.listen({ transport: "unix", path: `${dir.path}/s` });
  return await within(Promise.all([
    Deno.connect({ transport: "unix", path: `${dir.path}/s` }),
    listener.accept(),
  ]));
}

/** A peer that can break a connection. */
export interface Breaker {
  /** Sends. */
  write(data: Uint8Array): Promise<void>;
  /** Sends a RST in place of a FIN. */
  reset(): Promise<void>;
}

/** As {@linkcode tcpPair}, with a peer that can reset the connection. */
export async function breakablePair(): Promise<[Deno.TcpConn, Breaker]> {
  using listener = listenTcp();
  const { hostname, port } = listener.addr as Deno.NetAddr;
  const socket = net.connect(port, hostname);
  const conn = await within(listener.accept());
  // Read by nobody, closed by `reset()` only.
  socket.pause();
  return [conn, {
    write: (data) =>
      new Promise((resolve) => void socket.write(data, () => resolve())),
    async reset() {
      const closed = once(socket, "close");
      socket.resetAndDestroy();
      await within(closed);
    },
  }];
}

/** Reads exactly `n` bytes. */
export async function readExactly(
  conn: Deno.Conn,
  n: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const data = new Uint8Array(n);
  for (let at = 0; at < n;) {
    const count = await within(conn.read(data.subarray(at)));
    if (count === null) throw new Error(`The end came after ${at} bytes`);
    at += count;
  }
  return data;
}

/** Reads up to the end of file. */
export async function readToEnd(
  conn: Deno.Conn,
  size = 65_536,
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const piece = new Uint8Array(size);
    const count = await within(conn.read(piece));
    if (count === null) break;
    pieces.push(piece.subarray(0, count));
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** Writes everything. */
export async function writeAll(
  conn: Deno.Conn,
  data: Uint8Array,
): Promise<void> {
  for (let at = 0; at < data.length;) {
    at += await within(conn.write(data.subarray(at)));
  }
}

/** A folder that is gone afterwards; short, since a socket's path is limited. */
export function tempDir(): Disposable & { readonly path: string } {
  const path = Deno.makeTempDirSync();
  return {
    path,
    [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }),
  };
}

/** What was written to the console since. */
export interface Captured extends Disposable {
  /** Lines of `console.log`. */
  readonly out: string[];
  /** Lines of `console.error`. */
  readonly err: string[];
}

/** Keeps what is written to the console. */
export function captureConsole(): Captured {
  const { log, error } = console;
  const out: string[] = [];
  const err: string[] = [];
  console.log = (...data: unknown[]) => void out.push(data.join(" "));
  console.error = (...data: unknown[]) => void err.push(data.join(" "));
  return {
    out,
    err,
    [Symbol.dispose]: () => void Object.assign(console, { log, error }),
  };
}

/** What a program did. */
export interface Outcome {
  /** Its exit code. */
  readonly code: number;
  /** What it wrote to standard output. */
  readonly stdout: string;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/**
 * Runs a program in a process of its own until it exits by itself. It imports
 * the package as `./mod.ts`.
 */
export async function script(
  source: string,
  ...args: string[]
): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...args, "-"],
    cwd: new URL("..", import.meta.url),
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(bytes(source));
  await writer.close();
  const deadline = setTimeout(() => child.kill("SIGKILL"), 2 * DEADLINE);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(deadline);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** A clock that stands still until it is told to go on. */
export class StoppedClock implements Clock {
  #now = 0;
  readonly #timers = new Map<object, { at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  setTimer(at: number, run: () => void): Timer {
    const timer = {};
    this.#timers.set(timer, { at, run });
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer);
  }

  /** The sockets are real: I/O gets in as with the system's clock. */
  defer(run: () => void): void {
    systemClock.defer(run);
  }

  idle(): void {}

  /** Lets time pass, and what is due happen. */
  async advance(ms: number): Promise<void> {
    this.#now += ms;
    for (const [timer, { at, run }] of [...this.#timers]) {
      if (at <= this.#now && this.#timers.delete(timer)) run();
    }
    await turns();
  }
}

/** Notes its events and takes what it gets; writes only where a test has it. */
export class Recorder extends Dispatcher {
  /** What happened, in order. */
  readonly events: string[] = [];
  /** What `handleClose` was given. */
  readonly reasons: CloseReason[] = [];
  /** What `handleError` was given. */
  readonly errors: unknown[] = [];
  /** What came in. */
  received = "";

  override writable(): boolean {
    return false;
  }
  override handleConnect(): void {
    this.events.push("connect");
  }
  override handleRead(): void {
    const data = text(this.recv());
    this.received += data;
    this.events.push(`read ${data}`.trim());
  }
  override handleWrite(): void {
    this.events.push("write");
  }
  override handleAccepted(conn: Deno.Conn, _addr: Deno.Addr): void {
    this.events.push("accepted");
    conn.close();
  }
  override handleEof(): void | Promise<void> {
    this.events.push("eof");
    return super.handleEof();
  }
  override handleClose(reason?: CloseReason): void {
    this.events.push(`close ${reason?.kind}`);
    this.reasons.push(reason!);
  }
  override handleError(error: unknown): void {
    this.events.push("error");
    this.errors.push(error);
  }
}
