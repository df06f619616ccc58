import {
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
} from "@std/assert";
import { ChannelMap, ExitNow, poll } from "../../mod.ts";
import {
  bytes,
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
  within,
  writeAll,
} from "../net.ts";
import { pair, sha256, TickingClock } from "./ends.ts";

for (const kind of ["eof", "error", "done"] as const) {
  Deno.test(`9 after disconnect() for ${kind} what send() took is still written`, async () => {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map, { sendBufferSize: 1 << 23 });
    const data = noise(1 << 23);
    channel.send(data);
    channel.disconnect({ kind });
    const read = readToEnd(peer).then((got) => {
      peer.close();
      return got;
    });
    await run(map);
    assertEquals(await sha256(await read), await sha256(data));
    assertEquals(channel.events, [`close ${kind}`]);
  });
}

for (const kind of ["reset", "timeout", "limit"] as const) {
  Deno.test(`9 after disconnect() for ${kind} nothing is flushed`, async () => {
    await using map = new ChannelMap({ clock: new StoppedClock() });
    const [channel, peer] = await pair(map, { sendBufferSize: 1 << 25 });
    using _ = peer;
    const size = channel.send(new Uint8Array(1 << 25));
    await turns();
    channel.disconnect({ kind });
    // It ends although nobody reads and no time passes.
    await run(map);
    const got = await readToEnd(peer).then((data) => data.length, () => 0);
    assertLess(got, size);
    assertEquals(channel.events, [`close ${kind}`]);
    assertEquals(
      channel.reasons[0]?.bytesUnsent,
      size - channel.bytesWritten,
    );
  });
}

Deno.test("9 close() with 50 MB queued to a reader that starts late loses nothing", async () => {
  await using map = new ChannelMap();
  const size = 50_000_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  const data = noise(size);
  assertEquals(channel.send(data), size);
  channel.close();
  assertEquals(map.size, 0);
  let ended = false;
  const served = run(map).then(() => ended = true);
  await turns();
  assertEquals(ended, false);
  const got = await readToEnd(peer, 20_000);
  assertEquals(got.length, size);
  assertEquals(await sha256(got), await sha256(data));
  peer.close();
  await served;
  assertEquals(channel.events, []);
});

Deno.test("9 close() with input that nobody read destroys nothing", async () => {
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    const [conn, peer] = unix ? await unixPair() : await tcpPair();
    const channel = new Recorder(conn, { map });
    channel.readable = () => false;
    // What the peer said is unread when we close, and it goes on talking.
    await writeAll(peer, noise(50_000));
    const answer = noise(100_000);
    channel.send(answer);
    const served = run(map);
    await turns();
    channel.close();
    await turns();
    const talking = writeAll(peer, noise(1_000_000));
    const got = await readToEnd(peer);
    assertEquals(got, answer);
    await talking;
    peer.close();
    await served;
  }
});

Deno.test("9 a closed socket waits 2 s for the peer's end of file, then closes", async () => {
  const clock = new StoppedClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.send(bytes("bye"));
  channel.close();
  let ended = false;
  const served = run(map).then(() => ended = true);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  await clock.advance(1_999);
  assertEquals(ended, false);
  await writeAll(peer, bytes("still here")); // Thrown away.
  await turns();
  assertEquals(ended, false);
  await clock.advance(1);
  await served;
});

Deno.test("9 a closed socket closes at the peer's end of file", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [channel, peer] = await pair(map);
  channel.send(bytes("bye"));
  channel.close();
  let ended = false;
  const served = run(map).then(() => ended = true);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  assertEquals(ended, false);
  peer.close();
  await served;
});

Deno.test("9 a socket closes at once if nothing was sent or the end was seen", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [silent, peer] = await pair(map);
  using _ = peer;
  silent.close();
  await run(map);
  assertEquals((await readToEnd(peer)).length, 0);

  const [channel, peer2] = await pair(map);
  channel.send(bytes("answer"));
  await readExactly(peer2, 6);
  await peer2.closeWrite();
  await run(map);
  assertEquals(channel.events, ["read", "eof", "close eof"]);
  peer2.close();
});

Deno.test("9 lingering ends when no byte is written for lingerTimeout", async () => {
  for (const lingerTimeout of [undefined, 500]) {
    const clock = new StoppedClock();
    await using map = new ChannelMap({ clock });
    const sendBufferSize = 1 << 25;
    const [channel, peer] = await pair(
      map,
      lingerTimeout === undefined
        ? { sendBufferSize }
        : { sendBufferSize, lingerTimeout },
    );
    using _ = peer;
    const size = channel.send(new Uint8Array(sendBufferSize));
    channel.close();
    let ended = false;
    const served = run(map).then(() => ended = true);
    const wait = lingerTimeout ?? 10_000;
    await turns(20);
    await clock.advance(wait - 1);
    assertEquals(ended, false);
    // A byte that goes out starts the time anew.
    const before = channel.bytesWritten;
    let got = 0;
    while (channel.bytesWritten === before) {
      got += await peer.read(new Uint8Array(1 << 20)) ?? 0;
      await turns();
    }
    await turns(20);
    await clock.advance(wait - 1);
    assertEquals(ended, false);
    await clock.advance(1);
    await served;
    await readToEnd(peer).then((rest) => got += rest.length, () => {});
    assertLess(got, size);
  }
});

Deno.test("9 a lingerTimeout of 0 closes at once", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [channel, peer] = await pair(map, {
    sendBufferSize: 1 << 25,
    lingerTimeout: 0,
  });
  using _ = peer;
  const size = channel.send(new Uint8Array(1 << 25));
  await turns();
  channel.close();
  await run(map);
  const got = await readToEnd(peer).then((data) => data.length, () => 0);
  assertLess(got, size);
});

Deno.test("9 a peer that never reads stops send(), and memory stays bounded", async () => {
  await using map = new ChannelMap();
  const size = 100_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  using _ = peer;
  let taken = 0;
  let calls = 0;
  const piece = new Uint8Array(30_000);
  channel.writable = () => true;
  channel.handleWrite = () => {
    calls++;
    for (let n = 1; n > 0;) {
      n = channel.send(piece);
      taken += n;
      assertLessOrEqual(taken - channel.bytesWritten, size);
    }
    assertEquals(channel.room, 0);
  };
  // Until the kernel takes no more.
  for (let quiet = 0, before = -1; quiet < 20;) {
    await poll(0, map);
    quiet = channel.bytesWritten === before ? quiet + 1 : 0;
    before = channel.bytesWritten;
  }
  assertEquals(taken - channel.bytesWritten, size);
  assertEquals(channel.send(piece), 0);
  const served = calls;
  for (let i = 0; i < 20; i++) {
    await poll(0, map);
    map.wake();
  }
  assertEquals(calls, served);
  channel.abort();
});

Deno.test("9 writing starts when the handler returns, for every channel it sent to", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const [other, otherPeer] = await pair(map);
  const elsewhere = new ChannelMap();
  const [foreign, foreignPeer] = await pair(elsewhere);
  const [suspended, suspendedPeer] = await pair(map);
  using _1 = peer;
  using _2 = otherPeer;
  using _3 = foreignPeer;
  using _4 = suspendedPeer;
  suspended.delChannel();
  channel.handleRead = () => {
    channel.recv();
    for (const each of [channel, other, foreign, suspended]) {
      for (const letter of "hello") each.send(bytes(letter));
      assertEquals(each.bytesWritten, 0);
    }
    throw new ExitNow("left"); // Even then.
  };
  await writeAll(peer, bytes("x"));
  const left = await run(map).catch((error) => error);
  assertInstanceOf(left, ExitNow);
  for (const each of [peer, otherPeer, foreignPeer, suspendedPeer]) {
    const data = new Uint8Array(9);
    // All letters left in one system call.
    assertEquals(await within(each.read(data)), 5);
    assertEquals(text(data.subarray(0, 5)), "hello");
  }
  foreign.close();
  suspended.close();
});

Deno.test("9 after an await in a handler writing starts in the next microtask", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const gate = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  channel.handleRead = async () => {
    channel.recv();
    await gate.promise;
    channel.send(bytes("lat"));
    channel.send(bytes("er"));
    await done.promise;
  };
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.bytesRead > 0);
  gate.resolve();
  const data = new Uint8Array(9);
  assertEquals(await within(peer.read(data)), 5);
  assertEquals(text(data.subarray(0, 5)), "later");
  done.resolve();
});

Deno.test("9 bytes leave in the order they were sent, one byte at a time to one byte at a time", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const data = noise(2_000);
  let at = 0;
  channel.writable = () => at < data.length;
  channel.handleWrite = () => {
    at += channel.send(data.subarray(at, at + 1));
  };
  const read = (async () => {
    const got = new Uint8Array(data.length);
    for (let n = 0; n < got.length; n++) {
      assertEquals(await peer.read(got.subarray(n, n + 1)), 1);
    }
    peer.close();
    return got;
  })();
  await run(map);
  assertEquals(await read, data);
});

Deno.test("9 loop() ends when the last socket has lingered, whatever alarm rang before", async () => {
  const clock = new TickingClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map, { lingerTimeout: 1e9 });
  channel.handleRead = () => {
    channel.received += text(channel.recv());
    if (channel.received.length < 3) return;
    void clock.advance(60_000);
    channel.send(bytes("bye"));
    channel.close();
  };
  const served = run(map);
  for (let n = 1; n <= 3; n++) {
    await writeAll(peer, bytes("x"));
    await until(() => channel.received.length === n);
    await turns();
  }
  assertEquals(text(await readToEnd(peer)), "bye");
  peer.close();
  await served;
});
