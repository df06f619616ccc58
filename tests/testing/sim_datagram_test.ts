import { assert, assertEquals, assertThrows } from "@std/assert";
import { type LinkOptions, SimNet } from "../../testing.ts";
import { bytes, text } from "../net.ts";
import { receiveAll } from "./sim.ts";
import { called, outcome, watch } from "./worlds.ts";

const LOOPBACK = "127.0.0.1";
const A = { hostname: LOOPBACK, port: 1_000 };
const B = { hostname: LOOPBACK, port: 2_000 };
const TO_B = { transport: "udp", ...B } as const;
const INTERRUPTED = "Interrupted EINTR: operation canceled";

/** Sends the letters of a text, one datagram each: what arrived, and when. */
async function letters(
  data: string,
  link: LinkOptions,
  seed = 1,
): Promise<{ data: string; times: number[] }> {
  await using net = new SimNet({ seed, link });
  using sender = net.listenDatagram(A);
  const receiver = net.listenDatagram(B);
  for (const letter of data) await sender.send(bytes(letter), TO_B);
  const seen = await receiveAll(net, receiver);
  return {
    data: seen.map(([, letter]) => letter).join(""),
    times: seen.map(([time]) => time),
  };
}

const ALPHABET = "abcdefghijklmnopqrstuvwxyz";
const sorted = (data: string) => [...data].sort().join("");

Deno.test("SimDatagram sends datagrams, which arrive whole, with their sender", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  using b = net.listenDatagram(B);
  const data = bytes("hello");
  assertEquals(await a.send(data, TO_B), 5);
  data.fill(0);
  await net.sleep(1);
  assertEquals(await a.send(bytes(""), TO_B), 0);
  await net.sleep(1);
  const [first, from] = await b.receive();
  assertEquals([text(first), from], ["hello", { transport: "udp", ...A }]);
  const [second] = await b.receive();
  assertEquals(second.length, 0);
});

Deno.test("SimDatagram.receive() waits for a datagram", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  using b = net.listenDatagram(B);
  const received = watch(b.receive().then(([data]) => text(data)));
  await net.sleep(1_000);
  assertEquals(received.now, "pending");
  await a.send(bytes("hello"), TO_B);
  assertEquals(await received.end, "hello");
});

Deno.test("SimDatagram.receive() cuts off what its buffer cannot hold", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  using b = net.listenDatagram(B);
  const buffer = new Uint8Array(3);
  await a.send(bytes("hello"), TO_B);
  const [cut] = await b.receive(buffer);
  assertEquals([text(cut), cut.buffer === buffer.buffer], ["hel", true]);
  await a.send(bytes("x"), TO_B);
  const [next] = await b.receive(buffer);
  assertEquals([text(next), next.buffer === buffer.buffer], ["x", true]);
});

Deno.test("SimDatagram.send() takes at most 65,507 bytes", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  using b = net.listenDatagram(B);
  assertEquals(await a.send(new Uint8Array(65_507), TO_B), 65_507);
  const [largest] = await b.receive();
  assertEquals(largest.length, 65_507);
  assertEquals(
    await outcome(a.send(new Uint8Array(65_508), TO_B)),
    "Error EMSGSIZE: Message too long (os error 90)",
  );
});

Deno.test("SimDatagram.send() to nobody is no error", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  assertEquals(await a.send(bytes("hello"), TO_B), 5);
  await net.sleep(1);
  using b = net.listenDatagram(B);
  const received = watch(b.receive());
  await net.sleep(1);
  assertEquals(received.now, "pending", "it was gone before");
});

Deno.test("SimDatagram keeps what fits into its receive buffer and drops the rest", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  const b = net.listenDatagram(B);
  for (let i = 0; i < 10; i++) await a.send(new Uint8Array(50_000), TO_B);
  await net.sleep(1);
  await a.send(new Uint8Array(100), TO_B);
  const seen = await receiveAll(net, b);
  assertEquals(seen.map(([, { length }]) => length), [
    50_000,
    50_000,
    50_000,
    50_000,
    100,
  ]);
});

Deno.test("SimDatagram has room again when something was received", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  using b = net.listenDatagram(B);
  const buffer = new Uint8Array(10);
  for (let i = 0; i < 10; i++) {
    await a.send(new Uint8Array(60_000), TO_B);
    await net.sleep(1);
    await b.receive(buffer);
  }
});

Deno.test("datagrams on a perfect link arrive at once, in order", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { data, times } = await letters(ALPHABET, {}, seed);
    assertEquals(data, ALPHABET, `seed ${seed}`);
    assertEquals(new Set(times), new Set([0]));
  }
});

Deno.test("latency of datagrams", async () => {
  const fixed = await letters(ALPHABET, { latency: 50 });
  assertEquals(new Set(fixed.times), new Set([50]));
  const drawn = await letters(ALPHABET, { latency: [10, 90] });
  assertEquals(sorted(drawn.data), ALPHABET);
  assert(drawn.times.every((time) => time >= 10 && time <= 90));
  assert(drawn.data !== ALPHABET, "datagrams overtake each other");
});

Deno.test("loss is the probability that a datagram never arrives", async () => {
  assertEquals((await letters(ALPHABET, { loss: 1 })).data, "");
  const { data } = await letters("x".repeat(1_000), { loss: 0.3 });
  assert(data.length > 640 && data.length < 760, `${data.length} of 1,000`);
});

Deno.test("loss takes a datagram's duplicate along", async () => {
  const { data } = await letters(ALPHABET, { loss: 1, duplication: 1 });
  assertEquals(data, "");
});

Deno.test("duplication is the probability that a datagram arrives twice", async () => {
  const { data } = await letters("abc", { duplication: 1 });
  assertEquals(sorted(data), "aabbcc");
  const some = await letters("x".repeat(1_000), { duplication: 0.3 });
  const twice = some.data.length - 1_000;
  assert(twice > 240 && twice < 360, `${twice} of 1,000`);
});

Deno.test("reordering lets datagrams be overtaken", async () => {
  const { data, times } = await letters(ALPHABET, { reordering: 0.5 });
  assertEquals(sorted(data), ALPHABET);
  assert(data !== ALPHABET);
  const late = times.filter((time) => time > 0).length;
  assert(late > 3 && late < 24, `${late} of 26 were late`);
  assert(times.every((time) => time <= 10));
});

Deno.test("reordering takes the latency, and up to 10 ms, once more", async () => {
  const { times } = await letters(ALPHABET, { latency: 50, reordering: 1 });
  assert(times.every((time) => time >= 100 && time <= 110));
  assert(new Set(times).size > 3);
});

Deno.test("SimDatagram.close() interrupts what waits; later it is closed", async () => {
  await using net = new SimNet({ seed: 1 });
  using b = net.listenDatagram(B);
  const a = net.listenDatagram(A);
  const pending = outcome(a.receive());
  await net.sleep(1);
  a.close();
  assertEquals(await pending, INTERRUPTED);
  // As measured on Deno's own.
  const closed = "BadResource: Socket has been closed";
  assertEquals(await outcome(a.receive()), closed);
  assertEquals(await outcome(a.send(bytes("hello"), TO_B)), closed);
  assertEquals(called(() => a.close()), "BadResource: Bad resource ID");
  a[Symbol.dispose]();
  assertEquals(b.addr, TO_B);
});

Deno.test("SimDatagram yields datagrams until it is closed", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram(A);
  const b = net.listenDatagram(B);
  for (const letter of "abc") {
    await a.send(bytes(letter), TO_B);
    await net.sleep(1);
  }
  const seen = await receiveAll(net, b);
  assertEquals(seen.map(([, letter]) => letter).join(""), "abc");
});

Deno.test("listenDatagram() listens everywhere unless told otherwise", async () => {
  await using net = new SimNet({ seed: 1 });
  using b = net.listenDatagram({ port: B.port });
  assertEquals(b.addr, { transport: "udp", hostname: "0.0.0.0", port: B.port });
  using a = net.listenDatagram(A);
  const hosts = [LOOPBACK, "10.0.0.1"];
  for (const hostname of hosts) {
    await a.send(bytes(hostname), { ...TO_B, hostname });
    const [data] = await b.receive();
    assertEquals(text(data), hostname);
  }
  await b.send(bytes("hello"), { transport: "udp", ...A });
  const [, from] = await a.receive();
  assertEquals(from, TO_B, "as seen by the receiver");
});

Deno.test("listenDatagram() chooses a port, and knows localhost", async () => {
  await using net = new SimNet({ seed: 1 });
  using a = net.listenDatagram({ hostname: "localhost", port: 0 });
  using b = net.listenDatagram({ hostname: "localhost", port: 0 });
  const ports = [a, b].map(({ addr }) => {
    const { hostname, port } = addr as Deno.NetAddr;
    assertEquals(hostname, LOOPBACK);
    return port;
  });
  assert(ports[0] !== ports[1] && !ports.includes(0));
});

Deno.test("listenDatagram() refuses an address that is in use", async () => {
  await using net = new SimNet({ seed: 1 });
  const any = { ...A, hostname: "0.0.0.0" };
  for (const [first, second] of [[A, A], [any, A], [A, any]] as const) {
    using _ = net.listenDatagram(first);
    assertThrows(() => net.listenDatagram(second), Deno.errors.AddrInUse);
  }
  net.listenDatagram(A).close();
  using _other = net.listenDatagram({ ...A, hostname: "10.0.0.1" });
  // Another transport has ports of its own.
  using _stream = net.listen(A);
});
