/**
 * A {@linkcode Stage} in a simulated network, whose peers are simulated, too.
 *
 * @module
 */

import type { ChannelMap } from "../../mod.ts";
import type {
  LinkOptions,
  SimConn,
  SimListener,
  SimNet,
} from "../../testing.ts";
import {
  type Address,
  contents,
  fits,
  type Nowhere,
  type Peer,
  type Report,
  type Stage,
  type Step,
} from "./stage.ts";
import { lingering, type Row, type Seen } from "./story.ts";

/** In so many milliseconds everything is done that waits for nobody. */
const WHILE = 10_000;
/** How long a cable is cut that is mended: longer than {@linkcode WHILE}. */
const CUT = 60_000;
/** How long a connect waits for an answer that comes late. */
const LATE = 30_000;
/** After so many milliseconds every timeout is over. */
const AGES = 3_600_000;

/** What is wrong with a connect that leads nowhere. */
const NOWHERE = {
  "no listener": "refused",
  "no name": "notFound",
  "no route": "unreachable",
  "no answer": "unanswered",
} as const;

/** Which way goes what the peer sends, … */
const SENT = { listener: "toClient", caller: "toServer" } as const;
/** … and what it receives. */
const RECEIVED = { listener: "toServer", caller: "toClient" } as const;

/** What is wrong with a connection on which the peer plays these steps. */
function faults(role: keyof typeof SENT, steps: readonly Step[]): LinkOptions {
  const cut = steps.indexOf("cut");
  if (cut < 0) return {};
  const mended = steps.includes("mend");
  const before = steps[cut - 1];
  if (before === undefined) {
    if (mended) return { connectLatency: LATE };
    return { faults: [{ on: "connect", what: "unanswered" }] };
  }
  if (typeof before === "string") {
    throw new Error(`Cannot simulate a cut after ${before}`);
  }
  const [on, at] = "send" in before
    ? [SENT[role], before.send]
    : [RECEIVED[role], Number(before.receive)];
  const pause = mended ? CUT : Infinity;
  return { faults: [{ on, what: "stall", at, for: pause }] };
}

/** A peer that plays its steps by hand. */
class SimPeer implements Peer {
  waiting = false;
  readonly #stage: SimStage;
  readonly #listener: SimListener | undefined;
  readonly #to: Address | undefined;
  #conn: SimConn | undefined;
  #cues = 0;
  #goOn: (() => void) | undefined;
  #sent = 0;
  #received = 0;
  #intact = true;
  #end: Report["end"] = null;
  #over = false;
  #failure: unknown;

  constructor(
    stage: SimStage,
    steps: readonly Step[],
    at: { listener?: SimListener; to?: Address },
  ) {
    this.#stage = stage;
    this.#listener = at.listener;
    this.#to = at.to;
    this.#play(steps).catch((error) => void (this.#failure = error))
      .finally(() => void (this.#over = true));
  }

  get address(): Address | null {
    return this.#listener ? this.#listener.addr as Address : null;
  }

  cue(): void {
    this.waiting = false;
    this.#cues++;
    this.#goOn?.();
  }

  async report(): Promise<Report> {
    await this.#stage.until(() => this.#over);
    if (this.#failure !== undefined) throw this.#failure;
    return {
      sent: this.#sent,
      received: this.#received,
      intact: this.#intact,
      end: this.#end,
    };
  }

  async #play(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      if (typeof step === "string") await this.#do(step);
      else if ("send" in step) await this.#send(step.send, step.piece);
      else await this.#receive(step.receive, step.piece);
    }
    // As when a process ends.
    this.#conn?.[Symbol.dispose]();
    this.#listener?.close();
  }

  async #do(step: Step & string): Promise<void> {
    switch (step) {
      case "accept":
        this.#conn = await this.#listener!.accept();
        break;
      case "connect":
        this.#conn = await this.#stage.net.connect(this.#to!);
        break;
      case "wait":
        this.waiting = this.#cues === 0;
        while (this.#cues === 0) {
          await new Promise<void>((resolve) => void (this.#goOn = resolve));
        }
        this.#cues--;
        break;
      case "fill":
        // It goes on when the cable is mended.
        await this.#send(200_000);
        break;
      case "finish":
        await this.#conn!.closeWrite();
        break;
      case "close":
        this.#conn!.close();
        break;
      case "reset":
        this.#conn!.reset();
        break;
      case "listen":
      case "cut":
      case "mend":
        // Seen to by the stage.
    }
  }

  async #send(length: number, piece = length): Promise<void> {
    for (let left = length; left > 0;) {
      const data = contents(this.#sent, Math.min(left, piece));
      const taken = await this.#conn!.write(data);
      this.#sent += taken;
      left -= taken;
    }
  }

  async #receive(length: number | "all", piece = 65_536): Promise<void> {
    const buffer = new Uint8Array(piece);
    for (let left = length === "all" ? Infinity : length; left > 0;) {
      let count: number | null;
      try {
        count = await this.#conn!.read(
          buffer.subarray(0, Math.min(left, piece)),
        );
      } catch (error) {
        if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
        this.#end = "reset";
        return;
      }
      if (count === null) {
        this.#end = "eof";
        return;
      }
      if (!fits(buffer.subarray(0, count), this.#received)) {
        this.#intact = false;
      }
      this.#received += count;
      left -= count;
    }
  }
}

class SimStage implements Stage {
  readonly net: SimNet;
  readonly map: ChannelMap;
  readonly #link: LinkOptions;
  #paths = 0;

  constructor(net: SimNet, link: LinkOptions) {
    this.net = net;
    this.map = net.map;
    this.#link = link;
  }

  listener(
    steps: readonly Step[],
    transport: "tcp" | "unix" = "tcp",
  ): Promise<Peer> {
    const listener = this.net.listen(this.here(transport));
    this.#set(listener.addr as Address, faults("listener", steps));
    return Promise.resolve(new SimPeer(this, steps, { listener }));
  }

  caller(to: Address, steps: readonly Step[]): Promise<Peer> {
    this.#set(to, faults("caller", steps));
    return Promise.resolve(new SimPeer(this, steps, { to }));
  }

  #set(to: Partial<Address>, link: LinkOptions): void {
    this.net.setLink(to, { ...this.#link, ...link });
  }

  here(transport: "tcp" | "unix"): Address {
    return transport === "unix"
      ? { transport, path: `/${++this.#paths}` }
      : { transport, hostname: "127.0.0.1", port: 0 };
  }

  nowhere(kind: Nowhere): Address {
    if (kind === "no socket") return this.here("unix");
    const hostname = "elsewhere.example";
    const what = NOWHERE[kind];
    this.#set({ hostname }, { faults: [{ on: "connect", what }] });
    return { transport: "tcp", hostname, port: 9 };
  }

  async until(done: () => boolean): Promise<void> {
    // By small steps, so that not much more happens than what is waited for.
    for (let i = 0; !done(); i++) {
      if (i === WHILE) throw new Error("What was waited for did not come");
      await this.advance(1);
    }
  }

  async quiet(): Promise<void> {
    await this.advance(WHILE);
  }

  async advance(ms: number): Promise<void> {
    await this.net.run({ until: this.net.now + ms });
  }

  async finish(): Promise<void> {
    // Not longer than it takes: what was left behind must not end by itself.
    for (let at = 0; this.map.size > 0 || lingering(this.map); at += WHILE) {
      if (at > AGES) throw new Error("It came to no end");
      await this.quiet();
    }
  }

  exhaust(): void {
    this.#set({}, { faults: [{ on: "accept", what: "EMFILE" }] });
  }

  relieve(): void {
    this.#set({}, {});
  }
}

/** Plays a row in a simulated network; `link` is what links do beside it. */
export async function playSimulated(
  row: Row,
  net: SimNet,
  link: LinkOptions,
): Promise<Seen> {
  const stage = new SimStage(net, link);
  const seen = await row.play(stage);
  await stage.quiet();
  const leaks = net.leaks();
  return leaks.length === 0 ? seen : { ...seen, leaks };
}
