import { assertEquals } from "@std/assert";
import { ChannelMap, Dispatcher, poll } from "../../mod.ts";
import { bytes, FakeConn, settle, text, World } from "../fakes.ts";
import { connected, connecting, listening } from "./traced.ts";

Deno.test("2 predicates first: no read is started while readable() is false", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  await world.serve();
  conn.deliver("x");
  world.map.wake();
  await settle();
  await world.clock.advance(60_000);
  assertEquals([conn.reads, world.take()], [0, []]);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a read x"]);
  await world.stop();
});

Deno.test("2 predicates first: after a read, the next one is started only while readable() is true", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv())}`);
    channel.wantsRead = false;
  };
  conn.deliver("x");
  await world.serve();
  assertEquals([world.take(), conn.reads], [["a read x"], 1]);
  conn.deliver("y");
  await settle();
  assertEquals([world.take(), conn.reads], [[], 1]);
  await world.stop();
});

Deno.test("2 predicates first: data that arrived meanwhile waits, unread, until readable() is true", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  assertEquals(conn.reading, true);
  channel.wantsRead = false;
  conn.deliver("x");
  await settle();
  assertEquals(world.take(), []);
  world.map.wake();
  await settle();
  assertEquals([world.take(), conn.reads], [[], 1]);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a read x"]);
  await world.stop();
});

Deno.test("2 predicates first: an end of file that arrived meanwhile waits until readable() is true", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.wantsRead = false;
  conn.end();
  await settle();
  assertEquals([world.take(), channel.connected], [[], true]);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a read ", "a eof", "a close eof"]);
  await world.stop();
});

Deno.test("2 predicates first: readable() is asked again right before handleRead", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  a.channel.onRead = () => {
    a.channel.note("read");
    a.channel.recv();
    b.channel.wantsRead = false;
  };
  a.conn.deliver("x");
  b.conn.deliver("y");
  await settle();
  assertEquals(world.take(), ["a read"]);
  b.channel.wantsRead = true;
  world.map.wake();
  await settle();
  assertEquals(world.take(), ["b read y"]);
  await world.stop();
});

Deno.test("2 predicates first: writable() is asked again right before handleWrite", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.wantsWrite = b.channel.wantsWrite = true;
  a.channel.onWrite = () => {
    a.channel.note("write");
    a.channel.wantsWrite = b.channel.wantsWrite = false;
  };
  await world.serve();
  assertEquals(world.take(), ["a write"]);
  b.channel.wantsWrite = true;
  world.map.wake();
  await settle();
  assertEquals(world.take(), ["b write"]);
  await world.stop();
});

Deno.test("2 predicates first: nothing runs between the predicate that says true and its handler", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  for (const { channel } of [a, b]) {
    channel.wantsWrite = true;
    channel.readable = () => {
      channel.note("readable");
      return true;
    };
    channel.writable = () => {
      channel.note("writable");
      return channel.wantsWrite;
    };
    channel.onWrite = () => {
      channel.note("write");
      channel.wantsWrite = false;
    };
  }
  a.conn.deliver("x");
  b.conn.deliver("y");
  await world.serve();
  const trace = world.take();
  for (const event of ["a read x", "b read y", "a write", "b write"]) {
    const before = trace[trace.indexOf(event) - 1];
    const predicate = event.includes("read") ? "readable" : "writable";
    assertEquals(before, `${event[0]} ${predicate}`, trace.join());
  }
  await world.stop();
});

Deno.test("2 predicates first: a handleConnect that stops wanting holds the rest of its event", async () => {
  for (const event of ["read", "write"]) {
    const world = new World();
    const channel = connecting(world, "a");
    await world.serve();
    channel.onConnect = () => {
      channel.note("connect");
      channel.wantsRead = channel.wantsWrite = false;
    };
    channel.wantsWrite = event === "write";
    const conn = world.system.connects[0]!.succeed();
    conn.deliver("x");
    await settle();
    assertEquals(world.take(), ["a connect"], event);
    channel.wantsRead = true;
    channel.wake();
    await settle();
    assertEquals(world.take(), ["a read x"], event);
    await world.stop();
  }
});

Deno.test("2 predicates first: the defaults return true", async () => {
  const map = new ChannelMap();
  const channel = new Dispatcher(null, { map });
  assertEquals([channel.readable(), channel.writable()], [true, true]);
  await poll(0, map);
});

Deno.test("2 predicates first: a channel with the default predicates is read and written", async () => {
  const world = new World();
  class Plain extends Dispatcher {
    override handleRead() {
      world.trace.push(`read ${text(this.recv())}`);
    }
    override handleWrite() {
      world.trace.push("write");
    }
  }
  const conn = new FakeConn();
  new Plain(conn, { map: world.map });
  conn.deliver("x");
  await world.serve();
  assertEquals(world.take().sort(), ["read x", "write", "write"]);
  await world.stop();
});

Deno.test("2 predicates first: a listener whose readable() is false starts no accept", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "a");
  channel.wantsRead = false;
  await world.serve();
  listener.deliver(new FakeConn());
  world.map.wake();
  await settle();
  assertEquals([listener.accepts, world.take()], [0, []]);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a accepted"]);
  await world.stop();
});

Deno.test("2 predicates first: at most one connection asked for before is held, undelivered", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "a");
  await world.serve();
  channel.wantsRead = false;
  const conns = [1, 2, 3].map(() => listener.deliver(new FakeConn()));
  await settle();
  world.map.wake();
  await settle();
  assertEquals([listener.accepts, listener.accepting], [1, false]);
  assertEquals(world.take(), []);
  assertEquals(conns.map(({ closed }) => closed), [false, false, false]);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a accepted", "a accepted", "a accepted"]);
  await world.stop();
});

Deno.test("2 predicates first: writable() of a listener is not asked", async () => {
  const world = new World();
  const { channel } = listening(world, "a");
  channel.wantsWrite = true;
  await world.serve();
  world.map.wake();
  await settle();
  assertEquals([channel.asked.writable, world.take()], [0, []]);
  await world.stop();
});

Deno.test("2 predicates first: no predicate is asked and no handler called outside a pass", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsWrite = true;
  conn.deliver("x");
  channel.send(bytes("y"));
  channel.wake();
  world.map.wake();
  await settle();
  assertEquals(channel.asked, { readable: 0, writable: 0 });
  assertEquals([conn.reads, world.take()], [0, []]);
});

Deno.test("2 predicates first: data that is taken from outside, at any moment, does not end the reading", async () => {
  for (let microtasks = 0; microtasks < 8; microtasks++) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await world.serve();
    conn.deliver("x");
    for (let i = 0; i < microtasks; i++) await null;
    let taken = "";
    try {
      taken = text(channel.recv());
    } catch (error) {
      if (!(error instanceof Deno.errors.WouldBlock)) throw error;
    }
    await settle();
    assertEquals(world.take(), taken === "" ? ["a read x"] : []);
    conn.deliver("y");
    await settle();
    assertEquals(world.take(), ["a read y"], `${microtasks}`);
    await world.stop();
  }
});
