/**
 * The system's network: sockets on `Deno.connect` and `Deno.listen`.
 *
 * @module
 */

import type { Clock } from "../clock.ts";
import { BufferPool } from "./buffer_pool.ts";
import { closeResource } from "./closing.ts";
import { AcceptSocket } from "./listener_socket.ts";
import type {
  ListenerSocket,
  Network,
  SocketAddress,
  SocketListener,
  StreamSocket,
} from "./socket.ts";
import { type Connect, ConnSocket, type Environment } from "./stream_socket.ts";

/** The two functions of Deno that everything stands on; tests put others in their place. */
export interface System {
  /** As `Deno.connect`. */
  readonly connect: Connect;
  /** As `Deno.listen`. */
  readonly listen: (
    options: SocketAddress & { tcpBacklog?: number },
  ) => Deno.Listener;
}

/** Connections that a dispatcher has taken, whichever network it belongs to. */
const adopted = new WeakSet<Deno.Conn>();

/** The {@linkcode Network} of the system. */
export class SystemNetwork implements Network {
  readonly #system: System;
  readonly #environment: Environment;

  /**
   * Makes a network with buffers of its own.
   *
   * @param clock Where the sockets get their time from.
   * @param system What opens connections and listeners.
   * @param pool Where the sockets' memory comes from.
   */
  constructor(
    clock: Clock,
    system: System = Deno as System,
    pool: BufferPool = new BufferPool(),
  ) {
    this.#system = system;
    this.#environment = {
      clock,
      pool,
      connect: (options) => system.connect(options),
    };
  }

  adopt(conn: Deno.Conn, listener: SocketListener): StreamSocket {
    if (
      typeof conn?.read !== "function" || typeof conn.write !== "function" ||
      typeof conn.closeWrite !== "function"
    ) {
      throw new TypeError(
        `Cannot adopt ${Deno.inspect(conn)}: it is not a connection`,
      );
    }
    if (adopted.has(conn)) {
      throw new TypeError(
        "Cannot adopt connection: another dispatcher has adopted it",
      );
    }
    const socket = this.makeSocket(listener, this.#environment);
    try {
      socket.attach(conn);
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
      throw new TypeError("Cannot adopt connection: it is closed", {
        cause: error,
      });
    }
    adopted.add(conn);
    return socket;
  }

  stream(listener: SocketListener): StreamSocket {
    return this.makeSocket(listener, this.#environment);
  }

  /** Makes the socket of a connection: a network with more than Deno's may make a socket that can do more. */
  protected makeSocket(
    listener: SocketListener,
    environment: Environment,
  ): ConnSocket {
    return new ConnSocket(listener, environment);
  }

  listener(
    addr: SocketAddress,
    backlog: number | undefined,
    listener: SocketListener,
  ): ListenerSocket {
    const source = this.#system.listen(
      backlog === undefined ? addr : { ...addr, tcpBacklog: backlog },
    );
    return new AcceptSocket(listener, this.#environment.clock, source);
  }

  discard(conn: Deno.Conn): void {
    if (!adopted.has(conn)) closeResource(conn);
  }
}
