/**
 * The sending half of a connection: what waits to be written, and the one write in flight.
 *
 * @module
 */

import type { BufferPool } from "./buffer_pool.ts";
import { ByteQueue } from "./byte_queue.ts";

/** Who is told how writing goes. */
export interface SendOwner {
  /** Some bytes left. */
  written(bytes: number): void;
  /** A write, or the half-close, failed; `error` of the buffer says why. */
  sendFailed(): void;
}

/**
 * Takes bytes, writes them in order, and half-closes after them when asked to. It goes by its own: a write that ends starts
 * the next.
 */
export class SendBuffer {
  readonly #owner: SendOwner;
  readonly #queue: ByteQueue;
  #conn: Deno.Conn | null;
  #writing = false;
  #halfClose: "no" | "asked" | "started" = "no";
  /** Why it writes no more, if it failed. */
  error: unknown = undefined;
  /** Bytes that went to the operating system. */
  written = 0;

  /**
   * Makes an empty buffer.
   *
   * @param owner Who is told how writing goes.
   * @param pool Where the memory comes from.
   * @param conn The connection; `null` while there is none.
   */
  constructor(owner: SendOwner, pool: BufferPool, conn: Deno.Conn | null) {
    this.#owner = owner;
    this.#queue = new ByteQueue(pool);
    this.#conn = conn;
  }

  /** Bytes that did not go to the operating system yet. */
  get length(): number {
    return this.#queue.length;
  }

  /** Whether the half-close was asked for. */
  get shutDown(): boolean {
    return this.#halfClose !== "no";
  }

  /** Gives it the connection that was not there when it was made. */
  attach(conn: Deno.Conn): void {
    this.#conn = conn;
    this.flush();
  }

  /** Copies all of the bytes. */
  append(data: Uint8Array): void {
    this.#queue.append(data);
  }

  /** Starts to write what waits, if no write is in flight. */
  flush(): void {
    if (this.#writing || this.#conn === null || this.error !== undefined) {
      return;
    }
    if (this.#queue.length > 0) {
      this.#writing = true;
      this.#conn.write(this.#queue.peek()).then(this.#onWritten, this.#onError);
    } else if (this.#halfClose === "asked") {
      this.#halfClose = "started";
      this.#conn.closeWrite().then(undefined, this.#onError);
    }
  }

  /** Half-closes after everything that was appended. */
  halfClose(): void {
    if (this.#halfClose === "no") this.#halfClose = "asked";
    this.flush();
  }

  /** The connection was closed: nothing is reported any more, and the memory goes back. */
  close(): void {
    this.#conn = null;
    // A buffer under a write in flight comes back when that settles.
    if (!this.#writing) this.#queue.clear();
  }

  readonly #onWritten = (n: number): void => {
    this.#writing = false;
    this.#queue.consume(n);
    this.written += n;
    if (this.#conn === null) return this.#queue.clear();
    this.flush();
    this.#owner.written(n);
  };

  readonly #onError = (error: unknown): void => {
    this.#writing = false;
    if (this.#conn === null) return this.#queue.clear();
    this.error = error;
    this.#owner.sendFailed();
  };
}
