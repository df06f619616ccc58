/**
 * Commands for keys of any kind: there is one kind here.
 *
 * @module
 */

import type { Arguments, Client, Commands } from "./command.ts";
import { matcher } from "./glob.ts";
import {
  integerOf,
  OK,
  type Reply,
  ReplyError,
  Status,
  SYNTAX_ERROR,
  toText,
} from "./resp.ts";
import type { Store } from "./store.ts";

const MAX_INTEGER = 2n ** 63n - 1n;

const NONE = new Status("none");
const STRING = new Status("string");

/** How many of the keys something is true for. */
function count(
  args: Arguments,
  { database: { store } }: Client,
  what: (store: Store, key: string) => boolean,
): number {
  let count = 0;
  for (let i = 1; i < args.length; i++) {
    if (what(store, toText(args[i]!))) count++;
  }
  return count;
}

/** An argument that says when a key expires, as milliseconds from now. */
export function lifetimeOf(
  arg: Uint8Array,
  { unit, absolute, command, positive }: {
    readonly unit: number;
    readonly absolute: boolean;
    readonly command: string;
    readonly positive: boolean;
  },
): number {
  const time = integerOf(arg) * BigInt(unit);
  const now = BigInt(Date.now());
  const latest = absolute ? MAX_INTEGER : MAX_INTEGER - now;
  if (time > latest || time < -MAX_INTEGER || positive && time <= 0n) {
    throw new ReplyError(`ERR invalid expire time in '${command}' command`);
  }
  return Number(absolute ? time - now : time);
}

/** Makes EXPIRE and its like. */
function expire(command: string, unit: number, absolute = false) {
  return (args: Arguments, { database: { store } }: Client): Reply => {
    const { nx, xx, gt, lt } = expireOptions(args.slice(3));
    const ms = lifetimeOf(args[2]!, {
      unit,
      absolute,
      command,
      positive: false,
    });
    const key = toText(args[1]!);
    if (!store.has(key)) return 0;
    const current = store.timeToLive(key);
    if (nx && current < Infinity || xx && current === Infinity) return 0;
    if (gt && ms <= current || lt && ms >= current) return 0;
    store.setTimeToLive(key, ms);
    return 1;
  };
}

function expireOptions(args: Arguments) {
  const options = { nx: false, xx: false, gt: false, lt: false };
  for (const arg of args) {
    const option = toText(arg).toLowerCase();
    if (!Object.hasOwn(options, option)) {
      throw new ReplyError(`ERR Unsupported option ${toText(arg)}`);
    }
    options[option as keyof typeof options] = true;
  }
  const { nx, xx, gt, lt } = options;
  if (nx && (xx || gt || lt)) {
    throw new ReplyError(
      "ERR NX and XX, GT or LT options at the same time are not compatible",
    );
  }
  if (gt && lt) {
    throw new ReplyError(
      "ERR GT and LT options at the same time are not compatible",
    );
  }
  return options;
}

/** Makes TTL and its like; they say -2 if there is no such key, and -1 if it does not expire. */
function timeToLive(of: (ms: number) => number) {
  return (args: Arguments, { database: { store } }: Client): Reply => {
    const key = toText(args[1]!);
    if (!store.has(key)) return -2;
    const ms = store.timeToLive(key);
    return ms === Infinity ? -1 : of(Math.ceil(ms));
  };
}

function flush(args: Arguments, { database }: Client): Reply {
  const how = args.length === 2 ? toText(args[1]!).toLowerCase() : "sync";
  if (args.length > 2 || how !== "sync" && how !== "async") {
    throw new ReplyError(SYNTAX_ERROR);
  }
  database.store.clear();
  return OK;
}

const KEY = [1, 1, 1] as const;
const KEYS = [1, -1, 1] as const;

export const KEY_COMMANDS: Commands = {
  del: {
    arity: -2,
    keys: KEYS,
    run: (args, client) =>
      count(args, client, (store, key) => store.delete(key)),
  },
  unlink: {
    arity: -2,
    keys: KEYS,
    run: (args, client) =>
      count(args, client, (store, key) => store.delete(key)),
  },
  exists: {
    arity: -2,
    keys: KEYS,
    run: (args, client) => count(args, client, (store, key) => store.has(key)),
  },
  type: {
    arity: 2,
    keys: KEY,
    run: (args, { database: { store } }) =>
      store.has(toText(args[1]!)) ? STRING : NONE,
  },
  expire: { arity: -3, keys: KEY, run: expire("expire", 1000) },
  pexpire: { arity: -3, keys: KEY, run: expire("pexpire", 1) },
  expireat: { arity: -3, keys: KEY, run: expire("expireat", 1000, true) },
  pexpireat: { arity: -3, keys: KEY, run: expire("pexpireat", 1, true) },
  ttl: {
    arity: 2,
    keys: KEY,
    run: timeToLive((ms) => Math.floor((ms + 500) / 1000)),
  },
  pttl: { arity: 2, keys: KEY, run: timeToLive((ms) => ms) },
  persist: {
    arity: 2,
    keys: KEY,
    run(args, { database: { store } }) {
      const key = toText(args[1]!);
      if (!store.has(key) || store.timeToLive(key) === Infinity) return 0;
      store.setTimeToLive(key, Infinity);
      return 1;
    },
  },
  keys: {
    arity: 2,
    run: (args, { database: { store } }) => {
      const matches = matcher(toText(args[1]!));
      return [...store.keys()].filter(matches);
    },
  },
  dbsize: { arity: 1, run: (_args, { database: { store } }) => store.size },
  flushall: { arity: -1, run: flush },
  flushdb: { arity: -1, run: flush },
};
