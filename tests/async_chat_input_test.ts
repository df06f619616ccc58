import {
  assert,
  assertEquals,
  assertLess,
  assertNotStrictEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import {
  AsyncChat,
  type AsyncChatOptions,
  Dispatcher,
  ExitNow,
  loop,
  poll,
  type Terminator,
} from "../mod.ts";
import { type LinkOptions, SimNet } from "../testing.ts";
import { noise } from "./net.ts";
import { bytes, FakeConn, settle, text, World } from "./fakes.ts";
import {
  close,
  connected,
  converse,
  Gate,
  inPieces,
  network,
  readAll,
  SIZES,
  TracedChat,
} from "./traced_chat.ts";

/** A channel on a connection that a test has in its hands: what is delivered at once comes with one read. */
function onFake(world: World, options: AsyncChatOptions = {}) {
  const conn = new FakeConn();
  return { conn, chat: new TracedChat(conn, { map: world.map, ...options }) };
}

/** What a channel notes when bytes arrive in pieces, up to the peer's end of file. */
async function feed(
  pieces: readonly string[],
  prepare: (chat: TracedChat) => void,
  options: AsyncChatOptions = {},
): Promise<string[]> {
  const world = new World();
  const { chat, conn } = onFake(world, options);
  prepare(chat);
  for (const piece of pieces) conn.deliver(piece);
  conn.end();
  await loop({ map: world.map });
  return chat.trace;
}

/** The same trace, whole, byte by byte and in sizes 2 to 9. */
async function always(
  whole: string,
  prepare: (chat: TracedChat) => void,
  wanted: string[],
  options: AsyncChatOptions = {},
): Promise<void> {
  for (const size of SIZES) {
    const trace = await feed(inPieces(whole, size), prepare, options);
    assertEquals(trace, wanted, `in pieces of ${size}`);
  }
}

/** Sets the terminators one after the other, each for one frame. */
function script(terminators: readonly Terminator[]) {
  return (chat: TracedChat) => {
    let next = 0;
    const advance = () => {
      chat.setTerminator(terminators[next++ % terminators.length]!);
    };
    advance();
    chat.onFrame = advance;
  };
}

/** What a channel with such a script is to note. */
function model(terminators: readonly Terminator[], whole: string): string[] {
  const trace: string[] = [];
  let rest = whole;
  for (;;) {
    const terminator = terminators[trace.length % terminators.length];
    let end = -1;
    let skip = 0;
    if (typeof terminator === "number") {
      if (terminator > 0 && rest.length >= terminator) end = terminator;
    } else if (terminator) {
      end = rest.indexOf(terminator as string);
      skip = terminator.length;
    }
    if (end < 0) break;
    trace.push(`frame ${rest.slice(0, end)}`);
    rest = rest.slice(end + skip);
  }
  if (rest !== "") trace.push(`incomplete ${rest}`);
  return [...trace, "close eof"];
}

function splitAt(whole: string, cuts: readonly number[]): string[] {
  const places = [...new Set([0, ...cuts.map((n) => n % (whole.length + 1))])]
    .sort((a, b) => a - b);
  return places.map((from, i) => whole.slice(from, places[i + 1]))
    .filter((piece) => piece !== "");
}

// Framing.

Deno.test("AsyncChat: frames delivered depend only on the bytes, never on how they arrived", async () => {
  const letter = fc.constantFrom("a", "b", "\n");
  const anyTerminator: fc.Arbitrary<Terminator> = fc.oneof(
    fc.string({ unit: letter, minLength: 1, maxLength: 4 }),
    fc.integer({ min: 1, max: 7 }),
    fc.constantFrom(null, "", 0),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyTerminator, { minLength: 1, maxLength: 4 }),
      fc.string({ unit: letter, maxLength: 40 }),
      fc.array(fc.nat(40), { maxLength: 12 }),
      async (terminators, whole, cuts) => {
        const pieces = splitAt(whole, cuts);
        const trace = await feed(pieces, script(terminators));
        assertEquals(trace, model(terminators, whole));
      },
    ),
    { seed: 4, numRuns: 400 },
  );
});

Deno.test("AsyncChat: frames are the same on any line", async () => {
  const whole = "one\r\n\r\ntwo\rthree\nfour\r\n12345fi\r\nve\r\nrest\r";
  const wanted = [
    ...["frame one", "frame ", "frame two\rthree\nfour", "frame 12345"],
    ...["frame fi", "incomplete ve\r\nrest\r", "close eof"],
  ];
  const lines: LinkOptions[] = [
    ...SIZES.map((readSize) => ({ readSize })),
    { segmentSize: [1, 9], latency: [0, 50] },
    { bandwidth: 100, segmentSize: 3 },
  ];
  for (const link of lines) {
    const terminators = ["\r\n", "\r\n", "\r\n", 5, "\r\n", null];
    const { trace } = await converse(whole, script(terminators), { link });
    assertEquals(trace, wanted, Deno.inspect(link));
  }
});

Deno.test("AsyncChat: one-, two- and three-byte terminators give the same two frames in pieces of 1, 2 and 3 bytes", async () => {
  for (const terminator of ["\n", "\r\n", "qqq"]) {
    for (const size of [1, 2, 3, Infinity]) {
      const whole = `hello world${terminator}I'm not dead yet!${terminator}`;
      assertEquals(
        await feed(inPieces(whole, size), script([terminator])),
        ["frame hello world", "frame I'm not dead yet!", "close eof"],
      );
    }
  }
});

Deno.test("AsyncChat: terminators that overlap with themselves", async () => {
  const cases = [
    ["aab", "aaabaaaabaabaab"],
    ["\r\n.\r\n", "text\r\n.\r\r\n.\r\n..\r\n.\r\n\r\n.\r\n"],
    ["\n\n", "a\n\n\nb\n\n\n\nc\n"],
    ["aaaa", "aaaaaaaaabaaaaaaa"],
  ] as const;
  for (const [terminator, whole] of cases) {
    await always(whole, script([terminator]), model([terminator], whole));
  }
});

Deno.test("AsyncChat: an empty line is a frame, and an empty piece is not reported", async () => {
  for (const size of SIZES) {
    const pieces: string[] = [];
    const trace = await feed(inPieces("\n\nx\n\n", size), (chat) => {
      chat.setTerminator("\n");
      chat.collectIncomingData = (data) => void pieces.push(text(data));
    });
    assertEquals(pieces, ["x"]);
    assertEquals(trace, [...Array(4).fill("frame "), "close eof"]);
  }
});

Deno.test("AsyncChat: several frames of one read come in one event", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\n");
  conn.deliver("a\nb\nc\nd");
  await poll(Infinity, world.map);
  if (chat.trace.length === 0) await poll(Infinity, world.map);
  assertEquals(chat.take(), ["frame a", "frame b", "frame c"]);
  assertEquals(world.map.counters.reads, 1);
  chat.close();
});

Deno.test("AsyncChat: frames of one read are views of one buffer, which is not copied for each", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  const buffers = new Set<ArrayBufferLike>();
  chat.setTerminator("\n");
  chat.collectIncomingData = ({ buffer }) => void buffers.add(buffer);
  conn.deliver("x\n".repeat(100));
  conn.end();
  await loop({ map: world.map });
  assertEquals(chat.trace.length, 101);
  // One read for the bytes, one for the end.
  assertEquals([conn.reads, buffers.size], [2, 1]);
});

// Terminators.

Deno.test("setTerminator() is null at first: everything is collected", async () => {
  assertEquals(new AsyncChat().getTerminator(), null);
  await always("a\r\nb\n", () => {}, ["incomplete a\r\nb\n", "close eof"]);
});

Deno.test("setTerminator() of null, 0 and empty sequences never finds a frame", async () => {
  for (const terminator of [null, 0, "", new Uint8Array(0)]) {
    await always("a\r\nb\n", (chat) => chat.setTerminator(terminator), [
      "incomplete a\r\nb\n",
      "close eof",
    ]);
  }
});

Deno.test("setTerminator() of a number counts down, ends at 0, and then everything is collected", async () => {
  for (const count of [1, 6]) {
    const whole = "hello world, I'm not dead yet!";
    await always(
      whole,
      (chat) => {
        chat.setTerminator(count);
        chat.onFrame = () => assertEquals(chat.getTerminator(), 0);
      },
      [
        `frame ${whole.slice(0, count)}`,
        `incomplete ${whole.slice(count)}`,
        "close eof",
      ],
    );
  }
});

Deno.test("getTerminator() of a number tells what is missing", async () => {
  const missing: Terminator[] = [];
  await feed(["ab", "cde", "fghi"], (chat) => {
    chat.setTerminator(8);
    chat.collectIncomingData = () => void missing.push(chat.getTerminator());
  });
  assertEquals(missing, [6, 3, 0, 0]);
});

Deno.test("setTerminator() takes text as UTF-8, and bytes, which it copies", async () => {
  const terminator = bytes("—");
  const prepare = (chat: TracedChat) => {
    chat.setTerminator("é");
    chat.onFrame = () => {
      chat.setTerminator(terminator);
      terminator.fill(0);
    };
  };
  const world = new World();
  const { chat, conn } = onFake(world);
  prepare(chat);
  for (const byte of bytes("café|d—!")) conn.deliver(new Uint8Array([byte]));
  conn.end();
  await loop({ map: world.map });
  assertEquals(chat.trace.slice(0, 2), ["frame caf", "frame |d"]);
});

Deno.test("setTerminator() refuses what is none", () => {
  const chat = new AsyncChat();
  chat.setTerminator("\n");
  for (const number of [-1, 0.5, NaN, Infinity]) {
    assertThrows(() => chat.setTerminator(number), RangeError, `${number}`);
  }
  for (const wrong of [undefined, {}, [10], true]) {
    assertThrows(
      () => chat.setTerminator(wrong as unknown as Terminator),
      TypeError,
      "Cannot set terminator",
    );
  }
  assertEquals(chat.getTerminator(), "\n");
});

Deno.test("setTerminator() in foundTerminator() applies to what has been received behind the frame", async () => {
  const prepare = (chat: TracedChat) => {
    chat.setTerminator("\n");
    chat.onFrame = (frame) => {
      if (frame.startsWith("length ")) chat.setTerminator(Number(frame[7]));
      else if (frame.startsWith("until ")) chat.setTerminator(frame.slice(6));
      else chat.setTerminator("\n");
    };
  };
  const whole = "length 5\n\n\n\n\n\nuntil aab\naaaab\nplain\nlength 3\nab";
  const wanted = ["frame length 5", "frame \n\n\n\n\n", "frame until aab"];
  wanted.push("frame aa", "frame ", "frame plain", "frame length 3");
  wanted.push("incomplete ab", "close eof");
  await always(whole, prepare, wanted);
});

Deno.test("setTerminator() from another handler looks at a held-back prefix again", async () => {
  // "\r" may be the beginning of "\r\n", until that is not the terminator any more.
  const cases: [Terminator, string, string[]][] = [
    ["\r", "b\r", ["frame a", "frame b", "close eof"]],
    ["b", "\nb.", ["frame a\r\n", "incomplete .", "close eof"]],
    ["\r\n", "\nb", ["frame a", "incomplete b", "close eof"]],
    [2, "bc", ["frame a\r", "incomplete bc", "close eof"]],
    [3, "bc", ["frame a\rb", "incomplete c", "close eof"]],
    [null, "bc", ["incomplete a\rbc", "close eof"]],
  ];
  for (const [terminator, more, wanted] of cases) {
    await using net = network();
    const { chat, peer } = await connected(net);
    chat.setTerminator("\r\n");
    const other = await connected(net, {});
    const pieces: string[] = [];
    const collect = chat.collectIncomingData;
    chat.collectIncomingData = (data) => {
      pieces.push(text(data));
      collect.call(chat, data);
    };
    other.chat.setTerminator("\n");
    // The "a" was collected already: of a count, only the rest is to come.
    const rest = typeof terminator === "number" ? terminator - 1 : terminator;
    other.chat.onFrame = () => chat.setTerminator(rest);
    const done = (async () => {
      await peer.write(bytes("a\r"));
      await net.sleep(1);
      assertEquals(pieces, ["a"]);
      await other.peer.write(bytes("now\n"));
      await net.sleep(1);
      await peer.write(bytes(more));
      peer.close();
      other.peer.close();
    })();
    await net.run();
    await done;
    assertEquals(chat.trace, wanted, Deno.inspect(terminator));
    assertEquals(net.leaks(), []);
  }
});

Deno.test("setTerminator() in collectIncomingData() loses no byte and delivers none twice", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: fc.constantFrom("a", "\r", "\n"), maxLength: 30 }),
      fc.array(fc.nat(30), { maxLength: 10 }),
      async (whole, cuts) => {
        let got = "";
        let found = 0;
        await feed(splitAt(whole, cuts), (chat) => {
          chat.setTerminator("\r\n");
          chat.collectIncomingData = (data) => {
            got += text(data);
            chat.setTerminator(["\r\n", "\n\n", "aa"][got.length % 3]!);
          };
          chat.foundTerminator = () => {
            got += "|";
            found++;
          };
        });
        // Every terminator here has two bytes.
        const collected = got.replaceAll("|", "");
        assertEquals(collected.length + 2 * found, whole.length);
        assert(isSubsequence(collected, whole));
      },
    ),
    { seed: 4, numRuns: 200 },
  );
});

function isSubsequence(part: string, whole: string): boolean {
  let at = 0;
  for (const letter of whole) if (letter === part[at]) at++;
  return at === part.length;
}

// Collecting.

Deno.test("collectIncomingData() keeps copies: the view may be used for the next read", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  const taken: Uint8Array[] = [];
  chat.setTerminator("\n");
  chat.foundTerminator = () => void taken.push(chat.takeIncoming());
  // Short and long ones, in one piece and in several.
  const frames = ["a", "b".repeat(255), "c".repeat(257), "d".repeat(5_000)];
  for (const frame of frames) {
    conn.deliver(`${frame}\n`);
    for (const piece of inPieces(`${frame}\n`, 100)) conn.deliver(piece);
  }
  conn.end();
  await loop({ map: world.map });
  assertEquals(taken.map(text), frames.flatMap((frame) => [frame, frame]));
});

Deno.test("takeIncoming() gives bytes that are the caller's own", async () => {
  const taken: Uint8Array[] = [];
  await feed(["one\ntwo\nthree\n"], (chat) => {
    chat.setTerminator("\n");
    chat.foundTerminator = () => {
      const frame = chat.takeIncoming();
      taken.push(frame.slice());
      frame.fill(0);
    };
  });
  assertEquals(taken.map(text), ["one", "two", "three"]);
});

Deno.test("takeIncoming() hands over and clears", async () => {
  const chat = new AsyncChat();
  assertEquals(chat.takeIncoming().length, 0);
  chat.collectIncomingData(bytes("ab"));
  chat.collectIncomingData(bytes("c"));
  const first = chat.takeIncoming();
  assertEquals([text(first), chat.takeIncoming().length], ["abc", 0]);
  chat.collectIncomingData(bytes("d"));
  const second = chat.takeIncoming();
  assertNotStrictEquals(first, second);
  const large = noise(10_000);
  chat.collectIncomingData(large);
  assertEquals(chat.takeIncoming(), large);
  assertEquals([text(first), text(second)], ["abc", "d"]);
  await settle();
});

Deno.test("collectIncomingData() may take everything to itself", async () => {
  const collected: string[] = [];
  const { trace } = await converse("one\r\ntwo", (chat) => {
    chat.setTerminator("\r\n");
    chat.collectIncomingData = (data) => void collected.push(text(data));
    chat.foundTerminator = () => void collected.push("|");
  });
  assertEquals(collected, ["one", "|", "two"]);
  assertEquals(trace, ["incomplete ", "close eof"]);
});

Deno.test("collectIncomingData() that returns a promise is an error", async () => {
  const { trace, chat } = await converse("one\n", (chat) => {
    chat.setTerminator("\n");
    chat.collectIncomingData = () =>
      Promise.reject(new Error("beside the point")) as unknown as void;
  });
  assertEquals(trace, [
    "error Cannot use collectIncomingData(): it returned a promise",
    "close error",
  ]);
  assert(chat.reasons[0]!.error instanceof TypeError);
});

Deno.test("foundTerminator() logs a warning and drops the frame if it is not overridden", async () => {
  const world = new World();
  const conn = new FakeConn();
  const logs: string[] = [];
  class Plain extends AsyncChat {
    override handleClose() {}
    override logInfo(message: string, type?: string): void {
      logs.push(`${type}: ${message}`);
    }
  }
  const plain = new Plain(conn, { map: world.map });
  plain.setTerminator("\n");
  conn.deliver("one\ntwo\n");
  conn.end();
  await loop({ map: world.map });
  assertEquals(logs, ["warning: unhandled frame", "warning: unhandled frame"]);
  assertEquals(plain.takeIncoming().length, 0);
});

// Errors.

Deno.test("An error in foundTerminator() ends the connection, and no further frame is delivered", async () => {
  const { trace } = await converse("a\nb\n", (chat) => {
    chat.setTerminator("\n");
    chat.onFrame = () => {
      throw new Error("no good");
    };
  });
  assertEquals(trace, ["frame a", "error no good", "close error"]);
});

Deno.test("After an error in foundTerminator() the rest is served next, nothing lost and nothing twice", async () => {
  for (const asynchronous of [false, true]) {
    await always(
      "a\nb\nc\nd",
      (chat) => {
        chat.setTerminator("\n");
        chat.onError = () => {};
        chat.onFrame = (frame) => {
          if (asynchronous) return Promise.reject(new Error(frame));
          throw new Error(frame);
        };
      },
      [
        ...["frame a", "error a", "frame b", "error b", "frame c", "error c"],
        ...["incomplete d", "close eof"],
      ],
    );
  }
});

Deno.test("After an error in foundTerminator() the rest does not wait for more input", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\n");
  chat.onError = () => {};
  chat.onFrame = (frame) => {
    throw new Error(frame);
  };
  conn.deliver("a\nb\nc\n");
  await world.serve();
  await settle();
  assertEquals(chat.take().filter((what) => what.startsWith("frame")), [
    "frame a",
    "frame b",
    "frame c",
  ]);
  assertLess(world.map.counters.passes, 20);
  chat.close();
  await world.stop();
});

Deno.test("After an error in foundTerminator() a held-back prefix and a count go on where they were", async () => {
  await always(
    "a\r\nb\rc\r\n12345d\r\n\r",
    (chat) => {
      chat.setTerminator("\r\n");
      chat.onError = () => {};
      chat.onFrame = (frame) => {
        chat.setTerminator(frame === "b\rc" ? 5 : "\r\n");
        throw new Error(frame);
      };
    },
    [
      ...["frame a", "error a", "frame b\rc", "error b\rc"],
      ...["frame 12345", "error 12345", "frame d", "error d"],
      ...["incomplete \r", "close eof"],
    ],
  );
});

Deno.test("After an error in collectIncomingData() frames end where they end, however they arrived", async () => {
  for (const size of SIZES) {
    let frames = 0;
    const trace = await feed(inPieces("abc\nd\ne\n", size), (chat) => {
      let calls = 0;
      chat.setTerminator("\n");
      chat.onError = () => {};
      chat.collectIncomingData = () => {
        if (++calls === 1) throw new Error("no room");
      };
      chat.foundTerminator = () => void frames++;
    });
    assertEquals(trace, ["error no room", "close eof"]);
    assertEquals(frames, 3, `in pieces of ${size}`);
  }
});

Deno.test("After an error in collectIncomingData() what it had is not given to it again", async () => {
  for (const size of SIZES) {
    let got = "";
    await feed(inPieces("abc\nde\nf", size), (chat) => {
      chat.setTerminator("\n");
      chat.onError = () => {};
      chat.collectIncomingData = (data) => {
        got += text(data);
        throw new Error("no room");
      };
    });
    assertEquals(got, "abcdef", `in pieces of ${size}`);
  }
});

Deno.test("After an error in collectIncomingData() the next frame counts from its own beginning", async () => {
  const trace = await feed(["abc\nde\n"], (chat) => {
    const collect = chat.collectIncomingData;
    chat.setTerminator("\n");
    chat.onError = () => {};
    chat.collectIncomingData = (data) => {
      if (text(data) === "abc") throw new Error("no room");
      collect.call(chat, data);
    };
  }, { maxFrameLength: 4 });
  assertEquals(trace.filter((what) => what.startsWith("too long")), []);
  assert(trace.includes("frame de"));
});

Deno.test("ExitNow in foundTerminator() leaves the rest for the next loop", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\n");
  chat.onFrame = (frame) => {
    if (frame === "a") throw new ExitNow("enough");
  };
  conn.deliver("a\nb\nc");
  conn.end();
  await assertRejects(() => loop({ map: world.map }), ExitNow, "enough");
  assertEquals(chat.take(), ["frame a"]);
  await loop({ map: world.map });
  assertEquals(chat.take(), ["frame b", "incomplete c", "close eof"]);
});

// Closing and suspending.

Deno.test("close() and abort() in foundTerminator(): what was received behind it is not delivered", async () => {
  for (const how of ["close", "abort"] as const) {
    for (const readSize of SIZES) {
      const { trace } = await converse("a\nb\nc\nd", (chat) => {
        chat.setTerminator("\n");
        chat.onFrame = (frame) => {
          if (frame === "b") chat[how]();
        };
      }, { link: { readSize } });
      assertEquals(trace, ["frame a", "frame b"]);
    }
  }
});

Deno.test("disconnect() in foundTerminator(): what was received behind it is not delivered", async () => {
  for (const asynchronous of [false, true]) {
    const { trace } = await converse("a\nb\nc\nd", (chat, net) => {
      chat.setTerminator("\n");
      chat.onFrame = (frame) => {
        if (frame === "b") chat.disconnect({ kind: "limit" });
        if (asynchronous) return net.sleep(1);
      };
    });
    assertEquals(trace, ["frame a", "frame b", "close limit"]);
  }
});

Deno.test("close(), abort() and disconnect() in collectIncomingData(): no handler is called any more", async () => {
  const ends: ((chat: TracedChat) => void)[] = [
    (chat) => chat.close(),
    (chat) => chat.abort(),
    (chat) => chat.disconnect({ kind: "limit" }),
  ];
  for (const [i, end] of ends.entries()) {
    for (const size of SIZES) {
      const trace = await feed(inPieces("ab\ncd\n", size), (chat) => {
        chat.setTerminator("\n");
        chat.collectIncomingData = (data) => {
          chat.trace.push("collect");
          // The last piece of the first frame.
          if (text(data).endsWith("b")) end(chat);
        };
      });
      assertEquals(trace.filter((what) => what.startsWith("frame")), []);
      const wanted = i === 2 ? "close limit" : "collect";
      assertEquals(trace.at(-1), wanted, `in pieces of ${size}`);
    }
  }
});

Deno.test("close() in collectIncomingData() with a prefix that was held back: it is not called again", async () => {
  const pieces: string[] = [];
  await feed(["a\r", "x\r\n"], (chat) => {
    chat.setTerminator("\r\n");
    chat.collectIncomingData = (data) => {
      pieces.push(text(data));
      if (text(data) === "\r") chat.close();
    };
  });
  assertEquals(pieces, ["a", "\r"]);
});

/** Suspends, and comes back a little later, in the same map or in another one. */
const absences: Record<string, (chat: TracedChat, net: Net) => void> = {
  "the same map": (chat, net) => {
    chat.delChannel();
    net.sleep(10).then(() => {
      assertEquals(chat.take().filter((what) => what !== "away"), []);
      chat.addChannel();
    });
  },
  "the same map at once": (chat) => {
    chat.delChannel();
    chat.addChannel();
  },
  "another map": (chat, net) => chat.addChannel(net.createMap()),
};
type Net = ReturnType<typeof network>;

Deno.test("delChannel() and addChannel() in foundTerminator(): nothing is lost and nothing comes twice", async () => {
  for (const [name, absent] of Object.entries(absences)) {
    for (const asynchronous of [false, true]) {
      for (const readSize of SIZES) {
        const all: string[] = [];
        const { trace } = await converse("a\nb\nc\nd", (chat, net) => {
          chat.setTerminator("\n");
          chat.onFrame = (frame) => {
            all.push(frame);
            chat.take();
            if (frame !== "b") return;
            if (asynchronous) return net.sleep(5).then(() => absent(chat, net));
            absent(chat, net);
          };
        }, { link: { readSize } });
        assertEquals(all, ["a", "b", "c"], `${name}, by ${readSize}`);
        assertEquals(trace, ["incomplete d", "close eof"]);
      }
    }
  }
});

Deno.test("delChannel() and addChannel() in collectIncomingData(): nothing is lost and nothing comes twice", async () => {
  for (const [name, absent] of Object.entries(absences)) {
    for (const readSize of SIZES) {
      const all: string[] = [];
      const { trace } = await converse("ab\rc\r\nd\r\ne", (chat, net) => {
        const collect = chat.collectIncomingData;
        chat.setTerminator("\r\n");
        chat.collectIncomingData = (data) => {
          collect.call(chat, data);
          absent(chat, net);
        };
        chat.onFrame = (frame) => {
          all.push(frame);
          chat.take();
        };
      }, { link: { readSize } });
      assertEquals(all, ["ab\rc", "d"], `${name}, by ${readSize}`);
      assertEquals(trace, ["incomplete e", "close eof"]);
    }
  }
});

Deno.test("delChannel(): what was held back is still there after addChannel()", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.setTerminator("\r\n");
  const done = (async () => {
    await peer.write(bytes("a\r"));
    await net.sleep(1);
    chat.delChannel();
    await peer.write(bytes("\nb\r"));
    await net.sleep(1);
    assertEquals(chat.trace, []);
    chat.addChannel(net.createMap());
    await peer.write(bytes("c"));
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["frame a", "incomplete b\rc", "close eof"]);
});

Deno.test("collectIncomingData() that suspends or fails at the end of a counted frame: the frame is delivered", async () => {
  for (const how of ["suspends", "fails"]) {
    for (const readSize of SIZES) {
      const frames: string[] = [];
      const { trace } = await converse("abcdefgh", (chat, net) => {
        const collect = chat.collectIncomingData;
        chat.setTerminator(3);
        chat.onError = () => {};
        chat.onFrame = (frame) => {
          frames.push(frame);
          chat.setTerminator(3);
        };
        chat.collectIncomingData = (data) => {
          collect.call(chat, data);
          if (chat.getTerminator() !== 0) return;
          if (how === "fails") throw new Error("no room");
          chat.delChannel();
          net.sleep(10).then(() => chat.addChannel());
        };
      }, { link: { readSize } });
      assertEquals(frames, ["abc", "def"], `${how}, by ${readSize}`);
      assertEquals(trace.slice(-2), ["incomplete gh", "close eof"]);
    }
  }
});

Deno.test("recv() in handleClose() returns what was received and not cut into frames, no byte twice", async () => {
  const cases: [Terminator, string, string][] = [
    ["\n", "a\nb\nc", "b\nc"],
    [1, "abc", "bc"],
    [3, "abc", ""],
    ["\n", "a\n", ""],
  ];
  for (const [terminator, whole, wanted] of cases) {
    for (const where of ["foundTerminator", "collectIncomingData"]) {
      let got = "";
      await feed([whole], (chat) => {
        const collect = chat.collectIncomingData;
        const end = () => chat.disconnect({ kind: "limit" });
        chat.setTerminator(terminator);
        if (where === "foundTerminator") chat.onFrame = end;
        else {
          chat.collectIncomingData = (data) => {
            collect.call(chat, data);
            end();
          };
        }
        chat.onClose = () => void (got = text(chat.recv()));
      });
      // The terminator behind what was collected is still there.
      const behind = where === "collectIncomingData" && terminator === "\n"
        ? "\n"
        : "";
      assertEquals(got, behind + wanted, `${where} ${Deno.inspect(whole)}`);
    }
  }
});

Deno.test("setTerminator() in collectIncomingData() looks at a held-back prefix at once", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  const collect = chat.collectIncomingData;
  chat.setTerminator("\r\n");
  chat.collectIncomingData = (data) => {
    collect.call(chat, data);
    if (text(data) === "abc") chat.setTerminator(1);
  };
  conn.deliver("abc\r");
  await world.serve();
  assertEquals(chat.trace, ["frame abc\r"]);
  chat.close();
  await world.stop();
});

// Async foundTerminator.

Deno.test("foundTerminator() may be async: the next frame waits, and so does reading", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  const gate = new Gate();
  chat.setTerminator("\n");
  chat.onFrame = () => gate.pass().then(() => void chat.trace.push("done"));
  conn.deliver("a\nb\nc");
  await world.serve();
  conn.deliver("\nd");
  await settle();
  assertEquals(chat.take(), ["frame a"]);
  assertEquals(conn.reads, 1);
  for (const next of ["frame b", "frame c"]) {
    gate.open();
    await settle();
    assertEquals(chat.take(), ["done", next]);
  }
  gate.open();
  conn.end();
  await world.served;
  assertEquals(chat.take(), ["done", "incomplete d", "close eof"]);
});

Deno.test("foundTerminator() may be async, and of any pace: the order is kept, however the bytes arrived", async () => {
  const lines = Array.from({ length: 20 }, (_, i) => `${i}`);
  for (const readSize of SIZES) {
    const done: string[] = [];
    const { trace } = await converse(
      `${lines.join("\r\n")}\r\n`,
      (chat, net) => {
        chat.setTerminator("\r\n");
        chat.onFrame = (frame) => {
          const end = () => void done.push(frame);
          // Now, in a moment, or later.
          if (Number(frame) % 3 === 0) return end();
          if (Number(frame) % 3 === 1) return Promise.resolve().then(end);
          return net.sleep(20 - Number(frame)).then(end);
        };
      },
      { link: { readSize } },
    );
    assertEquals(done, lines);
    assertEquals(trace.at(-1), "close eof");
  }
});

Deno.test("foundTerminator() that is pending: queued output goes on leaving", async () => {
  await using net = network({ link: { bandwidth: 100_000 } });
  const { chat, peer } = await connected(net);
  chat.setTerminator("\n");
  const answer = "x".repeat(600_000);
  chat.onFrame = async () => {
    chat.push(answer);
    await net.sleep(3_600_000);
  };
  let at = 0;
  const done = (async () => {
    await peer.write(bytes("a\n"));
    const buffer = new Uint8Array(65_536);
    for (let got = 0; got < answer.length;) got += (await peer.read(buffer))!;
    at = net.now;
    peer.close();
  })();
  await net.run();
  await done;
  assertLess(at, 3_600_000);
  assertEquals(chat.trace, ["frame a", "drained", "close eof"]);
});

Deno.test("foundTerminator() that rejects: handleError() once, and the next frame comes", async () => {
  const { trace } = await converse("a\nb\n", (chat, net) => {
    chat.setTerminator("\n");
    chat.onError = () => {};
    chat.onFrame = async (frame) => {
      await net.sleep(1);
      if (frame === "a") throw new Error("too late");
    };
  });
  assertEquals(trace, ["frame a", "error too late", "frame b", "close eof"]);
});

Deno.test("foundTerminator() that is pending while the channel is closed: nothing is delivered any more", async () => {
  for (const how of ["close", "abort"] as const) {
    for (const fails of [false, true]) {
      const { trace } = await converse("a\nb\n", (chat, net) => {
        chat.setTerminator("\n");
        chat.onError = () => {};
        chat.onFrame = async () => {
          await net.sleep(10);
          if (fails) throw new Error("too late");
        };
        net.sleep(5).then(() => chat[how]());
      });
      assertEquals(trace, ["frame a", ...(fails ? ["error too late"] : [])]);
    }
  }
});

Deno.test("foundTerminator() that is pending when the peer ends: all frames come before the end", async () => {
  const { trace, answer } = await converse("a\nb\nc", (chat, net) => {
    chat.setTerminator("\n");
    chat.onFrame = async (frame) => {
      await net.sleep(1_000);
      chat.push(`${frame}!`);
    };
  });
  assertEquals(trace, ["frame a", "frame b", "incomplete c", "close eof"]);
  assertEquals(answer, "a!b!");
});

Deno.test("foundTerminator() that is pending when the peer resets: handleClose() waits for it, and is the last", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.setTerminator("\n");
  chat.onFrame = async () => {
    await net.sleep(10);
    chat.trace.push("done");
    chat.push("nobody hears it");
  };
  const done = (async () => {
    await peer.write(bytes("a\n"));
    await net.sleep(5);
    peer.reset();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["frame a", "done", "close reset"]);
  assertEquals(net.leaks(), []);
});

Deno.test("foundTerminator() that is pending when the loop ends: the next frame waits for the next loop", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  const gate = new Gate();
  chat.setTerminator("\n");
  chat.onFrame = () => gate.pass();
  conn.deliver("a\nb\n");
  await world.serve();
  assertEquals(chat.take(), ["frame a"]);
  await world.stop();
  // Handlers are called by a running pass only.
  gate.open();
  await settle();
  assertEquals(chat.take(), []);
  await world.serve();
  assertEquals(chat.take(), ["frame b"]);
  gate.open();
  chat.close();
  await world.stop();
});

Deno.test("foundTerminator() that is async: other channels get their turn between the frames", async () => {
  await using net = network();
  const busy = await connected(net);
  const other = await connected(net);
  const order: string[] = [];
  for (const [name, { chat }] of Object.entries({ busy, other })) {
    chat.setTerminator("\n");
    chat.onFrame = async () => {
      order.push(name);
      await Promise.resolve();
    };
  }
  await busy.peer.write(bytes("x\n".repeat(2_000)));
  await other.peer.write(bytes("x\n"));
  busy.peer.close();
  other.peer.close();
  await net.run();
  assertEquals(order.length, 2_001);
  assertLess(order.indexOf("other"), 2_000);
});

Deno.test("foundTerminator() may close and open the dispatcher again: nothing of the old connection is left", async () => {
  for (const asynchronous of [false, true]) {
    await using net = network();
    const server = net.listen({ port: 9 });
    const { chat, peer } = await connected(net);
    chat.setTerminator("\r\n");
    chat.onFrame = async (frame) => {
      if (frame !== "move") return;
      if (asynchronous) await net.sleep(1);
      chat.close();
      chat.createSocket();
      chat.connect({ port: 9 });
    };
    chat.onConnect = () => chat.push("hello");
    const done = (async () => {
      await peer.write(bytes("move\r\nold\r\nolder\r"));
      const conn = await server.accept();
      server.close();
      await conn.write(bytes("\nnew\r\n"));
      await conn.closeWrite();
      assertEquals(text(await readAll(conn)), "hello");
      conn.close();
      peer.close();
    })();
    await net.run();
    await done;
    assertEquals(chat.trace, [
      ...["frame move", "connect", "frame \nnew", "close eof"],
    ]);
    assertEquals(net.leaks(), []);
  }
});

Deno.test("createSocket() after the end: nothing was received, and the terminator stays", async () => {
  await using net = network();
  const server = net.listen({ port: 9 });
  const { chat, peer } = await connected(net);
  chat.setTerminator("\r\n");
  // Incomplete, so that something is kept, and something held back.
  await peer.write(bytes("partial\r"));
  const done = (async () => {
    await net.sleep(1);
    peer.reset();
    const conn = await server.accept();
    server.close();
    await conn.write(bytes("\nnew\r\n"));
    conn.close();
  })();
  let kept = -1;
  chat.onClose = ({ kind }) => {
    if (kind !== "reset") return;
    chat.close();
    chat.createSocket();
    kept = chat.takeIncoming().length;
    chat.connect({ port: 9 });
  };
  await net.run();
  await done;
  assertEquals(chat.trace, [
    ...["close reset", "connect", "frame \nnew", "close eof"],
  ]);
  assertEquals([kept, chat.getTerminator()], [0, "\r\n"]);
});

Deno.test("createSocket() counts anew where the terminator is a number", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.setTerminator(10);
  const missing: Terminator[] = [];
  chat.onClose = () => {
    missing.push(chat.getTerminator());
    chat.close();
    chat.createSocket();
    missing.push(chat.getTerminator());
    chat.close();
  };
  await peer.write(bytes("four"));
  peer.close();
  await net.run();
  assertEquals(chat.trace, ["incomplete four", "close eof"]);
  assertEquals(missing, [6, 10]);
});

Deno.test("Frames that are waited for one by one cost a pass each, and no byte is counted twice", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\r\n");
  chat.onFrame = () => Promise.resolve();
  conn.deliver("x\r\n".repeat(100));
  conn.end();
  await loop({ map: world.map });
  assertEquals(chat.trace.length, 101);
  assertLess(world.map.counters.passes, 120);
  assertEquals([chat.bytesRead, world.map.counters.bytesRead], [300, 300]);
});

// Limits.

Deno.test("maxFrameLength is a frame's longest length, without the terminator", async () => {
  for (const terminator of ["\n", "\r\n", "aab"]) {
    const fits = `${"x".repeat(10)}${terminator}`;
    const limit = { maxFrameLength: 10 };
    await always(
      fits + fits,
      script([terminator]),
      [`frame ${"x".repeat(10)}`, `frame ${"x".repeat(10)}`, "close eof"],
      limit,
    );
    for (const size of SIZES) {
      const trace = await feed(
        inPieces(`x${fits}ok${terminator}`, size),
        script([terminator]),
        limit,
      );
      assertEquals(trace, ["too long 11", "close limit"], `by ${size}`);
    }
  }
});

Deno.test("maxFrameLength counts a prefix of the terminator that was false", async () => {
  const limit = { maxFrameLength: 4 };
  await always("ab\r\n", script(["\r\n"]), ["frame ab", "close eof"], limit);
  await always("abc\r\r\n", script(["\r\n"]), [
    "frame abc\r",
    "close eof",
  ], limit);
  for (const size of SIZES) {
    const trace = await feed(
      inPieces("abcd\rx\r\n", size),
      script(["\r\n"]),
      limit,
    );
    assertEquals(trace.at(-1), "close limit", `by ${size}`);
  }
});

Deno.test("handleFrameTooLong() that does not end the connection: the rest is skipped, the next frame delivered", async () => {
  const whole = `${"x".repeat(25)}\r\rx\r\nok\r\n${"y".repeat(11)}\r\n\r\nz`;
  for (const asynchronous of [false, true]) {
    for (const size of SIZES) {
      const trace = await feed(inPieces(whole, size), (chat) => {
        chat.setTerminator("\r\n");
        chat.onTooLong = asynchronous ? () => Promise.resolve() : () => {};
      }, { maxFrameLength: 10 });
      assertEquals(
        trace.map((what) => what.replace(/^(too long) \d+$/, "$1")),
        [
          ...["too long", "frame ok", "too long", "frame ", "incomplete z"],
          "close eof",
        ],
        `by ${size}`,
      );
    }
  }
});

Deno.test("handleFrameTooLong() gets how many bytes of it have arrived, and may take what was collected", async () => {
  const taken: [number, string][] = [];
  await feed(["abc", "def", "ghi", "jkl\nok\n"], (chat) => {
    chat.setTerminator("\n");
    chat.onTooLong = (length) => {
      taken.push([length, text(chat.takeIncoming())]);
    };
  }, { maxFrameLength: 8 });
  assertEquals(taken, [[9, "abcdef"]]);
});

Deno.test("handleFrameTooLong() that throws: what was collected is dropped all the same", async () => {
  for (const asynchronous of [false, true]) {
    const { trace } = await converse(`${"x".repeat(30)}\nok\n`, (chat) => {
      chat.setTerminator("\n");
      chat.onError = () => {};
      chat.onTooLong = () => {
        const error = new Error("too long");
        if (asynchronous) return Promise.reject(error);
        throw error;
      };
    }, { maxFrameLength: 10, link: { readSize: 4 } });
    assertEquals(trace, [
      ...["too long 12", "error too long", "frame ok", "close eof"],
    ]);
  }
});

Deno.test("handleFrameTooLong() may set another terminator, for what comes next", async () => {
  const { trace } = await converse("xxxxxx;ok\n", (chat) => {
    chat.setTerminator("\n");
    chat.onTooLong = () => chat.setTerminator(";");
    chat.onFrame = () => chat.setTerminator("\n");
  }, { maxFrameLength: 3, link: { readSize: 4 } });
  assertEquals(trace, ["too long 4", "frame xx", "frame ok", "close eof"]);
});

Deno.test("maxFrameLength does not concern a number, which is its own limit", async () => {
  await always(
    `${"x".repeat(50)}rest`,
    script([50, 4]),
    [`frame ${"x".repeat(50)}`, "frame rest", "close eof"],
    { maxFrameLength: 10 },
  );
});

Deno.test("maxFrameLength is the most that is kept without a terminator, however it arrives", async () => {
  for (const terminator of [null, 0, ""]) {
    for (const size of SIZES) {
      const trace = await feed(
        inPieces("x".repeat(30), size),
        script([terminator]),
        { maxFrameLength: 10 },
      );
      assertEquals(trace.at(-1), "close limit", `by ${size}`);
    }
    await always("x".repeat(10), script([terminator]), [
      `incomplete ${"x".repeat(10)}`,
      "close eof",
    ], { maxFrameLength: 10 });
  }
});

Deno.test("maxFrameLength without a terminator is no business of an own collector, or of one who takes", async () => {
  for (const readSize of SIZES) {
    let got = 0;
    const { trace } = await converse("x".repeat(100), (chat) => {
      chat.collectIncomingData = ({ length }) => void (got += length);
    }, { maxFrameLength: 10, link: { readSize } });
    assertEquals([got, trace.at(-1)], [100, "close eof"]);
  }

  await using net = network();
  const { chat, peer } = await connected(net, { maxFrameLength: 10 });
  let taken = "";
  const done = (async () => {
    for (let i = 0; i < 10; i++) {
      await peer.write(bytes("12345678"));
      await net.sleep(1);
      taken += text(chat.takeIncoming());
    }
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals([taken.length, chat.trace], [80, ["close eof"]]);
});

Deno.test("maxFrameLength bounds what is kept of frames that nobody takes", async () => {
  const { trace } = await converse("ab\n".repeat(100), (chat) => {
    chat.setTerminator("\n");
    chat.foundTerminator = () => {};
  }, { maxFrameLength: 10, link: { readSize: 3 } });
  assertEquals(trace, ["too long 2", "close limit"]);
});

Deno.test("maxFrameLength bounds an own collector, too, where a sequence ends the frame", async () => {
  let got = 0;
  const { trace } = await converse("x".repeat(1_000), (chat) => {
    chat.setTerminator("\n");
    chat.collectIncomingData = ({ length }) => void (got += length);
  }, { maxFrameLength: 50, link: { readSize: 20 } });
  assertEquals([got, trace], [40, ["too long 60", "close limit"]]);
});

Deno.test("maxFrameLength is 65,536 at first, and can be changed at any time", async () => {
  const chat = new AsyncChat();
  assertEquals(chat.maxFrameLength, 65_536);
  assertEquals(new AsyncChat(null, { maxFrameLength: 7 }).maxFrameLength, 7);
  chat.maxFrameLength = Infinity;
  assertEquals(chat.maxFrameLength, Infinity);
  for (const wrong of [0, -1, 1.5, NaN]) {
    assertThrows(
      () => chat.maxFrameLength = wrong,
      RangeError,
      `Cannot set maxFrameLength: it must be a whole number above 0, or Infinity, got ${wrong}`,
    );
    assertThrows(
      () => new AsyncChat(null, { maxFrameLength: wrong }),
      RangeError,
    );
  }
  assertEquals(chat.maxFrameLength, Infinity);
  const { trace } = await converse("12345\n1234567\n", (chat) => {
    chat.setTerminator("\n");
    chat.onFrame = () => void (chat.maxFrameLength = 6);
  });
  assertEquals(trace, ["frame 12345", "too long 7", "close limit"]);
  const long = "x".repeat(65_536);
  const fits = await converse(`${long}\n`, script(["\n"]));
  assertEquals(fits.trace, [`frame ${long}`, "close eof"]);
});

Deno.test("A constructor that refuses an option leaves the connection alone", async () => {
  await using net = network();
  using listener = net.listen({ port: 9 });
  using _peer = await net.connect({ port: 9 });
  const conn = await listener.accept();
  for (const wrong of [{ maxFrameLength: 0 }, { highWaterMark: NaN }]) {
    assertThrows(
      () => new AsyncChat(conn, { map: net.map, ...wrong }),
      RangeError,
    );
  }
  assertEquals(net.map.size, 0);
  using chat = new AsyncChat(conn, { map: net.map });
  assertEquals(chat.connected, true);
});

Deno.test("A client that sends without end is kept within bounds", async () => {
  for (const terminator of ["\n", null]) {
    await using net = network();
    const { chat, peer } = await connected(net, { maxFrameLength: 1_000 });
    chat.setTerminator(terminator);
    let kept = 0;
    chat.onTooLong = () => {
      kept = chat.takeIncoming().length;
      chat.disconnect({ kind: "limit" });
    };
    let sent = 0;
    const done = (async () => {
      const data = new Uint8Array(300).fill(120);
      for (let i = 0; i < 1_000; i++) {
        sent += await peer.write(data);
        await net.sleep(1);
      }
    })().catch(() => {});
    await net.run();
    await done;
    assertEquals(chat.trace.at(-1), "close limit");
    assertLess(kept, 1_001);
    assertLess(sent, 3_000);
    close(peer);
  }
});

// The end.

Deno.test("handleIncompleteFrame() gets what was collected, a held-back prefix included, before the close", async () => {
  const cases: [Terminator, string, string[]][] = [
    ["\r\n", "a\r\nb\r", ["frame a", "incomplete b\r"]],
    ["\r\n", "\r", ["incomplete \r"]],
    ["\r\n.\r\n", "x\r\n.\r", ["incomplete x\r\n.\r"]],
    [5, "abc", ["incomplete abc"]],
    [null, "abc", ["incomplete abc"]],
    ["\r\n", "a\r\n", ["frame a"]],
    ["\r\n", "", []],
    [null, "", []],
    [5, "", []],
  ];
  for (const [terminator, whole, wanted] of cases) {
    const prepare = (chat: TracedChat) => {
      chat.setTerminator(terminator);
    };
    await always(whole, prepare, [...wanted, "close eof"]);
  }
});

Deno.test("handleIncompleteFrame() is not called for a frame that is skipped, or that was complete", async () => {
  const skipped = await converse("x".repeat(20), (chat) => {
    chat.setTerminator("\r\n");
    chat.onTooLong = () => {};
  }, { maxFrameLength: 5 });
  assertEquals(skipped.trace, ["too long 20", "close eof"]);
  const complete = await converse("a\n", (chat) => {
    chat.setTerminator("\n");
    // Somebody else takes it later.
    chat.foundTerminator = () => {};
  });
  assertEquals(complete.trace, ["close eof"]);
});

Deno.test("A frame that is skipped at the end is not collected either, nor what is held back", async () => {
  let got = "";
  const { trace } = await converse(`${"x".repeat(20)}\r`, (chat) => {
    chat.setTerminator("\r\n");
    chat.onTooLong = () => {};
    chat.collectIncomingData = (data) => {
      got += text(data);
    };
  }, { maxFrameLength: 5 });
  assertEquals([got, trace], ["", ["too long 20", "close eof"]]);
});

Deno.test("handleIncompleteFrame() that is pending while a reply leaves may answer all the same", async () => {
  const { trace, answer } = await converse("a\nb", (chat, net) => {
    chat.setTerminator("\n");
    chat.onFrame = () => chat.push("x".repeat(100_000));
    chat.onIncomplete = async () => {
      await net.sleep(60_000);
      chat.push("and more");
    };
  }, { link: { bandwidth: 1_000_000 }, highWaterMark: Infinity });
  assertEquals(trace, ["frame a", "incomplete b", "close eof"]);
  assertEquals([answer.length, answer.slice(-8)], [100_008, "and more"]);
});

Deno.test("handleIncompleteFrame() may be async, and may still answer", async () => {
  const { trace, answer } = await converse("a\nb", (chat, net) => {
    chat.setTerminator("\n");
    chat.onIncomplete = async (data) => {
      await net.sleep(10);
      chat.push(`not so ${data}`);
    };
  });
  assertEquals(trace, ["frame a", "incomplete b", "close eof"]);
  assertEquals(answer, "not so b");
});

Deno.test("handleIncompleteFrame() that fails does not keep the connection", async () => {
  for (const asynchronous of [false, true]) {
    const { trace, answer } = await converse("a\nb", (chat) => {
      chat.setTerminator("\n");
      chat.onError = () => {};
      chat.onFrame = () => chat.push("queued");
      chat.onIncomplete = () => {
        const error = new Error("no good");
        if (asynchronous) return Promise.reject(error);
        throw error;
      };
    });
    assertEquals(trace, [
      ...["frame a", "incomplete b", "error no good", "close eof"],
    ]);
    assertEquals(answer, "queued");
  }
});

Deno.test("collectIncomingData() that fails for a held-back prefix at the end does not keep the connection", async () => {
  const { trace } = await converse("a\r", (chat) => {
    chat.setTerminator("\r\n");
    chat.onError = () => {};
    chat.collectIncomingData = (data) => {
      if (text(data) === "\r") throw new Error("no good");
    };
  });
  assertEquals(trace.filter((what) => what.startsWith("error")), [
    "error no good",
  ]);
  assertEquals(trace.at(-1), "close eof");
});

Deno.test("handleIncompleteFrame() may suspend the channel, which ends when it is back", async () => {
  for (const [name, absent] of Object.entries(absences)) {
    for (const asynchronous of [false, true]) {
      const { trace } = await converse("a\nb", (chat, net) => {
        chat.setTerminator("\n");
        chat.onIncomplete = () => {
          chat.take();
          if (asynchronous) return net.sleep(5).then(() => absent(chat, net));
          absent(chat, net);
        };
      });
      assertEquals(trace, ["close eof"], name);
    }
  }
});

Deno.test("handleIncompleteFrame() may close", async () => {
  const { trace } = await converse("a\nb", (chat) => {
    chat.setTerminator("\n");
    chat.onIncomplete = () => chat.close();
  });
  assertEquals(trace, ["frame a", "incomplete b"]);
});

Deno.test("handleIncompleteFrame() is not called after a reset", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.setTerminator("\n");
  const done = (async () => {
    await peer.write(bytes("a\nb"));
    await net.sleep(1);
    peer.reset();
  })();
  await net.run();
  await done;
  assertEquals(chat.trace, ["frame a", "close reset"]);
});

Deno.test("The peer's half-close: every queued reply is sent, however large and however slow its reader", async () => {
  await using net = network({ link: { bandwidth: 1_000_000, window: 10_000 } });
  const { chat, peer } = await connected(net, { sendBufferSize: 50_000 });
  chat.setTerminator("\n");
  const reply = "x".repeat(400_000);
  chat.onFrame = (frame) => {
    chat.push(frame + reply);
    chat.pushWithProducer([bytes("made,"), bytes("too")]);
  };
  let got = "";
  const done = (async () => {
    await peer.write(bytes("1\n2\n3\n"));
    await peer.closeWrite();
    const buffer = new Uint8Array(50_000);
    for (;;) {
      const n = await peer.read(buffer);
      if (n === null) break;
      got += text(buffer.subarray(0, n));
      await net.sleep(7);
    }
    peer.close();
  })();
  await net.run();
  await done;
  assertEquals(
    got,
    ["1", "2", "3"].map((n) => `${n}${reply}made,too`).join(""),
  );
  assertEquals(chat.trace.at(-1), "close eof");
  assertEquals(chat.reasons[0], { kind: "eof", bytesUnsent: 0 });
  assertEquals(net.leaks(), []);
});

Deno.test("The peer's half-close: what it waits for does not spin", async () => {
  await using net = network({ link: { window: 1_000 } });
  const { chat, peer } = await connected(net);
  chat.setTerminator("\n");
  chat.onFrame = () => chat.push(new Uint8Array(600_000));
  await peer.write(bytes("1\n"));
  await peer.closeWrite();
  // Nobody reads.
  await net.run({ until: 60_000 });
  assertLess(net.map.counters.passes, 20);
  assertEquals(chat.trace, ["frame 1"]);
  peer.reset();
  await net.run();
  assertEquals(chat.trace, ["frame 1", "close reset"]);
  const { bytesUnsent } = chat.reasons[0]!;
  assertEquals(bytesUnsent, 600_000 - chat.bytesWritten);
});

// discardBuffers().

Deno.test("discardBuffers() in foundTerminator() drops what was received behind the frame, not the terminator", async () => {
  for (const asynchronous of [false, true]) {
    const world = new World();
    const { chat, conn } = onFake(world);
    chat.setTerminator("\r\n");
    chat.onFrame = async (frame) => {
      if (asynchronous) await null;
      if (frame === "a") chat.discardBuffers();
    };
    conn.deliver("a\r\nb\r\nc\r");
    await world.serve();
    await settle();
    conn.deliver("\nd\r\n");
    conn.end();
    await world.served;
    assertEquals(chat.trace, ["frame a", "frame \nd", "close eof"]);
  }
});

Deno.test("discardBuffers() from elsewhere drops the frame so far and what is held back", async () => {
  const world = new World();
  const { chat, conn } = onFake(world);
  chat.setTerminator("\r\n");
  conn.deliver("abc\r");
  await world.serve();
  chat.discardBuffers();
  assertEquals(chat.takeIncoming().length, 0);
  assertEquals(chat.getTerminator(), "\r\n");
  conn.deliver("\ndef\r\n");
  conn.end();
  await world.served;
  assertEquals(chat.trace, ["frame \ndef", "close eof"]);
});

Deno.test("discardBuffers() in collectIncomingData() drops the rest", async () => {
  const trace = await feed(["ab\ncd\n", "ef\n"], (chat) => {
    const collect = chat.collectIncomingData;
    let calls = 0;
    chat.setTerminator("\n");
    chat.collectIncomingData = (data) => {
      collect.call(chat, data);
      if (++calls === 1) chat.discardBuffers();
    };
  });
  assertEquals(trace.slice(-2), ["frame ef", "close eof"]);
  assertEquals(trace.filter((what) => /ab|cd/.test(what)), []);
});

Deno.test("discardBuffers() while a frame is skipped: what comes next is a new frame", async () => {
  const world = new World();
  const { chat, conn } = onFake(world, { maxFrameLength: 3 });
  chat.setTerminator("\n");
  chat.onTooLong = () => {};
  conn.deliver("xxxxx");
  await world.serve();
  chat.discardBuffers();
  conn.deliver("ok\n");
  conn.end();
  await world.served;
  assertEquals(chat.trace, ["too long 5", "frame ok", "close eof"]);
});

Deno.test("discardBuffers() in handleError() drops what an error in foundTerminator() left", async () => {
  for (const asynchronous of [false, true]) {
    const { trace } = await converse("a\nb\nc", (chat) => {
      chat.setTerminator("\n");
      chat.onError = () => chat.discardBuffers();
      chat.onFrame = (frame) => {
        if (asynchronous) return Promise.reject(new Error(frame));
        throw new Error(frame);
      };
    });
    assertEquals(trace, ["frame a", "error a", "close eof"]);
  }
});

Deno.test("discardBuffers() drops what waits in a suspended channel", async () => {
  const { trace } = await converse("a\nb\nc", (chat, net) => {
    chat.setTerminator("\n");
    chat.onFrame = () => {
      chat.delChannel();
      net.sleep(5).then(() => {
        chat.discardBuffers();
        chat.addChannel();
      });
    };
  });
  assertEquals(trace, ["frame a", "close eof"]);
});

// No spin, no leaks.

Deno.test("AsyncChat sleeps while nothing happens, in the middle of a frame", async () => {
  await using net = network();
  const { chat, peer } = await connected(net);
  chat.setTerminator("\r\n");
  await peer.write(bytes("hello\r"));
  await net.run({ until: 3_600_000 });
  assertLess(net.map.counters.passes, 10);
  peer.close();
  await net.run();
  assertEquals(chat.trace, ["incomplete hello\r", "close eof"]);
  assertEquals(net.leaks(), []);
});

Deno.test("A read of thousands of frames costs one read event", async () => {
  await using net = network({ link: { window: 1_000_000 } });
  const { chat, peer } = await connected(net);
  chat.setTerminator("\n");
  let frames = 0;
  chat.foundTerminator = () => {
    frames += chat.takeIncoming().length;
  };
  await peer.write(bytes("x\n".repeat(100_000)));
  peer.close();
  await net.run();
  assertEquals(frames, 100_000);
  // The receive buffer grows with what is there.
  assertLess(net.map.counters.reads, 15);
});

Deno.test("handleRead() of a suspended channel, called by hand, leaves everything where it is", async () => {
  await using net = new SimNet({ seed: 1 });
  class Chat extends AsyncChat {
    readonly frames: string[] = [];
    override foundTerminator() {
      this.frames.push(text(this.takeIncoming()));
      if (this.frames.length === 1) this.delChannel();
    }
  }
  let chat: Chat | undefined;
  class Server extends Dispatcher {
    override handleAccepted(conn: Deno.Conn) {
      chat = new Chat(conn, { map: net.map });
      chat.setTerminator("\n");
    }
  }
  const server = new Server(null, { map: net.map });
  server.createSocket();
  server.bind({ port: 7 });
  server.listen();
  const conn = await net.connect({ port: 7 });
  await conn.write(bytes("a\nb\n"));
  await net.run();
  chat!.handleRead();
  assertEquals(chat!.frames, ["a"]);
  chat!.addChannel();
  await net.run();
  assertEquals(chat!.frames, ["a", "b"]);
});
