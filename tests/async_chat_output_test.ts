import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertThrows,
} from "@std/assert";
import {
  AsyncChat,
  type AsyncChatOptions,
  type ChannelMap,
  type CloseWhenDoneOptions,
  loop,
  type ProducerLike,
  SimpleProducer,
} from "../mod.ts";
import type { LinkOptions, SimNet } from "../testing.ts";
import { bytes, FakeConn, settle, text, World } from "./fakes.ts";
import { noise } from "./net.ts";
import {
  close,
  connected,
  converse,
  Gate,
  network,
  readAll,
  TracedChat,
} from "./traced_chat.ts";

/** A channel on a connection that a test has in its hands. */
function onFake(world: World, options: AsyncChatOptions = {}) {
  const conn = new FakeConn();
  return { conn, chat: new TracedChat(conn, { map: world.map, ...options }) };
}

/** A channel that connects to a listener of the network. */
function connecting(net: SimNet, options: AsyncChatOptions = {}) {
  const server = net.listen({ port: 9 });
  const chat = new TracedChat(null, { map: net.map, ...options });
  chat.createSocket();
  chat.connect({ port: 9 });
  return { server, chat };
}

/** Turns that no test here needs: a run that takes more does not end. */
const MAX_TURNS = 20_000;

/** What a peer gets that only reads, up to the end; it closes its own side when the channel has. */
async function receive(
  prepare: (chat: TracedChat, net: SimNet) => void,
  options: AsyncChatOptions & { readonly link?: LinkOptions } = {},
) {
  const { link = {}, ...chatOptions } = options;
  await using net = network({ link });
  const { chat, peer } = await connected(net, chatOptions);
  prepare(chat, net);
  const got = readAll(peer).finally(() => close(peer));
  await net.run({ maxTurns: MAX_TURNS });
  assertEquals(net.leaks(), [], `left behind after ${chat.trace}`);
  return { chat, trace: chat.trace, got: text(await got), net };
}

/** A producer that notes what is done with it. */
class Spy {
  pulls = 0;
  /** How often it was ended before its own end. */
  ended = 0;
  readonly #pieces: number;
  readonly #size: number;

  /** Makes so many pieces of a size. */
  constructor(pieces = Infinity, size = 1_000) {
    this.#pieces = pieces;
    this.#size = size;
  }

  #piece(): Uint8Array<ArrayBuffer> | null {
    if (this.pulls++ >= this.#pieces) return null;
    return new Uint8Array(this.#size).fill(120);
  }

  /** As each kind of producer that can be ended. */
  kinds(): Record<string, ProducerLike> {
    const result = () => {
      const value = this.#piece();
      return value === null
        ? { done: true as const, value }
        : { done: false as const, value };
    };
    const end = () => {
      this.ended++;
      return { done: true as const, value: null };
    };
    return {
      "an iterable": {
        [Symbol.iterator]: () => ({ next: result, return: end }),
      },
      "an async iterable": {
        [Symbol.asyncIterator]: () => ({
          next: () => Promise.resolve(result()),
          return: () => Promise.resolve(end()),
        }),
      },
      "a stream": new ReadableStream<Uint8Array>({
        pull: (controller) => {
          const piece = this.#piece();
          if (piece === null) controller.close();
          else controller.enqueue(piece);
        },
        cancel: () => void this.ended++,
      }, { highWaterMark: 0 }),
    };
  }
}

const KINDS = Object.keys(new Spy().kinds());

// push().

Deno.test("push() sends bytes and text in the order of the calls", async () => {
  const { got, trace } = await receive((chat) => {
    chat.push("naïve ");
    chat.push(bytes("and "));
    chat.push("");
    chat.push(new Uint8Array(0));
    chat.push(new Uint8Array(bytes("(long)").buffer, 1, 4));
    chat.push(" short");
    chat.closeWhenDone();
  });
  assertEquals(got, "naïve and long short");
  assertEquals(trace, ["close done"]);
});

Deno.test("push() keeps the order whatever the size of the pieces and of the send buffer", async () => {
  for (const sendBufferSize of [1, 7, 100, 262_144]) {
    const pieces = Array.from({ length: 50 }, (_, i) => `${i},`.repeat(i % 9));
    const { got } = await receive((chat) => {
      for (const piece of pieces) chat.push(piece);
      chat.closeWhenDone();
    }, { sendBufferSize, link: { writeSize: [1, 50] } });
    assertEquals(got, pieces.join(""));
  }
});

Deno.test("push() several times in one handler is one write", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\n");
  chat.onFrame = (frame) => {
    for (let i = 0; i < 10; i++) chat.push(`${frame}${i} `);
  };
  conn.deliver("a\nb\n");
  await world.serve();
  assertEquals(conn.calls, ["write 60"]);
  assertEquals(conn.sent.slice(0, 9), "a0 a1 a2 ");
  chat.close();
  conn.end();
  await world.stop();
});

Deno.test("push() several times outside of a handler is one write, loop or no loop", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  for (let i = 0; i < 10; i++) chat.push(`${i}`);
  assertEquals(conn.calls, []);
  await settle();
  assertEquals([conn.calls, conn.sent], [["write 10"], "0123456789"]);
  chat.abort();
});

Deno.test("push() of no bytes does nothing", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.push("");
  chat.push(new Uint8Array(0));
  assertEquals(chat.queuedBytes, 0);
  await world.serve();
  assertEquals(conn.calls, []);
  chat.close();
  await world.stop();
});

Deno.test("push() refuses what is neither bytes nor text, and queues nothing", async () => {
  const world = new World();
  const { chat } = onFake(world);
  for (const wrong of [5, null, undefined, [1], {}, new ArrayBuffer(2)]) {
    assertThrows(
      () => chat.push(wrong as unknown as string),
      TypeError,
      "Cannot push: data must be a Uint8Array or a string",
    );
  }
  assertEquals(chat.queuedBytes, 0);
  await settle();
  chat.abort();
});

Deno.test("push() and pushWithProducer() before the connection is there are sent in order", async () => {
  await using net = network({ link: { connectLatency: 50 } });
  const { server, chat } = connecting(net);
  chat.push("one ");
  chat.pushWithProducer(["two ", "three "]);
  chat.push("four ");
  chat.onConnect = () => chat.push("five ");
  const got = (async () => {
    using conn = await server.accept();
    server.close();
    await net.sleep(10);
    chat.push("six");
    chat.closeWhenDone();
    return text(await readAll(conn));
  })();
  await net.run();
  assertEquals(await got, "one two three four five six");
  assertEquals(chat.trace, ["connect", "close done"]);
  assertEquals(net.leaks(), []);
});

Deno.test("push() in handleConnect() leaves in the same pass", async () => {
  const world = new World();
  const chat = new TracedChat(null, { map: world.map });
  chat.createSocket();
  chat.connect({ port: 80 });
  chat.push("a");
  chat.onConnect = () => chat.push("b");
  await world.serve();
  const conn = world.system.connects[0]!.succeed();
  await settle();
  assertEquals(conn.sent, "ab");
  chat.abort();
  await world.stop();
});

Deno.test("push() before connect() waits for it", async () => {
  await using net = network();
  const server = net.listen({ port: 9 });
  const chat = new TracedChat(null, { map: net.map });
  chat.createSocket();
  chat.push("early");
  assertEquals(chat.queuedBytes, 5);
  chat.connect({ port: 9 });
  const got = (async () => {
    using conn = await server.accept();
    server.close();
    chat.closeWhenDone();
    return text(await readAll(conn));
  })();
  await net.run();
  assertEquals(await got, "early");
});

Deno.test("push() and pushWithProducer() refuse where nothing can be sent", async () => {
  await using net = network();
  const none = new AsyncChat(null, { map: net.map });
  const listener = new AsyncChat(null, { map: net.map });
  listener.createSocket();
  listener.bind({ port: 10 });
  listener.listen();
  const { chat: shut, peer: peer1 } = await connected(net);
  shut.shutdown("write");
  const { chat: done, peer: peer2 } = await connected(net);
  done.push("x");
  done.closeWhenDone();
  for (const chat of [none, listener, shut, done]) {
    assertThrows(() => chat.push("x"), TypeError, "Cannot ");
    assertThrows(() => chat.pushWithProducer(["x"]), TypeError, "Cannot ");
    assertThrows(() => chat.push(""), TypeError, "Cannot ");
  }
  assertThrows(() => done.push("x"), TypeError, "closeWhenDone() was called");
  peer1.close();
  peer2.close();
});

Deno.test("push() and pushWithProducer() do nothing after close(), abort() and the end", async () => {
  for (const how of ["close", "abort", "closeWhenDone", "reset"] as const) {
    const spy = new Spy();
    const late = (chat: TracedChat) => {
      chat.push("late");
      for (const producer of Object.values(spy.kinds())) {
        chat.pushWithProducer(producer);
      }
      assertEquals(chat.queuedBytes, 0);
    };
    await using net = network();
    const { chat, peer } = await connected(net);
    chat.onClose = () => late(chat);
    const got = readAll(peer).finally(() => close(peer));
    if (how === "reset") net.sleep(5).then(() => peer.reset());
    else net.sleep(5).then(() => chat[how]());
    await net.run();
    late(chat);
    await net.run();
    assertEquals(text(await got), "");
    // They are ended all the same: somebody may wait for that.
    const rounds = chat.trace.length + 1;
    assertEquals([spy.pulls, spy.ended], [0, rounds * KINDS.length], how);
    assertEquals(net.leaks(), []);
  }
});

Deno.test("push() after the peer's end of file is still sent, until everything queued is", async () => {
  const { answer } = await converse("a\n", (chat, net) => {
    chat.setTerminator("\n");
    chat.onFrame = () => {
      chat.push(new Uint8Array(100_000).fill(120));
      net.sleep(20).then(() => chat.push("more"));
    };
  }, { link: { bandwidth: 1_000_000 } });
  assertEquals([answer.length, answer.slice(-5)], [100_004, "xmore"]);
});

// Producers.

Deno.test("pushWithProducer() takes every kind of producer, in its turn", async () => {
  function* generate() {
    yield bytes("one,");
    yield "";
    yield "two";
  }
  async function* generateLater() {
    yield bytes("one,");
    await Promise.resolve();
    yield "two";
  }
  const byMore = (later: boolean) => {
    const left = ["one,", bytes("two"), ""];
    return {
      more: () => later ? Promise.resolve(left.shift()!) : left.shift()!,
    };
  };
  const kinds: Record<string, () => ProducerLike> = {
    "more()": () => byMore(false) as ProducerLike,
    "an async more()": () => byMore(true) as ProducerLike,
    "a generator": generate,
    "an async generator": generateLater,
    "an array": () => ["one,", bytes("two")],
    "a stream": () => ReadableStream.from([bytes("one,"), bytes("two")]),
    "bytes": () => bytes("one,two"),
    "text": () => "one,two",
    "a SimpleProducer": () => new SimpleProducer(bytes("one,two"), 3),
  };
  for (const sendBufferSize of [1, 5, 262_144]) {
    const { got } = await receive((chat) => {
      chat.push("begin ");
      for (const producer of Object.values(kinds)) {
        chat.pushWithProducer(producer());
        chat.push(" ");
        chat.pushWithProducer(producer());
        chat.pushWithProducer([]);
      }
      chat.closeWhenDone();
    }, { sendBufferSize });
    const each = "one,two one,two";
    assertEquals(got, `begin ${each.repeat(Object.keys(kinds).length)}`);
  }
});

Deno.test("pushWithProducer() from outside wakes a loop that sleeps", async () => {
  for (const queued of ["", "x".repeat(20)]) {
    const world = new World();
    const { chat, conn } = onFake(world, { sendBufferSize: 10 });
    await world.serve();
    chat.push(queued);
    chat.pushWithProducer(["made"]);
    await settle();
    assertEquals(conn.sent, `${queued}made`);
    chat.abort();
    await world.stop();
  }
});

Deno.test("pushWithProducer() refuses what is no producer, and queues nothing", async () => {
  const world = new World();
  const { chat } = onFake(world);
  for (const wrong of [5, null, undefined, {}, () => "x"]) {
    assertThrows(
      () => chat.pushWithProducer(wrong as unknown as ProducerLike),
      TypeError,
      "Cannot push with producer",
    );
  }
  await world.serve();
  assertEquals(chat.trace, []);
  chat.close();
  await world.stop();
});

Deno.test("pushWithProducer() pulls only when there is room, after everything before has left", async () => {
  for (const kind of KINDS) {
    const world = new World();
    const { chat, conn } = onFake(world, { sendBufferSize: 1_000 });
    conn.onWrite = "wait";
    const spy = new Spy(10, 1_000);
    chat.push(new Uint8Array(1_000));
    chat.push(new Uint8Array(1_000));
    chat.pushWithProducer(spy.kinds()[kind]!);
    await world.serve();
    assertEquals(spy.pulls, 0, kind);
    // What was pushed second.
    conn.release();
    await settle();
    assertEquals(spy.pulls, 0, kind);
    for (let piece = 1; piece <= 5; piece++) {
      conn.release();
      await settle();
      assertEquals(spy.pulls, piece, kind);
    }
    assertLess(world.map.counters.passes, 100);
    chat.abort();
    await world.stop();
    assertEquals(spy.ended, 1);
  }
});

Deno.test("pushWithProducer() asks an async producer for one piece at a time", async () => {
  let asked = 0;
  let most = 0;
  const { got } = await receive((chat, net) => {
    let left = 10;
    chat.pushWithProducer({
      async more() {
        most = Math.max(most, ++asked);
        await net.sleep(1);
        asked--;
        return left-- > 0 ? "x" : "";
      },
    });
    chat.push("end");
    chat.closeWhenDone();
    // Reasons to look again.
    for (let i = 0; i < 20; i++) net.sleep(i / 2).then(() => chat.wake());
  });
  assertEquals([got, most], ["xxxxxxxxxxend", 1]);
});

Deno.test("A producer that never ends is bounded by a peer that does not read, and does not spin", async () => {
  for (const kind of KINDS) {
    await using net = network({ link: { window: 10_000 } });
    const { chat, peer } = await connected(net, { sendBufferSize: 20_000 });
    const spy = new Spy();
    chat.pushWithProducer(spy.kinds()[kind]!);
    await net.run({ until: 60_000 });
    assertGreater(spy.pulls, 9);
    assertLess(spy.pulls, 40);
    assertLess(chat.queuedBytes, 40_000);
    assertLess(net.map.counters.passes, 100);
    const { passes } = net.map.counters;
    await net.run({ until: 3_600_000 });
    assertLess(net.map.counters.passes, passes + 10);
    peer.reset();
    await net.run();
    assertEquals(spy.ended, 1, kind);
    assertEquals(chat.trace.at(-1), "close reset");
    assertEquals(net.leaks(), []);
  }
});

Deno.test("A producer is ended once by whatever drops it, begun or not", async () => {
  const ends: Record<string, (chat: TracedChat, peer: () => void) => void> = {
    "close()": (chat) => {
      chat.close();
      chat.abort();
      chat.discardBuffers();
    },
    "abort()": (chat) => {
      chat.abort();
      chat.close();
    },
    "discardBuffers()": (chat) => {
      chat.discardBuffers();
      chat.discardBuffers();
      chat.close();
    },
    "disconnect()": (chat) => chat.disconnect({ kind: "error" }),
    "the peer's reset": (_, reset) => reset(),
    "a deadline": (chat) => chat.closeWhenDone({ deadline: 1 }),
  };
  for (const [name, end] of Object.entries(ends)) {
    for (const kind of KINDS) {
      await using net = network({ link: { bandwidth: 100_000 } });
      const { chat, peer } = await connected(net);
      const begun = new Spy();
      const waiting = new Spy();
      chat.pushWithProducer(begun.kinds()[kind]!);
      chat.pushWithProducer(waiting.kinds()[kind]!);
      net.sleep(10).then(() => end(chat, () => peer.reset()));
      await net.run();
      assertGreater(begun.pulls, 0);
      assertEquals([begun.ended, waiting.ended], [1, 1], `${name}, ${kind}`);
      assertEquals(waiting.pulls, 0);
      close(peer);
      await net.run();
      assertEquals(net.leaks(), []);
    }
  }
});

Deno.test("A producer that came to its end is not ended", async () => {
  for (const kind of KINDS) {
    const spy = new Spy(3);
    const { got } = await receive((chat) => {
      chat.pushWithProducer(spy.kinds()[kind]!);
      chat.closeWhenDone();
    });
    assertEquals([got.length, spy.pulls, spy.ended], [3_000, 4, 0], kind);
  }
});

Deno.test("A generator's finally runs when the channel is closed", async () => {
  for (const how of ["close", "abort", "discardBuffers"] as const) {
    const ended: string[] = [];
    const generate = function* () {
      try {
        for (;;) yield new Uint8Array(1_000);
      } finally {
        ended.push("sync");
      }
    };
    const generateLater = async function* (net: SimNet) {
      try {
        for (;;) {
          await net.sleep(10);
          yield "x";
        }
      } finally {
        ended.push("async");
      }
    };
    await using net = network({ link: { bandwidth: 100_000 } });
    const { chat, peer } = await connected(net);
    const other = await connected(net);
    chat.pushWithProducer(generate());
    other.chat.pushWithProducer(generateLater(net));
    for (const { chat: each } of [{ chat }, other]) {
      net.sleep(35).then(() => each[how]());
    }
    net.sleep(50).then(() => {
      close(peer);
      close(other.peer);
    });
    await net.run();
    assertEquals(ended.sort(), ["async", "sync"]);
    assertEquals(net.leaks(), []);
  }
});

Deno.test("A producer that fails is told to handleError() once, and what comes next is sent", async () => {
  const fail = () => {
    throw new Error("no more");
  };
  const kinds: Record<string, () => ProducerLike> = {
    "more() that throws": () => ({ more: fail }),
    "more() that rejects": () => ({
      more: () => Promise.reject(new Error("no more")),
    }),
    "a generator": function* () {
      yield "piece ";
      fail();
    },
    "an async generator": async function* () {
      yield "piece ";
      await Promise.resolve();
      fail();
    },
    "a stream": () => {
      let pulls = 0;
      return new ReadableStream({
        pull(controller) {
          if (pulls++ > 0) fail();
          controller.enqueue(bytes("piece "));
        },
      }, { highWaterMark: 0 });
    },
  };
  for (const [name, producer] of Object.entries(kinds)) {
    const { got, trace } = await receive((chat) => {
      chat.onError = () => {};
      chat.push("first ");
      chat.pushWithProducer(producer());
      chat.pushWithProducer(producer());
      chat.push("next");
      chat.closeWhenDone();
    });
    assertEquals(trace, ["error no more", "error no more", "close done"], name);
    assertEquals(got.replaceAll("piece ", ""), "first next", name);
  }
});

Deno.test("A producer that fails ends the connection if handleError() does", async () => {
  for (const later of [false, true]) {
    const waiting = new Spy();
    const { trace, chat } = await receive((chat) => {
      chat.pushWithProducer({
        more() {
          const error = new Error("no more");
          if (later) return Promise.reject(error);
          throw error;
        },
      });
      chat.pushWithProducer(waiting.kinds()["an iterable"]!);
    });
    assertEquals(trace, ["error no more", "close error"]);
    assertEquals((chat.reasons[0]!.error as Error).message, "no more");
    assertEquals([waiting.pulls, waiting.ended], [0, 1]);
  }
});

Deno.test("What a producer makes that is neither bytes nor text is an error, and it is ended", async () => {
  for (const garbage of [5, null, undefined, {}]) {
    const ended: string[] = [];
    const piece = garbage as unknown as string;
    const kinds: Record<string, ProducerLike> = {
      "more()": { more: () => piece },
      "an async more()": { more: () => Promise.resolve(piece) },
      "a generator": (function* () {
        try {
          yield piece;
        } finally {
          ended.push("a generator");
        }
      })(),
      "an async generator": (async function* () {
        try {
          await Promise.resolve();
          yield piece;
        } finally {
          ended.push("an async generator");
        }
      })(),
      "a stream": new ReadableStream({
        start: (controller) =>
          controller.enqueue(piece as unknown as Uint8Array),
        cancel: () => void ended.push("a stream"),
      }),
    };
    for (const [name, producer] of Object.entries(kinds)) {
      const { got, trace, chat } = await receive((chat) => {
        chat.onError = (error) => assert(error instanceof TypeError);
        chat.pushWithProducer(producer);
        chat.push("next");
        chat.closeWhenDone();
      });
      assertEquals([got, trace.length], ["next", 2], name);
      assertEquals(trace[1], "close done");
      assertEquals(chat.reasons[0], { kind: "done", bytesUnsent: 0 });
      const able = !name.includes("more()");
      assertEquals(ended.splice(0), able ? [name] : [], name);
    }
  }
});

Deno.test("A producer's end that fails is told to handleError() once", async () => {
  for (const later of [false, true]) {
    const { trace } = await receive((chat, net) => {
      chat.onError = () => {};
      chat.pushWithProducer({
        [Symbol.iterator]: () => ({
          next: () => ({ done: false, value: "x" }),
          return(): IteratorResult<string> {
            const error = new Error("cannot end");
            if (later) {
              return Promise.reject(error) as unknown as IteratorResult<string>;
            }
            throw error;
          },
        }),
      });
      net.sleep(5).then(() => chat.close());
    }, { link: { bandwidth: 10_000 }, sendBufferSize: 1_000 });
    assertEquals(trace, ["error cannot end"]);
  }
});

Deno.test("A piece that comes too late is dropped, and an error that comes too late is told", async () => {
  for (const how of ["close", "abort", "discardBuffers"] as const) {
    for (const fails of [false, true]) {
      const { got, trace } = await receive((chat, net) => {
        chat.onError = () => {};
        chat.pushWithProducer({
          async more() {
            await net.sleep(10);
            if (fails) throw new Error("too late");
            return "too late";
          },
        });
        net.sleep(5).then(() => {
          chat[how]();
          if (how === "discardBuffers") chat.push("new");
        });
        net.sleep(20).then(() => chat.close());
      });
      assertEquals(got, how === "discardBuffers" ? "new" : "");
      assertEquals(trace, fails ? ["error too late"] : []);
    }
  }
});

Deno.test("A piece that comes too late does not have the next producer asked twice", async () => {
  let asked = 0;
  const { got } = await receive((chat, net) => {
    chat.pushWithProducer({ more: () => net.sleep(10).then(() => "late") });
    net.sleep(5).then(() => {
      chat.discardBuffers();
      let left = 1;
      chat.pushWithProducer({
        async more() {
          asked++;
          await net.sleep(20);
          return left-- > 0 ? "new" : "";
        },
      });
    });
    net.sleep(12).then(() =>
      assertEquals([asked, chat.writable()], [1, false])
    );
    net.sleep(15).then(() => chat.closeWhenDone());
  });
  assertEquals([got, asked], ["new", 2]);
});

Deno.test("A piece that never comes does not keep a closed channel's loop", async () => {
  const never: ProducerLike[] = [
    { more: () => new Promise<string>(() => {}) },
    (async function* () {
      await new Promise(() => {});
      yield "x";
    })(),
    new ReadableStream({ pull: () => new Promise(() => {}) }),
  ];
  for (const producer of never) {
    const world = new World();
    const { chat } = onFake(world);
    chat.pushWithProducer(producer);
    await world.serve();
    chat.close();
    let ended = false;
    world.served.then(() => ended = true);
    await settle();
    assert(ended);
  }
});

Deno.test("A piece that never comes does not hold reading, nor the end of the connection", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  const gate = new Gate<string>();
  chat.setTerminator("\n");
  chat.pushWithProducer({ more: () => gate.pass() });
  const done = (async () => {
    await net.sleep(1);
    await peer.write(bytes("a\n"));
    await net.sleep(1);
    assertEquals(chat.take(), ["frame a"]);
    peer.reset();
    await net.sleep(1);
    assertEquals(chat.take(), ["close reset"]);
    gate.open("too late");
  })();
  await net.run();
  await done;
  assertEquals(chat.take(), []);
});

Deno.test("more() may push: what it pushes comes after everything queued", async () => {
  const { got } = await receive((chat, net) => {
    let left = 2;
    chat.pushWithProducer({
      more() {
        chat.push(`pushed ${left} `);
        return left-- > 0 ? "made " : "";
      },
    });
    chat.push("next ");
    net.sleep(10).then(() => chat.closeWhenDone());
  });
  assertEquals(got, "made made next pushed 2 pushed 1 pushed 0 ");
});

Deno.test("more() may close: nothing of it is sent, and no more asked for", async () => {
  for (const how of ["close", "abort", "discardBuffers"] as const) {
    for (const piece of ["piece", ""]) {
      let asked = 0;
      const { got, chat } = await receive((chat, net) => {
        chat.pushWithProducer({
          more() {
            asked++;
            chat[how]();
            return piece;
          },
        });
        chat.push("queued");
        net.sleep(10).then(() => chat.close());
      });
      assertEquals(
        [got, asked, chat.queuedBytes],
        ["", 1, 0],
        `${how} ${piece}`,
      );
    }
  }
});

Deno.test("more() may discard and push anew: what is new is sent, and only that", async () => {
  for (const outcome of ["piece", "", "error"]) {
    const { got } = await receive((chat, net) => {
      chat.onError = () => {};
      chat.pushWithProducer({
        more() {
          chat.discardBuffers();
          // Two, so that the first has to wait if nothing may be sent directly.
          chat.pushWithProducer(["new "]);
          chat.push("newer");
          if (outcome === "error") throw new Error("no more");
          return outcome;
        },
      });
      chat.push("old");
      net.sleep(10).then(() => chat.closeWhenDone());
    });
    assertEquals(got, "new newer", outcome);
  }
});

Deno.test("more() may open the dispatcher again: its piece belongs to the old connection", async () => {
  await using net = network();
  const server = net.listen({ port: 9 });
  const { chat, peer } = await connected(net);
  chat.pushWithProducer({
    more() {
      chat.close();
      chat.createSocket();
      chat.connect({ port: 9 });
      return "old";
    },
  });
  chat.onConnect = () => {
    chat.push("new");
    chat.closeWhenDone();
  };
  const got = (async () => {
    using conn = await server.accept();
    server.close();
    return text(await readAll(conn));
  })();
  await net.run();
  assertEquals(await got, "new");
  close(peer);
});

// discardBuffers().

Deno.test("discardBuffers() drops what is queued, not what is in the send buffer", async () => {
  const world = new World();
  const { chat, conn } = onFake(world, { sendBufferSize: 10 });
  conn.onWrite = "wait";
  chat.push("0123456789");
  chat.push("queued");
  chat.pushWithProducer(["made"]);
  await world.serve();
  assertEquals(chat.queuedBytes, 16);
  chat.discardBuffers();
  assertEquals(chat.queuedBytes, 10);
  chat.push("new");
  conn.release();
  await settle();
  conn.release();
  await settle();
  assertEquals(conn.sent, "0123456789new");
  chat.abort();
  await world.stop();
});

Deno.test("discardBuffers() takes closeWhenDone() back, whose marker is in the queue, and its deadline", async () => {
  await using net = network({ link: { bandwidth: 10_000 } });
  const { chat, peer } = await connected(net);
  chat.push(new Uint8Array(300_000));
  chat.closeWhenDone({ deadline: 50 });
  net.sleep(10).then(() => {
    chat.discardBuffers();
    chat.push("still open");
  });
  const got = readAll(peer);
  await net.run({ until: 3_600_000 });
  assertEquals([chat.connected, chat.trace], [true, ["drained"]]);
  chat.closeWhenDone();
  await net.run();
  assertEquals(text(await got).slice(-10), "still open");
  assertEquals(chat.trace, ["drained", "close done"]);
  close(peer);
});

Deno.test("discardBuffers() after the peer's end of file ends the connection", async () => {
  const { trace } = await converse("a\n", (chat, net) => {
    chat.setTerminator("\n");
    chat.onFrame = () => {
      chat.push(new Uint8Array(1_000_000));
      net.sleep(5).then(() => chat.discardBuffers());
    };
  }, { link: { bandwidth: 1_000_000 }, highWaterMark: Infinity });
  assertEquals(trace, ["frame a", "close eof"]);
});

Deno.test("createSocket() begins with an empty queue, and without what was to come", async () => {
  await using net = network();
  const server = net.listen({ port: 9 });
  const chat = new TracedChat(null, { map: net.map, highWaterMark: 10 });
  const spy = new Spy();
  chat.createSocket();
  chat.connect({ port: 1 });
  chat.push("for the old one, which nobody answers");
  for (const producer of Object.values(spy.kinds())) {
    chat.pushWithProducer(producer);
  }
  chat.closeWhenDone({ deadline: 1_000 });
  chat.onError = () => {
    chat.close();
    chat.createSocket();
    assertEquals(chat.queuedBytes, 0);
    chat.connect({ port: 9 });
    chat.push("new");
  };
  const got = (async () => {
    using conn = await server.accept();
    server.close();
    await net.sleep(5_000);
    chat.closeWhenDone();
    return text(await readAll(conn));
  })();
  await net.run();
  assertEquals(await got, "new");
  assertEquals(chat.trace.slice(1), ["connect", "close done"]);
  assertEquals([spy.pulls, spy.ended], [0, KINDS.length]);
  assertEquals(net.leaks(), []);
});

Deno.test("createSocket() takes back shutdown() and closeWhenDone(), which were for the old connection", async () => {
  for (const how of ["shutdown", "closeWhenDone"]) {
    await using net = network({ link: { window: 10 } });
    const server = net.listen({ port: 9 });
    const { chat, peer } = await connected(net, { sendBufferSize: 10 });
    chat.push("x".repeat(1_000));
    if (how === "shutdown") chat.shutdown("write");
    else chat.closeWhenDone();
    chat.onClose = ({ kind }) => {
      if (kind !== "reset") return;
      chat.close();
      chat.createSocket();
      chat.connect({ port: 9 });
    };
    chat.onConnect = () => chat.push("new");
    const got = (async () => {
      await net.sleep(10);
      peer.reset();
      using conn = await server.accept();
      server.close();
      await net.sleep(10);
      assertEquals(chat.connected, true);
      chat.closeWhenDone();
      return text(await readAll(conn));
    })();
    await net.run();
    assertEquals(await got, "new");
    assertEquals(chat.trace, ["close reset", "connect", "close done"]);
  }
});

// closeWhenDone().

Deno.test("closeWhenDone() ends after everything queued before it, producers included", async () => {
  const data = noise(700_000);
  await using net = network({ link: { bandwidth: 5_000_000, window: 20_000 } });
  const { chat, peer } = await connected(net, { highWaterMark: Infinity });
  chat.push(data.subarray(0, 300_000));
  chat.pushWithProducer(new SimpleProducer(data.subarray(300_000, 600_000)));
  chat.pushWithProducer((async function* () {
    await net.sleep(100);
    yield data.subarray(600_000, 650_000);
    await net.sleep(100);
    yield data.subarray(650_000);
  })());
  chat.closeWhenDone();
  const got = await Promise.all([readAll(peer), net.run({ until: 60_000 })]);
  assertEquals(got[0], data);
  assertEquals(chat.reasons, [{ kind: "done", bytesUnsent: 0 }]);
  peer.close();
  await net.run();
  assertEquals(net.leaks(), []);
});

Deno.test("closeWhenDone() with nothing queued ends in the next pass, without a write event", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.closeWhenDone();
  assertEquals(chat.trace, []);
  await loop({ map: world.map });
  assertEquals(chat.trace, ["close done"]);
  assertEquals(chat.reasons, [{ kind: "done", bytesUnsent: 0 }]);
  assertEquals(world.map.counters.writes, 0);
  assertEquals(conn.calls, ["close"]);
});

Deno.test("closeWhenDone() after a push leaves as many writes as without", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\n");
  chat.onFrame = () => {
    chat.push("221 ");
    chat.push("bye\r\n");
    chat.closeWhenDone();
  };
  conn.deliver("QUIT\n");
  await world.serve();
  assertEquals(chat.trace, ["frame QUIT", "close done"]);
  conn.end();
  await world.served;
  assertEquals(conn.calls, ["write 9", "closeWrite", "close"]);
});

Deno.test("closeWhenDone() before the connection is there sends what is queued first", async () => {
  for (const queued of ["queued", ""]) {
    await using net = network({ link: { connectLatency: 100 } });
    const { server, chat } = connecting(net);
    chat.push(queued);
    chat.closeWhenDone();
    const got = (async () => {
      using conn = await server.accept();
      server.close();
      return text(await readAll(conn));
    })();
    await net.run();
    assertEquals(await got, queued);
    assertEquals(chat.trace, ["connect", "close done"]);
    assertEquals(net.leaks(), []);
  }
});

Deno.test("closeWhenDone() before a connection that fails: the failure is told, and no deadline is left", async () => {
  await using net = network();
  const chat = new TracedChat(null, { map: net.map });
  chat.createSocket();
  chat.connect({ port: 1 });
  chat.push("lost");
  chat.closeWhenDone({ deadline: 60_000 });
  await net.run();
  assertEquals(chat.trace.length, 2);
  assertEquals(chat.reasons[0]!.kind, "error");
  assertEquals(chat.reasons[0]!.bytesUnsent, 4);
  assertLess(net.now, 60_000);
  assertEquals(net.leaks(), []);
});

Deno.test("closeWhenDone() delivers the frames that arrive until everything is sent", async () => {
  await using net = network({ link: { bandwidth: 100_000 } });
  const { chat, peer } = await connected(net, { highWaterMark: Infinity });
  chat.setTerminator("\n");
  chat.push(new Uint8Array(100_000));
  chat.closeWhenDone();
  const done = (async () => {
    await net.sleep(100);
    await peer.write(bytes("a\nb"));
    await net.sleep(100);
    await peer.write(bytes("c\n"));
    await peer.closeWrite();
    assertEquals((await readAll(peer)).length, 100_000);
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["frame a", "frame bc", "close done"]);
});

Deno.test("closeWhenDone() twice is once", async () => {
  const { got, trace } = await receive((chat) => {
    chat.push("x".repeat(1_000));
    chat.closeWhenDone();
    chat.closeWhenDone();
  });
  assertEquals([got.length, trace], [1_000, ["close done"]]);
});

Deno.test("closeWhenDone() within its deadline leaves no timer", async () => {
  const { trace, net } = await receive((chat) => {
    chat.push("x".repeat(1_000));
    chat.closeWhenDone({ deadline: 60_000 });
  });
  assertEquals(trace, ["close done"]);
  assertLess(net.now, 60_000);
});

Deno.test("closeWhenDone() at its deadline drops the rest and tells how much that is", async () => {
  await using net = network({ link: { window: 1_000 } });
  const { chat, peer } = await connected(net, { sendBufferSize: 10_000 });
  const spy = new Spy();
  chat.push(new Uint8Array(30_000));
  chat.pushWithProducer(spy.kinds()["a stream"]!);
  chat.push(new Uint8Array(5_000));
  chat.closeWhenDone({ deadline: 250 });
  let at = -1;
  chat.onClose = () => {
    at = net.now;
  };
  // Nobody reads.
  await net.run();
  assertEquals(at, 250);
  assertEquals(chat.reasons, [
    { kind: "timeout", bytesUnsent: 35_000 - chat.bytesWritten },
  ]);
  assertGreater(chat.bytesWritten, 0);
  assertEquals([chat.queuedBytes, spy.ended], [0, 1]);
  close(peer);
  await net.run();
  assertEquals(net.leaks(), []);
});

Deno.test("closeWhenDone() at its deadline ends a connection that is not there yet", async () => {
  await using net = network({
    link: { faults: [{ on: "connect", what: "unanswered" }] },
  });
  const { server, chat } = connecting(net);
  chat.push("queued");
  chat.closeWhenDone({ deadline: 250 });
  let at = -1;
  chat.onClose = () => {
    at = net.now;
  };
  await net.run();
  assertEquals(chat.reasons, [{ kind: "timeout", bytesUnsent: 6 }]);
  assertEquals(at, 250);
  server.close();
  assertEquals(net.leaks(), []);
});

Deno.test("closeWhenDone() with another deadline: the last one counts", async () => {
  for (
    const [first, second, wanted] of [
      [100, 300, 300],
      [300, 100, 100],
      [undefined, 100, 100],
    ] as const
  ) {
    await using net = network({ link: { window: 1_000 } });
    const { chat, peer } = await connected(net);
    chat.push(new Uint8Array(30_000));
    chat.closeWhenDone(first === undefined ? {} : { deadline: first });
    chat.closeWhenDone({ deadline: second });
    let at = -1;
    chat.onClose = () => {
      at = net.now;
    };
    await net.run();
    assertEquals([at, chat.trace], [wanted, ["close timeout"]]);
    close(peer);
  }
});

Deno.test("closeWhenDone() with a deadline that is over at once still says done if nothing waits", async () => {
  const { trace } = await receive((chat) =>
    chat.closeWhenDone({ deadline: 0 })
  );
  assertEquals(trace, ["close done"]);
});

Deno.test("closeWhenDone() while the peer resets, or we close: no deadline is left", async () => {
  for (const how of ["reset", "close", "abort"] as const) {
    await using net = network({ link: { window: 1_000 } });
    const { chat, peer } = await connected(net, { lingerTimeout: 5 });
    chat.push(new Uint8Array(300_000));
    chat.closeWhenDone({ deadline: 60_000 });
    net.sleep(10).then(() => how === "reset" ? peer.reset() : chat[how]());
    await net.run();
    assertLess(net.now, 60_000);
    if (how === "reset") {
      assertEquals(chat.reasons.map(({ kind }) => kind), ["reset"]);
      const { bytesUnsent } = chat.reasons[0]!;
      assertEquals(bytesUnsent, 300_000 - chat.bytesWritten);
    } else assertEquals(chat.trace, []);
    close(peer);
    await net.run();
    assertEquals(net.leaks(), []);
  }
});

Deno.test("closeWhenDone() moves with its deadline to another map", async () => {
  const [one, two] = [new World(), new World()];
  const { chat, conn } = onFake(one);
  conn.onWrite = "wait";
  chat.push("x");
  chat.closeWhenDone({ deadline: 60_000 });
  chat.addChannel(two.map);
  await two.serve();
  conn.release();
  await settle();
  assertEquals(chat.trace, ["close done"]);
  conn.end();
  await two.served;
  assertEquals([one.clock.timers, two.clock.timers], [[], []]);
});

Deno.test("closeWhenDone() refuses a deadline that is none, and where there is nothing to close", async () => {
  const world = new World();
  const { chat } = onFake(world);
  for (const deadline of [-1, NaN]) {
    assertThrows(
      () => chat.closeWhenDone({ deadline }),
      RangeError,
      `the deadline must be 0 or more milliseconds, got ${deadline}`,
    );
  }
  chat.push("it was not called");
  const none = new AsyncChat(null, { map: world.map });
  assertThrows(() => none.closeWhenDone(), TypeError, "Cannot ");
  none.createSocket();
  none.bind({ port: 9 });
  none.listen();
  assertThrows(() => none.closeWhenDone(), TypeError, "Cannot ");
  assertEquals(world.clock.timers, []);
  none.close();
  await settle();
  chat.abort();
});

Deno.test("closeWhenDone() does nothing after close() and the end", async () => {
  const options: CloseWhenDoneOptions = { deadline: 1_000 };
  const world = new World();
  const { chat } = onFake(world);
  chat.close();
  chat.closeWhenDone(options);
  const ended = onFake(world);
  ended.chat.onClose = () => ended.chat.closeWhenDone(options);
  ended.conn.end();
  await loop({ map: world.map });
  ended.chat.closeWhenDone(options);
  assertEquals([chat.trace, ended.chat.trace], [[], ["close eof"]]);
  assertEquals(world.clock.timers, []);
});

Deno.test("closeWhenDone() that waits for a producer does not spin", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.pushWithProducer((async function* () {
    await net.sleep(3_600_000);
    yield "at last";
  })());
  chat.closeWhenDone();
  const got = readAll(peer).finally(() => close(peer));
  await net.run();
  assertEquals([text(await got), chat.trace], ["at last", ["close done"]]);
  assertLess(net.map.counters.passes, 20);
});

// shutdown().

Deno.test("shutdown() does not keep the connection from ending when everything is sent", async () => {
  const cases: Record<string, (chat: TracedChat, net: SimNet) => void> = {
    "before the peer's end": (chat) => chat.shutdown("write"),
    "after the peer's end": (chat, net) =>
      void net.sleep(5).then(() => chat.shutdown("write")),
    "after closeWhenDone()": (chat) => {
      chat.closeWhenDone();
      chat.shutdown("write");
    },
    "before closeWhenDone()": (chat) => {
      chat.shutdown("write");
      chat.closeWhenDone();
    },
  };
  for (const [name, end] of Object.entries(cases)) {
    const { trace, answer } = await converse("a\n", (chat, net) => {
      chat.setTerminator("\n");
      chat.onFrame = () => {
        chat.push("x".repeat(100_000));
        end(chat, net);
      };
    }, { link: { bandwidth: 1_000_000 }, highWaterMark: Infinity });
    const kind = name.includes("closeWhenDone") ? "done" : "eof";
    assertEquals(trace, ["frame a", `close ${kind}`], name);
    assertEquals(answer.length, 100_000);
  }
});

Deno.test("shutdown() half-closes after everything queued, producers included; reading goes on", async () => {
  await using net = network({ link: { bandwidth: 100_000 } });
  const { chat, peer } = await connected(net, { sendBufferSize: 100 });
  chat.setTerminator("\n");
  chat.push("x".repeat(1_000));
  chat.pushWithProducer((async function* () {
    await net.sleep(10);
    yield "made";
  })());
  chat.shutdown("write");
  chat.shutdown("write");
  assertThrows(() => chat.push("late"), TypeError, "Cannot push");
  assertThrows(() => chat.pushWithProducer(["late"]), TypeError, "Cannot push");
  const done = (async () => {
    assertEquals(text(await readAll(peer)), `${"x".repeat(1_000)}made`);
    await peer.write(bytes("thanks\n"));
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["frame thanks", "close eof"]);
  assertEquals(net.leaks(), []);
});

Deno.test("shutdown() with a queue: the end comes after it, whoever asks for it", async () => {
  for (const kind of ["eof", "done"]) {
    const { trace, answer, chat } = await converse("a\n", (chat) => {
      chat.setTerminator("\n");
      chat.onFrame = () => {
        chat.push("x".repeat(100_000));
        chat.shutdown("write");
        if (kind === "done") chat.closeWhenDone();
      };
    }, {
      link: { bandwidth: 1_000_000 },
      sendBufferSize: 1_000,
      highWaterMark: Infinity,
    });
    assertEquals(trace, ["frame a", `close ${kind}`]);
    assertEquals(answer.length, 100_000);
    assertEquals(chat.reasons[0]!.bytesUnsent, 0);
  }
});

Deno.test("shutdown() while something is queued is taken back by discardBuffers()", async () => {
  const { got } = await receive((chat, net) => {
    chat.push("0123456789");
    chat.push("queued");
    chat.shutdown("write");
    chat.discardBuffers();
    chat.push("new");
    net.sleep(10).then(() => chat.closeWhenDone());
  }, { sendBufferSize: 10 });
  assertEquals(got, "0123456789new");
});

Deno.test("shutdown() refuses as that of a dispatcher, whatever is queued", async () => {
  for (const queued of ["", "queued"]) {
    await using net = network();
    const { server, chat } = connecting(net);
    chat.push(queued);
    assertThrows(() => chat.shutdown("write"), Deno.errors.NotConnected);
    assertThrows(() => chat.shutdown("read" as "write"), TypeError);
    chat.push("still possible");
    server.close();
  }
});

// Levels.

Deno.test("queuedBytes counts the queue and the send buffer, and what producers have made", async () => {
  const world = new World();
  const { chat, conn } = onFake(world, { sendBufferSize: 100 });
  conn.onWrite = "wait";
  assertEquals(chat.queuedBytes, 0);
  chat.push(new Uint8Array(30));
  assertEquals(chat.queuedBytes, 30);
  chat.push(new Uint8Array(200));
  assertEquals(chat.queuedBytes, 230);
  chat.pushWithProducer([new Uint8Array(50)]);
  assertEquals(chat.queuedBytes, 230);
  await world.serve();
  conn.release();
  await settle();
  // A buffer full has left.
  assertEquals(chat.queuedBytes, 230 - chat.bytesWritten);
  conn.onWrite = "take";
  conn.release();
  await settle();
  assertEquals([chat.queuedBytes, chat.bytesWritten], [0, 280]);
  chat.push("x");
  chat.abort();
  assertEquals(chat.queuedBytes, 0);
  await world.stop();
});

Deno.test("highWaterMark is 65,536 at first, and refuses what is none", () => {
  const chat = new AsyncChat();
  assertEquals(chat.highWaterMark, 65_536);
  assertEquals(new AsyncChat(null, { highWaterMark: 5 }).highWaterMark, 5);
  chat.highWaterMark = Infinity;
  assertEquals(chat.highWaterMark, Infinity);
  for (const wrong of [0, -1, 1.5, NaN]) {
    assertThrows(
      () => chat.highWaterMark = wrong,
      RangeError,
      "Cannot set highWaterMark: it must be a whole number above 0, or Infinity",
    );
    assertThrows(
      () => new AsyncChat(null, { highWaterMark: wrong }),
      RangeError,
    );
  }
  assertEquals(chat.highWaterMark, Infinity);
});

Deno.test("handleDrained() comes once for each time that more than highWaterMark waited, at half of it", async () => {
  for (const size of [10, 100, 262_144]) {
    const world = new World();
    const options = { highWaterMark: 100, sendBufferSize: size };
    const { chat, conn } = onFake(world, options);
    let most = 0;
    chat.onDrained = () => {
      most = Math.max(most, chat.queuedBytes);
    };
    await world.serve();
    for (let round = 1; round <= 3; round++) {
      conn.onWrite = "wait";
      chat.push(new Uint8Array(100));
      await settle();
      assertEquals(chat.trace.length, round - 1);
      chat.push(new Uint8Array(1));
      chat.push(new Uint8Array(1));
      await settle();
      assertEquals(chat.trace.length, round - 1);
      conn.onWrite = 9;
      conn.release(1);
      await settle();
      assertEquals(chat.queuedBytes, 0);
      assertEquals(chat.trace.length, round, `${size}`);
    }
    assertLess(most, 51);
    // Exactly the mark is not more.
    chat.push(new Uint8Array(100));
    await settle();
    assertEquals(chat.trace.length, 3);
    assertLess(world.map.counters.passes, 200);
    chat.abort();
    await world.stop();
  }
});

Deno.test("handleDrained() waits until half of the mark is left", async () => {
  const world = new World();
  const { chat, conn } = onFake(world, { highWaterMark: 100 });
  conn.onWrite = "wait";
  await world.serve();
  chat.push(new Uint8Array(200));
  await settle();
  conn.release(149);
  await settle();
  assertEquals([chat.queuedBytes, chat.trace], [51, []]);
  conn.release(1);
  await settle();
  assertEquals([chat.queuedBytes, chat.trace], [50, ["drained"]]);
  conn.release();
  await settle();
  assertEquals(chat.trace, ["drained"]);
  chat.abort();
  await world.stop();
});

Deno.test("handleDrained() paces a sender: little waits, everything is sent", async () => {
  for (const asynchronous of [false, true]) {
    await using net = network({ link: { bandwidth: 10_000_000 } });
    const { chat, peer } = await connected(net, { highWaterMark: 10_000 });
    let left = 100;
    let most = 0;
    const fill = () => {
      while (left > 0 && chat.queuedBytes <= chat.highWaterMark) {
        chat.push(new Uint8Array(3_000));
        left--;
      }
      most = Math.max(most, chat.queuedBytes);
      if (left === 0) chat.closeWhenDone();
    };
    chat.onDrained = () => asynchronous ? net.sleep(1).then(fill) : fill();
    fill();
    const got = readAll(peer).finally(() => close(peer));
    await net.run();
    assertEquals((await got).length, 300_000);
    assertLess(most, 13_001);
    assertEquals(chat.trace.at(-1), "close done");
    assertEquals(net.leaks(), []);
  }
});

Deno.test("handleDrained() that is async holds neither reading nor what is under way, and comes once", async () => {
  await using net = network({ link: { bandwidth: 100_000 } });
  const { chat, peer } = await connected(net, { highWaterMark: 1_000 });
  chat.setTerminator("\n");
  chat.onDrained = () => net.sleep(1_000);
  chat.push(new Uint8Array(2_000));
  const done = (async () => {
    await net.sleep(100);
    await peer.write(bytes("a\n"));
    await net.sleep(100);
    assertEquals(chat.take(), ["drained", "frame a"]);
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["close eof"]);
});

Deno.test("handleDrained() that fails is told to handleError(), and comes again the next time", async () => {
  for (const asynchronous of [false, true]) {
    const world = new World();
    const { chat, conn } = onFake(world, { highWaterMark: 10 });
    chat.onError = () => {};
    chat.onDrained = () => {
      const error = new Error("no good");
      if (asynchronous) return Promise.reject(error);
      throw error;
    };
    await world.serve();
    for (let round = 0; round < 2; round++) {
      chat.push(new Uint8Array(20));
      await settle();
      assertEquals(chat.take(), ["drained", "error no good"]);
    }
    assertEquals(conn.sent.length, 40);
    assertLess(world.map.counters.passes, 20);
    chat.abort();
    await world.stop();
  }
});

Deno.test("handleDrained() that fails does not keep what is queued behind it, nor the end", async () => {
  for (const asynchronous of [false, true]) {
    const { got, trace } = await receive((chat) => {
      let times = 0;
      chat.onError = () => {};
      chat.onDrained = () => {
        if (times++ > 0) return;
        // More than the send buffer takes, so that it has to be served again.
        chat.push("y".repeat(25));
        chat.closeWhenDone();
        const error = new Error("no good");
        if (asynchronous) return Promise.reject(error);
        throw error;
      };
      chat.push("x".repeat(20));
    }, { highWaterMark: 10, sendBufferSize: 10 });
    assertEquals(got, "x".repeat(20) + "y".repeat(25));
    assertEquals(trace.slice(0, 2), ["drained", "error no good"]);
    assertEquals(trace.at(-1), "close done");
  }
});

Deno.test("handleDrained() does not come after the end", async () => {
  const ends: ((chat: TracedChat) => void)[] = [
    (chat) => chat.closeWhenDone(),
    (chat) => chat.close(),
    (chat) => chat.disconnect({ kind: "error" }),
  ];
  for (const end of ends) {
    const open: boolean[] = [];
    const { trace } = await receive((chat) => {
      chat.onDrained = () => void open.push(chat.connected);
      chat.push(new Uint8Array(200));
      end(chat);
    }, { highWaterMark: 100 });
    assertEquals(open.filter((each) => !each), []);
    assert(trace.at(-1) !== "drained");
  }
});

// The core underneath.

Deno.test("close() sends what is in the send buffer and drops the rest of the queue", async () => {
  await using net = network({ link: { bandwidth: 100_000 } });
  const { chat, peer } = await connected(net, { sendBufferSize: 1_000 });
  const spy = new Spy();
  chat.push(new Uint8Array(5_000));
  chat.pushWithProducer(spy.kinds()["an iterable"]!);
  chat.close();
  assertEquals(chat.queuedBytes, 1_000);
  const got = readAll(peer).finally(() => close(peer));
  await net.run();
  assertEquals((await got).length, 1_000);
  assertEquals([spy.pulls, spy.ended, chat.trace], [0, 1, []]);
  assertEquals(net.leaks(), []);
});

Deno.test("delChannel(): nothing is pulled until addChannel(), what is in the send buffer leaves", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  const spy = new Spy(3);
  chat.push("sent ");
  chat.pushWithProducer(spy.kinds()["an iterable"]!);
  chat.delChannel();
  const other: ChannelMap = net.createMap();
  net.sleep(10).then(() => {
    assertEquals([spy.pulls, chat.bytesWritten], [0, 5]);
    chat.addChannel(other);
    chat.closeWhenDone();
  });
  const got = Promise.all([readAll(peer), net.sleep(20)]);
  await net.run();
  await net.sleep(20);
  await net.run();
  assertEquals((await got)[0].length, 3_005);
  close(peer);
  await net.run();
  assertEquals(chat.trace, ["close done"]);
});

Deno.test("writable() is true while something is to be sent", async () => {
  const world = new World();
  const { chat, conn } = onFake(world, { sendBufferSize: 10 });
  assertEquals(new AsyncChat(null, { map: world.map }).writable(), true);
  assertEquals(chat.writable(), false);
  conn.onWrite = "wait";
  chat.push("0123456789");
  // The socket writes that by itself.
  assertEquals(chat.writable(), false);
  chat.push("x");
  assertEquals(chat.writable(), true);
  chat.discardBuffers();
  chat.pushWithProducer([]);
  assertEquals(chat.writable(), true);
  await settle();
  chat.abort();
});

Deno.test("A client that never reads leaves the others alone", async () => {
  await using net = network({ link: { window: 1_000 } });
  const options = { sendBufferSize: 1_000 };
  const deaf = await connected(net, options);
  const other = await connected(net, options);
  for (const { chat } of [deaf, other]) {
    chat.setTerminator("\n");
    chat.onFrame = (frame) => chat.push(`${frame.repeat(10_000)}\n`);
  }
  let got = "";
  const done = (async () => {
    await deaf.peer.write(bytes("a\nb\nc\n"));
    for (let i = 0; i < 10; i++) {
      await other.peer.write(bytes(`${i}\n`));
      const buffer = new Uint8Array(1_000);
      for (let n = 0; n < 10_001;) {
        const length = (await other.peer.read(buffer))!;
        n += length;
        got += text(buffer.subarray(0, length));
      }
    }
    other.peer.close();
  })();
  await net.run({ until: 60_000 });
  await done;
  assertEquals(got.length, 100_010);
  assertEquals(other.chat.trace.at(-1), "close eof");
  assertEquals(deaf.chat.trace, ["frame a", "frame b", "frame c"]);
  deaf.peer.reset();
  await net.run();
  assertEquals(net.leaks(), []);
});
