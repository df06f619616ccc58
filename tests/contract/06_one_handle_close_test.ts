import {
  assert,
  assertEquals,
  assertFalse,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  type CloseKind,
  type CloseReason,
  Dispatcher,
  poll,
} from "../../mod.ts";
import { bytes, FakeConn, settle, World } from "../fakes.ts";
import {
  connected,
  connecting,
  listening,
  type Pair,
  Traced,
} from "./traced.ts";

/** How connections end, and what `handleClose` is told. */
const ENDS: [string, (pair: Pair) => void, CloseKind][] = [
  ["end of file", ({ conn }) => conn.end(), "eof"],
  [
    "reset",
    ({ conn }) => conn.failRead(new Deno.errors.ConnectionReset("gone")),
    "reset",
  ],
  ["read error", ({ conn }) => conn.failRead(new Error("odd")), "error"],
  [
    "failed write",
    ({ channel, conn }) => {
      conn.failWrite(new Deno.errors.BrokenPipe("gone"));
      channel.say("x");
    },
    "reset",
  ],
  [
    "odd failed write",
    ({ channel, conn }) => {
      conn.failWrite(new Error("odd"));
      channel.say("x");
    },
    "error",
  ],
  [
    "failed half-close",
    ({ channel, conn }) => {
      conn.closeWriteError = new Deno.errors.NotConnected("gone");
      channel.shutdown("write");
    },
    "reset",
  ],
  [
    "read and write that fail together",
    ({ channel, conn }) => {
      conn.failWrite(new Deno.errors.BrokenPipe("gone"));
      channel.say("x");
      conn.failRead(new Deno.errors.ConnectionReset("gone"));
    },
    "reset",
  ],
  [
    "error in a handler",
    ({ channel, conn }) => {
      channel.onRead = () => {
        throw new Error("mine");
      };
      conn.deliver("x");
    },
    "error",
  ],
  [
    "disconnect, twice, with an end of file",
    ({ channel, conn }) => {
      channel.disconnect({ kind: "limit" });
      channel.disconnect({ kind: "timeout" });
      conn.end();
    },
    "limit",
  ],
];

for (const usePoll of [false, true]) {
  for (const [what, end, kind] of ENDS) {
    const how = usePoll ? " (usePoll)" : "";
    Deno.test(`6 one handleClose: exactly one, after ${what}${how}`, async () => {
      const world = new World();
      const pair = connected(world, "a");
      await world.serve({ usePoll });
      end(pair);
      await settle();
      world.map.wake();
      await settle();
      const trace = world.take();
      assertEquals(trace.filter((event) => event.startsWith("a close")), [
        `a close ${kind}`,
      ]);
      assertEquals(trace.at(-1), `a close ${kind}`);
      assert(pair.conn.closed || pair.conn.calls.includes("closeWrite"));
      assertEquals(world.map.size, 0);
      pair.channel.abort();
      await world.served;
    });
  }
}

Deno.test("6 one handleClose: none after your own close() or abort()", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  a.channel.close();
  b.channel.abort();
  await world.served;
  assertEquals(world.take(), []);
});

Deno.test("6 one handleClose: none for a disconnect() before your own close()", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await world.serve();
  channel.disconnect({ kind: "error" });
  channel.close();
  channel.disconnect({ kind: "error" });
  await world.served;
  assertEquals(world.take(), []);
});

Deno.test("6 one handleClose: it runs in the close phase of the pass that found out", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await poll(0, world.map);
  conn.end();
  await settle();
  await poll(0, world.map);
  assertEquals(world.take(), ["a read ", "a eof", "a close eof"]);
});

Deno.test("6 one handleClose: until then the channel gets no other event", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await poll(0, world.map);
  b.channel.wantsWrite = true;
  a.channel.onRead = () => {
    a.channel.note(`read ${a.channel.recv().length}`);
    b.channel.disconnect({ kind: "timeout" });
  };
  a.conn.deliver("x");
  b.conn.deliver("y");
  await settle();
  world.map.wake();
  await poll(0, world.map);
  assertEquals(world.take(), ["a read 1", "b close timeout"]);
});

Deno.test("6 one handleClose: a channel whose own handler disconnects gets no other event, nor is it asked", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  channel.wantsWrite = true;
  let asked = 0;
  channel.onRead = () => {
    channel.note("read");
    channel.disconnect({ kind: "limit" });
    asked = channel.asked.writable;
  };
  conn.deliver("x");
  await settle();
  world.map.wake();
  await poll(0, world.map);
  assertEquals([world.take(), channel.asked.writable], [
    ["a read", "a close limit"],
    asked,
  ]);
});

Deno.test("6 one handleClose: after an end of file the write event of that pass still comes, and can send", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await poll(0, world.map);
    channel.wantsWrite = true;
    channel.onWrite = () => channel.note(`write ${channel.say("bye")}`);
    conn.end();
    await settle();
    world.map.wake();
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), [
      "a read ",
      "a eof",
      "a write 3",
      "a close eof",
    ]);
    await settle();
    assertEquals([conn.sent, conn.closed], ["bye", true]);
  }
});

Deno.test("6 one handleClose: after an end of file with writable() false no write event comes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  channel.wantsWrite = true;
  channel.onRead = () => {
    channel.recv();
    channel.wantsWrite = false;
  };
  conn.end();
  await settle();
  world.map.wake();
  await poll(0, world.map);
  assertEquals(world.take(), ["a eof", "a close eof"]);
});

Deno.test("6 one handleClose: the reason has kind, error and bytesUnsent", async () => {
  const world = new World();
  const error = new Deno.errors.ConnectionReset("gone");
  const reasons: CloseReason[] = [];
  const eof = connected(world, "a");
  const reset = connected(world, "b");
  const own = connected(world, "c");
  for (const { channel } of [eof, reset, own]) {
    channel.onClose = (reason) => void reasons.push(reason);
  }
  reset.conn.onWrite = own.conn.onWrite = "wait";
  await world.serve();
  reset.channel.say("12345");
  own.channel.say("123");
  await settle();
  eof.conn.end();
  await settle();
  reset.conn.failRead(error);
  await settle();
  own.channel.disconnect({ kind: "limit", error: "too much" });
  await settle();
  assertEquals(reasons.map(({ kind }) => kind), ["eof", "reset", "limit"]);
  assertEquals(reasons[0], { kind: "eof", bytesUnsent: 0 });
  assertStrictEquals(reasons[1]!.error, error);
  assertEquals(reasons[1]!.bytesUnsent, 5);
  assertEquals(reasons[2], {
    kind: "limit",
    error: "too much",
    bytesUnsent: 3,
  });
  await world.stop();
});

Deno.test("6 one handleClose: bytesUnsent leaves out what went to the operating system", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  let unsent = -1;
  channel.onClose = ({ bytesUnsent }) => void (unsent = bytesUnsent);
  conn.onWrite = "wait";
  await world.serve();
  channel.say("12345");
  await settle();
  conn.release(2);
  await settle();
  conn.failWrite(new Deno.errors.BrokenPipe("gone"));
  await settle();
  assertEquals(unsent, 3);
  await world.stop();
});

Deno.test("6 one handleClose: a socket that handleClose leaves open is closed when it returns", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onClose = () => {
    channel.note(`close ${conn.closed} ${channel.closing}`);
  };
  conn.end();
  await world.serve();
  await world.served;
  assertEquals([world.take().at(-1), conn.closed], [
    "a close false true",
    true,
  ]);
});

Deno.test("6 one handleClose: a socket that handleClose leaves open is closed when its promise settles", async () => {
  for (const fails of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    channel.onClose = () => promise;
    conn.end();
    await world.serve();
    world.map.wake();
    await settle();
    assertFalse(conn.closed);
    if (fails) reject(new Error("late"));
    else resolve();
    await settle();
    assert(conn.closed);
    await world.served;
  }
});

Deno.test("6 one handleClose: reconnecting in handleClose is fine", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onClose = ({ kind }) => {
    channel.note(`close ${kind}`);
    channel.close();
    channel.createSocket();
    channel.connect({ hostname: "127.0.0.1", port: 80 });
  };
  conn.end();
  await world.serve();
  assertEquals([conn.closed, channel.connecting], [true, true]);
  const second = world.system.connects[0]!.succeed();
  second.deliver("x");
  await settle();
  second.end();
  await settle();
  assertEquals(world.take(), [
    "a read ",
    "a eof",
    "a close eof",
    "a connect",
    "a read x",
    "a read ",
    "a eof",
    "a close eof",
  ]);
  assertEquals([second.closed, channel.connecting], [true, true]);
  await world.stop();
});

Deno.test("6 one handleClose: reconnecting in an async handleClose is fine", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onClose = async () => {
    channel.close();
    channel.createSocket();
    channel.connect({ hostname: "127.0.0.1", port: 80 });
    await promise;
  };
  conn.end();
  await world.serve();
  const second = world.system.connects[0]!.succeed();
  second.deliver("x");
  await settle();
  resolve();
  await settle();
  assertEquals(world.take().slice(2), ["a connect", "a read x"]);
  assertEquals([second.closed, channel.connected], [false, true]);
  await world.stop();
});

Deno.test("6 one handleClose: disconnect() runs nothing inside the call, and handleClose follows", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.disconnect({ kind: "timeout" });
  assertEquals([world.take(), channel.closing], [[], true]);
  await poll(0, world.map);
  await poll(0, world.map);
  assertEquals([world.take(), conn.closed], [["a close timeout"], true]);
});

Deno.test("6 one handleClose: disconnect() from outside wakes the loop", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await world.serve();
  channel.disconnect({ kind: "done" });
  await settle();
  assertEquals(world.take(), ["a close done"]);
});

Deno.test("6 one handleClose: disconnect() while connecting ends in one handleClose, and the late connection is closed", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  await world.serve();
  channel.disconnect({ kind: "timeout" });
  const conn = world.system.connects[0]!.succeed();
  await settle();
  assertEquals([world.take(), conn.closed], [["a close timeout"], true]);
  await world.served;
});

Deno.test("6 one handleClose: disconnect() ends a listener", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  channel.disconnect({ kind: "error" });
  await settle();
  assertEquals([world.take(), listener.closed], [["l close error"], true]);
});

Deno.test("6 one handleClose: disconnect() with no known kind is a TypeError", () => {
  const world = new World();
  const { channel } = connected(world, "a");
  for (const kind of ["close", "", undefined]) {
    assertThrows(
      () => channel.disconnect({ kind: kind as CloseKind }),
      TypeError,
    );
  }
  assertFalse(channel.closing);
  channel.abort();
});

Deno.test("6 one handleClose: a handler that ignores the reason works", async () => {
  const world = new World();
  class Plain extends Dispatcher {
    override handleClose() {
      world.trace.push("close");
      this.close();
    }
    override writable() {
      return false;
    }
  }
  const conn = new FakeConn();
  const channel = new Plain(conn, { map: world.map });
  await world.serve();
  channel.disconnect({ kind: "eof" });
  await world.served;
  assertEquals([world.take(), conn.closed], [["close"], true]);
});

Deno.test("6 one handleClose: after a reset, timeout or limit nothing is flushed, after an end of file everything", async () => {
  for (const kind of ["reset", "timeout", "limit", "eof", "done"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    conn.onWrite = "wait";
    await world.serve();
    channel.send(bytes("12345"));
    await settle();
    channel.disconnect({ kind });
    await settle();
    const flushed = kind === "eof" || kind === "done";
    assertEquals(conn.closed, !flushed, kind);
    if (flushed) conn.release();
    await settle();
    assertEquals(conn.sent, flushed ? "12345" : "", kind);
    channel.abort();
    await world.served;
  }
});

Deno.test("6 one handleClose: a channel that is made and disconnected in one handler gets its handleClose", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    channel.onAccepted = (conn) => {
      new Traced(world, "child", conn).disconnect({ kind: "limit" });
    };
    await world.serve({ usePoll });
    const conn = listener.deliver(new FakeConn());
    await settle();
    assertEquals([world.take(), conn.closed], [["child close limit"], true]);
    await world.stop();
  }
});

Deno.test("6 one handleClose: a channel that is made and disconnected outside gets its handleClose from a loop that waits", async () => {
  const world = new World();
  connected(world, "other");
  await world.serve();
  const { channel, conn } = connected(world, "a");
  channel.disconnect({ kind: "limit" });
  await settle();
  assertEquals([world.take(), conn.closed], [["a close limit"], true]);
  await world.stop();
});

Deno.test("6 one handleClose: a channel that another's handler disconnects as at an end of file gets no read event", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await poll(0, world.map);
    a.channel.onRead = () => {
      a.channel.recv();
      b.channel.disconnect({ kind: "eof" });
    };
    a.conn.deliver("x");
    b.conn.deliver("y");
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), ["b close eof"]);
    a.channel.abort();
  }
});
