import { assertEquals } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  listenTcp,
  noise,
  readExactly,
  readToEnd,
  type Recorder,
  run,
  serveUntil,
  text,
  turns,
  until,
  writeAll,
} from "../net.ts";
import { connecting, listening, pair, sha256 } from "./ends.ts";

Deno.test("18 delChannel() takes back the events of the running pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map, { usePoll });
    await writeAll(peer1, bytes("1"));
    await writeAll(peer2, bytes("2"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first suspends both.
    let suspend = true;
    for (const channel of [first, second]) {
      channel.handleRead = () => {
        channel.received += text(channel.recv());
        if (!suspend) return;
        first.delChannel();
        second.delChannel();
      };
    }
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals((first.received + second.received).length, 1);
    assertEquals(map.size, 0);
    suspend = false;
    first.addChannel();
    second.addChannel();
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals([first.received, second.received], ["1", "2"]);
  }
});

Deno.test("18 a channel that another one moves to another map is served there", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    await using other = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map);
    await writeAll(peer1, bytes("1"));
    await writeAll(peer2, bytes("2"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first moves the other one.
    const ran: Recorder[] = [];
    const move = (channel: Recorder, moved: Recorder) => {
      channel.handleRead = () => {
        channel.received += text(channel.recv());
        if (ran.push(channel) === 1) moved.addChannel(other);
      };
    };
    move(first, second);
    move(second, first);
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals(ran.length, 1);
    assertEquals([map.size, other.size], [1, 1]);
    await serveUntil(other, () => ran.length === 2);
    assertEquals([first.received, second.received], ["1", "2"]);
  }
});

Deno.test("18 what was in flight at delChannel() is kept for addChannel()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await poll(0, map); // A read is in flight.
  channel.delChannel();
  await writeAll(peer, bytes("kept"));
  peer.close();
  await until(() => channel.bytesRead === 4);
  await run(map);
  assertEquals(channel.events, []);
  channel.addChannel();
  await run(map);
  assertEquals(channel.events, ["read kept", "read", "eof", "close eof"]);
});

Deno.test("18 an end that is due waits, too", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.disconnect({ kind: "limit" });
  channel.delChannel();
  await run(map);
  assertEquals(channel.events, []);
  channel.addChannel();
  await run(map);
  assertEquals(channel.events, ["close limit"]);
});

Deno.test("18 a listener keeps the connection it had asked for", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  await poll(0, map);
  server.delChannel();
  using peer = await Deno.connect(addr);
  await turns();
  await run(map);
  assertEquals(server.events, []);
  server.addChannel();
  await serveUntil(map, () => server.events.length > 0);
  assertEquals(server.events, ["accepted"]);
  assertEquals((await readToEnd(peer)).length, 0);
});

Deno.test("18 a connect that ends while suspended is told afterwards", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, listener.addr);
  const failing = connecting(map, refused.addr);
  client.delChannel();
  failing.delChannel();
  using _ = await listener.accept();
  await turns(10);
  await run(map);
  assertEquals([client.events, failing.events], [[], []]);
  client.addChannel();
  failing.addChannel();
  await serveUntil(
    map,
    () => client.events.length > 0 && failing.reasons.length > 0,
  );
  assertEquals(client.events, ["connect"]);
  assertEquals(failing.events, ["error", "close error"]);
});

Deno.test("18 bytes that send() took are written while suspended", async () => {
  await using map = new ChannelMap();
  const size = 20_000_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  const data = noise(size);
  channel.send(data);
  channel.delChannel();
  const got = await readExactly(peer, size);
  assertEquals(await sha256(got), await sha256(data));
  channel.close();
  peer.close();
  await turns();
});

Deno.test("18 delChannel() and addChannel() in a handler change nothing for the next events", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.handleRead = () => {
    channel.received += text(channel.recv(1));
    channel.delChannel();
    channel.addChannel();
  };
  await writeAll(peer, bytes("abc"));
  peer.close();
  await run(map);
  assertEquals(channel.received, "abc");
  assertEquals(channel.events, ["eof", "close eof"]);
});

Deno.test("18 a channel may change its map in a handler", async () => {
  await using map = new ChannelMap();
  await using other = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.handleRead = () => {
    channel.received += text(channel.recv(1));
    channel.addChannel(channel.received.length % 2 ? other : map);
  };
  await writeAll(peer, bytes("abcd"));
  peer.close();
  for (let i = 1; i <= 4; i++) await run(i % 2 ? map : other);
  assertEquals(channel.received, "abcd");
  await run(map);
  assertEquals(channel.events, ["eof", "close eof"]);
});
