import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  checkRange,
  checkWhole,
  Random,
  type Range,
} from "../../testing/random.ts";

function first(seed: number, n: number): number[] {
  const random = new Random(seed);
  return Array.from({ length: n }, () => random.next() * 2 ** 32);
}

Deno.test("Random.next() is mulberry32", () => {
  // From an implementation of the original in Python.
  assertEquals(first(0, 4), [1144304738, 1416247, 958946056, 627933444]);
  assertEquals(first(7, 4), [50271532, 266108690, 4195786334, 3002305430]);
  assertEquals(first(2 ** 32 - 1, 2), [3850105811, 813802916]);
});

Deno.test("Random takes the low 32 bits of its seed", () => {
  assertEquals(first(7 + 2 ** 32, 5), first(7, 5));
  assertEquals(first(-1, 5), first(2 ** 32 - 1, 5));
  assert(first(7, 1)[0] !== first(8, 1)[0]);
});

Deno.test("Random.draw() gets both ends of a range, and everything between", () => {
  const random = new Random(1);
  const seen = new Set<number>();
  for (let i = 0; i < 200; i++) seen.add(random.draw([3, 6]));
  assertEquals([...seen].sort(), [3, 4, 5, 6]);
});

Deno.test("Random.draw() gets fractions if an end is one", () => {
  const random = new Random(1);
  for (const range of [[0.5, 2], [0, 1.5]] as const) {
    for (let i = 0; i < 100; i++) {
      const drawn = random.draw(range);
      assert(drawn >= range[0] && drawn <= range[1]);
      assert(!Number.isInteger(drawn));
    }
  }
});

Deno.test("Random.draw() of one number leaves nothing to chance", () => {
  const random = new Random(1);
  const ranges: Range[] = [5, [5, 5], 0.5, Infinity, [Infinity, Infinity]];
  assertEquals(ranges.map((range) => random.draw(range)), [
    5,
    5,
    0.5,
    Infinity,
    Infinity,
  ]);
  assertEquals(random.next(), new Random(1).next());
});

Deno.test("Random.chance() happens as often as it says", () => {
  const random = new Random(1);
  for (const probability of [0.1, 0.5, 0.9]) {
    let happened = 0;
    for (let i = 0; i < 10_000; i++) if (random.chance(probability)) happened++;
    assert(Math.abs(happened / 10_000 - probability) < 0.02, `${happened}`);
  }
});

Deno.test("Random.chance() of a certainty leaves nothing to chance", () => {
  const random = new Random(1);
  assertEquals([random.chance(0), random.chance(1)], [false, true]);
  assertEquals(random.next(), new Random(1).next());
});

Deno.test("checkRange() takes numbers and ranges from the least on", () => {
  for (const range of [1, 1.5, Infinity, [1, 1], [1, 2], [1, Infinity]]) {
    checkRange("size", range as Range, 1);
  }
});

Deno.test("checkRange() refuses what is too small, upside down or no number", () => {
  const wrong: [Range, string][] = [
    [0, "0"],
    [-1, "-1"],
    [NaN, "NaN"],
    [[0, 2], "[ 0, 2 ]"],
    [[3, 2], "[ 3, 2 ]"],
    [[1, NaN], "[ 1, NaN ]"],
    [[NaN, 1], "[ NaN, 1 ]"],
  ];
  for (const [range, shown] of wrong) {
    assertThrows(
      () => checkRange("size", range, 1),
      RangeError,
      `Cannot simulate a link: size must be 1 or more, or such a [min, max], got ${shown}`,
    );
  }
});

Deno.test("checkWhole() refuses fractions, and what checkRange() does", () => {
  for (const range of [1, Infinity, [1, 2], [1, Infinity]]) {
    checkWhole("size", range as Range, 1);
  }
  for (const range of [1.5, [1, 2.5], [1.5, 2]]) {
    assertThrows(
      () => checkWhole("size", range as Range, 1),
      RangeError,
      `Cannot simulate a link: size must be whole, got ${Deno.inspect(range)}`,
    );
  }
  assertThrows(() => checkWhole("size", 0, 1), RangeError, "1 or more");
});
