import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import {
  acceptFailure,
  CLOSE_KINDS,
  describeError,
  endKind,
  ExitNow,
} from "../errors.ts";
import * as mod from "../mod.ts";

Deno.test("ExitNow is an Error with a name, a message and a cause", () => {
  const cause = new Error("why");
  const error = new ExitNow("enough", { cause });
  assertInstanceOf(error, Error);
  assertEquals(error.name, "ExitNow");
  assertEquals(error.message, "enough");
  assertStrictEquals(error.cause, cause);
  assertEquals(new ExitNow().message, "");
  assertEquals(`${new ExitNow("enough")}`, "ExitNow: enough");
  assertStrictEquals(mod.ExitNow, ExitNow);
});

Deno.test("ExitNow may be subclassed", () => {
  class Restart extends ExitNow {
    override name = "Restart";
  }
  assertInstanceOf(new Restart(), ExitNow);
  assertEquals(`${new Restart("now")}`, "Restart: now");
});

Deno.test("CLOSE_KINDS are the six of the contract", () => {
  assertEquals(
    [...CLOSE_KINDS].sort(),
    ["done", "eof", "error", "limit", "reset", "timeout"],
  );
});

Deno.test("endKind() is reset for what CPython calls disconnected, else error", () => {
  const { errors } = Deno;
  for (
    const type of [
      errors.ConnectionReset,
      errors.ConnectionAborted,
      errors.NotConnected,
      errors.BrokenPipe,
    ]
  ) assertEquals(endKind(new type("gone")), "reset");
  for (
    const type of [
      errors.Interrupted,
      errors.BadResource,
      errors.TimedOut,
      errors.UnexpectedEof,
      errors.InvalidData,
      Error,
    ]
  ) assertEquals(endKind(new type("odd")), "error");
  for (const thrown of [undefined, null, "text"]) {
    assertEquals(endKind(thrown), "error");
  }
});

Deno.test("acceptFailure() tells what a failed accept means for the listener", () => {
  const coded = (code: string) =>
    Object.assign(new Error(`${code} (os error)`), { code });
  for (const code of ["EMFILE", "ENFILE", "ENOBUFS", "ECONNABORTED"]) {
    assertEquals(acceptFailure(coded(code)), "exhausted", code);
  }
  for (
    const error of [
      coded("ENOTCONN"),
      coded("EPROTO"),
      coded("EHOSTUNREACH"),
      new Deno.errors.NotConnected("reset before it was accepted"),
      new Deno.errors.ConnectionReset("likewise"),
    ]
  ) assertEquals(acceptFailure(error), "unlucky", `${error}`);
  for (
    const error of [
      coded("EINVAL"),
      new Deno.errors.BadResource("Listener has been closed"),
      new Error("Too many open files"),
      undefined,
      null,
      "EMFILE",
      { code: "EMFILE" },
    ]
  ) assertEquals(acceptFailure(error), "failed");
});

Deno.test("describeError() is one line: class, text and a traceback, innermost first", () => {
  function inner(): never {
    throw new RangeError("first line\nsecond line");
  }
  function outer() {
    inner();
  }
  let line = "";
  try {
    outer();
  } catch (error) {
    line = describeError(error);
  }
  assertMatch(
    line,
    /^RangeError: first line second line \[errors_test\.ts\|inner\|\d+\] \[errors_test\.ts\|outer\|\d+\] \S/,
  );
  assert(!line.includes("\n"));
});

Deno.test("describeError() is one line, whatever is thrown", () => {
  const unprintable = {
    toString() {
      throw new Error("no text");
    },
  };
  for (
    const thrown of [
      "text",
      "two\nlines",
      "",
      3,
      null,
      undefined,
      Symbol("s"),
      unprintable,
      Object.create(null),
      [],
    ]
  ) {
    const line = describeError(thrown);
    assertEquals(typeof line, "string");
    assert(!line.includes("\n"), Deno.inspect(line));
  }
  assertEquals(describeError("text"), "text");
});

Deno.test("describeError() copes with errors whose parts are missing", () => {
  const noStack = new Error("no stack");
  delete noStack.stack;
  assertEquals(describeError(noStack), "Error: no stack");
  const throwing = new Error("odd");
  throwing.toString = () => {
    throw new Error("no text");
  };
  assert(!describeError(throwing).includes("\n"));
  const getter = new Error("odd");
  Object.defineProperty(getter, "stack", {
    get() {
      throw new Error("no stack");
    },
  });
  assert(describeError(getter).startsWith("Error: odd"));
  // deno-lint-ignore no-explicit-any
  (noStack as any).stack = 3;
  assertEquals(describeError(noStack), "Error: no stack");
});
