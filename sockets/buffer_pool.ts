/**
 * Buffers that are handed out and come back. A read that is armed keeps its buffer, and most connections sit idle under an
 * armed read, so what an idle connection costs is mostly the size of its buffer.
 *
 * @module
 */

/** The smallest and the largest buffer; the sizes between are four times apart: 256 B, 1, 4, 16, 64, 256 KiB. */
export const MIN_BUFFER = 256;
/** See {@linkcode MIN_BUFFER}. */
export const MAX_BUFFER = 262_144;

/** Buffers up to this size are cut from a common slab: an `ArrayBuffer` of its own would cost as much again. */
const MAX_SLICE = 1_024;
const SLAB = 65_536;

/** Receive buffers above this size are counted, and not handed out beyond the limit. */
const UNCOUNTED = 4_096;
const MAX_COUNTED = 32 * 1024 * 1024;

/** How many bytes of each size are kept for the next one who asks; the rest goes to the garbage collector. */
const MAX_KEPT = 4 * 1024 * 1024;

/** The index of the smallest size that holds `length` bytes. */
function sizeIndex(length: number): number {
  // 256 is 2^8 and each size is 2^2 times the one before.
  return length <= MIN_BUFFER ? 0 : (32 - Math.clz32(length - 1) - 7) >> 1;
}

/** A pool of buffers of six sizes. */
export class BufferPool {
  readonly #free: Uint8Array<ArrayBuffer>[][] = [[], [], [], [], [], []];
  #counted = 0;

  /**
   * Hands out a buffer. Its contents are whatever they were.
   *
   * @param length The bytes it must hold at least; more than {@linkcode MAX_BUFFER} gets that size.
   * @returns A buffer of one of the six sizes.
   */
  acquire(length: number): Uint8Array<ArrayBuffer> {
    const index = sizeIndex(Math.min(length, MAX_BUFFER));
    const free = this.#free[index]!;
    const size = MIN_BUFFER << (2 * index);
    if (free.length === 0 && size <= MAX_SLICE) {
      const slab = new ArrayBuffer(SLAB);
      for (let offset = 0; offset < SLAB; offset += size) {
        free.push(new Uint8Array(slab, offset, size));
      }
    }
    return free.pop() ?? new Uint8Array(size);
  }

  /**
   * Takes a buffer back; nobody else may use it any more.
   *
   * @param buffer One that {@linkcode BufferPool.acquire} gave.
   */
  release(buffer: Uint8Array<ArrayBuffer>): void {
    const free = this.#free[sizeIndex(buffer.length)]!;
    if (free.length * buffer.length < MAX_KEPT) free.push(buffer);
  }

  /**
   * Hands out a buffer for a read. It cannot be taken back while the read is armed, so the large ones are limited.
   *
   * @param length The bytes wanted; fewer when too many large buffers are out.
   * @returns A buffer.
   */
  acquireForRead(length: number): Uint8Array<ArrayBuffer> {
    const buffer = this.acquire(length);
    if (buffer.length <= UNCOUNTED) return buffer;
    if (this.#counted + buffer.length > MAX_COUNTED) {
      this.release(buffer);
      return this.acquire(UNCOUNTED);
    }
    this.#counted += buffer.length;
    return buffer;
  }

  /**
   * Takes back a buffer that {@linkcode BufferPool.acquireForRead} gave.
   *
   * @param buffer The buffer.
   */
  releaseFromRead(buffer: Uint8Array<ArrayBuffer>): void {
    this.#uncount(buffer);
    this.release(buffer);
  }

  /**
   * Leaves a buffer for a read to whoever still looks at it: it does not come back.
   *
   * @param buffer The buffer.
   */
  forget(buffer: Uint8Array<ArrayBuffer>): void {
    this.#uncount(buffer);
  }

  #uncount(buffer: Uint8Array): void {
    if (buffer.length > UNCOUNTED) this.#counted -= buffer.length;
  }
}
