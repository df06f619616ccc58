/**
 * Simulated datagrams: each arrives whole, twice or not at all, in any order.
 *
 * @module
 */

import type { Link } from "./link.ts";
import type { SimDatagram } from "./peer.ts";
import { operate, type Simulation } from "./sim_conn.ts";
import { systemError } from "./system_error.ts";

/** The most bytes of one datagram: what IPv4 leaves of 65,535. */
const MAX_DATAGRAM = 65_507;

/** How many bytes wait to be received at most, as on Linux; what comes on top is dropped. */
const RECEIVE_BUFFER = 212_992;

/** How much later a datagram comes that is overtaken, in milliseconds, at most. */
const DETOUR = 10;

/** Where a datagram goes. */
export interface DatagramRoute {
  /** How it gets there. */
  readonly link: Link;
  /** Who sends it, as the receivers see it. */
  readonly from: Deno.Addr;
  /** Who gets it, when it arrives. */
  readonly receivers: () => Iterable<Mailbox>;
}

/** Behaves as a `Deno.DatagramConn` does on Linux. */
export class Mailbox implements SimDatagram {
  readonly addr: Deno.Addr;
  readonly #simulation: Simulation;
  readonly #route: (to: Deno.Addr) => DatagramRoute;
  readonly #onClose: () => void;
  readonly #arrived: [Uint8Array<ArrayBuffer>, Deno.Addr][] = [];
  #unread = 0;
  readonly #receives: {
    buffer: Uint8Array | undefined;
    resolve: (datagram: [Uint8Array, Deno.Addr]) => void;
    reject: (error: unknown) => void;
  }[] = [];
  #closed = false;

  /**
   * Makes a socket.
   *
   * @param simulation What it is part of.
   * @param addr Its address.
   * @param route Finds the way to an address.
   * @param onClose Called when it is closed.
   */
  constructor(
    simulation: Simulation,
    addr: Deno.Addr,
    route: (to: Deno.Addr) => DatagramRoute,
    onClose: () => void,
  ) {
    this.#simulation = simulation;
    this.addr = addr;
    this.#route = route;
    this.#onClose = onClose;
    simulation.open.add(this);
  }

  async receive(buffer?: Uint8Array): Promise<[Uint8Array, Deno.Addr]> {
    if (this.#closed) throw systemError("socketClosed");
    return await operate<[Uint8Array, Deno.Addr]>(
      this.#simulation,
      (operation) => {
        this.#receives.push({ ...operation, buffer });
        this.#simulation.clock.soon(this.#serve);
      },
    );
  }

  readonly #serve = (): void => {
    while (this.#receives.length > 0 && this.#arrived.length > 0) {
      const { buffer, resolve } = this.#receives.shift()!;
      const [data, from] = this.#arrived.shift()!;
      this.#unread -= data.length;
      const whole = buffer ?? new Uint8Array(MAX_DATAGRAM);
      const size = Math.min(data.length, whole.length);
      whole.set(data.subarray(0, size));
      resolve([whole.subarray(0, size), from]);
    }
  };

  send(data: Uint8Array, to: Deno.Addr): Promise<number> {
    if (this.#closed) return Promise.reject(systemError("socketClosed"));
    if (data.length > MAX_DATAGRAM) {
      return Promise.reject(systemError("tooLong"));
    }
    const { clock, random } = this.#simulation;
    const { link, from, receivers } = this.#route(to);
    const copy = data.slice();
    const arrive = () => {
      for (const receiver of receivers()) receiver.#arrive(copy, from);
    };
    const travel = () => {
      let at = clock.time + random.draw(link.latency);
      if (random.chance(link.reordering)) {
        at += random.draw([0, DETOUR]) + random.draw(link.latency);
      }
      clock.scheduleInOrder(at, arrive);
    };
    if (!random.chance(link.loss)) {
      travel();
      if (random.chance(link.duplication)) travel();
    }
    return Promise.resolve(data.length);
  }

  #arrive(data: Uint8Array<ArrayBuffer>, from: Deno.Addr): void {
    if (this.#closed || this.#unread + data.length > RECEIVE_BUFFER) return;
    this.#arrived.push([data, from]);
    this.#unread += data.length;
    this.#serve();
  }

  close(): void {
    if (this.#closed) throw systemError("badResource");
    this.#closed = true;
    this.#simulation.open.delete(this);
    this.#onClose();
    const { clock } = this.#simulation;
    const pending = this.#receives.splice(0);
    clock.schedule(clock.time, () => {
      for (const { reject } of pending) reject(systemError("interrupted"));
    });
    this.#arrived.length = 0;
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<[Uint8Array, Deno.Addr]> {
    while (!this.#closed) {
      try {
        yield await this.receive();
      } catch (error) {
        if (error instanceof Deno.errors.Interrupted) return;
        throw error;
      }
    }
  }
}
