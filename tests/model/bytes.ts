/**
 * The bytes that travel: each says by its value where in which stream it
 * belongs, so that loss, duplication and reordering show.
 *
 * @module
 */

/** A prime, so that no power of two is a multiple of the period. */
const PERIOD = 65_521;

const TABLE = new Uint8Array(2 * PERIOD);
let x = 0x9E3779B9;
for (let i = 0; i < PERIOD; i++) {
  // Xorshift: no value depends on its neighbours in a way a shift would keep.
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  TABLE[i] = TABLE[i + PERIOD] = x & 0xFF;
}

function start(stream: number, position: number): number {
  return (stream * 7_919 + position) % PERIOD;
}

/** Bytes `position` to `position + n - 1` of a stream; `n` is at most 65,521. */
export function bytesOf(
  stream: number,
  position: number,
  n: number,
): Uint8Array<ArrayBuffer> {
  const from = start(stream, position);
  return TABLE.slice(from, from + n);
}

/** The index of the first byte in `data` that is not the stream's, or -1. */
export function strayByte(
  data: Uint8Array,
  stream: number,
  position: number,
): number {
  const from = start(stream, position);
  for (let i = 0; i < data.length; i++) {
    if (data[i] !== TABLE[from + i % PERIOD]) return i;
  }
  return -1;
}
