/**
 * The system's network and the simulated one behind one interface, so that a
 * test can play the same scene on both.
 *
 * @module
 */

import net from "node:net";
import { once } from "node:events";
import { systemClock } from "../../clock.ts";
import { type LinkOptions, SimNet } from "../../testing.ts";
import { tempDir, within } from "../net.ts";

/** Which sockets a scene is played on. */
export type Kind = "tcp" | "unix";

/** How to listen. */
export interface Listening {
  /** Where; a free address of the world's kind if left out. */
  readonly addr?: Deno.Addr;
  /** How many connections wait. */
  readonly tcpBacklog?: number;
}

/** The peer of a connection, which can break it. */
export interface Breaker {
  /** Sends. */
  write(data: Uint8Array): Promise<unknown>;
  /** Half-closes. */
  closeWrite(): Promise<unknown>;
  /** Closes with a RST in place of a FIN. */
  reset(): Promise<void>;
}

/** A network. What it opens is closed at the end. */
export interface World extends AsyncDisposable {
  readonly kind: Kind;
  listen(options?: Listening): Deno.Listener;
  connect(addr: Deno.Addr, signal?: AbortSignal): Promise<Deno.Conn>;
  /** Both ends of a connection. */
  pair(): Promise<[Deno.Conn, Deno.Conn]>;
  /** One end of a TCP connection, and a peer that can break it. */
  breakable(): Promise<[Deno.Conn, Breaker]>;
  /** A connection that waits to be accepted, of which the other end can be broken. */
  knock(addr: Deno.Addr): Promise<Breaker>;
  /** Waits until everything that is under way has arrived and been told. */
  settled(): Promise<void>;
}

/** What both worlds do alike. */
abstract class Base implements World {
  readonly kind: Kind;
  readonly #opened: Disposable[] = [];

  constructor(kind: Kind) {
    this.kind = kind;
  }

  /** Has something closed at the end. */
  protected own<T extends Disposable>(resource: T): T {
    this.#opened.push(resource);
    return resource;
  }

  async pair(): Promise<[Deno.Conn, Deno.Conn]> {
    using listener = this.listen();
    const accepted = listener.accept();
    const conn = await this.connect(listener.addr);
    return [conn, this.own(await accepted)];
  }

  async breakable(): Promise<[Deno.Conn, Breaker]> {
    using listener = this.listen();
    const accepted = listener.accept();
    const breaker = await this.knock(listener.addr);
    return [this.own(await accepted), breaker];
  }

  abstract listen(options?: Listening): Deno.Listener;
  abstract connect(addr: Deno.Addr, signal?: AbortSignal): Promise<Deno.Conn>;
  abstract knock(addr: Deno.Addr): Promise<Breaker>;
  abstract settled(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#opened) resource[Symbol.dispose]();
    return this.settled();
  }
}

/** The system's own sockets on the loopback, where what is sent has arrived. */
export class SystemWorld extends Base {
  #dir: ReturnType<typeof tempDir> | undefined;
  #paths = 0;

  listen({ addr, tcpBacklog }: Listening = {}): Deno.Listener {
    const backlog = tcpBacklog === undefined ? {} : { tcpBacklog };
    const where = addr ?? this.#anyAddr();
    const listener = Deno.listen(
      { ...where, ...backlog } as Deno.ListenOptions & { transport?: "tcp" },
    );
    return this.own(listener);
  }

  #anyAddr(): Deno.Addr {
    if (this.kind === "tcp") {
      return { transport: "tcp", hostname: "127.0.0.1", port: 0 };
    }
    this.#dir ??= this.own(tempDir());
    return { transport: "unix", path: `${this.#dir.path}/${this.#paths++}` };
  }

  async connect(addr: Deno.Addr, signal?: AbortSignal): Promise<Deno.Conn> {
    const options = signal === undefined ? addr : { ...addr, signal };
    return this.own(await Deno.connect(options as Deno.ConnectOptions));
  }

  async knock(addr: Deno.Addr): Promise<Breaker> {
    const { hostname, port } = addr as Deno.NetAddr;
    const socket = net.connect({ host: hostname, port, allowHalfOpen: true });
    // Read by nobody, closed by `reset()` only.
    socket.pause();
    await once(socket, "connect");
    return {
      write: (data) => new Promise((resolve) => socket.write(data, resolve)),
      closeWrite: () =>
        new Promise<void>((resolve) => void socket.end(resolve)),
      reset: async () => {
        const closed = once(socket, "close");
        socket.resetAndDestroy();
        await closed;
      },
    };
  }

  async settled(): Promise<void> {
    // The first turn with I/O starts what the second one ends.
    for (let turn = 0; turn < 2; turn++) {
      await new Promise<void>((resolve) => systemClock.defer(resolve));
    }
  }
}

/** A simulation. */
export class SimulatedWorld extends Base {
  readonly #net: SimNet;
  #paths = 0;

  constructor(kind: Kind, seed: number, link: LinkOptions) {
    super(kind);
    this.#net = new SimNet({ seed, link });
  }

  listen({ addr, tcpBacklog }: Listening = {}): Deno.Listener {
    const backlog = tcpBacklog === undefined ? {} : { tcpBacklog };
    const where = addr ?? this.#anyAddr();
    const listener = this.#net.listen({ ...where, ...backlog } as Deno.NetAddr);
    return this.own(listener);
  }

  #anyAddr(): Deno.Addr {
    return this.kind === "tcp"
      ? { transport: "tcp", hostname: "127.0.0.1", port: 0 }
      : { transport: "unix", path: `/sockets/${this.#paths++}` };
  }

  async connect(addr: Deno.Addr, signal?: AbortSignal): Promise<Deno.Conn> {
    const options = signal === undefined ? addr : { ...addr, signal };
    return this.own(await this.#net.connect(options as Deno.NetAddr));
  }

  async knock(addr: Deno.Addr): Promise<Breaker> {
    const conn = this.own(await this.#net.connect(addr as Deno.NetAddr));
    return {
      write: (data) => conn.write(data),
      closeWrite: () => conn.closeWrite(),
      reset: () => Promise.resolve(conn.reset()),
    };
  }

  settled(): Promise<void> {
    return this.#net.sleep(1_000);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.#net[Symbol.asyncDispose]();
  }
}

/** What became of an operation: its result, or the class, code and text of the error. */
export function outcome(operation: PromiseLike<unknown>): Promise<string> {
  return within(
    Promise.resolve(operation).then(
      (result) => result === undefined ? "done" : String(result),
      failure,
    ),
  );
}

/** What a call came to. */
export function called(run: () => unknown): string {
  try {
    run();
    return "done";
  } catch (error) {
    return failure(error);
  }
}

function failure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  const named = typeof code === "string" ? ` ${code}` : "";
  // A class of Deno's may have another name than its errors.
  return `${error.constructor.name}${named}: ${error.message}`;
}

/** An operation whose progress can be looked at. */
export interface Watched {
  /** Its outcome, or `pending`. */
  readonly now: string;
  /** Its outcome. */
  readonly end: Promise<string>;
}

export function watch(operation: PromiseLike<unknown>): Watched {
  const end = outcome(operation);
  let now = "pending";
  // If it does not come in time, whoever waits for the end is told.
  end.then((result) => now = result, () => {});
  return {
    get now() {
      return now;
    },
    end,
  };
}
