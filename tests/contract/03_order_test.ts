import { assertEquals } from "@std/assert";
import { poll } from "../../mod.ts";
import { FakeConn, settle, World } from "../fakes.ts";
import { connected, connecting, listening, type Traced } from "./traced.ts";

/** One pass that does not wait and that does not ask about what is not ready. */
function pass(world: World, usePoll = false): Promise<void> {
  world.map.wake();
  return poll(0, world.map, { usePoll });
}

/** Channels a, b and c, each writable, with a read in flight. */
async function three(world: World) {
  const pairs = ["a", "b", "c"].map((name) => connected(world, name));
  await pass(world);
  for (const { channel } of pairs) {
    channel.wantsWrite = true;
    channel.onWrite = () => {
      channel.note("write");
      channel.say(".");
    };
  }
  return pairs;
}

Deno.test("3 order: all reads, then all writes, then exceptional conditions, then closes", async () => {
  const world = new World();
  const [a, b] = await three(world);
  const failed = connecting(world, "x");
  const { channel, listener } = listening(world, "y");
  await pass(world);
  world.take();
  // The ends first, so that the order is not that of completion.
  world.system.connects[0]!.fail(new Error("refused"));
  await settle();
  b!.channel.disconnect({ kind: "done" });
  listener.deliver(new FakeConn());
  await settle();
  a!.conn.deliver("1");
  await settle();
  await pass(world);
  assertEquals(world.take(), [
    "y accepted",
    "a read 1",
    "a write",
    "c write",
    "x error refused",
    "b close done",
    "x close error",
  ]);
  assertEquals([failed.connected, channel.accepting], [false, true]);
});

Deno.test("3 order: reads come in the order in which they completed", async () => {
  const world = new World();
  const [a, b, c] = await three(world);
  for (const { channel } of [a!, b!, c!]) channel.wantsWrite = false;
  for (const order of [[c!, a!, b!], [b!, c!, a!]]) {
    await pass(world);
    for (const { conn } of order) conn.deliver("x");
    await settle();
    await pass(world);
    assertEquals(
      world.take(),
      order.map(({ channel }) => `${channel.name} read x`),
    );
  }
});

Deno.test("3 order: accepts stand among the reads in the order of completion", async () => {
  const world = new World();
  const [a, b, c] = await three(world);
  for (const { channel } of [a!, b!, c!]) channel.wantsWrite = false;
  const { listener } = listening(world, "l");
  await pass(world);
  a!.conn.deliver("x");
  listener.deliver(new FakeConn());
  b!.conn.deliver("y");
  await settle();
  await pass(world);
  assertEquals(world.take(), ["a read x", "l accepted", "b read y"]);
});

Deno.test("3 order: data that was held comes in the order in which it arrived, not in which it was wanted", async () => {
  const world = new World();
  const [a, b] = await three(world);
  a!.channel.wantsWrite = b!.channel.wantsWrite = false;
  a!.channel.wantsRead = b!.channel.wantsRead = false;
  b!.conn.deliver("y");
  await settle();
  a!.conn.deliver("x");
  await settle();
  a!.channel.wantsRead = true;
  a!.channel.wake();
  b!.channel.wantsRead = true;
  b!.channel.wake();
  await poll(0, world.map);
  assertEquals(world.take().filter((event) => event.includes("read")), [
    "b read y",
    "a read x",
  ]);
});

Deno.test("3 order: writes come in the order in which they completed", async () => {
  const world = new World();
  const pairs = await three(world);
  await pass(world);
  assertEquals(world.take(), ["a write", "b write", "c write"]);
  for (const { channel, conn } of pairs) {
    conn.onWrite = "wait";
    channel.say("!");
  }
  await settle();
  const [a, b, c] = pairs;
  for (const { conn } of [c!, a!, b!]) conn.release();
  await settle();
  await pass(world);
  assertEquals(world.take(), ["c write", "a write", "b write"]);
});

Deno.test("3 order: with usePoll it goes channel by channel: read, write, close", async () => {
  const world = new World();
  const [a, b, c] = await three(world);
  b!.conn.deliver("1");
  await settle();
  a!.conn.end();
  c!.conn.deliver("2");
  await settle();
  await pass(world, true);
  assertEquals(world.take(), [
    "a read ",
    "a eof",
    "a write",
    "a close eof",
    "b read 1",
    "b write",
    "c read 2",
    "c write",
  ]);
});

Deno.test("3 order: with usePoll the channels come in the order in which their I/O completed", async () => {
  const world = new World();
  const pairs = await three(world);
  for (const { channel } of pairs) channel.wantsWrite = false;
  const [a, b, c] = pairs;
  for (const { conn } of [c!, a!, b!]) conn.deliver("x");
  await settle();
  await pass(world, true);
  assertEquals(world.take(), ["c read x", "a read x", "b read x"]);
});

Deno.test("3 order: with usePoll an exceptional condition and the close of a channel stand together", async () => {
  for (const usePoll of [false, true]) {
    const world = new World();
    connecting(world, "x");
    connecting(world, "y");
    await pass(world, usePoll);
    for (const connect of world.system.connects) connect.fail(new Error("no"));
    await settle();
    await pass(world, usePoll);
    assertEquals(
      world.take(),
      usePoll
        ? ["x error no", "x close error", "y error no", "y close error"]
        : ["x error no", "y error no", "x close error", "y close error"],
    );
  }
});

Deno.test("3 order: with usePoll a connect that failed comes in the order of completion, too", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  connecting(world, "x");
  await pass(world, true);
  a.conn.deliver("1");
  await settle();
  world.system.connects[0]!.fail(new Error("no"));
  await settle();
  b.conn.deliver("2");
  await settle();
  await pass(world, true);
  assertEquals(world.take(), [
    "a read 1",
    "x error no",
    "x close error",
    "b read 2",
  ]);
});

Deno.test("3 order: without usePoll a close comes after the other channels' writes", async () => {
  const world = new World();
  const [a, b, c] = await three(world);
  c!.channel.wantsWrite = false;
  a!.conn.end();
  b!.conn.deliver("1");
  await settle();
  await pass(world);
  assertEquals(world.take(), [
    "a read ",
    "a eof",
    "b read 1",
    "a write",
    "b write",
    "a close eof",
  ]);
});

Deno.test("3 order: usePoll is per loop: loop() has it, too", async () => {
  const world = new World();
  const pairs = await three(world);
  for (const { channel } of pairs) {
    channel.onWrite = () => {
      channel.note("write");
      channel.wantsWrite = false;
    };
  }
  for (const { conn } of pairs) conn.deliver("x");
  await settle();
  await world.serve({ usePoll: true });
  assertEquals(world.take(), [
    "a read x",
    "a write",
    "b read x",
    "b write",
    "c read x",
    "c write",
  ]);
  await world.stop();
});

Deno.test("3 order: a channel that is served first for a handler's sake is not served before its turn", async () => {
  const world = new World();
  const [a, b, c] = await three(world);
  const only = (channel: Traced) => channel.wantsWrite = false;
  for (const { channel } of [a!, b!, c!]) only(channel);
  a!.channel.onRead = () => {
    a!.channel.note(`read ${a!.channel.recv().length}`);
    c!.channel.wake();
  };
  for (const { conn } of [a!, b!, c!]) conn.deliver("x");
  await settle();
  await pass(world);
  assertEquals(world.take(), ["a read 1", "b read x", "c read x"]);
});
