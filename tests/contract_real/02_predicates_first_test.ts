import { assertEquals, assertLess } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  listenTcp,
  noise,
  readToEnd,
  run,
  serveUntil,
  turns,
  until,
  writeAll,
} from "../net.ts";
import { connecting, listening, pair } from "./ends.ts";

Deno.test("2 nothing is delivered while readable() is false", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const [beside, besidePeer] = await pair(map);
  using _beside = besidePeer;
  let wanted = false;
  channel.readable = () => wanted;
  await writeAll(peer, bytes("kept"));
  for (let i = 1; i <= 5; i++) {
    await writeAll(besidePeer, bytes(`${i}`));
    await serveUntil(map, () => beside.events.length === i);
  }
  assertEquals(channel.events, []);
  assertEquals(channel.bytesRead, 0);
  wanted = true;
  channel.wake();
  await serveUntil(map, () => channel.events.length > 0);
  assertEquals(channel.events, ["read kept"]);
});

Deno.test("2 data that arrived waits while readable() has become false", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let wanted = true;
  channel.readable = () => wanted;
  await poll(0, map); // Starts the read.
  await writeAll(peer, bytes("kept"));
  wanted = false;
  await until(() => channel.bytesRead === 4);
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(channel.events, []);
  peer.close();
  wanted = true;
  channel.wake();
  await run(map);
  assertEquals(channel.events, ["read kept", "read", "eof", "close eof"]);
});

Deno.test("2 the peer stops when its data is not wanted", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let wanted = true;
  let got = 0;
  channel.readable = () => wanted;
  channel.handleRead = () => void (got += channel.recv().length);
  await poll(0, map);
  wanted = false;
  // More than the kernel's buffers hold on both sides.
  const data = noise(20_000_000);
  let written = 0;
  const writing = (async () => {
    while (written < data.length) {
      written += await peer.write(data.subarray(written));
    }
    peer.close();
  })();
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(got, 0);
  assertLess(written, data.length);
  assertLess(channel.bytesRead, 300_000);
  wanted = true;
  channel.wake();
  await run(map);
  await writing;
  assertEquals(got, data.length);
});

Deno.test("2 a predicate that handleConnect() makes false holds the rest of the event", async () => {
  for (const direction of ["readable", "writable"] as const) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    let wanted = true;
    client.readable = client.writable = () => false;
    client[direction] = () => wanted;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      wanted = false;
    };
    const served = run(map);
    await until(() => client.connected);
    await turns(20);
    assertEquals(client.events, ["connect"]);
    wanted = true;
    client.wake();
    await until(() => client.events.length > 1);
    client.close();
    await served;
    assertEquals(
      client.events[1],
      direction === "readable" ? "read hello" : "write",
    );
  }
});

Deno.test("2 nothing is accepted while a listener's readable() is false", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let wanted = false;
  server.readable = () => wanted;
  using peer = await Deno.connect(addr);
  using second = await Deno.connect(addr);
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(server.events, []);
  assertEquals(map.counters.accepts, 0);
  wanted = true;
  server.wake();
  await serveUntil(map, () => server.events.length === 2);
  assertEquals(server.events, ["accepted", "accepted"]);
  assertEquals((await readToEnd(peer)).length, 0);
  assertEquals((await readToEnd(second)).length, 0);
});

Deno.test("2 a connection that was asked for before waits undelivered", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let wanted = true;
  server.readable = () => wanted;
  await poll(0, map); // Starts an accept.
  wanted = false;
  const peers = [await Deno.connect(addr), await Deno.connect(addr)];
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(server.events, []);
  // It belongs to the listener, which closes it.
  server.close();
  for (const peer of peers) {
    // The other one was never accepted: the kernel resets it.
    const got = await readToEnd(peer).catch(() => new Uint8Array(0));
    assertEquals(got.length, 0);
    peer.close();
  }
});
