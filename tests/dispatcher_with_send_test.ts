import { assert, assertEquals, assertGreater, assertThrows } from "@std/assert";
import {
  ChannelMap,
  type CloseReason,
  DispatcherWithSend,
  loop,
} from "../mod.ts";
import { FakeConn, settle, World } from "./fakes.ts";
import {
  breakablePair,
  bytes,
  listenTcp,
  noise,
  readExactly,
  readToEnd,
  run,
  serveUntil,
  StoppedClock,
  tcpPair,
  text,
  turns,
  unixPair,
  until,
  writeAll,
} from "./net.ts";

/** Notes what happens to it. */
class Sender extends DispatcherWithSend {
  readonly events: string[] = [];
  readonly reasons: (CloseReason | undefined)[] = [];
  override handleConnect() {
    this.events.push("connect");
  }
  override handleRead() {
    this.events.push(`read ${text(this.recv())}`.trim());
  }
  override handleClose(reason?: CloseReason) {
    this.events.push(`close ${reason?.kind}`);
    this.reasons.push(reason);
  }
  override logInfo(message: string, type = "info") {
    this.events.push(`${type} ${message}`);
  }
}

function connecting(map: ChannelMap, addr: Deno.Addr): Sender {
  const sender = new Sender(null, { map });
  sender.createSocket();
  sender.connect(addr as Deno.NetAddr);
  return sender;
}

Deno.test("send() queues everything and returns the length", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const sender = new Sender(conn, { map });
  const data = noise(20_000_000);
  assertEquals(sender.send(data), data.length);
  assertEquals(sender.send(data.subarray(0, 7)), 7);
  assertEquals(sender.send(new Uint8Array(0)), 0);
  const served = run(map);
  assertEquals(await readExactly(peer, data.length), data);
  assertEquals(await readExactly(peer, 7), data.subarray(0, 7));
  peer.close();
  await served;
});

Deno.test("send() queues before the connection is there, and before any pass", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const sender = connecting(map, listener.addr);
  assertEquals(sender.connecting, true);
  const data = noise(3_000_000);
  for (let at = 0; at < 3; at++) {
    const piece = data.subarray(at * 1_000_000, (at + 1) * 1_000_000);
    assertEquals(sender.send(piece), 1_000_000);
  }
  const peer = await listener.accept();
  const read = readExactly(peer, data.length).then((got) => {
    peer.close();
    return got;
  });
  await run(map);
  assertEquals(await read, data);
  assertEquals(sender.events, ["connect", "read", "close eof"]);
});

Deno.test("send() copies: the bytes may be changed afterwards", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const sender = connecting(map, listener.addr);
  const data = bytes("right");
  sender.send(data);
  data.fill(0);
  using peer = await listener.accept();
  await serveUntil(map, () => sender.connected);
  assertEquals(text(await readExactly(peer, 5)), "right");
});

Deno.test("send() keeps the order of many small pieces", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await unixPair();
  const sender = new Sender(conn, { map });
  const data = noise(400_000);
  let at = 0;
  // Pieces of all sizes, while a write is under way and while none is.
  for (let size = 1; at < data.length; size = size % 997 + 1) {
    at += sender.send(data.subarray(at, at + size));
    if (size % 100 === 0) await null;
  }
  const served = run(map);
  assertEquals(await readExactly(peer, data.length), data);
  peer.close();
  await served;
});

Deno.test("send() returns 0 after close() and once the connection has ended", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const sender = new Sender(conn, { map });
  peer.close();
  let inClose: number | undefined;
  sender.handleClose = () => void (inClose = sender.send(bytes("x")));
  await run(map);
  assertEquals(inClose, 0);
  assertEquals(sender.send(bytes("x")), 0);

  const [conn2, peer2] = await tcpPair();
  using _ = peer2;
  const closed = new Sender(conn2, { map });
  closed.close();
  assertEquals(closed.send(bytes("x")), 0);
});

Deno.test("send() refuses what is no Uint8Array, and where nothing can be sent", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const sender = new Sender(conn, { map });
  for (const data of ["x", undefined, null, [1], new ArrayBuffer(1)]) {
    assertThrows(
      () => sender.send(data as unknown as Uint8Array),
      TypeError,
      "Cannot send",
    );
  }
  sender.shutdown("write");
  assertThrows(() => sender.send(bytes("x")), TypeError, "Cannot send");
  const none = new Sender(null, { map });
  assertThrows(() => none.send(bytes("x")), TypeError, "Cannot send");
  none.createSocket();
  none.bind({ hostname: "127.0.0.1", port: 0 });
  none.listen();
  assertThrows(() => none.send(bytes("x")), TypeError, "Cannot send");
});

Deno.test("writable() is true while not connected, and while something is queued", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const sender = new Sender(null, { map });
  assertEquals(sender.writable(), true);
  sender.createSocket();
  assertEquals(sender.writable(), true);
  sender.connect(listener.addr as Deno.NetAddr);
  assertEquals(sender.writable(), true);
  using peer = await listener.accept();
  await serveUntil(map, () => sender.connected);
  assertEquals(sender.writable(), false);
  sender.send(new Uint8Array(30_000_000));
  assertEquals(sender.writable(), true);
  await readExactly(peer, 30_000_000);
  await until(() => sender.bytesWritten === 30_000_000);
  assertEquals(sender.writable(), false);
});

Deno.test("handleWrite() does nothing, and says nothing", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const sender = connecting(map, listener.addr);
  sender.send(new Uint8Array(10_000_000));
  const peer = await listener.accept();
  const read = readExactly(peer, 10_000_000).then(() => peer.close());
  await run(map);
  await read;
  assertEquals(sender.events, ["connect", "read", "close eof"]);
});

Deno.test("close() sends the queue, also what was queued before the connection", async () => {
  // No time passes: it is the peer's end of file that ends it.
  await using map = new ChannelMap({ clock: new StoppedClock() });
  using listener = listenTcp();
  const data = noise(5_000_000);
  for (const when of ["connecting", "connected"]) {
    const sender = connecting(map, listener.addr);
    if (when === "connecting") {
      sender.send(data);
      sender.close();
    }
    const peer = await listener.accept();
    if (when === "connected") {
      await serveUntil(map, () => sender.connected);
      sender.send(data);
      sender.close();
    }
    assertEquals(map.size, 0);
    const read = readToEnd(peer).then((got) => {
      peer.close();
      return got;
    });
    await run(map);
    assertEquals(await read, data, when);
    assert(!sender.events.some((event) => event.startsWith("close")));
  }
});

Deno.test("close() with a queue for a connection that fails ends silently", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const listener = listenTcp();
  listener.close();
  const sender = connecting(map, listener.addr);
  sender.send(bytes("never"));
  sender.close();
  await run(map);
  assertEquals(sender.events, []);
});

Deno.test("shutdown() half-closes after the queue", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const sender = new Sender(conn, { map });
  const data = noise(5_000_000);
  sender.send(data);
  sender.shutdown("write");
  const answered = (async () => {
    const got = await readToEnd(peer);
    await writeAll(peer, bytes("thanks"));
    peer.close();
    return got;
  })();
  await run(map);
  assertEquals(await answered, data);
  assertEquals(sender.events, ["read thanks", "read", "close eof"]);
});

Deno.test("handleClose() tells how much of the queue was never sent", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const sender = new Sender(conn, { map });
  sender.send(new Uint8Array(50_000_000));
  await turns();
  await peer.reset();
  await run(map);
  assertEquals(sender.reasons.length, 1);
  const { kind, bytesUnsent } = sender.reasons[0]!;
  assertEquals(kind, "reset");
  assertGreater(bytesUnsent, 0);
  assertEquals(bytesUnsent, 50_000_000 - sender.bytesWritten);
});

Deno.test("createSocket() starts with an empty queue", async () => {
  await using map = new ChannelMap();
  const listener = listenTcp();
  const refused = listenTcp();
  refused.close();
  const sender = connecting(map, refused.addr);
  sender.send(bytes("for the old one"));
  sender.handleError = () => {
    sender.close();
    sender.createSocket();
    sender.connect(listener.addr as Deno.NetAddr);
    sender.send(bytes("for the new one"));
  };
  sender.handleConnect = () => sender.shutdown("write");
  const got = listener.accept().then(async (conn) => {
    const data = text(await readToEnd(conn));
    conn.close();
    return data;
  });
  await run(map);
  assertEquals(await got, "for the new one");
  listener.close();
});

Deno.test("An echo of DispatcherWithSend loses nothing", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const sender = new Sender(conn, { map });
  sender.handleRead = () => void sender.send(sender.recvView());
  sender.handleEof = () => sender.close();
  const data = noise(3_000_000);
  const written = writeAll(peer, data).then(() => peer.closeWrite());
  const read = readToEnd(peer).then((got) => {
    peer.close();
    return got;
  });
  await run(map);
  await written;
  assertEquals(await read, data);
});

Deno.test("send() returns 0 between a failed write and handleClose()", async () => {
  const world = new World();
  const conn = new FakeConn();
  const sender = new Sender(conn, { map: world.map });
  await world.serve();
  conn.onWrite = "wait";
  sender.send(bytes("lost"));
  await settle();
  // Nobody can be told before the next pass.
  sender.delChannel();
  conn.failWrite(new Deno.errors.BrokenPipe("broken pipe"));
  await settle();
  assertEquals(sender.send(bytes("late")), 0);
  sender.addChannel();
  await loop({ map: world.map });
  assertEquals(sender.reasons.map((reason) => reason?.bytesUnsent), [4]);
});

Deno.test("close() of a socket that nobody connects does not wait", async () => {
  const world = new World();
  const sender = new Sender(null, { map: world.map });
  sender.createSocket();
  assertEquals(sender.send(bytes("nowhere")), 7);
  sender.close();
  assertEquals(world.clock.timers, []);
  await loop({ map: world.map });
  assertEquals(sender.events, []);
});
