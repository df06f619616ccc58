import {
  assertEquals,
  assertInstanceOf,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { ChannelMap, type CloseReason, poll } from "../../mod.ts";
import {
  breakablePair,
  bytes,
  listenTcp,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  turns,
  writeAll,
} from "../net.ts";
import { connecting, listening, pair } from "./ends.ts";

Deno.test("6 an end of file is one handleClose(), and the scheduler closes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await writeAll(peer, bytes("bye"));
  peer.close();
  await run(map);
  assertEquals(channel.events, ["read bye", "read", "eof", "close eof"]);
  assertEquals(channel.reasons, [{ kind: "eof", bytesUnsent: 0 }]);
  assertEquals(channel.connected, false);
});

Deno.test("6 the write event of the pass that found the end of file still comes, no other", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    channel.writable = () => true;
    let taken = 0;
    channel.handleWrite = () => {
      channel.events.push("write");
      taken += channel.send(bytes("x"));
    };
    await serveUntil(map, () => channel.events.length > 0);
    await peer.closeWrite();
    const read = readToEnd(peer);
    await run(map, { usePoll });
    const end = channel.events.indexOf("read");
    assertEquals(channel.events.slice(end), [
      "read",
      "eof",
      "write",
      "close eof",
    ]);
    assertEquals((await read).length, taken);
  }
});

Deno.test("6 a reset is one handleClose() with Deno's error", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  await poll(0, map);
  await peer.reset();
  await run(map);
  assertEquals(channel.events, ["read", "close reset"]);
  assertInstanceOf(channel.reasons[0]?.error, Deno.errors.ConnectionReset);
});

Deno.test("6 an async handleClose() is waited for before the scheduler closes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const gate = Promise.withResolvers<void>();
  const states: boolean[] = [];
  let entered = false;
  channel.handleClose = async () => {
    entered = true;
    states.push(map.size === 1, channel.closing);
    await gate.promise;
    states.push(map.size === 1, channel.closing);
  };
  peer.close();
  const served = run(map);
  while (!entered) await turns(1);
  await turns();
  gate.resolve();
  await served;
  assertEquals(states, [true, true, true, true]);
  assertEquals(map.size, 0);
});

Deno.test("6 reconnecting in handleClose() works", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  const kinds: string[] = [];
  client.handleClose = (reason?: CloseReason) => {
    kinds.push(reason!.kind);
    client.close();
    if (kinds.length === 3) return;
    client.createSocket();
    client.connect(listener.addr as Deno.NetAddr);
  };
  const greetings = (async () => {
    for (let i = 1; i <= 3; i++) {
      using conn = await listener.accept();
      if (i === 1) await writeAll(conn, bytes("only one"));
    }
  })();
  await run(map);
  await greetings;
  assertEquals(kinds, ["eof", "eof", "eof"]);
  // Each of them has an end of its own.
  assertEquals(
    client.events,
    ["connect", "read only one", "read", "eof"].concat(
      ["connect", "read", "eof"],
      ["connect", "read", "eof"],
    ),
  );
  assertEquals(client.errors, []);
});

Deno.test("6 reconnecting without close() is refused, since the socket is still there", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const logged: string[] = [];
  channel.logInfo = (message, type) => void logged.push(`${type} ${message}`);
  channel.handleClose = () => channel.createSocket();
  peer.close();
  await run(map);
  // What handleClose() throws is logged, and the socket closed.
  assertEquals(logged.length, 1);
  assertStringIncludes(logged[0]!, "Cannot create socket");
  assertEquals(channel.events, ["read", "eof"]);
  assertEquals(channel.connected, false);
});

Deno.test("6 disconnect() in a handler is served in this or the next pass", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const error = new Error("enough");
  channel.writable = () => true;
  channel.handleRead = () => {
    channel.events.push("read");
    channel.disconnect({ kind: "limit", error });
  };
  channel.handleWrite = () => {};
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.events.length > 0);
  if (map.size > 0) await poll(0, map);
  assertEquals(channel.events, ["read", "close limit"]);
  assertStrictEquals(channel.reasons[0]?.error, error);
  assertEquals(map.size, 0);
});

Deno.test("6 disconnect() in handleConnect() is followed by handleClose() only", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => true;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      client.disconnect({ kind: "done" });
    };
    await run(map, { usePoll });
    assertEquals(client.events, ["connect", "close done"]);
  }
});

Deno.test("6 disconnect() of a channel that was added in the same pass leads to handleClose()", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [server, addr] = listening(map);
    let child: Recorder | undefined;
    server.handleAccepted = (conn) => {
      child = new Recorder(conn, { map });
      child.disconnect({ kind: "limit" });
      server.close();
    };
    using peer = await Deno.connect(addr);
    await run(map, { usePoll });
    assertEquals(child?.events, ["close limit"]);
    await readToEnd(peer).catch(() => {});
  }
});
