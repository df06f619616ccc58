import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import {
  type Channel,
  ChannelMap,
  channelMap,
  Dispatcher,
  loop,
  poll,
} from "../mod.ts";
import { FakeConn, settle, World } from "./fakes.ts";
import {
  bytes,
  listenTcp,
  readExactly,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  StoppedClock,
  tcpPair,
  text,
  turns,
  until,
  within,
  writeAll,
} from "./net.ts";

const ZERO = {
  passes: 0,
  reads: 0,
  writes: 0,
  accepts: 0,
  connects: 0,
  closes: 0,
  errors: 0,
  bytesRead: 0,
  bytesWritten: 0,
};

function idle(map: ChannelMap): Recorder {
  const dispatcher = new Recorder(null, { map });
  dispatcher.createSocket();
  return dispatcher;
}

Deno.test("ChannelMap iterates over its channels in the order in which they were added", () => {
  const map = new ChannelMap();
  assertEquals([...map], []);
  const [a, b, c] = [idle(map), idle(map), idle(map)];
  assertEquals([...map], [a, b, c]);
  assertEquals(map.size, 3);
  b.close();
  assertEquals([...map], [a, c]);
  b.createSocket();
  assertEquals([...map], [a, c, b]);
  a.delChannel();
  a.addChannel();
  assertEquals([...map], [c, b, a]);
  for (const channel of [a, b, c]) channel.close();
  assertEquals(map.size, 0);
});

Deno.test("ChannelMap may be iterated over while its channels are closed", () => {
  const map = new ChannelMap();
  const channels = Array.from({ length: 5 }, () => idle(map));
  const seen: Channel[] = [];
  for (const channel of map) {
    seen.push(channel);
    channel.close();
  }
  assertEquals(seen, channels);
  assertEquals(map.size, 0);
});

Deno.test("ChannelMap knows its channels by identity", () => {
  const map = new ChannelMap();
  const dispatcher = idle(map);
  dispatcher.addChannel();
  dispatcher.addChannel(map);
  assertEquals(map.size, 1);
  assertStrictEquals([...map][0], dispatcher);
  dispatcher.close();
});

Deno.test("channelMap is what dispatchers enter where none is given", () => {
  const before = channelMap.size;
  const dispatcher = new Dispatcher();
  dispatcher.createSocket();
  assertEquals(channelMap.size, before + 1);
  assertStrictEquals([...channelMap].at(-1), dispatcher);
  const map = new ChannelMap();
  assertEquals(map.size, 0);
  dispatcher.close();
  assertEquals(channelMap.size, before);
});

Deno.test("ChannelMap is private: nobody else's channels are served", async () => {
  await using map = new ChannelMap();
  await using other = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const [conn2, peer2] = await tcpPair();
  using _1 = peer;
  using _2 = peer2;
  const mine = new Recorder(conn, { map });
  const theirs = new Recorder(conn2, { map: other });
  await writeAll(peer2, bytes("theirs"));
  await writeAll(peer, bytes("mine"));
  await serveUntil(map, () => mine.received === "mine");
  await turns();
  assertEquals(theirs.events, []);
  assertEquals(other.counters, ZERO);
  await serveUntil(other, () => theirs.received === "theirs");
});

Deno.test("counters say what has happened", async () => {
  await using map = new ChannelMap();
  assertEquals(map.counters, ZERO);
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  server.handleAccepted = (conn) => {
    const echo = new Recorder(conn, { map });
    echo.handleRead = () => void echo.send(echo.recv());
    server.close();
  };
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(server.addr as Deno.NetAddr);
  client.writable = () => !client.connected;
  client.handleConnect = () => void client.send(bytes("four"));
  client.handleRead = () => {
    client.received += text(client.recv());
    if (client.received === "four") client.close();
  };
  await run(map);
  const { passes, reads, writes, ...others } = map.counters;
  assertEquals(others, {
    accepts: 1,
    connects: 1,
    closes: 3,
    errors: 0,
    bytesRead: 8,
    bytesWritten: 8,
  });
  // An accept, the data there and back, the end of file: in four passes or more.
  assertEquals(reads, 4);
  assertEquals(writes, 1);
  assert(passes >= 3);
});

Deno.test("counters count errors, and each closed channel once", async () => {
  await using map = new ChannelMap();
  const refused = listenTcp();
  refused.close();
  const client = idle(map);
  client.connect(refused.addr as Deno.NetAddr);
  await run(map);
  client.close();
  assertEquals(map.counters.errors, 1);
  assertEquals(map.counters.closes, 1);
  assertEquals(map.counters.connects, 0);

  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.handleRead = () => {
    throw new Error("no");
  };
  channel.handleError = Dispatcher.prototype.handleError;
  channel.logInfo = () => {};
  await writeAll(peer, bytes("x"));
  await run(map);
  assertEquals(map.counters.errors, 2);
  assertEquals(map.counters.closes, 2);
});

Deno.test("counters are a snapshot", async () => {
  await using map = new ChannelMap();
  idle(map);
  const before = map.counters;
  const { passes } = before;
  await loop({ map, count: 1, timeout: 0 });
  assertEquals(before.passes, passes);
  assertEquals(map.counters.passes, passes + 1);
  assertNotStrictEquals(map.counters, before);
});

Deno.test("wake() is remembered: the next pass does not wait", async () => {
  await using map = new ChannelMap();
  idle(map);
  map.wake();
  map.wake();
  await within(poll(Infinity, map));
  assertEquals(map.counters.passes, 1);
  // Two at once are one: the one after it waits again.
  let ended = false;
  const polled = within(poll(Infinity, map)).then(() => ended = true);
  await turns(10);
  assertEquals(ended, false);
  map.wake();
  await polled;
  assertEquals(map.counters.passes, 2);
});

Deno.test("wake() has every channel asked", async () => {
  await using map = new ChannelMap();
  const asked = new Set<Recorder>();
  const peers: Deno.Conn[] = [];
  for (let i = 0; i < 5; i++) {
    const [conn, peer] = await tcpPair();
    peers.push(peer);
    const channel = new Recorder(conn, { map });
    channel.readable = () => {
      asked.add(channel);
      return false;
    };
  }
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => asked.size === 5);
  await turns(10);
  asked.clear();
  await turns(10);
  assertEquals(asked.size, 0);
  map.wake();
  await until(() => asked.size === 5);
  controller.abort();
  await served;
  for (const peer of peers) peer.close();
});

Deno.test("wake() serves again what was served without progress", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  let calls = 0;
  channel.handleRead = () => void calls++;
  await writeAll(peer, bytes("x"));
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => calls === 1);
  await turns(10);
  assertEquals(calls, 1);
  map.wake();
  await until(() => calls === 2);
  await turns(10);
  assertEquals(calls, 2);
  controller.abort();
  await served;
});

Deno.test("Symbol.asyncDispose closes every channel and waits for what lingers", async () => {
  const map = new ChannelMap({ clock: new StoppedClock() });
  const [conn, peer] = await tcpPair();
  const channel = new Recorder(conn, { map });
  const server = idle(map);
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  channel.send(bytes("bye"));
  let ended = false;
  const disposed = within(map[Symbol.asyncDispose]()).then(() => ended = true);
  assertEquals(map.size, 0);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  assertEquals(ended, false);
  peer.close();
  await disposed;
  assertEquals(channel.events, []);
  assertEquals(server.accepting, false);
  // Again, with nothing left.
  await within(map[Symbol.asyncDispose]());
});

Deno.test("Symbol.asyncDispose tells what failed after closing all", async () => {
  const map = new ChannelMap();
  const channels = [idle(map), idle(map), idle(map)];
  const error = new Error("no");
  channels[1]!.close = () => {
    Dispatcher.prototype.close.call(channels[1]);
    throw error;
  };
  const failure = await assertRejects(
    () => within(map[Symbol.asyncDispose]()),
    AggregateError,
  );
  assertInstanceOf(failure, AggregateError);
  assertEquals(failure.errors.length, 1);
  assertStrictEquals(failure.errors[0], error);
  assertEquals(map.size, 0);
});

Deno.test("ChannelMap takes its time from its clock", async () => {
  const clock = new StoppedClock();
  await using map = new ChannelMap({ clock });
  idle(map);
  let ended = false;
  const served = loop({ map, count: 1, timeout: 1_000 }).then(() =>
    ended = true
  );
  await turns();
  await clock.advance(999);
  assertEquals(ended, false);
  await clock.advance(1);
  await within(served);
});

Deno.test("ChannelMap may be filled again after it was empty", async () => {
  await using map = new ChannelMap();
  for (let i = 0; i < 3; i++) {
    const [conn, peer] = await tcpPair();
    const channel = new Recorder(conn, { map });
    channel.handleRead = () => {
      channel.send(channel.recv());
      channel.close();
    };
    await writeAll(peer, bytes("again"));
    const answer = readExactly(peer, 5).then((got) => {
      peer.close();
      return got;
    });
    await run(map);
    assertEquals(text(await answer), "again");
  }
  assertEquals(map.counters.closes, 3);
});

Deno.test("counters count what a socket writes after it was closed", async () => {
  const world = new World();
  const conn = new FakeConn();
  conn.onWrite = "wait";
  const dispatcher = new Dispatcher(conn, { map: world.map });
  dispatcher.send(bytes("response"));
  dispatcher.close();
  const served = loop({ map: world.map });
  await settle();
  assertEquals(world.map.counters.bytesWritten, 0);
  conn.release(5);
  await settle();
  assertEquals(world.map.counters.bytesWritten, 5);
  conn.release();
  conn.end();
  await served;
  assertEquals([conn.sent, dispatcher.bytesWritten], ["response", 8]);
  assertEquals(world.map.counters.bytesWritten, 8);
});
