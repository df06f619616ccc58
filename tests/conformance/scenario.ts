/**
 * What a conformance scenario is. README.md says what the words mean.
 *
 * @module
 */

import data from "./scenarios.json" with { type: "json" };

/** How a pass goes: `poll()` without and with `usePoll`. */
export const MODES = ["select", "poll"] as const;

/** One of {@linkcode MODES}. */
export type Mode = (typeof MODES)[number];

/** The lines of one run. */
export type Trace = readonly string[];

/** Traces of both modes, told once where they are the same. */
export type Traces = Readonly<Partial<Record<Mode | "both", Trace>>>;

/** A trace of ours that is not CPython's, and why. */
export interface Difference {
  /** The line of the contract: its number, a colon, its gist. */
  readonly line: string;
  /** What our module does instead. */
  readonly trace: Trace;
}

/** A verb and its arguments. */
export type Action = readonly [verb: string, ...args: unknown[]];

/** Of a channel's handlers those that no event of a socket leads to, but what an `async_chat` finds in what it reads. */
export const FRAME_EVENTS: ReadonlySet<string> = new Set([
  "collect",
  "found",
  "incomplete",
  "tooLong",
]);

/** One channel of a scenario. */
export interface ChannelSpec {
  readonly type?: "with_send" | "async_chat";
  readonly readable?: boolean | string;
  readonly writable?: boolean | string;
  readonly buffer?: string;
  readonly logsAll?: boolean;
  readonly closeRaises?: string;
  readonly terminator?: string | number | null;
  readonly maxFrameLength?: number;
  readonly on?: Readonly<Record<string, readonly Action[]>>;
}

/** One scenario. */
export interface Scenario {
  readonly name: string;
  /** Compare the lines of each channel, not their interleaving. */
  readonly compare?: "channels";
  readonly flags?: Readonly<Record<string, boolean>>;
  readonly channels: Readonly<Record<string, ChannelSpec>>;
  readonly steps: readonly (readonly [subject: string, ...action: Action])[];
  readonly differs?: Readonly<Partial<Record<Mode | "both", Difference>>>;
}

/** All scenarios. */
export const SCENARIOS = data as unknown as readonly Scenario[];
