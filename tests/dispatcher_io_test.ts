import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { ChannelMap, Dispatcher, poll } from "../mod.ts";
import {
  breakablePair,
  bytes,
  listenTcp,
  noise,
  readExactly,
  readToEnd,
  Recorder,
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

/** Has a dispatcher's next read event run `take`, and waits for it. */
async function inHandleRead(
  channel: Dispatcher,
  map: ChannelMap,
  take: () => void,
): Promise<void> {
  let done = false;
  channel.handleRead = () => {
    take();
    done = true;
  };
  await serveUntil(map, () => done);
}

Deno.test("send() takes what fits and says how much", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map, sendBufferSize: 1_000 });
  assertEquals(channel.room, 1_000);
  const data = noise(1_500);
  assertEquals(channel.send(data.subarray(0, 300)), 300);
  assertEquals(channel.room, 700);
  assertEquals(channel.send(data.subarray(300)), 700);
  assertEquals(channel.room, 0);
  assertEquals(channel.send(data), 0);
  assertEquals(channel.send(new Uint8Array(0)), 0);
  assertEquals(await readExactly(peer, 1_000), data.subarray(0, 1_000));
  await until(() => channel.room === 1_000);
  assertEquals(channel.bytesWritten, 1_000);
});

Deno.test("send() fills the whole of a buffer of the default size", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  const data = noise(300_000);
  assertEquals(channel.send(data), 262_144);
  assertEquals(channel.room, 0);
  assertEquals(await readExactly(peer, 262_144), data.subarray(0, 262_144));
});

Deno.test("send() copies: the bytes may be changed afterwards", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  const data = bytes("right");
  channel.send(data);
  data.fill(0);
  assertEquals(text(await readExactly(peer, 5)), "right");
});

Deno.test("send() takes any part of any buffer", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  const whole = bytes("-middle-");
  channel.send(whole.subarray(1, 7));
  class Bytes extends Uint8Array {}
  channel.send(Bytes.from([33]));
  const shared = new Uint8Array(new SharedArrayBuffer(1));
  shared[0] = 63;
  channel.send(shared);
  assertEquals(text(await readExactly(peer, 8)), "middle!?");
});

Deno.test("send() writes in the next microtask, loop or no loop, all in one piece", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await unixPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  for (const piece of ["a", "b", "c", "d"]) channel.send(bytes(piece));
  assertEquals(channel.bytesWritten, 0);
  await null;
  // A second system call would come too late for this read.
  const data = new Uint8Array(9);
  assertEquals(await peer.read(data), 4);
  assertEquals(text(data.subarray(0, 4)), "abcd");
});

Deno.test("send() takes nothing while connecting, after close() and after the end", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const channel = new Recorder(null, { map });
  channel.createSocket();
  assertEquals(channel.send(bytes("x")), 0);
  channel.connect(listener.addr as Deno.NetAddr);
  assertEquals(channel.room, 0);
  assertEquals(channel.send(bytes("x")), 0);
  const peer = await listener.accept();
  await turns();
  // The connection is there, but nobody was told yet.
  assertEquals(channel.connected, false);
  assertEquals(channel.send(bytes("x")), 0);
  let inClose: unknown;
  channel.handleClose = () => {
    inClose = [channel.send(bytes("x")), channel.room];
    channel.close();
    assertEquals(channel.send(bytes("x")), 0);
  };
  channel.writable = () => !channel.connected;
  await serveUntil(map, () => channel.connected);
  peer.close();
  await run(map);
  assertEquals(inClose, [0, 0]);
  assertEquals(channel.send(bytes("x")), 0);
  assertEquals(channel.room, 0);
  assertEquals(channel.bytesWritten, 0);
});

Deno.test("send() takes nothing between disconnect() and handleClose()", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.disconnect({ kind: "done" });
  assertEquals(channel.send(bytes("x")), 0);
  assertEquals(channel.room, 0);
  await run(map);
});

Deno.test("recv() takes at most n bytes, in order, and leaves the rest for the next pass", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await writeAll(peer, bytes("abcdef"));
  const pieces: string[] = [];
  channel.handleRead = () => void pieces.push(text(channel.recv(4)));
  await serveUntil(map, () => pieces.length === 2);
  assertEquals(pieces, ["abcd", "ef"]);
  // Several calls in one event work as well.
  await writeAll(peer, bytes("123456"));
  await inHandleRead(channel, map, () => {
    assertEquals(text(channel.recv(1)), "1");
    assertEquals(text(channel.recv(2)), "23");
    assertEquals(text(channel.recv()), "456");
    assertThrows(
      () => channel.recv(),
      Deno.errors.WouldBlock,
      "Cannot receive",
    );
  });
});

Deno.test("recv() gives the caller bytes of its own", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  const kept: Uint8Array[] = [];
  channel.handleRead = () => {
    kept.push(channel.recv(3));
  };
  for (let i = 0; i < 8; i++) {
    await writeAll(peer, bytes(`${i}+${i}|+|`));
    await serveUntil(map, () => kept.length === 2 * (i + 1));
  }
  // Later reads did not touch what was taken before.
  assertEquals(
    kept.map(text),
    kept.map((_, i) => i % 2 ? "|+|" : `${i / 2}+${i / 2}`),
  );
});

Deno.test("recvInto() fills a buffer of the caller's and returns the count", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await writeAll(peer, bytes("abcdef"));
  const buffer = new Uint8Array(8).fill(46);
  await inHandleRead(channel, map, () => {
    assertEquals(channel.recvInto(buffer.subarray(1, 5)), 4);
    assertEquals(text(buffer), ".abcd...");
    assertEquals(channel.recvInto(new Uint8Array(0)), 0);
    assertEquals(channel.recvInto(buffer), 2);
    assertEquals(text(buffer), "efbcd...");
    assertThrows(
      () => channel.recvInto(buffer),
      Deno.errors.WouldBlock,
      "Cannot receive",
    );
  });
});

Deno.test("recvView() lends bytes without a copy", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await writeAll(peer, bytes("abcdef"));
  await inHandleRead(channel, map, () => {
    const first = channel.recvView(2);
    const second = channel.recvView(1);
    const copy = channel.recv(1);
    const rest = channel.recvView();
    assertEquals([first, second, copy, rest].map(text), ["ab", "c", "d", "ef"]);
    assertStrictEquals(first.buffer, second.buffer);
    assertStrictEquals(first.buffer, rest.buffer);
    assertNotStrictEquals(first.buffer, copy.buffer);
    assertThrows(
      () => channel.recvView(),
      Deno.errors.WouldBlock,
      "Cannot receive",
    );
  });
});

Deno.test("recvView() lends until the handler's promise settles", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const [conn2, peer2] = await tcpPair();
  using _peer = peer;
  using _peer2 = peer2;
  const channel = new Recorder(conn, { map });
  const other = new Recorder(conn2, { map });
  await writeAll(peer, bytes("lent bytes"));
  let view: Uint8Array | undefined;
  const more = Promise.withResolvers<void>();
  let seen = "";
  channel.handleRead = async () => {
    view = channel.recvView();
    await more.promise;
    seen = text(view);
  };
  await serveUntil(map, () => view !== undefined);
  // More arrives meanwhile, here and elsewhere.
  await writeAll(peer, bytes("OTHER BYTES"));
  for (let i = 0; i < 10; i++) {
    await writeAll(peer2, bytes(`${i} elsewhere`));
    await serveUntil(map, () => other.events.length > i);
  }
  more.resolve();
  channel.handleRead = () => void (channel.received += text(channel.recv()));
  await serveUntil(map, () => channel.received.length > 0);
  assertEquals(seen, "lent bytes");
  assertEquals(channel.received, "OTHER BYTES");
});

Deno.test("recv(0) returns nothing, and is no end of file", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  assertEquals(channel.recv(0).length, 0);
  assertEquals(channel.recvView(0).length, 0);
  assertEquals(channel.recvInto(new Uint8Array(0)), 0);
  await writeAll(peer, bytes("x"));
  await inHandleRead(channel, map, () => {
    assertEquals(channel.recv(0).length, 0);
    assertEquals(channel.recvView(0).length, 0);
    assertEquals(text(channel.recv()), "x");
    assertEquals(channel.recv(0).length, 0);
  });
  await turns();
  await poll(0, map);
  assertEquals(channel.events, []);
  assert(channel.connected);
});

Deno.test("recv() throws WouldBlock while nothing is there", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const connecting = new Dispatcher(null, { map });
  connecting.createSocket();
  connecting.connect(listener.addr as Deno.NetAddr);
  for (const channel of [new Recorder(conn, { map }), connecting]) {
    const calls = [
      () => channel.recv(),
      () => channel.recvView(),
      () => channel.recvInto(new Uint8Array(9)),
    ];
    for (const call of calls) {
      assertThrows(call, Deno.errors.WouldBlock, "Cannot receive");
    }
  }
  connecting.close();
});

Deno.test("recv() gives 0 bytes at the end and after it", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  await writeAll(peer, bytes("last"));
  peer.close();
  const lengths: [string, number[]][] = [];
  const note = (where: string) =>
    lengths.push([where, [
      channel.recv().length,
      channel.recvView().length,
      channel.recvInto(new Uint8Array(9)),
      channel.recv(0).length,
    ]]);
  const channel = new Recorder(conn, { map });
  channel.handleRead = () => {
    if (channel.received === "") channel.received = text(channel.recv(99));
    else note("handleRead");
  };
  channel.handleEof = () => {
    note("handleEof");
    Dispatcher.prototype.handleEof.call(channel);
    note("disconnected");
  };
  channel.handleClose = () => {
    note("handleClose");
    channel.close();
    note("closed");
  };
  await run(map);
  note("later");
  assertEquals(channel.received, "last");
  const none = [0, 0, 0, 0];
  assertEquals(lengths, [
    ["handleRead", none],
    ["handleEof", none],
    ["disconnected", none],
    ["handleClose", none],
    ["closed", none],
    ["later", none],
  ]);
});

Deno.test("recv() inside handleClose() still returns what was received", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await writeAll(peer, bytes("first, second"));
  channel.handleRead = () => {
    channel.received = text(channel.recv(7));
    channel.disconnect({ kind: "error" });
  };
  const rest: string[] = [];
  channel.handleClose = () => {
    rest.push(text(channel.recv(3)), text(channel.recvView()));
    rest.push(text(channel.recv()));
  };
  await run(map);
  assertEquals(channel.received, "first, ");
  assertEquals(rest, ["sec", "ond", ""]);
});

Deno.test("recv() takes what a burst left, whatever the sizes", async () => {
  const data = noise(200_000);
  for (const size of [1_000, 7_777, 65_536, 1_000_000]) {
    await using map = new ChannelMap();
    const [conn, peer] = await tcpPair();
    const channel = new Recorder(conn, { map });
    const got = new Uint8Array(data.length);
    let at = 0;
    channel.handleRead = () => {
      const piece = channel.recv(size);
      assertLessOrEqual(piece.length, size);
      got.set(piece, at);
      at += piece.length;
    };
    const written = writeAll(peer, data).then(() => peer.close());
    await run(map);
    await written;
    assertEquals(at, data.length);
    assertEquals(got, data);
    assertEquals(channel.bytesRead, data.length);
  }
});

Deno.test("close() sends what send() took before it closes", async () => {
  const map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const channel = new Recorder(conn, { map });
  const data = noise(200_000);
  assertEquals(channel.send(data), data.length);
  channel.close();
  assertEquals(map.size, 0);
  const read = readToEnd(peer).then((got) => {
    peer.close();
    return got;
  });
  await run(map);
  assertEquals(await read, data);
});

Deno.test("abort() drops what waits", async () => {
  const map = new ChannelMap({ clock: new StoppedClock() });
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map, sendBufferSize: 1 << 25 });
  const taken = channel.send(new Uint8Array(1 << 25));
  await turns();
  channel.abort();
  channel.abort();
  assertEquals(map.size, 0);
  assertEquals(channel.connected, false);
  await run(map);
  const got = await readToEnd(peer).then((data) => data.length, () => 0);
  assertLess(got, taken);
  assertEquals(channel.events, []);
});

Deno.test("abort() ends the lingering of a socket that was closed", async () => {
  const map = new ChannelMap({ clock: new StoppedClock() });
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map, sendBufferSize: 1 << 25 });
  const taken = channel.send(new Uint8Array(1 << 25));
  channel.close();
  let ended = false;
  const served = run(map).then(() => ended = true);
  await turns();
  assertEquals(ended, false);
  channel.abort();
  await served;
  const got = await readToEnd(peer).then((data) => data.length, () => 0);
  assertLess(got, taken);
});

Deno.test("abort() does nothing without a socket", () => {
  const dispatcher = new Dispatcher(null, { map: new ChannelMap() });
  dispatcher.abort();
  dispatcher.createSocket();
  dispatcher.abort();
  assertThrows(() => dispatcher.addChannel(), TypeError, "Cannot ");
});

Deno.test("shutdown() half-closes after everything send() took", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  let asked = 0;
  channel.writable = () => {
    asked++;
    return true;
  };
  const data = noise(200_000);
  channel.send(data);
  channel.shutdown("write");
  channel.shutdown("write");
  assertEquals(channel.room, 0);
  assertThrows(() => channel.send(bytes("x")), TypeError, "Cannot send");
  const answered = readToEnd(peer).then(async (got) => {
    await writeAll(peer, bytes("answer"));
    return got;
  });
  await serveUntil(map, () => channel.received !== "");
  assertEquals(await answered, data);
  assertEquals(channel.events, ["read answer"]);
  assertEquals(asked, 0);
  assert(channel.connected);
});

Deno.test("shutdown() in a handler waits for what the handler sends", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  let done = false;
  channel.writable = () => !done;
  channel.handleWrite = () => {
    channel.send(bytes("all of it"));
    channel.shutdown("write");
    done = true;
  };
  await serveUntil(map, () => done);
  assertEquals(text(await readToEnd(peer)), "all of it");
});

Deno.test("room never exceeds sendBufferSize, and comes back as the peer reads", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const size = 50_000;
  const channel = new Recorder(conn, { map, sendBufferSize: size });
  let sent = 0;
  const total = 8_000_000;
  const data = new Uint8Array(70_000);
  channel.writable = () => sent < total;
  channel.handleWrite = () => {
    // Write-ready: at least half of the buffer is free.
    assert(channel.room >= size / 2, `${channel.room}`);
    assertLessOrEqual(channel.room, size);
    const { room } = channel;
    assertEquals(channel.send(data), room);
    sent += room;
    assertLessOrEqual(sent - channel.bytesWritten, size);
  };
  const read = (async () => {
    const buffer = new Uint8Array(30_000);
    for (let got = 0; got < total;) got += (await peer.read(buffer))!;
  })();
  await serveUntil(map, () => sent >= total);
  await read;
  assertEquals(channel.errors, []);
});

Deno.test("sendBufferSize may be changed at any time", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  assertEquals(channel.sendBufferSize, 262_144);
  channel.sendBufferSize = 10;
  assertEquals(channel.room, 10);
  assertEquals(channel.send(new Uint8Array(20)), 10);
  // Less than what waits already: no room, and nothing is lost.
  channel.sendBufferSize = 5;
  assertEquals(channel.room, 0);
  assertEquals(channel.send(new Uint8Array(20)), 0);
  channel.sendBufferSize = 30;
  assertEquals(channel.room, 20);
  assertEquals(channel.send(new Uint8Array(50)), 20);
  await readExactly(peer, 30);
  for (const size of [0, -1, 1.5, NaN, Infinity]) {
    assertThrows(
      () => channel.sendBufferSize = size,
      RangeError,
      "Cannot set sendBufferSize: ",
    );
  }
  assertEquals(channel.sendBufferSize, 30);
});

Deno.test("sendBufferSize that grows lets a full channel write again", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map, sendBufferSize: 1_000 });
  channel.writable = () => true;
  channel.handleWrite = () => {
    while (channel.send(new Uint8Array(100_000)) > 0);
    channel.events.push("write");
  };
  const served = run(map);
  // Until nothing goes out any more. A busy loop gives way for many turns.
  for (let before = -1; channel.bytesWritten !== before; await turns(200)) {
    before = channel.bytesWritten;
  }
  assertLess(channel.room, 500);
  channel.events.length = 0;
  channel.sendBufferSize = 5_000;
  await until(() => channel.events.length > 0);
  channel.abort();
  await served;
});

Deno.test("lingerTimeout counts when close() is called", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  assertEquals(channel.lingerTimeout, 10_000);
  for (const timeout of [-1, NaN]) {
    assertThrows(
      () => channel.lingerTimeout = timeout,
      RangeError,
      "Cannot set lingerTimeout: ",
    );
  }
  channel.sendBufferSize = 1 << 25;
  const taken = channel.send(new Uint8Array(1 << 25));
  await turns();
  channel.lingerTimeout = 0;
  channel.close();
  // Although nobody reads and no time passes.
  await run(map);
  const got = await readToEnd(peer).then((data) => data.length, () => 0);
  assertLess(got, taken);
});

Deno.test("handleClose() tells how many bytes were never sent", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map, sendBufferSize: 1 << 25 });
  channel.readable = () => false;
  const taken = channel.send(new Uint8Array(1 << 25));
  await turns();
  await peer.reset();
  await run(map);
  assertEquals(channel.events, ["close reset"]);
  const [reason] = channel.reasons;
  assertGreater(reason!.bytesUnsent, 0);
  assertEquals(reason!.bytesUnsent, taken - channel.bytesWritten);
});
