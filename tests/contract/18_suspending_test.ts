import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { declareOwn } from "../../channel_map.ts";
import { Dispatcher, ExitNow, poll } from "../../mod.ts";
import { FakeConn, settle, text, World } from "../fakes.ts";
import { connected, connecting, listening, Traced } from "./traced.ts";

/** A world whose loop goes on when every other channel is suspended. */
async function serving(): Promise<World> {
  const world = new World();
  connected(world, "other");
  await world.serve();
  return world;
}

Deno.test("18 suspending: after delChannel() no handler runs and no predicate is asked", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  await settle();
  channel.delChannel();
  channel.wantsWrite = true;
  channel.asked = { readable: 0, writable: 0 };
  conn.deliver("x");
  channel.wake();
  world.map.wake();
  await settle();
  await world.clock.advance(100_000);
  assertEquals([world.take(), channel.asked], [[], {
    readable: 0,
    writable: 0,
  }]);
  assertEquals([channel.connected, conn.closed], [true, false]);
  assertFalse([...world.map].includes(channel));
  channel.abort();
  await world.stop();
});

for (const usePoll of [false, true]) {
  const how = usePoll ? " (usePoll)" : "";

  Deno.test(`18 suspending: no handler, also not in the running pass${how}`, async () => {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await poll(0, world.map);
    for (const { channel, conn } of [a, b]) {
      channel.wantsWrite = true;
      channel.wake();
      conn.deliver("x");
    }
    a.channel.onRead = () => {
      a.channel.note("read");
      a.channel.delChannel();
      b.channel.delChannel();
    };
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals([world.take(), world.map.size], [["a read"], 0]);
    a.channel.onRead = () => a.channel.note(text(a.channel.recv()));
    b.channel.addChannel();
    a.channel.addChannel();
    await poll(0, world.map, { usePoll });
    await poll(0, world.map, { usePoll });
    assertEquals(
      world.take().filter((event) => !event.includes("write")).sort(),
      ["a x", "b read x"],
    );
  });

  Deno.test(`18 suspending: a handleClose that was due waits for addChannel()${how}`, async () => {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await poll(0, world.map);
    a.channel.onRead = () => {
      a.channel.recv();
      b.channel.disconnect({ kind: "done" });
      b.channel.delChannel();
    };
    a.conn.deliver("x");
    await settle();
    await poll(0, world.map, { usePoll });
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), []);
    b.channel.addChannel();
    await poll(0, world.map, { usePoll });
    assertEquals([world.take(), b.conn.closed], [["b close done"], true]);
    a.channel.abort();
  });
}

Deno.test("18 suspending: an operation in flight completes, and its result is kept", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  await settle();
  assert(conn.reading);
  channel.delChannel();
  conn.deliver("x");
  await settle();
  assertFalse(conn.reading);
  channel.addChannel();
  await settle();
  assertEquals([world.take(), conn.reads], [["a read x"], 2]);
  await world.stop();
});

Deno.test("18 suspending: no operation is started while suspended", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  const { channel: server, listener } = listening(world, "l");
  channel.delChannel();
  server.delChannel();
  world.map.wake();
  await settle();
  assertEquals([conn.reads, listener.accepts], [0, 0]);
  channel.abort();
  server.abort();
  await world.stop();
});

Deno.test("18 suspending: an end, a reset and a failed write are kept", async () => {
  const ends: Record<string, (channel: Traced, conn: FakeConn) => void> = {
    "a read ,a eof,a close eof": (_, conn) => conn.end(),
    "a read ,a close reset": (_, conn) =>
      conn.failRead(new Deno.errors.ConnectionReset("gone")),
    "a close reset": (channel, conn) => {
      conn.failWrite(new Deno.errors.BrokenPipe("gone"));
      channel.say("x");
    },
    "a close timeout": (channel) => channel.disconnect({ kind: "timeout" }),
  };
  for (const [expected, end] of Object.entries(ends)) {
    const world = await serving();
    const { channel, conn } = connected(world, "a");
    await settle();
    channel.delChannel();
    end(channel, conn);
    await settle();
    world.map.wake();
    await settle();
    assertEquals([world.take(), conn.closed], [[], false], expected);
    channel.addChannel();
    await settle();
    assertEquals([world.take().join(), conn.closed], [expected, true]);
    await world.stop();
  }
});

Deno.test("18 suspending: a connect that ends meanwhile is kept", async () => {
  for (const fails of [false, true]) {
    const world = await serving();
    const channel = connecting(world, "a");
    await settle();
    channel.delChannel();
    if (fails) world.system.connects[0]!.fail(new Error("refused"));
    else world.system.connects[0]!.succeed().deliver("x");
    await settle();
    assertEquals([world.take(), channel.connecting], [[], true]);
    channel.addChannel();
    await settle();
    assertEquals(
      world.take(),
      fails ? ["a error refused", "a close error"] : ["a connect", "a read x"],
    );
    await world.stop();
  }
});

Deno.test("18 suspending: a connection accepted meanwhile is kept", async () => {
  const world = await serving();
  const { channel, listener } = listening(world, "l");
  await settle();
  channel.delChannel();
  const conn = listener.deliver(new FakeConn());
  await settle();
  assertEquals([world.take(), conn.closed], [[], false]);
  channel.addChannel();
  await settle();
  assertEquals(world.take(), ["l accepted"]);
  await world.stop();
});

Deno.test("18 suspending: a listener that backs off while suspended accepts again after addChannel()", async () => {
  const world = await serving();
  const { channel, listener } = listening(world, "l");
  await settle();
  listener.fail(Object.assign(new Error("too many"), { code: "EMFILE" }));
  await settle();
  channel.delChannel();
  await world.clock.advance(60_000);
  assertEquals(listener.accepts, 1);
  channel.addChannel();
  await settle();
  assertEquals(listener.accepts, 2);
  await world.stop();
});

Deno.test("18 suspending: bytes already taken by send() are still written, and send() goes on", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await settle();
  channel.say("12345");
  channel.delChannel();
  await settle();
  conn.release(2);
  await settle();
  conn.release();
  await settle();
  assertEquals(conn.sent, "12345");
  channel.say("6");
  await settle();
  conn.release();
  await settle();
  assertEquals([conn.sent, world.take()], ["123456", []]);
  channel.abort();
  await world.stop();
});

Deno.test("18 suspending: an async handler that settles meanwhile releases its hold", async () => {
  const world = await serving();
  const { promise, resolve } = Promise.withResolvers<void>();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(1))}`);
    return promise;
  };
  conn.deliver("12");
  await settle();
  channel.delChannel();
  resolve();
  await settle();
  assertEquals(world.take(), ["a read 1"]);
  channel.addChannel();
  await settle();
  assertEquals(world.take(), ["a read 2"]);
  await world.stop();
});

Deno.test("18 suspending: an async handler that fails meanwhile is told: an error never vanishes", async () => {
  const world = await serving();
  const { promise, reject } = Promise.withResolvers<void>();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.recv();
    return promise;
  };
  channel.onError = () => channel.note("error");
  conn.deliver("x");
  await settle();
  channel.delChannel();
  reject(new Error("mine"));
  await settle();
  channel.addChannel();
  await settle();
  assertEquals(world.take(), ["a error"]);
  await world.stop();
});

Deno.test("18 suspending: a loop ends when the last channel is suspended, and goes on with addChannel()", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.delChannel();
  await world.served;
  conn.deliver("x");
  await settle();
  channel.addChannel();
  await world.serve();
  assertEquals(world.take(), ["a read x"]);
  await world.stop();
});

Deno.test("18 suspending: addChannel() runs nothing inside the call, and the next pass examines it", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  channel.delChannel();
  conn.deliver("x");
  await settle();
  channel.asked = { readable: 0, writable: 0 };
  channel.addChannel();
  assertEquals([world.take(), channel.asked], [[], {
    readable: 0,
    writable: 0,
  }]);
  await poll(Infinity, world.map);
  assertEquals([world.take(), world.clock.idles], [["a read x"], 0]);
  channel.abort();
});

Deno.test("18 suspending: addChannel() from outside wakes a loop that waits", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  channel.delChannel();
  conn.deliver("x");
  await settle();
  channel.addChannel();
  await settle();
  assertEquals(world.take(), ["a read x"]);
  await world.stop();
});

Deno.test("18 suspending: a channel that is suspended and resumed in one handler loses nothing and gets nothing twice", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await poll(0, world.map);
    a.channel.onRead = () => {
      a.channel.note(`read ${text(a.channel.recv())}`);
      for (const { channel } of [a, b]) {
        channel.delChannel();
        channel.addChannel();
      }
    };
    for (const { channel, conn } of [a, b]) {
      channel.onWrite = () => {
        channel.note("write");
        channel.wantsWrite = false;
      };
      channel.wantsWrite = true;
      channel.wake();
      conn.deliver("x");
    }
    await settle();
    await poll(Infinity, world.map, { usePoll });
    assertEquals(world.take(), ["a read x"]); // the rest in the next pass
    await poll(Infinity, world.map, { usePoll });
    assertEquals(world.take().sort(), ["a write", "b read x", "b write"]);
    await world.serve({ usePoll });
    assertEquals(world.take(), []);
    await world.stop();
  }
});

Deno.test("18 suspending: addChannel() on a channel that is in the map changes nothing", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  await settle();
  const { size } = world.map;
  channel.addChannel();
  channel.addChannel();
  assertEquals(world.map.size, size);
  conn.deliver("x");
  await settle();
  assertEquals([world.take(), conn.reads], [["a read x"], 2]);
  await world.stop();
});

Deno.test("18 suspending: delChannel() twice, or without a socket, is a no-op", () => {
  const world = new World();
  new Traced(world, "none").delChannel();
  const { channel } = connected(world, "a");
  channel.delChannel();
  channel.delChannel();
  assertEquals(world.map.size, 0);
  channel.addChannel();
  assertEquals(world.map.size, 1);
  channel.abort();
  channel.delChannel();
});

Deno.test("18 suspending: addChannel() on a closed dispatcher, or without a socket, is a TypeError", () => {
  const world = new World();
  assertThrows(() => new Traced(world, "none").addChannel(), TypeError);
  const { channel } = connected(world, "a");
  channel.close();
  assertThrows(() => channel.addChannel(), TypeError);
  assertThrows(() => channel.addChannel(new World().map), TypeError);
  assertEquals(world.map.size, 0);
});

Deno.test("18 suspending: close() of a suspended channel closes it, and its bytes are written", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  channel.delChannel();
  channel.say("hello");
  channel.close();
  await world.serve();
  conn.release();
  await settle();
  conn.end();
  await world.served;
  assertEquals([conn.sent, conn.closed, world.take()], ["hello", true, []]);
});

Deno.test("18 suspending: what is suspended survives an ExitNow and another loop()", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await poll(0, world.map);
  b.channel.delChannel();
  b.conn.deliver("y");
  a.channel.onRead = () => {
    b.channel.addChannel();
    a.channel.recv();
    throw new ExitNow();
  };
  a.conn.deliver("x");
  await settle();
  await assertRejects(() => poll(0, world.map), ExitNow);
  await world.serve();
  assertEquals(world.take(), ["b read y"]);
  await world.stop();
});

// Changing maps.

Deno.test("18 suspending: addChannel(map) changes over to another map", async () => {
  const [one, two] = [new World(), new World()];
  const { channel, conn } = connected(one, "a");
  await one.serve();
  await two.serve();
  channel.delChannel();
  await one.served;
  conn.deliver("x");
  await settle();
  channel.addChannel(two.map);
  await two.serve();
  assertEquals([one.map.size, [...two.map]], [0, [channel]]);
  assertEquals(one.take(), ["a read x"]); // it traces where it was born
  conn.deliver("y");
  await settle();
  assertEquals(one.take(), ["a read y"]);
  channel.delChannel();
  channel.addChannel(); // the map it was in
  assertEquals([one.map.size, [...two.map]], [0, [channel]]);
  channel.abort();
  await two.served;
});

Deno.test("18 suspending: addChannel(map) without delChannel() takes it out of the old map", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  await settle();
  channel.addChannel(two.map);
  assertFalse([...one.map].includes(channel));
  assert([...two.map].includes(channel));
  await settle();
  conn.deliver("x");
  await settle();
  assertEquals(one.take(), ["a read x"]);
  await one.stop();
  conn.deliver("y"); // only the new map serves it
  await settle();
  assertEquals(one.take(), ["a read y"]);
  await two.stop();
});

Deno.test("18 suspending: a channel that its own handler moves to another map goes on there", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(1))}`);
    channel.addChannel(two.map);
  };
  conn.deliver("12");
  await settle();
  await one.stop();
  conn.deliver("3");
  await settle();
  assertEquals(one.take(), ["a read 1", "a read 2", "a read 3"]);
  await two.stop();
});

Deno.test("18 suspending: a channel with a pending async handler that changes maps goes on there", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv(1))}`);
    return promise;
  };
  conn.deliver("12");
  await settle();
  await one.stop(); // nobody serves the old map any more
  channel.addChannel(two.map);
  await settle();
  assertEquals(one.take(), ["a read 1"]);
  resolve();
  await settle();
  assertEquals(one.take(), ["a read 2"]);
  await two.stop();
});

Deno.test("18 suspending: a pending async handler that fails after its channel changed maps is told by the new map", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  const { promise, reject } = Promise.withResolvers<void>();
  channel.onRead = () => promise;
  conn.deliver("1");
  await settle();
  await one.stop();
  channel.addChannel(two.map);
  await settle();
  reject(new Error("mine"));
  await settle();
  assertEquals(one.take(), ["a error mine", "a close error"]);
  await two.stop();
});

Deno.test("18 suspending: a channel that was parked in one map is swept in the other", async () => {
  const [one, two] = [await serving(), await serving()];
  let calls = 0;
  class Parked extends Dispatcher {
    static {
      // So that it is swept because it is parked, and for no other reason.
      declareOwn(this.prototype.writable);
    }
    override writable() {
      return false;
    }
    override handleRead() {
      calls++;
    }
  }
  const conn = new FakeConn();
  const channel = new Parked(conn, { map: one.map });
  conn.deliver("x");
  await settle();
  assertEquals(calls, 1);
  channel.addChannel(two.map);
  await settle();
  assertEquals(calls, 2);
  connected(two, "b").conn.deliver("y");
  await settle();
  assertEquals([calls, two.take()], [3, ["b read y"]]);
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a channel that changes maps when its data has just arrived is served by the new one", async () => {
  // In every order in which the two loops may take their turns.
  for (const first of ["the new map's", "the old map's", "none"]) {
    for (let microtasks = 0; microtasks < 6; microtasks++) {
      const one = await serving();
      const two = await serving();
      const { channel, conn } = connected(one, "a");
      const ready = connected(first === "the new map's" ? two : one, "b");
      await settle();
      if (first !== "none") ready.conn.deliver("y");
      conn.deliver("x");
      for (let i = 0; i < microtasks; i++) await null;
      channel.addChannel(two.map);
      await settle();
      const what = `${first} ${microtasks}`;
      assertEquals(
        one.take().filter((event) => event.startsWith("a")),
        ["a read x"],
        what,
      );
      await one.stop();
      conn.deliver("z");
      await settle();
      assertEquals(one.take(), ["a read z"], what);
      await two.stop();
    }
  }
});

Deno.test("18 suspending: bytes that are written after a change of maps are counted somewhere, and the close is the new map's", async () => {
  const [one, two] = [await serving(), await serving()];
  const { channel, conn } = connected(one, "a");
  conn.onWrite = "wait";
  await settle();
  channel.say("hello");
  await settle();
  channel.addChannel(two.map);
  channel.close();
  conn.release();
  await settle();
  conn.end();
  await settle();
  assertEquals([conn.sent, conn.closed], ["hello", true]);
  assertEquals([one.map.counters.closes, two.map.counters.closes], [0, 1]);
  assertStrictEquals(two.map.size, 1);
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a pass that waits examines an added channel no more: the next one does", async () => {
  for (const way of ["new", "added again"]) {
    const world = new World();
    connected(world, "other");
    const a = connected(world, "a");
    await poll(0, world.map);
    await poll(0, world.map);
    a.channel.delChannel();
    a.conn.deliver("x");
    const passed = poll(Infinity, world.map);
    await settle();
    const made = way === "new" ? connected(world, "b") : a;
    if (way === "new") made.conn.deliver("x");
    else a.channel.addChannel();
    made.channel.asked = { readable: 0, writable: 0 };
    await passed;
    assertEquals(
      [world.take(), made.channel.asked],
      [[], { readable: 0, writable: 0 }],
      way,
    );
    await poll(Infinity, world.map);
    assertEquals(world.take(), [`${made.channel.name} read x`], way);
    a.channel.abort();
  }
});

Deno.test("18 suspending: a predicate that suspends its channel is the last thing that is asked", async () => {
  const world = await serving();
  const { channel, conn } = connected(world, "a");
  channel.wantsWrite = true;
  channel.readable = () => {
    channel.delChannel();
    return true;
  };
  conn.deliver("x");
  await settle();
  assertEquals([channel.asked.writable, conn.reads, world.take()], [0, 0, []]);
  channel.abort();
  await world.stop();
});

Deno.test("18 suspending: a channel that changes maps while the old one has news about it is examined by the new one", async () => {
  const one = new World();
  const two = await serving();
  const { channel, conn } = connected(one, "a"); // to be examined by a map that nobody serves
  channel.wake();
  channel.addChannel(two.map);
  conn.deliver("x");
  await settle();
  assertEquals(one.take(), ["a read x"]);
  await two.stop();
});

Deno.test("18 suspending: an ExitNow of a pending handleError leaves the loop of the map its channel changed to", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  const { promise, reject } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.recv();
    throw new Error("mine");
  };
  channel.onError = () => promise;
  conn.deliver("x");
  await settle();
  await one.stop();
  channel.addChannel(two.map);
  reject(new ExitNow());
  await settle();
  await assertRejects(() => two.stop(), ExitNow);
});

for (const where of ["another map", "its own map again"]) {
  Deno.test(`18 suspending: a channel that handleConnect moves to ${where} gets no further event in the running pass`, async () => {
    const world = await serving();
    const other = new World();
    const channel = connecting(world, "a");
    channel.wantsWrite = true;
    const { map } = where === "another map" ? other : world;
    channel.onConnect = () => {
      channel.note(`connect in pass ${world.map.counters.passes}`);
      channel.addChannel(map);
    };
    channel.onWrite = () => {
      channel.note(`write in pass ${world.map.counters.passes}`);
      channel.wantsWrite = false;
    };
    world.system.connects[0]!.succeed();
    await settle();
    const [connect, write] = world.take();
    const pass = Number(/\d+$/.exec(connect!));
    const later = map === world.map ? `a write in pass ${pass + 1}` : undefined;
    assertEquals(write, later);
    channel.abort();
    await world.stop();
  });
}

Deno.test("18 suspending: a channel that handleConnect moves is asked and served by a map whose loop waits", async () => {
  const one = await serving();
  const two = await serving();
  const channel = connecting(one, "a");
  channel.wantsWrite = true;
  channel.onConnect = () => channel.addChannel(two.map);
  channel.onWrite = () => {
    channel.note("write");
    channel.wantsWrite = false;
  };
  one.system.connects[0]!.succeed();
  await settle();
  assertEquals(one.take(), ["a write"]);
  channel.abort();
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a channel that handleError moves after a predicate failed is asked by the other map", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  await settle();
  let fails = true;
  channel.readable = () => {
    if (!fails) return true;
    fails = false;
    throw new Error("mine");
  };
  channel.onError = () => channel.addChannel(two.map);
  conn.deliver("x");
  await settle();
  assertEquals(one.take(), ["a read x"]);
  channel.abort();
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a channel that handleError moves after readable() failed is not asked for writing by the map it left", async () => {
  const one = await serving();
  const two = await serving();
  const { channel } = connected(one, "a");
  channel.wantsWrite = true;
  let fails = true;
  channel.readable = () => {
    if (!fails) return true;
    fails = false;
    throw new Error("mine");
  };
  channel.onError = () => channel.addChannel(two.map);
  channel.onWrite = () => {
    channel.note("write");
    channel.wantsWrite = false;
  };
  await settle();
  assertEquals(one.take(), ["a write"]);
  channel.abort();
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a channel whose rejection is told by the map it left is examined by the other one", async () => {
  const one = await serving();
  const two = await serving();
  const { channel, conn } = connected(one, "a");
  const { promise, reject } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv())}`);
    channel.onRead = () => channel.note(`read ${text(channel.recv())}`);
    return promise;
  };
  channel.onError = () => channel.note("error");
  conn.deliver("x");
  await settle();
  await one.stop();
  reject(new Error("mine"));
  await settle();
  channel.addChannel(two.map);
  await settle();
  await one.serve(); // tells it
  for (const data of ["y", "z"]) {
    conn.deliver(data);
    await settle();
  }
  assertEquals(one.take(), ["a read x", "a error", "a read y", "a read z"]);
  channel.abort();
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: what a handler does that moves its channel has the parked channels of the map it left tried again", async () => {
  const one = await serving();
  const two = await serving();
  const mover = connected(one, "mover");
  const parked = connected(one, "parked");
  let filled = false;
  parked.channel.wantsWrite = true;
  parked.channel.onWrite = () => {
    if (!filled) return;
    parked.channel.wantsWrite = false;
    parked.channel.say("filled");
  };
  mover.channel.onRead = () => {
    mover.channel.addChannel(two.map);
    mover.channel.recv();
    filled = true;
  };
  await settle();
  mover.conn.deliver("x");
  await settle();
  assertEquals(parked.conn.sent, "filled");
  for (const { channel } of [mover, parked]) channel.abort();
  await one.stop();
  await two.stop();
});

Deno.test("18 suspending: a channel that fails after it has moved is closed by its new map (usePoll)", async () => {
  const one = new World();
  await one.serve({ usePoll: true });
  const two = new World();
  const { channel } = connected(one, "a");
  channel.wantsWrite = true;
  channel.onWrite = () => {
    channel.addChannel(two.map);
    throw new Error("mine");
  };
  channel.onError = () => channel.disconnect({ kind: "error" });
  await one.serve({ usePoll: true });
  assertEquals(one.take(), []);
  await two.serve();
  assertEquals(one.take(), ["a close error"]);
  await one.stop();
});

Deno.test("18 suspending: an async handler that has moved its channel wakes the map it left when it settles", async () => {
  const one = await serving();
  const two = await serving();
  const mover = connected(one, "mover");
  const parked = connected(one, "parked");
  const { promise, resolve } = Promise.withResolvers<void>();
  let filled = false;
  parked.channel.wantsWrite = true;
  parked.channel.onWrite = () => {
    if (!filled) return;
    parked.channel.wantsWrite = false;
    parked.channel.say("filled");
  };
  mover.channel.onRead = () => {
    mover.channel.addChannel(two.map);
    mover.channel.recv();
    return promise.then(() => void (filled = true));
  };
  await settle();
  mover.conn.deliver("x");
  await settle();
  resolve();
  await settle();
  assertEquals(parked.conn.sent, "filled");
  for (const { channel } of [mover, parked]) channel.abort();
  await one.stop();
  await two.stop();
});
