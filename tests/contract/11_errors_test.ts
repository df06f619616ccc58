import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import {
  type CloseReason,
  Dispatcher,
  ExitNow,
  loop,
  poll,
} from "../../mod.ts";
import { FakeConn, settle, World } from "../fakes.ts";
import { connected, connecting, listening, Traced } from "./traced.ts";

/** A channel of which `fail` makes one handler run that fails by `how`. */
interface Case {
  readonly channel: Traced;
  readonly fail: () => Promise<void> | void;
}

type How = () => void | Promise<void>;

const HANDLERS: Record<string, (world: World, how: How) => Case> = {
  handleRead(world, how) {
    const { channel, conn } = connected(world, "a");
    channel.onRead = how;
    return { channel, fail: () => conn.deliver("x") };
  },
  handleWrite(world, how) {
    const { channel } = connected(world, "a");
    channel.onWrite = how;
    const fail = () => {
      channel.wantsWrite = true;
      channel.wake();
    };
    return { channel, fail };
  },
  handleEof(world, how) {
    const { channel, conn } = connected(world, "a");
    channel.onRead = () => void channel.recv();
    channel.onEof = how;
    return { channel, fail: () => conn.end() };
  },
  handleConnect(world, how) {
    const channel = connecting(world, "a");
    channel.onConnect = how;
    channel.wantsWrite = true;
    const fail = () => void world.system.connects.at(-1)!.succeed();
    return { channel, fail };
  },
  handleAccept(world, how) {
    const { channel, listener } = listening(world, "a");
    channel.onAccept = () => {
      channel.accept()![0].close();
      return how();
    };
    return { channel, fail: () => void listener.deliver(new FakeConn()) };
  },
  handleAccepted(world, how) {
    const { channel, listener } = listening(world, "a");
    channel.onAccepted = how;
    return { channel, fail: () => void listener.deliver(new FakeConn()) };
  },
};

for (const [name, make] of Object.entries(HANDLERS)) {
  Deno.test(`11 errors: what ${name} throws goes to handleError right after it, then the connection ends`, async () => {
    const world = new World();
    const error = new Error("mine");
    const { channel, fail } = make(world, () => {
      channel.note("fails");
      throw error;
    });
    const other = connected(world, "b");
    const given: unknown[] = [];
    const reasons: CloseReason[] = [];
    channel.onError = (error) => {
      channel.note("error");
      given.push(error);
      return Dispatcher.prototype.handleError.call(channel, error);
    };
    channel.onClose = (reason) => void reasons.push(reason);
    await world.serve();
    await fail();
    other.conn.deliver("x");
    await settle();
    const trace = world.take();
    assertEquals(trace.slice(0, 2), ["a fails", "a error"]);
    assertEquals(trace.filter((event) => event === "b read x").length, 1);
    assertEquals(given.length, 1);
    assertStrictEquals(given[0], error);
    if (channel.accepting) assertEquals(reasons, []);
    else {
      assertEquals(reasons.map(({ kind }) => kind), ["error"]);
      assertStrictEquals(reasons[0]!.error, error);
      assertFalse([...world.map].includes(channel));
    }
    assertEquals(world.map.counters.errors, 1);
    await world.stop();
  });

  Deno.test(`11 errors: what an async ${name} rejects with goes to handleError in the next pass`, async () => {
    const world = new World();
    const error = new Error("mine");
    const { promise, reject } = Promise.withResolvers<void>();
    const { channel, fail } = make(world, () => promise);
    const given: unknown[] = [];
    channel.onError = (error) => void given.push(error);
    await world.serve();
    await fail();
    await settle();
    assertEquals(given, []);
    const { passes } = world.map.counters;
    reject(error);
    await settle();
    assertEquals(given.length, 1);
    assertStrictEquals(given[0], error);
    assert(world.map.counters.passes > passes);
    await world.stop();
  });

  Deno.test(`11 errors: what an async ${name} rejects with is told even if the channel was closed`, async () => {
    const world = new World();
    const { promise, reject } = Promise.withResolvers<void>();
    const { channel, fail } = make(world, () => promise);
    await world.serve();
    await fail();
    await settle();
    channel.abort();
    await settle();
    world.take();
    reject(new Error("late"));
    await world.served;
    assertEquals([world.take(), world.logs.length], [["a error late"], 1]);
  });

  Deno.test(`11 errors: an ExitNow of ${name}, sync or async, makes loop() reject with it`, async () => {
    for (const isAsync of [false, true]) {
      const world = new World();
      const exit = new ExitNow("enough");
      const { channel, fail } = make(world, () => {
        channel.note("exits");
        if (isAsync) return Promise.reject(exit);
        throw exit;
      });
      await world.serve();
      await fail();
      const thrown = await assertRejects(() => world.served);
      assertStrictEquals(thrown, exit);
      // No handleError, no handleClose, nothing logged, nothing closed.
      assertEquals([world.take(), world.logs], [["a exits"], []]);
      assertEquals([[...world.map], world.map.counters.errors], [[channel], 0]);
      channel.abort();
    }
  });
}

// Predicates.

for (const name of ["readable", "writable"] as const) {
  Deno.test(`11 errors: what ${name}() throws goes to handleError, then the connection ends`, async () => {
    const world = new World();
    const { channel } = connected(world, "a");
    const error = new Error("mine");
    const given: unknown[] = [];
    channel.onError = (error) => void given.push(error);
    channel[name] = () => {
      throw error;
    };
    await world.serve();
    assertEquals(given.length, 1);
    assertStrictEquals(given[0], error);
    await world.stop();
    channel.abort();

    const b = connected(world, "b");
    b.channel[name] = channel[name];
    await world.serve();
    assertEquals(world.take(), ["b error mine", "b close error"]);
  });

  Deno.test(`11 errors: a ${name}() that throws right before the handler keeps the handler from running`, async () => {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    await world.serve();
    channel.wantsWrite = true;
    let asked = 0;
    channel[name] = () => {
      if (name === "writable" && ++asked === 1) return true; // when examined
      throw new Error("mine");
    };
    if (name === "readable") conn.deliver("x");
    else channel.wake();
    await settle();
    assertEquals(world.take(), ["a error mine", "a close error"]);
    await world.served;
  });

  Deno.test(`11 errors: a ${name}() that returns a promise is a TypeError, and its rejection is nobody's`, async () => {
    for (const settled of ["resolved", "rejected"]) {
      const world = new World();
      const { channel, conn } = connected(world, "a");
      let given: unknown;
      const { onError } = channel;
      channel.onError = (error) => {
        given = error;
        return onError(error);
      };
      channel[name] = (() =>
        settled === "resolved"
          ? Promise.resolve(true)
          : Promise.reject(new Error("no"))) as unknown as () => boolean;
      await world.serve();
      assertInstanceOf(given, TypeError);
      assertStringIncludes((given as TypeError).message, name);
      assertEquals([world.take().at(-1), conn.reads], [
        "a close error",
        name === "readable" ? 0 : 1,
      ]);
    }
  });
}

Deno.test("11 errors: a listener whose readable() throws goes on", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  let broken = true;
  channel.readable = () => {
    if (broken) throw new Error("mine");
    return true;
  };
  await world.serve();
  assertEquals([world.take(), listener.closed], [["l error mine"], false]);
  broken = false;
  channel.wake();
  await settle();
  listener.deliver(new FakeConn());
  await settle();
  assertEquals(world.take(), ["l accepted"]);
  await world.stop();
});

Deno.test("11 errors: a readable() that always throws does not spin", async () => {
  const world = new World();
  const { channel } = listening(world, "l");
  channel.readable = () => {
    throw new Error("mine");
  };
  channel.onError = () => channel.note("error");
  await world.serve();
  assertEquals(world.take(), ["l error"]);
  await world.stop();
});

// The default handleError.

Deno.test("11 errors: by default an error is logged in one line: channel, error, compact traceback", async () => {
  const world = new World();
  class Odd extends Traced {}
  const conn = new FakeConn();
  const channel = new Odd(world, "a", conn);
  channel.onRead = function theHandler() {
    throw new RangeError("two\nlines");
  };
  conn.deliver("x");
  await world.serve();
  assertEquals(world.logs.length, 1);
  const [line] = world.logs;
  assertMatch(line!, /^error: /);
  assertFalse(line!.includes("\n"));
  assertStringIncludes(line!, "Odd");
  assertStringIncludes(line!, `127.0.0.1:${conn.remoteAddr.port}`);
  assertStringIncludes(line!, "RangeError: two lines");
  assertMatch(line!, /\[11_errors_test\.ts\|[^|]*theHandler[^|]*\|\d+\]/);
});

Deno.test("11 errors: whatever is thrown is logged and handed on", async () => {
  const noText = {
    toString() {
      throw new Error("no text");
    },
  };
  const odd = [undefined, null, 0, "text", Symbol("s"), { a: 1 }, noText];
  for (const thrown of odd) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const given: unknown[] = [];
    channel.onError = (error) => {
      given.push(error);
      return Dispatcher.prototype.handleError.call(channel, error);
    };
    channel.onRead = () => {
      throw thrown;
    };
    conn.deliver("x");
    await world.serve();
    assertEquals(given.length, 1);
    assertStrictEquals(given[0], thrown);
    assertEquals(world.logs.length, 1);
    assertEquals(world.take(), ["a close error"]);
  }
});

Deno.test("11 errors: whatever an async handler rejects with is told, undefined too", async () => {
  for (const thrown of [undefined, null, 0, ""]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    let told = 0;
    channel.onError = () => void told++;
    channel.onRead = () => Promise.reject(thrown);
    conn.deliver("x");
    await world.serve();
    assertEquals(told, 1, String(thrown));
    await world.stop();
  }
});

Deno.test("11 errors: a listener goes on", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  const { onAccepted } = channel;
  channel.onAccepted = () => {
    throw new Error("mine");
  };
  await world.serve();
  listener.deliver(new FakeConn());
  await settle();
  assertEquals([world.take(), channel.accepting], [["l error mine"], true]);
  channel.onAccepted = onAccepted;
  channel.wake();
  listener.deliver(new FakeConn());
  await settle();
  assertEquals(world.take(), ["l accepted"]);
  await world.stop();
});

Deno.test("11 errors: an overridden handleError may keep the connection", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onError = () => channel.note("error");
  channel.onRead = () => {
    channel.recv();
    throw new Error("mine");
  };
  await world.serve();
  for (let i = 0; i < 3; i++) {
    conn.deliver("x");
    await settle();
  }
  assertEquals(world.take(), ["a error", "a error", "a error"]);
  assertEquals([channel.connected, world.map.counters.errors], [true, 3]);
  await world.stop();
});

// When telling fails.

Deno.test("11 errors: what handleError throws or rejects with is logged, and the channel ended", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const second = new Error("second");
    let given: unknown;
    channel.onError = () => {
      channel.note("error");
      if (isAsync) return Promise.reject(second);
      throw second;
    };
    channel.onRead = () => {
      throw new Error("first");
    };
    channel.onClose = ({ kind, error }) => {
      channel.note(`close ${kind}`);
      given = error;
    };
    conn.deliver("x");
    await world.serve();
    assertEquals(world.take(), ["a error", "a close error"]);
    assertStrictEquals(given, second);
    assertEquals(world.logs.length, 1);
    assertMatch(world.logs[0]!, /^error: .*handleError.*Error: second/);
    await world.served;
  }
});

Deno.test("11 errors: a listener survives a handleError that throws", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.onError = () => {
    throw new Error("second");
  };
  channel.onAccepted = () => {
    throw new Error("first");
  };
  await world.serve();
  listener.deliver(new FakeConn());
  await settle();
  assertEquals([channel.accepting, world.logs.length], [true, 1]);
  await world.stop();
});

Deno.test("11 errors: what handleClose throws or rejects with is logged, and the socket closed", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.onClose = () => {
      channel.note("close");
      const error = new Error("mine");
      if (isAsync) return Promise.reject(error);
      throw error;
    };
    conn.end();
    await world.serve();
    await world.served;
    assertEquals(world.take(), ["a read ", "a eof", "a close"]);
    assertEquals([conn.closed, world.logs.length], [true, 1]);
    assertMatch(world.logs[0]!, /^error: .*handleClose.*Error: mine/);
  }
});

Deno.test("11 errors: what logInfo throws is dropped", async () => {
  for (const where of ["handleError", "handleClose", "second handleError"]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const other = connected(world, "b");
    let logged = 0;
    channel.logInfo = () => {
      logged++;
      throw new Error("no log");
    };
    const fail = () => {
      throw new Error("mine");
    };
    if (where !== "handleClose") channel.onRead = fail;
    else channel.onClose = fail;
    if (where === "second handleError") channel.onError = fail;
    conn.deliver("x");
    conn.end();
    other.conn.deliver("y");
    await world.serve();
    assertEquals([logged, conn.closed], [1, true], where);
    assert(world.take().includes("b read y"));
    await world.stop();
  }
});

Deno.test("11 errors: an ExitNow of logInfo is dropped, too", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.logInfo = () => {
    throw new ExitNow();
  };
  channel.onRead = () => {
    throw new Error("mine");
  };
  conn.deliver("x");
  await world.serve();
  await world.served;
  assertEquals(world.take(), ["a error mine", "a close error"]);
});

Deno.test("11 errors: a channel that cannot be shown is logged all the same", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  Object.defineProperty(channel, Symbol.for("Deno.customInspect"), {
    value() {
      throw new Error("no text");
    },
  });
  channel.onError = () => {
    throw new Error("second");
  };
  channel.onRead = () => {
    throw new Error("first");
  };
  conn.deliver("x");
  await world.serve();
  assertEquals(world.logs.length, 1);
  assertStringIncludes(world.logs[0]!, "second");
});

Deno.test("11 errors: one channel's trouble never ends the loop", async () => {
  const world = new World();
  const fail = () => {
    throw new Error("trouble");
  };
  const a = connected(world, "a");
  a.channel.onRead = a.channel.onError = a.channel.onClose = fail;
  a.channel.logInfo = fail;
  const b = connected(world, "b");
  b.channel.readable = b.channel.writable = fail;
  b.channel.onError = b.channel.onClose = () => Promise.reject(new Error());
  const c = connected(world, "c");
  a.conn.deliver("x");
  c.conn.deliver("1");
  await world.serve();
  c.conn.deliver("2");
  await settle();
  assertEquals(world.take(), ["c read 1", "c read 2"]);
  assertEquals([a.conn.closed, b.conn.closed], [true, true]);
  await world.stop();
});

Deno.test("11 errors: a close() that throws does not end the loop", async () => {
  const world = new World();
  const a = connected(world, "a");
  a.channel.close = () => {
    throw new Error("trouble");
  };
  const b = connected(world, "b");
  a.conn.end();
  b.conn.deliver("1");
  await world.serve();
  b.conn.deliver("2");
  await settle();
  assertEquals(world.take().filter((event) => event.startsWith("b")), [
    "b read 1",
    "b read 2",
  ]);
  // handleClose has returned, so the scheduler closes the socket all the same.
  assertEquals([a.conn.closed, [...world.map]], [true, [b.channel]]);
  await world.stop();
});

// ExitNow.

for (const name of ["readable", "writable"] as const) {
  Deno.test(`11 errors: an ExitNow of ${name}() makes loop() reject with it`, async () => {
    const world = new World();
    const { channel } = connected(world, "a");
    const exit = new ExitNow("enough");
    channel[name] = () => {
      throw exit;
    };
    assertStrictEquals(
      await assertRejects(() => loop({ map: world.map })),
      exit,
    );
    assertEquals([world.take(), world.map.size], [[], 1]);
    channel.abort();
  });
}

Deno.test("11 errors: an ExitNow of handleError, sync or async, makes loop() reject with it", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const exit = new ExitNow("enough");
    channel.onRead = () => {
      throw new Error("mine");
    };
    channel.onError = () => {
      if (isAsync) return Promise.reject(exit);
      throw exit;
    };
    conn.deliver("x");
    await world.serve();
    const thrown = await assertRejects(() => world.served);
    assertStrictEquals(thrown, exit);
    assertEquals([world.map.size, world.logs], [1, []]);
    channel.abort();
  }
});

Deno.test("11 errors: an ExitNow of handleClose, sync or async, makes loop() reject with it, and the socket is closed", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const exit = new ExitNow("enough");
    channel.onClose = () => {
      if (isAsync) return Promise.reject(exit);
      throw exit;
    };
    conn.end();
    await world.serve();
    const thrown = await assertRejects(() => world.served);
    assertStrictEquals(thrown, exit);
    assertEquals([conn.closed, world.map.size, world.logs], [true, 0, []]);
    await loop({ map: world.map });
  }
});

Deno.test("11 errors: a subclass of ExitNow is an ExitNow", async () => {
  class Quit extends ExitNow {}
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.onRead = () => {
    throw new Quit();
  };
  conn.deliver("x");
  await assertRejects(() => poll(0, world.map), Quit);
  channel.abort();
});

for (const usePoll of [false, true]) {
  const how = usePoll ? " (usePoll)" : "";

  const order = usePoll
    ? ["a read", "a write", "b read", "b write", "c read", "c write"]
    : ["a read", "b read", "c read", "a write", "b write", "c write"];

  /** A pass in which everything of `order` is ready, and in which `victim` throws ExitNow. */
  const exit = async (victim: string) => {
    const world = new World();
    const pairs = ["a", "b", "c"].map((name) => connected(world, name));
    await poll(0, world.map, { usePoll });
    for (const { channel, conn } of pairs) {
      let exited = false;
      const run = (what: string, act: () => void) => () => {
        if (victim !== `${channel.name} ${what}` || exited) {
          channel.note(what);
          return act();
        }
        exited = true;
        throw new ExitNow();
      };
      channel.onRead = run("read", () => void channel.recv());
      channel.onWrite = run("write", () => channel.wantsWrite = false);
      channel.wantsWrite = true;
      channel.wake();
      conn.deliver("x");
    }
    await settle();
    await assertRejects(() => poll(Infinity, world.map, { usePoll }), ExitNow);
    assertEquals(world.take(), order.slice(0, order.indexOf(victim)));
    return world;
  };

  Deno.test(`11 errors: after an ExitNow what the pass had not served stays ready${how}`, async () => {
    for (const [i, victim] of order.slice(0, -1).entries()) {
      const world = await exit(victim);
      const passed = poll(Infinity, world.map, { usePoll });
      await settle();
      assertEquals(world.clock.idles, 0, victim);
      await passed;
      // What others did may be a reason to call the handler again that threw.
      const trace = world.take().filter((event) => event !== victim);
      assertEquals(trace, order.slice(i + 1), victim);
    }
  });

  Deno.test(`11 errors: after an ExitNow loop() can be called again, and serves everything, each once${how}`, async () => {
    for (const [i, victim] of order.entries()) {
      const world = await exit(victim);
      await world.serve({ usePoll });
      assertEquals(
        world.take().sort(),
        [victim, ...order.slice(i + 1)].sort(),
        victim,
      );
      await world.stop();
    }
  });

  Deno.test(`11 errors: a handleClose that was due comes in the next pass's close phase${how}`, async () => {
    const world = new World();
    const a = connected(world, "a");
    const b = connected(world, "b");
    await poll(0, world.map, { usePoll });
    a.conn.end();
    await settle();
    b.conn.deliver("x");
    b.channel.onRead = () => {
      b.channel.note("exits");
      b.channel.recv();
      throw new ExitNow();
    };
    a.channel.wantsWrite = true;
    a.channel.onWrite = () => {
      a.channel.note("exits");
      throw new ExitNow();
    };
    await settle();
    world.map.wake();
    await assertRejects(() => poll(0, world.map, { usePoll }), ExitNow);
    const before = world.take();
    assertEquals(before.at(-1)!.slice(2), "exits");
    assertEquals([a.conn.closed, a.channel.closing], [false, true]);
    b.channel.onRead = () => {};
    await poll(Infinity, world.map, { usePoll });
    assertEquals(world.take(), ["a close eof"]);
    assertEquals(world.clock.idles, 0);
    assert(a.conn.closed);
    b.channel.abort();
  });
}

Deno.test("11 errors: data stays ready when readable() throws ExitNow right before handleRead", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  await poll(0, world.map);
  conn.deliver("x");
  await settle();
  channel.readable = () => {
    throw new ExitNow();
  };
  await assertRejects(() => poll(Infinity, world.map), ExitNow);
  channel.readable = () => true;
  let over = false;
  const passed = poll(Infinity, world.map).then(() => over = true);
  await settle();
  const trace = world.take();
  channel.abort();
  await passed;
  assertEquals([over, trace], [true, ["a read x"]]);
});

Deno.test("11 errors: a write stays ready when writable() throws ExitNow right before handleWrite", async () => {
  const world = new World();
  const { channel } = connected(world, "a");
  await poll(0, world.map);
  let asked = 0;
  channel.wantsWrite = true;
  channel.writable = () => {
    if (++asked === 2) throw new ExitNow();
    return true;
  };
  channel.wake();
  await assertRejects(() => poll(Infinity, world.map), ExitNow);
  assertEquals(world.take(), []);
  let over = false;
  const passed = poll(Infinity, world.map).then(() => over = true);
  await settle();
  const trace = world.take();
  channel.abort();
  await passed;
  assertEquals([over, trace], [true, ["a write"]]);
});

Deno.test("11 errors: rejections that an ExitNow overtook are told by the next pass", async () => {
  const world = new World();
  const pairs = ["a", "b", "c"].map((name) => connected(world, name));
  const exit = new ExitNow();
  for (const { channel, conn } of pairs) {
    channel.onRead = () => {
      channel.recv();
      return Promise.reject(
        channel.name === "b" ? exit : new Error(channel.name),
      );
    };
    conn.deliver("x");
  }
  await world.serve();
  await assertRejects(() => world.served, ExitNow);
  assertEquals(world.take(), ["a error a"]);
  await world.serve();
  assertEquals(world.take().sort(), [
    "a close error",
    "c close error",
    "c error c",
  ]);
  await world.stop();
});

Deno.test("11 errors: an ExitNow of an async handler while nobody serves makes the next loop() or poll() reject", async () => {
  const again = [
    (world: World) => loop({ map: world.map, timeout: Infinity }),
    (world: World) => loop({ map: world.map, count: 1 }),
    (world: World) => poll(0, world.map),
    (world: World) => poll(Infinity, world.map),
  ];
  for (const serve of again) {
    for (const closes of [false, true]) {
      const world = new World();
      const { channel, conn } = connected(world, "a");
      const { promise, reject } = Promise.withResolvers<void>();
      channel.onRead = () => promise;
      conn.deliver("x");
      await world.serve();
      await world.stop();
      const exit = new ExitNow();
      reject(exit);
      if (closes) channel.abort(); // the map is empty
      await settle();
      assertStrictEquals(await assertRejects(() => serve(world)), exit);
      assertEquals(world.take(), []);
      channel.abort();
      await loop({ map: world.map });
    }
  }
});

Deno.test("11 errors: an error of an async handler while nobody serves is told by the next pass", async () => {
  for (const closes of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const { promise, reject } = Promise.withResolvers<void>();
    channel.onRead = () => promise;
    conn.deliver("x");
    await world.serve();
    await world.stop();
    if (closes) channel.abort();
    reject(new Error("mine"));
    await settle();
    assertEquals(world.take(), []);
    await poll(0, world.map);
    assertEquals(
      world.take(),
      closes ? ["a error mine"] : ["a error mine", "a close error"],
    );
  }
});

Deno.test("11 errors: a failed connect is one handleError, then handleClose", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.wantsRead = false;
  const error = new Deno.errors.ConnectionRefused("refused");
  let given: unknown;
  channel.onClose = ({ kind, error }) => {
    channel.note(`close ${kind}`);
    given = error;
  };
  await world.serve();
  world.system.connects[0]!.fail(error);
  await settle();
  assertEquals(world.take(), ["a error refused", "a close error"]);
  assertStrictEquals(given, error);
});

Deno.test("11 errors: a connect that fails at once is told, however it falls into the passes", async () => {
  for (const inHandler of [false, true]) {
    for (let microtasks = 0; microtasks < 8; microtasks++) {
      const world = new World();
      const other = connected(world, "other");
      await world.serve();
      let failed = Promise.resolve();
      const connect = async () => {
        connecting(world, "a");
        for (let i = 0; i < microtasks; i++) await null;
        world.system.connects[0]!.fail(new Error("denied"));
      };
      other.channel.onRead = () => {
        other.channel.recv();
        failed = connect();
      };
      if (inHandler) other.conn.deliver("x");
      else failed = connect();
      await settle();
      await failed;
      assertEquals(
        world.take(),
        ["a error denied", "a close error"],
        `${inHandler} ${microtasks}`,
      );
      await world.stop();
    }
  }
});

Deno.test("11 errors: an ExitNow of a predicate that was asked by a sweep leaves the others to be asked", async () => {
  const world = new World();
  const busy = connected(world, "busy");
  const a = connected(world, "a");
  const b = connected(world, "b");
  const c = connected(world, "c");
  await poll(0, world.map);
  await poll(0, world.map);
  busy.channel.onRead = () => {
    busy.channel.recv();
    a.channel.wantsWrite = c.channel.wantsWrite = true;
    b.channel.writable = () => {
      b.channel.writable = () => false;
      throw new ExitNow();
    };
  };
  for (const { channel } of [a, c]) {
    channel.onWrite = () => {
      channel.note("write");
      channel.wantsWrite = false;
    };
  }
  busy.conn.deliver("x");
  await settle();
  await poll(Infinity, world.map);
  await assertRejects(() => poll(Infinity, world.map), ExitNow);
  const passed = poll(Infinity, world.map);
  await settle();
  const { idles } = world.clock;
  world.map.wake();
  await passed;
  assertEquals(world.take().sort(), ["a write", "c write"]);
  assertEquals(idles, 0);
});

Deno.test("11 errors: what an overridden close() throws or rejects with after handleClose is logged", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    channel.close = () => {
      Traced.prototype.close.call(channel);
      const error = new Error("not released");
      // An async override is a promise where none is looked for.
      if (isAsync) return Promise.reject(error) as unknown as void;
      throw error;
    };
    conn.end();
    await world.serve();
    await world.served;
    assertEquals([conn.closed, world.logs.length], [true, 1]);
    assertMatch(world.logs[0]!, /^error: .*Error: not released/);
  }
});

Deno.test("11 errors: an ExitNow of an overridden close() after handleClose, sync or async, makes loop() reject with it", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const exit = new ExitNow("enough");
    channel.close = () => {
      Traced.prototype.close.call(channel);
      if (isAsync) return Promise.reject(exit) as unknown as void;
      throw exit;
    };
    conn.end();
    await world.serve();
    assertStrictEquals(await assertRejects(() => world.served), exit);
    assertEquals([conn.closed, world.map.size, world.logs], [true, 0, []]);
  }
});

Deno.test("11 errors: an overridden close() that takes its time after handleClose is waited for", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.close = () =>
    promise.then(() => Traced.prototype.close.call(channel)) as unknown as void;
  conn.end();
  await world.serve();
  assertEquals([conn.closed, world.map.size], [false, 1]);
  resolve();
  await world.served;
  assert(conn.closed);
});

Deno.test("11 errors: a channel whose disconnect() throws after its handleError failed is closed, and both are logged", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.disconnect = () => {
    throw new Error("third");
  };
  channel.onError = () => {
    throw new Error("second");
  };
  channel.onRead = () => {
    channel.recv();
    throw new Error("first");
  };
  conn.deliver("x");
  await world.serve();
  await world.served;
  assertEquals([conn.closed, channel.connected], [true, false]);
  assertEquals(world.logs.length, 2);
  assertMatch(world.logs[0]!, /Error: second/);
  assertMatch(world.logs[1]!, /Error: third/);
});

Deno.test("11 errors: what an async logInfo rejects with is dropped", async () => {
  for (
    const where of [
      "warning",
      "handleError",
      "handleClose",
      "second handleError",
      "accept",
    ]
  ) {
    const world = new World();
    const { channel, conn } = connected(world, "a");
    const { channel: server, listener } = listening(world, "l");
    let logged = 0;
    channel.logInfo = server.logInfo = () => {
      logged++;
      // Nobody handles this rejection: that would end the process.
      return Promise.reject(new Error("no log")) as unknown as void;
    };
    const fail = () => {
      throw new Error("mine");
    };
    if (where.endsWith("handleError")) channel.onRead = fail;
    if (where === "handleClose") channel.onClose = fail;
    if (where === "second handleError") channel.onError = fail;
    if (where === "accept") {
      listener.fail(Object.assign(new Error("too many"), { code: "EMFILE" }));
    }
    if (where === "warning") {
      channel.handleClose = Dispatcher.prototype.handleClose;
    }
    conn.deliver("x");
    conn.end();
    await world.serve();
    assertEquals([logged, conn.closed], [1, true], where);
    server.close();
    await world.served;
  }
});
