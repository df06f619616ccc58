/**
 * The bytes that the Deno driver sends and checks.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** A prime length, so that a shifted, lost or doubled piece shows. */
const PATTERN_LENGTH = 251;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The bytes of a text. */
export function bytesOf(text = ""): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Bytes as a line of the trace shows them. */
export function quoted(bytes: Uint8Array): string {
  return JSON.stringify(decoder.decode(bytes));
}

/** Two pieces as one. */
export function concat(
  a: Uint8Array,
  b: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/** The first `size` bytes of the pattern. */
export function patterned(size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < Math.min(size, PATTERN_LENGTH); i++) bytes[i] = i;
  // What is there once more, and so on: byte by byte, megabytes would take long.
  for (let done = PATTERN_LENGTH; done < size; done *= 2) {
    bytes.copyWithin(done, 0, done);
  }
  return bytes;
}

/** The most bytes that are compared at a time. */
const PIECE = 65_536;
const reference = patterned(PATTERN_LENGTH + PIECE);

/** Whether `bytes` are those of the pattern that begin at `start`. */
export function isPatterned(bytes: Uint8Array, start: number): boolean {
  for (let at = 0; at < bytes.length; at += PIECE) {
    const piece = bytes.subarray(at, at + PIECE);
    const first = (start + at) % PATTERN_LENGTH;
    const expected = reference.subarray(first, first + piece.length);
    // Not every(), which would take most of a run: megabytes are checked.
    if (Buffer.compare(piece, expected) !== 0) return false;
  }
  return true;
}
