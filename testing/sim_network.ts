/**
 * The network of a simulation: the sockets of the system, on a simulated system.
 *
 * @module
 */

import { BufferPool } from "../sockets/buffer_pool.ts";
import type { SocketListener, StreamSocket } from "../sockets/socket.ts";
import { ConnSocket, type Environment } from "../sockets/stream_socket.ts";
import { SystemNetwork } from "../sockets/system_network.ts";
import { ConnEnd, type Simulation } from "./sim_conn.ts";
import type { SimSystem } from "./sim_system.ts";

/** A pool that knows what it has handed out. */
export class CountingPool extends BufferPool {
  /** How many buffers are out. */
  out = 0;

  override acquire(length: number): Uint8Array<ArrayBuffer> {
    this.out++;
    return super.acquire(length);
  }

  override release(buffer: Uint8Array<ArrayBuffer>): void {
    this.out--;
    super.release(buffer);
  }

  override forget(buffer: Uint8Array<ArrayBuffer>): void {
    this.out--;
    super.forget(buffer);
  }
}

/** A socket that is told of urgent data, which those of Deno are not. */
class SimSocket extends ConnSocket {
  readonly #listener: SocketListener;
  #conn: ConnEnd | null = null;

  constructor(listener: SocketListener, environment: Environment) {
    super(listener, environment);
    this.#listener = listener;
  }

  override attach(conn: ConnEnd): void {
    super.attach(conn);
    this.#conn = conn;
    conn.onUrgent = () => this.#listener.exceptReady();
  }

  override close(lingerTimeout?: number): void {
    if (this.#conn !== null) this.#conn.onUrgent = null;
    super.close(lingerTimeout);
  }
}

/** See the module's documentation. */
export class SimNetwork extends SystemNetwork {
  readonly #simulation: Simulation;

  /**
   * Makes a network.
   *
   * @param simulation What it is part of.
   * @param system Where connections and listeners come from.
   * @param pool Where the sockets' memory comes from.
   */
  constructor(simulation: Simulation, system: SimSystem, pool: BufferPool) {
    super(simulation.clock, system, pool);
    this.#simulation = simulation;
  }

  override adopt(conn: Deno.Conn, listener: SocketListener): StreamSocket {
    if (conn instanceof ConnEnd && conn.isOf(this.#simulation)) {
      return super.adopt(conn, listener);
    }
    throw new TypeError(
      `Cannot adopt ${
        Deno.inspect(conn)
      }: it is not a connection of this simulation`,
    );
  }

  protected override makeSocket(
    listener: SocketListener,
    environment: Environment,
  ): ConnSocket {
    return new SimSocket(listener, environment);
  }
}
