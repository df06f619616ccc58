import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { type ChannelMap, Dispatcher, ExitNow, poll } from "../mod.ts";
import {
  forSeeds,
  type LinkOptions,
  SimNet,
  type SimNetOptions,
  type TraceEntry,
} from "../testing.ts";
import { bytes, Recorder, script, turns, within } from "./net.ts";
import { sendAll, simPair } from "./testing/sim.ts";
import { outcome, watch } from "./testing/worlds.ts";

const PORT = { port: 7 };

class Echo extends Dispatcher {
  override writable(): boolean {
    return false;
  }
  override handleRead(): void {
    const data = this.recv();
    if (data.length > 0) this.send(data);
  }
}

class Server extends Dispatcher {
  readonly #map: ChannelMap;
  constructor(net: SimNet, map = net.map) {
    super(null, { map });
    this.#map = map;
    this.createSocket();
    this.bind(PORT);
    this.listen();
  }
  override handleAccepted(conn: Deno.Conn): void {
    new Echo(conn, { map: this.#map });
  }
}

/** Sends a text, and reads until all of it has come back. */
class Client extends Dispatcher {
  #unsent: Uint8Array;
  readonly #length: number;
  received = "";
  constructor(net: SimNet, text: string, map = net.map) {
    super(null, { map });
    this.#unsent = bytes(text);
    this.#length = text.length;
    this.createSocket();
    this.connect({ hostname: "127.0.0.1", ...PORT });
  }
  override writable(): boolean {
    return !this.connected || this.#unsent.length > 0;
  }
  override handleWrite(): void {
    this.#unsent = this.#unsent.subarray(this.send(this.#unsent));
  }
  override handleRead(): void {
    this.received += new TextDecoder().decode(this.recv(3));
    if (this.received.length === this.#length) this.close();
  }
}

/** A bad line. */
const BAD: LinkOptions = {
  latency: [1, 80],
  segmentSize: [1, 3],
  readSize: [1, 3],
  writeSize: [1, 3],
  window: 8,
};

/** Clients and a server on a bad line: what happened. */
async function echoes(seed: number): Promise<readonly TraceEntry[]> {
  await using net = new SimNet({ seed, link: BAD });
  const server = new Server(net);
  const clients = ["hello", "world", "!"].map((text) => new Client(net, text));
  await net.run();
  assertEquals(clients.map((each) => each.received), ["hello", "world", "!"]);
  server.close();
  await net.run();
  assertEquals(net.leaks(), []);
  return net.trace;
}

// Options.

Deno.test("SimNet refuses options that are out of range", () => {
  const wrong: [SimNetOptions, string][] = [
    [{ seed: 1.5 }, "the seed must be a whole number, got 1.5"],
    [{ seed: NaN }, "the seed must be a whole number, got NaN"],
    [{ seed: Infinity }, "the seed must be a whole number, got Infinity"],
    [{ tick: -1 }, "tick must be 0 or more milliseconds, got -1"],
    [{ tick: NaN }, "tick must be 0 or more milliseconds, got NaN"],
  ];
  for (const [options, message] of wrong) {
    assertThrows(
      () => new SimNet(options),
      RangeError,
      `Cannot simulate a network: ${message}`,
    );
  }
});

Deno.test("SimNet.seed is the one it was given, or a fresh one", async () => {
  await using net = new SimNet({ seed: -7 });
  assertEquals(net.seed, -7);
  await using first = new SimNet();
  await using second = new SimNet();
  assert(Number.isInteger(first.seed));
  assertNotEquals(first.seed, second.seed);
});

Deno.test("SimNet's tick is the time that a look at the clock takes", async () => {
  await using still = new SimNet({ seed: 1 });
  assertEquals([still.clock.now(), still.clock.now()], [0, 0]);
  await using net = new SimNet({ seed: 1, tick: 2 });
  assertEquals([net.clock.now(), net.clock.now(), net.now], [2, 4, 4]);
});

Deno.test("SimNet starts at 0", async () => {
  await using net = new SimNet({ seed: 1 });
  assertEquals([net.now, net.trace, net.leaks()], [0, [], []]);
});

// Seeds.

Deno.test("SimNet does the same for the same seed, and something else for another", async () => {
  const traces = new Set<string>();
  for (let seed = 1; seed <= 10; seed++) {
    const trace = JSON.stringify(await echoes(seed));
    assertEquals(JSON.stringify(await echoes(seed)), trace, `seed ${seed}`);
    traces.add(trace);
  }
  assertEquals(traces.size, 10);
});

Deno.test("SimNet does the same for the same low 32 bits of a seed", async () => {
  assertEquals(await echoes(2 ** 32 + 3), await echoes(3));
});

Deno.test("SimNet does the same whatever else goes on in the process", async () => {
  const alone = await echoes(5);
  let busy = true;
  const others = (async () => {
    while (busy) await turns(1);
  })();
  assertEquals(await echoes(5), alone);
  busy = false;
  await others;
});

Deno.test("SimNet takes its seed from the environment if it may", async () => {
  const run = async (value: string | null, ...args: string[]) => {
    const set = value === null
      ? ""
      : `Deno.env.set("SIMNET_SEED", "${value}");`;
    const { stdout, stderr } = await within(script(
      `
      import { SimNet } from "./testing.ts";
      ${set}
      try {
        console.log(new SimNet().seed, new SimNet({ seed: 5 }).seed);
      } catch (error) {
        console.log(error.message);
      }
      `,
      ...args,
    ));
    return stdout + stderr;
  };
  const allowed = "--allow-env=SIMNET_SEED";
  const [asked, wrong, unset, denied] = await Promise.all([
    run("4242", allowed),
    run("many", allowed),
    run(null, allowed),
    run(null),
  ]);
  assertEquals(asked, "4242 5\n");
  assertStringIncludes(wrong, "the seed must be a whole number");
  assertMatch(unset, /^\d+ 5\n$/);
  assertMatch(denied, /^\d+ 5\n$/);
});

// Time.

Deno.test("SimNet.sleep() takes virtual time only", async () => {
  await using net = new SimNet({ seed: 1 });
  await net.sleep(30_000);
  assertEquals(net.now, 30_000);
  await Promise.all([net.sleep(5), net.sleep(10 * 365 * 86_400_000)]);
  assertEquals(net.now, 30_000 + 10 * 365 * 86_400_000);
});

Deno.test("SimNet.sleep() wakes in the order of time", async () => {
  await using net = new SimNet({ seed: 1 });
  const order: number[] = [];
  await Promise.all(
    [30, 10, 20, 0].map(async (ms) => {
      await net.sleep(ms);
      order.push(ms);
    }),
  );
  assertEquals(order, [0, 10, 20, 30]);
});

Deno.test("SimNet's clock is that of its maps: a dispatcher lingers in virtual time", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  channel.send(bytes("hello"));
  await net.run();
  channel.close();
  // The peer never closes: 2 s after the half-close the socket gives up.
  await net.run();
  assertEquals(net.now, 2_000);
  peer.close();
  assertEquals(net.leaks(), []);
});

// run().

Deno.test("SimNet.run() serves a map until nothing can happen any more", async () => {
  await using net = new SimNet({ seed: 1, link: BAD });
  const server = new Server(net);
  const client = new Client(net, "hello");
  await net.run();
  assertEquals(client.received, "hello");
  assertEquals([...net.map], [server]);
});

Deno.test("SimNet.run() ends at once where nothing happens", async () => {
  await using net = new SimNet({ seed: 1 });
  await net.run();
  new Server(net);
  await net.run();
  await net.run();
  assertEquals(net.now, 0);
});

Deno.test("SimNet.run() goes on where it stopped", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 100 } });
  new Server(net);
  const client = new Client(net, "hello");
  const received: [number, string][] = [];
  for (const until of [199, 399, 400]) {
    await net.run({ until });
    received.push([net.now, `${client.connected} ${client.received.length}`]);
  }
  assertEquals(received, [[199, "false 0"], [399, "true 0"], [400, "false 5"]]);
});

Deno.test("SimNet.run() with until that is over stops at once", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 100 } });
  await net.sleep(1_000);
  new Server(net);
  const client = new Client(net, "hello");
  await net.run({ until: 500 });
  assertEquals([net.now, client.connected], [1_000, false]);
});

Deno.test("SimNet.run() waits for what is done by hand", async () => {
  await using net = new SimNet({ seed: 1, link: BAD });
  const server = new Server(net);
  let received = "";
  const byHand = (async () => {
    await net.sleep(5_000);
    using conn = await net.connect(PORT);
    await sendAll(conn, "hello");
    await conn.closeWrite();
    received = await new Response(conn.readable).text();
  })();
  await net.run();
  await byHand;
  assertEquals(received, "hello");
  server.close();
  await net.run();
  assertEquals(net.leaks(), []);
});

Deno.test("SimNet.run() serves a channel that is added while it runs", async () => {
  await using net = new SimNet({ seed: 1 });
  let client: Client | undefined;
  const byHand = (async () => {
    await net.sleep(100);
    new Server(net);
    client = new Client(net, "hello");
  })();
  await net.run();
  await byHand;
  assertEquals(client!.received, "hello");
});

Deno.test("SimNet.run() serves all maps", async () => {
  await using net = new SimNet({ seed: 1, link: BAD });
  const other = net.createMap();
  const third = net.createMap();
  new Server(net, other);
  const clients = [
    new Client(net, "hello"),
    new Client(net, "world", third),
  ];
  await net.run();
  assertEquals(clients.map(({ received }) => received), ["hello", "world"]);
  assertEquals([net.map.size, other.size, third.size], [0, 1, 0]);
  assert(net.trace.some(({ channel }) => channel === "Server#1"));
});

Deno.test("SimNet.run() waits for an async handler, also for the real world", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  const done: string[] = [];
  channel.handleRead = async () => {
    channel.recv();
    await net.sleep(1_000);
    done.push("virtual");
    await turns(20);
    done.push("real");
  };
  channel.handleEof = () => {};
  await peer.write(bytes("hello"));
  await net.run();
  assertEquals(done, ["virtual", "real"]);
});

Deno.test("SimNet.run() rejects with ExitNow, and can be called again", async () => {
  await using net = new SimNet({ seed: 1 });
  const other = net.createMap();
  const [conn, peer] = await simPair(net);
  const [otherConn] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  const bystander = new Recorder(otherConn, { map: other });
  const exit = new ExitNow("enough");
  channel.handleRead = () => {
    throw exit;
  };
  await peer.write(bytes("hello"));
  assertStrictEquals(await assertRejects(() => net.run()), exit);
  assertEquals([net.map.size, other.size], [1, 1]);
  channel.handleRead = Recorder.prototype.handleRead;
  // The other loop was stopped, too: else this would be a second one.
  bystander.close();
  await net.run();
  assertEquals(channel.received, "hello");
});

Deno.test("SimNet.run() does not go together with another", async () => {
  await using net = new SimNet({ seed: 1 });
  const first = net.run();
  await assertRejects(
    () => net.run(),
    TypeError,
    "Cannot run the network: it is running already",
  );
  await first;
  await net.run();
});

Deno.test("SimNet.run() ends a program that never ends, and names its seed", async () => {
  await using net = new SimNet({ seed: 99 });
  const start = net.now;
  let on = true;
  const ticking = (async () => {
    while (on) await net.sleep(1);
  })();
  new Server(net);
  const error = await assertRejects(() => net.run({ maxTurns: 50 }), Error);
  assertEquals(
    error.message,
    "Cannot run the network: it does not come to an end (seed 99; to replay it: SIMNET_SEED=99 deno test --allow-env=SIMNET_SEED)",
  );
  assert(net.now - start <= 51);
  on = false;
  await ticking;
  await net.run({ maxTurns: 50 });
});

Deno.test("SimNet.run() ends dispatchers that never end", async () => {
  await using net = new SimNet({ seed: 99, link: { latency: 1 } });
  const [conn, peer] = await simPair(net);
  for (const end of [conn, peer]) new Echo(end, { map: net.map });
  [...net.map].forEach((each) => (each as Echo).send(bytes("ball")));
  await assertRejects(() => net.run({ maxTurns: 500 }), Error, "seed 99");
});

Deno.test("SimNet.run() has a virtual timeout, as loop() has", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  const asked: number[] = [];
  channel.writable = () => {
    asked.push(net.now);
    return false;
  };
  await net.run({ timeout: 30_000, until: 100_000 });
  assertEquals([...new Set(asked)], [0, 30_000, 60_000, 90_000]);
});

Deno.test("SimNet.run() serves channel by channel with usePoll", async () => {
  for (const usePoll of [false, true]) {
    await using net = new SimNet({ seed: 1 });
    const order: string[] = [];
    const lines = [await simPair(net), await simPair(net)];
    const channels = lines.map(([conn], i) => {
      const channel = new Recorder(conn, { map: net.map });
      channel.handleRead = () => {
        order.push(`${i} read`);
        channel.recv();
      };
      channel.handleWrite = () => {
        order.push(`${i} write`);
        channel.writable = () => false;
      };
      return channel;
    });
    // The reads are started, and end while nobody serves the map.
    await net.run();
    for (const [, peer] of lines) await peer.write(bytes("hello"));
    await net.sleep(1);
    for (const channel of channels) channel.writable = () => true;
    net.map.wake();
    await net.run({ usePoll });
    assertEquals(
      order.map((event) => event.slice(2)),
      usePoll
        ? ["read", "write", "read", "write"]
        : ["read", "read", "write", "write"],
    );
  }
});

Deno.test("the loop's own functions serve a map of a SimNet, too", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  await peer.write(bytes("hello"));
  await poll(30_000, net.map);
  assertEquals(channel.received, "hello");
  await poll(30_000, net.map);
  assertEquals(net.now, 30_000);
});

// What there is to see.

Deno.test("SimNet.trace tells what happened, in order", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 10 } });
  const server = new Server(net);
  new Client(net, "hello");
  await net.run();
  server.close();
  const lines = net.trace.map((entry) =>
    Object.values({ ...entry, detail: entry.detail?.replace(/:3\d{4}$/, "") })
      .filter((value) => value !== undefined).join(" ")
  );
  assertEquals(lines, [
    "0 Server#1 listen() 0.0.0.0:7",
    "0 Client#1 connect() 127.0.0.1:7",
    "10 Server#1 accept",
    "10 Server#1 accept() 127.0.0.1",
    "10 Server#1 accepted 127.0.0.1",
    "20 Client#1 connect",
    "20 Client#1 write",
    "20 Client#1 send() 5",
    "30 Echo#1 read 5",
    "30 Echo#1 recv() 5",
    "30 Echo#1 send() 5",
    "40 Client#1 read 5",
    "40 Client#1 recv() 3",
    "40 Client#1 read 2",
    "40 Client#1 recv() 2",
    "40 Client#1 close()",
    "50 Echo#1 read 0",
    "50 Echo#1 eof",
    "50 Echo#1 disconnect() eof",
    "50 Echo#1 close 0 eof",
    "50 Echo#1 close()",
    "60 Server#1 close()",
  ]);
});

Deno.test("SimNet.name() calls a dispatcher something else in the trace", async () => {
  await using net = new SimNet({ seed: 1 });
  const channel = new Recorder(null, { map: net.map });
  net.name(channel, "the listener");
  channel.createSocket();
  channel.bind(PORT);
  channel.listen();
  channel.close();
  assertEquals(
    net.trace.map((entry) => `${entry.channel} ${entry.event}`),
    ["the listener listen()", "the listener close()"],
  );
});

Deno.test("SimNet.leaks() tells what is left behind", async () => {
  await using net = new SimNet({ seed: 1 });
  const [client, server] = await simPair(net);
  assertEquals(net.leaks().map((line) => line.split(" ")[0]), [
    "open:",
    "open:",
  ]);
  server.close();
  const read = outcome(client.read(new Uint8Array(1)));
  await read;
  client.close();
  assertEquals(net.leaks(), []);

  const listener = net.listen(PORT);
  const datagrams = net.listenDatagram(PORT);
  const accept = outcome(listener.accept());
  const receive = outcome(datagrams.receive());
  const sleep = net.sleep(5);
  const lines = net.leaks().map((line) => line.replace(/^open: .*/s, "open"));
  assertEquals(lines, ["open", "open", "operations in flight: 2", "timers: 1"]);
  listener.close();
  datagrams.close();
  await Promise.all([accept, receive, sleep]);
  assertEquals(net.leaks(), []);
});

Deno.test("SimNet.leaks() tells of dispatchers: buffers, and sockets that linger", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  // Read, and not taken.
  channel.handleRead = () => {};
  await peer.write(bytes("hello"));
  await net.run();
  assert(net.leaks().includes("buffers in use: 1"), net.leaks().join());
  channel.send(bytes("hello"));
  channel.close();
  assert(net.leaks().includes("sockets that linger: 1"), net.leaks().join());
  peer.close();
  await net.run();
  assertEquals(net.leaks(), []);
});

// The end.

Deno.test("SimNet closes everything at its end", async () => {
  const net = new SimNet({ seed: 1, link: BAD });
  const map = net.createMap();
  new Server(net, map);
  new Client(net, "hello");
  const [client, server] = await simPair(net, { port: 80 });
  const listener = net.listen({ port: 81 });
  const datagrams = net.listenDatagram({ port: 82 });
  const waiting = [
    outcome(client.read(new Uint8Array(1))),
    outcome(listener.accept()),
    outcome(datagrams.receive()),
  ];
  await net[Symbol.asyncDispose]();
  assertEquals([net.map.size, map.size], [0, 0]);
  assertEquals(net.leaks(), []);
  assertEquals(await Promise.all(waiting), [
    "Interrupted EINTR: operation canceled",
    "BadResource: Listener has been closed",
    "Interrupted EINTR: operation canceled",
  ]);
  assertThrows(() => server.close(), Deno.errors.BadResource);
});

Deno.test("SimNet can be closed twice", async () => {
  const net = new SimNet({ seed: 1 });
  new Server(net);
  await net[Symbol.asyncDispose]();
  await net[Symbol.asyncDispose]();
});

Deno.test("SimNet gives sockets that linger their time at its end", async () => {
  const net = new SimNet({ seed: 1, link: { latency: 1_000, window: 2 } });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  channel.send(bytes("hello"));
  const received = new Response(peer.readable).text();
  await net[Symbol.asyncDispose]();
  assertEquals(await received, "hello");
});

Deno.test("SimNet does not wait for the peer of a socket that lingers", async () => {
  const net = new SimNet({ seed: 1, link: { window: 2 } });
  const [conn] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map });
  // The peer, which nobody serves, reads nothing.
  channel.send(bytes("hello"));
  channel.close();
  await within(net[Symbol.asyncDispose]());
  assertEquals(net.leaks(), []);
  assert(net.now <= 10_000, `${net.now}`);
});

Deno.test("SimNet does not wait for what would linger for ever", async () => {
  const net = new SimNet({ seed: 1, link: { window: 2 } });
  const [conn] = await simPair(net);
  const channel = new Recorder(conn, { map: net.map, lingerTimeout: Infinity });
  channel.send(bytes("hello"));
  channel.close();
  await within(net[Symbol.asyncDispose]());
  assertEquals(net.leaks(), []);
});

Deno.test("SimNet closes everything, then throws what a close() threw", async () => {
  const net = new SimNet({ seed: 1 });
  const [bad, good] = (await simPair(net)).map((conn) =>
    new Recorder(conn, { map: net.map })
  );
  bad!.close = () => {
    Recorder.prototype.close.call(bad);
    throw new Error("no");
  };
  const error = await assertRejects(
    () => net[Symbol.asyncDispose](),
    AggregateError,
    "Cannot close the network",
  );
  assertInstanceOf(error, AggregateError);
  assert(!good!.connected);
  assertEquals(net.leaks(), []);
});

// forSeeds().

Deno.test("forSeeds() runs a test with one seed after the other", async () => {
  const seeds: number[] = [];
  await forSeeds((net) => void seeds.push(net.seed), { seed: 5, runs: 3 });
  assertEquals(seeds, [5, 6, 7]);
});

Deno.test("forSeeds() runs 100 times from a fresh seed unless told otherwise", async () => {
  const runs: number[][] = [[], []];
  for (const seeds of runs) {
    await forSeeds((net) => void seeds.push(net.seed));
    assertEquals(seeds.length, 100);
    assertEquals(seeds[99]! - seeds[0]!, 99);
  }
  assertNotEquals(runs[0], runs[1]);
});

Deno.test("forSeeds() passes on what a network is told, and closes it", async () => {
  const nets: SimNet[] = [];
  await forSeeds(async (net) => {
    nets.push(net);
    const [client, server] = await simPair(net);
    await client.write(bytes("hello"));
    await server.read(new Uint8Array(5));
    assertEquals(net.now, 30);
  }, { seed: 1, runs: 2, link: { latency: 10 } });
  for (const net of nets) assertEquals(net.leaks(), []);
});

Deno.test("forSeeds() tells which seed failed, and how to replay it", async () => {
  const cause = new Error("broken");
  let runs = 0;
  const error = await assertRejects(
    () =>
      forSeeds((net) => {
        runs++;
        if (net.seed === 8) throw cause;
      }, { seed: 6, runs: 10 }),
    Error,
  );
  assertEquals(
    error.message,
    "Run 3 of 10 failed: Error: broken (seed 8; to replay it: SIMNET_SEED=8 deno test --allow-env=SIMNET_SEED)",
  );
  assertStrictEquals(error.cause, cause);
  assertEquals(runs, 3);
});

Deno.test("forSeeds() closes the network of a test that failed", async () => {
  let net: SimNet | undefined;
  await assertRejects(() =>
    forSeeds((each) => {
      net = each;
      new Server(each);
      return Promise.reject(new Error("broken"));
    }, { seed: 1, runs: 1 })
  );
  assertEquals(net!.map.size, 0);
});

Deno.test("forSeeds() runs the seed that the environment asks for, alone", async () => {
  const { stdout, stderr } = await within(script(
    `
    Deno.env.set("SIMNET_SEED", "8");
    const { forSeeds } = await import("./testing.ts");
    await forSeeds((net) => console.log(net.seed), { seed: 1, runs: 50 });
    await forSeeds(() => { throw new Error("broken"); }).catch((error) =>
      console.log(error.message)
    );
    `,
    "--allow-env=SIMNET_SEED",
  ));
  assertEquals(
    stdout,
    "8\nRun 1 of 1 failed: Error: broken (seed 8; to replay it: SIMNET_SEED=8 deno test --allow-env=SIMNET_SEED)\n",
    stderr,
  );
});

// Dispatchers under faults.

Deno.test("a dispatcher is told of each way in which connect() fails", async () => {
  const whats = {
    refused: 0,
    unreachable: 0,
    unanswered: 127_000,
    notFound: 0,
    denied: 0,
  };
  for (const [what, time] of Object.entries(whats)) {
    const faults = [{ on: "connect", what: what as "refused" }] as const;
    await using net = new SimNet({ seed: 1, link: { faults } });
    const channel = new Recorder(null, { map: net.map });
    channel.createSocket();
    channel.connect({ hostname: "127.0.0.1", port: 80 });
    channel.writable = () => !channel.connected;
    await net.run();
    assertEquals(channel.events, ["error", "close error"], what);
    assertEquals(net.now, time);
    assertEquals(net.leaks(), []);
  }
});

Deno.test("a listener goes on after accepts that failed", async () => {
  const faults = [
    { on: "accept", what: "EMFILE", times: 3 },
    { on: "accept", what: "ECONNABORTED", times: 1 },
  ] as const;
  await using net = new SimNet({ seed: 1, link: { faults } });
  const server = new Recorder(null, { map: net.map });
  server.logInfo = () => {};
  server.createSocket();
  server.bind(PORT);
  server.listen();
  const conns = [await net.connect(PORT), await net.connect(PORT)];
  await net.run();
  assertEquals(server.events, ["accepted"]);
  // After 5 ms, 10, 20 and 40.
  assertEquals(net.now, 75);
  for (const conn of conns) conn.close();
});

Deno.test("a dispatcher that is reset, half-closed or cut off is told so", async () => {
  for (
    const [what, end] of [
      ["reset", "close reset"],
      ["end", "close eof"],
      ["stall", undefined],
    ] as const
  ) {
    const faults = [{ on: "toClient", what, at: 3 }] as const;
    await using net = new SimNet({ seed: 1, link: { faults } });
    const [conn, peer] = await simPair(net);
    const channel = new Recorder(conn, { map: net.map });
    await sendAll(peer, "hello");
    const sleep = watch(net.sleep(1_000_000));
    await net.run();
    assertEquals(channel.received, "hel", what);
    assertEquals(channel.events.at(-1), end ?? "read hel");
    assertEquals(sleep.now, "done");
  }
});

Deno.test("a dispatcher on a line of any kind loses nothing", async () => {
  await forSeeds(async (net) => {
    new Server(net);
    const client = new Client(net, "the quick brown fox");
    await net.run();
    assertEquals(client.received, "the quick brown fox");
  }, { seed: 1, runs: 50, link: BAD });
});
