/**
 * A clock and a system for tests that decide themselves when time passes and
 * when an operation ends. Nothing here sleeps and nothing reaches the network.
 * The fakes behave as Deno does: operations that are pending when their resource
 * is closed reject, and one that had ended before keeps its result.
 *
 * @module
 */

import { ChannelMap } from "../channel_map.ts";
import type { Clock, Timer } from "../clock.ts";
import { loop, type LoopOptions } from "../loop.ts";
import type { SocketAddress } from "../sockets/socket.ts";
import { type System, SystemNetwork } from "../sockets/system_network.ts";

/** Text as bytes. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Bytes as text. */
export function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

/** Lets everything happen that needs no more time and no more input. */
export async function settle(): Promise<void> {
  // A pass hops at most a few times before it waits.
  for (let turn = 0; turn < 10; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** More looks at the clock than this between two macrotasks: a loop spins. */
const SPIN = 20_000;

interface FakeTimer {
  readonly at: number;
  readonly run: () => void;
}

/** Time that stands still, until a test moves it. */
export class FakeClock implements Clock {
  #now = 1_000;
  #looks = 0;
  readonly #timers = new Set<FakeTimer>();
  /** How often a pass yielded. */
  hops = 0;
  /** How often a loop began to wait. */
  idles = 0;

  now(): number {
    if (++this.#looks > SPIN) throw new Error("Cannot tell time: a loop spins");
    return this.#now;
  }

  setTimer(at: number, run: () => void): Timer {
    const timer: FakeTimer = { at, run };
    this.#timers.add(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer as FakeTimer);
  }

  defer(run: () => void): void {
    this.hops++;
    setImmediate(() => {
      this.#looks = 0;
      run();
    });
  }

  idle(): void {
    this.idles++;
  }

  /** When the timers that are set are due, from now; the earliest first. */
  get timers(): number[] {
    return [...this.#timers].map(({ at }) => at - this.#now)
      .sort((a, b) => a - b);
  }

  /** Lets time pass while code runs: no timer fires meanwhile. */
  spend(ms: number): void {
    this.#now += ms;
  }

  /** Lets time pass: timers fire in their order, each with what follows from it. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      this.#looks = 0;
      await settle();
      const [next] = [...this.#timers].filter(({ at }) => at <= end)
        .sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = Math.max(this.#now, end);
  }
}

/** An operation in flight. */
interface Operation<T> {
  readonly buffer: Uint8Array;
  readonly resolve: (result: T) => void;
  readonly reject: (error: unknown) => void;
}

function interrupted(): Error {
  return new Deno.errors.Interrupted("operation canceled");
}

function badResource(): Error {
  return new Deno.errors.BadResource("Bad resource ID");
}

let ports = 10_000;

/** A connection of which the test is the peer and the kernel. */
export class FakeConn implements Deno.TcpConn {
  readonly localAddr: Deno.NetAddr = {
    transport: "tcp",
    hostname: "127.0.0.1",
    port: 80,
  };
  readonly remoteAddr: Deno.NetAddr = {
    transport: "tcp",
    hostname: "127.0.0.1",
    port: ports++,
  };
  /** Every call but `read`, in order: `write 5`, `closeWrite`, `close`. */
  readonly calls: string[] = [];
  /** How many reads were started. */
  reads = 0;
  /** Everything that was written, as text. */
  sent = "";
  /** What a write does: takes all, takes so many bytes, waits for `release`, or fails. */
  onWrite: "take" | "wait" | number | Error = "take";
  /** What `closeWrite` rejects with. */
  closeWriteError: Error | undefined;
  closed = false;
  #incoming: (Uint8Array | Error | null)[] = [];
  #read: Operation<number | null> | null = null;
  #write: Operation<number> & { readonly copy: Uint8Array } | null = null;

  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    throw new Error("Cannot stream: not part of the fake");
  }

  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    throw new Error("Cannot stream: not part of the fake");
  }

  // What a test does.

  /** Whether a read is in flight. */
  get reading(): boolean {
    return this.#read !== null;
  }

  /** Whether a write is in flight. */
  get writing(): boolean {
    return this.#write !== null;
  }

  /** Has data arrive. */
  deliver(data: string | Uint8Array): void {
    this.#arrive(typeof data === "string" ? bytes(data) : data);
  }

  /** Has the peer's end of file arrive. */
  end(): void {
    this.#arrive(null);
  }

  /** Has the read fail that is in flight, or the next one; later ones see an end of file, as in Deno. */
  failRead(error: Error): void {
    this.#arrive(error);
    this.#incoming.push(null);
  }

  /** Ends the write in flight, which waits: `n` bytes of it were taken. */
  release(n = Infinity): void {
    const write = this.#write!;
    this.#write = null;
    if (write.copy.some((byte, i) => byte !== write.buffer[i])) {
      throw new Error("Cannot write: the buffer in flight was changed");
    }
    const taken = write.copy.subarray(0, n);
    this.sent += text(taken);
    write.resolve(taken.length);
  }

  /** Has the write fail that is in flight, and all later ones. */
  failWrite(error: Error): void {
    this.onWrite = error;
    this.#write?.reject(error);
    this.#write = null;
  }

  #arrive(what: Uint8Array | Error | null): void {
    this.#incoming.push(what);
    this.#complete();
  }

  #complete(): void {
    const read = this.#read;
    const what = this.#incoming[0];
    if (read === null || what === undefined) return;
    this.#read = null;
    if (what === null) return read.resolve(null);
    this.#incoming.shift();
    if (what instanceof Error) return read.reject(what);
    const n = Math.min(read.buffer.length, what.length);
    read.buffer.set(what.subarray(0, n));
    if (n < what.length) this.#incoming.unshift(what.subarray(n));
    read.resolve(n);
  }

  // What Deno does.

  read(buffer: Uint8Array): Promise<number | null> {
    if (this.closed) return Promise.reject(badResource());
    if (this.reading) throw new Error("Cannot read: a read is in flight");
    this.reads++;
    const { promise, ...ends } = Promise.withResolvers<number | null>();
    this.#read = { buffer, ...ends };
    this.#complete();
    return promise;
  }

  write(buffer: Uint8Array): Promise<number> {
    if (this.closed) return Promise.reject(badResource());
    if (this.writing) throw new Error("Cannot write: a write is in flight");
    this.calls.push(`write ${buffer.length}`);
    if (this.onWrite instanceof Error) return Promise.reject(this.onWrite);
    const { promise, ...ends } = Promise.withResolvers<number>();
    this.#write = { buffer, copy: buffer.slice(), ...ends };
    if (this.onWrite === "take") this.release();
    else if (this.onWrite !== "wait") this.release(this.onWrite);
    return promise;
  }

  closeWrite(): Promise<void> {
    if (this.closed) return Promise.reject(badResource());
    if (this.writing) {
      throw new Error("Cannot half-close: a write is in flight");
    }
    this.calls.push("closeWrite");
    const error = this.closeWriteError;
    return error === undefined ? Promise.resolve() : Promise.reject(error);
  }

  close(): void {
    if (this.closed) throw badResource();
    this.closed = true;
    this.calls.push("close");
    this.#read?.reject(interrupted());
    this.#write?.reject(interrupted());
    this.#read = this.#write = null;
  }

  setNoDelay(): void {
    if (this.closed) throw badResource();
  }

  setKeepAlive(): void {
    if (this.closed) throw badResource();
  }

  ref(): void {}

  unref(): void {}

  [Symbol.dispose](): void {
    if (!this.closed) this.close();
  }
}

/** A listener of which the test is the kernel. */
export class FakeListener implements Deno.Listener {
  readonly addr: Deno.NetAddr = {
    transport: "tcp",
    hostname: "127.0.0.1",
    port: ports++,
  };
  /** How many accepts were started. */
  accepts = 0;
  closed = false;
  #waiting: (Deno.Conn | Error)[] = [];
  #accept: Omit<Operation<Deno.Conn>, "buffer"> | null = null;

  /** Whether an accept is in flight. */
  get accepting(): boolean {
    return this.#accept !== null;
  }

  /** Has a connection arrive. */
  deliver<Conn extends Deno.Conn>(conn: Conn): Conn {
    this.#waiting.push(conn);
    this.#complete();
    return conn;
  }

  /** Has the accept fail that is in flight, or the next one. */
  fail(error: Error): void {
    this.#waiting.push(error);
    this.#complete();
  }

  #complete(): void {
    if (this.#accept === null || this.#waiting.length === 0) return;
    const { resolve, reject } = this.#accept;
    this.#accept = null;
    const what = this.#waiting.shift()!;
    if (what instanceof Error) reject(what);
    else resolve(what);
  }

  accept(): Promise<Deno.Conn> {
    if (this.closed) return Promise.reject(badResource());
    if (this.accepting) {
      return Promise.reject(
        new Deno.errors.Busy("Another accept task is ongoing"),
      );
    }
    this.accepts++;
    const { promise, ...ends } = Promise.withResolvers<Deno.Conn>();
    this.#accept = ends;
    this.#complete();
    return promise;
  }

  close(): void {
    if (this.closed) throw badResource();
    this.closed = true;
    this.#accept?.reject(
      new Deno.errors.BadResource("Listener has been closed"),
    );
    this.#accept = null;
  }

  ref(): void {}

  unref(): void {}

  [Symbol.dispose](): void {
    if (!this.closed) this.close();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Deno.Conn> {
    throw new Error("Cannot iterate: not part of the fake");
  }
}

/** A connection that was asked for. */
export class FakeConnect {
  readonly promise: Promise<Deno.Conn>;
  readonly #ends: Omit<Operation<Deno.Conn>, "buffer">;
  /** Whether its signal was aborted. */
  aborted = false;

  constructor(signal: AbortSignal | undefined) {
    const { promise, ...ends } = Promise.withResolvers<Deno.Conn>();
    this.promise = promise;
    this.#ends = ends;
    signal?.addEventListener("abort", () => {
      this.aborted = true;
      ends.reject(signal.reason);
    });
  }

  /** Has it succeed. */
  succeed(conn: FakeConn = new FakeConn()): FakeConn {
    this.#ends.resolve(conn);
    return conn;
  }

  /** Has it fail. */
  fail(error: Error): void {
    this.#ends.reject(error);
  }
}

/** Connections and listeners that were asked for, in order. */
export class FakeSystem implements System {
  readonly connects: FakeConnect[] = [];
  readonly listeners: FakeListener[] = [];

  readonly connect = (
    { signal }: SocketAddress & { signal?: AbortSignal },
  ): Promise<Deno.Conn> => {
    const attempt = new FakeConnect(signal);
    this.connects.push(attempt);
    return attempt.promise;
  };

  readonly listen = (): Deno.Listener => {
    const listener = new FakeListener();
    this.listeners.push(listener);
    return listener;
  };
}

/** A map on a fake clock and a fake system, and the loop that serves it. */
export class World {
  readonly clock: FakeClock = new FakeClock();
  readonly system: FakeSystem = new FakeSystem();
  readonly map: ChannelMap = new ChannelMap({
    clock: this.clock,
    network: new SystemNetwork(this.clock, this.system),
  });
  /** What happened, in order: whatever the test's channels note here. */
  readonly trace: string[] = [];
  /** What the channels logged. */
  readonly logs: string[] = [];
  #controller = new AbortController();
  #served: Promise<void> = Promise.resolve();

  /** Starts a loop without a time limit and returns when it waits. */
  async serve(options: LoopOptions = {}): Promise<void> {
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    this.#served = loop({
      map: this.map,
      timeout: Infinity,
      signal,
      ...options,
    });
    // Whoever wants to know awaits `served` or calls `stop`.
    this.#served.catch(() => {});
    await settle();
  }

  /** The loop that {@linkcode World.serve} started. */
  get served(): Promise<void> {
    return this.#served;
  }

  /** Ends that loop, and throws what it threw. */
  async stop(): Promise<void> {
    this.#controller.abort();
    await this.#served;
  }

  /** Takes what happened so far. */
  take(): string[] {
    return this.trace.splice(0);
  }
}
