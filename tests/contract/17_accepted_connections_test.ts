import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { ChannelMap, Dispatcher, ExitNow, loop, poll } from "../../mod.ts";
import { FakeConn, settle, World } from "../fakes.ts";
import { connected, listening, Traced } from "./traced.ts";

/** An error of the system that Deno has no class for. */
function coded(code: string): Error {
  return Object.assign(new Error(`failed (${code})`), { code });
}

const TRANSIENT: Record<string, () => Error> = {
  EMFILE: () => coded("EMFILE"),
  ENFILE: () => coded("ENFILE"),
  ECONNABORTED: () =>
    Object.assign(new Deno.errors.ConnectionAborted("aborted"), {
      code: "ECONNABORTED",
    }),
};

// Who owns it.

Deno.test("17 accepted connections: handleAccepted gets the connection and the peer's address, and owns it from then on", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  const given: [Deno.Conn, Deno.Addr][] = [];
  channel.onAccepted = (conn, addr) => void given.push([conn, addr]);
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  await settle();
  assertEquals(given.length, 1);
  assertStrictEquals(given[0]![0], conn);
  assertEquals(given[0]![1], conn.remoteAddr);
  channel.close();
  await world.served;
  assertEquals([conn.calls, conn.reads, listener.closed], [[], 0, true]);
});

Deno.test("17 accepted connections: the default handleAccepted closes it and logs", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.onAccepted = (conn, addr) =>
    Dispatcher.prototype.handleAccepted.call(channel, conn, addr);
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  await settle();
  assertEquals([conn.closed, world.logs], [
    true,
    ["warning: unhandled accepted event"],
  ]);
  await world.stop();
});

Deno.test("17 accepted connections: if handleAccepted throws or rejects before it was adopted, it is closed", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    channel.onAccepted = () => {
      const error = new Error("mine");
      if (isAsync) return Promise.reject(error);
      throw error;
    };
    await world.serve();
    const conn = listener.deliver(new FakeConn());
    await settle();
    assertEquals(conn.calls, ["close"]);
    assertEquals([world.take(), listener.closed], [["l error mine"], false]);
    await world.stop();
  }
});

Deno.test("17 accepted connections: if handleAccepted throws or rejects after it was adopted, it stays open", async () => {
  for (const isAsync of [false, true]) {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    channel.onAccepted = (conn) => {
      new Traced(world, "child", conn);
      const error = new Error("mine");
      if (isAsync) return Promise.reject(error);
      throw error;
    };
    await world.serve();
    const conn = listener.deliver(new FakeConn());
    conn.deliver("x");
    await settle();
    assertFalse(conn.closed);
    assertEquals(world.take().sort(), ["child read x", "l error mine"]);
    await world.stop();
  }
});

Deno.test("17 accepted connections: a handleAccepted that closes it and then throws is one error", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.onAccepted = (conn) => {
    conn.close();
    throw new Error("mine");
  };
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  await settle();
  assertEquals([world.take(), conn.calls], [["l error mine"], ["close"]]);
  await world.stop();
});

Deno.test("17 accepted connections: an ExitNow of handleAccepted closes it, too, and the listener stays open", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.onAccepted = () => {
    throw new ExitNow();
  };
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  await assertRejects(() => world.served, ExitNow);
  assertEquals([conn.closed, listener.closed], [true, false]);
  channel.close();
});

Deno.test("17 accepted connections: while an async handleAccepted is pending the connection is its own", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onAccepted = () => promise;
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  await settle();
  channel.close();
  await settle();
  assertFalse(conn.closed);
  resolve();
  await world.served;
  assertFalse(conn.closed);
});

Deno.test("17 accepted connections: accept() gives each connection once, and null when none waits", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  const accepted: unknown[] = [];
  channel.onAccept = () => {
    accepted.push(channel.accept()?.[0], channel.accept());
  };
  assertStrictEquals(channel.accept(), null);
  await world.serve();
  const conns = [1, 2].map(() => listener.deliver(new FakeConn()));
  await settle();
  assertEquals(accepted.length, 4);
  for (const [i, conn] of conns.entries()) {
    assertStrictEquals(accepted[2 * i], conn);
    assertStrictEquals(accepted[2 * i + 1], null);
  }
  assertEquals(world.map.counters.accepts, 2);
  await world.stop();
});

// Closing the listener.

Deno.test("17 accepted connections: close() of a listener closes what was accepted and not delivered", async () => {
  for (const way of ["close", "abort", "disconnect"] as const) {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    await world.serve();
    channel.wantsRead = false;
    const conn = listener.deliver(new FakeConn());
    await settle();
    assertFalse(conn.closed);
    if (way === "disconnect") channel.disconnect({ kind: "done" });
    else channel[way]();
    await settle();
    assertEquals([conn.calls, listener.closed], [["close"], true], way);
    assertEquals(world.take(), way === "disconnect" ? ["l close done"] : []);
    await world.served;
  }
});

Deno.test("17 accepted connections: close() of a listener closes what arrives afterwards", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  // The accept has ended, but its completion was not seen yet.
  const conn = listener.deliver(new FakeConn());
  channel.close();
  assertFalse(conn.closed);
  await settle();
  assertEquals([conn.calls, world.take()], [["close"], []]);
  await world.served;
});

Deno.test("17 accepted connections: close() of a listener in its handleAccepted keeps that connection", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.onAccepted = (conn) => {
    new Traced(world, "child", conn);
    channel.close();
  };
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  conn.deliver("x");
  const second = listener.deliver(new FakeConn());
  await settle();
  assertEquals([world.take(), conn.closed], [["child read x"], false]);
  assertEquals([second.closed, listener.accepts], [false, 1]);
  await world.stop();
});

Deno.test("17 accepted connections: a listener that was reopened does not get the old one's connections", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  const late = listener.deliver(new FakeConn());
  channel.close();
  channel.createSocket();
  channel.bind({ hostname: "127.0.0.1", port: 0 });
  channel.listen();
  await settle();
  assertEquals([late.closed, world.take()], [true, []]);
  world.system.listeners[1]!.deliver(new FakeConn());
  await settle();
  assertEquals(world.take(), ["l accepted"]);
  await world.stop();
});

// Running out of descriptors.

for (const [code, make] of Object.entries(TRANSIENT)) {
  Deno.test(`17 accepted connections: ${code} is not handleError but one log line per episode, back-off and retry`, async () => {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    await world.serve();
    for (const episode of [1, 2]) {
      const { accepts } = listener;
      listener.fail(make());
      await settle();
      // Backs off: no accept until time passes.
      assertEquals([listener.accepting, listener.accepts], [false, accepts]);
      // 20 failures in a row, as many retries.
      for (let i = 0; i < 20; i++) listener.fail(make());
      await world.clock.advance(60_000);
      assertEquals([listener.accepting, listener.accepts], [
        true,
        accepts + 21,
      ]);
      assertEquals(world.logs.length, episode);
      assert(world.logs.at(-1)!.startsWith("error: "), world.logs.at(-1));
      assert(world.logs.at(-1)!.includes(make().message), world.logs.at(-1));
      assertEquals([world.take(), channel.accepting], [[], true]);
      listener.deliver(new FakeConn());
      await settle();
      assertEquals(world.take(), ["l accepted"]);
    }
    assertEquals(world.map.counters.errors, 0);
    await world.stop();
    assertEquals(world.clock.timers, []);
  });
}

Deno.test("17 accepted connections: a listener that keeps failing retries, less and less often", async () => {
  const world = new World();
  const { listener } = listening(world, "l");
  await world.serve();
  for (let i = 0; i < 10_000; i++) listener.fail(coded("EMFILE"));
  const counts: number[] = [];
  for (let i = 0; i < 6; i++) {
    const { accepts } = listener;
    await world.clock.advance(10_000);
    counts.push(listener.accepts - accepts);
  }
  assert(counts[0]! >= counts[1]!, `${counts}`);
  assert(counts.every((count) => count >= 1 && count <= 100), `${counts}`);
  assertEquals(world.logs.length, 1);
  await world.stop();
});

Deno.test("17 accepted connections: a retry starts no accept while readable() is false", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  listener.fail(coded("EMFILE"));
  await settle();
  channel.wantsRead = false;
  await world.clock.advance(60_000);
  assertEquals(listener.accepts, 1);
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals(listener.accepts, 2);
  await world.stop();
});

Deno.test("17 accepted connections: a wake() does not cut the back-off short", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  listener.fail(coded("EMFILE"));
  for (let i = 0; i < 5; i++) {
    await settle();
    channel.wake();
    world.map.wake();
  }
  assertEquals(listener.accepts, 1);
  await world.clock.advance(1_000);
  assertEquals(listener.accepts, 2);
  await world.stop();
});

Deno.test("17 accepted connections: close() while it backs off takes the retry back", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  listener.fail(coded("EMFILE"));
  await settle();
  channel.close();
  await world.served;
  assertEquals(world.clock.timers, []);
  await world.clock.advance(60_000);
  assertEquals(listener.accepts, 1);
});

Deno.test("17 accepted connections: a logInfo that throws does not stop the retry", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  channel.logInfo = () => {
    throw new Error("no log");
  };
  await world.serve();
  listener.fail(coded("EMFILE"));
  await world.clock.advance(60_000);
  assertEquals(listener.accepts, 2);
  await world.stop();
});

Deno.test("17 accepted connections: an accept that fails otherwise, not by our own close, ends the listener with kind error", async () => {
  const errors = [
    new Deno.errors.BadResource("Listener has been closed"),
    new Deno.errors.Interrupted("operation canceled"),
    new Error("odd"),
  ];
  for (const error of errors) {
    const world = new World();
    const { channel, listener } = listening(world, "l");
    let given: unknown;
    channel.onClose = ({ kind, error }) => {
      channel.note(`close ${kind}`);
      given = error;
    };
    await world.serve();
    listener.fail(error);
    await settle();
    assertEquals(world.take().at(-1), "l close error");
    assertStrictEquals(given, error);
    assert(listener.closed);
    await world.served;
  }
});

Deno.test("17 accepted connections: a connection that was accepted before the listener failed is delivered or closed", async () => {
  const world = new World();
  const { channel, listener } = listening(world, "l");
  await world.serve();
  channel.wantsRead = false;
  const conn = listener.deliver(new FakeConn());
  await settle();
  listener.fail(new Error("odd"));
  channel.wantsRead = true;
  channel.wake();
  await settle();
  assertEquals([world.take(), conn.closed], [
    ["l accepted", "l close error"],
    true,
  ]);
});

// Adopting.

Deno.test("17 accepted connections: an adopted connection must be open", async () => {
  const world = new World();
  const conn = new FakeConn();
  conn.close();
  assertThrows(() => new Traced(world, "a", conn), TypeError);
  assertEquals(world.map.size, 0);
  await loop({ map: world.map });
});

Deno.test("17 accepted connections: an adopted connection must be adopted by no other dispatcher, open or closed", () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  assertThrows(() => new Traced(world, "b", conn), TypeError);
  assertThrows(() => new Traced(new World(), "b", conn), TypeError);
  assertEquals([[...world.map], conn.closed], [[channel], false]);
  channel.close();
  assertThrows(() => new Traced(world, "b", conn), TypeError);
});

Deno.test("17 accepted connections: what is no connection cannot be adopted", () => {
  const world = new World();
  for (const odd of [{}, "conn", 5, { read() {}, write() {} }, true]) {
    assertThrows(
      () => new Traced(world, "a", odd as unknown as Deno.Conn),
      TypeError,
    );
  }
  assertEquals(world.map.size, 0);
});

Deno.test("17 accepted connections: an adopted connection that somebody else closed ends with kind error", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  let given: unknown;
  channel.onClose = ({ kind, error }) => {
    channel.note(`close ${kind}`);
    given = error;
  };
  await world.serve();
  conn.close();
  await settle();
  assertEquals(world.take().at(-1), "a close error");
  assert(given instanceof Deno.errors.Interrupted);
  await world.served;
});

Deno.test("17 accepted connections: a write on a connection that somebody else closed ends it with kind error", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  channel.wantsRead = false;
  let given: unknown;
  channel.onClose = ({ kind, error }) => {
    channel.note(`close ${kind}`);
    given = error;
  };
  await world.serve();
  conn.close();
  channel.say("x");
  await settle();
  assertEquals(world.take(), ["a close error"]);
  assert(given instanceof Deno.errors.BadResource);
  await world.served;
});

Deno.test("17 accepted connections: an adopted connection is connected at once, and handleConnect never comes", async () => {
  const world = new World();
  const { channel, conn } = connected(world, "a");
  assert(channel.connected);
  channel.wantsWrite = true;
  channel.onWrite = () => channel.note("write");
  conn.deliver("x");
  await world.serve();
  assertFalse(world.take().includes("a connect"));
  await world.stop();
});

Deno.test("17 accepted connections: a connection may be adopted into another map than its listener's", async () => {
  const world = new World();
  const other = new World();
  const { channel, listener } = listening(world, "l");
  channel.onAccepted = (conn) => void new Traced(other, "child", conn);
  await world.serve();
  const conn = listener.deliver(new FakeConn());
  conn.deliver("x");
  await settle();
  await poll(0, other.map);
  await poll(0, other.map);
  assertEquals([other.take(), [...world.map]], [["child read x"], [channel]]);
  await world.stop();
});

Deno.test("17 accepted connections: a map of its own, with nothing in it, holds nothing", async () => {
  const map = new ChannelMap();
  assertEquals([map.size, [...map]], [0, []]);
  await poll(0, map);
});
