import { assertEquals, assertThrows } from "@std/assert";
import { type Fault, Link, type LinkOptions } from "../../testing/link.ts";
import { Random } from "../../testing/random.ts";
import { SimNet } from "../../testing.ts";

const random = () => new Random(1);

Deno.test("Link without options is perfect", () => {
  const link = new Link({});
  assertEquals({ ...link }, {
    latency: 0,
    connectLatency: 0,
    bandwidth: Infinity,
    segmentSize: Infinity,
    readSize: Infinity,
    writeSize: Infinity,
    window: 65_536,
    loss: 0,
    duplication: 0,
    reordering: 0,
  });
  for (const on of ["connect", "accept"] as const) {
    assertEquals(link.strike(on, random()), undefined);
  }
  for (const on of ["toServer", "toClient"] as const) {
    assertEquals(link.ambush(on, random()), []);
  }
});

Deno.test("Link refuses numbers that are out of range", () => {
  const size = "must be 1 or more";
  const time = "must be 0 or more";
  const probability = "must be from 0 to 1";
  const wrong: [keyof LinkOptions, number, string][] = [
    ["latency", -1, time],
    ["connectLatency", -1, time],
    ["bandwidth", 0, size],
    ["segmentSize", 0, size],
    ["readSize", 0, size],
    ["writeSize", 0, size],
    ["window", 0, size],
    ["loss", -0.1, probability],
    ["loss", 1.1, probability],
    ["duplication", -0.1, probability],
    ["duplication", 1.1, probability],
    ["reordering", -0.1, probability],
    ["reordering", 1.1, probability],
  ];
  for (const [name, value, rule] of wrong) {
    for (const bad of [value, NaN]) {
      assertThrows(
        () => new Link({ [name]: bad }),
        RangeError,
        `Cannot simulate a link: ${name} ${rule}`,
      );
    }
  }
});

Deno.test("Link refuses ranges that are out of range or upside down", () => {
  const ranges = [
    "latency",
    "connectLatency",
    "segmentSize",
    "readSize",
    "writeSize",
  ];
  for (const name of ranges) {
    for (const bad of [[-1, 5], [5, 4]]) {
      assertThrows(
        () => new Link({ [name]: bad }),
        RangeError,
        `Cannot simulate a link: ${name} must be`,
      );
    }
  }
});

Deno.test("Link refuses parts of a byte", () => {
  const sizes = ["segmentSize", "readSize", "writeSize", "window"];
  for (const name of sizes) {
    for (const bad of [1.5, ...name === "window" ? [] : [[1, 2.5]]]) {
      assertThrows(
        () => new Link({ [name]: bad }),
        RangeError,
        `Cannot simulate a link: ${name} must be`,
      );
    }
  }
  assertThrows(
    () => new Link({ faults: [{ on: "toServer", what: "reset", at: 1.5 }] }),
    RangeError,
    "Cannot simulate a link: a fault's at must be",
  );
});

Deno.test("Link refuses a fault that there is not", () => {
  const wrong: [string, string][] = [
    ["connect", "EMFILE"],
    ["accept", "refused"],
    ["toServer", "refused"],
    ["toClient", "EMFILE"],
    ["toNobody", "reset"],
  ];
  for (const [on, what] of wrong) {
    const faults = [{ on, what }] as unknown as Fault[];
    assertThrows(
      () => new Link({ faults }),
      TypeError,
      `Cannot simulate a link: no such fault: ${on} ${what}`,
    );
  }
});

Deno.test("Link refuses a fault whose numbers are out of range", () => {
  const wrong: [string, unknown, string][] = [
    ["chance", -0.1, "must be from 0 to 1, got -0.1"],
    ["chance", 2, "must be from 0 to 1, got 2"],
    ["chance", NaN, "must be from 0 to 1, got NaN"],
    ["times", -1, "must be 0 or more, or such a [min, max], got -1"],
    ["at", -1, "must be 0 or more, or such a [min, max], got -1"],
    ["at", [2, 1], "must be 0 or more, or such a [min, max], got [ 2, 1 ]"],
    ["for", -1, "must be 0 or more, or such a [min, max], got -1"],
    ["for", [2, 1], "must be 0 or more, or such a [min, max], got [ 2, 1 ]"],
  ];
  for (const [name, value, rule] of wrong) {
    const faults = [
      { on: "toServer", what: "stall", [name]: value },
    ] as unknown as Fault[];
    assertThrows(
      () => new Link({ faults }),
      RangeError,
      `Cannot simulate a link: a fault's ${name} ${rule}`,
    );
  }
});

Deno.test("Link's options are checked where they are given", async () => {
  const link = { latency: -1 };
  assertThrows(() => new SimNet({ link }), RangeError, "latency");
  await using net = new SimNet({ seed: 1 });
  assertThrows(() => net.setLink({}, link), RangeError, "latency");
});

Deno.test("Link.strike() takes the first fault of its kind", () => {
  const link = new Link({
    faults: [
      { on: "accept", what: "EMFILE" },
      { on: "connect", what: "refused" },
      { on: "connect", what: "denied" },
    ],
  });
  assertEquals(link.strike("connect", random()), "refused");
  assertEquals(link.strike("accept", random()), "EMFILE");
});

Deno.test("Link.strike() has a fault so many times at most", () => {
  const link = new Link({
    faults: [
      { on: "connect", what: "refused", times: 2 },
      { on: "connect", what: "denied", times: 0 },
      { on: "connect", what: "notFound", times: 1 },
    ],
  });
  const seen = Array.from(
    { length: 4 },
    () => link.strike("connect", random()),
  );
  assertEquals(seen, ["refused", "refused", "notFound", undefined]);
});

Deno.test("Link.strike() has a fault with the probability it says", () => {
  const link = new Link({
    faults: [{ on: "accept", what: "ENOMEM", chance: 0.25 }],
  });
  const chance = random();
  let failed = 0;
  for (let i = 0; i < 10_000; i++) {
    if (link.strike("accept", chance) !== undefined) failed++;
  }
  assertEquals(Math.round(failed / 500), 5);
});

Deno.test("Link.strike() that was spared does not count", () => {
  const link = new Link({
    faults: [{ on: "accept", what: "ENOMEM", chance: 0.25, times: 3 }],
  });
  const chance = random();
  let failed = 0;
  for (let i = 0; i < 1_000; i++) {
    if (link.strike("accept", chance) !== undefined) failed++;
  }
  assertEquals(failed, 3);
});

Deno.test("Link.ambush() has the faults of one direction in the order of their bytes", () => {
  const link = new Link({
    faults: [
      { on: "toServer", what: "reset", at: 9 },
      { on: "toClient", what: "end", at: 1 },
      { on: "toServer", what: "stall", at: 3, for: 7 },
      { on: "toServer", what: "urgent" },
    ],
  });
  assertEquals(
    link.ambush("toServer", random()).map(({ what, at }) => [what, at]),
    [["urgent", 0], ["stall", 3], ["reset", 9]],
  );
  assertEquals(link.ambush("toServer", random())[1]!.pause, 7);
  assertEquals(
    link.ambush("toClient", random()).map(({ what, at }) => [what, at]),
    [["end", 1]],
  );
});

Deno.test("Link.ambush() draws where and how long for each connection", () => {
  const link = new Link({
    faults: [{ on: "toClient", what: "stall", at: [5, 8], for: [1, 3] }],
  });
  const chance = random();
  const places = new Set<number>();
  const pauses = new Set<number>();
  for (let i = 0; i < 100; i++) {
    for (const { at, pause } of link.ambush("toClient", chance)) {
      places.add(at);
      pauses.add(pause);
    }
  }
  assertEquals([...places].sort(), [5, 6, 7, 8]);
  assertEquals([...pauses].sort(), [1, 2, 3]);
});

Deno.test("Link.ambush() counts the connections, and stalls for good unless told otherwise", () => {
  const link = new Link({
    faults: [{ on: "toClient", what: "stall", times: 1 }],
  });
  assertEquals(link.ambush("toClient", random())[0]!.pause, Infinity);
  assertEquals(link.ambush("toClient", random()), []);
});
