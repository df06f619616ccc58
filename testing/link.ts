/**
 * How a simulated network treats connections: what can be set, and the faults it can be told to have.
 *
 * @module
 */

import { checkRange, checkWhole, type Random, type Range } from "./random.ts";

/** What every {@linkcode Fault} says. */
export interface FaultOccurrence {
  /**
   * The probability, from 0 to 1, with which a connection or an attempt has it.
   *
   * @default {1}
   */
  readonly chance?: number;
  /**
   * How many connections or attempts have it at most.
   *
   * @default {as many as there are}
   */
  readonly times?: number;
}

/** An attempt to connect that does not succeed. */
export interface ConnectFault extends FaultOccurrence {
  /** What it concerns. */
  readonly on: "connect";
  /**
   * How it fails: `refused` (nobody listens), `unreachable` (no route), `unanswered` (given up after 127 s, as Linux does), `notFound`
   * (the name is unknown), `denied` (a firewall says no).
   */
  readonly what:
    | "refused"
    | "unreachable"
    | "unanswered"
    | "notFound"
    | "denied";
}

/** An accept that fails: for lack of something, while the connection waits on, or because the connection is gone again. */
export interface AcceptFault extends FaultOccurrence {
  /** What it concerns. */
  readonly on: "accept";
  /** The system's error code. */
  readonly what: "EMFILE" | "ENFILE" | "ENOBUFS" | "ENOMEM" | "ECONNABORTED";
}

/** Something that happens to a connection when a certain byte is about to pass. */
export interface StreamFault extends FaultOccurrence {
  /** Which way the byte goes: to the side that accepted the connection, or to the one that opened it. */
  readonly on: "toServer" | "toClient";
  /**
   * What happens: `reset` (both sides are told that the connection is broken), `stall` (nothing passes any more that way), `end` (the
   * receiver gets an end of file, and the rest never arrives), `writeError` (the sender's write fails with EIO), `urgent` (the receiver
   * is told of urgent data).
   */
  readonly what: "reset" | "stall" | "end" | "writeError" | "urgent";
  /**
   * How many bytes pass before that.
   *
   * @default {0}
   */
  readonly at?: Range;
  /**
   * How long a stall lasts, in milliseconds.
   *
   * @default {Infinity}
   */
  readonly for?: Range;
}

/** Something that goes wrong. */
export type Fault = ConnectFault | AcceptFault | StreamFault;

/** How connections to an address behave; without any of these, perfectly. */
export interface LinkOptions {
  /**
   * How long data is under way, in milliseconds, drawn for each segment. A stream's order is kept.
   *
   * @default {0}
   */
  readonly latency?: Range;
  /**
   * How much longer an attempt to connect is under way, in milliseconds.
   *
   * @default {0}
   */
  readonly connectLatency?: Range;
  /**
   * Bytes per second, each way of each connection.
   *
   * @default {Infinity}
   */
  readonly bandwidth?: number;
  /**
   * How many bytes travel together.
   *
   * @default {Infinity}
   */
  readonly segmentSize?: Range;
  /**
   * The most bytes that one read gets.
   *
   * @default {Infinity}
   */
  readonly readSize?: Range;
  /**
   * The most bytes that one write takes.
   *
   * @default {Infinity}
   */
  readonly writeSize?: Range;
  /**
   * How many bytes can be under way or wait to be read, each way of each connection: the kernels' buffers. Writes wait when it is
   * full.
   *
   * @default {65_536}
   */
  readonly window?: number;
  /**
   * The probability that a datagram is lost.
   *
   * @default {0}
   */
  readonly loss?: number;
  /**
   * The probability that a datagram arrives twice.
   *
   * @default {0}
   */
  readonly duplication?: number;
  /**
   * The probability that a datagram takes so much longer that later ones may overtake it: the latency, and up to 10 ms, once more.
   *
   * @default {0}
   */
  readonly reordering?: number;
  /**
   * What goes wrong.
   *
   * @default {nothing}
   */
  readonly faults?: readonly Fault[];
}

/** The Linux default for how much a Unix or TCP connection takes in before its writers wait. */
const WINDOW = 65_536;

function checkProbability(name: string, value: number): void {
  if (value >= 0 && value <= 1) return;
  throw new RangeError(
    `Cannot simulate a link: ${name} must be from 0 to 1, got ${value}`,
  );
}

const FAULTS: Readonly<Record<string, ReadonlySet<string>>> = {
  connect: new Set([
    "refused",
    "unreachable",
    "unanswered",
    "notFound",
    "denied",
  ]),
  accept: new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"]),
  toServer: new Set(["reset", "stall", "end", "writeError", "urgent"]),
};

function checkFault(fault: Fault): void {
  const kinds = FAULTS[fault.on === "toClient" ? "toServer" : fault.on];
  if (!kinds?.has(fault.what)) {
    throw new TypeError(
      `Cannot simulate a link: no such fault: ${fault.on} ${fault.what}`,
    );
  }
  const { chance = 1, times = Infinity } = fault;
  checkProbability("a fault's chance", chance);
  checkWhole("a fault's times", times, 0);
  if (fault.on !== "toServer" && fault.on !== "toClient") return;
  checkWhole("a fault's at", fault.at ?? 0, 0);
  checkRange("a fault's for", fault.for ?? 0, 0);
}

/** {@linkcode LinkOptions}, checked and complete, and how often its faults have happened. */
export class Link {
  readonly latency: Range;
  readonly connectLatency: Range;
  readonly bandwidth: number;
  readonly segmentSize: Range;
  readonly readSize: Range;
  readonly writeSize: Range;
  readonly window: number;
  readonly loss: number;
  readonly duplication: number;
  readonly reordering: number;
  readonly #faults: { readonly fault: Fault; left: number }[];

  /**
   * Makes a link.
   *
   * @param options See {@linkcode LinkOptions}.
   * @throws {RangeError} If a number is out of range.
   * @throws {TypeError} If there is no such fault.
   */
  constructor(options: LinkOptions) {
    const { faults = [] } = options;
    this.latency = options.latency ?? 0;
    this.connectLatency = options.connectLatency ?? 0;
    this.bandwidth = options.bandwidth ?? Infinity;
    this.segmentSize = options.segmentSize ?? Infinity;
    this.readSize = options.readSize ?? Infinity;
    this.writeSize = options.writeSize ?? Infinity;
    this.window = options.window ?? WINDOW;
    this.loss = options.loss ?? 0;
    this.duplication = options.duplication ?? 0;
    this.reordering = options.reordering ?? 0;
    checkRange("latency", this.latency, 0);
    checkRange("connectLatency", this.connectLatency, 0);
    checkRange("bandwidth", this.bandwidth, 1);
    checkWhole("segmentSize", this.segmentSize, 1);
    checkWhole("readSize", this.readSize, 1);
    checkWhole("writeSize", this.writeSize, 1);
    checkWhole("window", this.window, 1);
    checkProbability("loss", this.loss);
    checkProbability("duplication", this.duplication);
    checkProbability("reordering", this.reordering);
    faults.forEach(checkFault);
    this.#faults = faults.map((fault) => ({
      fault,
      left: fault.times ?? Infinity,
    }));
  }

  /** The first fault that a new attempt to connect or to accept has. */
  strike(
    on: "connect" | "accept",
    random: Random,
  ): (ConnectFault | AcceptFault)["what"] | undefined {
    for (const fault of this.#struck(on, random)) {
      return (fault as ConnectFault | AcceptFault).what;
    }
  }

  /** The faults that a new connection has in one direction, in the order in which they come up. */
  ambush(on: "toServer" | "toClient", random: Random): Ambush[] {
    const ambushes: Ambush[] = [];
    for (const fault of this.#struck(on, random)) {
      const { what, at = 0, for: pause = Infinity } = fault as StreamFault;
      ambushes.push({ what, at: random.draw(at), pause: random.draw(pause) });
    }
    return ambushes.sort((a, b) => a.at - b.at);
  }

  *#struck(on: Fault["on"], random: Random): Generator<Fault> {
    for (const entry of this.#faults) {
      if (entry.fault.on !== on || entry.left <= 0) continue;
      if (!random.chance(entry.fault.chance ?? 1)) continue;
      entry.left--;
      yield entry.fault;
    }
  }
}

/** A fault that waits for its byte. */
export interface Ambush {
  readonly what: StreamFault["what"];
  /** How many bytes pass before it. */
  readonly at: number;
  /** How long a stall lasts, in milliseconds. */
  readonly pause: number;
}
