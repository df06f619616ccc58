/**
 * The bytes that the Deno driver sends and checks.
 *
 * @module
 */

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
  return new Uint8Array(size).map((_, i) => i % PATTERN_LENGTH);
}

/** Whether `bytes` are those of the pattern that begin at `start`. */
export function isPatterned(bytes: Uint8Array, start: number): boolean {
  return bytes.every((byte, i) => byte === (start + i) % PATTERN_LENGTH);
}
