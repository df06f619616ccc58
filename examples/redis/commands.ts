/**
 * All commands, and how one is run.
 *
 * @module
 */

import {
  type Arguments,
  checkArity,
  type Client,
  type Command,
} from "./command.ts";
import { KEY_COMMANDS } from "./key_commands.ts";
import { PUB_SUB_COMMANDS } from "./pub_sub_commands.ts";
import { type Reply, ReplyError, toText } from "./resp.ts";
import { serverCommands } from "./server_commands.ts";
import { STRING_COMMANDS } from "./string_commands.ts";

const COMMANDS: ReadonlyMap<string, Command> = new Map(Object.entries({
  ...serverCommands(() => COMMANDS),
  ...KEY_COMMANDS,
  ...STRING_COMMANDS,
  ...PUB_SUB_COMMANDS,
}));

/** So much of a command that nobody knows is repeated, and so much of its arguments. None has so long a name. */
const QUOTE = 128;

/**
 * Runs a command.
 *
 * @returns The reply, or nothing where the command has replied by itself.
 * @throws {ReplyError} If it cannot do what it was told.
 */
export function runCommand(args: Arguments, client: Client): Reply | void {
  const name = toText(args[0]!.subarray(0, QUOTE)).toLowerCase();
  const command = COMMANDS.get(name);
  if (command === undefined) throw unknownCommand(args);
  checkArity(command, name, args);
  if (client.channels.size + client.patterns.size > 0 && !command.subscriber) {
    throw new ReplyError(
      `ERR Can't execute '${name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context`,
    );
  }
  client.database.commands++;
  return command.run(args, client);
}

function unknownCommand(args: Arguments): ReplyError {
  const quote = (arg: Uint8Array, room: number) =>
    `'${toText(arg.subarray(0, room))}'`;
  let rest = "";
  for (const arg of args.slice(1)) {
    if (rest.length >= QUOTE) break;
    rest += `${quote(arg, QUOTE - rest.length)} `;
  }
  return new ReplyError(
    `ERR unknown command ${
      quote(args[0]!, QUOTE)
    }, with args beginning with: ${rest}`,
  );
}
