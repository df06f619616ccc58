/**
 * Commands for strings.
 *
 * @module
 */

import {
  type Arguments,
  type Client,
  type Commands,
  wrongArguments,
} from "./command.ts";
import { lifetimeOf } from "./key_commands.ts";
import {
  inRange,
  integerOf,
  NOT_AN_INTEGER,
  OK,
  parseInteger,
  type Reply,
  ReplyError,
  SYNTAX_ERROR,
  toBytes,
  toText,
} from "./resp.ts";

const NO_BYTES = new Uint8Array(0);

/** What SET was told behind the value. */
interface SetOptions {
  nx?: boolean;
  xx?: boolean;
  get?: boolean;
  keepTtl?: boolean;
  /** The option that says when the key expires, and its argument. */
  lifetime?: { readonly option: string; readonly arg: Uint8Array };
}

function setOptions(args: Arguments): SetOptions {
  const options: SetOptions = {};
  for (let i = 3; i < args.length; i++) {
    const option = toText(args[i]!).toLowerCase();
    const next = args[i + 1];
    const { lifetime } = options;
    if (option === "nx" && !options.xx) options.nx = true;
    else if (option === "xx" && !options.nx) options.xx = true;
    else if (option === "get") options.get = true;
    else if (option === "keepttl" && lifetime === undefined) {
      options.keepTtl = true;
    } else if (
      ["ex", "px", "exat", "pxat"].includes(option) && next !== undefined &&
      !options.keepTtl && (lifetime === undefined || lifetime.option === option)
    ) {
      options.lifetime = { option, arg: next };
      i++;
    } else throw new ReplyError(SYNTAX_ERROR);
  }
  return options;
}

function set(args: Arguments, { database: { store } }: Client): Reply {
  const key = toText(args[1]!);
  const value = args[2]!;
  if (args.length === 3) {
    store.set(key, value);
    store.setTimeToLive(key, Infinity);
    return OK;
  }
  const { nx, xx, get, keepTtl, lifetime } = setOptions(args);
  const ms = lifetime === undefined ? Infinity : lifetimeOf(lifetime.arg, {
    unit: lifetime.option.startsWith("e") ? 1000 : 1,
    absolute: lifetime.option.endsWith("at"),
    command: "set",
    positive: true,
  });
  const old = store.get(key);
  if (nx && old !== null || xx && old === null) return get ? old : null;
  store.set(key, value);
  if (!keepTtl) store.setTimeToLive(key, ms);
  return get ? old : OK;
}

/** Adds to a number; what is no number yet is 0. */
function add(
  { database: { store } }: Client,
  arg: Uint8Array,
  amount: bigint,
): Reply {
  const key = toText(arg);
  const old = store.get(key);
  const number = old === null ? 0n : parseInteger(old);
  if (number === null) throw new ReplyError(NOT_AN_INTEGER);
  const sum = inRange(number + amount);
  if (sum === null) {
    throw new ReplyError("ERR increment or decrement would overflow");
  }
  store.set(key, toBytes(`${sum}`));
  return sum;
}

function mset(args: Arguments, { database: { store } }: Client): Reply {
  if (args.length % 2 === 0) throw wrongArguments("mset");
  for (let i = 1; i < args.length; i += 2) {
    const key = toText(args[i]!);
    store.set(key, args[i + 1]!);
    store.setTimeToLive(key, Infinity);
  }
  return OK;
}

function append(
  args: Arguments,
  { database: { store, limits: { maxBulkLength } } }: Client,
): Reply {
  const key = toText(args[1]!);
  const old = store.get(key) ?? NO_BYTES;
  const more = args[2]!;
  const length = old.length + more.length;
  if (length > maxBulkLength) {
    throw new ReplyError(
      "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    );
  }
  // Not in place: the old value may be on its way to a client.
  const value = new Uint8Array(length);
  value.set(old);
  value.set(more, old.length);
  store.set(key, value);
  return length;
}

const KEY = [1, 1, 1] as const;

export const STRING_COMMANDS: Commands = {
  set: { arity: -3, keys: KEY, run: set },
  get: {
    arity: 2,
    keys: KEY,
    run: (args, { database: { store } }) => store.get(toText(args[1]!)),
  },
  getdel: {
    arity: 2,
    keys: KEY,
    run(args, { database: { store } }) {
      const key = toText(args[1]!);
      const value = store.get(key);
      store.delete(key);
      return value;
    },
  },
  mget: {
    arity: -2,
    keys: [1, -1, 1],
    run: (args, { database: { store } }) =>
      args.slice(1).map((key) => store.get(toText(key))),
  },
  mset: { arity: -3, keys: [1, -1, 2], run: mset },
  append: { arity: 3, keys: KEY, run: append },
  strlen: {
    arity: 2,
    keys: KEY,
    run: (args, { database: { store } }) =>
      store.get(toText(args[1]!))?.length ?? 0,
  },
  incr: {
    arity: 2,
    keys: KEY,
    run: (args, client) => add(client, args[1]!, 1n),
  },
  decr: {
    arity: 2,
    keys: KEY,
    run: (args, client) => add(client, args[1]!, -1n),
  },
  incrby: {
    arity: 3,
    keys: KEY,
    run: (args, client) => add(client, args[1]!, integerOf(args[2]!)),
  },
  decrby: {
    arity: 3,
    keys: KEY,
    run(args, client) {
      const amount = integerOf(args[2]!);
      if (inRange(-amount) === null) {
        throw new ReplyError("ERR decrement would overflow");
      }
      return add(client, args[1]!, -amount);
    },
  },
};
