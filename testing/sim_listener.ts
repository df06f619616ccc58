/**
 * A simulated listener, with its backlog.
 *
 * @module
 */

import type { Link } from "./link.ts";
import type { SimListener } from "./peer.ts";
import { type ConnEnd, operate, type Simulation } from "./sim_conn.ts";
import { systemError } from "./system_error.ts";

/** Behaves as a `Deno.Listener` does on Linux. */
export class Backlog implements SimListener {
  readonly addr: Deno.Addr;
  readonly #simulation: Simulation;
  readonly #backlog: number;
  readonly #onClose: () => void;
  readonly #waiting: { conn: ConnEnd; link: () => Link }[] = [];
  #accept: {
    resolve: (conn: ConnEnd) => void;
    reject: (error: unknown) => void;
  } | null = null;
  #closed = false;

  /**
   * Makes a listener.
   *
   * @param simulation What it is part of.
   * @param addr Its address.
   * @param backlog The most connections that wait to be accepted.
   * @param onClose Called when it is closed.
   */
  constructor(
    simulation: Simulation,
    addr: Deno.Addr,
    backlog: number,
    onClose: () => void,
  ) {
    this.#simulation = simulation;
    this.addr = addr;
    this.#backlog = backlog;
    this.#onClose = onClose;
    simulation.open.add(this);
  }

  get #unix(): boolean {
    return this.addr.transport === "unix";
  }

  /** Whether one more connection can wait; Linux lets one more wait than was asked for. */
  get hasRoom(): boolean {
    return this.#waiting.length <= this.#backlog;
  }

  /** A connection arrives; how accepting it goes, its link says then. */
  arrive(conn: ConnEnd, link: () => Link): void {
    this.#waiting.push({ conn, link });
    this.#serve();
  }

  async accept(): Promise<ConnEnd> {
    if (this.#closed) throw systemError("listenerClosed");
    if (this.#accept !== null) {
      throw systemError(this.#unix ? "busyUnix" : "busy");
    }
    return await operate<ConnEnd>(this.#simulation, (operation) => {
      this.#accept = operation;
      this.#simulation.clock.soon(this.#serve);
    });
  }

  readonly #serve = (): void => {
    const next = this.#waiting[0];
    if (this.#accept === null || next === undefined) return;
    const { conn, link } = next;
    const { resolve, reject } = this.#accept;
    this.#accept = null;
    const failure = link().strike("accept", this.#simulation.random);
    if (failure !== undefined && failure !== "ECONNABORTED") {
      // The connection waits on.
      return reject(systemError(failure));
    }
    this.#waiting.shift();
    // Of a TCP connection that is broken Deno cannot ask for the peer's address any more.
    const usable = this.#unix || !conn.broken;
    if (failure === undefined && usable) return resolve(conn);
    conn.reset();
    reject(systemError(failure ?? "notConnected"));
  };

  close(): void {
    if (this.#closed) throw systemError("badResource");
    this.#closed = true;
    this.#simulation.open.delete(this);
    this.#onClose();
    const accept = this.#accept;
    this.#accept = null;
    const { clock } = this.#simulation;
    clock.schedule(
      clock.time,
      () => accept?.reject(systemError("listenerClosed")),
    );
    for (const { conn } of this.#waiting.splice(0)) conn.reset();
  }

  /** A simulated listener never holds the process. */
  ref(): void {}

  /** A simulated listener never holds the process. */
  unref(): void {}

  [Symbol.dispose](): void {
    if (!this.#closed) this.close();
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<ConnEnd> {
    while (!this.#closed) {
      try {
        yield await this.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource) return;
        throw error;
      }
    }
  }
}
