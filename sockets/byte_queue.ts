/**
 * Bytes that wait to be written: appended at one end by copying, written from the other without.
 *
 * @module
 */

import { type BufferPool, MAX_BUFFER } from "./buffer_pool.ts";

/** A buffer of which the bytes from `start` to `end` wait. */
interface Chunk {
  bytes: Uint8Array<ArrayBuffer>;
  start: number;
  end: number;
}

/**
 * A queue of bytes. What is appended is copied once, and again only while a short buffer grows (at most a third more, since
 * each is four times the one before), so small pieces lie side by side and leave in one system call. What is left after a
 * partial write is not copied.
 */
export class ByteQueue {
  readonly #pool: BufferPool;
  readonly #chunks: Chunk[] = [];
  #length = 0;
  #pinned = false;

  /**
   * Makes an empty queue, which holds no buffer.
   *
   * @param pool Where the buffers come from and go back to.
   */
  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** The bytes that wait. */
  get length(): number {
    return this.#length;
  }

  /**
   * Appends a copy of bytes.
   *
   * @param data The bytes.
   */
  append(data: Uint8Array): void {
    this.#length += data.length;
    for (let rest = data; rest.length > 0;) {
      const tail = this.#tail(rest.length);
      const piece = Math.min(rest.length, tail.bytes.length - tail.end);
      const whole = piece === rest.length;
      tail.bytes.set(whole ? rest : rest.subarray(0, piece), tail.end);
      tail.end += piece;
      if (whole) return;
      rest = rest.subarray(piece);
    }
  }

  /**
   * The first bytes, as they lie in one buffer. They stay where they are until {@linkcode ByteQueue.consume}.
   *
   * @returns A view, or an empty one if nothing waits.
   */
  peek(): Uint8Array<ArrayBuffer> {
    const head = this.#chunks[0];
    if (head === undefined) return new Uint8Array(0);
    this.#pinned = true;
    return head.bytes.subarray(head.start, head.end);
  }

  /**
   * Drops the first bytes.
   *
   * @param n How many; at most what {@linkcode ByteQueue.peek} showed.
   */
  consume(n: number): void {
    const head = this.#chunks[0]!;
    this.#pinned = false;
    this.#length -= n;
    head.start += n;
    if (head.start < head.end) return;
    this.#chunks.shift();
    this.#pool.release(head.bytes);
  }

  /** Drops everything. Not while a view of {@linkcode ByteQueue.peek} is in use. */
  clear(): void {
    for (const { bytes } of this.#chunks) this.#pool.release(bytes);
    this.#chunks.length = 0;
    this.#length = 0;
    this.#pinned = false;
  }

  /** The last chunk, with room for at least one byte, if possible for `need`. */
  #tail(need: number): Chunk {
    const tail = this.#chunks.at(-1);
    if (tail !== undefined) {
      const room = tail.bytes.length - tail.end;
      if (room >= need) return tail;
      const pinned = this.#pinned && this.#chunks.length === 1;
      if (!pinned && tail.bytes.length < MAX_BUFFER) {
        return this.#grow(tail, need);
      }
      if (room > 0) return tail;
    }
    const chunk = { bytes: this.#pool.acquire(need), start: 0, end: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }

  /** Moves a chunk to a larger buffer. */
  #grow(chunk: Chunk, need: number): Chunk {
    const used = chunk.bytes.subarray(chunk.start, chunk.end);
    const larger = this.#pool.acquire(
      Math.max(used.length + need, chunk.bytes.length + 1),
    );
    larger.set(used);
    this.#pool.release(chunk.bytes);
    chunk.bytes = larger;
    chunk.start = 0;
    chunk.end = used.length;
    return chunk;
  }
}
