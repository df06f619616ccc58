import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  RedisServer,
  type RedisServerOptions,
} from "../examples/redis_server.ts";
import { Session } from "../examples/redis/session.ts";
import { forSeeds, type SimConn, SimNet } from "../testing.ts";
import { RAW_REPLIES, REPLIES } from "./redis_replies.ts";
import {
  assertFails,
  assertGood,
  connect,
  deadPort,
  fromLatin1,
  latin1,
  runPython,
  Server,
  simulate,
  Talk,
} from "./servers.ts";
import { type Ending, run, Subprocess } from "./subprocess.ts";
import { toolTest } from "./tools.ts";
import { SIZES } from "./traced_chat.ts";

const ADDR = { hostname: "10.0.0.1", port: 6379 };

/** A command as clients send it. */
function command(...args: string[]): string {
  const bulks = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`);
  return `*${args.length}\r\n${bulks.join("")}`;
}

/** A command as it stands in the table. */
function encoded(line: string): string {
  const words = line.match(/'[^']*'|\S+/g) ?? [];
  return command(...words.map((word) => word.replace(/^'(.*)'$/, "$1")));
}

/** A server in a simulation, whose clock is that of the simulation. */
function serverIn(net: SimNet, options: RedisServerOptions = {}): RedisServer {
  return new RedisServer(ADDR, {
    map: net.map,
    now: () => net.now,
    ...options,
  });
}

/** What a client does in a simulation. */
async function connected<T>(
  net: SimNet,
  act: (talk: Talk<SimConn>) => Promise<T>,
): Promise<T> {
  using talk = new Talk(await net.connect(ADDR));
  return await act(talk);
}

/** Sends a command and reads its reply, which is a line. */
async function ask(talk: Talk, ...args: string[]): Promise<string> {
  await talk.send(command(...args));
  return await talk.until((text) => text.endsWith("\r\n"));
}

/** The only client's session. */
function sessionOf(server: RedisServer): Session {
  const [session, ...rest] = server.clients;
  assert(session instanceof Session);
  assertEquals(rest, []);
  return session;
}

// What it replies.

Deno.test("redis_server replies as Redis does, to commands and to lines", async () => {
  for (const rows of REPLIES) {
    const replies = rows.map(([, reply]) =>
      `${reply.replaceAll("\n", "\r\n")}\r\n`
    ).join("");
    for (
      const commands of [
        rows.map(([line]) => encoded(line)).join(""),
        rows.map(([line]) => `${line}\n`).join(""),
      ]
    ) {
      for (const segmentSize of [Infinity, 1]) {
        await using net = new SimNet({ seed: 1, link: { segmentSize } });
        serverIn(net);
        const client = connected(net, (talk) => talk.sendLast(commands));
        assertEquals(await simulate(net, client), [replies]);
      }
    }
  }
});

Deno.test("redis_server replies as Redis does, to whatever bytes", async () => {
  for (const [bytes, reply] of RAW_REPLIES) {
    for (const segmentSize of SIZES) {
      await using net = new SimNet({ seed: 1, link: { segmentSize } });
      serverIn(net);
      const client = connected(net, (talk) => talk.sendLast(bytes));
      assertEquals(await simulate(net, client), [reply], bytes);
    }
  }
});

Deno.test("redis_server: replies depend on the bytes only, never on how they arrive", async () => {
  const binary = fromLatin1(Uint8Array.from({ length: 256 }, (_, i) => i));
  const long = "x".repeat(50_000);
  const commands = [
    command("SET", binary, long),
    command("GET", binary),
    "PING\r\n",
    command("SET", "\r\n", "$5\r\n*1\r\n"),
    command("GET", "\r\n"),
    command("MGET", binary, "nobody", "\r\n"),
    command("ECHO", binary),
  ].join("");
  const expected = "+OK\r\n" + `$50000\r\n${long}\r\n` + "+PONG\r\n" +
    "+OK\r\n" + "$8\r\n$5\r\n*1\r\n\r\n" +
    `*3\r\n$50000\r\n${long}\r\n$-1\r\n$8\r\n$5\r\n*1\r\n\r\n` +
    `$256\r\n${binary}\r\n`;
  await forSeeds(async (net) => {
    serverIn(net);
    net.setLink(ADDR, {
      latency: [0, 50],
      segmentSize: [1, 3000],
      readSize: [1, 3000],
      writeSize: [1, 3000],
    });
    const client = connected(net, (talk) => talk.sendLast(commands));
    const [replies] = await simulate(net, client);
    assert(replies === expected, "other replies");
  }, { seed: 1, runs: 50 });
});

/** A Redis of the system, if it is of the version in question. */
async function startRedis(port: number): Promise<Subprocess | null> {
  const { stdout } = await run("redis-server", ["--version"]);
  const version = / v=(\S+)/.exec(fromLatin1(stdout))?.[1];
  if (!version?.startsWith("7.0.")) {
    console.error(`Skipped, redis-server is ${version}, not 7.0`);
    return null;
  }
  // deno-fmt-ignore
  const redis = new Subprocess("redis-server", [
    "--port", `${port}`, "--bind", "127.0.0.1", "--save", "",
    "--appendonly", "no", "--databases", "1",
  ]);
  while (!(await redis.line()).includes("Ready to accept connections"));
  return redis;
}

toolTest(
  "Redis replies as this test's tables say",
  ["redis-server"],
  async () => {
    const port = deadPort();
    await using redis = await startRedis(port);
    if (redis === null) return;
    const ask = async (bytes: string) => {
      using first = new Talk(await connect(port));
      assertEquals(await first.sendLast("FLUSHALL\n"), "+OK\r\n");
      using talk = new Talk(await connect(port));
      return await talk.sendLast(bytes);
    };
    for (const rows of REPLIES) {
      const replies = rows.map(([, reply]) =>
        `${reply.replaceAll("\n", "\r\n")}\r\n`
      ).join("");
      const commands = rows.map(([line]) => encoded(line)).join("");
      assertEquals(await ask(commands), replies);
    }
    for (const [bytes, reply] of RAW_REPLIES) {
      assertEquals(await ask(bytes), reply, bytes);
    }
  },
);

Deno.test("redis_server hangs up on a browser", async () => {
  await using net = new SimNet({ seed: 1 });
  const server = serverIn(net);
  for (
    const request of ["POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"]
  ) {
    const client = connected(net, async (talk) => {
      await talk.send(`${request}\r\nSET a 1\r\n`);
      return await talk.until(() => false).catch(() => "");
    });
    await simulate(net, client);
  }
  assertEquals([server.store.size, server.clients.size], [0, 0]);
});

Deno.test("redis_server: keys expire when their time has come, and not before", async () => {
  await using net = new SimNet({ seed: 1 });
  const server = serverIn(net);
  const client = connected(net, async (talk) => {
    const replies: string[] = [];
    const note = async (...args: string[]) =>
      void replies.push((await ask(talk, ...args)).trimEnd());
    await note("SET", "a", "1", "EX", "10");
    await note("SET", "b", "1", "PX", "10001");
    await net.sleep(9_499);
    await note("TTL", "a");
    await note("PTTL", "a");
    await net.sleep(2);
    await note("TTL", "a");
    await net.sleep(498);
    await note("EXISTS", "a", "b");
    await net.sleep(1);
    await note("EXISTS", "a", "b");
    await note("TTL", "a");
    await note("INCR", "a");
    await note("TTL", "a");
    await net.sleep(1);
    await note("SET", "b", "1", "NX");
    await note("TTL", "b");
    assertEquals(replies, [
      "+OK",
      "+OK",
      ":1",
      ":501",
      ":0",
      ":2",
      ":1",
      ":-2",
      ":1",
      ":-1",
      "+OK",
      ":-1",
    ]);
  });
  await simulate(net, client);
  assertEquals(server.store.expired, 2);
});

Deno.test("redis_server does not keep keys that have expired and that nobody asks for", async () => {
  await using net = new SimNet({ seed: 1 });
  const server = serverIn(net);
  let most = 0;
  const client = connected(net, async (talk) => {
    for (let i = 0; i < 1000; i++) {
      assertEquals(await ask(talk, "SET", `${i}`, "", "PX", "10"), "+OK\r\n");
      most = Math.max(most, server.store.size);
      await net.sleep(1);
    }
  });
  await simulate(net, client);
  assert(most < 50, `${most}`);
});

Deno.test("redis_server passes messages on, to channels and to patterns", async () => {
  await using net = new SimNet({ seed: 1 });
  const server = serverIn(net);
  const message = command("message", "news.a", "hello");
  const pattern = command("pmessage", "news.*", "news.a", "hello");
  const subscriber = connected(net, async (talk) => {
    await talk.send(command("SUBSCRIBE", "news.a"));
    await talk.send(command("PSUBSCRIBE", "news.*"));
    const heard = await talk.until((text) => text.endsWith(pattern));
    assert(heard.endsWith(`:2\r\n${message}${pattern}`), heard);
  });
  const publisher = connected(net, async (talk) => {
    while (server.pubSub.patterns.size === 0) await net.sleep(1);
    assertEquals(await ask(talk, "PUBLISH", "news.a", "hello"), ":2\r\n");
    assertEquals(await ask(talk, "PUBLISH", "news", "hello"), ":0\r\n");
    // The subscriber goes, and is forgotten.
    await net.sleep(1);
    assertEquals(await ask(talk, "PUBLISH", "news.a", "hello"), ":0\r\n");
  });
  await simulate(net, subscriber, publisher);
  assertEquals(server.pubSub.channels.size + server.pubSub.patterns.size, 0);
});

// Clients that mean no good.

Deno.test("redis_server stops reading from a client that does not read, and it loses nothing", async () => {
  const VALUE = "x".repeat(20_000);
  const GETS = 5000; // 100 MB of replies
  await using net = new SimNet({ seed: 1, link: { window: 50_000 } });
  const server = serverIn(net);
  let sent = 0;
  const rude = connected(net, async (talk) => {
    await ask(talk, "SET", "a", VALUE);
    const get = latin1(command("GET", "a"));
    const sending = (async () => {
      for (; sent < GETS; sent++) await talk.send(get);
    })();
    sending.catch(() => {}); // waited for below
    await net.sleep(60_000);
    assert(sent < GETS, `${sent}`);
    const session = sessionOf(server);
    const { queuedBytes, bytesRead } = session;
    const { maxQueuedReplies } = server.limits;
    assert(queuedBytes > maxQueuedReplies / 2, `${queuedBytes}`);
    assert(queuedBytes < maxQueuedReplies + 2 * VALUE.length, `${queuedBytes}`);

    // Others are served meanwhile.
    await connected(net, async (talk) => {
      assertEquals(await ask(talk, "PING"), "+PONG\r\n");
    });
    assertEquals(session.bytesRead, bytesRead);

    const reply = `$20000\r\n${VALUE}\r\n`;
    let length = 0;
    const buffer = new Uint8Array(65_536);
    while (length < GETS * reply.length) {
      length += (await talk.conn.read(buffer))!;
    }
    await sending;
    assertEquals(await ask(talk, "PING"), "+PONG\r\n");
  });
  await simulate(net, rude);
  assertEquals(server.clients.size, 0);
});

Deno.test("redis_server forgets a client that breaks off while it does not read", async () => {
  for (const how of ["reset", "close"] as const) {
    await using net = new SimNet({ seed: 1, link: { window: 5_000 } });
    const server = serverIn(net, { maxQueuedReplies: 10_000 });
    const rude = (async () => {
      const talk = new Talk(await net.connect(ADDR));
      await ask(talk, "SET", "a", "x".repeat(9_000));
      const sending = talk.send(command("GET", "a").repeat(5_000));
      sending.catch(() => {}); // it breaks off in the middle
      await net.sleep(1_000);
      assertEquals(server.clients.size, 1);
      talk.conn[how]();
    })();
    await simulate(net, rude);
    assertEquals(server.clients.size, 0, how);
    assertEquals([...net.map], [server]);
  }
});

Deno.test("redis_server disconnects a subscriber that does not read, and the others get everything", async () => {
  const MESSAGES = 400;
  await using net = new SimNet({ seed: 1, link: { window: 10_000 } });
  const server = serverIn(net, { maxQueuedMessages: 1_000_000 });
  const payload = "x".repeat(10_000);
  const message = command("message", "news", payload);
  const deaf = connected(net, async (talk) => {
    await talk.send(command("SUBSCRIBE", "news"));
    const session = sessionOf(server);
    let most = 0;
    while (session.connected) {
      most = Math.max(most, session.queuedBytes);
      await net.sleep(10);
    }
    assert(most > 900_000 && most <= 1_000_000, `${most}`);
  });
  await net.run({ until: 1 });
  const listener = connected(net, async (talk) => {
    await talk.send(command("SUBSCRIBE", "news"));
    await talk.until((text) => text.endsWith(":1\r\n"));
    const buffer = new Uint8Array(65_536);
    let length = 0;
    while (length < MESSAGES * message.length) {
      length += (await talk.conn.read(buffer))!;
    }
    assertEquals(length, MESSAGES * message.length);
  });
  const counts: string[] = [];
  const publisher = connected(net, async (talk) => {
    while (server.clients.size < 3) await net.sleep(1);
    await net.sleep(10);
    for (let i = 0; i < MESSAGES; i++) {
      counts.push(await ask(talk, "PUBLISH", "news", payload));
      await net.sleep(10);
    }
  });
  await simulate(net, deaf, listener, publisher);
  assertEquals([counts[0], counts.at(-1)], [":2\r\n", ":1\r\n"]);
  assertEquals(server.clients.size, 0);
});

Deno.test("redis_server serves others while one sends a byte a second", async () => {
  await using net = new SimNet({ seed: 1 });
  serverIn(net);
  const slow = connected(net, async (talk) => {
    for (const char of command("SET", "a", "slow")) {
      await talk.send(char);
      await net.sleep(1_000);
    }
    assertEquals(await talk.until((text) => text.length > 0), "+OK\r\n");
    return net.now;
  });
  const other = connected(net, async (talk) => {
    for (let i = 0; i < 25; i++) {
      assertEquals(await ask(talk, "EXISTS", "a"), ":0\r\n");
      await net.sleep(1_000);
    }
  });
  const [end] = await simulate(net, slow, other);
  assertEquals(end, 1_000 * command("SET", "a", "slow").length);
});

Deno.test("redis_server forgets a client that breaks off in a command, wherever", async () => {
  const text = command("SET", "a", "1") + "GET a\r\n";
  for (const how of ["reset", "close"] as const) {
    await using net = new SimNet({ seed: 1 });
    const server = serverIn(net);
    for (let length = 0; length < text.length; length++) {
      const rude = (async () => {
        const talk = new Talk(await net.connect(ADDR));
        await talk.send(text.slice(0, length));
        talk.conn[how]();
      })();
      const other = connected(net, async (talk) => {
        assertEquals(await ask(talk, "PING"), "+PONG\r\n");
      });
      await simulate(net, rude, other);
      assertEquals(server.clients.size, 0);
    }
    assertEquals([...net.map], [server]);
  }
});

Deno.test("redis_server ends a connection whose command is too long", async () => {
  await using net = new SimNet({ seed: 1 });
  const server = serverIn(net, {
    maxBulkLength: 100_000,
    maxCommandLength: 1_000_000,
  });
  const string = `$100000\r\n${"x".repeat(100_000)}\r\n`;
  const cases = [
    ["x".repeat(70_000), /^-ERR Protocol error: too big inline request\r\n$/],
    ["*".repeat(70_000), /^-ERR Protocol error: too big mbulk count string/],
    [
      `*1\r\n${"$".repeat(70_000)}`,
      /^-ERR Protocol error: too big bulk count string/,
    ],
    ["*1\r\n$100001\r\n", /^-ERR Protocol error: invalid bulk length\r\n$/],
    [`*9\r\n${string.repeat(9)}`, /^-ERR unknown command 'x{128}', with/],
    [
      command("STRLEN", "x".repeat(90_000)).repeat(20),
      /^(:0\r\n){20}$/,
    ],
    [`*10\r\n${string.repeat(10)}`, /^$/],
    [`*2000000000\r\n${"$0\r\n\r\n".repeat(10_000)}`, /^$/],
  ] as const;
  for (const [bytes, expected] of cases) {
    const client = connected(net, async (talk) => {
      // The connection may end before everything is sent.
      const sent = talk.send(bytes).then(() => talk.conn.closeWrite());
      const reply = await talk.until(() => false).catch(() => "");
      await sent.catch(() => {});
      return reply;
    });
    const [reply] = await simulate(net, client);
    assertMatch(reply!, expected);
  }
  assertEquals(server.clients.size, 0);
});

Deno.test("redis_server keeps nothing of what comes after an error, and does not wait for ever", async () => {
  await using net = new SimNet({ seed: 1, link: { window: 5_000 } });
  const server = serverIn(net);
  const rude = connected(net, async (talk) => {
    await ask(talk, "SET", "a", "x".repeat(100_000));
    await talk.send(command("GET", "a") + "*x\r\n");
    await talk.send("x".repeat(1_000_000));
    const session = sessionOf(server);
    assertEquals(session.takeIncoming().length, 0);
    await net.sleep(9_000);
    assertEquals(server.clients.size, 1);
    await net.sleep(2_000);
    assertEquals(server.clients.size, 0);
  });
  await simulate(net, rude);
});

toolTest(
  "redis_server takes no memory for what has no end, and serves others",
  ["python3"],
  async () => {
    await using server = await Server.start("redis_server.ts");
    await runPython(
      `
def rss():
    other.sendall(b"INFO memory\\n")
    length = int(line(other)[1:])
    info = receive(other, length + 2)
    return int(info.split(b"used_memory_rss:")[1].split()[0])

def flood(data, size):
    conn = connect()
    sent = 0
    try:
        while sent < size:
            conn.sendall(data)
            sent += len(data)
            other.sendall(b"PING\\n")
            assert line(other) == b"+PONG\\r\\n"
    except (ConnectionResetError, BrokenPipeError):
        pass
    conn.close()

other = connect()
flood(b"x" * 100_000, 1_000_000)
before = rss()
flood(b"x" * 100_000, 100_000_000)
flood(b"*" * 100_000, 100_000_000)
flood(b"*1\\r\\n$536870913\\r\\n" + b"x" * 100_000, 100_000_000)
growth = rss() - before
assert growth < 50_000_000, growth

# Replies that nobody reads.
other.sendall(b"SET a " + b"x" * 50_000 + b"\\n")
assert line(other) == b"+OK\\r\\n"
deaf = []
for i in range(20):
    conn = connect()
    conn.setblocking(False)
    full = 0
    while full < 20:
        try:
            conn.send(b"GET a\\n" * 1000)
            full = 0
        except BlockingIOError:
            full += 1
            other.sendall(b"PING\\n")
            assert line(other) == b"+PONG\\r\\n"
    deaf.append(conn)
growth = rss() - before
assert growth < 150_000_000, growth
for conn in deaf:
    reset(conn)
`,
      server.port,
    );
    await server.stop();
  },
);

// Clients that somebody else wrote.

/** Runs redis-cli. */
async function cli(port: number, args: string[], input = ""): Promise<string> {
  const ending = await run(
    "redis-cli",
    ["-p", `${port}`, ...args],
    latin1(input),
  );
  assertGood(ending);
  return fromLatin1(ending.stdout);
}

toolTest("redis_server understands redis-cli", ["redis-cli"], async (t) => {
  await using server = await Server.start("redis_server.ts");
  const { port } = server;
  await t.step("commands", async () => {
    const script = `SET greeting "hello, world"
GET greeting
INCR n
INCRBY n 41
KEYS gr*
EXPIRE n 100
TTL n
DEL greeting
GET greeting
LPUSH list 1
SET n
`;
    assertEquals(
      await cli(port, [], script),
      `OK
hello, world
1
42
greeting
1
100
1

ERR unknown command 'LPUSH', with args beginning with: 'list' '1' 

ERR wrong number of arguments for 'set' command

`,
    );
  });
  await t.step("INFO and COMMAND", async () => {
    assertMatch(await cli(port, ["INFO"]), /^redis_mode:standalone\r$/m);
    const count = Number(await cli(port, ["COMMAND", "COUNT"]));
    assert(count > 30, `${count}`);
    assertEquals(
      (await cli(port, ["COMMAND", "LIST"])).split("\n").length,
      count + 1,
    );
  });
  await t.step("10,000 commands at once", async () => {
    const commands = Array.from(
      { length: 10_000 },
      (_, i) => command("SET", `key${i}`, `${i}`),
    );
    assertMatch(
      await cli(port, ["--pipe"], commands.join("")),
      /errors: 0, replies: 10000\n$/,
    );
    assertEquals(await cli(port, ["GET", "key9999"]), "9999\n");
  });
  await t.step("a value of 20 MB", async () => {
    const value = "0123456789".repeat(2_000_000);
    assertEquals(await cli(port, ["-x", "SET", "large"], value), "OK\n");
    assert(await cli(port, ["GET", "large"]) === `${value}\n`, "another value");
  });
  await t.step("messages", async () => {
    await using subscriber = new Subprocess("redis-cli", [
      "-p",
      `${port}`,
      "SUBSCRIBE",
      "news",
    ]);
    for (const line of ["subscribe", "news", "1"]) {
      assertEquals(await subscriber.line(), line);
    }
    assertEquals(await cli(port, ["PUBLISH", "news", "hello"]), "1\n");
    for (const line of ["message", "news", "hello"]) {
      assertEquals(await subscriber.line(), line);
    }
  });
  await server.stop();
});

for (const [pipeline, requests] of [[1, 5_000], [16, 100_000]] as const) {
  toolTest(
    `redis_server stands redis-benchmark -P ${pipeline}`,
    ["redis-benchmark"],
    async () => {
      await using server = await Server.start("redis_server.ts");
      // deno-fmt-ignore
      const ending = await run("redis-benchmark", [
        "-p", `${server.port}`, "-t", "ping,set,get,incr,mset", "-c", "50",
        "-P", `${pipeline}`, "-n", `${requests}`, "-r", "1000", "--csv",
      ]);
      assertGood(ending);
      const lines = fromLatin1(ending.stdout).trimEnd().split("\n");
      assertEquals(
        lines.map((line) => line.split(",")[0]),
        [
          `"test"`,
          `"PING_INLINE"`,
          `"PING_MBULK"`,
          `"SET"`,
          `"GET"`,
          `"INCR"`,
          `"MSET (10 keys)"`,
        ],
      );
      await server.stop();
    },
  );
}

/** Runs a program with a Redis client of npm's; where npm's registry cannot be reached there is none. */
async function runNpm(source: string, port: number): Promise<Ending | null> {
  // deno-fmt-ignore
  const ending = await run(
    Deno.execPath(),
    ["run", "--quiet", "--no-lock", "--node-modules-dir=none", "--allow-all", "-", `${port}`],
    latin1(source),
  );
  const unreachable = /npm package.*not found|registry\.npmjs\.org/s;
  const ci = Deno.env.get("CI") === "true";
  if (ci || ending.code === 0 || !unreachable.test(ending.stderr)) {
    return ending;
  }
  console.error("Skipped, npm's registry cannot be reached");
  return null;
}

Deno.test("redis_server understands npm's redis", async () => {
  await using server = await Server.start("redis_server.ts");
  const ending = await runNpm(
    `
import assert from "node:assert/strict";
import { createClient } from "npm:redis@5";

const url = "redis://127.0.0.1:" + Deno.args[0];
const client = createClient({ url, name: "tester" });
await client.connect();
assert.equal(await client.clientGetName(), "tester");
assert.equal(await client.set("a", "1", { expiration: { type: "EX", value: 100 } }), "OK");
assert.equal(await client.ttl("a"), 100);
assert.equal(await client.incr("a"), 2);
assert.equal(await client.get("nobody"), null);
const all = Array.from({ length: 1000 }, (_, i) => client.set("k" + i, "é" + i));
assert.deepEqual(new Set(await Promise.all(all)), new Set(["OK"]));
assert.equal(await client.get("k999"), "é999");
assert.equal((await client.keys("k99*")).length, 11);
await assert.rejects(client.lPush("list", "1"), /ERR unknown command/);

const subscriber = client.duplicate();
await subscriber.connect();
const { promise, resolve } = Promise.withResolvers();
await subscriber.subscribe("news", resolve);
assert.equal(await client.publish("news", "hello"), 1);
assert.equal(await promise, "hello");
await subscriber.unsubscribe();
await subscriber.close();
await client.close();
`,
    server.port,
  );
  if (ending !== null) assertGood(ending);
  await server.stop();
});

Deno.test("redis_server understands npm's ioredis", async () => {
  await using server = await Server.start("redis_server.ts");
  const ending = await runNpm(
    `
import assert from "node:assert/strict";
import { Redis } from "npm:ioredis@5";

const client = new Redis(Number(Deno.args[0]), "127.0.0.1");
const bytes = Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i));
assert.equal(await client.set(bytes, bytes), "OK");
assert.deepEqual(await client.getBuffer(bytes), bytes);
assert.deepEqual(await client.mget("a", "b"), [null, null]);
const results = await client.pipeline().set("a", 1).incr("a").get("a").exec();
assert.deepEqual(results, [[null, "OK"], [null, 2], [null, "2"]]);

const subscriber = client.duplicate();
const message = new Promise((resolve) => {
  subscriber.on("pmessage", (...args) => resolve(args));
});
assert.equal(await subscriber.psubscribe("news.*"), 1);
assert.equal(await client.publish("news.a", "hello"), 1);
assert.deepEqual(await message, ["news.*", "news.a", "hello"]);
subscriber.disconnect();
await client.quit();
`.replace(
      "import assert",
      `import { Buffer } from "node:buffer";\nimport assert`,
    ),
    server.port,
  );
  if (ending !== null) assertGood(ending);
  await server.stop();
});

toolTest("redis_server understands nc", ["nc"], async () => {
  await using server = await Server.start("redis_server.ts");
  const { code, stdout } = await run(
    "nc",
    ["-N", "127.0.0.1", `${server.port}`],
    latin1("PING\nset a 'b c'\nget a\nquit\n"),
  );
  assertEquals(code, 0);
  assertEquals(fromLatin1(stdout), "+PONG\r\n+OK\r\n$3\r\nb c\r\n+OK\r\n");
  await server.stop();
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`redis_server ends with code 0 on ${signal}, and its clients have their replies`, async () => {
    await using server = await Server.start("redis_server.ts");
    using talk = await server.connect();
    assertEquals(await ask(talk, "PING"), "+PONG\r\n");
    server.kill(signal);
    assertEquals(await talk.until(() => false), "");
    await talk.conn.closeWrite();
    assertGood(await server.end());
  });
}

Deno.test("redis_server fails with one line when its arguments are wrong", async () => {
  for (const args of [["--port", "x"], ["--port", "70000"], ["6379"]]) {
    await assertFails(
      "redis_server.ts",
      args,
      /^Cannot start the Redis server: ./,
    );
  }
});
