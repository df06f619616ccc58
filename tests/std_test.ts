// The names the tests use from `@std`: what they rely on holds for the real
// packages and for the stand-ins in tests/std/ alike. Run with the one map and
// with the other, this file must give the same result.

import {
  assert,
  assertAlmostEquals,
  assertArrayIncludes,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertIsError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotStrictEquals,
  assertObjectMatch,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
  unreachable,
} from "@std/assert";
import { getAvailablePort } from "@std/net";
import {
  assertSpyCall,
  assertSpyCalls,
  MockError,
  spy,
  stub,
} from "@std/testing/mock";
import config from "../deno.json" with { type: "json" };
import jsr from "./std/jsr.json" with { type: "json" };
import standIns from "./std/stand_ins.json" with { type: "json" };

/** Runs `check`, which must fail: not by way of the functions under test. */
function refused(check: () => unknown): Error {
  try {
    check();
  } catch (error) {
    if (error instanceof AssertionError) return error;
    throw error;
  }
  throw new Error(`Passed, but should not: ${check}`);
}

async function refusedLater(check: () => Promise<unknown>): Promise<Error> {
  try {
    await check();
  } catch (error) {
    if (error instanceof AssertionError) return error;
    throw error;
  }
  throw new Error(`Passed, but should not: ${check}`);
}

const bytes = (...values: number[]) => new Uint8Array(values);

const EQUAL: [unknown, unknown][] = [
  [NaN, NaN],
  ["a\nb", "a\nb"],
  [{ a: 1, b: [2, { c: 3 }] }, { b: [2, { c: 3 }], a: 1 }],
  [bytes(1, 2), bytes(0, 1, 2).subarray(1)],
  [new Map([["a", bytes(1)]]), new Map([["a", bytes(1)]])],
  [new Set([1, 2]), new Set([2, 1])],
  [new Date(5), new Date(5)],
];

const DIFFERENT: [unknown, unknown][] = [
  [1, "1"],
  [null, undefined],
  ["a\nb", "a\nc"],
  [{ a: undefined }, {}],
  [{ a: 1 }, { a: 1, b: 2 }],
  [[1, 2], [2, 1]],
  [[1], [1, undefined]],
  [bytes(1, 2), bytes(1, 3)],
  [bytes(1, 2), bytes(1, 2, 3)],
  [bytes(1, 2), [1, 2]],
  [bytes(1, 2), new Int8Array([1, 2])],
  [new Map([["a", 1]]), new Map([["a", 2]])],
  [new Set([1]), new Set([2])],
  [new Date(5), new Date(6)],
  [new (class A {})(), new (class B {})()],
  [() => {}, () => {}],
];

Deno.test("assertEquals() and assertNotEquals() compare structures", () => {
  for (const [a, b] of EQUAL) {
    assertEquals(a, b);
    refused(() => assertNotEquals(a, b));
  }
  for (const [a, b] of DIFFERENT) {
    assertNotEquals(a, b);
    refused(() => assertEquals(a, b));
  }
});

Deno.test("assertEquals() says what differs, and where it was told to, why", () => {
  const { message } = refused(() =>
    assertEquals({ port: 1 }, { port: 2 }, "the port")
  );
  if (!message.startsWith("Values are not equal")) throw new Error(message);
  for (const part of ["the port", "port: 1", "port: 2"]) {
    if (!message.includes(part)) throw new Error(message);
  }
});

Deno.test("assertStrictEquals() and assertNotStrictEquals() compare identities", () => {
  const object = {};
  assertStrictEquals(object, object);
  assertStrictEquals(NaN, NaN);
  assertNotStrictEquals(object, {});
  assertNotStrictEquals(0, -0);
  refused(() => assertStrictEquals(object, {}));
  refused(() => assertStrictEquals(0, -0));
  refused(() => assertNotStrictEquals(object, object));
});

Deno.test("assert(), assertFalse() and assertExists() check truth and presence", () => {
  assert("x");
  assertFalse(0);
  assertExists(0);
  refused(() => assert(0, "why"));
  refused(() => assertFalse("x"));
  refused(() => assertExists(null));
  refused(() => assertExists(undefined));
});

Deno.test("assert() with a message throws just that message", () => {
  const { message, name } = refused(() => assert(false, "why"));
  assertEquals([name, message], ["AssertionError", "why"]);
});

Deno.test("assertGreater() and its kin compare by <, <=, > and >=", () => {
  assertGreater(2, 1);
  assertGreaterOrEqual(2, 2);
  assertLess(1n, 2n);
  assertLessOrEqual("a", "a");
  refused(() => assertGreater(1, 1));
  refused(() => assertGreaterOrEqual(1, 2));
  refused(() => assertLess(1, 1));
  refused(() => assertLessOrEqual(2, 1));
  refused(() => assertLess(NaN, 1));
});

Deno.test("assertAlmostEquals() allows a tolerance", () => {
  assertAlmostEquals(0.1 + 0.2, 0.3);
  assertAlmostEquals(10, 11, 1);
  assertAlmostEquals(Infinity, Infinity);
  refused(() => assertAlmostEquals(0.1, 0.2));
  refused(() => assertAlmostEquals(10, 11.5, 1));
  refused(() => assertAlmostEquals(NaN, 1));
});

Deno.test("assertInstanceOf() checks the class", () => {
  assertInstanceOf(new RangeError(), Error);
  refused(() => assertInstanceOf(new Error(), RangeError));
  refused(() => assertInstanceOf(null, Object));
});

Deno.test("assertMatch() and assertStringIncludes() look into a text", () => {
  assertMatch("port 80", /\d+$/);
  assertStringIncludes("port 80", "t 8");
  refused(() => assertMatch("port", /\d/));
  refused(() => assertStringIncludes("port", "80"));
});

Deno.test("assertArrayIncludes() looks for every element, anywhere", () => {
  assertArrayIncludes([1, { a: 2 }, 3], [3, { a: 2 }]);
  assertArrayIncludes(bytes(1, 2), [2]);
  refused(() => assertArrayIncludes([1, 2], [2, 3]));
});

Deno.test("assertObjectMatch() ignores what was not asked for", () => {
  const actual = { a: 1, b: { c: bytes(1), d: 2 }, e: [{ f: 1, g: 2 }] };
  assertObjectMatch(actual, { a: 1 });
  assertObjectMatch(actual, { b: { d: 2 }, e: [{ g: 2 }] });
  refused(() => assertObjectMatch(actual, { a: 2 }));
  refused(() => assertObjectMatch(actual, { z: undefined }));
  refused(() => assertObjectMatch(actual, { b: { c: bytes(2) } }));
  refused(() => assertObjectMatch(actual, { e: [{ g: 3 }] }));
});

Deno.test("assertThrows() returns what was thrown, and checks class and message", () => {
  const error = new RangeError("bad port 70000");
  const fn = () => {
    throw error;
  };
  assertStrictEquals(assertThrows(fn), error);
  assertStrictEquals(assertThrows(fn, "why"), error);
  assertStrictEquals(assertThrows(fn, Error), error);
  const typed: RangeError = assertThrows(fn, RangeError, "port 7", "why");
  assertStrictEquals(typed, error);
  refused(() => assertThrows(() => {}));
  refused(() => assertThrows(() => {}, RangeError));
  refused(() => assertThrows(fn, TypeError));
  refused(() => assertThrows(fn, RangeError, "address"));
  refused(() =>
    assertThrows(() => {
      throw "text";
    }, Error)
  );
});

Deno.test("assertThrows() takes an abstract class", () => {
  abstract class Base extends Error {}
  class Derived extends Base {}
  assertThrows(() => {
    throw new Derived();
  }, Base);
});

Deno.test("assertRejects() resolves to the reason, and checks class and message", async () => {
  const error = new Deno.errors.ConnectionRefused("port 9");
  const fn = () => Promise.reject(error);
  assertStrictEquals(await assertRejects(fn), error);
  assertStrictEquals(
    await assertRejects(fn, Deno.errors.ConnectionRefused, "port"),
    error,
  );
  await refusedLater(() => assertRejects(() => Promise.resolve()));
  await refusedLater(() => assertRejects(fn, TypeError));
  await refusedLater(() => assertRejects(fn, Error, "address"));
});

Deno.test("assertRejects() fails when the function throws at once", async () => {
  await refusedLater(() =>
    assertRejects(() => {
      throw new Error();
    })
  );
});

Deno.test("assertIsError() checks class and message", () => {
  const error = new TypeError("no socket");
  assertIsError(error);
  assertIsError(error, TypeError, "socket");
  assertIsError(error, Error, /^no/);
  refused(() => assertIsError("no socket"));
  refused(() => assertIsError(error, RangeError));
  refused(() => assertIsError(error, TypeError, /^socket/));
});

Deno.test("fail() and unreachable() fail", () => {
  assertStringIncludes(refused(() => fail("why")).message, "why");
  refused(() => unreachable());
});

Deno.test("spy() records arguments, result, error and this", () => {
  const half = spy((n: number) => {
    if (n % 2) throw new RangeError("odd");
    return n / 2;
  });
  assertEquals(half(4), 2);
  assertThrows(() => half(3), RangeError);
  assertSpyCalls(half, 2);
  assertSpyCall(half, 0, { args: [4], returned: 2 });
  assertSpyCall(half, 1, { error: { Class: RangeError, msgIncludes: "odd" } });
  refused(() => assertSpyCalls(half, 1));
  refused(() => assertSpyCall(half, 0, { args: [5] }));
  refused(() => assertSpyCall(half, 0, { error: {} }));
  refused(() => assertSpyCall(half, 1, { returned: 2 }));
  refused(() => assertSpyCall(half, 2));
});

Deno.test("spy() without a function returns undefined", () => {
  const nothing = spy();
  assertStrictEquals(nothing(1, 2), undefined);
  assertEquals(nothing.calls, [{ args: [1, 2], returned: undefined }]);
  assertThrows(() => nothing.restore(), MockError);
});

class Counter {
  count = 0;
  add(n: number) {
    return this.count += n;
  }
}

Deno.test("spy() on a method calls it, until restored", () => {
  const counter = new Counter();
  const add = spy(counter, "add");
  assertEquals(counter.add(2), 2);
  assertSpyCall(add, 0, { args: [2], returned: 2, self: counter });
  assertFalse(add.restored);
  add.restore();
  assert(add.restored);
  counter.add(3);
  assertSpyCalls(add, 1);
  assertEquals(Object.keys(counter), ["count"]);
  assertThrows(() => add.restore(), MockError);
});

Deno.test("stub() replaces a method, until disposed of", () => {
  const counter = new Counter();
  {
    using add = stub(counter, "add", (n) => -n);
    assertEquals(counter.add(2), -2);
    assertEquals(counter.count, 0);
    assertSpyCalls(add, 1);
    assertThrows(() => stub(counter, "count" as "add"), MockError);
  }
  assertEquals(counter.add(2), 2);
});

Deno.test("stub() without a function returns undefined", () => {
  const log = { write: (_: string): number | undefined => 1 };
  using _ = stub(log, "write");
  assertStrictEquals(log.write("x"), undefined);
});

Deno.test("getAvailablePort() returns a port one can listen on", () => {
  const port = getAvailablePort();
  using listener = Deno.listen({ port });
  assertEquals(listener.addr.port, port);
  assertNotEquals(getAvailablePort({ preferredPort: port }), port);
});

Deno.test("the import maps name the packages of deno.json", () => {
  // "@std/testing" has no root module, so the map has its folder instead.
  const { "@std/testing": testing, ...rest } = config.imports;
  const { "jsr:@asyncore/asyncore": _, ...real } = jsr.imports;
  assertEquals(real, {
    ...rest,
    "@std/testing/": testing.replace("jsr:", "jsr:/") + "/",
  });
  for (const name of Object.keys(standIns.imports)) {
    assert(
      Object.keys(jsr.imports).some((key) =>
        name === key || key.endsWith("/") && name.startsWith(key)
      ),
      name,
    );
  }
});
