import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import {
  ChannelMap,
  closeAll,
  Dispatcher,
  ExitNow,
  loop,
  poll,
} from "../mod.ts";
import {
  bytes,
  listenTcp,
  readToEnd,
  Recorder,
  run,
  script,
  serveUntil,
  StoppedClock,
  tcpPair,
  text,
  turns,
  until,
  within,
  writeAll,
} from "./net.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

function listening(map: ChannelMap): Recorder {
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen();
  return server;
}

async function pair(map: ChannelMap): Promise<[Recorder, Deno.TcpConn]> {
  const [conn, peer] = await tcpPair();
  return [new Recorder(conn, { map }), peer];
}

Deno.test("loop() and poll() return at once when the map is empty", async () => {
  const map = new ChannelMap();
  await within(loop({ map, timeout: Infinity }));
  await within(loop({ map, timeout: Infinity, count: 5 }));
  await within(poll(Infinity, map));
  await within(poll(30_000, map, { usePoll: true }));
  assertEquals(map.counters.passes, 0);
});

Deno.test("loop() serves at most count passes", async () => {
  await using map = new ChannelMap();
  listening(map);
  for (const count of [0, -1, -Infinity]) {
    await within(loop({ map, count }));
    assertEquals(map.counters.passes, 0);
  }
  await run(map, { count: 3, timeout: 0 });
  assertEquals(map.counters.passes, 3);
  // One that waits, and is not served, counts as well.
  await run(map, { count: 2, timeout: 1 });
  assertEquals(map.counters.passes, 5);
});

Deno.test("loop() ends before count when the map is empty", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  peer.close();
  await run(map, { count: 1_000 });
  assertEquals(channel.events.at(-1), "close eof");
  assertEquals(map.size, 0);
});

Deno.test("poll() serves one pass", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await writeAll(peer, bytes("x"));
  await within(poll(Infinity, map));
  assertEquals(map.counters.passes, 1);
  assertEquals(channel.events, ["read x"]);
  peer.close();
  await run(map);
});

Deno.test("poll() waits no longer than its timeout", async () => {
  await using map = new ChannelMap();
  listening(map);
  await within(poll(0, map));
  await within(poll(1, map));
  await within(poll(undefined, map));
  assertEquals(map.counters.passes, 3);
});

Deno.test("poll(0) lets input and output in", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  await writeAll(peer, bytes("x"));
  // Only passes that do not wait, and nothing else that gives way.
  for (let i = 0; i < 10_000 && channel.received === ""; i++) {
    await poll(0, map);
  }
  assertEquals(channel.received, "x");
});

Deno.test("loop() and poll() reject what is no time and no count", async () => {
  await using map = new ChannelMap();
  listening(map);
  for (const timeout of [-1, -0.5, NaN, -Infinity]) {
    const errors = [
      await assertRejects(() => loop({ map, timeout }), RangeError, "Cannot "),
      await assertRejects(() => poll(timeout, map), RangeError, "Cannot "),
    ];
    for (const { message } of errors) {
      assertMatch(message, new RegExp(`: .*got ${timeout}$`));
    }
  }
  await assertRejects(() => loop({ map, count: NaN }), RangeError, "Cannot ");
  assertEquals(map.counters.passes, 0);
  // The map can be served afterwards.
  await run(map, { count: 1, timeout: 0 });
});

Deno.test("loop(), poll() and closeAll() refuse a map that is no ChannelMap", async () => {
  const map = new Map() as unknown as ChannelMap;
  for (
    const call of [
      () => loop({ map }),
      () => poll(0, map),
      () => closeAll({ map }),
    ]
  ) {
    const { message } = await assertRejects(call, TypeError);
    assertMatch(message, /^Cannot \w[^:]*: .*[^.]$/);
  }
});

Deno.test("loop() rejects while the map is being served", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const served = run(map);
  for (
    const call of [
      () => loop({ map }),
      () => loop({ map, count: 1 }),
      () => poll(0, map),
    ]
  ) {
    const { message } = await assertRejects(call, TypeError, "Cannot ");
    assertMatch(message, /: .+[^.]$/);
  }
  server.close();
  await served;
  // And poll() as well.
  listening(map);
  const polled = poll(1, map);
  await assertRejects(() => loop({ map }), TypeError, "Cannot ");
  await polled;
  await run(map, { count: 1, timeout: 0 });
});

Deno.test("loop() rejects in a handler, whose loop goes on", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const refusals: unknown[] = [];
  channel.handleRead = async () => {
    channel.received += text(channel.recv());
    for (const call of [() => loop({ map }), () => poll(0, map)]) {
      await call().catch((error) => refusals.push(error));
    }
  };
  await writeAll(peer, bytes("x"));
  const served = run(map);
  await until(() => channel.received === "x");
  peer.close();
  await served;
  // Two for the data, two for the end of file.
  assertEquals(refusals.length, 4);
  for (const refusal of refusals) assertInstanceOf(refusal, TypeError);
  assertEquals(channel.received, "x");
});

Deno.test("loop() may serve two maps at once, also from a handler", async () => {
  await using one = new ChannelMap();
  await using two = new ChannelMap();
  const [first, peer1] = await pair(one);
  const [second, peer2] = await pair(two);
  let inner: Promise<void> | undefined;
  first.handleRead = () => {
    first.received += text(first.recv());
    inner ??= run(two);
  };
  await writeAll(peer1, bytes("a"));
  await writeAll(peer2, bytes("b"));
  const outer = run(one);
  await until(() => first.received !== "" && second.received !== "");
  peer1.close();
  peer2.close();
  await outer;
  await inner;
  assertEquals([first.received, second.received], ["a", "b"]);
});

Deno.test("loop() ends when its signal is aborted, and leaves the channels open", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await turns();
  controller.abort(new Error("not thrown"));
  await served;
  assertEquals([...map], [server]);
  assert(server.accepting);
  // One that is aborted from the start ends it, too.
  await run(map, { signal: controller.signal });
  assert(server.accepting);
});

Deno.test("loop() finishes the pass in which its signal is aborted", async () => {
  await using map = new ChannelMap();
  const [first, peer1] = await pair(map);
  const [second, peer2] = await pair(map);
  using _1 = peer1;
  using _2 = peer2;
  await poll(0, map);
  await writeAll(peer1, bytes("1"));
  await writeAll(peer2, bytes("2"));
  await until(() => first.bytesRead + second.bytesRead === 2);
  const controller = new AbortController();
  for (const channel of [first, second]) {
    channel.handleRead = () => {
      channel.received += text(channel.recv());
      controller.abort();
    };
  }
  await run(map, { signal: controller.signal });
  assertEquals([first.received, second.received], ["1", "2"]);
});

Deno.test("loop() does not keep its listener on a signal that lives on", async () => {
  await using map = new ChannelMap();
  listening(map);
  const { signal } = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = function (...args: unknown[]) {
    listeners++;
    // deno-lint-ignore no-explicit-any
    return (addEventListener as any).apply(this, args);
  };
  signal.removeEventListener = function (...args: unknown[]) {
    listeners--;
    // deno-lint-ignore no-explicit-any
    return (removeEventListener as any).apply(this, args);
  };
  for (let i = 0; i < 3; i++) await run(map, { signal, count: 1, timeout: 0 });
  assertEquals(listeners, 0);
});

Deno.test("loop() rejects with the ExitNow of a handler, and can be called again", async () => {
  await using map = new ChannelMap();
  const [first, peer1] = await pair(map);
  const [second, peer2] = await pair(map);
  await poll(0, map);
  await writeAll(peer1, bytes("1"));
  await writeAll(peer2, bytes("2"));
  await until(() => first.bytesRead + second.bytesRead === 2);
  const exit = new ExitNow("enough");
  let ran = 0;
  for (const channel of [first, second]) {
    channel.handleRead = () => {
      channel.received += text(channel.recv());
      if (ran++ === 0) throw exit;
    };
  }
  const error = await assertRejects(() => run(map), ExitNow);
  assertStrictEquals(error, exit);
  // Nothing was closed, and the other one was not served.
  assertEquals(ran, 1);
  assertEquals(map.size, 2);
  assertEquals([...first.events, ...second.events], []);
  // What was ready still is.
  await within(poll(0, map));
  assertEquals([first.received, second.received], ["1", "2"]);
  peer1.close();
  peer2.close();
  await run(map);
});

Deno.test("poll() rejects with the ExitNow of a predicate", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.readable = () => {
    throw new ExitNow("from a predicate");
  };
  await assertRejects(() => within(poll(Infinity, map)), ExitNow);
  assertEquals([...map], [channel]);
  assertEquals(channel.errors, []);
});

Deno.test("loop() waits for what lingers, poll() and count do not", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const size = 1 << 25;
  const [conn, peer] = await tcpPair();
  const [beside, besidePeer] = await pair(map);
  using _ = besidePeer;
  const channel = new Recorder(conn, { map, sendBufferSize: size });
  channel.send(new Uint8Array(size));
  channel.close();
  await writeAll(besidePeer, bytes("x"));
  await serveUntil(map, () => beside.received === "x");
  await run(map, { count: 1, timeout: 0 });
  const controller = new AbortController();
  const aborted = run(map, { signal: controller.signal });
  await turns();
  controller.abort();
  await aborted;
  beside.close();
  assertEquals(map.size, 0);
  await within(poll(0, map)); // An empty map: returns at once.
  let ended = false;
  const served = run(map).then(() => ended = true);
  await turns();
  assertEquals(ended, false);
  assertEquals((await readToEnd(peer)).length, size);
  await turns();
  assertEquals(ended, false);
  peer.close();
  await served;
});

Deno.test("loop() waits for an async handler whose channel is gone", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const gate = Promise.withResolvers<void>();
  let finished = false;
  channel.handleRead = async () => {
    channel.close();
    await gate.promise;
    finished = true;
  };
  await writeAll(peer, bytes("x"));
  let ended = false;
  const served = run(map).then(() => ended = true);
  await until(() => map.size === 0);
  await turns();
  assertEquals(ended, false);
  gate.resolve();
  await served;
  assertEquals(finished, true);
});

Deno.test("loop() serves channels that a handler adds", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let next: [Recorder, Deno.TcpConn] | undefined;
  channel.handleRead = async () => {
    channel.recv();
    next = await pair(map);
    await writeAll(next[1], bytes("next"));
    channel.close();
  };
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => next?.[0].received === "next");
  next![1].close();
  await run(map);
  peer.close();
});

for (const usePoll of [false, true]) {
  Deno.test(`poll() goes ${usePoll ? "channel by channel" : "event by event"} with usePoll ${usePoll}`, async () => {
    await using map = new ChannelMap();
    const order: string[] = [];
    const channels: Recorder[] = [];
    const peers: Deno.TcpConn[] = [];
    for (const name of ["a", "b", "c"]) {
      const [channel, peer] = await pair(map);
      channels.push(channel);
      peers.push(peer);
      channel.handleRead = () => {
        channel.recv();
        order.push(`read ${name}`);
        channel.writable = () => false;
        if (name === "b") channel.disconnect({ kind: "done" });
      };
      channel.handleWrite = () => void order.push(`write ${name}`);
      channel.handleClose = () => void order.push(`close ${name}`);
    }
    await poll(0, map);
    for (const channel of channels) {
      // From now on, until it has written, too.
      channel.writable = () => true;
    }
    for (const peer of peers) await writeAll(peer, bytes("x"));
    await until(() => channels.every(({ bytesRead }) => bytesRead === 1));
    for (const channel of channels) {
      channel.handleRead = () => {
        channel.recv();
        order.push(`read ${"abc"[channels.indexOf(channel)]}`);
      };
      channel.handleWrite = () => {
        order.push(`write ${"abc"[channels.indexOf(channel)]}`);
        channel.disconnect({ kind: "done" });
      };
    }
    map.wake();
    await within(poll(0, map, { usePoll }));
    await run(map, { usePoll });
    const names = [...new Set(order.map((event) => event.slice(-1)))];
    assertEquals(names.toSorted(), ["a", "b", "c"]);
    const expected = usePoll
      ? names.flatMap((name) => [
        `read ${name}`,
        `write ${name}`,
        `close ${name}`,
      ])
      : ["read", "write", "close"].flatMap((event) =>
        names.map((name) => `${event} ${name}`)
      );
    assertEquals(order, expected);
    for (const peer of peers) peer.close();
  });
}

Deno.test("loop() gives each of many busy channels one event per pass", async () => {
  await using map = new ChannelMap();
  const channels: Recorder[] = [];
  const peers: Deno.TcpConn[] = [];
  const served = new Map<Recorder, number>();
  let pass = 0;
  for (let i = 0; i < 20; i++) {
    const [channel, peer] = await pair(map);
    channels.push(channel);
    peers.push(peer);
    channel.handleRead = () => {
      channel.received += text(channel.recv(1));
      assert(served.get(channel) !== pass, "two read events in a pass");
      served.set(channel, pass);
    };
    await writeAll(peer, bytes("0123456789"));
  }
  while (channels.some(({ received }) => received.length < 10)) {
    pass++;
    await within(poll(Infinity, map));
  }
  assertEquals(new Set(channels.map(({ received }) => received)).size, 1);
  assertGreaterOrEqual(pass, 10);
  for (const peer of peers) peer.close();
  await run(map);
});

Deno.test("closeAll() closes every channel and calls no handler", async () => {
  const map = new ChannelMap();
  const server = listening(map);
  const [channel, peer] = await pair(map);
  using _ = peer;
  const idle = new Recorder(null, { map });
  idle.createSocket();
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(server.addr as Deno.NetAddr);
  assertEquals(map.size, 4);
  await within(closeAll({ map }));
  assertEquals(map.size, 0);
  const channels = [server, channel, idle, client];
  assertEquals(channels.flatMap(({ events }) => events), []);
  assert(!server.accepting && !channel.connected && !client.connecting);
  assertEquals(map.counters.closes, 4);
  await within(closeAll({ map }));
});

Deno.test("closeAll() closes all, then tells what failed", async () => {
  for (const ignoreAll of [false, true]) {
    const map = new ChannelMap();
    const closed: number[] = [];
    const errors = [new Error("one"), new TypeError("three")];
    class Awkward extends Dispatcher {
      constructor(readonly index: number, readonly error?: Error) {
        super(null, { map });
        this.createSocket();
      }
      override close() {
        closed.push(this.index);
        super.close();
        if (this.error) throw this.error;
      }
    }
    new Awkward(0);
    new Awkward(1, errors[0]);
    new Awkward(2);
    new Awkward(3, errors[1]);
    new Awkward(4);
    const result = await within(closeAll({ map, ignoreAll })).then(
      () => "resolved",
      (error) => error,
    );
    assertEquals(closed, [0, 1, 2, 3, 4]);
    assertEquals(map.size, 0);
    if (ignoreAll) {
      assertEquals(result, "resolved");
      continue;
    }
    assertInstanceOf(result, AggregateError);
    assertEquals(result.errors.length, 2);
    errors.forEach((error, i) => assertStrictEquals(result.errors[i], error));
    assertMatch(result.message, /^Cannot close/);
  }
});

Deno.test("closeAll() rejects with an ExitNow, even with ignoreAll, after closing all", async () => {
  for (const ignoreAll of [false, true]) {
    const map = new ChannelMap();
    const exit = new ExitNow("from close()");
    for (let i = 0; i < 3; i++) {
      const dispatcher = new Dispatcher(null, { map });
      dispatcher.createSocket();
      if (i !== 1) continue;
      dispatcher.close = () => {
        Dispatcher.prototype.close.call(dispatcher);
        throw exit;
      };
    }
    const error = await assertRejects(() =>
      within(closeAll({ map, ignoreAll }))
    );
    assertStrictEquals(error, exit);
    assertEquals(map.size, 0);
  }
});

Deno.test("closeAll() with ignoreAll empties the map even if a close() does not close", async () => {
  const map = new ChannelMap();
  const stubborn = new Dispatcher(null, { map });
  stubborn.createSocket();
  stubborn.close = () => {
    throw new Error("no");
  };
  await within(closeAll({ map, ignoreAll: true }));
  // As CPython's close_all(map, True), which empties the map.
  assertEquals(map.size, 0);
  Dispatcher.prototype.close.call(stubborn);
});

Deno.test("closeAll() waits for what lingers", async () => {
  const map = new ChannelMap({ clock: new StoppedClock() });
  const [channel, peer] = await pair(map);
  channel.send(bytes("bye"));
  let ended = false;
  const closed = within(closeAll({ map })).then(() => ended = true);
  assertEquals(map.size, 0);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  assertEquals(ended, false);
  peer.close();
  await closed;
});

Deno.test("closeAll() ends a loop that runs", async () => {
  const map = new ChannelMap();
  listening(map);
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.handleRead = () => {
    channel.recv();
    return closeAll({ map });
  };
  await writeAll(peer, bytes("x"));
  await run(map);
  assertEquals(map.size, 0);
  assertEquals(channel.events, []);
});

Deno.test("loop(), poll() and closeAll() take the default map when none is given", async () => {
  const { code, stdout, stderr } = await script(
    `
    import { channelMap, closeAll, Dispatcher, loop, poll } from "./mod.ts";
    await loop();
    await poll();
    const server = new Dispatcher();
    server.createSocket();
    server.bind({ hostname: "127.0.0.1", port: 0 });
    server.listen();
    console.log(channelMap.size, [...channelMap][0] === server);
    await poll();
    await loop({ count: 2, timeout: 0 });
    console.log(channelMap.counters.passes);
    await closeAll();
    console.log(channelMap.size);
    await loop();
  `,
    "--allow-net",
  );
  assertEquals(stderr, "");
  assertEquals(stdout, "1 true\n3\n0\n");
  assertEquals(code, 0);
});

Deno.test("loop() keeps serving while the listener's clients come and go", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const { hostname, port } = server.addr as Deno.NetAddr;
  server.handleAccepted = (conn) => {
    const echo = new Recorder(conn, { map });
    echo.handleRead = () => void echo.send(echo.recv());
  };
  const served = run(map);
  for (let i = 0; i < 30; i++) {
    using conn = await Deno.connect({ hostname, port });
    await writeAll(conn, bytes(`${i}`));
    await conn.closeWrite();
    assertEquals(text(await readToEnd(conn)), `${i}`);
  }
  await until(() => map.size === 1);
  server.close();
  await served;
  assertEquals(map.counters.accepts, 30);
  assertGreater(map.counters.passes, 30);
});

Deno.test("loop() sleeps when idle, whatever the predicates say", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const server = listening(map);
  const [channel, peer] = await pair(map);
  using _ = peer;
  let calls = 0;
  channel.writable = () => true;
  channel.handleWrite = () => void calls++; // Sends nothing.
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(listener.addr as Deno.NetAddr);
  client.writable = () => true;
  using _client = await listener.accept();
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => client.connected && calls > 0);
  await turns(20);
  const { passes } = map.counters;
  const before = calls;
  await turns(50);
  assertEquals(map.counters.passes, passes);
  assertEquals(calls, before);
  controller.abort();
  await served;
  assertEquals(server.events, []);
});
