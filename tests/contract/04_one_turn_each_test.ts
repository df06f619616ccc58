import { assert, assertEquals } from "@std/assert";
import { poll } from "../../mod.ts";
import { bytes, FakeConn, settle, World } from "../fakes.ts";
import { connected, listening, Traced } from "./traced.ts";

/** One pass that does not wait and that does not ask about what is not ready. */
function pass(world: World, usePoll = false): Promise<void> {
  world.map.wake();
  return poll(0, world.map, { usePoll });
}

for (const usePoll of [false, true]) {
  const how = usePoll ? " (usePoll)" : "";

  Deno.test(`4 one turn each: a channel gets one read and one write event per pass${how}`, async () => {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.wantsWrite = true;
    channel.onRead = () => channel.note(`read ${channel.recv(1).length}`);
    channel.onWrite = () => {
      channel.note("write");
      channel.say(".");
    };
    conn.deliver("xyz");
    await pass(world, usePoll);
    await settle();
    world.take();
    for (let i = 0; i < 2; i++) {
      await poll(0, world.map, { usePoll });
      assertEquals(world.take(), ["a read 1", "a write"]);
      await settle();
    }
  });

  Deno.test(`4 one turn each: what becomes readable during a pass waits for the next one${how}`, async () => {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await pass(world, usePoll);
    a.channel.onRead = () => {
      a.channel.note(`read ${a.channel.recv().length}`);
      b.conn.deliver("y");
    };
    a.conn.deliver("x");
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), ["a read 1"]);
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), ["b read y"]);
  });

  Deno.test(`4 one turn each: a channel that a handler makes writable is not written in that pass${how}`, async () => {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await pass(world, usePoll);
    a.channel.onRead = () => {
      a.channel.note(`read ${a.channel.recv().length}`);
      for (const { channel } of [a, b]) {
        channel.wantsWrite = true;
        channel.wake();
      }
    };
    a.conn.deliver("x");
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), ["a read 1"]);
    await poll(0, world.map, { usePoll });
    assertEquals(world.take(), ["a write", "b write"]);
  });

  Deno.test(`4 one turn each: a channel made in a handler is served in a later pass${how}`, async () => {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    channel.onAccepted = (conn) => {
      channel.note("accepted");
      new Traced(world, "child", conn).wantsWrite = true;
    };
    await pass(world, usePoll);
    const conn = listener.deliver(new FakeConn());
    conn.deliver("x");
    await settle();
    await poll(0, world.map, { usePoll });
    assertEquals([world.take(), conn.reads], [["l accepted"], 0]);
    await settle();
    await poll(0, world.map, { usePoll });
    await poll(0, world.map, { usePoll });
    assertEquals(world.take().sort(), [
      "child read x",
      "child write",
      "child write",
    ]);
  });
}

Deno.test("4 one turn each: a write whose writable() became false in the pass is left out, and one that became true is not added", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  const c = connected(world, "c");
  b.channel.wantsWrite = true;
  await pass(world);
  await settle();
  world.take();
  a.channel.onRead = () => {
    a.channel.recv();
    b.channel.wantsWrite = false;
    c.channel.wantsWrite = true;
  };
  a.conn.deliver("x");
  await settle();
  await pass(world);
  assertEquals(world.take(), []);
});

Deno.test("4 one turn each: one receive buffer per read event", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const sizes: number[] = [];
  channel.onRead = () => {
    const data = channel.recv(1_000_000);
    sizes.push(data.length);
    assertEquals(channel.recv(0).length, 0);
    let blocked = false;
    try {
      channel.recv();
    } catch (error) {
      blocked = error instanceof Deno.errors.WouldBlock;
    }
    assert(blocked);
  };
  conn.deliver(new Uint8Array(3_000_000));
  await world.serve();
  assertEquals(sizes.reduce((a, b) => a + b), 3_000_000);
  assertEquals(conn.reads - 1, sizes.length);
  assert(Math.max(...sizes) <= 262_144);
  await world.stop();
});

Deno.test("4 one turn each: a busy channel does not starve the others", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.onRead = () => a.channel.note(`${a.channel.recv(1).length}`);
  b.channel.onRead = () => b.channel.note(`${b.channel.recv(1).length}`);
  await pass(world);
  a.conn.deliver("xxxx");
  b.conn.deliver("yyyy");
  await world.serve();
  assertEquals(world.take(), Array(4).fill(["a 1", "b 1"]).flat());
  await world.stop();
});

Deno.test("4 one turn each: a chain of passes yields a macrotask when it ran for more than a few ms", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await world.serve();
  let writes = 0;
  channel.onWrite = () => {
    world.clock.spend(1);
    channel.send(bytes("."));
    if (++writes === 100) channel.wantsWrite = false;
  };
  channel.wantsWrite = true;
  channel.wake();
  const seen: number[] = [];
  const look = () => {
    seen.push(writes);
    if (writes < 100) setImmediate(look);
  };
  setImmediate(look);
  while (writes < 100) await settle();
  assert(seen[0]! <= 10, `no macrotask before write ${seen[0]}`);
  assert(seen.length >= 10, `only ${seen.length} macrotasks in 100 ms`);
  assert(seen.length <= 60, `${seen.length} macrotasks in 100 passes`);
  await world.stop();
});

Deno.test("4 one turn each: a chain of passes of async handlers yields, too", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await world.serve();
  let writes = 0;
  channel.onWrite = async () => {
    await null;
    world.clock.spend(1);
    channel.send(bytes("."));
    if (++writes === 100) channel.wantsWrite = false;
  };
  channel.wantsWrite = true;
  channel.wake();
  let first = 0;
  setImmediate(() => first = writes);
  while (writes < 100) await settle();
  assert(first <= 10, `no macrotask before write ${first}`);
  await world.stop();
});

Deno.test("4 one turn each: a channel whose handleRead filled the buffer gets no write event in that pass", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a", { sendBufferSize: 10 });
    conn.onWrite = "wait";
    await pass(world, usePoll);
    channel.wantsWrite = true;
    channel.onRead = () => {
      channel.recv();
      channel.note(`read ${channel.say("123456")}`);
    };
    conn.deliver("x");
    await settle();
    await pass(world, usePoll);
    assertEquals(world.take(), ["a read 6"]);
  }
});

Deno.test("4 one turn each: a pass after a wait begins a chain of its own, and does not yield before it serves", async () => {
  for (const quiet of [2, 6, 10, 1_000]) {
    const world = new World();
    const { conn } = connected(world, "a");
    await world.serve();
    const { hops } = world.clock;
    for (let i = 0; i < 10; i++) {
      await world.clock.advance(quiet);
      conn.deliver("x");
      await settle();
      assertEquals(world.take(), ["a read x"]);
    }
    assertEquals(world.clock.hops - hops, 0, `${quiet} ms apart`);
    await world.stop();
  }
});
