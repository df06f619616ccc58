import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  closeAll,
  Dispatcher,
  DispatcherWithSend,
  ExitNow,
  loop,
  poll,
} from "../../mod.ts";
import { bytes, FakeConn, settle, text, World } from "../fakes.ts";
import { connected, connecting, listening, Traced } from "./traced.ts";

const broken = () => new Deno.errors.BrokenPipe("broken pipe");

// What it takes.

Deno.test("9 send: it copies what it takes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const data = bytes("hello");
  assertEquals(channel.send(data), 5);
  data.fill(0);
  await settle();
  assertEquals(conn.sent, "hello");
  channel.abort();
});

Deno.test("9 send: it takes what fits into sendBufferSize, short or 0 when full, and room says how many", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a", { sendBufferSize: 10 });
  conn.onWrite = "wait";
  assertEquals(channel.room, 10);
  assertEquals(channel.say("123456"), 6);
  assertEquals(channel.room, 4);
  assertEquals(channel.say("7890abc"), 4);
  assertEquals(channel.room, 0);
  assertEquals(channel.say("x"), 0);
  await settle();
  conn.release(3);
  await settle();
  assertEquals([channel.room, channel.say("xyz!")], [3, 3]);
  conn.onWrite = "take";
  conn.release();
  await settle();
  assertEquals([conn.sent, channel.room], ["1234567890xyz", 10]);
  channel.abort();
});

Deno.test("9 send: the buffer grows to 256 KiB by default", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  assertEquals([channel.sendBufferSize, channel.room], [262_144, 262_144]);
  assertEquals(channel.send(new Uint8Array(1_000_000)), 262_144);
  assertEquals(channel.room, 0);
  await settle();
  conn.onWrite = "take";
  conn.release();
  await settle();
  assertEquals(conn.sent.length, 262_144);
  channel.abort();
});

Deno.test("9 send: it takes nothing while connecting, and room is 0", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  assertEquals([channel.room, channel.say("x")], [0, 0]);
  const conn = world.system.connects[0]!.succeed();
  await settle();
  assertEquals(conn.calls, []);
  channel.abort();
});

Deno.test("9 send: it takes nothing after close(), and room is 0", () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.close();
  assertEquals([channel.room, channel.say("x")], [0, 0]);
  assertEquals(conn.calls, ["close"]);
});

Deno.test("9 send: it takes nothing once the connection has ended, in handleClose neither", async () => {
  for (const kind of ["reset", "error", "timeout", "done", "eof"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onClose = () => channel.note(`close ${channel.say("x")}`);
    await world.serve();
    channel.disconnect({ kind });
    await settle();
    assertEquals([world.take(), channel.say("y")], [["a close 0"], 0], kind);
    assertEquals(conn.calls, ["close"], kind);
  }
});

Deno.test("9 send: it takes nothing after a failed write", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals([channel.room, channel.say("y")], [0, 0]);
  channel.abort();
});

Deno.test("9 send: a TypeError without a socket, on a listener, after shutdown() and for what is no Uint8Array", () => {
  const world = new World();
  assertThrows(() => new Traced(world, "a").say("x"), TypeError);
  const { channel: server } = listening(world, "l");
  assertThrows(() => server.say("x"), TypeError);
  const { channel } = connected(world, "b");
  for (const data of ["text", null, undefined, [1], new ArrayBuffer(1)]) {
    assertThrows(() => channel.send(data as unknown as Uint8Array), TypeError);
  }
  channel.shutdown("write");
  assertThrows(() => channel.say("x"), TypeError);
  server.abort();
  channel.abort();
});

// When it writes.

Deno.test("9 send: ten small sends in one handler leave in one system call, when the handler returns", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  a.channel.onRead = () => {
    a.channel.recv();
    for (let i = 0; i < 10; i++) a.channel.say(`${i}`);
    a.channel.note(`sent ${a.conn.calls.length}`);
  };
  b.channel.onRead = () => {
    b.channel.recv();
    b.channel.note(`sees ${a.conn.calls}`);
  };
  a.conn.deliver("x");
  b.conn.deliver("x");
  await settle();
  assertEquals(world.take(), ["a sent 0", "b sees write 10"]);
  assertEquals([a.conn.sent, a.conn.calls], ["0123456789", ["write 10"]]);
  await world.stop();
});

Deno.test("9 send: that is so in every handler", async () => {
  const world = new World();
  const out = connected(world, "out");
  let expected = "";
  const twice = (what: string) => {
    out.channel.say(`${what}1`);
    assertEquals(out.conn.calls, []);
    out.channel.say(`${what}2`);
    expected = `${what}1${what}2`;
  };
  const check = async (what: string) => {
    await settle();
    assertEquals(out.conn.sent, expected, what);
    assertEquals(out.conn.calls, [`write ${expected.length}`], what);
    out.conn.sent = "";
    out.conn.calls.length = 0;
  };
  await world.serve();
  const { channel, listener } = listening(world, "l");
  await settle();
  channel.onAccepted = (conn) => {
    conn.close();
    twice("accepted");
  };
  listener.deliver(new FakeConn());
  await check("handleAccepted");
  const client = connecting(world, "c");
  client.onConnect = () => twice("connect");
  client.onWrite = () => {
    client.wantsWrite = false;
    twice("write");
  };
  world.system.connects[0]!.succeed().end();
  await settle();
  await check("handleConnect");
  client.abort();
  const { channel: one, conn } = connected(world, "o");
  one.onRead = () => {
    one.recv();
    twice("read");
  };
  one.onWrite = () => {
    one.wantsWrite = false;
    twice("write");
  };
  one.onEof = () => twice("eof");
  one.onClose = () => twice("close");
  one.onError = () => twice("error");
  await settle();
  conn.deliver("x");
  await check("handleRead");
  one.wantsWrite = true;
  one.wake();
  await check("handleWrite");
  one.onRead = () => {
    one.recv();
    throw new Error("mine");
  };
  conn.deliver("x");
  await check("handleError");
  one.onRead = () => void one.recv();
  conn.end();
  await check("handleEof");
  one.disconnect({ kind: "done" });
  await check("handleClose");
  await world.stop();
});

Deno.test("9 send: what a predicate sends is written, too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  let sent = false;
  channel.readable = () => {
    if (!sent) channel.say("hello");
    sent = true;
    return true;
  };
  await world.serve();
  assertEquals(conn.calls, ["write 5"]);
  await world.stop();
});

Deno.test("9 send: a handler that throws has sent what it sent", async () => {
  for (const error of [new Error("mine"), new ExitNow()]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const other = connected(world, "b");
    channel.onError = () => {};
    channel.onRead = () => {
      channel.recv();
      channel.say("x");
      other.channel.say("y");
      throw error;
    };
    conn.deliver("1");
    await world.serve();
    assertEquals([conn.sent, other.conn.sent], ["x", "y"]);
    await world.stop().catch(() => {});
  }
});

Deno.test("9 send: outside a handler writing starts in the next microtask, loop or no loop", async () => {
  for (const served of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    if (served) await world.serve();
    for (let i = 0; i < 10; i++) channel.say(`${i}`);
    assertEquals(conn.calls, []);
    await null;
    assertEquals(conn.calls, ["write 10"]);
    if (served) await world.stop();
    channel.abort();
  }
});

Deno.test("9 send: after an await in a handler writing starts in the next microtask", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = async () => {
    channel.recv();
    await promise;
    channel.say("1");
    channel.say("2");
    channel.note(`${conn.calls}`);
    await null;
    channel.note(`${conn.calls}`);
    await new Promise(() => {}); // never
  };
  conn.deliver("x");
  await world.serve();
  resolve();
  await settle();
  assertEquals(world.take(), ["a ", "a write 2"]);
  channel.abort();
  await world.stop();
});

Deno.test("9 send: what is sent while a write is under way leaves in one further system call", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  channel.say("0");
  await settle();
  for (const digit of "123456789") {
    channel.say(digit);
    await settle();
  }
  assertEquals(conn.calls, ["write 1"]);
  conn.release();
  await settle();
  assertEquals(conn.calls, ["write 1", "write 9"]);
  conn.release(4);
  await settle();
  assertEquals(conn.calls, ["write 1", "write 9", "write 5"]);
  conn.release();
  await settle();
  assertEquals([conn.sent, channel.bytesWritten], ["0123456789", 10]);
  channel.abort();
});

Deno.test("9 send: any mix of sends and partial writes arrives in order", async () => {
  for (let size = 1; size <= 9; size++) {
    const world = new World();
    const { channel, conn } = connected(world, "a", { sendBufferSize: 700 });
    conn.onWrite = "wait";
    const data = Uint8Array.from(
      { length: 3_000 },
      (_, i) => 97 + (i * 7 + (i >> 5)) % 26,
    );
    for (let rest = data, turn = 1; rest.length > 0 || conn.writing; turn++) {
      rest = rest.subarray(channel.send(rest.subarray(0, size * (turn % 50))));
      await null;
      await null;
      if (conn.writing) conn.release(1 + (turn * size) % 97);
      await null;
      await null;
    }
    assertEquals(conn.sent, text(data), `size ${size}`);
    channel.abort();
  }
});

Deno.test("9 send: write-ready means connected and half of the buffer free", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a", { sendBufferSize: 10 });
  conn.onWrite = "wait";
  await world.serve();
  channel.say("123456"); // 4 free
  channel.wantsWrite = true;
  channel.onWrite = () => {
    channel.note(`write ${channel.room}`);
    channel.wantsWrite = false;
  };
  world.map.wake();
  await settle();
  assertEquals(world.take(), []);
  conn.release(1); // 5 free
  await settle();
  assertEquals(world.take(), ["a write 5"]);
  await world.stop();
});

Deno.test("9 send: handleWrite may fill the buffer, and is called again when half of it is free", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a", { sendBufferSize: 10 });
  conn.onWrite = "wait";
  channel.wantsWrite = true;
  channel.onWrite = () =>
    channel.note(`write ${channel.say("xxxxxxxxxxxxxxxxxxxx")}`);
  await world.serve();
  assertEquals(world.take(), ["a write 10"]);
  conn.release(4);
  await settle();
  assertEquals(world.take(), []);
  conn.release(1);
  await settle();
  assertEquals(world.take(), ["a write 5"]);
  await world.stop();
});

Deno.test("9 send: a channel that connects is not write-ready", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.wantsWrite = true;
  await world.serve();
  world.map.wake();
  await settle();
  assertEquals([world.take(), channel.asked.writable], [[], 0]);
  await world.stop();
});

// Closing.

Deno.test("9 send: close() leaves the map at once; the socket writes, half-closes, discards, closes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  channel.close();
  assertEquals(world.map.size, 0);
  await settle();
  conn.release(2);
  await settle();
  assertEquals(conn.calls, ["write 5", "write 3"]);
  conn.release();
  await settle();
  assertEquals(conn.calls, ["write 5", "write 3", "closeWrite"]);
  assertEquals([conn.sent, conn.reading], ["hello", true]);
  conn.deliver("too late");
  conn.deliver(new Uint8Array(200_000));
  await settle();
  assertEquals([conn.closed, conn.reading], [false, true]);
  conn.end();
  await settle();
  assertEquals(conn.calls.slice(2), ["closeWrite", "close"]);
  assertEquals([world.take(), channel.recv().length], [[], 0]);
  await world.served;
  assertEquals(world.clock.timers, []);
});

Deno.test("9 send: bytes sent in the handler that closes are not lost", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.say("good");
    channel.say("bye");
    channel.close();
  };
  conn.deliver("x");
  await world.serve();
  assertEquals([conn.sent, conn.calls], ["goodbye", ["write 7", "closeWrite"]]);
  conn.end();
  await world.served;
});

Deno.test("9 send: a closed socket that has sent waits for the peer's end of file, though nothing is left to write", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.say("hello");
  await settle();
  channel.close();
  await settle();
  assertEquals(conn.calls, ["write 5", "closeWrite"]);
  conn.end();
  await world.served;
  assertEquals(conn.closed, true);
});

Deno.test("9 send: a closed socket closes 2 s after its half-close, whatever the peer sends", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  channel.close();
  await world.clock.advance(5_000);
  conn.release();
  await settle();
  assertEquals(conn.calls, ["write 5", "closeWrite"]);
  await world.clock.advance(1_000);
  conn.deliver("rubbish");
  await world.clock.advance(999);
  assertFalse(conn.closed);
  await world.clock.advance(1);
  assert(conn.closed);
  await world.served;
  assertEquals(world.clock.timers, []);
});

Deno.test("9 send: close() closes at once if nothing was ever sent, or the peer's end was seen and all is written", async () => {
  const silent = new World();
  const a = connected(silent, "a");
  a.conn.deliver("unread");
  await silent.serve();
  a.channel.close();
  assertEquals(a.conn.calls, ["close"]);
  await silent.served;

  const ended = new World();
  const b = connected(ended, "b");
  b.channel.onEof = () => {};
  await ended.serve();
  b.channel.say("hello");
  b.conn.end();
  await settle();
  b.channel.close();
  assertEquals(b.conn.calls, ["write 5", "close"]);
  await ended.served;
});

Deno.test("9 send: after the peer's end of file close() still writes what waits, then closes at once", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onEof = () => {};
  conn.onWrite = "wait";
  await world.serve();
  conn.end();
  await settle();
  channel.say("hello");
  channel.close();
  await settle();
  assertFalse(conn.closed);
  conn.release();
  await settle();
  assertEquals([conn.sent, conn.closed], ["hello", true]);
  await world.served;
});

Deno.test("9 send: an end of file that comes while it still writes does not cut the rest off", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  channel.close();
  await settle();
  conn.end();
  await settle();
  assertFalse(conn.closed);
  conn.release(2);
  await settle();
  conn.release();
  await settle();
  assertEquals([conn.sent, conn.closed], ["hello", true]);
  await world.served;
});

Deno.test("9 send: lingerTimeout is the longest time without a byte written, 10 s by default", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  assertEquals(channel.lingerTimeout, 10_000);
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  await world.clock.advance(60_000); // counts from close() on only
  channel.close();
  await world.clock.advance(9_999);
  assertFalse(conn.closed);
  conn.release(1);
  await world.clock.advance(9_999);
  assertFalse(conn.closed);
  await world.clock.advance(1);
  assert(conn.closed);
  assertEquals(conn.sent, "h");
  await world.served;
  assertEquals(world.clock.timers, []);
});

Deno.test("9 send: lingerTimeout may be set, in the constructor and until close()", async () => {
  for (const inConstructor of [true, false]) {
    const world = new World();
    const { channel, conn } = connected(
      world,
      "a",
      inConstructor ? { lingerTimeout: 500 } : {},
    );
    if (!inConstructor) channel.lingerTimeout = 500;
    conn.onWrite = "wait";
    await world.serve();
    channel.say("hello");
    channel.close();
    await world.clock.advance(499);
    assertFalse(conn.closed);
    await world.clock.advance(1);
    assert(conn.closed);
    await world.served;
  }
});

Deno.test("9 send: a lingerTimeout of 0 is a plain close", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a", { lingerTimeout: 0 });
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  await settle();
  channel.close();
  assertEquals(conn.calls, ["write 5", "close"]);
  await world.served;
});

Deno.test("9 send: a socket that lingers ends quietly when a write, a read or the half-close fails", async () => {
  for (const what of ["write", "read", "closeWrite"]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    conn.onWrite = "wait";
    conn.closeWriteError = broken();
    await world.serve();
    channel.say("hello");
    channel.close();
    await settle();
    if (what === "write") conn.failWrite(broken());
    else if (what === "read") conn.failRead(broken());
    else conn.release();
    await settle();
    assertEquals([conn.closed, world.take(), world.logs], [true, [], []], what);
    await world.served;
    assertEquals(world.clock.timers, [], what);
  }
});

Deno.test("9 send: a close() while a read is under way discards what that read brings", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.say("hello");
  await settle();
  assertEquals(conn.reading, true);
  channel.close();
  conn.deliver("late");
  await settle();
  assertEquals([world.take(), conn.reading], [[], true]);
  conn.end();
  await world.served;
  assert(conn.closed);
});

Deno.test("9 send: loop() that ends because the map is empty waits for sockets that linger", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  channel.onRead = () => {
    channel.say("bye");
    channel.close();
  };
  conn.deliver("x");
  let over = false;
  const served = loop({ map: world.map }).then(() => over = true);
  await settle();
  assertEquals([world.map.size, over], [0, false]);
  conn.release();
  await settle();
  assertEquals(over, false);
  conn.end();
  await served;
});

Deno.test("9 send: loop() over an empty map waits for sockets that linger from before", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.say("bye");
  channel.close();
  await world.serve();
  let over = false;
  world.served.then(() => over = true);
  await settle();
  assertEquals(over, false);
  conn.end();
  await world.served;
});

Deno.test("9 send: closeAll() and the map's Symbol.asyncDispose wait for sockets that linger", async () => {
  for (
    const end of [
      (world: World) => closeAll({ map: world.map }),
      (world: World) => world.map[Symbol.asyncDispose](),
    ]
  ) {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    let over = false;
    a.channel.say("x");
    b.channel.say("y");
    a.channel.close(); // one that lingers already
    const ended = end(world).then(() => over = true);
    a.conn.end();
    await settle();
    assertEquals([world.map.size, over, b.conn.closed], [0, false, false]);
    b.conn.end();
    await ended;
    assert(b.conn.closed);
  }
});

Deno.test("9 send: closeAll() waits before it throws what failed", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.say("x");
  b.channel.close = () => {
    throw new Error("no");
  };
  let over = false;
  const ended = closeAll({ map: world.map }).finally(() => over = true);
  ended.catch(() => {});
  await settle();
  assertEquals(over, false);
  a.conn.end();
  await assertRejects(() => ended, AggregateError);
  b.channel.abort();
});

Deno.test("9 send: poll(), count, signal and ExitNow do not wait for sockets that linger", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.say("x");
  channel.close();
  const other = connected(world, "b");
  await settle();
  await poll(0, world.map);
  await loop({ map: world.map, count: 2, timeout: 0 });
  await world.serve();
  await world.stop();
  other.channel.onRead = () => {
    throw new ExitNow();
  };
  other.conn.deliver("x");
  await assertRejects(() => loop({ map: world.map }), ExitNow);
  other.channel.abort();
  await poll(Infinity, world.map);
  // Nor does an aborted loop that waits for nothing else.
  await world.serve();
  await world.stop();
  assertFalse(conn.closed);
  conn.end();
  await settle();
  assert(conn.closed);
});

Deno.test("9 send: abort() drops everything, also of a socket that lingers", async () => {
  for (const lingers of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    conn.onWrite = "wait";
    await world.serve();
    channel.say("hello");
    await settle();
    if (lingers) channel.close();
    channel.abort();
    assertEquals(conn.calls, ["write 5", "close"]);
    await world.served;
    assertEquals([conn.sent, world.clock.timers, world.take()], ["", [], []]);
  }
});

// Half-closing.

Deno.test("9 send: shutdown() half-closes after everything that send() took", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  channel.shutdown("write");
  await settle();
  conn.release(2);
  await settle();
  assertEquals(conn.calls, ["write 5", "write 3"]);
  conn.release();
  await settle();
  assertEquals(conn.calls, ["write 5", "write 3", "closeWrite"]);
  conn.deliver("answer");
  await settle();
  conn.end();
  await settle();
  assertEquals(world.take(), [
    "a read answer",
    "a read ",
    "a eof",
    "a close eof",
  ]);
  assertEquals(conn.calls.slice(2), ["closeWrite", "close"]);
});

Deno.test("9 send: shutdown() with nothing to write half-closes at once; twice is a no-op", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.shutdown("write");
  channel.shutdown("write");
  await settle();
  channel.shutdown("write");
  assertEquals([conn.calls, channel.room], [["closeWrite"], 0]);
  channel.abort();
  channel.shutdown("write");
});

Deno.test("9 send: after shutdown() writable() is not asked any more", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await world.serve();
  channel.shutdown("write");
  channel.wantsWrite = true;
  const { writable } = channel.asked;
  world.map.wake();
  await settle();
  assertEquals([channel.asked.writable, world.take()], [writable, []]);
  await world.stop();
});

Deno.test("9 send: shutdown() in the handler takes back a write event that was due", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  channel.wantsWrite = true;
  channel.onRead = () => {
    channel.recv();
    channel.shutdown("write");
  };
  conn.deliver("x");
  await settle();
  world.map.wake();
  await poll(0, world.map);
  assertEquals(world.take(), []);
  channel.abort();
});

Deno.test("9 send: close() after shutdown() waits for what is not written, and half-closes once", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("hello");
  channel.shutdown("write");
  channel.close();
  await settle();
  conn.release();
  await settle();
  assertEquals(conn.calls, ["write 5", "closeWrite"]);
  conn.end();
  await world.served;
  assertEquals(conn.calls, ["write 5", "closeWrite", "close"]);
});

Deno.test("9 send: shutdown() on a listener, without a socket or of another direction is a TypeError", () => {
  const world = new World();
  const { channel: server } = listening(world, "l");
  assertThrows(() => server.shutdown("write"), TypeError);
  assertThrows(() => new Traced(world, "a").shutdown("write"), TypeError);
  const { channel } = connected(world, "b");
  assertThrows(() => channel.shutdown("read" as "write"), TypeError);
  server.abort();
  channel.abort();
});

// DispatcherWithSend.

Deno.test("9 send: DispatcherWithSend takes everything, before it is connected too, and close() does not lose it", async () => {
  const world = new World();
  const channel = new DispatcherWithSend(null, { map: world.map });
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  const large = new Uint8Array(1_000_000).fill(120);
  assertEquals([channel.send(bytes("hello ")), channel.send(large)], [
    6,
    1_000_000,
  ]);
  await world.serve();
  channel.close();
  assertEquals(channel.send(bytes("late")), 0);
  const conn = world.system.connects[0]!.succeed();
  await settle();
  assertEquals(conn.sent, "hello " + text(large));
  assertEquals(conn.calls.at(-1), "closeWrite");
  conn.end();
  await world.served;
  assert(conn.closed);
  assertEquals(world.clock.timers, []);
});

Deno.test("9 send: a socket that lingers before it is connected gives up after lingerTimeout, or when the connect fails", async () => {
  for (const fails of [false, true]) {
    const world = new World();
    const channel = new DispatcherWithSend(null, { map: world.map });
    channel.createSocket();
    channel.connect({ hostname: "127.0.0.1", port: 80 });
    channel.send(bytes("hello"));
    channel.close();
    await world.serve();
    if (fails) world.system.connects[0]!.fail(new Error("refused"));
    else {
      await world.clock.advance(9_999);
      assertFalse(world.system.connects[0]!.aborted);
      await world.clock.advance(1);
      await settle();
      assert(world.system.connects[0]!.aborted);
    }
    await world.served;
    assertEquals(world.clock.timers, []);
  }
});

Deno.test("9 send: a plain dispatcher that closes while connecting has sent nothing and does not linger", async () => {
  const world = new World();
  const channel = new Dispatcher(null, { map: world.map });
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  channel.send(bytes("hello"));
  await world.serve();
  channel.close();
  await world.served;
  await settle();
  assert(world.system.connects[0]!.aborted);
});

Deno.test("9 send: close() long after shutdown() gives the peer its 2 s, too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.say("hello");
  channel.shutdown("write");
  await world.clock.advance(60_000);
  // An upload that goes on: closing with unread input would reset the connection.
  channel.wantsRead = false;
  conn.deliver("more");
  await settle();
  channel.close();
  await settle();
  assertFalse(conn.closed);
  conn.deliver("and more");
  await world.clock.advance(1_999);
  assertFalse(conn.closed);
  await world.clock.advance(1);
  assertEquals(conn.calls, ["write 5", "closeWrite", "close"]);
  await world.served;
});

Deno.test("9 send: it takes nothing after close() of a listener, as of any socket", () => {
  const world = new World();
  const { channel } = listening(world, "l");
  channel.close();
  assertEquals([channel.say("x"), channel.room], [0, 0]);
  assertEquals(channel.recv().length, 0);
});
