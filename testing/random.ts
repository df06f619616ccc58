/**
 * Chance that repeats itself: everything random in a simulation comes from here.
 *
 * @module
 */

/**
 * A number, or the two ends of what numbers are drawn from, both included; whole ones if both ends are whole. Up to `Infinity` it is
 * always that.
 */
export type Range = number | readonly [min: number, max: number];

/**
 * Checks a range.
 *
 * @param name What it is called, for the error.
 * @param range The range.
 * @param least The least number it may hold.
 * @throws {RangeError} If it holds smaller numbers, or its ends are in the wrong order.
 */
export function checkRange(name: string, range: Range, least: number): void {
  const [min, max] = typeof range === "number" ? [range, range] : range;
  if (min >= least && max >= min) return;
  throw new RangeError(
    `Cannot simulate a link: ${name} must be ${least} or more, or such a [min, max], got ${
      Deno.inspect(range)
    }`,
  );
}

/**
 * Checks a range of things that have no parts, such as bytes.
 *
 * @param name What it is called, for the error.
 * @param range The range.
 * @param least The least number it may hold.
 * @throws {RangeError} If it holds smaller numbers or fractions, or its ends are in the wrong order.
 */
export function checkWhole(name: string, range: Range, least: number): void {
  checkRange(name, range, least);
  const ends = typeof range === "number" ? [range] : range;
  if (ends.every((end) => Number.isInteger(end) || end === Infinity)) return;
  throw new RangeError(
    `Cannot simulate a link: ${name} must be whole, got ${Deno.inspect(range)}`,
  );
}

/**
 * Numbers from a seed, by Tommy Ettinger's mulberry32 (32 bits of state, period 2^32): the same seed gives the same numbers on
 * every machine.
 */
export class Random {
  #state: number;

  /**
   * Starts a sequence.
   *
   * @param seed A whole number; its low 32 bits count.
   */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** The next number, from 0 up to but not including 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A number of a range. */
  draw(range: Range): number {
    if (typeof range === "number") return range;
    const [min, max] = range;
    if (min === max || max === Infinity) return max;
    return Number.isInteger(min) && Number.isInteger(max)
      ? min + Math.floor(this.next() * (max - min + 1))
      : min + this.next() * (max - min);
  }

  /** Whether something happens that happens with this probability, from 0 to 1. */
  chance(probability: number): boolean {
    // Certainties use up no number, so that a fault more or less does not change everything else.
    if (probability <= 0 || probability >= 1) return probability >= 1;
    return this.next() < probability;
  }
}
