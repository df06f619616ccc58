import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { ExitNow, loop, poll } from "../../mod.ts";
import { settle, text, World } from "../fakes.ts";
import { connected } from "./traced.ts";

const reset = () => new Deno.errors.ConnectionReset("reset by peer");
const broken = () => new Deno.errors.BrokenPipe("broken pipe");

Deno.test("7 end of file: handleRead, in which recv() returns 0 bytes, then handleEof, then handleClose", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    const lengths = [
      channel.recv().length,
      channel.recv(1).length,
      channel.recvInto(new Uint8Array(5)),
      channel.recvView().length,
    ];
    channel.note(`read ${lengths}`);
  };
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read 0,0,0,0", "a eof", "a close eof"]);
});

Deno.test("7 end of file: it comes after all data was taken", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => channel.note(`read ${text(channel.recv(2))}`);
  conn.deliver("12345");
  conn.end();
  await world.serve();
  assertEquals(world.take(), [
    "a read 12",
    "a read 34",
    "a read 5",
    "a read ",
    "a eof",
    "a close eof",
  ]);
});

Deno.test("7 end of file: it comes byte by byte as it comes at once", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  for (const byte of "abc") conn.deliver(byte);
  conn.end();
  await world.serve();
  assertEquals(world.take(), [
    ...["a", "b", "c", ""].map((byte) => `a read ${byte}`),
    "a eof",
    "a close eof",
  ]);
});

Deno.test("7 end of file: a handleRead that does not ask is followed by handleEof all the same", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => channel.note("read");
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read", "a eof", "a close eof"]);
});

Deno.test("7 end of file: a handleEof that does not disconnect keeps the write half", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onEof = () => channel.note("eof");
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read ", "a eof"]);
  assertEquals([channel.connected, channel.closing], [true, false]);
  const { readable } = channel.asked;
  channel.onWrite = () => {
    channel.note(`write ${channel.say("more")}`);
    channel.wantsWrite = false;
  };
  for (let i = 0; i < 2; i++) {
    channel.wantsWrite = true;
    world.map.wake();
    await settle();
  }
  assertEquals([world.take(), conn.sent], [
    ["a write 4", "a write 4"],
    "moremore",
  ]);
  // No read event, and readable() is not asked any more.
  assertEquals([channel.asked.readable, conn.reads], [readable, 1]);
  await world.stop();
});

Deno.test("7 end of file: a half-closed connection ends by close(), disconnect() or a failed write", async () => {
  for (const how of ["close", "disconnect", "write"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onEof = () => {};
    conn.end();
    await world.serve();
    world.take();
    if (how === "close") channel.close();
    else if (how === "disconnect") channel.disconnect({ kind: "done" });
    else {
      conn.failWrite(broken());
      channel.say("x");
    }
    await settle();
    const expected = {
      close: [],
      disconnect: ["a close done"],
      write: ["a close reset"],
    };
    assertEquals([world.take(), conn.closed], [expected[how], true], how);
    await world.served;
  }
});

for (
  const [what, error, kind] of [
    ["reset", reset(), "reset"],
    ["aborted", new Deno.errors.ConnectionAborted("aborted"), "reset"],
    ["timed out", new Deno.errors.TimedOut("timed out"), "error"],
    ["invalid data", new Deno.errors.InvalidData("bad record"), "error"],
    ["interrupted", new Deno.errors.Interrupted("operation canceled"), "error"],
    ["bad resource", new Deno.errors.BadResource("Bad resource ID"), "error"],
  ] as const
) {
  Deno.test(`7 end of file: a read that failed (${what}) is a read event after all data, then handleClose`, async () => {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    let given: unknown;
    channel.onClose = ({ kind, error }) => {
      channel.note(`close ${kind}`);
      given = error;
    };
    conn.deliver("12345");
    conn.failRead(error);
    await world.serve();
    // No handleEof: it is no end of file; no handleError: it is no fault of ours.
    assertEquals(world.take(), ["a read 12345", "a read ", `a close ${kind}`]);
    assertStrictEquals(given, error);
  });
}

Deno.test("7 end of file: a reset waits for data that was not taken, and for readable()", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(2))}`);
    channel.wantsRead = false;
  };
  conn.deliver("123");
  conn.failRead(reset());
  await world.serve();
  for (const expected of [["a read 12"], ["a read 3"]]) {
    assertEquals(world.take(), expected);
    channel.wantsRead = true;
    channel.wake();
    await settle();
  }
  assertEquals(world.take(), ["a read ", "a close reset"]);
});

Deno.test("7 end of file: after a failed write, received data is delivered first, then handleClose", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => channel.note(`read ${text(channel.recv(2))}`);
  let given: unknown;
  channel.onClose = ({ kind, error }) => {
    channel.note(`close ${kind}`);
    given = error;
  };
  conn.onWrite = "wait";
  await world.serve();
  channel.say("x");
  await settle();
  const error = broken();
  // The write fails first; some data had been received, more lies in the kernel.
  conn.failWrite(error);
  conn.deliver("123");
  conn.deliver("4");
  conn.deliver("5");
  conn.failRead(reset());
  await settle();
  assertEquals(world.take(), [
    "a read 12",
    "a read 3",
    "a read 4",
    "a read 5",
    "a close reset",
  ]);
  assertStrictEquals(given, error);
});

Deno.test("7 end of file: after a failed write, data that was received while readable() was false is delivered first", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.wantsRead = false;
  conn.deliver("1");
  await settle();
  conn.deliver("2"); // nobody asked for it yet
  channel.wantsRead = true;
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a read 1", "a read 2", "a close reset"]);
});

Deno.test("7 end of file: after a failed write with nothing to read, handleClose does not wait for the peer", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals([world.take(), conn.closed], [["a close reset"], true]);
});

Deno.test("7 end of file: after a failed write, data that is not wanted does not delay handleClose, whose recv() returns it", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onClose = () => channel.note(`close ${text(channel.recv())}`);
  await world.serve();
  channel.wantsRead = false;
  conn.deliver("kept");
  await settle();
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a close kept"]);
});

Deno.test("7 end of file: after a failed write, a handleRead that stops wanting gets no more, and one that takes nothing does not hang", async () => {
  for (const stop of ["wanting", "taking"]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onRead = () => {
      if (stop === "wanting") {
        channel.note(`read ${text(channel.recv(1))}`);
        channel.wantsRead = false;
      } else channel.note("read");
    };
    channel.onClose = () => channel.note(`close ${text(channel.recv())}`);
    await world.serve();
    conn.failWrite(broken());
    channel.say("x");
    conn.deliver("123");
    await settle();
    assertEquals(
      world.take(),
      stop === "wanting"
        ? ["a read 1", "a close 23"]
        : ["a read", "a close 123"],
    );
  }
});

Deno.test("7 end of file: after a failed write, nothing can be sent and no write event comes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.wantsWrite = true;
  channel.onRead = () => {
    channel.note(`read ${channel.recv().length} ${channel.say("y")}`);
  };
  conn.failWrite(broken());
  channel.say("x");
  conn.deliver("123");
  await settle();
  assertEquals(world.take().filter((event) => event !== "a write"), [
    "a read 3 0",
    "a close reset",
  ]);
  assertEquals([channel.room, conn.calls], [0, ["write 1", "close"]]);
});

Deno.test("7 end of file: a channel with neither predicate true does not notice the peer's close", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  await world.serve();
  conn.failRead(reset());
  world.map.wake();
  await settle();
  await world.clock.advance(60_000);
  assertEquals([world.take(), channel.connected, conn.reads], [[], true, 0]);
  await world.stop();
});

Deno.test("7 end of file: an end found by our own write is reported whatever the predicates say", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  await world.serve();
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a close reset"]);
});

Deno.test("7 end of file: a write that fails in a later piece is reported, too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  conn.onWrite = "wait";
  await world.serve();
  channel.say("12345");
  await settle();
  conn.release(2);
  await settle();
  conn.failWrite(reset());
  await settle();
  assertEquals(world.take(), ["a close reset"]);
  assertEquals(conn.sent, "12");
});

Deno.test("7 end of file: recv() inside handleClose still returns what was received, then 0 bytes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onClose = () => {
    channel.note(`close ${text(channel.recv(2))} ${text(channel.recv())}`);
    channel.note(`${channel.recv().length}`);
  };
  await world.serve();
  channel.wantsRead = false;
  conn.deliver("1234");
  await settle();
  channel.disconnect({ kind: "timeout" });
  await settle();
  assertEquals(world.take(), ["a close 12 34", "a 0"]);
  assertEquals(channel.recv().length, 0);
});

Deno.test("7 end of file: several ends in one pass end each channel once", async () => {
  const world = new World();
  const pairs = ["a", "b", "c"].map((name) => connected(world, name));
  await world.serve();
  pairs[0]!.conn.end();
  pairs[1]!.conn.failRead(reset());
  pairs[2]!.conn.end();
  await settle();
  assertEquals(world.take(), [
    "a read ",
    "a eof",
    "b read ",
    "c read ",
    "c eof",
    "a close eof",
    "b close reset",
    "c close eof",
  ]);
  await world.served;
});

Deno.test("7 end of file: an end that comes while handleRead is pending waits for it", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(1))}`);
    return promise;
  };
  conn.deliver("1");
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read 1"]);
  resolve();
  await settle();
  assertEquals(world.take(), ["a read ", "a eof", "a close eof"]);
});

Deno.test("7 end of file: an async handleRead at the end is awaited before handleEof", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = async () => {
    channel.note("read");
    await promise;
    channel.note("read done");
  };
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read"]);
  resolve();
  await settle();
  assertEquals(world.take(), ["a read done", "a eof", "a close eof"]);
});

Deno.test("7 end of file: it is a read event of one pass with poll(), too", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await poll(0, world.map);
  conn.failRead(reset());
  await settle();
  await poll(0, world.map);
  assertEquals(world.take(), ["a read ", "a close reset"]);
  assert(conn.closed);
});

Deno.test("7 end of file: a handleRead that fails at the end, and whose handleError keeps the connection, is followed by handleEof", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onError = () => channel.note("error");
  channel.onRead = () => {
    channel.note("read");
    throw new Error("mine");
  };
  conn.end();
  await world.serve();
  assertEquals(world.take(), ["a read", "a error", "a eof", "a close eof"]);
});

Deno.test("7 end of file: after a failed write while handleRead is pending, the rest of the data is delivered first", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(1))}`);
    return promise;
  };
  conn.deliver("12");
  await world.serve();
  conn.deliver("3");
  conn.failWrite(broken());
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a read 1"]);
  resolve();
  await settle();
  assertEquals(world.take(), ["a read 2", "a read 3", "a close reset"]);
});

const EXITS: [string, () => void | Promise<void>][] = [
  ["sync", () => {
    throw new ExitNow();
  }],
  ["async", () => Promise.reject(new ExitNow())],
];

Deno.test("7 end of file: handleEof is called again after it left the loop by ExitNow", async () => {
  for (const [how, leave] of EXITS) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onEof = () => {
      channel.onEof = () => {
        channel.note("eof again");
        channel.close();
      };
      return leave();
    };
    conn.end();
    await assertRejects(() => loop({ map: world.map }), ExitNow, "", how);
    await loop({ map: world.map });
    assertEquals(world.take().at(-1), "a eof again", how);
  }
});

Deno.test("7 end of file: handleEof comes though handleRead, sync or async, made readable() false at the end", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    let awaited = Promise.resolve();
    channel.onRead = () => {
      channel.note(`read ${text(channel.recv())}`);
      channel.wantsRead = false;
      if (isAsync) return awaited = settle();
    };
    conn.end();
    await world.serve();
    await awaited;
    await settle();
    assertEquals(world.take(), ["a read ", "a eof", "a close eof"]);
    await world.served;
  }
});

Deno.test("7 end of file: after a failed write, a reader that took nothing at first, and then something, is given all of it", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const other = connected(world, "other");
  let calls = 0;
  channel.onRead = () => {
    if (++calls > 1) channel.note(`read ${text(channel.recv(1))}`);
  };
  conn.onWrite = "wait";
  await world.serve();
  channel.say("x");
  await settle();
  // In the pass in which it takes nothing another channel makes progress.
  conn.failWrite(broken());
  conn.deliver("12");
  other.conn.deliver("go");
  await settle();
  assertEquals(world.take(), [
    "other read go",
    "a read 1",
    "a read 2",
    "a close reset",
  ]);
  other.channel.abort();
});

Deno.test("7 end of file: after a failed write, an async reader that took nothing at first, and then something, is given all of it", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const other = connected(world, "other");
  let calls = 0;
  const later = async () => {
    await null;
    channel.note(`read ${text(channel.recv(1))}`);
  };
  channel.onRead = () => ++calls === 1 ? undefined : later();
  conn.onWrite = "wait";
  await world.serve();
  channel.say("x");
  await settle();
  conn.failWrite(broken());
  conn.deliver("12");
  other.conn.deliver("go");
  await settle();
  assertEquals(world.take(), [
    "other read go",
    "a read 1",
    "a read 2",
    "a close reset",
  ]);
  other.channel.abort();
});
