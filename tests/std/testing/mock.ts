/**
 * Stand-in for `@std/testing/mock`, used where JSR cannot be reached: only what
 * the tests import, with the signatures of the real package.
 *
 * @module
 */

// deno-lint-ignore-file no-explicit-any

import { assertEquals, AssertionError, assertIsError } from "../assert.ts";

/** What {@linkcode spy} and {@linkcode stub} throw when misused. */
export class MockError extends Error {
  /** The error's name. */
  override name = "MockError";
}

/** One recorded call: `returned` or `error`, whichever it ended with. */
export interface SpyCall<
  Self = any,
  Args extends unknown[] = any[],
  Return = any,
> {
  /** The arguments of the call. */
  args: Args;
  /** What it returned. */
  returned?: Return;
  /** What it threw. */
  error?: Error;
  /** Its `this`. */
  self?: Self;
}

/** A function that records its calls. */
export interface Spy<
  Self = any,
  Args extends unknown[] = any[],
  Return = any,
> {
  (this: Self, ...args: Args): Return;
  /** The function that is wrapped or replaced. */
  original: (this: Self, ...args: Args) => Return;
  /** The calls so far. */
  calls: SpyCall<Self, Args, Return>[];
  /** Whether {@linkcode Spy.restore} was called. */
  restored: boolean;
  /** Puts the original method back. */
  restore(): void;
}

/** A {@linkcode Spy} in the place of a method. */
export interface MethodSpy<
  Self = any,
  Args extends unknown[] = any[],
  Return = any,
> extends Spy<Self, Args, Return>, Disposable {}

/** A {@linkcode MethodSpy} that calls something else than the method. */
export interface Stub<
  Self = any,
  Args extends unknown[] = any[],
  Return = any,
> extends MethodSpy<Self, Args, Return> {
  /** What is called instead of the method. */
  fake: (this: Self, ...args: Args) => Return;
}

/** The parameters of a method. */
export type GetParametersFromProp<Self, Prop extends keyof Self> =
  Self[Prop] extends (...args: infer Args) => unknown ? Args : unknown[];

/** The return type of a method. */
export type GetReturnFromProp<Self, Prop extends keyof Self> =
  Self[Prop] extends (...args: any[]) => infer Return ? Return : unknown;

type AnyFunction = (this: any, ...args: any[]) => any;

/** A function that records its calls and passes them to `run`. */
function recorder(run: AnyFunction): Stub {
  const calls: SpyCall[] = [];
  const spy: Stub = Object.assign(
    function (this: any, ...args: any[]): any {
      const call: SpyCall = { args };
      if (this) call.self = this;
      try {
        return call.returned = run.apply(this, args);
      } catch (error) {
        call.error = error as Error;
        throw error;
      } finally {
        // After the call, so that calls are in the order in which they ended.
        calls.push(call);
      }
    },
    {
      calls,
      original: run,
      fake: run,
      restored: false,
      restore(): void {
        throw new MockError("Cannot restore function: it replaces no method");
      },
      [Symbol.dispose]: (): void => spy.restore(),
    },
  );
  return spy;
}

/** Puts a recorder in the place of `object[key]`. */
function replace(object: any, key: PropertyKey, run?: AnyFunction): Stub {
  const original = object[key];
  if (typeof original !== "function") {
    throw new MockError(`Cannot spy on ${String(key)}: it is not a method`);
  }
  const own = Object.getOwnPropertyDescriptor(object, key);
  const spy = recorder(run ?? original);
  spy.original = original;
  spy.restore = () => {
    if (spy.restored) {
      throw new MockError(
        `Cannot restore ${String(key)}: it is restored already`,
      );
    }
    spy.restored = true;
    if (own) Object.defineProperty(object, key, own);
    else delete object[key];
  };
  Object.defineProperty(object, key, {
    configurable: true,
    enumerable: own?.enumerable ?? false,
    writable: own?.writable ?? false,
    value: spy,
  });
  return spy;
}

/** A function that does nothing but record its calls. */
export function spy<
  Self = any,
  Args extends unknown[] = any[],
  Return = undefined,
>(): Spy<Self, Args, Return>;
/** A function that records its calls and passes them to `func`. */
export function spy<Self, Args extends unknown[], Return>(
  func: (this: Self, ...args: Args) => Return,
): Spy<Self, Args, Return>;
/** Records the calls of the method `self[property]`. */
export function spy<Self, Prop extends keyof Self>(
  self: Self,
  property: Prop,
): MethodSpy<
  Self,
  GetParametersFromProp<Self, Prop>,
  GetReturnFromProp<Self, Prop>
>;
export function spy(target?: any, property?: PropertyKey): Spy {
  return property === undefined
    ? recorder(target ?? (() => {}))
    : replace(target, property);
}

/** Replaces the method `self[property]` by one that does nothing. */
export function stub<Self, Prop extends keyof Self>(
  self: Self,
  property: Prop,
): Stub<
  Self,
  GetParametersFromProp<Self, Prop>,
  GetReturnFromProp<Self, Prop>
>;
/** Replaces the method `self[property]` by `func`. */
export function stub<Self, Prop extends keyof Self>(
  self: Self,
  property: Prop,
  func: (
    this: Self,
    ...args: GetParametersFromProp<Self, Prop>
  ) => GetReturnFromProp<Self, Prop>,
): Stub<
  Self,
  GetParametersFromProp<Self, Prop>,
  GetReturnFromProp<Self, Prop>
>;
export function stub(
  self: any,
  property: PropertyKey,
  func: AnyFunction = () => {},
): Stub {
  return replace(self, property, func);
}

/** Fails unless `spy` was called `expectedCalls` times. */
export function assertSpyCalls<Self, Args extends unknown[], Return>(
  spy: Spy<Self, Args, Return>,
  expectedCalls: number,
): void {
  if (spy.calls.length === expectedCalls) return;
  throw new AssertionError(
    `Expected ${expectedCalls} calls of the spy, got ${spy.calls.length}`,
  );
}

/** What {@linkcode assertSpyCall} compares; what is absent is not compared. */
export interface ExpectedSpyCall<
  Self = any,
  Args extends unknown[] = any[],
  Return = any,
> {
  /** The arguments of the call. */
  args?: [...Args, ...unknown[]];
  /** Its `this`. */
  self?: Self;
  /** What it returned. */
  returned?: Return;
  /** What it threw. */
  error?: {
    /** The class of the error. */
    Class?: new (...args: any[]) => Error;
    /** A part of its message. */
    msgIncludes?: string;
  };
}

/** Fails unless call number `callIndex` (from 0) was as expected. */
export function assertSpyCall<Self, Args extends unknown[], Return>(
  spy: Spy<Self, Args, Return>,
  callIndex: number,
  expected: ExpectedSpyCall<Self, Args, Return> = {},
): void {
  const call = spy.calls[callIndex];
  if (!call) {
    throw new AssertionError(
      `Expected more than ${callIndex} calls of the spy, ` +
        `got ${spy.calls.length}`,
    );
  }
  if (expected.args) assertEquals<unknown[]>(call.args, expected.args);
  if ("self" in expected) assertEquals(call.self, expected.self);
  if ("returned" in expected) {
    if (call.error) throw new AssertionError("Expected a value, it threw");
    assertEquals(call.returned, expected.returned);
  }
  if ("error" in expected) {
    if ("returned" in call) {
      throw new AssertionError("Expected an error, it returned a value");
    }
    assertIsError(
      call.error,
      expected.error?.Class,
      expected.error?.msgIncludes,
    );
  }
}
