/**
 * An `AsyncChat` that notes what it is told, with a connection of which the test
 * is the peer, and a way to give it bytes in pieces of any size.
 *
 * @module
 */

import { AsyncChat, type AsyncChatOptions } from "../async_chat.ts";
import type { CloseReason } from "../errors.ts";
import {
  type LinkOptions,
  type SimConn,
  SimNet,
  type SimNetOptions,
} from "../testing.ts";
import { assertEquals } from "@std/assert";
import { bytes, text } from "./fakes.ts";
import { writeAll } from "./net.ts";

type Result = void | Promise<void>;

/**
 * Notes `frame hello`, `incomplete he`, `too long 9`, `drained`, `eof`,
 * `error text` and `close eof`; what it does beyond that, a test says.
 */
export class TracedChat extends AsyncChat {
  readonly trace: string[] = [];
  readonly logs: string[] = [];
  readonly reasons: CloseReason[] = [];

  onFrame: (frame: string) => Result = () => {};
  onTooLong: (length: number) => Result = (length) =>
    super.handleFrameTooLong(length);
  onIncomplete: (data: string) => Result = () => {};
  onDrained: () => Result = () => {};
  onConnect: () => Result = () => {};
  onClose: (reason: CloseReason) => Result = () => {};
  onError: (error: unknown) => Result = (error) => super.handleError(error);

  override foundTerminator(): Result {
    const frame = text(this.takeIncoming());
    this.trace.push(`frame ${frame}`);
    return this.onFrame(frame);
  }

  override handleFrameTooLong(length: number): Result {
    this.trace.push(`too long ${length}`);
    return this.onTooLong(length);
  }

  override handleIncompleteFrame(data: Uint8Array): Result {
    this.trace.push(`incomplete ${text(data)}`);
    return this.onIncomplete(text(data));
  }

  override handleDrained(): Result {
    this.trace.push("drained");
    return this.onDrained();
  }

  override handleConnect(): Result {
    this.trace.push("connect");
    return this.onConnect();
  }

  override handleClose(reason: CloseReason): Result {
    this.trace.push(`close ${reason.kind}`);
    this.reasons.push(reason);
    return this.onClose(reason);
  }

  override handleError(error: unknown): Result {
    this.trace.push(`error ${(error as Error).message}`);
    return this.onError(error);
  }

  override logInfo(message: string, type = "info"): void {
    this.logs.push(`${type}: ${message}`);
  }

  /** Takes what happened so far. */
  take(): string[] {
    return this.trace.splice(0);
  }
}

/** Text in pieces of a size, the last one shorter. */
export function inPieces(whole: string, size: number): string[] {
  const count = size === Infinity ? 1 : Math.ceil(whole.length / size);
  return Array.from(
    { length: count },
    (_, i) => size === Infinity ? whole : whole.slice(i * size, (i + 1) * size),
  );
}

/** How bytes are fed to what must not care: whole, byte by byte, and in sizes 2 to 9. */
export const SIZES: readonly number[] = [Infinity, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Handlers, or producers, that wait until the test lets them go on. */
export class Gate<T = void> {
  readonly #waiting: PromiseWithResolvers<T>[] = [];

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** What waits. */
  pass(): Promise<T> {
    const waiting = Promise.withResolvers<T>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  /** Lets all who wait go on. */
  open(value: T): void {
    for (const { resolve } of this.#waiting.splice(0)) resolve(value);
  }

  /** Fails all who wait. */
  fail(error: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

/** A network for one test, always the same. */
export function network(options: SimNetOptions = {}): SimNet {
  return new SimNet({ seed: 1, ...options });
}

/** A channel that is connected, and its peer. */
export interface Ends {
  readonly chat: TracedChat;
  readonly peer: SimConn;
}

/** Connects by hand, and gives one end to a channel. */
export async function connected(
  net: SimNet,
  options: AsyncChatOptions = {},
): Promise<Ends> {
  const addr = { hostname: "10.0.0.1", port: 7 };
  using listener = net.listen(addr);
  const [conn, peer] = await Promise.all([
    listener.accept(),
    net.connect(addr),
  ]);
  const chat = new TracedChat(conn, { map: net.map, ...options });
  net.name(chat, "chat");
  return { chat, peer };
}

/** Reads until the peer's end of file, or a reset. */
export async function readAll(conn: Deno.Conn): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const n = await conn.read(buffer).catch(() => null);
    if (n === null) break;
    pieces.push(buffer.slice(0, n));
  }
  return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
}

/** What became of a conversation. */
export interface Conversation {
  readonly chat: TracedChat;
  /** What the channel noted. */
  readonly trace: string[];
  /** What the peer got, as text. */
  readonly answer: string;
}

/** Turns that no test here needs: a conversation that takes more does not end. */
const MAX_TURNS = 20_000;

/**
 * Has a peer send text, half-close, and read up to the end. Everything is over
 * afterwards, and nothing is left behind.
 *
 * @param whole What the peer sends.
 * @param prepare Tells the channel what to do.
 * @param options Of the channel, and of the line.
 */
export async function converse(
  whole: string,
  prepare: (chat: TracedChat, net: SimNet) => void,
  options: AsyncChatOptions & { readonly link?: LinkOptions } = {},
): Promise<Conversation> {
  const { link = {}, ...chatOptions } = options;
  await using net = network({ link });
  const { chat, peer } = await connected(net, chatOptions);
  prepare(chat, net);
  const answer = (async () => {
    await writeAll(peer, bytes(whole));
    await peer.closeWrite();
    return text(await readAll(peer));
  })().catch((error) => `the peer: ${error}`).finally(() => close(peer));
  await net.run({ maxTurns: MAX_TURNS });
  assertEquals(net.leaks(), [], `left behind after ${chat.trace}`);
  return { chat, trace: chat.trace, answer: await answer };
}

/** Closes, unless the end of the test did already. */
export function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}
