/**
 * A byte stream on a `Deno.Conn`: TCP or Unix.
 *
 * One read and one write are in flight at most, each with callbacks that are bound once per socket: no closure and no `await`
 * per operation, so that the completions of one batch are all recorded before the scheduler's microtask runs. What only some
 * connections need comes into being when it is needed, since most connections sit idle.
 *
 * @module
 */

import { Alarm, type Clock } from "../clock.ts";
import { type BufferPool, MAX_BUFFER, MIN_BUFFER } from "./buffer_pool.ts";
import { closeResource } from "./closing.ts";
import { SendBuffer, type SendOwner } from "./send_buffer.ts";
import type { SocketAddress, SocketListener, StreamSocket } from "./socket.ts";

/** How connections are opened: `Deno.connect`, or what stands in for it. */
export type Connect = (
  options: SocketAddress & { signal?: AbortSignal },
) => Promise<Deno.Conn>;

/** What the sockets of one network share. */
export interface Environment {
  readonly clock: Clock;
  readonly pool: BufferPool;
  readonly connect: Connect;
}

/** A connection of TCP has these in addition. */
type TcpOptions = Partial<Pick<Deno.TcpConn, "setNoDelay" | "setKeepAlive">>;

/** How long a closed socket goes on without a byte written, in milliseconds, unless told otherwise. */
export const LINGER_TIMEOUT = 10_000;

/** How long a closed socket waits for the peer's end of file after its own, in milliseconds. */
const DISCARD_TIMEOUT = 2_000;

/** What a closed socket still receives goes here, whichever socket it is: nobody reads it. */
const discarded = new Uint8Array(65_536);

/** See the module's documentation, and {@linkcode StreamSocket} for what the members promise. */
export class ConnSocket implements StreamSocket, SendOwner {
  readonly #listener: SocketListener;
  readonly #environment: Environment;
  #conn: Deno.Conn | null = null;
  #cancelConnect: (() => void) | null = null;
  /** Set while a closed socket writes what waits: when it is given up, and the longest time without a byte written. */
  #linger: { readonly alarm: Alarm; readonly timeout: number } | null = null;
  #closed = false;
  #noDelay = true;
  #keepAlive: boolean | undefined;
  #sender: SendBuffer | null = null;

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

  error: unknown = undefined;
  readError: unknown = undefined;
  bytesRead = 0;
  sendBufferSize = 0;

  constructor(listener: SocketListener, environment: Environment) {
    this.#listener = listener;
    this.#environment = environment;
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
    this.#sender?.attach(conn);
  }

  connect(addr: SocketAddress): void {
    const options: SocketAddress & { signal?: AbortSignal } = { ...addr };
    // Deno cannot cancel the connect of a Unix socket: a late connection is closed.
    this.#cancelConnect = () => {};
    if (addr.transport === "tcp") {
      const controller = new AbortController();
      options.signal = controller.signal;
      // Not at once: an abort between the completion and its continuation would lose the descriptor in Deno.
      this.#cancelConnect = () =>
        this.#environment.clock.defer(() => {
          if (this.#cancelConnect !== null) controller.abort();
        });
    }
    this.#environment.connect(options).then(
      (conn) => this.#onConnect(conn),
      (error) => this.#onConnectError(error),
    );
  }

  #onConnect(conn: Deno.Conn): void {
    this.#cancelConnect = null;
    if (this.#closed && this.#linger === null) return conn.close();
    try {
      this.attach(conn);
    } catch (error) {
      conn.close();
      return this.#onConnectError(error);
    }
    if (this.#linger !== null) this.#startRead();
    else this.#listener.connected();
  }

  #onConnectError(error: unknown): void {
    this.#cancelConnect = null;
    if (this.#closed) return this.abort();
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
    if (this.waiting || this.#closed) return;
    this.#startRead();
  }

  #startRead(): void {
    if (this.#reading || this.#eof || this.#conn === null) return;
    if (this.#lent !== "no") this.#dropBuffer();
    if (!this.#closed) {
      this.#buffer ??= this.#environment.pool.acquireForRead(this.#readSize);
    }
    this.#reading = true;
    const reading = this.#conn.read(this.#buffer ?? discarded);
    reading.then(this.#onRead, this.#onRead);
  }

  /** One callback for both outcomes, since every idle connection carries it: Deno rejects with errors only. */
  readonly #onRead = (result: number | null | Error): void => {
    this.#reading = false;
    if (this.#closed) return this.#discard(result);
    if (typeof result === "number") {
      const size = this.#buffer!.length;
      if (result === size) this.#readSize = Math.min(size * 4, MAX_BUFFER);
      else if (result * 4 < size) {
        this.#readSize = Math.max(size / 4, MIN_BUFFER);
      }
      this.#start = 0;
      this.#end = result;
      this.bytesRead += result;
      return this.#listener.readReady(result);
    }
    this.#dropBuffer();
    if (result === null) this.#eof = true;
    else this.readError = result;
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

  putBack(bytes: number): void {
    // Closing has dropped it.
    if (this.#buffer !== null) this.#start -= bytes;
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
    if (this.#lent === "no") {
      this.#environment.pool.releaseFromRead(this.#buffer);
    } else this.#environment.pool.forget(this.#buffer);
    this.#buffer = null;
    this.#lent = "no";
    this.#start = this.#end = 0;
  }

  // Sending.

  get writeError(): unknown {
    return this.#sender?.error;
  }

  get bytesWritten(): number {
    return this.#sender?.written ?? 0;
  }

  get unsent(): number {
    return this.#sender?.length ?? 0;
  }

  get shutDown(): boolean {
    return this.#sender?.shutDown ?? false;
  }

  get room(): number {
    if (this.#conn === null || this.#closed) return 0;
    const sender = this.#sender;
    if (sender === null) return this.sendBufferSize;
    if (sender.error !== undefined || sender.shutDown) return 0;
    return Math.max(this.sendBufferSize - sender.length, 0);
  }

  get writeReady(): boolean {
    return this.room * 2 >= this.sendBufferSize;
  }

  send(data: Uint8Array): number {
    const length = Math.min(this.room, data.length);
    if (length === 0) return 0;
    const whole = length === data.length;
    this.#sending().append(whole ? data : data.subarray(0, length));
    return length;
  }

  sendAll(data: Uint8Array): number {
    const sender = this.#sending();
    if (this.#closed || sender.error !== undefined) return 0;
    sender.append(data);
    return data.length;
  }

  flush(): void {
    this.#sender?.flush();
  }

  shutdown(): void {
    this.#sending().halfClose();
  }

  #sending(): SendBuffer {
    return this.#sender ??= new SendBuffer(
      this,
      this.#environment.pool,
      this.#conn,
    );
  }

  written(bytes: number): void {
    if (this.#linger !== null) this.#keepLingering();
    this.#listener.writeReady(bytes);
  }

  sendFailed(): void {
    if (this.#linger !== null) this.abort();
    else this.#listener.writeFailed();
  }

  // Closing.

  close(lingerTimeout = LINGER_TIMEOUT): void {
    if (this.#closed) return;
    const sender = this.#sender;
    const failed = sender?.error !== undefined ||
      this.readError !== undefined || this.error !== undefined;
    const sent = sender !== null && sender.written + sender.length > 0;
    const settled = this.#eof && sender?.length === 0;
    const unconnected = this.#conn === null && this.#cancelConnect === null;
    if (lingerTimeout === 0 || failed || !sent || settled || unconnected) {
      return this.abort();
    }
    this.#closed = true;
    if (!this.#reading) this.#dropBuffer();
    this.#linger = {
      alarm: new Alarm(this.#environment.clock, () => this.abort()),
      timeout: lingerTimeout,
    };
    this.#listener.lingerStarted();
    // Closing with unread input makes the kernel reset the connection and destroy bytes under way, so it is read.
    this.#startRead();
    sender.halfClose();
    this.#keepLingering();
  }

  abort(): void {
    const linger = this.#linger;
    if (this.#closed && linger === null) return;
    this.#closed = true;
    this.#linger = null;
    linger?.alarm.clear();
    this.#cancelConnect?.();
    this.#sender?.close();
    // A buffer under a read in flight comes back when that settles.
    if (!this.#reading) this.#dropBuffer();
    if (this.#conn !== null) closeResource(this.#conn);
    if (linger !== null) this.#listener.lingerEnded();
  }

  /** A byte written is a sign of life; after the last one the peer has little time left. */
  #keepLingering(): void {
    const { alarm, timeout } = this.#linger!;
    const now = this.#environment.clock.now();
    if (this.#sender!.length > 0) alarm.set(now + timeout);
    else if (this.#eof) this.abort();
    else alarm.set(now + DISCARD_TIMEOUT);
  }

  /** A read of a closed socket ended. */
  #discard(result: number | null | Error): void {
    this.#dropBuffer();
    if (this.#linger === null) return;
    if (typeof result === "number") return this.#startRead();
    if (result !== null) return this.abort();
    this.#eof = true;
    // What waits is still written, and then it closes.
    this.#keepLingering();
  }
}
