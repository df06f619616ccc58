/**
 * Commands for the connection and the server.
 *
 * @module
 */

import {
  type Arguments,
  type Client,
  type Command,
  type Commands,
  type Database,
  group,
  wrongArguments,
} from "./command.ts";
import { matcher } from "./glob.ts";
import { forgetSubscriber } from "./pub_sub_commands.ts";
import {
  integerOf,
  OK,
  parseInteger,
  type Reply,
  ReplyError,
  Status,
  SYNTAX_ERROR,
  toText,
} from "./resp.ts";

/** The Redis whose commands these are like. Clients look at it. */
const VERSION = "7.0.0";

const PONG = new Status("PONG");
const RESET = new Status("RESET");

function ping(args: Arguments, { channels, patterns }: Client): Reply {
  if (args.length > 2) throw wrongArguments("ping");
  const text = args[1];
  // A subscriber takes messages, and this looks like one.
  if (channels.size + patterns.size > 0) return ["pong", text ?? ""];
  return text ?? PONG;
}

function select(args: Arguments): Reply {
  if (integerOf(args[1]!) === 0n) return OK;
  throw new ReplyError("ERR DB index is out of range");
}

function hello(args: Arguments, client: Client): Reply {
  if (args.length > 2) throw new ReplyError(SYNTAX_ERROR);
  if (args.length === 2) {
    const version = parseInteger(args[1]!);
    if (version === null) {
      throw new ReplyError(
        "ERR Protocol version is not an integer or out of range",
      );
    }
    if (version !== 2n) {
      throw new ReplyError("NOPROTO unsupported protocol version");
    }
  }
  const facts: Record<string, Reply> = {
    server: "redis",
    version: VERSION,
    proto: 2,
    id: client.id,
    mode: "standalone",
    role: "master",
    modules: [],
  };
  return Object.entries(facts).flat();
}

function reset(_args: Arguments, client: Client): Reply {
  forgetSubscriber(client);
  client.name = "";
  return RESET;
}

function setName(args: Arguments, client: Client): Reply {
  const name = toText(args[2]!);
  if (/[^!-~]/.test(name)) {
    throw new ReplyError(
      "ERR Client names cannot contain spaces, newlines or special characters.",
    );
  }
  client.name = name;
  return OK;
}

function config({ limits }: Database): Record<string, string> {
  const { maxBulkLength, maxCommandLength, maxQueuedMessages } = limits;
  return {
    appendonly: "no",
    "client-output-buffer-limit":
      `normal 0 0 0 slave 0 0 0 pubsub ${maxQueuedMessages} 0 0`,
    "client-query-buffer-limit": `${maxCommandLength}`,
    databases: "1",
    "proto-max-bulk-len": `${maxBulkLength}`,
    save: "",
    timeout: "0",
  };
}

function configGet(args: Arguments, { database }: Client): Reply {
  const matchers = args.slice(2).map((arg) =>
    matcher(toText(arg).toLowerCase())
  );
  return Object.entries(config(database))
    .filter(([name]) => matchers.some((matches) => matches(name)))
    .flat();
}

/** What INFO says, section by section. */
function facts(database: Database): Record<string, Record<string, unknown>> {
  const { store, pubSub, clients, uptime, connections, commands } = database;
  const { rss, heapUsed, external } = Deno.memoryUsage();
  return {
    Server: {
      redis_version: VERSION,
      redis_mode: "standalone",
      os: `${Deno.build.os} ${Deno.build.arch}`,
      process_id: Deno.pid,
      uptime_in_seconds: Math.floor(uptime / 1000),
    },
    Clients: { connected_clients: clients.size },
    Memory: { used_memory: heapUsed + external, used_memory_rss: rss },
    Persistence: { loading: 0 },
    Stats: {
      total_connections_received: connections,
      total_commands_processed: commands,
      expired_keys: store.expired,
      pubsub_channels: pubSub.channels.size,
      pubsub_patterns: pubSub.patterns.size,
    },
    Replication: { role: "master", connected_slaves: 0 },
    Keyspace: store.size === 0
      ? {}
      : { db0: `keys=${store.size},expires=${store.volatileSize},avg_ttl=0` },
  };
}

function info(args: Arguments, { database }: Client): Reply {
  const asked = args.slice(1).map((arg) => toText(arg).toLowerCase());
  const all = asked.length === 0 ||
    asked.some((name) => ["all", "default", "everything"].includes(name));
  return Object.entries(facts(database))
    .filter(([name]) => all || asked.includes(name.toLowerCase()))
    .map(([name, section]) => {
      const lines = Object.entries(section).map(([key, value]) =>
        `${key}:${value}\r\n`
      );
      return `# ${name}\r\n${lines.join("")}`;
    })
    .join("\r\n");
}

/** Makes COMMAND, which tells about all commands, itself included. */
function commandCommand(all: () => ReadonlyMap<string, Command>): Command {
  const describe = (name: string): Reply => {
    const command = all().get(name);
    if (command === undefined) return null;
    const { arity, keys = [0, 0, 0] } = command;
    // Behind the keys: flags, which go before them, and what Redis 7 adds.
    return [name, arity, [], ...keys, [], [], [], []];
  };
  const describeAll = () => [...all().keys()].map(describe);
  const subcommands = group("command", {
    count: { arity: 2, run: () => all().size },
    docs: { arity: -2, run: () => [] },
    info: {
      arity: -2,
      run: (args) =>
        args.length === 2
          ? describeAll()
          : args.slice(2).map((arg) => describe(toText(arg).toLowerCase())),
    },
    list: { arity: -2, run: () => [...all().keys()] },
  });
  return {
    arity: -1,
    run: (args, client) =>
      args.length === 1 ? describeAll() : subcommands.run(args, client),
  };
}

/** Makes the commands; `all` says which there are. */
export function serverCommands(
  all: () => ReadonlyMap<string, Command>,
): Commands {
  return {
    ping: { arity: -1, subscriber: true, run: ping },
    echo: { arity: 2, run: (args) => args[1]! },
    select: { arity: 2, run: select },
    hello: { arity: -1, run: hello },
    reset: { arity: 1, subscriber: true, run: reset },
    quit: {
      arity: -1,
      subscriber: true,
      run(_args, client) {
        client.reply(OK);
        client.quit();
      },
    },
    info: { arity: -1, run: info },
    command: commandCommand(all),
    config: group("config", {
      get: { arity: -3, run: configGet },
      resetstat: { arity: 2, run: () => OK },
    }),
    client: group("client", {
      id: { arity: 2, run: (_args, { id }) => id },
      getname: { arity: 2, run: (_args, { name }) => name || null },
      setname: { arity: 3, run: setName },
    }),
    // What a browser can be made to send, by a page that would like to talk to a
    // server on the same machine.
    "host:": {
      arity: -1,
      subscriber: true,
      run: (_, client) => client.abort(),
    },
    post: { arity: -1, subscriber: true, run: (_, client) => client.abort() },
  };
}
