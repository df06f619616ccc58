import { assert, assertEquals } from "@std/assert";
import { declareOwn, selectorOf } from "../../channel_map.ts";
import { Dispatcher } from "../../mod.ts";
import { FakeConn, settle, World } from "../fakes.ts";
import { connected, type Pair } from "./traced.ts";

let asked = 0;

/** A dispatcher whose predicates count, and that says itself when they change, as the library's own classes do. */
class Own extends Dispatcher {
  static {
    declareOwn(this.prototype.readable, this.prototype.writable);
  }

  override readable(): boolean {
    asked++;
    return true;
  }

  override writable(): boolean {
    asked++;
    return false;
  }

  override handleRead(): void | Promise<void> {
    this.recv();
  }
}

/** A user's dispatcher, whose writable() counts. */
class Users extends Dispatcher {
  override writable(): boolean {
    asked++;
    return false;
  }
}

/** Many idle channels beside a busy one. */
async function crowd(
  size: number,
  make: (world: World, conn: FakeConn) => void,
) {
  const world = new World();
  for (let i = 0; i < size; i++) make(world, new FakeConn());
  const busy = new FakeConn();
  new Own(busy, { map: world.map });
  await world.serve();
  asked = 0;
  const work = async () => {
    busy.deliver("x");
    await settle();
  };
  return { world, work };
}

Deno.test("15 cost: a pass examines what is ready, not what is open", async () => {
  const { world, work } = await crowd(
    1_000,
    (world, conn) => new Own(conn, { map: world.map }),
  );
  await work();
  const one = asked;
  assert(one >= 1 && one <= 6, `${one} predicates for one read`);
  asked = 0;
  for (let i = 0; i < 100; i++) await work();
  assert(asked <= 100 * one, `${asked} predicates for 100 reads`);
  await world.stop();
});

Deno.test("15 cost: an idle channel is not examined because time passes", async () => {
  const { world } = await crowd(
    1_000,
    (world, conn) => new Own(conn, { map: world.map }),
  );
  await world.clock.advance(1_000_000);
  assertEquals(asked, 0);
  await world.stop();
});

Deno.test("15 cost: a channel is examined when it is added, and when one of its methods is called", async () => {
  const world = new World();
  connected(world, "keeps the loop alive");
  await world.serve();
  asked = 0;
  const channel = new Own(new FakeConn(), { map: world.map });
  await settle();
  assert(asked > 0, "added");
  const methods: Record<string, () => void> = {
    wake: () => channel.wake(),
    send: () => channel.send(new Uint8Array(1)),
    sendBufferSize: () => channel.sendBufferSize = 1_000,
    "delChannel and addChannel": () => {
      channel.delChannel();
      channel.addChannel();
    },
  };
  for (const [name, call] of Object.entries(methods)) {
    asked = 0;
    call();
    await settle();
    assert(asked > 0, name);
  }
  await world.stop();
});

Deno.test("15 cost: a channel is examined when its own I/O or handler ran", async () => {
  const world = new World();
  const conn = new FakeConn();
  const channel = new Own(conn, { map: world.map });
  conn.onWrite = "wait";
  await world.serve();
  channel.send(new Uint8Array(1));
  await settle();
  asked = 0;
  conn.release();
  await settle();
  assert(asked > 0, "write");
  asked = 0;
  conn.deliver("x");
  await settle();
  // Right before the handler, and after it, to start the next read.
  assert(asked >= 2, "read");
  assertEquals(conn.reads, 2);
  await world.stop();
});

Deno.test("15 cost: channels with a predicate of the user's are swept, once after a pass with progress", async () => {
  for (const how of ["class", "object"]) {
    const { world, work } = await crowd(10, (world, conn) => {
      if (how === "class") return new Users(conn, { map: world.map });
      const channel = new Dispatcher(conn, { map: world.map });
      channel.handleWrite = () => {};
      channel.readable = () => true;
      channel.writable = () => {
        asked++;
        return false;
      };
    });
    asked = 0;
    await work();
    const others = asked;
    assert(others >= 10 && others <= 10 + 6, `${others} predicates, ${how}`);
    await world.clock.advance(1_000_000);
    assertEquals(asked, others);
    await world.stop();
  }
});

Deno.test("15 cost: a predicate replaced on the object later is swept from the next time it is examined on", async () => {
  const world = new World();
  const channel = new Dispatcher(new FakeConn(), { map: world.map });
  channel.handleWrite = () => {};
  await world.serve();
  asked = 0;
  channel.writable = () => {
    asked++;
    return false;
  };
  channel.wake();
  await settle();
  assert(asked > 0);
  asked = 0;
  connected(world, "b").conn.deliver("x");
  await settle();
  assert(asked > 0);
  await world.stop();
});

Deno.test("15 cost: the library's own subclasses are not swept", async () => {
  const { world, work } = await crowd(
    10,
    (world, conn) => new Own(conn, { map: world.map }),
  );
  connected(world, "a user's, so that there are sweeps");
  await settle();
  asked = 0;
  await work();
  assert(asked <= 6, `${asked}`);
  await world.stop();
});

Deno.test("15 cost: a pass without progress is followed by no sweep", async () => {
  const world = new World();
  const a = connected(world, "a");
  const { channel, conn } = connected(world, "b");
  channel.onRead = () => {}; // takes nothing
  await world.serve();
  a.channel.asked = { readable: 0, writable: 0 };
  conn.deliver("x");
  await settle();
  assertEquals(a.channel.asked, { readable: 0, writable: 0 });
  await world.stop();
});

Deno.test("15 cost: a sweep comes before the loop waits", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  // A plain field that a handler changes, and nobody calls wake().
  b.channel.onRead = () => {
    b.channel.recv();
    a.channel.wantsWrite = true;
  };
  a.channel.onWrite = () => {
    a.channel.note("write");
    a.channel.wantsWrite = false;
  };
  const { idles } = world.clock;
  b.conn.deliver("x");
  await settle();
  assertEquals([world.take(), world.clock.idles], [["a write"], idles + 1]);
  await world.stop();
});

/** Sweeps of a channel whose predicate takes `cost` ms, as the times when they began. */
async function sweeper(cost: number) {
  const world = new World();
  const sweeps: number[] = [];
  const slow = connected(world, "slow").channel;
  const busy = connected(world, "busy");
  slow.readable = () => true;
  busy.channel.onRead = () => void busy.channel.recv();
  await world.serve();
  slow.writable = () => {
    sweeps.push(world.clock.now());
    world.clock.spend(cost);
    return false;
  };
  // The first sweep, by which all others are measured.
  await world.clock.advance(1_000);
  busy.conn.deliver("x");
  await settle();
  assertEquals(sweeps.length, 1);
  return { world, sweeps, busy };
}

Deno.test("15 cost: the next sweep begins no sooner than 20 times the last one's duration after it, in an idle loop", async () => {
  const { world, sweeps, busy } = await sweeper(5);
  const { passes } = world.map.counters;
  busy.conn.deliver("x");
  await world.clock.advance(99);
  assertEquals(sweeps.length, 1);
  const served = world.map.counters.passes - passes;
  assert(served >= 1);
  await world.clock.advance(1);
  await settle();
  assertEquals(sweeps.length, 2);
  assertEquals(sweeps[1]! - sweeps[0]!, 5 + 100);
  // And then no more: nothing ran since.
  await world.clock.advance(1_000_000);
  assertEquals(sweeps.length, 2);
  await world.stop();
});

Deno.test("15 cost: the next sweep begins no sooner than 20 times the last one's duration after it, in a busy loop", async () => {
  const { world, sweeps, busy } = await sweeper(5);
  const start = world.clock.now();
  for (let i = 0; i < 1_000; i++) {
    busy.conn.deliver("x");
    await world.clock.advance(1);
  }
  const end = world.clock.now();
  const pauses = sweeps.slice(1).map((at, i) => at - sweeps[i]!);
  assert(Math.min(...pauses) >= 105, `${pauses}`);
  // Nor much later: a busy loop sweeps, too.
  assert(Math.max(...pauses) <= 108, `${pauses}`);
  assert(5 * (sweeps.length - 1) <= (end - start) * 0.05);
  await world.stop();
});

Deno.test("15 cost: sweeps that cost nothing follow every pass with progress", async () => {
  const { world, sweeps, busy } = await sweeper(0);
  for (let i = 0; i < 50; i++) {
    busy.conn.deliver("x");
    await settle();
  }
  assert(sweeps.length >= 51, `${sweeps.length}`);
  await world.stop();
});

Deno.test("15 cost: parked channels are swept, those of the library's own kind, too", async () => {
  const world = new World();
  class Parked extends Own {
    calls = 0;
    override handleRead() {
      this.calls++;
    }
  }
  const conn = new FakeConn();
  const channel = new Parked(conn, { map: world.map });
  conn.deliver("x");
  const other = new FakeConn();
  new Own(other, { map: world.map });
  await world.serve();
  assertEquals(channel.calls, 1);
  for (let i = 2; i < 5; i++) {
    other.deliver("x");
    await settle();
    assertEquals(channel.calls, i);
  }
  await world.stop();
});

Deno.test("15 cost: parked channels wait for the next sweep, however busy the others are", async () => {
  const { world, busy } = await sweeper(5);
  const parked = connected(world, "parked");
  let calls = 0;
  parked.channel.onRead = () => void calls++;
  parked.conn.deliver("x");
  await world.clock.advance(500);
  calls = 0;
  busy.conn.deliver("x"); // due at once, and the next one 105 ms later
  await settle();
  const first = calls;
  assert(first <= 1);
  for (let i = 0; i < 50; i++) {
    busy.conn.deliver("x");
    await world.clock.advance(1);
  }
  assertEquals(calls, first);
  await world.stop();
});

Deno.test("15 cost: a pass with 1,000 user predicates asks none of them between two sweeps", async () => {
  const world = new World();
  for (let i = 0; i < 1_000; i++) {
    const channel = new Users(new FakeConn(), { map: world.map });
    channel.writable = () => {
      asked++;
      world.clock.spend(0.01);
      return false;
    };
  }
  const busy = new FakeConn();
  new Own(busy, { map: world.map });
  await world.serve();
  await world.clock.advance(10_000);
  busy.deliver("x"); // the first sweep: 10 ms
  await settle();
  asked = 0;
  for (let i = 0; i < 100; i++) {
    busy.deliver("x");
    await world.clock.advance(1);
  }
  assert(asked <= 6 * 100, `${asked} predicates in 100 passes`);
  await world.clock.advance(1_000);
  assert(asked >= 1_000);
  await world.stop();
});

Deno.test("15 cost: a predicate of the user's that threw is swept as any other", async () => {
  for (const name of ["readable", "writable"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    let broken = true;
    channel.onError = () => channel.note("error");
    channel.wantsWrite = true;
    channel.onWrite = () => {
      channel.note("write");
      channel.wantsWrite = false;
    };
    channel[name] = () => {
      if (broken) throw new Error("mine");
      return name === "readable" || channel.wantsWrite;
    };
    conn.deliver("x");
    await world.serve();
    world.take();
    // A plain field, which the handler of another channel sets right.
    const other = connected(world, "b");
    other.channel.onRead = () => {
      other.channel.recv();
      broken = false;
    };
    other.conn.deliver("y");
    await settle();
    assertEquals(
      world.take().filter((event) => event !== "a error"),
      [name === "readable" ? "a read x" : "a write"],
    );
    await world.stop();
  }
});

Deno.test("15 cost: a closed channel is not kept by the queue of those to be swept", async () => {
  const world = new World();
  const channels = Array.from(
    { length: 5 },
    (_, i) => connected(world, `${i}`),
  );
  for (const { channel } of channels) channel.wantsRead = false;
  await world.serve();
  const { sweeps } = selectorOf(world.map);
  assertEquals(sweeps.length, 5);
  for (const { channel } of channels.slice(1)) channel.close();
  await settle();
  await world.clock.advance(1_000);
  assertEquals(sweeps.length, 1);
  await world.stop();
});

/** A channel that waits until it may write something: only a sweep can find out. */
async function waiting(): Promise<{ world: World; allow: () => void }> {
  const world = new World();
  const { channel } = connected(world, "waiting");
  channel.onWrite = () => {
    channel.note("write");
    channel.wantsWrite = false;
  };
  await world.serve();
  return { world, allow: () => channel.wantsWrite = true };
}

Deno.test("15 cost: a handler that only closes its own channel has others' predicates asked", async () => {
  const ways: Record<string, (pair: Pair, close: () => void) => void> = {
    handleRead: ({ channel, conn }, close) => {
      channel.onRead = close;
      conn.deliver("x");
    },
    handleEof: ({ channel, conn }, close) => {
      channel.onRead = () => {};
      channel.onEof = close;
      conn.end();
    },
    handleWrite: ({ channel }, close) => {
      channel.onWrite = close;
      channel.wantsWrite = true;
      channel.wake();
    },
    "handleError for a handler": ({ channel, conn }, close) => {
      channel.onRead = () => {
        throw new Error("mine");
      };
      channel.onError = close;
      conn.deliver("x");
    },
    "handleError for an async handler": ({ channel, conn }, close) => {
      channel.onRead = () => Promise.reject(new Error("mine"));
      channel.onError = close;
      conn.deliver("x");
    },
    "handleError for a predicate": ({ channel }, close) => {
      channel.writable = () => {
        throw new Error("mine");
      };
      channel.onError = close;
      channel.wake();
    },
    "readable()": ({ channel, conn }, close) => {
      channel.readable = () => {
        close();
        return false;
      };
      conn.deliver("x");
    },
  };
  for (const [way, prepare] of Object.entries(ways)) {
    const { world, allow } = await waiting();
    const pair = connected(world, "a");
    await settle();
    prepare(pair, () => {
      allow();
      pair.channel.close();
    });
    await settle();
    assertEquals(
      [world.take(), pair.conn.closed],
      [["waiting write"], true],
      way,
    );
    await world.stop();
  }
});

Deno.test("15 cost: a handler that only takes from, or sends through, another channel has others' predicates asked", async () => {
  const ways: Record<string, (other: Pair) => void> = {
    recv: ({ channel }) => void channel.recv(),
    recvInto: ({ channel }) => void channel.recvInto(new Uint8Array(9)),
    recvView: ({ channel }) => void channel.recvView(),
    send: ({ channel }) => void channel.say("x"),
  };
  for (const [way, act] of Object.entries(ways)) {
    const { world, allow } = await waiting();
    const other = connected(world, "other");
    other.channel.onRead = () => {};
    other.conn.deliver("x");
    const { channel, conn } = connected(world, "a");
    await settle();
    channel.onRead = () => {
      channel.onRead = () => {};
      act(other);
      allow();
    };
    conn.deliver("x");
    await settle();
    assertEquals(world.take(), ["waiting write"], way);
    await world.stop();
  }
});
