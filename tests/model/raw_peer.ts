/**
 * Peers by hand: a plain connection and a list of steps, no library between.
 *
 * @module
 */

import type { SimConn } from "../../testing.ts";
import type { End } from "./books.ts";
import { bytesOf } from "./bytes.ts";
import type { Checker } from "./checker.ts";
import type { Step } from "./program.ts";

/** One end of a connection by hand. */
export class RawPeer {
  readonly conn: SimConn;
  readonly end: End;
  readonly #checker: Checker;
  readonly #sleep: (ms: number) => Promise<void>;
  #closed = false;

  constructor(
    checker: Checker,
    conn: SimConn,
    end: End,
    sleep: (ms: number) => Promise<void>,
  ) {
    this.#checker = checker;
    this.conn = conn;
    this.end = end;
    this.#sleep = sleep;
    end.connected = true;
    end.readsOn = false;
  }

  #note(what: string): void {
    this.#checker.note(() => `peer ${this.end.stream} ${what}`);
  }

  /** Does its steps, then reads to the end, and closes. */
  async play(steps: readonly Step[]): Promise<void> {
    try {
      for (const step of steps) {
        if (this.#closed) return;
        await this.#step(step);
      }
      this.end.readsOn = true;
      while (!this.#closed && await this.#read(512));
      this.close();
    } catch (error) {
      this.#note(`fails with ${error}`);
      this.#checker.deed();
      // After a close of its own, an operation under way ends like this.
      if (!this.#closed) this.#failed(error);
    }
  }

  async #step(step: Step): Promise<void> {
    const { end } = this;
    switch (step[0]) {
      case "write":
        for (let left = step[1]; left > 0 && !this.#closed;) {
          left -= await this.#write(left);
        }
        return;
      case "read": {
        const until = end.received + step[1];
        while (end.received < until && !this.#closed) {
          if (!await this.#read(until - end.received)) return;
        }
        return;
      }
      case "sleep":
        await this.#sleep(step[1]);
        return;
      case "closeWrite":
        if (end.shut) return;
        this.#note("half-closes");
        end.shut = true;
        await this.conn.closeWrite();
        return;
      case "close":
        return this.close();
      case "reset":
        return this.#leave(() => this.conn.reset(), "reset");
      case "hold":
        return new Promise(() => {});
      case "urgent":
        this.#checker.call(() => this.conn.sendUrgent());
    }
  }

  async #write(most: number): Promise<number> {
    const { end } = this;
    if (end.shut) return most;
    const data = bytesOf(end.stream, end.taken, most);
    end.attempted = Math.max(end.attempted, end.taken + most);
    const n = await this.#checker.call(() => this.conn.write(data));
    end.taken += n;
    if (end.over) return n;
    end.attempted = end.taken;
    this.#checker.deed();
    this.#note(`wrote ${n}`);
    return n;
  }

  /** Reads. Returns whether there may be more. */
  async #read(most: number): Promise<boolean> {
    const { end } = this;
    const buffer = new Uint8Array(Math.min(most, 512));
    const n = await this.#checker.call(() => this.conn.read(buffer));
    this.#checker.deed();
    this.#note(`read ${n}`);
    if (n === null) {
      end.sawEnd = true;
      this.#checker.life.endSeen(`peer ${end.stream}`, end);
      return false;
    }
    const wrong = end.takeIn(buffer.subarray(0, n), true, this.#checker.now);
    if (wrong !== null) {
      this.#checker.broke(9, `peer ${end.stream} read: ${wrong}`);
    }
    return true;
  }

  /** 9: a reset needs a cause; who closes lets what was sent arrive. */
  #failed(error: unknown): void {
    const { end } = this;
    const { peer, server } = end;
    end.broke = true;
    end.moved(this.#checker.now);
    this.close();
    if (!server.healthy || server.gaveUp || peer === null) return;
    if (!peer.mayEnd || (peer.shut && !peer.over && peer.due === null)) {
      this.#checker.broke(
        9,
        `peer ${end.stream}: ${error}, the other end is open`,
      );
    } else if (
      peer.library && peer.left === "close" && !peer.mayLose && !end.shut &&
      peer.taken > 0 && this.#checker.now - peer.overAt < 1_000
    ) {
      this.#checker.broke(
        9,
        `peer ${end.stream}: ${error}, soon after close()`,
      );
    }
  }

  close(): void {
    // The kernel resets a connection that is closed with unread input.
    this.#leave(() => this.conn.close(), this.end.sawEnd ? "close" : "reset");
  }

  #leave(run: () => void, how: "close" | "reset"): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#note(how);
    this.end.left = how;
    this.end.overAt = this.#checker.now;
    this.#checker.call(run);
    this.#checker.deed();
  }
}
