import { assert, assertEquals } from "@std/assert";
import { Dispatcher, DispatcherWithSend, loop, poll } from "../../mod.ts";
import { bytes, FakeConn, settle, text, World } from "../fakes.ts";
import {
  connected,
  connecting,
  listening,
  type Pair,
  type Traced,
} from "./traced.ts";

/** A channel whose handler makes no progress, and how often that handler was called. */
interface Idler {
  readonly world: World;
  readonly pair: Pair;
  /** The calls since this was last asked. */
  readonly calls: () => number;
}

type Kind = "read" | "write" | "throwing read" | "throwing write";

const KINDS: Kind[] = ["read", "write", "throwing read", "throwing write"];

/** Serves an idler until it is parked. */
async function idler(kind: Kind): Promise<Idler> {
  const world = new World();
  const pair = connected(world, "a", { sendBufferSize: 100 });
  const { channel, conn } = pair;
  let calls = 0;
  const handler = () => {
    calls++;
    if (kind.startsWith("throwing")) throw new Error("mine");
  };
  channel.onError = () => {};
  if (kind.endsWith("read")) channel.onRead = handler;
  else {
    channel.wantsWrite = true;
    channel.onWrite = handler;
  }
  if (kind.endsWith("read")) conn.deliver("x");
  await world.serve();
  const since = () => {
    const count = calls;
    calls = 0;
    return count;
  };
  return { world, pair, calls: since };
}

for (const kind of KINDS) {
  Deno.test(`13 no spin: a ${kind} handler that makes no progress is called once, and the loop sleeps`, async () => {
    const { world, calls } = await idler(kind);
    assertEquals(calls(), 1);
    const { passes } = world.map.counters;
    assert(passes <= 4, `${passes} passes`);
    await world.clock.advance(10_000_000);
    assertEquals([calls(), world.map.counters.passes], [0, passes]);
    await world.stop();
  });

  /** Reasons to call a parked handler again, and whether they are reasons for another sweep. */
  const reasons: Record<string, (idler: Idler) => void | Promise<void>> = {
    "map.wake()": ({ world }) => world.map.wake(),
    "wake()": ({ pair }) => pair.channel.wake(),
    "a send() from outside, when it is called": ({ pair }) => {
      pair.conn.onWrite = "wait";
      pair.channel.say("x");
    },
    "sendBufferSize is set": ({ pair }) => {
      pair.channel.sendBufferSize = 200;
    },
    "delChannel() and addChannel()": ({ pair }) => {
      pair.channel.delChannel();
      pair.channel.addChannel();
    },
    "another channel's handler made progress": async ({ world }) => {
      const { conn } = connected(world, "b");
      conn.deliver("x");
      await settle();
      assertEquals(world.take(), ["b read x"]);
    },
    "another channel was accepted": async ({ world }) => {
      const { listener } = listening(world, "b");
      listener.deliver(new FakeConn());
      await settle();
      assertEquals(world.take(), ["b accepted"]);
    },
    "another channel was closed by handleClose": async ({ world }) => {
      const { conn, channel } = connected(world, "b");
      channel.onRead = channel.onEof = () => {};
      await settle();
      conn.end();
      channel.disconnect({ kind: "done" });
      await settle();
      assertEquals(world.take(), ["b close done"]);
    },
  };
  for (const [reason, act] of Object.entries(reasons)) {
    Deno.test(`13 no spin: a parked ${kind} handler is called again after: ${reason}`, async () => {
      const idle = await idler(kind);
      idle.calls();
      await act(idle);
      await settle();
      // An added channel may be examined before and after its sibling ran.
      const calls = idle.calls();
      assert(calls >= 1 && calls <= 2, `${calls} calls`);
      const { passes } = idle.world.map.counters;
      await idle.world.clock.advance(10_000_000);
      assertEquals([idle.calls(), idle.world.map.counters.passes], [0, passes]);
      await idle.world.stop();
    });
  }

  Deno.test(`13 no spin: a parked ${kind} handler is called again when a pass's timeout ends`, async () => {
    const { world, calls } = await idler(kind);
    await world.stop();
    calls();
    const passed = poll(5_000, world.map);
    await world.clock.advance(4_999);
    assertEquals(calls(), 0);
    await world.clock.advance(1);
    await passed;
    assertEquals(calls(), 1);
  });

  Deno.test(`13 no spin: a parked ${kind} handler is called again when loop() is called`, async () => {
    const { world, calls } = await idler(kind);
    await world.stop();
    calls();
    await world.serve();
    assertEquals(calls(), 1);
    await world.stop();
  });

  Deno.test(`13 no spin: a parked ${kind} handler is called once for each timeout of loop()`, async () => {
    const { world, calls, pair } = await idler(kind);
    await world.stop();
    const served = loop({ map: world.map, timeout: 1_000 });
    await settle();
    calls();
    await world.clock.advance(10_500);
    assertEquals(calls(), 10);
    pair.channel.abort();
    await served;
  });

  Deno.test(`13 no spin: a parked ${kind} handler is not called again because another one made no progress`, async () => {
    const { world, calls } = await idler(kind);
    calls();
    let others = 0;
    const { channel } = connected(world, "b");
    channel.onWrite = () => void others++;
    await settle();
    calls();
    channel.wantsWrite = true;
    channel.wake();
    await settle();
    assertEquals([calls(), others], [0, 1]);
    await world.stop();
  });
}

Deno.test("13 no spin: a parked handleRead is called again when its own write completes", async () => {
  const { world, pair, calls } = await idler("read");
  pair.conn.onWrite = "wait";
  pair.channel.say("x");
  await settle();
  calls();
  pair.conn.release();
  await settle();
  assertEquals(calls(), 1);
  await world.stop();
});

Deno.test("13 no spin: a parked handleWrite is called again when its own write completes", async () => {
  const { world, pair, calls } = await idler("write");
  pair.conn.onWrite = "wait";
  pair.channel.say("x");
  await settle();
  calls();
  pair.conn.release();
  await settle();
  assertEquals(calls(), 1);
  await world.stop();
});

Deno.test("13 no spin: a parked handleWrite is called again when its own read completes", async () => {
  const { world, pair, calls } = await idler("write");
  pair.channel.onRead = () => {};
  calls();
  pair.conn.deliver("x");
  await settle();
  assertEquals(calls(), 1);
  await world.stop();
});

Deno.test("13 no spin: a parked handleWrite is called again when handleRead made progress", async () => {
  const { world, pair, calls } = await idler("write");
  const { channel, conn } = pair;
  // One byte at a time: the I/O completes once, the handler makes progress four times.
  channel.onRead = () => void channel.recv(1);
  calls();
  conn.deliver("1234");
  await settle();
  assert(calls() >= 4);
  await world.stop();
});

Deno.test("13 no spin: a parked handleRead is called again when handleWrite made progress", async () => {
  const { world, pair, calls } = await idler("read");
  const { channel, conn } = pair;
  conn.onWrite = "wait";
  let writes = 0;
  channel.onWrite = () => {
    channel.say(".");
    if (++writes === 4) channel.wantsWrite = false;
  };
  calls();
  channel.wantsWrite = true;
  channel.wake();
  await settle();
  assertEquals(writes, 4);
  assert(calls() >= 4);
  await world.stop();
});

Deno.test("13 no spin: a parked handleAccept is called again for each reason, and does not spin", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  let calls = 0;
  channel.onAccept = () => void calls++;
  const conn = listener.deliver(new FakeConn());
  await world.serve();
  await world.clock.advance(1_000_000);
  assertEquals([calls, listener.accepts], [1, 1]);
  channel.wake();
  await settle();
  assertEquals(calls, 2);
  world.map.wake();
  await settle();
  assertEquals(calls, 3);
  connected(world, "b").conn.deliver("x");
  await settle();
  assertEquals(calls, 4);
  assertEquals([conn.closed, world.take()], [false, ["b read x"]]);
  channel.onAccept = () => channel.note(`${channel.accept()![0] === conn}`);
  channel.wake();
  await settle();
  assertEquals(world.take(), ["l true"]);
  await world.stop();
});

Deno.test("13 no spin: a handleAccept that throws is parked", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  let calls = 0;
  channel.onError = () => {};
  channel.onAccept = () => {
    calls++;
    throw new Error("mine");
  };
  listener.deliver(new FakeConn());
  await world.serve();
  await world.clock.advance(1_000_000);
  assertEquals(calls, 1);
  await world.stop();
});

Deno.test("13 no spin: a parked direction does not park the other one", async () => {
  const { world, pair, calls } = await idler("write");
  calls();
  pair.conn.deliver("1");
  await settle();
  pair.conn.deliver("2");
  await settle();
  assertEquals(world.take(), ["a read 1", "a read 2"]);
  await world.stop();
});

Deno.test("13 no spin: handleWrite that fills a plain field's data is found by the sweep after another handler", async () => {
  const world = new World();
  const queue: string[] = [];
  const a = connected(world, "a");
  const b = connected(world, "b");
  // b sends from a plain field that a fills, and its writable() is always true.
  b.channel.wantsWrite = true;
  b.channel.onWrite = () => {
    const next = queue.shift();
    if (next !== undefined) b.channel.say(next);
  };
  a.channel.onRead = () => {
    a.channel.recv();
    queue.push("filled");
  };
  await world.serve();
  a.conn.deliver("x");
  await settle();
  assertEquals(b.conn.sent, "filled");
  await world.stop();
});

Deno.test("13 no spin: a retry that makes no progress is no reason for another sweep", async () => {
  const world = new World();
  const calls: Record<string, number> = {};
  for (const name of ["a", "b", "c"]) {
    const { channel } = connected(world, name);
    calls[name] = 0;
    channel.wantsWrite = true;
    channel.onWrite = () => void calls[name]!++;
  }
  await world.serve();
  for (const name in calls) calls[name] = 0;
  const { conn } = connected(world, "d");
  await settle();
  for (const name in calls) calls[name] = 0;
  conn.deliver("x");
  await settle();
  assertEquals(calls, { a: 1, b: 1, c: 1 });
  await world.clock.advance(1_000_000);
  assertEquals(calls, { a: 1, b: 1, c: 1 });
  await world.stop();
});

Deno.test("13 no spin: a retry that sends through another channel and makes no progress itself is not called for ever", async () => {
  const world = new World();
  const log = connected(world, "log");
  const { channel, conn } = connected(world, "a");
  let calls = 0;
  channel.onRead = () => {
    calls++;
    throw new Error("mine");
  };
  channel.onError = () => void log.channel.say("oops ");
  conn.deliver("x");
  await world.serve();
  await world.clock.advance(1_000_000);
  assert(calls <= 3, `called ${calls} times`);
  await world.stop();
});

Deno.test("13 no spin: two channels that make no progress and wake each other's predicate do not spin", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  let calls = 0;
  a.channel.onRead = () => {
    calls++;
    b.channel.wantsWrite = true;
  };
  b.channel.onWrite = () => {
    calls++;
    b.channel.wantsWrite = false;
    a.channel.wantsRead = true;
  };
  a.conn.deliver("x");
  await world.serve();
  await world.clock.advance(1_000_000);
  assert(calls <= 4, `${calls} calls`);
  await world.stop();
});

Deno.test("13 no spin: an idle loop with nothing parked sleeps, whatever the predicates say", async () => {
  const world = new World();
  for (let i = 0; i < 10; i++) connected(world, `${i}`);
  listening(world, "l");
  await world.serve();
  const { passes } = world.map.counters;
  const idles = world.clock.idles;
  await world.clock.advance(1_000_000);
  assertEquals([world.map.counters.passes, world.clock.idles], [passes, idles]);
  await world.stop();
});

/** A subclass that overrides nothing that writes. */
class Silent extends Dispatcher {
  logs: string[] = [];
  override logInfo(message: string, type = "info"): void {
    this.logs.push(`${type}: ${message}`);
  }
}

Deno.test("13 no spin: a handleWrite that is not overridden is called once and not retried", async () => {
  const world = new World();
  const conn = new FakeConn();
  const channel = new Silent(conn, { map: world.map });
  await world.serve();
  for (let i = 0; i < 5; i++) {
    world.map.wake();
    channel.wake();
    connected(world, `${i}`).conn.deliver("x");
    channel.send(bytes("x"));
    await settle();
  }
  await world.stop();
  await world.serve();
  assertEquals(channel.logs, ["warning: unhandled write event"]);
  assertEquals(conn.sent, "xxxxx");
  await world.stop();
});

Deno.test("13 no spin: a handleRead that is not overridden is called once; the data stays, the end comes", async () => {
  const world = new World();
  const conn = new FakeConn();
  const channel = new Silent(conn, { map: world.map });
  channel.writable = () => false;
  conn.deliver("x");
  await world.serve();
  for (let i = 0; i < 5; i++) {
    world.map.wake();
    await settle();
  }
  assertEquals(channel.logs, ["warning: unhandled read event"]);
  assertEquals(channel.recv().length, 1);
  await world.stop();
});

Deno.test("13 no spin: a handler set on the object later is called after wake()", async () => {
  const world = new World();
  const conn = new FakeConn();
  const channel = new Silent(conn, { map: world.map });
  await world.serve();
  let written = 0;
  channel.handleWrite = () => void written++;
  channel.wake();
  await settle();
  assertEquals(written, 1);
  await world.stop();
});

Deno.test("13 no spin: an idle DispatcherWithSend sleeps, connected and connecting", async () => {
  const world = new World();
  new DispatcherWithSend(new FakeConn(), { map: world.map });
  const channel = new DispatcherWithSend(null, { map: world.map });
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  await world.serve();
  const { passes } = world.map.counters;
  assert(passes <= 4, `${passes} passes`);
  await world.clock.advance(1_000_000);
  assertEquals(world.map.counters.passes, passes);
  channel.abort();
  await world.stop();
});

Deno.test("13 no spin: data that waits under a false readable() costs no pass", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  channel.wantsRead = false;
  conn.deliver("x");
  await settle();
  const { passes } = world.map.counters;
  await world.clock.advance(1_000_000);
  assertEquals(world.map.counters.passes, passes);
  await world.stop();
});

Deno.test("13 no spin: a suspended channel with data costs no pass", async () => {
  const { world, pair, calls } = await idler("read");
  calls();
  pair.channel.delChannel();
  const other: Traced = connected(world, "b").channel;
  await settle();
  const { passes } = world.map.counters;
  await world.clock.advance(1_000_000);
  assertEquals([calls(), world.map.counters.passes], [0, passes]);
  other.abort();
  await world.stop();
  pair.channel.abort();
});

/** Has sweeps take 5 ms each, and makes one: the next 100 ms there is none. */
async function pauseSweeps(world: World): Promise<void> {
  const slow = connected(world, "slow");
  await settle();
  slow.channel.writable = () => {
    world.clock.spend(5);
    return false;
  };
  await world.clock.advance(1_000);
  slow.conn.deliver("x");
  await settle();
  world.take();
}

Deno.test("13 no spin: progress in the other direction is a reason by itself, before the next sweep", async () => {
  for (const kind of ["read", "write"] as const) {
    const { world, pair, calls } = await idler(kind);
    const { channel, conn } = pair;
    let progress = 0;
    if (kind === "read") {
      conn.onWrite = "wait"; // no I/O completes
      channel.onWrite = () => {
        progress++;
        channel.say(".");
        channel.wantsWrite = progress < 4;
      };
    } else {
      channel.onRead = () => {
        progress++;
        channel.recv(1);
      };
    }
    await pauseSweeps(world);
    calls();
    if (kind === "read") {
      channel.wantsWrite = true;
      channel.wake();
    } else conn.deliver("1234");
    await settle();
    assertEquals(progress, 4);
    // Once because of the I/O, and not for every step: a handler that is due already is called once.
    const count = calls();
    assert(count >= 2, `${kind}: ${count} calls`);
    await world.stop();
  }
});

Deno.test("13 no spin: a handler that threw is parked, though it had made progress, until the next sweep", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  let calls = 0;
  channel.onError = () => {};
  channel.onRead = () => {
    calls++;
    channel.recv(1);
    throw new Error("mine");
  };
  await world.serve();
  await pauseSweeps(world);
  conn.deliver("12345");
  await world.clock.advance(90);
  assertEquals(calls, 1);
  await world.clock.advance(1_000);
  assert(calls > 1);
  await world.stop();
});

Deno.test("13 no spin: a write of another channel that completes has a predicate asked that looks at its room", async () => {
  const world = new World();
  const to = connected(world, "to", { sendBufferSize: 4 });
  const from = connected(world, "from");
  from.channel.readable = () => to.channel.room > 0;
  from.channel.onRead = () => {
    const data = from.channel.recv(to.channel.room);
    from.channel.note(`read ${text(data)}`);
    to.channel.send(data);
  };
  to.conn.onWrite = "wait";
  from.conn.deliver("abcdefgh");
  await world.serve();
  assertEquals(world.take(), ["from read abcd"]);
  to.conn.release();
  await settle();
  assertEquals(world.take(), ["from read efgh"]);
  to.conn.release();
  await world.stop();
});

Deno.test("13 no spin: a predicate or handler that throws is not tried again because its handleError sends or wakes", async () => {
  const failures: Record<string, (channel: Traced, fail: () => never) => void> =
    {
      "readable()": (channel, fail) => channel.readable = fail,
      "writable()": (channel, fail) => channel.writable = fail,
      handleRead: (channel, fail) => channel.onRead = fail,
      "async handleRead": (channel, fail) => {
        channel.onRead = () => Promise.resolve().then(fail);
      },
      "async handleWrite": (channel, fail) => {
        channel.wantsWrite = true;
        channel.onWrite = () => Promise.resolve().then(fail);
      },
      "a readable() before the handler": (channel, fail) => {
        channel.readable = () => channel.bytesRead === 0 || fail();
      },
    };
  const reactions: Record<string, (channel: Traced) => void> = {
    send: (channel) => void channel.say("500\r\n"),
    wake: (channel) => channel.wake(),
    "send and wake": (channel) => {
      channel.say("500\r\n");
      channel.wake();
    },
  };
  for (const [failing, prepare] of Object.entries(failures)) {
    for (const [reacting, react] of Object.entries(reactions)) {
      const world = new World();
      const { channel, conn } = connected(world, "a");
      let errors = 0;
      prepare(channel, () => {
        throw new Error("mine");
      });
      channel.onError = () => {
        errors++;
        react(channel);
      };
      conn.deliver("x");
      await world.serve();
      await world.clock.advance(1_000_000);
      const what = `${failing}, ${reacting}: ${errors} errors`;
      // Once more for each thing that happened: the data, what it sent.
      assert(errors >= 1 && errors <= 5, what);
      const { passes } = world.map.counters;
      await world.clock.advance(1_000_000);
      assertEquals(world.map.counters.passes, passes, what);
      await world.stop();
    }
  }
});

Deno.test("13 no spin: a retry that closes another channel and opens the next is no reason for another sweep", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  let calls = 0;
  let up: Traced | null = null;
  channel.wantsWrite = true;
  // As a forwarder that wants its upstream afresh as long as it is not there.
  channel.onWrite = () => {
    calls++;
    up?.close();
    up = connecting(world, `up ${calls}`);
  };
  await world.serve();
  assert(calls <= 2, `called ${calls} times`);
  calls = 0;
  world.map.wake();
  await settle();
  assert(calls >= 1 && calls <= 2, `called ${calls} times after wake()`);
  calls = 0;
  await world.clock.advance(1_000_000);
  assertEquals(calls, 0);
  await world.stop();
});

Deno.test("13 no spin: a parked handler is called again after a handler that closed or ended its own channel", async () => {
  for (const kind of KINDS) {
    for (const end of ["close", "abort", "disconnect"] as const) {
      const { world, calls } = await idler(kind);
      const b = connected(world, "b");
      await settle();
      calls();
      b.channel.onClose = () => {};
      b.channel.onRead = () => b.channel[end]({ kind: "done" });
      b.conn.deliver("x");
      await settle();
      const count = calls();
      assert(count >= 1 && count <= 2, `${kind}, ${end}: ${count} calls`);
      await world.clock.advance(1_000_000);
      assertEquals(calls(), 0);
      await world.stop();
    }
  }
});

Deno.test("13 no spin: a handleWrite that throws is not called again because its handleError's own message left", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  let calls = 0;
  channel.wantsWrite = true;
  channel.onWrite = () => {
    calls++;
    throw new Error("mine");
  };
  channel.onError = () => void channel.say("500");
  await world.serve();
  await world.clock.advance(1_000);
  assert(calls <= 2, `${calls} calls`);
  await world.stop();
});
