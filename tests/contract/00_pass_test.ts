import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { type ChannelMap, closeAll, loop, poll } from "../../mod.ts";
import { settle, World } from "../fakes.ts";
import { connected, listening, Traced } from "./traced.ts";

Deno.test("pass: poll() and loop() return at once when the map is empty", async () => {
  const { clock, map } = new World();
  await poll(60_000, map);
  await poll(Infinity, map);
  await loop({ map, timeout: Infinity });
  await loop({ map, count: 5 });
  assertEquals([clock.hops, clock.idles, clock.timers], [0, 0, []]);
  assertEquals(map.counters.passes, 0);
});

Deno.test("pass: a pass starts the reads and accepts that the predicates want before it waits", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  const { listener } = listening(world, "b");
  assertEquals([conn.reading, listener.accepting], [false, false]);
  await world.serve();
  assertEquals([conn.reading, listener.accepting], [true, true]);
  await world.stop();
});

Deno.test("pass: poll() serves what is ready without waiting, with the default timeout 0 too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.deliver("x");
  await poll(undefined, world.map);
  assertEquals(world.take(), ["a read x"]);
  channel.wantsWrite = true;
  channel.wake();
  await poll(Infinity, world.map);
  assertEquals(world.take(), ["a write"]);
  assertEquals(world.clock.idles, 0);
});

Deno.test("pass: timeout 0 does not wait, but gives I/O one turn of the event loop", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await poll(0, world.map); // starts the read
  setImmediate(() => conn.deliver("x"));
  await poll(0, world.map);
  assertEquals(world.take(), ["a read x"]);
  assertEquals(world.clock.idles, 0);
});

Deno.test("pass: a completion ends the wait", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  const passed = poll(1_000, world.map);
  await settle();
  assertEquals(world.take(), []);
  conn.deliver("x");
  await passed;
  assertEquals(world.take(), ["a read x"]);
});

Deno.test("pass: the timeout ends the wait, no sooner and no later", async () => {
  const world = new World();
  connected(world, "a");
  let over = false;
  const passed = poll(1_000, world.map).then(() => over = true);
  await world.clock.advance(999);
  assertEquals(over, false);
  await world.clock.advance(1);
  await settle();
  assertEquals(over, true);
  await passed;
  assertEquals(world.clock.timers, []);
});

Deno.test("pass: timeout Infinity waits without limit", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  let over = false;
  const passed = poll(Infinity, world.map).then(() => over = true);
  await world.clock.advance(10 ** 12);
  assertEquals(over, false);
  conn.deliver("x");
  await passed;
});

Deno.test("pass: the timeout of loop() is 30 s for each pass", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  const served = loop({ map: world.map });
  await settle();
  const { passes } = world.map.counters;
  const more = () => world.map.counters.passes - passes;
  await world.clock.advance(29_999);
  assertEquals(more(), 0);
  await world.clock.advance(1);
  await settle();
  assertEquals(more(), 1);
  await world.clock.advance(29_999);
  assertEquals(more(), 1);
  channel.abort();
  await served;
});

Deno.test("pass: a negative or NaN timeout is a RangeError, for an empty map too", async () => {
  const { map } = new World();
  for (const timeout of [-1, -0.001, -Infinity, NaN]) {
    await assertRejects(() => poll(timeout, map), RangeError, `${timeout}`);
    await assertRejects(() => loop({ map, timeout }), RangeError);
  }
});

Deno.test("pass: a pass that was woken or timed out asks every predicate", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  const passes: [string, () => void | Promise<void>][] = [
    ["woken", () => world.map.wake()],
    ["timed out", () => world.clock.advance(1_000)],
  ];
  for (const [what, end] of passes) {
    const passed = poll(1_000, world.map);
    await settle();
    channel.asked = { readable: 0, writable: 0 };
    await end();
    await passed;
    assertEquals(channel.asked, { readable: 1, writable: 1 }, what);
  }
  channel.wantsRead = true;
  await poll(0, world.map);
  assertEquals(conn.reading, true);
});

Deno.test("pass: a pass that a completion ended does not ask the other channels", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  const { conn } = connected(world, "b");
  const passed = poll(1_000, world.map);
  await settle();
  channel.asked = { readable: 0, writable: 0 };
  conn.deliver("x");
  await passed;
  assertEquals(channel.asked, { readable: 0, writable: 0 });
});

Deno.test("pass: served or not, a pass counts as one", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await poll(0, world.map);
  await poll(0, world.map);
  assertEquals(world.map.counters.passes, 2);
  conn.deliver("x");
  await poll(0, world.map);
  assertEquals(world.map.counters.passes, 3);
});

Deno.test("pass: a wake() while no pass waits is remembered: the next pass does not wait", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await poll(0, world.map);
  world.map.wake();
  channel.asked = { readable: 0, writable: 0 };
  await poll(Infinity, world.map);
  assert(channel.asked.writable > 0);
  assertEquals(world.clock.idles, 0);
});

Deno.test("pass: a wake() is remembered for one pass only", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await poll(0, world.map);
  world.map.wake();
  world.map.wake();
  await poll(Infinity, world.map);
  let over = false;
  const passed = poll(Infinity, world.map).then(() => over = true);
  await settle();
  assertEquals(over, false);
  conn.deliver("x");
  await passed;
});

Deno.test("pass: a wake() by a handler is remembered", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  channel.onRead = () => {
    channel.recv();
    world.map.wake();
  };
  conn.deliver("x");
  await poll(0, world.map);
  await poll(Infinity, world.map);
  assertEquals(world.clock.idles, 0);
});

Deno.test("pass: loop() repeats passes until the map is empty", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  for (const data of ["1", "2", "3"]) {
    conn.deliver(data);
    await settle();
  }
  assertEquals(world.take(), ["a read 1", "a read 2", "a read 3"]);
  channel.close();
  await world.served;
  assertEquals(world.clock.timers, []);
});

Deno.test("pass: loop() makes at most count passes", async () => {
  const world = new World();
  connected(world, "a");
  await loop({ map: world.map, timeout: 0, count: 3 });
  assertEquals(world.map.counters.passes, 3);
  assertEquals(world.map.size, 1);
});

Deno.test("pass: a count of 0 or less means no pass", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  for (const count of [0, -1, -Infinity]) {
    await loop({ map: world.map, count });
  }
  assertEquals(world.map.counters.passes, 0);
  assertEquals(channel.asked, { readable: 0, writable: 0 });
});

Deno.test("pass: loop() with a count ends sooner when the map is empty", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => channel.close();
  conn.deliver("x");
  await loop({ map: world.map, timeout: 0, count: 1_000 });
  assert(world.map.counters.passes < 5);
});

Deno.test("pass: an aborted signal wakes the wait, and the loop resolves with the channels open", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await world.serve();
  await world.stop();
  assertEquals([world.map.size, conn.closed], [1, false]);
  assertEquals(world.clock.timers, []);
});

Deno.test("pass: a signal that is aborted in a pass ends the loop after that pass", async () => {
  const world = new World();
  const controller = new AbortController();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.onRead = () => {
    a.channel.note("read");
    controller.abort();
  };
  const served = loop({
    map: world.map,
    timeout: Infinity,
    signal: controller.signal,
  });
  await settle();
  const { passes } = world.map.counters;
  a.conn.deliver("x");
  b.conn.deliver("y");
  await served;
  assertEquals(world.take(), ["a read", "b read y"]);
  assert(world.map.counters.passes <= passes + 1);
});

Deno.test("pass: a signal that is aborted already allows no pass", async () => {
  const world = new World();
  connected(world, "a");
  const signal = AbortSignal.abort();
  await loop({ map: world.map, timeout: Infinity, signal });
  assertEquals(world.map.counters.passes, 0);
  assertEquals(world.map.size, 1);
});

Deno.test("pass: loop() waits for async handlers, the map being empty", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = () => {
    channel.close();
    return promise;
  };
  conn.deliver("x");
  let over = false;
  await world.serve();
  world.served.then(() => over = true);
  await settle();
  assertEquals([world.map.size, over], [0, false]);
  resolve();
  await world.served;
});

Deno.test("pass: closeAll() closes every channel, then throws one AggregateError for what failed", async () => {
  const world = new World();
  const channels = ["a", "b", "c"].map((name) => connected(world, name));
  const errors = [new Error("one"), new Error("three")];
  const failures = [errors[0], undefined, errors[1]];
  for (const [i, { channel }] of channels.entries()) {
    channel.close = () => {
      Traced.prototype.close.call(channel);
      if (failures[i] !== undefined) throw failures[i];
    };
  }
  const error = await closeAll({ map: world.map }).then(
    () => undefined,
    (error) => error,
  );
  assertInstanceOf(error, AggregateError);
  assertEquals(error.errors.length, 2);
  assertStrictEquals(error.errors[0], errors[0]);
  assertStrictEquals(error.errors[1], errors[1]);
  assertEquals(channels.map(({ conn }) => conn.closed), [true, true, true]);
  assertEquals(world.map.size, 0);
});

Deno.test("pass: closeAll() throws nothing with ignoreAll", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  const b = connected(world, "b");
  channel.close = () => {
    throw new Error("no");
  };
  await closeAll({ map: world.map, ignoreAll: true });
  assertEquals(b.conn.closed, true);
});

Deno.test("pass: two loops may serve two maps at once", async () => {
  const [one, two] = [new World(), new World()];
  const a = connected(one, "a");
  const b = connected(two, "b");
  await one.serve();
  await two.serve();
  a.conn.deliver("x");
  b.conn.deliver("y");
  await settle();
  assertEquals([one.take(), two.take()], [["a read x"], ["b read y"]]);
  await one.stop();
  await two.stop();
});

Deno.test("pass: a loop over one map may be awaited in a handler of another", async () => {
  const [one, two] = [new World(), new World()];
  const a = connected(one, "a");
  const b = connected(two, "b");
  a.channel.onRead = async () => {
    a.channel.note(`read ${a.channel.recv().length}`);
    b.conn.deliver("y");
    await loop({ map: two.map });
    a.channel.note("done");
  };
  b.channel.onRead = () => {
    one.trace.push("b read");
    b.channel.close();
  };
  await one.serve();
  a.conn.deliver("x");
  await settle();
  assertEquals(one.take(), ["a read 1", "b read", "a done"]);
  await one.stop();
});

Deno.test("pass: serving a map that is being served is a TypeError, from a handler and from outside", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  await assertRejects(() => loop({ map: world.map }), TypeError);
  await assertRejects(() => poll(0, world.map), TypeError);
  channel.onRead = async () => {
    channel.recv();
    await assertRejects(() => poll(0, world.map), TypeError);
    await assertRejects(() => loop({ map: world.map, count: 0 }), TypeError);
    channel.note("refused");
  };
  conn.deliver("x");
  await settle();
  assertEquals(world.take(), ["a refused"]);
  // The loop that serves it is not disturbed, and afterwards the map is free again.
  await world.stop();
  await poll(0, world.map);
});

Deno.test("pass: misuse rejects, it does not throw", async () => {
  const { map } = new World();
  const calls: (() => Promise<void>)[] = [
    () => poll(-1, map),
    () => loop({ timeout: NaN, map }),
    () => loop({ count: NaN, map }),
    () => poll(0, {} as ChannelMap),
    () => loop({ map: {} as ChannelMap }),
    () => closeAll({ map: {} as ChannelMap }),
  ];
  for (const call of calls) {
    const promise = call();
    assertInstanceOf(promise, Promise);
    await assertRejects(() => promise);
  }
});

Deno.test("pass: after an error the map can be served again", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  await assertRejects(() => poll(-1, world.map), RangeError);
  conn.deliver("x");
  await poll(0, world.map);
  assertEquals(world.take(), ["a read x"]);
});

Deno.test("pass: the map's Symbol.asyncDispose closes every channel", async () => {
  const world = new World();
  const { conn } = connected(world, "a");
  const { listener } = listening(world, "b");
  {
    await using _map = world.map;
  }
  assertEquals([conn.closed, listener.closed], [true, true]);
});

Deno.test("pass: a loop that ends leaves no timer, not that of a sweep that was to come", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  b.channel.writable = () => {
    world.clock.spend(5);
    return false;
  };
  await world.clock.advance(1_000);
  for (let i = 0; i < 2; i++) {
    a.conn.deliver("x"); // the second sweep has to wait
    await settle();
  }
  assert(world.clock.timers.some((due) => due < 1_000));
  await world.stop();
  assertEquals(world.clock.timers, []);
});

Deno.test("pass: after closeAll() every dispatcher is closed, whatever its close() did", async () => {
  const ways: Record<string, (channel: Traced) => void> = {
    "throws before it closes": () => {
      throw new Error("mine");
    },
    "does nothing": () => {},
    "rejects": () => Promise.reject(new Error("mine")) as unknown as void,
  };
  for (const [way, close] of Object.entries(ways)) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const { channel: server, listener } = listening(world, "l");
    const { signal } = channel;
    for (const victim of [channel, server]) victim.close = () => close(victim);
    await closeAll({ map: world.map, ignoreAll: true });
    assertEquals([world.map.size, conn.closed, listener.closed], [
      0,
      true,
      true,
    ], way);
    assertEquals([channel.connected, server.accepting], [false, false], way);
    assertEquals([channel.recv().length, channel.say("x")], [0, 0], way);
    assertEquals([channel.room, signal.aborted], [0, true], way);
    assertEquals(server.accept(), null, way);
    channel.createSocket();
    assertEquals([channel.connected, world.map.size], [false, 1], way);
    channel.abort();
  }
});

Deno.test("pass: closeAll() does not lose what send() took, though a close() does not close", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.close = () => {};
  conn.onWrite = "wait";
  channel.say("hello");
  const closed = closeAll({ map: world.map });
  await settle();
  assertEquals([world.map.size, conn.closed], [0, false]);
  conn.release();
  conn.end();
  await closed;
  assertEquals([conn.sent, conn.calls], ["hello", [
    "write 5",
    "closeWrite",
    "close",
  ]]);
});
