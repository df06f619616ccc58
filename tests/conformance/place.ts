/**
 * Where a scenario takes place: the network that its channels and peers are on.
 *
 * @module
 */

import { ChannelMap } from "../../mod.ts";
import type { SimNet } from "../../testing.ts";
import { breakablePair, type Breaker } from "../net.ts";

/** The host that everything is on. */
export const HOST = "127.0.0.1";

/** Where something listens. */
export type Address = Deno.NetAddr | Deno.UnixAddr;

/** A network, and what a run needs beside it. */
export interface Place {
  /** Where Unix sockets go. */
  readonly folder: string;
  /** Where nobody listens. */
  readonly nobody: Deno.NetAddr;
  /** Makes a map whose channels are on this network. */
  createMap(): ChannelMap;
  /** Tells what the trace calls a channel. */
  name(channel: object, label: string): void;
  /** Connects, as `Deno.connect` does. */
  connect(address: Address): Promise<Deno.Conn>;
  /** Listens, as `Deno.listen` does; port 0 is any. */
  listen(address: Address): Deno.Listener;
  /** Makes a TCP connection whose far end can break it: Deno closes with an end of file first, whatever was not read. */
  breakablePair(): Promise<[near: Deno.Conn, far: Breaker]>;
  /** Waits until what was sent before has arrived. */
  arrival(): Promise<void>;
  /** Ends it. */
  close(): Promise<void>;
}

/** The system's own network. */
export class SystemPlace implements Place {
  readonly folder: string;
  /** The near end of a connection that stays open: its port is taken, so nobody else can listen there. */
  readonly nobody: Deno.NetAddr;
  readonly #near: Deno.Conn;
  readonly #far: Deno.Conn;

  private constructor(folder: string, near: Deno.TcpConn, far: Deno.Conn) {
    this.folder = folder;
    this.#near = near;
    this.#far = far;
    this.nobody = near.localAddr;
  }

  /** Opens it. */
  static async open(): Promise<SystemPlace> {
    using listener = Deno.listen({ hostname: HOST, port: 0 });
    const { port } = listener.addr;
    const near = await Deno.connect({ hostname: HOST, port });
    return new SystemPlace(
      await Deno.makeTempDir(),
      near,
      await listener.accept(),
    );
  }

  createMap(): ChannelMap {
    return new ChannelMap();
  }

  /** The system does not care. */
  name(): void {}

  connect(address: Address): Promise<Deno.Conn> {
    // The type of an address has transports that `Deno.connect()` does not take.
    return "path" in address
      ? Deno.connect({ transport: "unix", path: address.path })
      : Deno.connect({ ...address, transport: "tcp" });
  }

  listen(address: Address): Deno.Listener {
    return "path" in address
      ? Deno.listen({ transport: "unix", path: address.path })
      : Deno.listen({ ...address, transport: "tcp" });
  }

  breakablePair(): Promise<[Deno.Conn, Breaker]> {
    return breakablePair();
  }

  /** A byte goes through the kernel and back: what was sent before it has arrived after it. */
  async arrival(): Promise<void> {
    await this.#send(this.#near, this.#far);
    await this.#send(this.#far, this.#near);
  }

  /**
   * The read comes first and finds nothing, so that Deno has to ask the system for news, and hears of all there is. A read that
   * finds its byte at once, or a turn of the event loop by `setImmediate()`, gets no other socket's news in: Deno asks
   * for them when it is idle, else every 61st turn.
   */
  async #send(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const arrival = to.read(new Uint8Array(1));
    await from.write(new Uint8Array(1));
    await arrival;
  }

  async close(): Promise<void> {
    this.#near.close();
    this.#far.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A simulated network, on which everything arrives in no time. */
export class SimPlace implements Place {
  readonly folder = "";
  readonly nobody: Deno.NetAddr = { transport: "tcp", hostname: HOST, port: 9 };
  readonly #net: SimNet;

  /**
   * Takes place on a network.
   *
   * @param net The network, whose links have no latency. It is left open.
   */
  constructor(net: SimNet) {
    this.#net = net;
  }

  createMap(): ChannelMap {
    return this.#net.createMap();
  }

  name(channel: object, label: string): void {
    this.#net.name(channel, label);
  }

  connect(address: Address): Promise<Deno.Conn> {
    return this.#net.connect(address as Parameters<SimNet["connect"]>[0]);
  }

  listen(address: Address): Deno.Listener {
    return this.#net.listen(address as Parameters<SimNet["listen"]>[0]);
  }

  async breakablePair(): Promise<[Deno.Conn, Breaker]> {
    using listener = this.#net.listen({ hostname: HOST, port: 0 });
    const far = await this.#net.connect(listener.addr as Deno.NetAddr);
    const near = await listener.accept();
    return [near, {
      // Short: all of it is taken.
      write: async (data) => void await far.write(data),
      reset: () => Promise.resolve(far.reset()),
    }];
  }

  /** A timer's turn comes when nothing else can happen at the time. */
  async arrival(): Promise<void> {
    await this.#net.sleep(0);
  }

  /** What was closed comes to its end. */
  async close(): Promise<void> {
    await this.arrival();
  }
}
