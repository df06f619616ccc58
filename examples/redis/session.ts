/**
 * One client of the Redis server: cuts what it sends into commands, runs them,
 * and sees to it that it gets no more than it reads.
 *
 * A command is `*` and the number of its arguments, in a line, then for each
 * argument `$` and its length, in a line, and the argument with an end of line:
 * frames that end by a sequence of bytes and by a number of them, in turn. A
 * line without `*` is a command, too, as a person types it.
 *
 * @module
 */

import { AsyncChat, type DispatcherOptions } from "../../mod.ts";
import type { Client, Database } from "./command.ts";
import { runCommand } from "./commands.ts";
import { forgetSubscriber } from "./pub_sub_commands.ts";
import {
  bulkHead,
  encode,
  parseLength,
  type Reply,
  ReplyError,
  splitLine,
  toBytes,
  toText,
} from "./resp.ts";

/** What a line can have at most: Redis's PROTO_INLINE_MAX_SIZE. */
const MAX_LINE = 65_536;
/** How many arguments a command can have at most. */
const MAX_ARGUMENTS = 2_147_483_647;
/** What an argument takes beside its bytes, roughly. */
const ARGUMENT_COST = 128;
/** A longer string is sent as it is, without being copied behind its length. */
const LONG = 16_384;
/** How long a client that has to go may take to read what was replied, in milliseconds. */
const GRACE = 10_000;

const ASTERISK = 42;
const DOLLAR = 36;
const CR = 13;
const LF = "\n";
const CRLF = toBytes("\r\n");

/** One client. */
export class Session extends AsyncChat implements Client {
  readonly database: Database;
  readonly id: number;
  name = "";
  readonly channels = new Set<string>();
  readonly patterns = new Set<string>();

  /** The arguments so far. */
  #args: Uint8Array[] = [];
  /** How many are missing. */
  #missing = 0;
  /** The length of the one that comes next; -1 before it is known. */
  #bulkLength = -1;
  /** How much memory the command takes so far. */
  #size = 0;
  /** Whether nothing that comes matters any more. */
  #ended = false;
  /** Lets the next command run. */
  #resume: (() => void) | null = null;

  constructor(
    conn: Deno.Conn,
    database: Database,
    options: DispatcherOptions,
  ) {
    super(conn, {
      ...options,
      maxFrameLength: MAX_LINE,
      highWaterMark: database.limits.maxQueuedReplies,
    });
    this.database = database;
    this.id = database.connections;
    this.setTerminator(LF);
  }

  override foundTerminator(): void | Promise<void> {
    const frame = this.takeIncoming();
    if (this.#ended) return;
    try {
      if (this.#bulkLength >= 0) this.#takeBulk(frame);
      else if (this.#missing > 0) this.#takeBulkLength(frame);
      else if (frame[0] === ASTERISK) this.#takeCount(frame);
      else this.#takeLine(frame);
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      this.push(error.bytes);
      this.quit();
    }
    // Who does not read is not read from.
    if (this.queuedBytes > this.highWaterMark && !this.signal.aborted) {
      return this.#drained();
    }
  }

  override handleFrameTooLong(): void {
    if (this.#ended) return;
    const what = this.#missing > 0
      ? "bulk count string"
      : this.takeIncoming()[0] === ASTERISK
      ? "mbulk count string"
      : "inline request";
    this.push(new ReplyError(`ERR Protocol error: too big ${what}`).bytes);
    this.quit();
  }

  #takeLine(frame: Uint8Array): void {
    const args = splitLine(toText(frame));
    if (args === null) throw protocolError("unbalanced quotes in request");
    if (args.length > 0) this.#run(args.map(toBytes));
  }

  #takeCount(frame: Uint8Array): void {
    const count = lengthIn(frame);
    if (!(count <= MAX_ARGUMENTS)) {
      throw protocolError("invalid multibulk length");
    }
    this.#missing = Math.max(count, 0);
  }

  #takeBulkLength(frame: Uint8Array): void {
    if (frame[0] !== DOLLAR) {
      const got = toText(frame.subarray(0, 1));
      throw protocolError(`expected '$', got '${got}'`);
    }
    const length = lengthIn(frame);
    if (!(length >= 0 && length <= this.database.limits.maxBulkLength)) {
      throw protocolError("invalid bulk length");
    }
    this.#size += length + ARGUMENT_COST;
    if (this.#size > this.database.limits.maxCommandLength) {
      return this.disconnect({ kind: "limit" });
    }
    this.#bulkLength = length;
    this.setTerminator(length + CRLF.length);
  }

  #takeBulk(frame: Uint8Array): void {
    this.#args.push(frame.subarray(0, this.#bulkLength));
    this.#bulkLength = -1;
    this.setTerminator(LF);
    if (--this.#missing > 0) return;
    const args = this.#args;
    this.#args = [];
    this.#size = 0;
    this.#run(args);
  }

  #run(args: readonly Uint8Array[]): void {
    try {
      const reply = runCommand(args, this);
      if (reply !== undefined) this.reply(reply);
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      this.push(error.bytes);
    }
  }

  reply(reply: Reply): void {
    if (reply instanceof Uint8Array && reply.length > LONG) {
      this.push(bulkHead(reply.length));
      this.push(reply);
      this.push(CRLF);
    } else this.push(encode(reply));
  }

  /** A subscriber that does not read is let go: others wait for no one. */
  deliver(message: Uint8Array): void {
    if (this.#ended) return;
    const { maxQueuedMessages } = this.database.limits;
    if (this.queuedBytes + message.length > maxQueuedMessages) {
      this.disconnect({ kind: "limit" });
    } else this.push(message);
  }

  quit(): void {
    this.#end();
    this.setTerminator(null);
    this.closeWhenDone({ deadline: GRACE });
  }

  override abort(): void {
    super.abort();
    this.#leave();
  }

  /** What comes after the end is not kept. */
  override collectIncomingData(data: Uint8Array): void {
    if (!this.#ended) super.collectIncomingData(data);
  }

  #end(): void {
    this.#ended = true;
    forgetSubscriber(this);
  }

  /** Waits until there is room for replies again, or until nobody wants them any more. */
  #drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resume = resolve;
    this.signal.addEventListener("abort", this.#onAbort);
    return promise;
  }

  readonly #onAbort = () => this.#resume?.();

  override handleDrained(): void {
    this.#resume?.();
  }

  override handleClose(): void {
    this.close();
  }

  override close(): void {
    super.close();
    this.#leave();
  }

  #leave(): void {
    this.#end();
    this.database.clients.delete(this);
  }
}

function protocolError(what: string): ReplyError {
  return new ReplyError(`ERR Protocol error: ${what}`);
}

/** The number in a line such as `$5`, whose end of line is whole; NaN if there is none. */
function lengthIn(line: Uint8Array): number {
  const end = line.length - 1;
  return line[end] === CR ? parseLength(line.subarray(0, end), 1) : NaN;
}
