/**
 * A dispatcher that notes in its world's trace what it is asked and told.
 *
 * @module
 */

import { Dispatcher, type DispatcherOptions } from "../../dispatcher.ts";
import type { CloseReason } from "../../errors.ts";
import {
  bytes,
  FakeConn,
  type FakeListener,
  text,
  type World,
} from "../fakes.ts";

type Hook<Args extends unknown[] = []> = (
  ...args: Args
) => void | Promise<void>;

/**
 * Notes `name read hello`, `name write`, `name close eof` and so on. It reads
 * everything and wants to write nothing, until a test says otherwise.
 */
export class Traced extends Dispatcher {
  readonly world: World;
  readonly name: string;
  wantsRead = true;
  wantsWrite = false;
  /** How often each predicate was asked. */
  asked = { readable: 0, writable: 0 };

  onRead: Hook = () => this.note(`read ${text(this.recv())}`);
  onWrite: Hook = () => this.note("write");
  onConnect: Hook = () => this.note("connect");
  onAccept: Hook = () => super.handleAccept();
  onAccepted: Hook<[Deno.Conn, Deno.Addr]> = (conn) => {
    this.note("accepted");
    conn.close();
  };
  onEof: Hook = () => {
    this.note("eof");
    return super.handleEof();
  };
  onClose: Hook<[CloseReason]> = ({ kind }) => this.note(`close ${kind}`);
  onError: Hook<[unknown]> = (error) => {
    this.note(`error ${(error as Error).message}`);
    return super.handleError(error);
  };

  constructor(
    world: World,
    name: string,
    conn: Deno.Conn | null = null,
    options: DispatcherOptions = {},
  ) {
    super(conn, { map: world.map, ...options });
    this.world = world;
    this.name = name;
  }

  note(what: string): void {
    this.world.trace.push(`${this.name} ${what}`);
  }

  override readable(): boolean {
    this.asked.readable++;
    return this.wantsRead;
  }

  override writable(): boolean {
    this.asked.writable++;
    return this.wantsWrite;
  }

  override handleRead(): void | Promise<void> {
    return this.onRead();
  }

  override handleWrite(): void | Promise<void> {
    return this.onWrite();
  }

  override handleConnect(): void | Promise<void> {
    return this.onConnect();
  }

  override handleAccept(): void | Promise<void> {
    return this.onAccept();
  }

  override handleAccepted(
    conn: Deno.Conn,
    addr: Deno.Addr,
  ): void | Promise<void> {
    return this.onAccepted(conn, addr);
  }

  override handleEof(): void | Promise<void> {
    return this.onEof();
  }

  override handleClose(reason: CloseReason): void | Promise<void> {
    return this.onClose(reason);
  }

  override handleError(error: unknown): void | Promise<void> {
    return this.onError(error);
  }

  override logInfo(message: string, type = "info"): void {
    this.world.logs.push(`${type}: ${message}`);
  }

  /** Sends text. */
  say(what: string): number {
    return this.send(bytes(what));
  }
}

/** A traced channel and its connection. */
export interface Pair<Channel extends Traced = Traced> {
  readonly channel: Channel;
  readonly conn: FakeConn;
}

/** A connected channel. */
export function connected(
  world: World,
  name: string,
  options?: DispatcherOptions,
): Pair {
  const conn = new FakeConn();
  return { channel: new Traced(world, name, conn, options), conn };
}

/** A listening channel. */
export function listening(
  world: World,
  name: string,
): { readonly channel: Traced; readonly listener: FakeListener } {
  const channel = new Traced(world, name);
  channel.createSocket();
  channel.bind({ hostname: "127.0.0.1", port: 0 });
  channel.listen();
  return { channel, listener: world.system.listeners.at(-1)! };
}

/** A channel that has asked for a connection. */
export function connecting(world: World, name: string): Traced {
  const channel = new Traced(world, name);
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  return channel;
}
