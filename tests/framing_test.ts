import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Framer, type Terminator } from "../framing.ts";
import { bytes, text } from "./fakes.ts";
import { inPieces, SIZES } from "./traced_chat.ts";

/** What came out of a framer. */
interface Cut {
  readonly frames: string[];
  /** What was delivered of a frame that is not complete. */
  readonly rest: string;
  /** What is held back. */
  readonly held: string;
}

/** Cuts what arrives in pieces; after each frame the next terminator counts, after the last one the first again. */
function cut(terminators: readonly Terminator[], pieces: string[]): Cut {
  const framer = new Framer();
  framer.terminator = terminators[0]!;
  const frames: string[] = [];
  let rest = "";
  for (const piece of pieces) {
    const data = bytes(piece);
    for (let at = 0; at < data.length; at = framer.next) {
      framer.scan(data, at);
      if (framer.released > 0) rest += text(framer.releasedBytes);
      rest += text(data.subarray(at, framer.end).slice());
      if (!framer.found) continue;
      frames.push(rest);
      rest = "";
      framer.terminator = terminators[frames.length % terminators.length]!;
    }
  }
  return { frames, rest, held: text(framer.heldBack) };
}

/** The same by looking at the whole text, with what was held back as part of the rest. */
function model(terminators: readonly Terminator[], whole: string) {
  const frames: string[] = [];
  let rest = whole;
  for (;;) {
    const terminator = terminators[frames.length % terminators.length];
    const [end, length] = typeof terminator === "number"
      ? [terminator > 0 && rest.length >= terminator ? terminator : -1, 0]
      : [
        terminator ? rest.indexOf(terminator as string) : -1,
        terminator?.length ?? 0,
      ];
    if (end < 0) return { frames, rest };
    frames.push(rest.slice(0, end));
    rest = rest.slice(end + length);
  }
}

/** Random text of few letters, which terminators of the same letters often match in part. */
const anyText = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 40 });
const anySequence = fc.string({
  unit: fc.constantFrom("a", "b"),
  minLength: 1,
  maxLength: 6,
});
const anyTerminator: fc.Arbitrary<Terminator> = fc.oneof(
  anySequence,
  fc.integer({ min: 1, max: 7 }),
  fc.constantFrom(null, "", 0),
);

/** A text, cut anywhere. */
function splitAt(whole: string, cuts: readonly number[]): string[] {
  const places = [...new Set([0, ...cuts.map((n) => n % (whole.length + 1))])]
    .sort((a, b) => a - b);
  return places.map((from, i) => whole.slice(from, places[i + 1]));
}

const anyCuts = fc.array(fc.nat(40), { maxLength: 12 });

Deno.test("Framer.scan() delivers frames that depend only on the bytes, never on how they arrived", () => {
  fc.assert(
    fc.property(
      fc.array(anyTerminator, { minLength: 1, maxLength: 4 }),
      anyText,
      anyCuts,
      (terminators, whole, cuts) => {
        const { frames, rest, held } = cut(terminators, splitAt(whole, cuts));
        assertEquals({ frames, rest: rest + held }, model(terminators, whole));
      },
    ),
    { seed: 4, numRuns: 3_000 },
  );
});

Deno.test("Framer.scan() finds terminators of any length, whole and in pieces of any size", () => {
  const cases: readonly [Terminator[], string][] = [
    [["\n"], "one\ntwo\n\nfour"],
    [["\r\n"], "one\r\ntwo\r\n\r\nfour\r"],
    [["\r\n"], "\r\r\n\n\r\r\r\n"],
    [["\n\n"], "a\n\n\nb\n\n\n\n"],
    [["aab"], "aaabaaaabaabaab"],
    [["aba"], "abababaabab"],
    [["\r\n.\r\n"], "text\r\n.\r\r\n.\r\n..\r\n.\r\n\r\n.\r\n.\r\n"],
    [["aaaa"], "aaaaaaaaaaaabaaa"],
    [["boundary-boundary-boundary!"], "xboundary-boundary-boundary-boundary!y"],
    [[4], "four4444rest"],
    [[1], "abc"],
    [["\n", 5, "\r\n"], "header\n12345tail\r\nagain\n1234"],
    [["\n", null], "line\neverything\nelse"],
  ];
  for (const [terminators, whole] of cases) {
    const wanted = model(terminators, whole);
    for (const size of SIZES) {
      const { frames, rest, held } = cut(terminators, inPieces(whole, size));
      const got = { frames, rest: rest + held };
      assertEquals(got, wanted, `${Deno.inspect(terminators)} by ${size}`);
    }
  }
});

Deno.test("Framer.scan() finds a terminator of thousands of bytes", () => {
  const terminator = "ab".repeat(2_000) + "c";
  const whole = `x${"ab".repeat(2_001)}c${"ab".repeat(1_999)}c`;
  for (const size of [Infinity, 1, 7, 1_000, 4_001]) {
    const { frames, rest } = cut([terminator], inPieces(whole, size));
    assertEquals(frames, ["xab"]);
    assertEquals(rest, "ab".repeat(1_999) + "c");
  }
});

Deno.test("Framer.scan() finds a terminator wherever it is split over reads", () => {
  const whole = "he\r\n.\r\nllo";
  for (let at = 0; at <= whole.length; at++) {
    const { frames, rest } = cut(["\r\n.\r\n"], splitAt(whole, [at]));
    assertEquals([frames, rest], [["he"], "llo"]);
  }
});

Deno.test("Framer.scan() finds the first byte of a terminator far away", () => {
  for (const length of [0, 1, 22, 23, 24, 25, 26, 100, 10_000]) {
    const { frames } = cut(["\r\n"], [`${"x".repeat(length)}\r\n`]);
    assertEquals(frames.map((frame) => frame.length), [length]);
  }
});

Deno.test("Framer.scan() holds back what may be the beginning of the terminator, and no more", () => {
  const cases = [
    // CPython's find_prefix_at_end.
    ["\r\n", "qwerty\r", "\r"],
    ["\r\n", "qwertydkjf", ""],
    ["\n", "qwerty", ""],
    ["aab", "aaaa", "aa"],
    ["\r\n.\r\n", "\r\n.\r\r\n", "\r\n"],
    ["abcabd", "abcabcab", "abcab"],
  ] as const;
  for (const [terminator, data, held] of cases) {
    const result = cut([terminator], [data]);
    assertEquals(result.held, held);
    assertEquals(result.rest, data.slice(0, data.length - held.length));
  }
});

Deno.test("Framer.scan() delivers a prefix that was false with what follows", () => {
  assertEquals(cut(["\r\n"], ["\r", "y"]), {
    frames: [],
    rest: "\ry",
    held: "",
  });
  assertEquals(cut(["aab"], ["aa", "a"]), {
    frames: [],
    rest: "a",
    held: "aa",
  });
});

Deno.test("Framer.scan() looks at a byte twice at most, on the average, however bad the input", () => {
  const cases: readonly [string, string][] = [
    ["\n", "x".repeat(5_000)],
    ["\n", "\n".repeat(5_000)],
    ["\n", "x\n".repeat(2_500)],
    ["\r\n", "\r".repeat(5_000)],
    ["aaaaaaaab", "a".repeat(5_000)],
    ["aaaaaaaab", "aaaaaaaac".repeat(500)],
    ["abababac", "ab".repeat(2_500)],
    ["aab", "ab".repeat(2_500)],
  ];
  for (const [terminator, whole] of cases) {
    for (const size of [Infinity, 1, 3, 1_000]) {
      const framer = new Framer();
      framer.terminator = terminator;
      const counter = { looks: 0 };
      for (const piece of inPieces(whole, size)) {
        const data = counted(bytes(piece), counter);
        for (let at = 0; at < data.length; at = framer.next) {
          framer.scan(data, at);
        }
      }
      const what = `${Deno.inspect(terminator)} by ${size}: ${counter.looks}`;
      assert(counter.looks >= whole.length, what);
      assert(counter.looks <= 2 * whole.length, what);
    }
  }
});

/** Bytes that count how often they are looked at. */
function counted(data: Uint8Array, counter: { looks: number }): Uint8Array {
  return new Proxy(data, {
    get(target, key) {
      if (key === "indexOf") {
        return (byte: number, from: number) => {
          const at = target.indexOf(byte, from);
          counter.looks += (at < 0 ? target.length : at + 1) - from;
          return at;
        };
      }
      if (typeof key === "string" && /^\d+$/.test(key)) counter.looks++;
      return Reflect.get(target, key, target);
    },
  });
}

Deno.test("Framer.terminator takes text as UTF-8, and bytes", () => {
  const frames = [cut(["é"], ["caf", "é", "!"]), cut([bytes("é")], ["café!"])];
  for (const { frames: [frame], rest } of frames) {
    assertEquals([frame, rest], ["caf", "!"]);
  }
});

Deno.test("Framer.terminator copies bytes: they may be changed afterwards", () => {
  const terminator = bytes("\r\n");
  const framer = new Framer();
  framer.terminator = terminator;
  terminator.fill(0);
  framer.scan(bytes("a\r\n"), 0);
  assertEquals(framer.found, true);
});

Deno.test("Framer.terminator gives back what was set; of a number what is missing", () => {
  const framer = new Framer();
  assertEquals(framer.terminator, null);
  for (const terminator of ["\r\n", "", null, 0, bytes("x"), bytes("")]) {
    framer.terminator = terminator;
    assertEquals(framer.terminator, terminator);
  }
  framer.terminator = 5;
  assertEquals(framer.terminator, 5);
  framer.scan(bytes("abc"), 1);
  assertEquals(framer.terminator, 3);
  framer.scan(bytes("abcdef"), 0);
  assertEquals([framer.found, framer.next, framer.terminator], [true, 3, 0]);
});

Deno.test("Framer.terminator of null, 0 and an empty sequence collects everything", () => {
  for (const terminator of [null, 0, "", new Uint8Array(0)]) {
    assertEquals(cut([terminator], ["a\r\n", "\n", "b"]), {
      frames: [],
      rest: "a\r\n\nb",
      held: "",
    });
    const framer = new Framer();
    framer.terminator = terminator;
    assertEquals([framer.bySequence, framer.endless], [false, true]);
  }
});

Deno.test("Framer.terminator refuses what is none, and stays as it was", () => {
  const framer = new Framer();
  framer.terminator = "\r\n";
  framer.scan(bytes("a\r"), 0);
  for (const number of [-1, 1.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(
      () => framer.terminator = number,
      RangeError,
      `Cannot set terminator: a number must be whole, 0 or more, got ${number}`,
    );
  }
  for (const wrong of [undefined, true, [1], {}, new ArrayBuffer(1), 1n]) {
    assertThrows(
      () => framer.terminator = wrong as Terminator,
      TypeError,
      "Cannot set terminator: it must be a string, a Uint8Array, a number or null",
    );
  }
  assertEquals(framer.terminator, "\r\n");
  framer.scan(bytes("\nb"), 0);
  assertEquals([framer.found, framer.released, framer.next], [true, 0, 1]);
});

Deno.test("Framer.rewind() forgets what is held back, not the terminator", () => {
  const framer = new Framer();
  framer.terminator = "\r\n";
  framer.scan(bytes("a\r"), 0);
  framer.rewind();
  assertEquals(framer.heldBack.length, 0);
  framer.scan(bytes("\nb\r\n"), 0);
  assertEquals([framer.found, framer.released, framer.end], [true, 0, 2]);
});

Deno.test("Framer.rewind() has bytes scanned again as if they had not been looked at", () => {
  fc.assert(
    fc.property(anySequence, anyText, anyText, (terminator, first, second) => {
      const framer = new Framer();
      framer.terminator = terminator;
      framer.scan(bytes(first), 0);
      if (framer.found) return;
      const data = bytes(second);
      framer.scan(data, 0);
      const { released, kept, end, next, found } = framer;
      // What was released is delivered; the rest comes once more.
      framer.rewind(kept);
      framer.scan(data, 0);
      assertEquals(
        [framer.released, framer.end, framer.next, framer.found],
        [0, end, next, found],
        `${released} released`,
      );
    }),
    { seed: 4, numRuns: 1_000 },
  );
});

Deno.test("Framer.reset() begins anew: a number is missing as a whole, nothing is held back", () => {
  const framer = new Framer();
  framer.terminator = 5;
  framer.scan(bytes("abc"), 0);
  assertEquals([framer.terminator, framer.missing], [2, 2]);
  framer.reset();
  assertEquals([framer.terminator, framer.missing], [5, 5]);
  framer.terminator = "\r\n";
  framer.scan(bytes("a\r"), 0);
  framer.reset();
  assertEquals([framer.terminator, framer.heldBack.length], ["\r\n", 0]);
});

Deno.test("Framer: many terminators, long ones too, do not get mixed up", () => {
  // Sequences of text are remembered, so far as they are few and short.
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 200; i++) {
      const terminator = `${"-".repeat(i)}${i}.`;
      const { frames } = cut([terminator], [`frame ${i}|${terminator}rest`]);
      assertEquals(frames, [`frame ${i}|`]);
    }
  }
});
