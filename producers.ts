/**
 * What waits to be sent: bytes, and producers that make bytes when there is room for them.
 *
 * @module
 */

import { isPromise } from "./channel_map.ts";

/** Makes data piece by piece: asynchat's producers. */
export interface Producer {
  /**
   * Makes the next piece.
   *
   * @returns The bytes, or text, which is sent as UTF-8; an empty piece is the end. It may be promised.
   */
  more(): Uint8Array | string | Promise<Uint8Array | string>;
}

/** Whatever {@linkcode AsyncChat.pushWithProducer} takes. */
export type ProducerLike =
  | Producer
  | Uint8Array
  | string
  | Iterable<Uint8Array | string>
  | AsyncIterable<Uint8Array | string>
  | ReadableStream<Uint8Array>;

/**
 * Hands out bytes in pieces: asynchat's `simple_producer`.
 *
 * @example
 * ```ts
 * import { SimpleProducer } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * const producer = new SimpleProducer(new Uint8Array(1_000));
 * assertEquals(producer.more().length, 512);
 * assertEquals(producer.more().length, 488);
 * assertEquals(producer.more().length, 0);
 * ```
 */
export class SimpleProducer implements Producer {
  readonly #bufferSize: number;
  #rest: Uint8Array;

  /**
   * Makes a producer.
   *
   * @param data The bytes, which are not copied.
   * @param bufferSize The length of a piece, in bytes.
   * @throws {RangeError} If `bufferSize` is not a whole number above 0.
   */
  constructor(data: Uint8Array, bufferSize = 512) {
    if (!Number.isInteger(bufferSize) || bufferSize < 1) {
      throw new RangeError(
        `Cannot make producer: bufferSize must be a whole number above 0, got ${bufferSize}`,
      );
    }
    this.#rest = data;
    this.#bufferSize = bufferSize;
  }

  /** The next piece; an empty one at the end. */
  more(): Uint8Array {
    const piece = this.#rest.subarray(0, this.#bufferSize);
    this.#rest = this.#rest.subarray(this.#bufferSize);
    return piece;
  }
}

const encoder = new TextEncoder();

/**
 * Checks what is to be sent.
 *
 * @param data Bytes or text.
 * @param verb What the caller is about to do, for the error.
 * @returns The bytes.
 * @throws {TypeError} If it is neither.
 */
export function toBytes(data: unknown, verb: string): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (typeof data === "string") return encoder.encode(data);
  throw new TypeError(
    `Cannot ${verb}: data must be a Uint8Array or a string, got ${
      data === null ? "null" : typeof data
    }`,
  );
}

/** What a source makes when there is no more. */
export const END: unique symbol = Symbol("end");

/** Where pieces come from, whatever the producer is. */
export interface Source {
  /** Makes the next piece, whatever that is, or {@linkcode END}. */
  pull(): unknown | Promise<unknown>;
  /** Says that no more is wanted. */
  end(): unknown;
}

/**
 * What a producer is asked through.
 *
 * @param producer Anything but bytes and text, which need none.
 * @throws {TypeError} If it is no producer.
 */
export function sourceOf(
  producer: Exclude<ProducerLike, Uint8Array | string>,
): Source {
  if (typeof producer === "object" && producer !== null) {
    if ("more" in producer && typeof producer.more === "function") {
      return ofMore(producer);
    }
    if (producer instanceof ReadableStream) return ofStream(producer);
    if (Symbol.asyncIterator in producer) {
      return ofIterator(producer[Symbol.asyncIterator]());
    }
    if (Symbol.iterator in producer) {
      return ofIterator(producer[Symbol.iterator]());
    }
  }
  throw new TypeError(
    `Cannot push with producer: ${
      Deno.inspect(producer)
    } has no more() and is not iterable`,
  );
}

function ofMore(producer: Producer): Source {
  const notEmpty = (data: unknown) =>
    (data as { length?: number } | null)?.length === 0 ? END : data;
  return {
    pull() {
      const data: unknown = producer.more();
      return isPromise(data)
        ? Promise.resolve(data as unknown).then(notEmpty)
        : notEmpty(data);
    },
    end() {},
  };
}

function ofStream(stream: ReadableStream<Uint8Array>): Source {
  const reader = stream.getReader();
  return {
    pull: () => reader.read().then(({ done, value }) => done ? END : value),
    end: () => reader.cancel(),
  };
}

function ofIterator(
  iterator: Iterator<unknown> | AsyncIterator<unknown>,
): Source {
  const valueOf = (result: unknown) => {
    const { done, value } = result as IteratorResult<unknown>;
    return done ? END : value;
  };
  return {
    pull() {
      const result: unknown = iterator.next();
      return isPromise(result)
        ? Promise.resolve(result as unknown).then(valueOf)
        : valueOf(result);
    },
    end: () => iterator.return?.(),
  };
}

/** Short pieces are copied side by side into common buffers of this size, which leave in one piece. */
const COMMON_BUFFER = 4_096;
const SHORT_PIECE = 512;

/** So many items that are gone are kept in front, before the list is moved up. */
const MAX_GONE = 1_024;

/** Bytes and sources in the order in which they were pushed. */
export class Outbox {
  /** What waits, from `#first` on. */
  readonly #items: (Uint8Array | Source | null)[] = [];
  #first = 0;
  /** The common buffer that short pieces go to, and how much of it is used; the last item is a view of it. */
  #common: Uint8Array | null = null;
  #used = 0;
  /** Bytes that wait; of what sources will make nobody knows. */
  length = 0;

  /** Whether nothing waits. */
  get empty(): boolean {
    return this.#first === this.#items.length;
  }

  /** What comes next. */
  get head(): Uint8Array | Source | undefined {
    return this.#items[this.#first] ?? undefined;
  }

  /** Appends bytes, or a source. */
  push(item: Uint8Array | Source): void {
    if (item instanceof Uint8Array) {
      this.length += item.length;
      if (item.length <= SHORT_PIECE) return this.#pushShort(item);
    }
    this.#common = null;
    this.#items.push(item);
  }

  /** Many small items would cost more than what is in them, and a call for each. */
  #pushShort(piece: Uint8Array): void {
    const items = this.#items;
    if (this.#common !== null && !this.empty) {
      const { byteOffset, length } = items.at(-1) as Uint8Array;
      if (this.#used + piece.length <= COMMON_BUFFER) {
        this.#common.set(piece, this.#used);
        this.#used += piece.length;
        items[items.length - 1] = this.#common.subarray(
          byteOffset,
          byteOffset + length + piece.length,
        );
        return;
      }
    }
    this.#common = new Uint8Array(COMMON_BUFFER);
    this.#common.set(piece);
    this.#used = piece.length;
    items.push(this.#common.subarray(0, piece.length));
  }

  /** Puts a piece in front of the source that made it. */
  putBefore(piece: Uint8Array): void {
    this.length += piece.length;
    if (this.#first === 0) this.#items.unshift(piece);
    else this.#items[--this.#first] = piece;
  }

  /** Drops the first bytes of the head, or all of it. */
  consume(bytes?: number): void {
    const head = this.#items[this.#first];
    if (head instanceof Uint8Array) {
      const gone = bytes ?? head.length;
      this.length -= gone;
      if (gone < head.length) {
        this.#items[this.#first] = head.subarray(gone);
        return;
      }
    }
    this.#items[this.#first++] = null;
    if (this.empty) {
      this.#items.length = this.#first = 0;
      this.#common = null;
    } else if (this.#first > MAX_GONE && this.#first * 2 > this.#items.length) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Drops everything, and gives back the sources that were not at their end. */
  clear(): Source[] {
    const rest = this.#items.splice(0).slice(this.#first);
    this.#first = this.length = 0;
    this.#common = null;
    return rest.filter((item) => !(item instanceof Uint8Array)) as Source[];
  }
}
