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

/** Deno has no class for these: the error's `code` is all there is. */
const TRANSIENT_ACCEPT_CODES = new Set([
  "EMFILE",
  "ENFILE",
  "ECONNABORTED",
  "ENOBUFS",
  "ENOMEM",
]);

/**
 * Whether a failed accept says nothing about the listener, so that a later try may succeed (accept(2), "Error handling").
 *
 * @param error What `accept()` rejected with.
 * @returns True for a lack of descriptors or memory, and for a connection that was gone before it was accepted.
 */
export function isTransientAcceptError(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionAborted ||
    error instanceof Error &&
      TRANSIENT_ACCEPT_CODES.has((error as { code?: string }).code ?? "");
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
  if (!(error instanceof Error)) return safeString(error);
  const frames = (error.stack ?? "").split("\n")
    .map((line) => FRAME.exec(line))
    .filter((match) => match !== null)
    .map(([, name, file, line]) => `[${file}|${name ?? ""}|${line}]`);
  const text = safeString(error).replaceAll("\n", " ");
  return [text, ...frames].join(" ");
}

/** `String(value)`, for values whose own conversion throws, too. */
function safeString(value: unknown): string {
  try {
    return String(value);
  } catch {
    // A conversion that throws must not hide the error that is being told.
    return "(no text: its conversion to a string failed)";
  }
}
