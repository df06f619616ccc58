/**
 * A simulated connection: two ends, and a pipe each way. It behaves as a `Deno.Conn` does on Linux: partial writes, a peer that
 * closes with unread input resets, a reset is told once and then reads see the end and writes a broken pipe. Unix sockets differ in
 * that a writer learns at once that its peer is gone, and that only a reader is told of a reset.
 *
 * @module
 */

import type { Ambush, Link } from "./link.ts";
import type { SimConn } from "./peer.ts";
import type { Random } from "./random.ts";
import { systemError } from "./system_error.ts";
import type { VirtualClock } from "./virtual_clock.ts";

/** What every part of a simulated network works with. */
export interface Simulation {
  readonly clock: VirtualClock;
  readonly random: Random;
  /** What is open, for whoever looks for leaks. */
  readonly open: Set<{ close(): void }>;
  /** How many operations did not settle yet. */
  operations: number;
}

/** An operation that somebody waits for. */
interface Operation<T> {
  readonly resolve: (result: T) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Starts an operation. Whoever returns its promise awaits it first, since Deno's settle that much later, too.
 *
 * @param simulation Where it is counted.
 * @param start Puts it where it will be settled.
 * @returns Its promise.
 */
export function operate<T>(
  simulation: Simulation,
  start: (operation: Operation<T>) => void,
): Promise<T> {
  simulation.operations++;
  return new Promise<T>((resolve, reject) =>
    start({
      resolve: (result) => {
        simulation.operations--;
        resolve(result);
      },
      reject: (error) => {
        simulation.operations--;
        reject(error);
      },
    })
  );
}

/** What travels through a pipe. */
type Segment =
  | Uint8Array<ArrayBuffer>
  /** No more bytes come. */
  | "end"
  /** No more bytes come, and none are taken any more. */
  | "close"
  /** The sender has broken the connection. */
  | "reset"
  /** A fault has broken the connection: for both sides. */
  | "break"
  | "urgent";

/** One way of a connection: what one end has written and the other has not read. */
class Pipe {
  readonly #simulation: Simulation;
  readonly #link: Link;
  readonly #ambushes: Ambush[];
  readonly #ends: () => { sender: ConnEnd; receiver: ConnEnd };
  readonly #way: Segment[] = [];
  /** Bytes that are under way or wait to be read. */
  #held = 0;
  /** Bytes that went in so far. */
  #passed = 0;
  /** When the line is free for the next segment. */
  #free = 0;
  /** When the last segment arrives. */
  #arrival = 0;
  /** Nothing gets through any more: ended by a fault, or broken. */
  #cut = false;
  #reset = false;
  /** Why writes fail. */
  failure: Error | undefined;

  constructor(
    simulation: Simulation,
    link: Link,
    ambushes: Ambush[],
    ends: () => { sender: ConnEnd; receiver: ConnEnd },
  ) {
    this.#simulation = simulation;
    this.#link = link;
    this.#ambushes = ambushes;
    this.#ends = ends;
  }

  /** Takes in some bytes; none while it is full. */
  take(data: Uint8Array): number {
    const { writeSize, window } = this.#link;
    const most = Math.min(data.length, this.#simulation.random.draw(writeSize));
    const room = this.#cut ? most : Math.min(most, window - this.#held);
    let taken = 0;
    while (taken < room && this.failure === undefined) {
      const next = (this.#ambushes[0]?.at ?? Infinity) - this.#passed;
      const piece = data.slice(taken, taken + Math.min(room - taken, next));
      if (!this.#cut) this.#transmit(piece);
      this.#passed += piece.length;
      taken += piece.length;
      this.strike();
    }
    return taken;
  }

  /** Has the faults happen whose byte has come. */
  strike(): void {
    while ((this.#ambushes[0]?.at ?? Infinity) <= this.#passed) {
      const { what, pause } = this.#ambushes.shift()!;
      if (what === "writeError") this.failure = systemError("writeError");
      else if (what === "stall") {
        this.#free = Math.max(this.#free, this.#simulation.clock.time) + pause;
      } else if (what === "reset") this.#send("break");
      else this.#send(what);
      if (what === "reset" || what === "end") this.#cut = true;
    }
  }

  /** Has the receiver told of urgent data. */
  urgent(): void {
    this.#send("urgent");
  }

  /** No more bytes will come. */
  finish(how: "end" | "close"): void {
    if (!this.#cut) this.#send(how);
    this.#cut = true;
  }

  /**
   * The sender has closed in a way that tells the receiver that the connection is broken; what is under way may get lost. Deno's own
   * `close()` half-closes first, so that, if all gets there, an end of file does, too.
   */
  reset(halfClose: boolean): void {
    const { random } = this.#simulation;
    const { length } = this.#way;
    this.#way.length = random.draw([0, length]);
    if (halfClose && this.#way.length === length) this.finish("end");
    this.answer();
  }

  /** What was sent came to a closed end, which says so. */
  answer(): void {
    if (this.#reset) return;
    this.#cut = true;
    this.#reset = true;
    this.#send("reset");
  }

  /** The connection is broken: what is under way gets lost. */
  break(): void {
    this.#cut = this.#reset = true;
    this.#way.length = 0;
  }

  /** The receiver has taken bytes: there is room. */
  release(bytes: number): void {
    this.#held -= bytes;
    const { clock } = this.#simulation;
    if (bytes > 0) clock.schedule(clock.time, this.#ends().sender.serveWrites);
  }

  #transmit(data: Uint8Array<ArrayBuffer>): void {
    const { bandwidth, segmentSize } = this.#link;
    const { random, clock } = this.#simulation;
    this.#held += data.length;
    for (let at = 0; at < data.length;) {
      const segment = data.subarray(at, at + random.draw(segmentSize));
      const start = Math.max(this.#free, clock.time);
      this.#free = start + segment.length * 1_000 / bandwidth;
      this.#send(segment);
      at += segment.length;
    }
  }

  #send(segment: Segment): void {
    const { random, clock } = this.#simulation;
    const start = Math.max(this.#free, clock.time);
    const arrival = start + random.draw(this.#link.latency);
    this.#arrival = Math.max(this.#arrival, arrival);
    this.#way.push(segment);
    clock.schedule(this.#arrival, this.#arrive);
  }

  /** The first segment arrives: whatever the order of the events, that of the segments is kept. */
  readonly #arrive = (): void => {
    const segment = this.#way.shift();
    if (segment === undefined) return; // it got lost
    const { sender, receiver } = this.#ends();
    if (segment instanceof Uint8Array) receiver.arrive(segment);
    else if (segment === "end") receiver.end();
    else if (segment === "close") receiver.end(true);
    else if (segment === "urgent") receiver.onUrgent?.();
    else {
      receiver.break();
      if (segment === "break") sender.break();
    }
  };
}

/** The addresses of one end. */
export interface Addresses {
  readonly localAddr: Deno.Addr;
  readonly remoteAddr: Deno.Addr;
}

/** See the module's documentation. */
export class ConnEnd implements SimConn {
  readonly localAddr: Deno.Addr;
  readonly remoteAddr: Deno.Addr;
  /** Called when urgent data arrives. */
  onUrgent: (() => void) | null = null;
  readonly #simulation: Simulation;
  readonly #link: Link;
  readonly #unix: boolean;
  #in!: Pipe;
  #out!: Pipe;
  readonly #reads: (Operation<number | null> & { buffer: Uint8Array })[] = [];
  /** Writes, and half-closes, which wait behind them and have no data. */
  readonly #writes: (Operation<number> & { data: Uint8Array | null })[] = [];
  /** What arrived and was not read. */
  readonly #arrived: Uint8Array<ArrayBuffer>[] = [];
  #unread = 0;
  /** The peer sends no more. */
  #ended = false;
  /** The peer takes no more. */
  #refused = false;
  /** We send no more. */
  #finished = false;
  /** The connection is broken, and whether nobody was told yet. */
  #broken: "no" | "untold" | "told" = "no";
  #closed = false;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  private constructor(
    simulation: Simulation,
    link: Link,
    { localAddr, remoteAddr }: Addresses,
  ) {
    this.#simulation = simulation;
    this.#link = link;
    this.localAddr = localAddr;
    this.remoteAddr = remoteAddr;
    this.#unix = localAddr.transport === "unix";
    simulation.open.add(this);
  }

  /**
   * Makes a connection.
   *
   * @param simulation What it is part of.
   * @param link How it behaves.
   * @param addresses Those of the side that opens it, and of the one that accepts it.
   * @returns Both ends.
   */
  static connect(
    simulation: Simulation,
    link: Link,
    addresses: { client: Addresses; server: Addresses },
  ): { client: ConnEnd; server: ConnEnd } {
    const { random } = simulation;
    const client = new ConnEnd(simulation, link, addresses.client);
    const server = new ConnEnd(simulation, link, addresses.server);
    client.#out = server.#in = new Pipe(
      simulation,
      link,
      link.ambush("toServer", random),
      () => ({ sender: client, receiver: server }),
    );
    server.#out = client.#in = new Pipe(
      simulation,
      link,
      link.ambush("toClient", random),
      () => ({ sender: server, receiver: client }),
    );
    client.#out.strike();
    server.#out.strike();
    return { client, server };
  }

  /** Whether it is part of a simulation. */
  isOf(simulation: Simulation): boolean {
    return this.#simulation === simulation;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether it broke. */
  get broken(): boolean {
    return this.#broken !== "no";
  }

  // What arrives.

  /** Bytes arrive. */
  arrive(data: Uint8Array<ArrayBuffer>): void {
    // There is no more room for having been thrown away: a write that waits for it fails.
    if (this.#closed) return this.#out.answer();
    this.#arrived.push(data);
    this.#unread += data.length;
    this.#serveReads();
  }

  /** The peer's end of file arrives, and perhaps the news that it takes no more. */
  end(refused = false): void {
    this.#ended = true;
    this.#refused = refused;
    this.#serveReads();
    if (refused) this.serveWrites();
  }

  /** The connection breaks. */
  break(): void {
    if (this.#closed || this.broken) return;
    // After the peer's end of file there is nothing left to tell a reader.
    this.#broken = this.#ended && !this.#unix ? "told" : "untold";
    this.#out.break();
    this.#serveReads();
    this.serveWrites();
  }

  // What Deno does.

  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.length === 0) return 0;
    if (this.#closed) throw systemError("badResource");
    return await operate(this.#simulation, (operation) => {
      this.#reads.push({ ...operation, buffer });
      this.#simulation.clock.soon(this.#serveReads);
    });
  }

  readonly #serveReads = (): void => {
    while (this.#reads.length > 0) {
      if (this.#unread > 0) {
        const { buffer, resolve } = this.#reads.shift()!;
        resolve(this.#fill(buffer));
      } else if (this.#broken === "untold") {
        this.#broken = "told";
        this.#reads.shift()!.reject(systemError("reset"));
      } else if (this.#ended || this.broken) this.#reads.shift()!.resolve(null);
      else return;
    }
  };

  #fill(buffer: Uint8Array): number {
    const most = this.#simulation.random.draw(this.#link.readSize);
    const size = Math.min(buffer.length, most, this.#unread);
    for (let at = 0; at < size;) {
      const first = this.#arrived[0]!;
      const piece = first.subarray(0, size - at);
      buffer.set(piece, at);
      at += piece.length;
      if (piece.length === first.length) this.#arrived.shift();
      else this.#arrived[0] = first.subarray(piece.length);
    }
    this.#unread -= size;
    this.#in.release(size);
    return size;
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.#closed) throw systemError("badResource");
    return await operate(this.#simulation, (operation) => {
      this.#writes.push({ ...operation, data });
      this.#simulation.clock.soon(this.serveWrites);
    });
  }

  closeWrite(): Promise<void> {
    if (this.#closed) return Promise.reject(systemError("badResource"));
    return operate<void>(this.#simulation, ({ resolve, reject }) => {
      this.#writes.push({ resolve: () => resolve(), reject, data: null });
      this.#simulation.clock.soon(this.serveWrites);
    });
  }

  /** Settles the writes that can be. */
  readonly serveWrites = (): void => {
    while (this.#writes.length > 0) {
      const { data, resolve, reject } = this.#writes[0]!;
      const error = data === null ? undefined : this.#takeWriteError();
      if (data === null) {
        this.#finish();
        resolve(0);
      } else if (error !== undefined) reject(error);
      else {
        const taken = this.#out.take(data);
        if (taken === 0 && data.length > 0) return;
        resolve(taken);
      }
      this.#writes.shift();
    }
  };

  #finish(): void {
    if (!this.broken && !this.#finished) this.#out.finish("end");
    this.#finished = true;
  }

  /** Why nothing can be written, and a reset is told by that. */
  #takeWriteError(): Error | undefined {
    if (this.#broken === "untold" && !this.#unix) {
      this.#broken = "told";
      return systemError("reset");
    }
    const gone = this.broken || this.#refused || this.#finished;
    return gone ? systemError("brokenPipe") : this.#out.failure;
  }

  close(): void {
    this.#close(() => {
      if (this.#unread > 0) this.#out.reset(!this.#unix);
      else if (this.#unix) this.#out.finish("close");
      else this.#finish();
    });
  }

  reset(): void {
    this.#close(() => this.#out.reset(false));
  }

  #close(tell: () => void): void {
    if (this.#closed) throw systemError("badResource");
    this.#closed = true;
    this.onUrgent = null;
    this.#simulation.open.delete(this);
    const pending = [...this.#reads.splice(0), ...this.#writes.splice(0)];
    const { clock } = this.#simulation;
    clock.schedule(clock.time, () => {
      for (const { reject } of pending) reject(systemError("interrupted"));
    });
    if (!this.broken) tell();
    this.#unread = this.#arrived.length = 0;
  }

  sendUrgent(): void {
    if (this.#closed) throw systemError("badResource");
    this.#out.urgent();
  }

  setNoDelay(): void {
    if (this.#closed) throw systemError("badResource");
  }

  setKeepAlive(): void {
    if (this.#closed) throw systemError("badResource");
  }

  /** A simulated connection never holds the process. */
  ref(): void {}

  /** A simulated connection never holds the process. */
  unref(): void {}

  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      pull: async (controller) => {
        const buffer = new Uint8Array(16_384);
        const size = await this.#orClose(this.read(buffer));
        if (size !== null) return controller.enqueue(buffer.subarray(0, size));
        controller.close();
        this[Symbol.dispose]();
      },
      cancel: () => this[Symbol.dispose](),
    }, { highWaterMark: 0 });
  }

  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: async (data) => {
        for (let rest = data; rest.length > 0;) {
          rest = rest.subarray(await this.#orClose(this.write(rest)));
        }
      },
      close: () => this[Symbol.dispose](),
      abort: () => this[Symbol.dispose](),
    });
  }

  /** A stream that fails closes the connection. */
  async #orClose<T>(operation: Promise<T>): Promise<T> {
    try {
      return await operation;
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.close();
  }
}
