/**
 * What stands in for `Deno.connect` and `Deno.listen` in a simulation: addresses, who listens where, and attempts to connect.
 *
 * @module
 */

import type { SocketAddress } from "../sockets/socket.ts";
import type { System } from "../sockets/system_network.ts";
import { Link, type LinkOptions } from "./link.ts";
import {
  type Addresses,
  ConnEnd,
  operate,
  type Simulation,
} from "./sim_conn.ts";
import { type DatagramRoute, Mailbox } from "./sim_datagram.ts";
import { Backlog } from "./sim_listener.ts";
import { systemError } from "./system_error.ts";

/** Which connections a link is for: all whose target has these. */
export interface LinkTarget {
  /** The host name or IP address, as connected to. */
  readonly hostname?: string;
  /** The port. */
  readonly port?: number;
  /** The path of a Unix socket. */
  readonly path?: string;
}

/** The first port that is given to who asks for none, as on Linux. */
const FIRST_PORT = 32_768;
const LAST_PORT = 65_535;
/** How many connections wait to be accepted, unless a listener says otherwise: Deno's default, and that of Rust for Unix sockets. */
const BACKLOG = 511;
const UNIX_BACKLOG = 1_024;
/** A connection that nobody answers is asked for again after 1 s, 2, 4 … and given up after this many milliseconds, as on Linux. */
const FIRST_RETRY = 1_000;
const GIVE_UP = 127_000;

/** As `Deno.connect` takes it. */
export type ConnectTarget =
  | (Deno.ConnectOptions & { signal?: AbortSignal })
  | Deno.UnixConnectOptions
  | (SocketAddress & { signal?: AbortSignal });

/** As `Deno.listen` takes it. */
export type ListenTarget =
  | Deno.ListenOptions & { transport?: "tcp" }
  | Deno.UnixListenOptions & { transport?: "unix" }
  | SocketAddress & { tcpBacklog?: number };

/** An address, complete. */
function complete(
  target: ConnectTarget | ListenTarget,
  anyHost: string,
): SocketAddress {
  if ("path" in target) return { transport: "unix", path: target.path };
  const { hostname = anyHost, port = 0 } = target;
  checkPort(port);
  return { transport: "tcp", hostname: bare(hostname), port };
}

function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port <= LAST_PORT) return;
  throw new RangeError(`Invalid port (out of range): ${port}`);
}

/** The address of this host, where one stands for all of them. */
function thisHost(hostname: string): string {
  if (hostname === "0.0.0.0") return "127.0.0.1";
  return hostname === "::" ? "::1" : hostname;
}

/** A host name as the system sees it. */
function bare(hostname: string): string {
  if (hostname === "localhost") return "127.0.0.1";
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

/** Whether what is for one host gets to a socket bound to another. */
function reaches(hostname: string, bound: string): boolean {
  return hostname === bound || bound === "::" ||
    bound === "0.0.0.0" && !hostname.includes(":");
}

/** Whether what is for an address gets to a socket bound to another. */
function meets(addr: Deno.Addr, bound: Deno.Addr): boolean {
  if ("path" in addr) return "path" in bound && addr.path === bound.path;
  const [to, at] = [addr as Deno.NetAddr, bound as Deno.NetAddr];
  return to.port === at.port && reaches(to.hostname, at.hostname);
}

/** See the module's documentation. */
export class SimSystem implements System {
  readonly #simulation: Simulation;
  readonly #listeners: { addr: SocketAddress; listener: Backlog }[] = [];
  readonly #datagrams: { addr: Deno.NetAddr; socket: Mailbox }[] = [];
  readonly #links: { target: LinkTarget; link: Link }[] = [];
  #nextPort = FIRST_PORT;

  /**
   * Makes a system on which nobody listens.
   *
   * @param simulation What it is part of.
   * @param link How connections behave, unless {@linkcode SimSystem.setLink} says otherwise.
   */
  constructor(simulation: Simulation, link: LinkOptions) {
    this.#simulation = simulation;
    this.#links.push({ target: {}, link: new Link(link) });
  }

  /** Sets how later connections behave. */
  setLink(target: LinkTarget, options: LinkOptions): void {
    const { hostname, ...rest } = target;
    this.#links.unshift({
      target: hostname === undefined
        ? rest
        : { hostname: thisHost(bare(hostname)), ...rest },
      link: new Link(options),
    });
  }

  #linkTo(addr: Deno.Addr): Link {
    const parts = addr as LinkTarget;
    return this.#links.find(({ target }) =>
      (target.hostname ?? parts.hostname) === parts.hostname &&
      (target.port ?? parts.port) === parts.port &&
      (target.path ?? parts.path) === parts.path
    )!.link;
  }

  /** A port that nobody listens on; after the last one the first comes again. */
  #anyPort(taken: readonly { addr: Deno.Addr }[] = []): number {
    const isTaken = (port: number) =>
      taken.some(({ addr }) => (addr as Deno.NetAddr).port === port);
    for (let n = FIRST_PORT; n <= LAST_PORT; n++) {
      const port = this.#nextPort++;
      if (this.#nextPort > LAST_PORT) this.#nextPort = FIRST_PORT;
      if (!isTaken(port)) return port;
    }
    throw systemError("noPorts");
  }

  readonly listen = (target: ListenTarget): Backlog => {
    const addr = complete(target, "0.0.0.0");
    this.#claim(addr, this.#listeners);
    const { tcpBacklog = BACKLOG } = target as { tcpBacklog?: number };
    const listener = new Backlog(
      this.#simulation,
      addr,
      "path" in addr ? UNIX_BACKLOG : tcpBacklog,
      () => this.#listeners.splice(this.#listeners.indexOf(entry), 1),
    );
    const entry = { addr, listener };
    this.#listeners.push(entry);
    return listener;
  };

  /** Chooses a port where none is asked for. Throws if somebody is where somebody else wants to be. */
  #claim(
    addr: SocketAddress | Deno.NetAddr,
    taken: readonly { addr: Deno.Addr }[],
  ): void {
    if ("port" in addr && addr.port === 0) {
      addr.port = this.#anyPort(taken);
      return;
    }
    const inUse = ({ addr: other }: { addr: Deno.Addr }) =>
      meets(addr, other) || meets(other, addr);
    if (taken.some(inUse)) throw systemError("inUse");
  }

  #listenerAt(addr: SocketAddress): Backlog | undefined {
    return this.#listeners.find(({ addr: bound }) => meets(addr, bound))
      ?.listener;
  }

  readonly connect = (target: ConnectTarget): Promise<ConnEnd> => {
    let addr: SocketAddress;
    try {
      addr = complete(target, "127.0.0.1");
    } catch (error) {
      return Promise.reject(error);
    }
    if ("port" in addr) addr.hostname = thisHost(addr.hostname);
    const link = () => this.#linkTo(addr);
    const { signal } = target as { signal?: AbortSignal };
    const attempt = new Attempt(this.#simulation, addr, link, {
      listener: () => this.#listenerAt(addr),
      port: () => this.#anyPort(),
    });
    if (signal === undefined || !("port" in addr)) {
      attempt.start();
      return attempt.promise;
    }
    const abort = () => attempt.abort(signal.reason);
    const forget = () => signal.removeEventListener("abort", abort);
    if (signal.aborted) abort();
    else {
      signal.addEventListener("abort", abort);
      attempt.promise.then(forget, forget);
      attempt.start();
    }
    return attempt.promise;
  };

  /**
   * As `Deno.listenDatagram`, for UDP.
   *
   * @param options Port 0 lets the system choose.
   * @returns The socket.
   */
  listenDatagram(
    options: { hostname?: string; port: number },
  ): Mailbox {
    const { hostname = "0.0.0.0", port } = options;
    checkPort(port);
    const addr: Deno.NetAddr = {
      transport: "udp",
      hostname: bare(hostname),
      port,
    };
    const sockets = this.#datagrams;
    this.#claim(addr, sockets);
    const from = { ...addr, hostname: thisHost(addr.hostname) };
    const route = (to: Deno.Addr): DatagramRoute => ({
      link: this.#linkTo(to),
      from: { ...from, port: addr.port },
      receivers: () =>
        sockets.filter(({ addr: bound }) => meets(to, bound))
          .map(({ socket }) => socket),
    });
    const socket = new Mailbox(this.#simulation, addr, route, () => {
      sockets.splice(sockets.findIndex((entry) => entry.socket === socket), 1);
    });
    sockets.push({ addr, socket });
    return socket;
  }
}

/** What an attempt to connect needs of the system. */
interface Surroundings {
  readonly listener: () => Backlog | undefined;
  readonly port: () => number;
}

/** One attempt to connect. */
class Attempt {
  readonly promise: Promise<ConnEnd>;
  readonly #simulation: Simulation;
  readonly #addr: SocketAddress;
  /** How connections there behave now. */
  readonly #linkNow: () => Link;
  /** How this one does. */
  readonly #link: Link;
  readonly #surroundings: Surroundings;
  #operation!: {
    resolve: (conn: ConnEnd) => void;
    reject: (error: unknown) => void;
  };
  #over = false;

  constructor(
    simulation: Simulation,
    addr: SocketAddress,
    link: () => Link,
    surroundings: Surroundings,
  ) {
    this.#simulation = simulation;
    this.#addr = addr;
    this.#linkNow = link;
    this.#link = link();
    this.#surroundings = surroundings;
    this.promise = operate(simulation, (operation) => {
      this.#operation = operation;
    });
  }

  /** Gives it up. */
  abort(reason: unknown): void {
    this.#fail(reason);
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#operation.reject(error);
  }

  #after(delay: number, run: () => void): void {
    const { clock } = this.#simulation;
    clock.schedule(clock.time + delay, () => {
      if (!this.#over) run();
    });
  }

  #travel(): number {
    return this.#simulation.random.draw(this.#link.latency);
  }

  start(): void {
    const { random } = this.#simulation;
    const fault = this.#link.strike("connect", random);
    const delay = random.draw(this.#link.connectLatency);
    if (fault === undefined) return this.#ask(delay, FIRST_RETRY);
    const error = systemError(fault);
    if (fault === "unanswered") {
      this.#after(GIVE_UP, () => this.#fail(error));
    } else if (fault === "refused") {
      this.#after(
        delay + this.#travel() + this.#travel(),
        () => this.#fail(error),
      );
    } else this.#after(delay, () => this.#fail(error));
  }

  /** Asks the other side; nobody is asked again who has answered. */
  #ask(delay: number, retry: number): void {
    this.#after(delay + this.#travel(), () => {
      const listener = this.#surroundings.listener();
      if (listener === undefined) {
        const what = "path" in this.#addr ? "noSuchPath" : "refused";
        this.#after(this.#travel(), () => this.#fail(systemError(what)));
      } else if (listener.hasRoom) this.#meet(listener);
      else if ("path" in this.#addr) this.#fail(systemError("wouldBlock"));
      else if (retry * 2 > GIVE_UP) {
        this.#after(retry, () => this.#fail(systemError("unanswered")));
      } else this.#ask(retry, retry * 2);
    });
  }

  #meet(listener: Backlog): void {
    const { client, server } = ConnEnd.connect(
      this.#simulation,
      this.#link,
      this.#addresses(listener.addr),
    );
    listener.arrive(server, this.#linkNow);
    const { clock } = this.#simulation;
    clock.schedule(clock.time + this.#travel(), () => {
      // Given up meanwhile: the kernel closes what nobody has.
      if (this.#over) return client[Symbol.dispose]();
      this.#over = true;
      this.#operation.resolve(client);
    });
  }

  #addresses(bound: Deno.Addr): { client: Addresses; server: Addresses } {
    const to = this.#addr;
    if ("path" in to) {
      // The side that connects has no path.
      const from: Deno.Addr = { ...to, path: null as unknown as string };
      return {
        client: { localAddr: from, remoteAddr: to },
        server: { localAddr: to, remoteAddr: from },
      };
    }
    const isV6 = to.hostname.includes(":");
    const from: Deno.NetAddr = {
      transport: "tcp",
      hostname: isV6 ? "::1" : "127.0.0.1",
      port: this.#surroundings.port(),
    };
    // A listener for both families sees addresses of the later one.
    const mapped = !isV6 && (bound as Deno.NetAddr).hostname === "::";
    const seen = (addr: Deno.NetAddr): Deno.NetAddr =>
      mapped ? { ...addr, hostname: `::ffff:${addr.hostname}` } : addr;
    return {
      client: { localAddr: from, remoteAddr: to },
      server: { localAddr: seen(to), remoteAddr: seen(from) },
    };
  }
}
