/**
 * A Redis server: strings, expiry, publish and subscribe, in memory.
 *
 *     deno run --allow-net examples/redis_server.ts [--port N] [--hostname H]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. Try it with `redis-cli -p PORT`, or `nc 127.0.0.1 PORT`
 * and a command in a line; Ctrl-C ends it. It speaks RESP2, and what it lacks
 * it refuses in Redis's words.
 *
 * `redis/session.ts` shows how AsyncChat frames a protocol with counts, and how
 * a server deals with clients that do not read.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { type Address, Dispatcher, type DispatcherOptions } from "../mod.ts";
import type { Client, Database, Limits } from "./redis/command.ts";
import { PubSub } from "./redis/pub_sub.ts";
import { Session } from "./redis/session.ts";
import { Store } from "./redis/store.ts";
import { serve } from "./serve.ts";

/** Options of a {@linkcode RedisServer}; what they say goes for its clients, too. */
export interface RedisServerOptions extends DispatcherOptions, Partial<Limits> {
  /** The time in milliseconds, by a clock that nobody sets. */
  readonly now?: () => number;
}

/** The server. */
export class RedisServer extends Dispatcher implements Database {
  readonly store: Store;
  readonly pubSub = new PubSub();
  readonly clients = new Set<Client>();
  readonly limits: Limits;
  connections = 0;
  commands = 0;
  readonly #now: () => number;
  readonly #started: number;
  readonly #options: DispatcherOptions;

  constructor(addr: Address, options: RedisServerOptions = {}) {
    const {
      now = () => performance.now(),
      maxBulkLength = 536_870_912,
      maxCommandLength = 1_073_741_824,
      maxQueuedReplies = 1_048_576,
      maxQueuedMessages = 33_554_432,
      ...rest
    } = options;
    super(null, rest);
    this.limits = {
      maxBulkLength,
      maxCommandLength,
      maxQueuedReplies,
      maxQueuedMessages,
    };
    this.store = new Store(now);
    this.#now = now;
    this.#started = now();
    this.#options = rest;
    this.createSocket();
    this.bind(addr);
    this.listen();
  }

  get uptime(): number {
    return this.#now() - this.#started;
  }

  override handleAccepted(conn: Deno.Conn): void {
    this.connections++;
    this.clients.add(new Session(conn, this, this.#options));
  }
}

function startServer(): RedisServer {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      port: { type: "string", default: "0" },
      hostname: { type: "string", default: "127.0.0.1" },
    },
  });
  const { hostname, port } = values;
  return new RedisServer({ hostname, port: Number(port) });
}

if (import.meta.main) await serve("Redis server", startServer);
