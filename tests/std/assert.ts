/**
 * Stand-in for `@std/assert`, used where JSR cannot be reached: only what the
 * tests import, with the signatures of the real package, built on
 * `node:assert/strict`.
 *
 * Structural comparison is Node's. It is stricter than the real package's
 * where `0` meets `-0`, or an object with a null prototype meets a plain one:
 * a test that passes here passes there. It is laxer on errors (the real one
 * compares their stacks): compare class and message instead of error objects.
 *
 * @module
 */

import node from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** What every failed assertion throws. */
export class AssertionError extends Error {
  /** The error's name. */
  override name = "AssertionError";
}

function refuse(what: string, msg?: string): never {
  throw new AssertionError(msg ? `${what}: ${msg}` : what);
}

function show(value: unknown): string {
  return Deno.inspect(value, { depth: 6, strAbbreviateSize: 1_000 });
}

/** Node's own words for a difference, without their first line. */
function difference(compare: () => void): string {
  try {
    compare();
    return "";
  } catch (error) {
    return (error as Error).message.replace(/^.*\n/, "\n");
  }
}

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails unless `expr` is falsy. */
export function assertFalse(
  expr: unknown,
  msg = "",
): asserts expr is false | 0 | 0n | "" | null | undefined {
  if (expr) throw new AssertionError(msg);
}

/** Fails unless both values have the same structure. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (isDeepStrictEqual(actual, expected)) return;
  refuse(
    "Values are not equal" +
      difference(() => node.deepStrictEqual(actual, expected)),
    msg,
  );
}

/** Fails if both values have the same structure. */
export function assertNotEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (!isDeepStrictEqual(actual, expected)) return;
  refuse(`Expected a value other than ${show(expected)}`, msg);
}

/** Fails unless both values are the same one (`Object.is`). */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  refuse(
    "Values are not strictly equal" +
      difference(() => node.strictEqual(actual, expected)),
    msg,
  );
}

/** Fails if both values are the same one (`Object.is`). */
export function assertNotStrictEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (!Object.is(actual, expected)) return;
  refuse(`Expected another value than ${show(expected)}`, msg);
}

/** Fails if `actual` is `null` or `undefined`. */
export function assertExists<T>(
  actual: T,
  msg?: string,
): asserts actual is NonNullable<T> {
  if (actual === null || actual === undefined) {
    refuse(`Expected a value, got ${actual}`, msg);
  }
}

/** Fails unless `actual` is an instance of `expectedType`. */
export function assertInstanceOf<
  // deno-lint-ignore no-explicit-any
  T extends abstract new (...args: any[]) => any,
>(
  actual: unknown,
  expectedType: T,
  msg = "",
): asserts actual is InstanceType<T> {
  if (actual instanceof expectedType) return;
  refuse(
    `Expected an instance of "${expectedType.name}", got ${show(actual)}`,
    msg,
  );
}

/** Fails unless `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (actual > expected) return;
  throw new AssertionError(msg ?? `Expect ${show(actual)} > ${show(expected)}`);
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (actual >= expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} >= ${show(expected)}`,
  );
}

/** Fails unless `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (actual < expected) return;
  throw new AssertionError(msg ?? `Expect ${show(actual)} < ${show(expected)}`);
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (actual <= expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} <= ${show(expected)}`,
  );
}

/**
 * Fails unless both numbers differ by at most `tolerance` (by default a
 * ten-millionth of `expected`).
 */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  const limit = tolerance ??
    (Number.isFinite(expected) ? Math.abs(expected) : 1) * 1e-7;
  if (Object.is(actual, expected)) return;
  if (Math.abs(expected - actual) <= limit) return;
  refuse(`Expected ${actual} to be within ${limit} of ${expected}`, msg);
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void {
  if (actual.includes(expected)) return;
  refuse(`Expected ${show(actual)} to include ${show(expected)}`, msg);
}

/** Fails unless `actual` matches `expected`. */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  if (expected.test(actual)) return;
  refuse(`Expected ${show(actual)} to match ${expected}`, msg);
}

/** Fails unless `actual` has, anywhere, every element of `expected`. */
export function assertArrayIncludes<T>(
  actual: ArrayLike<T> & object,
  expected: ArrayLike<T> & object,
  msg?: string,
): void {
  const missing = Array.from(expected).filter((wanted) =>
    !Array.from(actual).some((item) => isDeepStrictEqual(item, wanted))
  );
  if (missing.length === 0) return;
  refuse(`Expected ${show(actual)} to include ${show(missing)}`, msg);
}

/** Whether it is compared key by key, rather than as one value. */
function hasParts(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === "object" && value !== null &&
    !(value instanceof Date || value instanceof RegExp ||
      value instanceof Map || value instanceof Set ||
      ArrayBuffer.isView(value));
}

function matches(actual: unknown, expected: unknown): boolean {
  if (!hasParts(actual) || !hasParts(expected)) {
    return isDeepStrictEqual(actual, expected);
  }
  return Array.isArray(actual) === Array.isArray(expected) &&
    Object.keys(expected).every((key) =>
      Object.hasOwn(actual, key) && matches(actual[key], expected[key])
    );
}

/** Fails unless `actual` has all that `expected` has; more is allowed. */
export function assertObjectMatch(
  // deno-lint-ignore no-explicit-any
  actual: Record<PropertyKey, any>,
  expected: Record<PropertyKey, unknown>,
  msg?: string,
): void {
  if (matches(actual, expected)) return;
  refuse(`Expected ${show(actual)} to contain ${show(expected)}`, msg);
}

/**
 * Fails unless `error` is an error, of class `ErrorClass` if given, with
 * `msgMatches` in its message if given.
 */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  ErrorClass?: ErrorClass<E>,
  msgMatches: string | RegExp = "",
  msg?: string,
): asserts error is E {
  if (!(error instanceof Error)) {
    refuse(`Expected an error, got ${show(error)}`, msg);
  }
  if (ErrorClass && !(error instanceof ErrorClass)) {
    refuse(
      `Expected an error of class "${ErrorClass.name}", got ${show(error)}`,
      msg,
    );
  }
  const found = typeof msgMatches === "string"
    ? error.message.includes(msgMatches)
    : msgMatches.test(error.message);
  if (!found) {
    refuse(
      `Expected an error message with ${show(msgMatches)}, ` +
        `got ${show(error.message)}`,
      msg,
    );
  }
}

/** Fails unless `fn` throws. Returns what it threw. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/**
 * Fails unless `fn` throws an `ErrorClass` whose message contains
 * `msgIncludes`. Returns the error.
 */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  classOrMsg?: ErrorClass<Error> | string,
  msgIncludes?: string,
  msg?: string,
): unknown {
  if (typeof classOrMsg === "string") msg = classOrMsg;
  try {
    fn();
  } catch (error) {
    if (typeof classOrMsg === "function") {
      assertIsError(error, classOrMsg, msgIncludes, msg);
    }
    return error;
  }
  refuse("Expected function to throw", msg);
}

/** Fails unless the promise `fn` returns rejects. Resolves to the reason. */
export function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
/**
 * Fails unless the promise `fn` returns rejects with an `ErrorClass` whose
 * message contains `msgIncludes`. Resolves to the error.
 */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  classOrMsg?: ErrorClass<Error> | string,
  msgIncludes?: string,
  msg?: string,
): Promise<unknown> {
  if (typeof classOrMsg === "string") msg = classOrMsg;
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch (error) {
    refuse(`Expected function to reject, it threw ${show(error)}`, msg);
  }
  if (typeof promise?.then !== "function") {
    refuse(`Expected function to return a promise, got ${show(promise)}`, msg);
  }
  try {
    await promise;
  } catch (error) {
    if (typeof classOrMsg === "function") {
      assertIsError(error, classOrMsg, msgIncludes, msg);
    }
    return error;
  }
  refuse("Expected function to reject", msg);
}

/** Fails. */
export function fail(msg?: string): never {
  refuse("Failed assertion", msg);
}

/** Fails: the line must not be reached. */
export function unreachable(msg?: string): never {
  refuse("Unreachable", msg);
}
