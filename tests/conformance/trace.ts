/**
 * How a trace is written down: line by line, and folded.
 *
 * @module
 */

import type { Trace } from "./scenario.ts";

/** See README.md: folded, because the number of passes does not matter. */
const REPEATABLE = new Set([
  "read",
  "write",
  "accept",
  "log warning: unhandled read event",
  "log warning: unhandled write event",
]);

/** A trace that grows. */
export class FoldedTrace {
  readonly #lines: string[] = [];
  /** Channel -> the repeatable lines since its last line of another kind. */
  readonly #recent = new Map<string, Set<string>>();

  /** The lines so far. */
  get lines(): Trace {
    return this.#lines;
  }

  /** Adds a line, unless it is folded. */
  add(who: string, what: string): void {
    const recent = this.#recent.get(who) ?? new Set();
    this.#recent.set(who, recent);
    if (!REPEATABLE.has(what)) recent.clear();
    else if (recent.has(what)) return;
    else recent.add(what);
    this.#lines.push(`${who} ${what}`);
  }
}
