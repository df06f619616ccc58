/**
 * Rows of the table, and what they are made of.
 *
 * @module
 */

import { selectorOf } from "../../channel_map.ts";
import type { ChannelMap } from "../../mod.ts";
import type { Address, Nowhere, Peer, Report, Stage, Step } from "./stage.ts";
import { type Behaviour, Door, Subject } from "./subject.ts";

/** What is compared with what was expected. */
export type Seen = { readonly [what: string]: unknown };

/** A fault. */
export interface Row {
  /** What happens. */
  readonly name: string;
  /** What it takes beyond loopback: a cable to cut, or few descriptors. */
  readonly needs?: "cable" | "descriptors";
  /**
   * Whether time passes by `advance()` only.
   *
   * @default {false}
   */
  readonly timed?: boolean;
  /**
   * Whether the simulated network has no such fault.
   *
   * @default {false}
   */
  readonly realOnly?: boolean;
  /** Plays it and says what was seen. */
  play(stage: Stage): Promise<Seen>;
  /** What must be seen; where several things may be, each of them. */
  readonly expected: readonly Seen[];
}

/** How a connection comes about, as the one under test sees it. */
const WAYS = {
  "a client": "tcp",
  "a server": "tcp",
  "a client on a Unix socket": "unix",
  "a server on a Unix socket": "unix",
} as const;
type Way = keyof typeof WAYS;

/** The ways of TCP. */
export const TCP: readonly Way[] = ["a client", "a server"];

/** All of them. */
export const ALL = Object.keys(WAYS) as Way[];

/** What happens to one connection. */
interface Story {
  readonly name: string;
  readonly needs?: "cable";
  readonly timed?: boolean;
  readonly ways: readonly Way[];
  /** What the dispatcher under test does. */
  readonly we?: Behaviour;
  /** What the peer does, once connected. */
  readonly peer: readonly Step[];
  /** What is done meanwhile. Without it, the connection is served to its end. */
  meanwhile?(stage: Stage, us: Subject, peer: Peer): Promise<unknown>;
  readonly expected: readonly Ending[];
}

/** What the dispatcher and its peer saw. */
interface Ending {
  /** The dispatcher's events after `connect`. */
  readonly events: readonly string[];
  /** Whether `handleClose` was told of bytes that never left. */
  readonly unsent?: "none" | "some";
  /** How much of what `send()` took the peer received, if anything was sent. */
  readonly arrived?: "everything" | "a part" | "nothing";
  /** The end that the peer saw, if it looked for it. */
  readonly end?: "eof" | "reset";
}

/** A connection under test, and its peer. */
async function connect(
  stage: Stage,
  way: Way,
  { we = {}, peer: steps }: Story,
): Promise<[Subject, Peer]> {
  if (way.startsWith("a client")) {
    const listener = ["listen", "accept", ...steps] as const;
    const peer = await stage.listener(listener, WAYS[way]);
    const us = new Subject(null, stage.map, we);
    us.createSocket();
    us.connect(peer.address!);
    return [us, peer];
  }
  const door = new Door(stage.map, stage.here(WAYS[way]), { we });
  const peer = await stage.caller(door.addr as Address, ["connect", ...steps]);
  await stage.until(() => door.subjects.length > 0);
  return [door.subjects[0]!, peer];
}

/** What is to be compared of a connection and its peer. */
export function ending(us: Subject, report: Report): Seen {
  const all = `read ${report.sent}`;
  const seen: Record<string, unknown> = {
    events: us.events.map((event) =>
      report.sent > 0 && event === all ? "read everything" : event
    ),
  };
  if (us.unsent !== undefined) seen.unsent = us.unsent > 0 ? "some" : "none";
  if (us.sent > 0) seen.arrived = howMuch(report, us.sent);
  if (report.end !== null) seen.end = report.end;
  return seen;
}

function howMuch({ received, intact }: Report, sent: number): string {
  if (!intact) return "other bytes";
  if (received === sent) return "everything";
  return received === 0 ? "nothing" : "a part";
}

/** The rows of a story: it is told of every kind of connection it names. */
export function rows(story: Story): Row[] {
  const { name, needs, timed = false, ways, expected } = story;
  return ways.map((way) => ({
    name: ways.length > 1 ? `${name} (${way})` : name,
    ...needs && { needs },
    timed,
    async play(stage) {
      const [us, peer] = await connect(stage, way, story);
      await story.meanwhile?.(stage, us, peer);
      await stage.finish();
      return ending(us, await peer.report());
    },
    expected: expected.map((ending) => ({
      ...ending,
      events: way.startsWith("a client")
        ? ["connect", ...ending.events]
        : ending.events,
    })),
  }));
}

/** A connect that fails. */
export function failure(kind: Nowhere, error: string, needs?: "cable"): Row {
  return {
    name: `a connect to an address with ${kind}`,
    ...needs && { needs },
    async play(stage) {
      const us = new Subject(null, stage.map);
      us.createSocket();
      us.connect(stage.nowhere(kind));
      await stage.finish();
      return { events: us.events, unsent: us.unsent };
    },
    expected: [{
      events: [`error ${error}`, `close error ${error}`],
      unsent: 0,
    }],
  };
}

/** Sends until the peer, or what is between, takes no more. */
export async function stuck(stage: Stage, us: Subject): Promise<void> {
  await sentUntil(stage, us, () => us.full);
  await stage.quiet();
  us.left = 0;
}

/** Sends as much as goes, and does not stop then. */
export async function sentUntil(
  stage: Stage,
  us: Subject,
  done: () => boolean,
): Promise<void> {
  us.left = Infinity;
  us.wake();
  await stage.until(done);
}

/** Sends so much more, and closes. */
export function last(us: Subject, bytes: number): void {
  us.left = bytes;
  us.closes = true;
  us.wake();
}

/** Closes, and lets the time pass after which that is given up. */
export async function givenUp(stage: Stage, us: Subject): Promise<void> {
  us.close();
  await stage.advance(us.lingerTimeout - 1);
  us.events.push(lingering(stage.map) ? "lingers" : "gone");
  await stage.advance(1);
  us.events.push(lingering(stage.map) ? "lingers" : "gone");
}

/** The events of that. */
export const GIVEN_UP = ["lingers", "gone"];

/** Whether closed sockets are still at work. */
export function lingering(map: ChannelMap): boolean {
  return selectorOf(map).lingering > 0;
}
