/**
 * Where frames end: in a stream of bytes, after a sequence of bytes or after a number of them.
 *
 * The search is Knuth, Morris and Pratt's: what was matched is a number, so nothing is kept of the input, however it is split, and
 * each byte is looked at twice at most.
 *
 * @module
 */

/**
 * What ends a frame: a sequence of bytes (text is UTF-8), a number of bytes, or nothing: `null`, 0 and an empty sequence collect
 * everything.
 */
export type Terminator = string | Uint8Array | number | null;

/** A sequence of bytes, ready to be searched for. */
interface Sequence {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For each length of a matched beginning, that of the longest shorter one it ends with. */
  readonly fallback: Uint32Array;
}

const NOTHING = new Uint8Array(0);
const encoder = new TextEncoder();

/**
 * Sequences of text, by that: connections share them, and a protocol that sets its terminator for every frame does not make a new
 * one each time, which would take longer than to find it.
 */
const known = new Map<string, Sequence>();
const MAX_KNOWN = 64;
const MAX_KNOWN_LENGTH = 64;

function sequenceOf(text: string): Sequence {
  const found = known.get(text);
  if (found !== undefined) return found;
  const sequence = prepare(encoder.encode(text));
  if (text.length <= MAX_KNOWN_LENGTH) {
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(text, sequence);
  }
  return sequence;
}

/** So many bytes are looked at one by one, before the search is left to the runtime, which takes longer to begin with. */
const SHORT = 24;

/** Finds the ends of frames. */
export class Framer {
  #terminator: Terminator = null;
  /** The sequence that ends a frame, if one does. */
  #sequence: Sequence | null = null;
  /** How many bytes are missing; 0 if it is no matter of numbers. */
  #missing = 0;
  /** How much of the sequence is matched by the last bytes. */
  #matched = 0;

  /** How many bytes that were held back belong to the frame: they are the first ones of the terminator. */
  released = 0;
  /** How many of those that were held back may still be the beginning of the terminator. */
  kept = 0;
  /** Where the frame's part of what was scanned ends. */
  end = 0;
  /** Where to go on. */
  next = 0;
  /** Whether the frame is complete. */
  found = false;

  /** What ends a frame; a number is what is missing of it. */
  get terminator(): Terminator {
    return typeof this.#terminator === "number"
      ? this.#missing
      : this.#terminator;
  }

  /**
   * Sets what ends the frame that is being received.
   *
   * @param terminator See {@linkcode Terminator}.
   * @throws {TypeError} If it is none.
   * @throws {RangeError} If it is a number, but not a whole one, 0 or more.
   */
  set terminator(terminator: Terminator) {
    let sequence: Sequence | null = null;
    if (typeof terminator === "string") {
      if (terminator !== "") sequence = sequenceOf(terminator);
    } else if (terminator instanceof Uint8Array) {
      if (terminator.length > 0) sequence = prepare(terminator.slice());
    } else if (typeof terminator === "number") {
      if (!Number.isSafeInteger(terminator) || terminator < 0) {
        throw new RangeError(
          `Cannot set terminator: a number must be whole, 0 or more, got ${terminator}`,
        );
      }
    } else if (terminator !== null) {
      throw new TypeError(
        `Cannot set terminator: it must be a string, a Uint8Array, a number or null, got ${typeof terminator}`,
      );
    }
    this.#terminator = terminator;
    this.#sequence = sequence;
    this.#missing = typeof terminator === "number" ? terminator : 0;
    this.#matched = 0;
  }

  /** Whether frames end by a sequence of bytes. */
  get bySequence(): boolean {
    return this.#sequence !== null;
  }

  /** Whether no frame ever ends. */
  get endless(): boolean {
    return this.#sequence === null && this.#missing === 0;
  }

  /** How many bytes are held back, since they may be the beginning of the terminator. */
  get held(): number {
    return this.#matched;
  }

  /** The bytes that are held back, since they may be the beginning of the terminator. */
  get heldBack(): Uint8Array<ArrayBuffer> {
    return this.#matched === 0
      ? NOTHING
      : this.#sequence!.bytes.slice(0, this.#matched);
  }

  /** How many bytes are missing, where a number of them makes the frame. */
  get missing(): number {
    return this.#missing;
  }

  /**
   * Forgets what was matched, but for so many bytes at the end of what was scanned: what comes next is scanned as if a new frame began,
   * or, after an interruption, as if it had not been looked at.
   */
  rewind(matched = 0): void {
    this.#matched = matched;
  }

  /** Begins anew: a number of bytes is missing as a whole again. */
  reset(): void {
    this.#matched = 0;
    if (typeof this.#terminator === "number") this.#missing = this.#terminator;
  }

  /** A copy of the bytes that were held back and belong to the frame. */
  get releasedBytes(): Uint8Array<ArrayBuffer> {
    return this.#sequence!.bytes.slice(0, this.released);
  }

  /**
   * Looks for the end of the frame. The result is in {@linkcode released}, {@linkcode end}, {@linkcode next} and
   * {@linkcode found}.
   *
   * @param data The bytes.
   * @param start Where to begin.
   */
  scan(data: Uint8Array, start: number): void {
    if (this.#sequence !== null) {
      return this.#scanSequence(this.#sequence, data, start);
    }
    const rest = data.length - start;
    this.released = this.kept = 0;
    if (this.#missing === 0) {
      this.end = this.next = data.length;
      this.found = false;
      return;
    }
    const length = Math.min(rest, this.#missing);
    this.#missing -= length;
    this.end = this.next = start + length;
    this.found = this.#missing === 0;
  }

  #scanSequence(
    { bytes, fallback }: Sequence,
    data: Uint8Array,
    start: number,
  ): void {
    const { length } = bytes;
    const held = this.#matched;
    let matched = held;
    let at = start;
    while (at < data.length && matched < length) {
      if (matched > 0) {
        if (data[at] === bytes[matched]) {
          matched++;
          at++;
        } else matched = fallback[matched - 1]!;
        continue;
      }
      at = indexOf(data, bytes[0]!, at);
      if (at < data.length) {
        matched = 1;
        at++;
      }
    }
    this.found = matched === length;
    this.next = at;
    this.#matched = this.found ? 0 : matched;
    // What is matched now, of which a part may have been held back before.
    const begin = at - matched;
    this.released = held + Math.min(begin - start, 0);
    this.kept = held - this.released;
    this.end = Math.max(begin, start);
  }
}

/** As `data.indexOf(byte, from)`, but quicker where it is near; `data.length` if it is not there. */
function indexOf(data: Uint8Array, byte: number, from: number): number {
  const near = Math.min(from + SHORT, data.length);
  for (let at = from; at < near; at++) if (data[at] === byte) return at;
  if (near === data.length) return near;
  const found = data.indexOf(byte, near);
  return found < 0 ? data.length : found;
}

function prepare(bytes: Uint8Array<ArrayBuffer>): Sequence {
  const fallback = new Uint32Array(bytes.length);
  let length = 0;
  for (let i = 1; i < bytes.length; i++) {
    while (length > 0 && bytes[i] !== bytes[length]) {
      length = fallback[length - 1]!;
    }
    if (bytes[i] === bytes[length]) length++;
    fallback[i] = length;
  }
  return { bytes, fallback };
}
