import { assertEquals } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  readToEnd,
  run,
  serveUntil,
  text,
  turns,
  until,
  writeAll,
} from "../net.ts";
import { listening, pair } from "./ends.ts";

Deno.test("14 map.wake() and wake() end the wait", async () => {
  for (const who of ["map", "channel"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    let wanted = false;
    channel.readable = () => false;
    channel.writable = () => wanted;
    channel.handleWrite = () => channel.close();
    const served = run(map);
    await turns(); // It waits.
    wanted = true;
    (who === "map" ? map : channel).wake();
    await served;
  }
});

Deno.test("14 send(), close() and disconnect() from outside end the wait", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.readable = () => false;
  let served = run(map);
  await turns();
  channel.close();
  await served;

  const [other, otherPeer] = await pair(map);
  using _other = otherPeer;
  other.readable = () => false;
  served = run(map);
  await turns();
  other.disconnect({ kind: "done" });
  await served;
  assertEquals(other.events, ["close done"]);

  const [third, thirdPeer] = await pair(map, { sendBufferSize: 10 });
  using _third = thirdPeer;
  third.readable = () => false;
  let full = true;
  third.writable = () => !full;
  third.handleWrite = () => third.close();
  served = run(map);
  await turns();
  full = false;
  third.send(bytes("x"));
  await readToEnd(thirdPeer);
  thirdPeer.close();
  await served;
});

Deno.test("14 recv() from outside takes what a read event was due for, and reading goes on", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await poll(0, map);
  await writeAll(peer, bytes("taken"));
  await until(() => channel.bytesRead === 5);
  assertEquals(text(channel.recv()), "taken");
  await writeAll(peer, bytes("next"));
  peer.close();
  await run(map);
  assertEquals(channel.events, ["read next", "read", "eof", "close eof"]);
});

Deno.test("14 accept() from outside takes what an accept event was due for, and accepting goes on", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  await poll(0, map);
  using first = await Deno.connect(addr);
  let taken: [Deno.Conn, Deno.Addr] | null = null;
  await until(() => (taken = server.accept()) !== null);
  using second = await Deno.connect(addr);
  await serveUntil(map, () => server.events.length > 0);
  taken![0].close();
  assertEquals((await readToEnd(first)).length, 0);
  assertEquals((await readToEnd(second)).length, 0);
  assertEquals(server.events, ["accepted"]);
});

Deno.test("14 a channel that comes from outside is served by the waiting loop", async () => {
  await using map = new ChannelMap();
  const [server] = listening(map);
  const served = run(map);
  await turns();
  const [channel, peer] = await pair(map);
  await writeAll(peer, bytes("hello"));
  peer.close();
  channel.handleClose = () => server.close();
  await served;
  assertEquals(channel.received, "hello");
});
