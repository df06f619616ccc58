import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStrictEquals,
} from "@std/assert";
import { ChannelMap, Dispatcher, poll } from "../../mod.ts";
import {
  bytes,
  listenTcp,
  run,
  serveUntil,
  tempDir,
  turns,
  writeAll,
} from "../net.ts";
import { connecting, pair } from "./ends.ts";

Deno.test("8 handleConnect() runs once, before the first read or write event", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => client.events.length < 6;
    const peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    await turns();
    const states: boolean[] = [];
    client.handleConnect = () => {
      client.events.push("connect");
      states.push(client.connected, client.connecting);
    };
    await serveUntil(map, () => client.received !== "");
    peer.close();
    await run(map, { usePoll });
    assertEquals(client.events[0], "connect");
    assertEquals(
      client.events.filter((event) => event === "connect").length,
      1,
    );
    assertEquals(states, [true, false]);
    assertEquals(map.counters.connects, 1);
  }
});

Deno.test("8 handleConnect() waits for a predicate", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  let wanted = false;
  client.readable = () => false;
  client.writable = () => wanted;
  using _ = await listener.accept();
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(client.events, []);
  assertEquals(client.connected, false);
  assertEquals(client.connecting, true);
  wanted = true;
  client.wake();
  await serveUntil(map, () => client.events.length > 0);
  assertEquals(client.events[0], "connect");
});

Deno.test("8 a connection without data leads to connect, then write", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  client.writable = () => client.events.length < 2;
  using _ = await listener.accept();
  await serveUntil(map, () => client.events.length > 1);
  assertEquals(client.events, ["connect", "write"]);
});

Deno.test("8 a client that only reads is told of its connection with the first data", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  client.writable = () => false;
  using peer = await listener.accept();
  await writeAll(peer, bytes("hello"));
  await serveUntil(map, () => client.received !== "");
  assertEquals(client.events, ["connect", "read hello"]);
});

Deno.test("8 handleConnect() never runs for an adopted connection", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.writable = () => true;
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.received !== "");
  peer.close();
  await run(map);
  assert(!channel.events.includes("connect"));
  assertEquals(map.counters.connects, 0);
});

Deno.test("8 an error in handleConnect() ends the connection, and it is not called again", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  let calls = 0;
  client.handleConnect = () => {
    calls++;
    throw new Error("not like this");
  };
  client.handleError = Dispatcher.prototype.handleError;
  client.logInfo = () => {};
  using _ = await listener.accept();
  await run(map);
  assertEquals(calls, 1);
  assertEquals(client.events, ["close error"]);
});

Deno.test("8 a failed connect is one handleError(), whatever the predicates say", async () => {
  using dir = tempDir();
  Deno.writeTextFileSync(`${dir.path}/file`, "");
  const refused = listenTcp();
  refused.close();
  const cases: [string, Deno.Addr, new (...args: never[]) => Error][] = [
    ["nobody listens", refused.addr, Deno.errors.ConnectionRefused],
    ["no such name", { transport: "tcp", hostname: "-", port: 9 }, Error],
    ["no name at all", { transport: "tcp", hostname: "a b", port: 9 }, Error],
    [
      "no such path",
      { transport: "unix", path: `${dir.path}/none` },
      Deno.errors.NotFound,
    ],
    [
      "no socket",
      { transport: "unix", path: `${dir.path}/file` },
      Deno.errors.ConnectionRefused,
    ],
    ["path too long", {
      transport: "unix",
      path: `/${"x".repeat(200)}`,
    }, Error],
  ];
  for (const [what, addr, type] of cases) {
    for (const wanted of [true, false]) {
      await using map = new ChannelMap();
      const client = connecting(map, addr);
      client.readable = client.writable = () => wanted;
      assert(client.connecting, what);
      await run(map);
      assertEquals(client.events, ["error", "close error"], what);
      assertInstanceOf(client.errors[0], type, what);
      assertStrictEquals(client.reasons[0]?.error, client.errors[0], what);
      assertEquals(client.connected, false, what);
      assertEquals(client.connecting, false, what);
    }
  }
});

Deno.test("8 reconnecting in handleError() works, and no handleClose() follows", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, refused.addr);
  client.handleError = (error) => {
    client.errors.push(error);
    client.close();
    client.createSocket();
    client.connect(
      (client.errors.length < 3 ? refused : listener).addr as Deno.NetAddr,
    );
  };
  const greeting = (async () => {
    using conn = await listener.accept();
    await writeAll(conn, bytes("at last"));
  })();
  await run(map);
  await greeting;
  assertEquals(client.errors.length, 3);
  assertEquals(client.received, "at last");
  assertEquals(client.events, [
    "connect",
    "read at last",
    "read",
    "eof",
    "close eof",
  ]);
});

Deno.test("8 close() in handleError() ends it without a handleClose()", async () => {
  await using map = new ChannelMap();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, refused.addr);
  client.handleError = () => {
    client.events.push("error");
    client.close();
  };
  await run(map);
  assertEquals(client.events, ["error"]);
});
