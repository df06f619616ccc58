/**
 * A byte stream on a `Deno.Conn`: TCP or Unix.
 *
 * One read and one write are in flight at most, each with callbacks that are bound once per socket: no closure and no `await`
 * per operation, so that the completions of one batch are all recorded before the scheduler's microtask runs.
 *
 * @module
 */

import type { Clock, Timer } from "../clock.ts";
import { type BufferPool, MAX_BUFFER, MIN_BUFFER } from "./buffer_pool.ts";
import { ByteQueue } from "./byte_queue.ts";
import type { SocketAddress, SocketListener, StreamSocket } from "./socket.ts";

/** How connections are opened: `Deno.connect`, or what stands in for it. */
export type Connect = (
  options: SocketAddress & { signal?: AbortSignal },
) => Promise<Deno.Conn>;

/** What the sockets of one network share. */
export interface Surroundings {
  readonly clock: Clock;
  readonly pool: BufferPool;
  readonly connect: Connect;
}

/** A connection of TCP has these in addition. */
type TcpOptions = Partial<Pick<Deno.TcpConn, "setNoDelay" | "setKeepAlive">>;

/** How long a closed socket waits for the peer's end of file after its own, in milliseconds. */
const DISCARD_TIMEOUT = 2_000;

/** What a closed socket still receives goes here, whichever socket it is: nobody reads it. */
const rubbish = new Uint8Array(65_536);

/** See the module's documentation, and {@linkcode StreamSocket} for what the members promise. */
export class ConnSocket implements StreamSocket {
  readonly #listener: SocketListener;
  readonly #around: Surroundings;
  #conn: Deno.Conn | null = null;
  #cancelConnect: (() => void) | null = null;
  #phase: "open" | "lingering" | "closed" = "open";
  #noDelay = true;
  #keepAlive: boolean | undefined;

  // Receiving: the bytes from #start to #end of #buffer wait to be taken.
  #buffer: Uint8Array<ArrayBuffer> | null = null;
  #start = 0;
  #end = 0;
  /** What the next read asks for: four times as much after a full buffer, a quarter after one used to less than that. */
  #readSize = MIN_BUFFER;
  #reading = false;
  #eof = false;
  /** Whether somebody holds a view of #buffer: until `reclaim()`, or for good. */
  #lent: "no" | "until reclaim" | "for good" = "no";

  // Sending.
  readonly #out: ByteQueue;
  #writing = false;
  #shutdown: "no" | "asked" | "done" = "no";

  #lingerTimer: Timer | undefined;
  #lingerTimeout = 0;
  #lingerDue = 0;

  error: unknown = undefined;
  readError: unknown = undefined;
  writeError: unknown = undefined;
  bytesRead = 0;
  bytesWritten = 0;
  sendBufferSize = 0;

  constructor(listener: SocketListener, around: Surroundings) {
    this.#listener = listener;
    this.#around = around;
    this.#out = new ByteQueue(around.pool);
  }

  get localAddr(): Deno.Addr | null {
    return this.#conn?.localAddr ?? null;
  }

  get remoteAddr(): Deno.Addr | null {
    return this.#conn?.remoteAddr ?? null;
  }

  // Opening.

  /** Takes an open connection; throws Deno's `BadResource` where it can be seen that it is closed. */
  attach(conn: Deno.Conn): void {
    const { setNoDelay, setKeepAlive } = conn as TcpOptions;
    // A request/response program suffers from Nagle's algorithm, and the send buffer does what it is for.
    setNoDelay?.call(conn, this.#noDelay);
    if (this.#keepAlive !== undefined) {
      setKeepAlive?.call(conn, this.#keepAlive);
    }
    // The running loop holds the process; an armed read must not.
    conn.unref();
    this.#conn = conn;
  }

  connect(addr: SocketAddress): void {
    const options: SocketAddress & { signal?: AbortSignal } = { ...addr };
    if (addr.transport === "tcp") {
      const controller = new AbortController();
      options.signal = controller.signal;
      // Not at once: an abort between the completion and its continuation would lose the descriptor in Deno.
      this.#cancelConnect = () =>
        this.#around.clock.defer(() => {
          if (this.#cancelConnect !== null) controller.abort();
        });
    }
    this.#around.connect(options).then(
      (conn) => this.#onConnect(conn),
      (error) => this.#onConnectError(error),
    );
  }

  #onConnect(conn: Deno.Conn): void {
    this.#cancelConnect = null;
    if (this.#phase === "closed") return conn.close();
    try {
      this.attach(conn);
    } catch (error) {
      conn.close();
      return this.#onConnectError(error);
    }
    this.flush();
    if (this.#phase === "lingering") this.#readRubbish();
    else this.#listener.connected();
  }

  #onConnectError(error: unknown): void {
    this.#cancelConnect = null;
    if (this.#phase === "lingering") return this.abort();
    if (this.#phase === "closed") return; // our own abort
    this.error = error;
    this.#listener.exceptReady();
  }

  setNoDelay(on: boolean): void {
    this.#noDelay = on;
    (this.#conn as TcpOptions | null)?.setNoDelay?.(on);
  }

  setKeepAlive(on: boolean): void {
    this.#keepAlive = on;
    (this.#conn as TcpOptions | null)?.setKeepAlive?.(on);
  }

  // Receiving.

  get available(): number {
    return this.#end - this.#start;
  }

  get #ended(): boolean {
    return this.#eof || this.readError !== undefined ||
      this.error !== undefined;
  }

  get atEnd(): boolean {
    return this.#end === this.#start && this.#ended;
  }

  get waiting(): boolean {
    return this.#end > this.#start || this.#ended;
  }

  startRead(): void {
    if (this.#reading || this.waiting || this.#conn === null) return;
    if (this.#phase !== "open") return;
    if (this.#lent !== "no") this.#dropBuffer();
    this.#buffer ??= this.#around.pool.acquireForRead(this.#readSize);
    this.#reading = true;
    this.#conn.read(this.#buffer).then(this.#onRead, this.#onReadError);
  }

  readonly #onRead = (n: number | null): void => {
    this.#reading = false;
    if (this.#phase !== "open") return this.#discard(n);
    if (n === null) {
      this.#eof = true;
      this.#dropBuffer();
    } else {
      const size = this.#buffer!.length;
      if (n === size) this.#readSize = Math.min(size * 4, MAX_BUFFER);
      else if (n * 4 < size) this.#readSize = Math.max(size / 4, MIN_BUFFER);
      this.#start = 0;
      this.#end = n;
      this.bytesRead += n;
    }
    this.#listener.readReady(n ?? 0);
  };

  readonly #onReadError = (error: unknown): void => {
    this.#reading = false;
    this.#dropBuffer();
    if (this.#phase === "lingering") return this.abort();
    if (this.#phase === "closed") return;
    this.readError = error;
    this.#listener.readReady(0);
  };

  take(n: number): Uint8Array<ArrayBuffer> {
    const length = Math.min(n, this.available);
    if (length === 0) return new Uint8Array(0);
    const data = this.#buffer!.slice(this.#start, this.#start + length);
    this.#advance(length);
    return data;
  }

  takeInto(buffer: Uint8Array): number {
    const length = Math.min(buffer.length, this.available);
    if (length === 0) return 0;
    buffer.set(this.#buffer!.subarray(this.#start, this.#start + length));
    this.#advance(length);
    return length;
  }

  lend(n: number, forGood: boolean): Uint8Array<ArrayBuffer> {
    const length = Math.min(n, this.available);
    if (length === 0) return new Uint8Array(0);
    const view = this.#buffer!.subarray(this.#start, this.#start + length);
    if (forGood) this.#lent = "for good";
    else if (this.#lent === "no") this.#lent = "until reclaim";
    this.#advance(length);
    return view;
  }

  reclaim(): void {
    if (this.#lent !== "until reclaim") return;
    this.#lent = "no";
    if (this.available === 0 && !this.#reading) this.#dropBuffer();
  }

  #advance(n: number): void {
    this.#start += n;
    if (this.#start === this.#end && this.#lent === "no") this.#dropBuffer();
  }

  /** Lets go of the receive buffer, which no operation uses any more. */
  #dropBuffer(): void {
    if (this.#buffer === null) return;
    if (this.#lent === "no") this.#around.pool.releaseFromRead(this.#buffer);
    else this.#around.pool.forget(this.#buffer);
    this.#buffer = null;
    this.#lent = "no";
    this.#start = this.#end = 0;
  }

  // Sending.

  get unsent(): number {
    return this.#out.length;
  }

  get room(): number {
    if (
      this.#conn === null || this.#phase !== "open" ||
      this.writeError !== undefined || this.#shutdown !== "no"
    ) return 0;
    return Math.max(this.sendBufferSize - this.#out.length, 0);
  }

  get writeReady(): boolean {
    return this.room * 2 >= this.sendBufferSize;
  }

  send(data: Uint8Array): number {
    const length = Math.min(this.room, data.length);
    this.#out.append(length < data.length ? data.subarray(0, length) : data);
    return length;
  }

  sendAll(data: Uint8Array): void {
    if (this.#phase === "open" && this.writeError === undefined) {
      this.#out.append(data);
    }
  }

  flush(): void {
    if (this.#writing || this.#conn === null || this.#out.length === 0) return;
    if (this.#phase === "closed" || this.writeError !== undefined) return;
    this.#writing = true;
    this.#conn.write(this.#out.peek()).then(
      this.#onWritten,
      this.#onWriteError,
    );
  }

  readonly #onWritten = (n: number): void => {
    this.#writing = false;
    this.#out.consume(n);
    this.bytesWritten += n;
    if (this.#phase === "closed") return this.#out.clear();
    if (this.#out.length > 0) this.flush();
    else if (this.#shutdown === "asked") this.#closeWrite();
    if (this.#phase === "lingering") this.#keepLingering();
    else this.#listener.writeReady(n);
  };

  readonly #onWriteError = (error: unknown): void => {
    this.#writing = false;
    if (this.#phase === "closed") return this.#out.clear();
    this.writeError = error;
    if (this.#phase === "lingering") this.abort();
    else this.#listener.writeFailed();
  };

  get shutDown(): boolean {
    return this.#shutdown !== "no";
  }

  shutdown(): void {
    if (this.#shutdown !== "no") return;
    this.#shutdown = "asked";
    if (this.#out.length === 0) this.#closeWrite();
    else this.flush();
  }

  #closeWrite(): void {
    this.#shutdown = "done";
    this.#conn!.closeWrite().then(undefined, this.#onWriteError);
  }

  // Closing.

  close(lingerTimeout: number): void {
    if (this.#phase !== "open") return;
    const sent = this.bytesWritten + this.#out.length > 0;
    const failed = this.writeError !== undefined ||
      this.readError !== undefined || this.error !== undefined;
    const settled = this.#eof && this.#out.length === 0;
    if (lingerTimeout === 0 || !sent || failed || settled) return this.abort();
    this.#phase = "lingering";
    this.#lingerTimeout = lingerTimeout;
    if (!this.#reading) this.#dropBuffer();
    this.#listener.lingerStarted();
    this.flush();
    this.#readRubbish();
    this.#keepLingering();
  }

  abort(): void {
    if (this.#phase === "closed") return;
    const lingering = this.#phase === "lingering";
    this.#phase = "closed";
    this.#cancelConnect?.();
    if (this.#lingerTimer !== undefined) {
      this.#around.clock.clearTimer(this.#lingerTimer);
    }
    // A buffer under an operation in flight comes back when that settles.
    if (!this.#reading) this.#dropBuffer();
    if (!this.#writing) this.#out.clear();
    try {
      this.#conn?.close();
    } catch (error) {
      // Somebody else closed it already, which is what we are here for.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    if (lingering) this.#listener.lingerEnded();
  }

  /** Pushes the deadline on, and when everything is written goes on to the half-close and to waiting for the peer's. */
  #keepLingering(): void {
    if (this.#out.length > 0) {
      this.#setLingerDue(this.#around.clock.now() + this.#lingerTimeout);
      return;
    }
    if (this.#eof) return this.abort();
    if (this.#shutdown !== "done") this.#closeWrite();
    this.#setLingerDue(this.#around.clock.now() + DISCARD_TIMEOUT);
  }

  #setLingerDue(at: number): void {
    const sooner = at < this.#lingerDue;
    this.#lingerDue = at;
    if (this.#lingerTimer !== undefined) {
      if (!sooner) return;
      this.#around.clock.clearTimer(this.#lingerTimer);
    }
    this.#lingerTimer = this.#around.clock.setTimer(at, () => {
      this.#lingerTimer = undefined;
      if (this.#around.clock.now() >= this.#lingerDue) this.abort();
      else this.#setLingerDue(this.#lingerDue);
    });
  }

  /** Closing with unread input makes the kernel reset the connection and destroy bytes under way, so read it. */
  #readRubbish(): void {
    if (this.#reading || this.#eof || this.#conn === null) return;
    this.#reading = true;
    this.#conn!.read(rubbish).then(this.#onRead, this.#onReadError);
  }

  #discard(n: number | null): void {
    this.#dropBuffer();
    if (this.#phase !== "lingering") return;
    if (n === null) {
      this.#eof = true;
      // What waits is still written; `#keepLingering` closes after it.
      if (this.#out.length === 0) this.abort();
    } else this.#readRubbish();
  }
}
