/**
 * A {@linkcode Stage} of real sockets, whose peers are Python programs: they
 * can do to a connection what Deno cannot.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { ChannelMap, Dispatcher, loop } from "../../mod.ts";
import {
  listenTcp,
  run,
  StoppedClock,
  tempDir,
  turns,
  until,
  within,
} from "../net.ts";
import { Subprocess } from "../subprocess.ts";
import type { Address, Nowhere, Peer, Report, Stage, Step } from "./stage.ts";
import type { Row, Seen } from "./story.ts";

/**
 * The program itself: `python3` may be a script that looks for it, for longer
 * than Python takes to start.
 */
let python: string | undefined;

function findPython(): string {
  const { stdout } = new Deno.Command("python3", {
    args: ["-c", "import sys; print(sys.executable)"],
  }).outputSync();
  return new TextDecoder().decode(stdout).trim();
}

const PEER = fileURLToPath(new URL("peer.py", import.meta.url));

/**
 * So many turns of the event loop in which nothing happens are a standstill. A
 * busy loop does not look at its sockets in every turn: of 50 in none [M].
 */
const STILL = 1_000;

/** A Python program that plays its steps. */
class PythonPeer implements Peer {
  address: Address | null = null;
  waiting = false;
  readonly process: Subprocess;
  #report: Promise<Report> | undefined;

  constructor(job: object, cable: boolean) {
    python ??= findPython();
    const peer = [python, "-IS", PEER, JSON.stringify({ ...job, cable })];
    const [program, ...args] = cable ? ["unshare", "--net", ...peer] : peer;
    this.process = new Subprocess(program!, args);
  }

  async ready(): Promise<this> {
    this.address = JSON.parse(await within(this.process.line()));
    this.#report = this.#follow();
    // Whoever asks for it is told.
    this.#report.catch(() => {});
    return this;
  }

  async #follow(): Promise<Report> {
    for (;;) {
      const said = JSON.parse(await this.process.line());
      if (said !== "waiting") return said;
      this.waiting = true;
    }
  }

  cue(): void {
    this.waiting = false;
    this.process.kill("SIGUSR1");
  }

  async report(): Promise<Report> {
    const report = await within(this.#report!);
    await within(this.process.end());
    return report;
  }
}

class RealStage implements Stage, AsyncDisposable {
  readonly map: ChannelMap;
  readonly #clock: StoppedClock | undefined;
  readonly #cable: boolean;
  readonly #dir = tempDir();
  readonly #peers: PythonPeer[] = [];
  readonly #files: Deno.FsFile[] = [];
  #paths = 0;

  constructor({ needs, timed }: Row) {
    this.#clock = timed ? new StoppedClock() : undefined;
    this.map = new ChannelMap(this.#clock ? { clock: this.#clock } : {});
    this.#cable = needs === "cable";
  }

  async listener(
    steps: readonly Step[],
    transport: "tcp" | "unix" = "tcp",
  ): Promise<Peer> {
    return await this.#peer({
      steps,
      ...transport === "unix" && { path: this.#path() },
    });
  }

  async caller(to: Address, steps: readonly Step[]): Promise<Peer> {
    return await this.#peer({ steps, to });
  }

  #peer(job: object): Promise<Peer> {
    const peer = new PythonPeer(job, this.#cable);
    this.#peers.push(peer);
    return peer.ready();
  }

  #path(): string {
    return `${this.#dir.path}/${++this.#paths}`;
  }

  here(transport: "tcp" | "unix"): Address {
    if (transport === "unix") return { transport, path: this.#path() };
    // The peer lays the cable, so its address is not there yet.
    const hostname = this.#cable ? "0.0.0.0" : "127.0.0.1";
    return { transport, hostname, port: 0 };
  }

  nowhere(kind: Nowhere): Address {
    switch (kind) {
      case "no listener": {
        using listener = listenTcp();
        return listener.addr as Deno.NetAddr;
      }
      case "no name":
        // No host can have it, so no name server is asked.
        return { transport: "tcp", hostname: "-", port: 9 };
      case "no socket":
        return { transport: "unix", path: this.#path() };
      // For documentation only (RFC 5737), and in a network namespace.
      case "no route":
        return { transport: "tcp", hostname: "203.0.113.1", port: 9 };
      case "no answer":
        // After one more attempt, not after six: 3 s, not 127.
        Deno.writeTextFileSync("/proc/sys/net/ipv4/tcp_syn_retries", "1");
        // Loopback drops without a word what is not for this host.
        ip("link set lo up");
        ip("route add 203.0.113.2 dev lo");
        return { transport: "tcp", hostname: "203.0.113.2", port: 9 };
    }
  }

  async until(done: () => boolean): Promise<void> {
    await this.#served(() => until(done));
  }

  async quiet(): Promise<void> {
    await this.#served(async () => {
      let last = "";
      let still = 0;
      await until(() => {
        const now = JSON.stringify(this.map.counters);
        still = now === last ? still + 1 : 0;
        last = now;
        return still === STILL;
      });
    });
  }

  /**
   * A pass waits for as long as it takes, so that nothing makes up for a wake-up
   * that is missing.
   */
  async #served(done: () => Promise<void>): Promise<void> {
    const controller = new AbortController();
    const { signal } = controller;
    const served = loop({ map: this.map, timeout: Infinity, signal });
    try {
      await Promise.race([done(), failed(served)]);
    } finally {
      controller.abort();
      await within(served);
    }
  }

  async finish(): Promise<void> {
    await run(this.map);
  }

  async advance(ms: number): Promise<void> {
    await this.#clock!.advance(ms);
    await this.quiet();
  }

  exhaust(): void {
    for (;;) {
      try {
        this.#files.push(Deno.openSync("/dev/null"));
      } catch (error) {
        if ((error as { code?: string }).code === "EMFILE") return;
        throw error;
      }
    }
  }

  relieve(): void {
    for (const file of this.#files.splice(0)) file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.relieve();
    for (const channel of this.map) {
      if (channel instanceof Dispatcher) channel.abort();
    }
    for (const peer of this.#peers) await peer.process[Symbol.asyncDispose]();
    // Sockets that still linger after a failure.
    await this.#clock?.advance(1e9);
    await turns();
    this.#dir[Symbol.dispose]();
  }
}

/** Changes the network of this process's namespace. */
function ip(command: string): void {
  const { success, stderr } = new Deno.Command("ip", {
    args: command.split(" "),
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/** Rejects as `promise` does, and never resolves. */
function failed(promise: Promise<void>): Promise<never> {
  return new Promise((_, reject) => promise.catch(reject));
}

/** Plays a row on real sockets. */
export async function playForReal(row: Row): Promise<Seen> {
  await using stage = new RealStage(row);
  const seen = await row.play(stage);
  return stage.map.size === 0 ? seen : { ...seen, left: stage.map.size };
}
