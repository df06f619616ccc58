import { assert, assertEquals } from "@std/assert";
import { loop, poll } from "../../mod.ts";
import { FakeConn, settle, World } from "../fakes.ts";
import { connected, connecting, listening, type Traced } from "./traced.ts";

/** Everything a channel was told, after `act` at a time when it had something of everything. */
async function afterwards(
  act: (channel: Traced) => void,
): Promise<[Traced, FakeConn, World]> {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsWrite = true;
  await world.serve();
  world.take();
  conn.deliver("x");
  act(channel);
  await settle();
  channel.wake();
  world.map.wake();
  await settle();
  return [channel, conn, world];
}

Deno.test("5 closed means closed: no handler and no predicate runs after close() or abort(), not for data that had arrived", async () => {
  const ways: ((channel: Traced) => void)[] = [
    (channel) => channel.close(),
    (channel) => channel.abort(),
    (channel) => channel[Symbol.dispose](),
  ];
  for (const close of ways) {
    let asked = {};
    const [channel, conn, world] = await afterwards((channel) => {
      close(channel);
      asked = { ...channel.asked };
    });
    assertEquals([world.take(), world.logs], [[], []]);
    assertEquals([channel.asked, conn.closed], [asked, true]);
    await world.served; // the map is empty
  }
});

Deno.test("5 closed means closed: a close that was due does not come after close()", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsWrite = true;
  channel.onWrite = () => {};
  channel.onEof = () => {
    channel.disconnect({ kind: "eof" });
    channel.close();
  };
  conn.end();
  await world.serve();
  await world.served;
  assertEquals(world.take(), ["a read "]);
});

for (const usePoll of [false, true]) {
  const how = usePoll ? " (usePoll)" : "";

  Deno.test(`5 closed means closed: closing a channel from another's handler is safe${how}`, async () => {
    const world = new World();
    const pairs = ["a", "b", "c"].map((name) => connected(world, name));
    const [a, b, c] = pairs;
    await poll(0, world.map);
    a!.channel.onRead = () => {
      a!.channel.note(`read ${a!.channel.recv().length}`);
      b!.channel.close();
    };
    for (const { channel, conn } of pairs) {
      channel.wantsWrite = true;
      conn.deliver("x");
    }
    await settle();
    await poll(0, world.map, { usePoll });
    const trace = world.take();
    assertEquals(trace.filter((event) => event.startsWith("b")), []);
    assertEquals(trace.filter((event) => event.includes("read")), [
      "a read 1",
      "c read x",
    ]);
    assertEquals([...world.map], [a!.channel, c!.channel]);
  });

  Deno.test(`5 closed means closed: a channel that closes itself in handleRead gets no write event${how}`, async () => {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await poll(0, world.map);
    channel.wantsWrite = true;
    channel.onRead = () => {
      channel.note("read");
      channel.close();
    };
    conn.deliver("x");
    await settle();
    world.map.wake();
    await poll(0, world.map, { usePoll });
    await settle();
    assertEquals(world.take(), ["a read"]);
  });

  Deno.test(`5 closed means closed: a dispatcher that reopened itself in its handler gets no event of the old socket${how}`, async () => {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await poll(0, world.map);
    channel.wantsWrite = true;
    channel.onRead = () => {
      channel.note("read");
      channel.close();
      channel.createSocket();
      channel.connect({ hostname: "127.0.0.1", port: 80 });
    };
    conn.deliver("x");
    await settle();
    world.map.wake();
    await poll(0, world.map, { usePoll });
    await poll(0, world.map, { usePoll });
    assertEquals([world.take(), channel.connecting], [["a read"], true]);
  });
}

Deno.test("5 closed means closed: a predicate may close its channel, and no handler follows", async () => {
  for (const name of ["readable", "writable"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    conn.deliver("x");
    channel.wantsWrite = true;
    await world.serve();
    world.take();
    channel[name] = () => {
      channel.close();
      return true;
    };
    conn.deliver("y");
    world.map.wake();
    await settle();
    assertEquals([world.take(), conn.closed], [[], true], name);
    await world.served;
  }
});

Deno.test("5 closed means closed: handleError runs for what its own handler throws after close()", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.close();
    throw new Error("late");
  };
  conn.deliver("x");
  await world.serve();
  await world.served;
  assertEquals(world.take(), ["a error late"]);
  assertEquals(world.logs.length, 1);
});

Deno.test("5 closed means closed: close() twice is a no-op, before a socket, too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.close();
  channel.close();
  channel.abort();
  channel.close();
  assertEquals(conn.calls, ["close"]);
  assertEquals(world.map.counters.closes, 1);
  const { channel: server, listener } = listening(world, "l");
  server.close();
  server.close();
  assertEquals(listener.closed, true);
  await poll(0, world.map);
});

Deno.test("5 closed means closed: nothing of the old socket reaches the new one", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await world.serve();
  // All in one turn: the completion of the old read is under way when the new socket is there.
  conn.deliver("old");
  channel.close();
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  await settle();
  assertEquals([world.take(), channel.connecting], [[], true]);
  assertEquals(channel.bytesRead, 0);
  const second = world.system.connects[0]!.succeed();
  await settle();
  second.deliver("new");
  await settle();
  assertEquals(world.take(), ["a connect", "a read new"]);
  await world.stop();
});

Deno.test("5 closed means closed: bytes that the old socket still writes are its own", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  await world.serve();
  channel.say("old");
  await settle();
  channel.close();
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  conn.release();
  const second = world.system.connects[0]!.succeed();
  second.deliver("new");
  await settle();
  conn.failWrite(new Deno.errors.BrokenPipe("gone"));
  conn.failRead(new Deno.errors.ConnectionReset("gone"));
  await settle();
  assertEquals(world.take(), ["a connect", "a read new"]);
  assertEquals([channel.connected, channel.bytesWritten, second.calls], [
    true,
    0,
    [],
  ]);
  await world.stop();
});

Deno.test("5 closed means closed: a connect that comes too late reaches nobody and is closed", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  await world.serve();
  const late = new FakeConn();
  world.system.connects[0]!.succeed(late);
  channel.close();
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 81 });
  await settle();
  assertEquals([late.closed, channel.connecting], [true, true]);
  assertEquals([world.take(), world.logs], [[], []]);
  await world.stop();
});

Deno.test("5 closed means closed: a connect that fails after close() is nobody's error", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  await world.serve();
  channel.close();
  world.system.connects[0]!.fail(new Error("refused"));
  await settle();
  await world.served;
  assertEquals([world.take(), world.logs], [[], []]);
});

Deno.test("5 closed means closed: close() takes back a connect that is under way", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  await world.serve();
  channel.close();
  await settle();
  assertEquals(world.system.connects[0]!.aborted, true);
  await world.served;
});

Deno.test("5 closed means closed: an async handler of the old socket that fails does not end the new one", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, reject } = Promise.withResolvers<void>();
  channel.onRead = () => promise;
  await world.serve();
  conn.deliver("x");
  await settle();
  channel.close();
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  channel.onRead = () => channel.note(`read ${channel.recv().length}`);
  world.system.connects[0]!.succeed().deliver("new");
  await settle();
  assertEquals(world.take(), ["a connect", "a read 3"]);
  reject(new Error("old"));
  await settle();
  // An error never vanishes (11), but the connection it was about is gone.
  assertEquals([world.take(), channel.connected], [["a error old"], true]);
  await world.stop();
});

Deno.test("5 closed means closed: a handler that reopens and then throws does not end the new socket", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    channel.close();
    channel.createSocket();
    channel.connect({ hostname: "127.0.0.1", port: 80 });
    throw new Error("old");
  };
  conn.deliver("x");
  await world.serve();
  assertEquals([world.take(), channel.connecting], [["a error old"], true]);
  channel.onRead = () => channel.note(`read ${channel.recv().length}`);
  world.system.connects[0]!.succeed().deliver("new");
  await settle();
  assertEquals(world.take(), ["a connect", "a read 3"]);
  await world.stop();
});

Deno.test("5 closed means closed: holds of the old socket do not hold the new one", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onRead = () => promise;
  await world.serve();
  conn.deliver("x");
  await settle();
  channel.close();
  channel.createSocket();
  channel.connect({ hostname: "127.0.0.1", port: 80 });
  channel.onRead = () => channel.note(`read ${channel.recv().length}`);
  const second = world.system.connects[0]!.succeed();
  second.deliver("yy");
  await settle();
  assertEquals(world.take(), ["a connect", "a read 2"]);
  resolve();
  await settle();
  second.deliver("z");
  await settle();
  assertEquals(world.take(), ["a read 1"]);
  await world.stop();
});

Deno.test("5 closed means closed: a closed channel is out of the map at once", () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  conn.onWrite = "wait";
  channel.say("x");
  assert([...world.map].includes(channel));
  channel.close();
  assertEquals([world.map.size, [...world.map]], [0, []]);
  channel.abort();
  assertEquals(conn.closed, true);
});

Deno.test("5 closed means closed: a listener delivers nothing after close()", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  channel.close();
  await settle();
  await world.served;
  assertEquals([world.take(), conn.closed], [[], true]);
});

Deno.test("5 closed means closed: a predicate that closes the last channel in a sweep ends the loop", async () => {
  const world = new World();
  const a = connected(world, "a");
  const b = connected(world, "b");
  await world.serve();
  let asked = 0;
  b.channel.writable = () => {
    world.clock.spend(5);
    if (++asked === 2) {
      a.channel.abort();
      b.channel.abort();
    }
    return false;
  };
  await world.clock.advance(1_000);
  for (let i = 0; i < 2; i++) {
    a.conn.deliver("x"); // the second sweep comes out of the wait
    await settle();
  }
  await world.clock.advance(1_000);
  assertEquals([asked, world.map.size], [2, 0]);
  await world.served;
});

Deno.test("5 closed means closed: a handleError of the old socket that fails does not end the new one", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onRead = () => {
      throw new Error("old");
    };
    channel.onError = () => {
      channel.close();
      channel.createSocket();
      channel.connect({ hostname: "127.0.0.1", port: 80 });
      const error = new Error("second");
      if (isAsync) return Promise.reject(error);
      throw error;
    };
    conn.deliver("x");
    await world.serve();
    assertEquals([channel.connecting, world.logs.length], [true, 1]);
    assertEquals(world.take(), []);
    await world.stop();
  }
});

Deno.test("5 closed means closed: a predicate that closes the last channel, or whose handleError does, ends the loop", async () => {
  const ways: Record<string, (channel: Traced) => void> = {
    "a readable() that closes": (channel) => {
      channel.readable = () => {
        channel.close();
        return false;
      };
    },
    "a writable() that closes": (channel) => {
      channel.writable = () => {
        channel.close();
        return false;
      };
    },
    "a readable() that throws": (channel) => {
      channel.onError = () => channel.close();
      channel.readable = () => {
        throw new Error("mine");
      };
    },
    "a readable() that closes after a read": (channel) => {
      channel.readable = () => {
        if (channel.bytesRead > 0 && channel.room > 0) channel.close();
        return channel.connected;
      };
      channel.onRead = () => void channel.recv();
    },
  };
  for (const [way, prepare] of Object.entries(ways)) {
    for (const serve of [loop, poll]) {
      const world = new World();
      const { channel, conn } = connected(world, "a");
      prepare(channel);
      conn.deliver("x");
      const { map } = world;
      let over = false;
      const served = serve === loop
        ? loop({ map, timeout: Infinity })
        : poll(Infinity, map);
      const done = served.then(() => over = true);
      await settle();
      assertEquals([over, world.clock.timers], [true, []], way);
      await done;
      channel.close();
      assert(conn.closed, way);
    }
  }
});

for (const how of ["close", "abort"] as const) {
  Deno.test(`5 closed means closed: user code that opens the dispatcher again inside ${how}() leaves the old socket closed and the new one open`, async () => {
    const reopen = (channel: Traced) => {
      channel.createSocket();
      channel.connect({ hostname: "127.0.0.1", port: 80 });
    };
    const ways: Record<string, (channel: Traced) => void> = {
      "a listener of signal": (channel) =>
        channel.signal.addEventListener("abort", () => reopen(channel)),
      "logInfo()": (channel) => {
        channel.debug = true;
        channel.logInfo = () => {
          channel.debug = false;
          reopen(channel);
        };
      },
    };
    for (const [way, prepare] of Object.entries(ways)) {
      const world = new World();
      const { channel, conn } = connected(world, "a");
      await world.serve();
      prepare(channel);
      channel[how]();
      assertEquals([conn.closed, conn.calls], [true, ["close"]], way);
      assertEquals([channel.connecting, [...world.map]], [true, [channel]]);
      channel.wantsWrite = true;
      channel.onWrite = () => channel.abort();
      const next = world.system.connects[0]!.succeed();
      await settle();
      assertEquals([world.take(), next.closed], [["a connect"], true], way);
      await world.served;
    }
  });
}

Deno.test("5 closed means closed: a predicate that reopens and then throws does not end the new socket", async () => {
  for (const name of ["readable", "writable"] as const) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel[name] = () => {
      channel[name] = () => false;
      channel.close();
      channel.createSocket();
      channel.connect({ hostname: "127.0.0.1", port: 80 });
      throw new Error("old");
    };
    await world.serve();
    assertEquals([world.take(), conn.closed], [["a error old"], true], name);
    assertEquals([channel.connecting, world.logs.length], [true, 1], name);
    await world.stop();
    channel.abort();
  }
});
