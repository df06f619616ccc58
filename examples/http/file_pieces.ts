/** A part of a file, read when there is room to send it. */

const PIECE = 65_536;

/**
 * Hands out a part of an open file. It closes the file when all of it is handed
 * out or no more is wanted.
 */
export class FilePieces implements AsyncIterableIterator<Uint8Array> {
  /** How many bytes it makes. */
  readonly length: number;
  readonly #file: Deno.FsFile;
  #left: number;
  #closed = false;
  readonly #end = Promise.withResolvers<void>();

  /** `file` is where the part begins, and belongs to the pieces from now on. */
  constructor(file: Deno.FsFile, length: number) {
    this.#file = file;
    this.length = this.#left = length;
    if (length === 0) this.#close();
  }

  /** Settles when the file is closed. */
  get closed(): Promise<void> {
    return this.#end.promise;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#closed) return { done: true, value: undefined };
    const buffer = new Uint8Array(Math.min(PIECE, this.#left));
    const read = await this.#file.read(buffer).catch((error) => {
      // It was closed under the read.
      if (this.#closed) return null;
      throw error;
    });
    if (this.#closed) return { done: true, value: undefined };
    if (read === null) {
      this.#close();
      throw new Error(`The file ended ${this.#left} bytes early`);
    }
    this.#left -= read;
    if (this.#left === 0) this.#close();
    return { done: false, value: buffer.subarray(0, read) };
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#close();
    return Promise.resolve({ done: true, value: undefined });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
    this.#end.resolve();
  }
}
