/**
 * What a random program is: plain data that says what servers, clients and the
 * world around them do. Nothing else decides anything, so a program that broke
 * a line can be shown, shrunk and run again.
 *
 * @module
 */

import type { Fault, LinkOptions } from "../../testing.ts";

/** What can be done with a channel, inside a handler or from outside. */
export const VERBS = [
  "recv",
  "recvInto",
  "recvView",
  "send",
  "close",
  "abort",
  "disconnect",
  "shutdown",
  "wantRead",
  "wantWrite",
  "wake",
  "wakeMap",
  "suspend",
  "move",
  "spawn",
  "reopen",
  "signal",
  "super",
] as const;

export type Verb = (typeof VERBS)[number];

/**
 * One thing done. `n` is a count of bytes, a time in ms, an index or a truth,
 * as the verb wants it; `who` is the distance to the channel it is done to in
 * the list of all channels: 0 is the channel itself.
 */
export type Act = readonly [verb: Verb, n: number, who: number];

/** How a handler ends. */
export type Outcome = "return" | "throw" | "exit";

/** What one call of a handler does. */
export interface Reaction {
  readonly acts: readonly Act[];
  /** Makes the handler asynchronous: ms if positive, else microtasks; "signal": until the channel's signal aborts. */
  readonly wait?: number | "signal";
  /** Done after the wait. */
  readonly later?: readonly Act[];
  readonly outcome: Outcome;
}

/** What a predicate answers: `want`, a field that acts change, and one thing more. */
export interface Predicate {
  readonly want: boolean;
  readonly also?:
    | readonly ["room", atLeast: number]
    | readonly ["received", atLeast: number, who: number]
    | readonly ["after", ms: number];
  /** The call, counted from 0, that fails instead. */
  readonly fails?: readonly [call: number, how: "throw" | "exit" | "promise"];
}

export const HANDLERS = [
  "connect",
  "read",
  "write",
  "expt",
  "eof",
  "close",
  "error",
  "accept",
  "accepted",
] as const;

export type Handler = (typeof HANDLERS)[number];

/** Call number n of a handler does what is in place n; after the last it does what diligent programs do. */
export type Script = { readonly [H in Handler]?: readonly Reaction[] };

/** A kind of channel. */
export interface Behaviour {
  /** A `DispatcherWithSend`. */
  readonly withSend: boolean;
  /** Which methods are overridden: all, all but the predicates, or all but the predicates and `handleWrite`. */
  readonly overrides: "all" | "handlers" | "some";
  readonly sendBufferSize: number;
  readonly lingerTimeout: number;
  readonly map: number;
  readonly readable: Predicate;
  readonly writable: Predicate;
  /** What `handleWrite` sends when its script is at its end: bytes in all, and at a time. */
  readonly talk: readonly [total: number, piece: number];
  /** What `handleRead` takes at most when its script is at its end. */
  readonly takes: number;
  readonly on: Script;
  /** `logInfo()` throws. */
  readonly logThrows: boolean;
}

/** What a peer by hand does with its connection before it reads to the end and closes. */
export type Step =
  | readonly ["write", bytes: number]
  | readonly ["read", bytes: number]
  | readonly ["sleep", ms: number]
  | readonly ["closeWrite"]
  | readonly ["close"]
  | readonly ["reset"]
  | readonly ["urgent"]
  /** Neither reads nor writes any more, until everything is closed. */
  | readonly ["hold"];

export interface ServerPlan {
  /** How the listener behaves, or `null`: a listener by hand. */
  readonly listener: Behaviour | null;
  /** How many connections the system keeps waiting. */
  readonly backlog: number;
  /** The kinds of the connections it accepts, in turn. */
  readonly accepts: readonly Behaviour[];
  /** When the connection is adopted: before the wait of `handleAccepted`, after it, never. */
  readonly adopts: readonly ("before" | "after" | "never")[];
  /** What a listener by hand does with each connection. */
  readonly steps: readonly Step[];
  readonly link: LinkOptions;
}

export interface ClientPlan {
  /** Which server, counted modulo one more than there are: the last is nobody. */
  readonly to: number;
  /** When it starts; 0: before the loop does. */
  readonly at: number;
  readonly behaviour: Behaviour;
  /** A client by hand does this instead. */
  readonly steps: readonly Step[] | null;
}

/** Something done from outside, at a time. */
export interface Outside {
  readonly at: number;
  readonly act: Act;
}

export interface Program {
  readonly seed: number;
  readonly tick: number;
  readonly usePoll: boolean;
  /** Whether the order of completions is watched. */
  readonly watches: boolean;
  readonly servers: readonly ServerPlan[];
  readonly clients: readonly ClientPlan[];
  readonly outside: readonly Outside[];
  /** How the channels that are left are closed at the end. */
  readonly ending: "close" | "abort" | "half";
}

/** Faults that break single connections, so that bytes may be lost. */
export function breaksConnections(faults: readonly Fault[] = []): boolean {
  return faults.some(({ on, what }) =>
    (on !== "connect" && on !== "accept" && what !== "urgent") ||
    what === "ECONNABORTED"
  );
}
