/**
 * What goes wrong and how it is told: {@linkcode ExitNow}, which leaves the loop, {@linkcode CloseReason}, which says why a
 * connection ended, and which system errors mean "disconnected". Who reacts to an error is the business of `loop.ts` and
 * `dispatcher.ts`.
 *
 * @module
 */

/**
 * Thrown by any handler or predicate, it makes the running {@linkcode loop} or {@linkcode poll} reject with it at once.
 * Channels stay open and the loop can be called again. As `asyncore.ExitNow` in CPython.
 *
 * @example
 * ```ts
 * import { ExitNow } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(new ExitNow("enough").message, "enough");
 * assertEquals(new ExitNow().name, "ExitNow");
 * ```
 */
export class ExitNow extends Error {
  /**
   * Makes the error.
   *
   * @param message What to tell the caller of `loop()`.
   * @param options As for `Error`: `cause`.
   */
  constructor(message?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ExitNow";
  }
}

/**
 * How a connection ended.
 *
 * - `eof`: the peer closed its side.
 * - `reset`: the peer, or the network, broke the connection.
 * - `timeout`: a timeout of this library ran out.
 * - `error`: anything else that failed, a handler among it.
 * - `limit`: a frame, queue or rate limit was exceeded.
 * - `done`: everything queued was sent, as asked for.
 */
export type CloseKind =
  | "eof"
  | "reset"
  | "timeout"
  | "error"
  | "limit"
  | "done";

/** All {@linkcode CloseKind}s, for checking what a caller gave. */
export const CLOSE_KINDS: ReadonlySet<string> = new Set<CloseKind>([
  "eof",
  "reset",
  "timeout",
  "error",
  "limit",
  "done",
]);

/** Why a connection ended: what {@linkcode Dispatcher.handleClose} gets. */
export interface CloseReason {
  /** How it ended. */
  readonly kind: CloseKind;
  /** The error behind it, where there is one: Deno's own, or what a handler threw. */
  readonly error?: unknown;
  /** Bytes that `send()` took and that never reached the operating system. */
  readonly bytesUnsent: number;
}

/**
 * Errors after which a connection is gone: CPython's ENOTCONN, ECONNRESET, ESHUTDOWN, ECONNABORTED and EPIPE
 * (`asyncore._DISCONNECTED`). Its EBADF is missing: Deno's `BadResource` on a connection that we did not close is a fault.
 */
const DISCONNECTED = [
  Deno.errors.ConnectionReset,
  Deno.errors.ConnectionAborted,
  Deno.errors.NotConnected,
  Deno.errors.BrokenPipe,
];

/**
 * The kind of end that a failed read or write means.
 *
 * @param error What the operation rejected with.
 * @returns `reset` when the connection is gone, else `error`.
 */
export function endKind(error: unknown): "reset" | "error" {
  return DISCONNECTED.some((type) => error instanceof type) ? "reset" : "error";
}

/** The system is short of something, so at once it would fail again; ECONNABORTED is treated alike. Deno has no class for these, the error's `code` is all there is. */
const EXHAUSTED_CODES = new Set([
  "EMFILE",
  "ENFILE",
  "ENOBUFS",
  "ENOMEM",
  "ECONNABORTED",
]);

/** The connection is at fault, or the network on its way: the next one may be accepted at once. */
const UNLUCKY_CODES = new Set([
  "ENOTCONN",
  "ECONNRESET",
  "EPROTO",
  "ETIMEDOUT",
  "ENETDOWN",
  "ENETUNREACH",
  "ENONET",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENOPROTOOPT",
  "EOPNOTSUPP",
]);

/**
 * What a failed accept means for the listener (accept(2), "Error handling").
 *
 * @param error What `accept()` rejected with.
 * @returns `exhausted`: try again later; `unlucky`: try again; `failed`: the listener is of no use any more.
 */
export function acceptFailure(
  error: unknown,
): "exhausted" | "unlucky" | "failed" {
  if (!(error instanceof Error)) return "failed";
  const { code = "" } = error as { code?: string };
  if (EXHAUSTED_CODES.has(code)) return "exhausted";
  // A client that resets its connection at once makes Deno's accept() fail with NotConnected: nobody may stop a server so.
  return UNLUCKY_CODES.has(code) || endKind(error) === "reset"
    ? "unlucky"
    : "failed";
}

/** A stack frame as V8 prints it: `at function (file:line:column)` or `at file:line:column`. */
const FRAME = /^\s*at (?:(.*?) \()?(?:.*\/)?([^/]+?):(\d+):\d+\)?$/;

/**
 * An error on one line, with a compact traceback, innermost frame first, as `asyncore.compact_traceback` has it.
 *
 * @param error What was thrown; anything.
 * @returns `TypeError: text [file|function|line] …`.
 */
export function describeError(error: unknown): string {
  const text = attempt(() => String(error)) ??
    "(no text: its conversion to a string failed)";
  const stack = attempt(() => String((error as Error).stack)) ?? "";
  const frames = stack.split("\n")
    .map((line) => FRAME.exec(line))
    .filter((match) => match !== null)
    .map(([, name, file, line]) => `[${file}|${name ?? ""}|${line}]`);
  return [text.replaceAll(/[\r\n]+/g, " "), ...frames].join(" ");
}

/**
 * A text, unless getting it fails: what is thrown, and whose form is the user's, may be of any kind.
 *
 * @param get Gets the text.
 * @returns The text, or `undefined` if `get` throws.
 */
export function attempt(get: () => string): string | undefined {
  try {
    return get();
  } catch {
    // A conversion that fails must not hide the error that is being told.
    return undefined;
  }
}
