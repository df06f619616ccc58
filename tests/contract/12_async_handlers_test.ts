import {
  assert,
  assertEquals,
  assertFalse,
  assertStrictEquals,
} from "@std/assert";
import { type Dispatcher, loop, poll } from "../../mod.ts";
import { FakeConn, settle, text, World } from "../fakes.ts";
import { connected, connecting, listening } from "./traced.ts";

/** Handlers that wait until the test lets them go on. */
class Gate {
  #resolve: (() => void)[] = [];
  #reject: ((error: unknown) => void)[] = [];

  /** What a handler returns. */
  pass(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#resolve.push(resolve);
      this.#reject.push(reject);
    });
  }

  /** Lets all who wait go on. */
  async open(): Promise<void> {
    for (const resolve of this.#resolve.splice(0)) resolve();
    await settle();
  }

  /** Fails all who wait. */
  async fail(error: unknown): Promise<void> {
    for (const reject of this.#reject.splice(0)) reject(error);
    await settle();
  }
}

Deno.test("12 async handlers: a pending handleRead holds that channel's reads, in order", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = async () => {
    channel.note(`read ${text(channel.recv(1))}`);
    await gate.pass();
    channel.note("done");
  };
  conn.deliver("12");
  conn.deliver("3");
  await world.serve();
  world.map.wake();
  await settle();
  assertEquals(world.take(), ["a read 1"]);
  for (const next of ["a read 2", "a read 3"]) {
    await gate.open();
    assertEquals(world.take(), ["a done", next]);
  }
  await gate.open();
  assertEquals(world.take(), ["a done"]);
  await world.stop();
});

Deno.test("12 async handlers: while handleRead is pending no read is started and readable() is not asked", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.recv();
    return gate.pass();
  };
  conn.deliver("1");
  await world.serve();
  const { readable } = channel.asked;
  conn.deliver("2");
  world.map.wake();
  await settle();
  assertEquals([conn.reads, channel.asked.readable], [1, readable]);
  await gate.open();
  assertEquals(conn.reads, 2);
  await world.stop();
});

Deno.test("12 async handlers: a pending handleRead leaves its writes alone, and the other channels", async () => {
  const world = new World();
  const gate = new Gate();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.onRead = () => {
    a.channel.note("read");
    a.channel.say("queued");
    return gate.pass();
  };
  a.channel.onWrite = () => {
    a.channel.note("write");
    a.channel.wantsWrite = false;
  };
  a.conn.onWrite = "wait";
  a.conn.deliver("1");
  await world.serve();
  // Queued output leaves while the handler awaits.
  assertEquals(a.conn.calls, ["write 6"]);
  a.conn.release();
  a.channel.wantsWrite = true;
  a.channel.wake();
  b.conn.deliver("2");
  await settle();
  assertEquals(world.take().sort(), ["a read", "a write", "b read 2"]);
  await gate.open();
  await world.stop();
});

Deno.test("12 async handlers: a pending handleWrite holds that channel's writes only", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.wantsWrite = true;
  channel.onWrite = () => {
    channel.note(`write ${channel.say("x")}`);
    return gate.pass();
  };
  await world.serve();
  const { writable } = channel.asked;
  conn.deliver("1");
  await settle();
  world.map.wake();
  await settle();
  assertEquals(world.take(), ["a write 1", "a read 1"]);
  assertEquals(channel.asked.writable, writable);
  await gate.open();
  assertEquals(world.take(), ["a write 1"]);
  await world.stop();
});

Deno.test("12 async handlers: handleRead and handleWrite may be pending at once", async () => {
  const world = new World();
  const reading = new Gate();
  const writing = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv())}`);
    return reading.pass();
  };
  channel.onWrite = () => {
    channel.note(`write ${channel.say("x")}`);
    return writing.pass();
  };
  channel.wantsWrite = true;
  conn.deliver("1");
  await world.serve();
  conn.deliver("2");
  await settle();
  assertEquals(world.take().sort(), ["a read 1", "a write 1"]);
  await writing.open();
  assertEquals(world.take(), ["a write 1"]);
  await reading.open();
  assertEquals(world.take(), ["a read 2"]);
  await world.stop();
});

Deno.test("12 async handlers: a pending handleConnect holds reads and writes", async () => {
  for (const wantsWrite of [false, true]) {
    const world = new World();
    const gate = new Gate();
    const channel = connecting(world, "a");
    channel.wantsWrite = wantsWrite;
    channel.onConnect = () => {
      channel.note(`connect ${channel.connected}`);
      return gate.pass();
    };
    channel.onWrite = () => {
      channel.note("write");
      channel.wantsWrite = false;
    };
    await world.serve();
    const conn = world.system.connects[0]!.succeed();
    conn.deliver("1");
    await settle();
    channel.wantsWrite = true;
    world.map.wake();
    await settle();
    assertEquals(world.take(), ["a connect true"]);
    await gate.open();
    assertEquals(world.take().sort(), ["a read 1", "a write"]);
    await world.stop();
  }
});

Deno.test("12 async handlers: a handleConnect that rejects releases both directions", async () => {
  const world = new World();
  const gate = new Gate();
  const channel = connecting(world, "a");
  channel.onConnect = () => gate.pass();
  channel.onError = () => channel.note("error");
  await world.serve();
  const conn = world.system.connects[0]!.succeed();
  conn.deliver("1");
  await settle();
  await gate.fail(new Error("mine"));
  channel.wake();
  await settle();
  assertEquals(world.take(), ["a error", "a read 1"]);
  await world.stop();
});

Deno.test("12 async handlers: what was sent in a pending handleConnect leaves at once", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.wantsWrite = true;
  channel.onConnect = () => {
    channel.say("hello");
    return new Promise(() => {}); // never
  };
  await world.serve();
  const conn = world.system.connects[0]!.succeed();
  await settle();
  assertEquals(conn.sent, "hello");
  await world.stop();
});

Deno.test("12 async handlers: a pending handleAccept or handleAccepted holds the listener's accepts", async () => {
  for (const name of ["onAccept", "onAccepted"] as const) {
    const world = new World();
    const gate = new Gate();
    const { channel, listener } = listening(world, "l");
    channel[name] = (conn?: Deno.Conn) => {
      (conn ?? channel.accept()![0]).close();
      channel.note("accepts");
      return gate.pass();
    };
    await world.serve();
    listener.deliver(new FakeConn());
    listener.deliver(new FakeConn());
    await settle();
    world.map.wake();
    await settle();
    assertEquals([world.take(), listener.accepts], [["l accepts"], 1]);
    await gate.open();
    assertEquals(world.take(), ["l accepts"]);
    await world.stop();
  }
});

Deno.test("12 async handlers: a pending handleEof holds handleClose", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onEof = async () => {
    channel.note("eof");
    await gate.pass();
    channel.note("eof done");
    channel.disconnect({ kind: "eof" });
  };
  conn.end();
  await world.serve();
  world.map.wake();
  await settle();
  assertEquals(world.take(), ["a read ", "a eof"]);
  await gate.open();
  assertEquals(world.take(), ["a eof done", "a close eof"]);
});

Deno.test("12 async handlers: any pending handler holds handleClose, however the connection ends", async () => {
  const ends: ((channel: Dispatcher, conn: FakeConn) => void)[] = [
    (channel) => channel.disconnect({ kind: "timeout" }),
    (channel, conn) => {
      conn.failWrite(new Deno.errors.BrokenPipe("gone"));
      channel.send(new Uint8Array(1));
    },
  ];
  for (const end of ends) {
    for (const direction of ["read", "write", "both"]) {
      const world = new World();
      const gate = new Gate();
      const { channel, conn } = connected(world, "a");
      channel.onRead = () => {
        channel.recv();
        return gate.pass();
      };
      channel.onWrite = () => {
        channel.wantsWrite = false;
        return gate.pass();
      };
      if (direction !== "write") conn.deliver("x");
      if (direction !== "read") channel.wantsWrite = true;
      await world.serve();
      end(channel, conn);
      await settle();
      world.map.wake();
      await settle();
      assertEquals([world.take(), conn.closed], [[], false], direction);
      await gate.open();
      assertEquals(
        [world.take().length, conn.closed],
        [1, true],
        direction,
      );
    }
  }
});

Deno.test("12 async handlers: handleClose waits for every pending handler", async () => {
  const world = new World();
  const [reading, writing] = [new Gate(), new Gate()];
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => reading.pass();
  channel.onWrite = () => writing.pass();
  channel.wantsWrite = true;
  conn.deliver("x");
  await world.serve();
  channel.disconnect({ kind: "done" });
  await settle();
  await reading.open();
  assertEquals(world.take(), []);
  await writing.open();
  assertEquals(world.take(), ["a close done"]);
});

Deno.test("12 async handlers: a pending handleError holds handleClose", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    throw new Error("mine");
  };
  channel.onError = () => {
    channel.note("error");
    channel.disconnect({ kind: "error" });
    return gate.pass();
  };
  conn.deliver("x");
  await world.serve();
  assertEquals(world.take(), ["a error"]);
  await gate.open();
  assertEquals(world.take(), ["a close error"]);
});

Deno.test("12 async handlers: a handler that rejects before the end was found: first handleError, then one handleClose", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.recv();
    return gate.pass();
  };
  conn.deliver("x");
  await world.serve();
  channel.disconnect({ kind: "timeout" });
  await settle();
  await gate.fail(new Error("mine"));
  assertEquals(world.take(), ["a error mine", "a close timeout"]);
});

Deno.test("12 async handlers: a rejection is told in the next pass, before the reads of that pass", async () => {
  const world = new World();
  const gate = new Gate();
  const a = connected(world, "a");
  const b = connected(world, "b");
  a.channel.onRead = () => {
    a.channel.recv();
    return gate.pass();
  };
  a.conn.deliver("x");
  await world.serve();
  await world.stop();
  await gate.fail(new Error("mine"));
  assertEquals(world.take(), []);
  b.conn.deliver("y");
  await settle();
  await poll(Infinity, world.map);
  assertEquals(world.take(), ["a error mine", "b read y", "a close error"]);
  assertEquals(world.map.counters.errors, 1);
});

Deno.test("12 async handlers: a rejection is told even if the channel was closed, and the map is empty", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => gate.pass();
  conn.deliver("x");
  await world.serve();
  channel.close();
  assertEquals(world.map.size, 0);
  await settle();
  await gate.fail(new Error("mine"));
  await world.served;
  assertEquals(world.take(), ["a error mine"]);
});

Deno.test("12 async handlers: a handler that settles wakes the loop once for what was held", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv())}`);
    return gate.pass();
  };
  conn.deliver("1");
  await world.serve();
  const { passes } = world.map.counters;
  await gate.open();
  assert(world.map.counters.passes - passes <= 3);
  conn.deliver("2");
  await settle();
  assertEquals(world.take(), ["a read 1", "a read 2"]);
  await world.stop();
});

Deno.test("12 async handlers: a view lent by recvView() is valid until the promise settles", async () => {
  const world = new World();
  const gate = new Gate();
  const a = connected(world, "a");
  let view = new Uint8Array();
  a.channel.onRead = () => {
    view = a.channel.recvView();
    return gate.pass();
  };
  await world.serve();
  a.conn.deliver("hello");
  await settle();
  // Others would get the buffer, if it were free.
  for (let i = 0; i < 20; i++) {
    const other = connected(world, "b");
    await settle();
    other.conn.deliver("XXXXXXXXXX");
  }
  await settle();
  assertEquals(text(view), "hello");
  await gate.open();
  await world.stop();
});

Deno.test("12 async handlers: signal aborts when the connection ends", async () => {
  const ends: ((channel: Dispatcher, conn: FakeConn) => void)[] = [
    (_, conn) => conn.end(),
    (_, conn) => conn.failRead(new Deno.errors.ConnectionReset("gone")),
    (channel) => channel.disconnect({ kind: "timeout" }),
    (channel) => channel.close(),
    (channel) => channel.abort(),
  ];
  for (const end of ends) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await world.serve();
    const { signal } = channel;
    assertFalse(signal.aborted);
    end(channel, conn);
    await settle();
    assert(signal.aborted);
    assertStrictEquals(channel.signal, signal);
    await world.served;
  }
});

Deno.test("12 async handlers: signal reaches a handler that is pending when the connection ends", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = async () => {
    channel.recv();
    const { promise, resolve } = Promise.withResolvers<void>();
    channel.signal.addEventListener("abort", () => resolve());
    await promise;
    channel.note("aborted");
  };
  conn.deliver("x");
  await world.serve();
  conn.failWrite(new Deno.errors.BrokenPipe("gone"));
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a aborted", "a close reset"]);
});

Deno.test("12 async handlers: signal made after the end is aborted, and the next socket has another", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  channel.close();
  const { signal } = channel;
  assert(signal.aborted);
  channel.createSocket();
  assertFalse(channel.signal.aborted);
  assert(channel.signal !== signal);
  channel.close();
  assert(channel.signal.aborted);
  await poll(0, world.map);
});

Deno.test("12 async handlers: signal aborts when the connect fails", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  const { signal } = channel;
  await world.serve();
  world.system.connects[0]!.fail(new Error("refused"));
  await settle();
  assert(signal.aborted);
});

Deno.test("12 async handlers: poll() does not wait for them, loop() does", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.recv();
    channel.abort();
    return gate.pass();
  };
  conn.deliver("x");
  await poll(0, world.map);
  await poll(0, world.map);
  assertEquals(world.map.size, 0);
  await poll(Infinity, world.map);
  let over = false;
  const served = loop({ map: world.map }).then(() => over = true);
  await settle();
  assertFalse(over);
  await gate.open();
  await served;
  assertEquals(world.clock.timers, []);
});

Deno.test("12 async handlers: an async handler that made no progress is parked as any other", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  let calls = 0;
  channel.onRead = async () => {
    calls++;
    await null;
  };
  conn.deliver("x");
  await world.serve();
  assertEquals(calls, 1);
  world.map.wake();
  await settle();
  assertEquals(calls, 2);
  await world.stop();
});

Deno.test("12 async handlers: data taken after an await is progress", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = async () => {
    channel.note("read");
    await gate.pass();
    channel.note(text(channel.recv(1)));
  };
  conn.deliver("12");
  await world.serve();
  await gate.open();
  assertEquals(world.take(), ["a read", "a 1", "a read"]);
  await gate.open();
  assertEquals(world.take(), ["a 2"]);
  await world.stop();
});

Deno.test("12 async handlers: closing in a pending handler ends it all", async () => {
  const world = new World();
  const gate = new Gate();
  const { channel, conn } = connected(world, "a");
  channel.onRead = async () => {
    await gate.pass();
    channel.close();
  };
  conn.deliver("x");
  await world.serve();
  await gate.open();
  await world.served;
  assertEquals([world.take(), conn.closed], [[], true]);
});

Deno.test("12 async handlers: a view lent to one pending handler outlives another one that settles first", async () => {
  const world = new World();
  const reading = new Gate();
  const { channel, conn } = connected(world, "a");
  let view = new Uint8Array();
  channel.onRead = () => {
    view = channel.recvView();
    return reading.pass();
  };
  channel.onWrite = async () => {
    channel.wantsWrite = false;
    await null;
  };
  await world.serve();
  conn.deliver("hello");
  await settle();
  channel.wantsWrite = true;
  channel.wake();
  await settle();
  for (let i = 0; i < 20; i++) {
    const other = connected(world, "b");
    await settle();
    other.conn.deliver("XXXXXXXXXX");
  }
  await settle();
  assertEquals(text(view), "hello");
  await reading.open();
  await world.stop();
});

Deno.test("12 async handlers: handleEof waits for a pass when handleRead settles while nobody serves", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const gate = new Gate();
  channel.onRead = () => {
    channel.note(`read ${text(channel.recv())}`);
    return gate.pass();
  };
  conn.end();
  await world.serve();
  await world.stop();
  await gate.open();
  assertEquals(world.take(), ["a read "]);
  await poll(0, world.map);
  assertEquals(world.take(), ["a eof", "a close eof"]);
});

/** Something that is no promise, but has a `then`. */
function thenable(
  then: (resolve: () => void, reject: (error: unknown) => void) => void,
): Promise<void> {
  return { then } as unknown as Promise<void>;
}

Deno.test("12 async handlers: what the then of a handler's result throws is an error of the handler", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const other = connected(world, "b");
  channel.onRead = () => {
    channel.recv();
    return thenable(() => {
      throw new Error("mine");
    });
  };
  conn.deliver("x");
  other.conn.deliver("y");
  await world.serve();
  assertEquals(world.take(), ["b read y", "a error mine", "a close error"]);
  other.channel.close();
  await world.served;
});

Deno.test("12 async handlers: a handler's result that settles twice counts once", async () => {
  const results = {
    "resolves twice": thenable((resolve) => {
      resolve();
      resolve();
    }),
    "resolves and rejects": thenable((resolve, reject) => {
      resolve();
      reject(new Error("late"));
    }),
    "resolves and throws": thenable((resolve) => {
      resolve();
      throw new Error("late");
    }),
  };
  for (const [what, result] of Object.entries(results)) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const other = connected(world, "b");
    const gate = new Gate();
    channel.onRead = () => {
      channel.note(`read ${text(channel.recv(1))}`);
      return result;
    };
    other.channel.onRead = () => gate.pass();
    conn.deliver("12");
    other.conn.deliver("x");
    let over = false;
    await world.serve();
    const served = world.served.then(() => over = true);
    // The hold is released, and the one handler that is pending keeps the loop.
    assertEquals(world.take(), ["a read 1", "a read 2"], what);
    channel.close();
    other.channel.close();
    await settle();
    assertFalse(over, what);
    await gate.open();
    assert(over, what);
    await served;
  }
});
