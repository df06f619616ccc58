import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  END,
  Outbox,
  type ProducerLike,
  SimpleProducer,
  type Source,
  sourceOf,
  toBytes,
} from "../producers.ts";
import { bytes, text } from "./fakes.ts";

/** Everything a source makes, piece by piece. */
async function drain(source: Source): Promise<string[]> {
  const pieces: string[] = [];
  for (;;) {
    const piece = await source.pull();
    if (piece === END) return pieces;
    pieces.push(text(toBytes(piece, "test")));
  }
}

type Asked = Exclude<ProducerLike, Uint8Array | string>;

/** Makes pieces by `more()`, then empty ones. */
function byMore(pieces: readonly (Uint8Array | string)[]) {
  const left = [...pieces];
  return { more: () => left.shift() ?? "" };
}

Deno.test("SimpleProducer.more() hands out pieces of the size, a shorter one, then empty ones", () => {
  for (const [length, size] of [[20, 8], [16, 8], [1, 8], [0, 8], [5, 1]]) {
    const data = new Uint8Array(length!).map((_, i) => i);
    const producer = new SimpleProducer(data, size);
    const got: number[] = [];
    for (let rest = length!; rest > 0; rest -= size!) {
      const piece = producer.more();
      assertEquals(piece.length, Math.min(rest, size!));
      got.push(...piece);
    }
    assertEquals(got, [...data]);
    assertEquals([producer.more().length, producer.more().length], [0, 0]);
  }
});

Deno.test("SimpleProducer has pieces of 512 bytes, which are not copied", () => {
  const data = new Uint8Array(1_000);
  const producer = new SimpleProducer(data);
  const piece = producer.more();
  assertEquals([piece.length, piece.buffer === data.buffer], [512, true]);
  assertEquals(producer.more().length, 488);
});

Deno.test("SimpleProducer refuses a size that is no whole number above 0", () => {
  for (const size of [0, -1, 1.5, NaN, Infinity]) {
    assertThrows(
      () => new SimpleProducer(new Uint8Array(1), size),
      RangeError,
      `Cannot make producer: bufferSize must be a whole number above 0, got ${size}`,
    );
  }
});

Deno.test("toBytes() takes bytes as they are, text as UTF-8, and nothing else", () => {
  const data = bytes("x");
  assertEquals(toBytes(data, "push"), data);
  assertEquals(toBytes("é", "push"), new Uint8Array([0xc3, 0xa9]));
  for (const wrong of [undefined, null, 1, [1], {}, new ArrayBuffer(1)]) {
    assertThrows(
      () => toBytes(wrong, "push"),
      TypeError,
      `Cannot push: data must be a Uint8Array or a string, got ${
        wrong === null ? "null" : typeof wrong
      }`,
    );
  }
});

Deno.test("sourceOf() makes the same pieces of every kind of producer", async () => {
  function* generate() {
    yield "one";
    yield bytes("two");
  }
  async function* generateLater() {
    yield "one";
    await Promise.resolve();
    yield bytes("two");
  }
  const kinds: Record<string, Asked> = {
    "more()": byMore(["one", bytes("two")]),
    "an async more()": {
      more: ((producer) => () => Promise.resolve(producer.more()))(
        byMore(["one", bytes("two")]),
      ),
    },
    "an array": ["one", bytes("two")],
    "a Set": new Set(["one", "two"]),
    "a generator": generate(),
    "an async generator": generateLater(),
    "an iterable": { [Symbol.iterator]: generate },
    "an async iterable": { [Symbol.asyncIterator]: generateLater },
    "a stream": ReadableStream.from([bytes("one"), bytes("two")]),
    "a stream of bytes": new Blob(["one", "two"]).stream(),
    "a SimpleProducer": new SimpleProducer(bytes("onetwo"), 3),
  };
  for (const [name, producer] of Object.entries(kinds)) {
    const pieces = await drain(sourceOf(producer));
    assertEquals(pieces.join(""), "onetwo", name);
  }
});

Deno.test("sourceOf() asks more() before it iterates", async () => {
  const producer = {
    ...byMore(["asked"]),
    [Symbol.iterator]: () => ["iterated"].values(),
  };
  assertEquals(await drain(sourceOf(producer)), ["asked"]);
});

Deno.test("sourceOf() calls more() on its object", async () => {
  class Countdown {
    left = 3;
    more() {
      return this.left > 0 ? `${this.left--}` : "";
    }
  }
  assertEquals(await drain(sourceOf(new Countdown())), ["3", "2", "1"]);
});

Deno.test("An empty piece is the end of more(), but not of what is iterated", async () => {
  assertEquals(await drain(sourceOf(byMore(["a", "", "b"]))), ["a"]);
  assertEquals(await drain(sourceOf(["a", "", "b"])), ["a", "", "b"]);
});

Deno.test("sourceOf() makes nothing before it is asked", () => {
  let made = 0;
  const source = sourceOf({ more: () => `${++made}` });
  assertEquals(made, 0);
  source.pull();
  assertEquals(made, 1);
});

Deno.test("sourceOf() refuses what is no producer", () => {
  for (
    const wrong of [undefined, null, 5, true, {}, { more: "text" }, () => ""]
  ) {
    assertThrows(
      () => sourceOf(wrong as unknown as Asked),
      TypeError,
      "has no more() and is not iterable",
    );
  }
});

Deno.test("Source.pull() gives what the producer makes, whatever it is", async () => {
  for (const garbage of [5, null, undefined, {}, [1]]) {
    const piece = garbage as unknown as string;
    const producers = [
      { more: () => piece },
      { more: () => Promise.resolve(piece) },
      [piece],
      (async function* () {
        yield piece;
      })(),
      new ReadableStream({ start: (controller) => controller.enqueue(piece) }),
    ] as Asked[];
    for (const producer of producers) {
      assertEquals(await sourceOf(producer).pull(), garbage);
    }
  }
});

Deno.test("Source.pull() fails as the producer does", async () => {
  const fail = () => {
    throw new Error("no more");
  };
  assertThrows(() => sourceOf({ more: fail }).pull(), Error, "no more");
  const iterable = { [Symbol.iterator]: () => ({ next: fail }) };
  assertThrows(() => sourceOf(iterable).pull(), Error, "no more");
  const later: Asked[] = [
    { more: () => Promise.reject(new Error("no more")) },
    // deno-lint-ignore require-yield
    (async function* () {
      await Promise.resolve();
      fail();
    })(),
    new ReadableStream({ pull: fail }),
  ];
  for (const producer of later) {
    await assertRejects(
      async () => await sourceOf(producer).pull(),
      Error,
      "no more",
    );
  }
});

Deno.test("Source.end() is return() or cancel()", async () => {
  const ended: string[] = [];
  function* generate() {
    try {
      yield "a";
      yield "b";
    } finally {
      ended.push("generator");
    }
  }
  async function* generateLater() {
    try {
      yield "a";
      yield "b";
    } finally {
      await Promise.resolve();
      ended.push("async generator");
    }
  }
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(bytes("a")),
    cancel: () => void ended.push("stream"),
  });
  for (const producer of [generate(), generateLater(), stream]) {
    const source = sourceOf(producer);
    await source.pull();
    await source.end();
  }
  assertEquals(ended, ["generator", "async generator", "stream"]);
  // Where there is nothing to call, nothing happens.
  await sourceOf(byMore(["a"])).end();
  await sourceOf(["a"]).end();
});

Deno.test("Outbox hands out in order, and counts the bytes that wait", () => {
  const outbox = new Outbox();
  assertEquals([outbox.empty, outbox.length, outbox.head], [
    ...[true, 0, undefined],
  ]);
  const source = sourceOf(["made"]);
  outbox.push(bytes("abc"));
  outbox.push(source);
  outbox.push(bytes("de"));
  assertEquals([outbox.empty, outbox.length], [false, 5]);
  outbox.consume(1);
  assertEquals([text(outbox.head as Uint8Array), outbox.length], ["bc", 4]);
  outbox.consume(2);
  assertEquals([outbox.head, outbox.length], [source, 2]);
  outbox.putBefore(bytes("made"));
  assertEquals([text(outbox.head as Uint8Array), outbox.length], ["made", 6]);
  outbox.consume();
  outbox.consume();
  assertEquals([text(outbox.head as Uint8Array), outbox.length], ["de", 2]);
  outbox.consume(2);
  assertEquals([outbox.empty, outbox.length], [true, 0]);
});

Deno.test("Outbox.clear() drops everything and gives back the sources that are left", () => {
  const outbox = new Outbox();
  const [done, begun, waiting] = [["a"], ["b"], ["c"]].map(sourceOf);
  outbox.push(done!);
  outbox.consume();
  outbox.push(begun!);
  outbox.putBefore(bytes("b"));
  outbox.push(bytes("x"));
  outbox.push(waiting!);
  assertEquals(outbox.clear(), [begun!, waiting!]);
  assertEquals([outbox.empty, outbox.length], [true, 0]);
  assertEquals(outbox.clear(), []);
});

Deno.test("Outbox hands out in order over thousands of items, also while more come", () => {
  const outbox = new Outbox();
  const long = (n: number) => {
    const piece = new Uint8Array(600); // too long to lie beside others
    new DataView(piece.buffer).setUint32(0, n);
    return piece;
  };
  let pushed = 0;
  const take = (n: number) => {
    for (let i = 0; i < n; i++) {
      const head = outbox.head as Uint8Array;
      const number = new DataView(head.buffer, head.byteOffset).getUint32(0);
      assertEquals(number, taken++);
      outbox.consume();
    }
  };
  let taken = 0;
  while (pushed < 5_000) outbox.push(long(pushed++));
  take(3_000);
  while (pushed < 6_000) outbox.push(long(pushed++));
  assertEquals(outbox.length, 3_000 * 600);
  take(3_000);
  assertEquals([outbox.empty, outbox.length, outbox.head], [
    true,
    0,
    undefined,
  ]);
});

Deno.test("Outbox puts short pieces side by side, whatever was consumed of them", () => {
  const outbox = new Outbox();
  let sent = "";
  let all = "";
  for (let i = 0; i < 3_000; i++) {
    const piece = `${i};`;
    all += piece;
    outbox.push(bytes(piece));
    if (i % 7 !== 0) continue;
    const head = outbox.head as Uint8Array;
    sent += text(head.subarray(0, 5));
    outbox.consume(Math.min(5, head.length));
  }
  let items = 0;
  while (!outbox.empty) {
    items++;
    sent += text(outbox.head as Uint8Array);
    outbox.consume();
  }
  assertEquals(sent, all);
  assertEquals(items < 10, true);
});
