import { assertEquals, assertStrictEquals } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  listenTcp,
  readToEnd,
  type Recorder,
  run,
  serveUntil,
  tempDir,
  text,
  turns,
  until,
  within,
  writeAll,
} from "../net.ts";
import { connecting, pair } from "./ends.ts";

Deno.test("5 no handler runs after close(), not even for what has arrived", async () => {
  for (
    const [how, close] of [
      ["outside", (channel: Recorder) => channel.close()],
      ["aborted", (channel: Recorder) => channel.abort()],
    ] as const
  ) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    await poll(0, map);
    await writeAll(peer, bytes("x"));
    await until(() => channel.bytesRead === 1); // It has arrived.
    close(channel);
    peer.close();
    await turns();
    await run(map);
    assertEquals(channel.events, [], how);
  }
});

Deno.test("5 one channel may close the other in the same pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map, { usePoll });
    await writeAll(peer1, bytes("x"));
    await writeAll(peer2, bytes("y"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first closes the other one.
    const ran: string[] = [];
    first.handleRead = () => {
      ran.push("first");
      first.recv();
      second.close();
    };
    second.handleRead = () => {
      ran.push("second");
      second.recv();
      first.close();
    };
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals(ran.length, 1);
    assertEquals([...first.events, ...second.events], []);
    assertEquals(map.size, 1);
  }
});

Deno.test("5 close() in one event takes back the other one of the same pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    await poll(0, map);
    await writeAll(peer, bytes("x"));
    await until(() => channel.bytesRead === 1);
    channel.writable = () => true;
    channel.handleRead = () => {
      channel.events.push("read");
      channel.close();
    };
    channel.wake();
    await poll(0, map, { usePoll });
    await poll(0, map, { usePoll });
    assertEquals(channel.events.filter((event) => event === "read").length, 1);
    assertEquals(channel.events.at(-1), "read");
  }
});

Deno.test("5 handleError() still comes for what a handler throws after its own close()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const error = new Error("afterwards");
  channel.handleRead = () => {
    channel.close();
    throw error;
  };
  await writeAll(peer, bytes("x"));
  await run(map);
  assertEquals(channel.events, ["error"]);
  assertStrictEquals(channel.errors[0], error);

  const [late, latePeer] = await pair(map);
  using _late = latePeer;
  late.handleRead = async () => {
    late.close();
    await null;
    throw error;
  };
  await writeAll(latePeer, bytes("x"));
  await run(map);
  assertEquals(late.events, ["error"]);
});

Deno.test("5 nothing of the old socket reaches the dispatcher's next one", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  using listener = listenTcp();
  await poll(0, map);
  await writeAll(peer, bytes("old"));
  await until(() => channel.bytesRead === 3); // A read event is due.
  channel.send(bytes("answer"));
  channel.disconnect({ kind: "error" }); // So is a close event.
  channel.close();
  channel.createSocket();
  channel.connect(listener.addr as Deno.NetAddr);
  channel.writable = () => !channel.connected;
  using newPeer = await listener.accept();
  await writeAll(newPeer, bytes("new"));
  await serveUntil(map, () => channel.received !== "");
  assertEquals(channel.events, ["connect", "read new"]);
  assertEquals(channel.bytesRead, 3);
  assertEquals(channel.bytesWritten, 0);
  // The old one's bytes were not lost either.
  assertEquals(text(await readToEnd(peer)), "answer");
});

Deno.test("5 a socket that is closed while it connects never connects", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  using peer = await listener.accept();
  await turns(); // The connection is there, and nobody knows.
  client.close();
  assertEquals((await readToEnd(peer)).length, 0);
  await run(map);
  assertEquals(client.events, []);
});

Deno.test("5 what ends the channel in the read event of the end of file leaves no handleEof()", async () => {
  const ways: Record<string, (channel: Recorder) => void> = {
    close: (channel) => channel.close(),
    abort: (channel) => channel.abort(),
    disconnect: (channel) => channel.disconnect({ kind: "done" }),
    delChannel: (channel) => channel.delChannel(),
  };
  for (const [how, leave] of Object.entries(ways)) {
    for (const late of [false, true]) {
      await using map = new ChannelMap();
      const [channel, peer] = await pair(map);
      channel.handleRead = () => {
        channel.events.push("read");
        assertEquals(channel.recv().length, 0);
        if (!late) return leave(channel);
        return turns(1).then(() => leave(channel));
      };
      peer.close();
      await run(map);
      const rest = how === "disconnect" ? ["close done"] : [];
      assertEquals(channel.events, ["read", ...rest], how);
      if (how !== "delChannel") continue;
      // The end was served, but not told.
      channel.addChannel();
      await run(map);
      assertEquals(channel.events, ["read", "eof", "close eof"]);
    }
  }
});

Deno.test("5 a connection that comes after close() is closed", async () => {
  using dir = tempDir();
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    using listener: Deno.Listener = unix
      ? Deno.listen({ transport: "unix", path: `${dir.path}/s` })
      : listenTcp();
    for (const hops of [0, 1, 2]) {
      const client = connecting(map, listener.addr);
      const accepted = listener.accept();
      await turns(hops);
      client.close();
      // In time or not, nobody holds it.
      using peer = await within(accepted);
      assertEquals((await readToEnd(peer)).length, 0);
      assertEquals(client.events, []);
    }
  }
});

Deno.test("5 close() in handleConnect() is the last event", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => true;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      client.send(bytes("bye"));
      client.close();
    };
    const read = readToEnd(peer).then((got) => {
      peer.close();
      return text(got);
    });
    await run(map, { usePoll });
    assertEquals(client.events, ["connect"]);
    assertEquals(await read, "bye");
  }
});

Deno.test("5 a listener of signal may close the channel while it ends", async () => {
  for (const how of ["disconnect", "close", "abort", "eof"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    let aborted = 0;
    channel.signal.addEventListener("abort", () => {
      aborted++;
      channel.close();
      channel.abort();
    });
    if (how === "eof") await peer.closeWrite();
    else if (how === "disconnect") channel.disconnect({ kind: "error" });
    else channel[how]();
    await run(map);
    assertEquals(aborted, 1, how);
    assertEquals(channel.reasons.length, 0, how);
    assertEquals(map.size, 0, how);
  }
});
