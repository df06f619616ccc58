/**
 * What a command is, and what it can see.
 *
 * @module
 */

import type { PubSub, Subscriber } from "./pub_sub.ts";
import { type Reply, ReplyError, toText } from "./resp.ts";
import type { Store } from "./store.ts";

/** What a command gets: the arguments, its own name first. */
export type Arguments = readonly Uint8Array[];

/** What clients share. */
export interface Database {
  readonly store: Store;
  readonly pubSub: PubSub;
  readonly clients: Set<Client>;
  readonly limits: Limits;
  /** How many milliseconds the server has been up. */
  readonly uptime: number;
  /** How many clients have connected. */
  readonly connections: number;
  /** How many commands have run. */
  commands: number;
}

/** What clients cannot exceed, in bytes. */
export interface Limits {
  /** The longest string that a client can send: Redis's `proto-max-bulk-len`. */
  readonly maxBulkLength: number;
  /** The longest command: Redis's `client-query-buffer-limit`. */
  readonly maxCommandLength: number;
  /** How much may wait for a client that does not read its replies, before nothing more is read from it. */
  readonly maxQueuedReplies: number;
  /** How much may wait for a subscriber that does not read, before it is disconnected. */
  readonly maxQueuedMessages: number;
}

/** The client that a command comes from. */
export interface Client extends Subscriber {
  readonly database: Database;
  readonly id: number;
  name: string;
  /** The channels it has subscribed to. */
  readonly channels: Set<string>;
  /** The patterns it has subscribed to. */
  readonly patterns: Set<string>;
  /** Sends a reply. */
  reply(reply: Reply): void;
  /** Ends the connection, after everything that was replied. */
  quit(): void;
  /** Ends the connection at once. */
  abort(): void;
}

/** A command. */
export interface Command {
  /** How many arguments it takes, its name included; at least so many if that is negative. */
  readonly arity: number;
  /** Where its keys are: the first, the last (-1: the last argument), and the step. */
  readonly keys?: readonly [first: number, last: number, step: number];
  /** Whether it can be used by a client that has subscribed to something. */
  readonly subscriber?: boolean;
  /** Runs it; without a reply where it has replied by itself. */
  run(args: Arguments, client: Client): Reply | void;
}

/** Commands by name. */
export type Commands = Readonly<Record<string, Command>>;

/** A command that has commands of its own, such as CONFIG GET. */
export function group(name: string, commands: Commands): Command {
  const table = new Map(Object.entries(commands));
  return {
    arity: -2,
    run(args, client) {
      const text = toText(args[1]!.subarray(0, 128));
      const command = table.get(text.toLowerCase());
      if (command === undefined) {
        throw new ReplyError(
          `ERR unknown subcommand '${text}'. Try ${name.toUpperCase()} HELP.`,
        );
      }
      checkArity(command, `${name}|${text.toLowerCase()}`, args);
      return command.run(args, client);
    },
  };
}

/** Throws if there are too few arguments, or too many. */
export function checkArity(
  { arity }: Command,
  name: string,
  { length }: Arguments,
): void {
  if (arity < 0 ? length >= -arity : length === arity) return;
  throw wrongArguments(name);
}

export function wrongArguments(name: string): ReplyError {
  return new ReplyError(`ERR wrong number of arguments for '${name}' command`);
}
