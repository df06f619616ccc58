import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type Fault, type LinkOptions, SimNet } from "../../testing.ts";
import { bytes, noise, readToEnd, text } from "../net.ts";
import { arrivals, sendAll, simLine, simPair } from "./sim.ts";
import { outcome, watch } from "./worlds.ts";

const HELLO = bytes("hello");
const RESET =
  "ConnectionReset ECONNRESET: Connection reset by peer (os error 104)";
const BROKEN_PIPE = "BrokenPipe EPIPE: Broken pipe (os error 32)";
const EIO = "Error EIO: Input/output error (os error 5)";

/** Sends a text and the end of file: the pieces as they are read. */
async function pieces(
  data: string,
  link: LinkOptions,
  seed = 1,
): Promise<string[]> {
  await using line = await simLine(link, seed);
  const arrived = arrivals(line.net, line.server);
  await sendAll(line.client, data);
  line.client.close();
  return (await arrived).map(([, piece]) => piece);
}

/** As {@linkcode pieces}, with the time after the connection was there. */
async function times(
  data: string,
  link: LinkOptions,
): Promise<[time: number, length: number][]> {
  await using line = await simLine(link);
  const start = line.net.now;
  const arrived = arrivals(line.net, line.server);
  await sendAll(line.client, data);
  line.client.close();
  return (await arrived).map(([time, piece]) => [time - start, piece.length]);
}

// How it travels.

Deno.test("SimConn on a perfect link takes no time and keeps data together", async () => {
  assertEquals(await times("hello", {}), [[0, 5], [0, 0]]);
});

Deno.test("latency is how long data and the end of file are under way", async () => {
  assertEquals(await times("hello", { latency: 50 }), [[50, 5], [50, 0]]);
});

Deno.test("latency differs, and the order of the data is kept", async () => {
  const data = "the quick brown fox jumps over the lazy dog";
  let waits = 0;
  for (let seed = 1; seed <= 50; seed++) {
    await using line = await simLine(
      { latency: [0, 100], segmentSize: [1, 5] },
      seed,
    );
    const start = line.net.now;
    const arrived = arrivals(line.net, line.server);
    await sendAll(line.client, data);
    line.client.close();
    const seen = await arrived;
    assertEquals(seen.map(([, piece]) => piece).join(""), data);
    for (const [time] of seen) assert(time - start <= 100);
    waits += new Set(seen.map(([time]) => time)).size - 1;
  }
  assert(waits > 50, "hardly anything arrived apart");
});

Deno.test("latency of a segment holds up those behind it", async () => {
  let sum = 0;
  for (let seed = 1; seed <= 100; seed++) {
    await using line = await simLine(
      { latency: [0, 100], segmentSize: 1 },
      seed,
    );
    const start = line.net.now;
    await sendAll(line.client, "x".repeat(50));
    await line.server.read(new Uint8Array(1));
    sum += line.net.now - start;
  }
  // That of the first one is drawn, and none of the others can come before it.
  const mean = sum / 100;
  assert(mean > 35 && mean < 65, `${mean}`);
});

Deno.test("bandwidth is bytes per second, and segments arrive one after the other", async () => {
  const link = { bandwidth: 1_000, segmentSize: 100 };
  const expected = [[100, 100], [200, 100], [250, 50], [250, 0]];
  assertEquals(await times("x".repeat(250), link), expected);
  assertEquals(
    await times("x".repeat(250), { ...link, latency: 30 }),
    expected.map(([time, length]) => [time! + 30, length]),
  );
});

Deno.test("bandwidth is that of one way of one connection", async () => {
  await using net = new SimNet({ seed: 1, link: { bandwidth: 1_000 } });
  const lines = [await simPair(net), await simPair(net)];
  const ends = lines.flatMap(([client, server]) => [client, server]);
  const arrived = ends.map((end) => arrivals(net, end));
  for (const end of ends) {
    await end.write(new Uint8Array(100));
    await end.closeWrite();
  }
  for (const seen of await Promise.all(arrived)) {
    assertEquals(seen.map(([time, { length }]) => [time, length]), [
      [100, 100],
      [100, 0],
    ]);
  }
});

Deno.test("bandwidth that is not used is lost", async () => {
  await using line = await simLine({ bandwidth: 1_000 });
  const arrived = arrivals(line.net, line.server);
  await line.client.write(new Uint8Array(100));
  await line.net.sleep(1_000);
  await line.client.write(new Uint8Array(100));
  line.client.close();
  assertEquals((await arrived).map(([time]) => time), [100, 1_100, 1_100]);
});

Deno.test("segmentSize is how many bytes travel together", async () => {
  const link = { bandwidth: 1_000 };
  const one = await pieces("hello", { ...link, segmentSize: 1 });
  assertEquals(one, ["h", "e", "l", "l", "o", ""]);
  const sizes = new Set<number>();
  const data = "x".repeat(300);
  const some = await pieces(data, { ...link, segmentSize: [2, 4] });
  for (const piece of some.slice(0, -2)) sizes.add(piece.length);
  assertEquals([...sizes].sort(), [2, 3, 4]);
});

Deno.test("readSize is the most that one read gets", async () => {
  const one = await pieces("hello", { readSize: 1 });
  assertEquals(one, ["h", "e", "l", "l", "o", ""]);
  const sizes = new Set<number>();
  const some = await pieces("x".repeat(300), { readSize: [1, 3] });
  for (const piece of some.slice(0, -2)) sizes.add(piece.length);
  assertEquals([...sizes].sort(), [1, 2, 3]);
});

Deno.test("writeSize is the most that one write takes", async () => {
  await using one = await simLine({ writeSize: 3 });
  assertEquals(await one.client.write(HELLO), 3);
  assertEquals(await one.client.write(HELLO.subarray(3)), 2);
  await using some = await simLine({ writeSize: [1, 4] });
  const taken = new Set<number>();
  for (let i = 0; i < 50; i++) taken.add(await some.client.write(HELLO));
  assertEquals([...taken].sort(), [1, 2, 3, 4]);
});

Deno.test("window is how much can be under way or unread, each way", async () => {
  await using line = await simLine({ window: 10, latency: 100 });
  const { net, client, server } = line;
  const data = new Uint8Array(25);
  assertEquals(await client.write(data), 10);
  const waiting = watch(client.write(data));
  assertEquals(await server.write(data), 10);
  await net.sleep(1_000);
  assertEquals(waiting.now, "pending", "unread");
  assertEquals(await server.read(new Uint8Array(4)), 4);
  assertEquals(await waiting.end, "4");
  const next = watch(client.write(data));
  assertEquals(await server.read(data), 6);
  assertEquals(await next.end, "6");
  const last = watch(client.write(data));
  await net.sleep(50);
  assertEquals(last.now, "pending", "under way");
});

Deno.test("window lets everything through whatever its size", async () => {
  const data = noise(10_000);
  for (const [seed, window] of [7, 100, 4_096, Infinity].entries()) {
    await using line = await simLine({
      window,
      latency: [0, 3],
      readSize: [1, 5_000],
      writeSize: [1, 5_000],
    }, seed);
    const received = readToEnd(line.server);
    for (let rest = data; rest.length > 0;) {
      rest = rest.subarray(await line.client.write(rest));
    }
    line.client.close();
    assertEquals(await received, data);
  }
});

// Faults.

/** A line with one fault. */
function faulty(fault: Fault, link: LinkOptions = {}, seed = 1) {
  return simLine({ ...link, faults: [fault] }, seed);
}

function readText(conn: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(100);
  return outcome(
    conn.read(buffer).then((count) =>
      count === null ? null : text(buffer.subarray(0, count))
    ),
  );
}

Deno.test("reset breaks a connection, for both sides, after so many bytes", async () => {
  for (const at of [1, 3, 5]) {
    await using line = await faulty({ on: "toServer", what: "reset", at });
    const { net, client, server } = line;
    assertEquals(await client.write(HELLO), 5);
    await net.sleep(1);
    assertEquals([client.broken, server.broken], [true, true]);
    assertEquals(await readText(server), "hello".slice(0, at));
    for (const end of [client, server]) {
      assertEquals(await readText(end), RESET);
      assertEquals(await readText(end), "null");
      assertEquals(await outcome(end.write(HELLO)), BROKEN_PIPE);
    }
  }
});

Deno.test("reset without at breaks a connection as soon as it is there", async () => {
  await using line = await faulty({ on: "toClient", what: "reset" });
  const { net, client, server } = line;
  await net.sleep(1);
  assertEquals([client.broken, server.broken], [true, true]);
  assertEquals(await readText(client), RESET);
  assertEquals(await outcome(server.write(HELLO)), RESET);
});

Deno.test("reset concerns the direction it is for", async () => {
  await using line = await faulty({ on: "toClient", what: "reset", at: 2 });
  const { net, client, server } = line;
  await client.write(HELLO);
  await net.sleep(1);
  assertEquals(await readText(server), "hello");
  await server.write(HELLO);
  await net.sleep(1);
  assertEquals(await readText(client), "he");
  assertEquals(await readText(client), RESET);
});

Deno.test("reset ends operations that wait", async () => {
  await using line = await faulty(
    { on: "toServer", what: "reset", at: 20 },
    { window: 10 },
  );
  const { net, client, server } = line;
  await client.write(new Uint8Array(10));
  const writing = watch(client.write(new Uint8Array(20)));
  const reading = watch(client.read(new Uint8Array(1)));
  await net.sleep(1);
  await server.read(new Uint8Array(10));
  assertEquals(await writing.end, "10", "up to the fault");
  assertEquals(await reading.end, RESET);
});

Deno.test("end is an end of file after so many bytes, and the rest never arrives", async () => {
  for (const at of [0, 3]) {
    await using line = await faulty(
      { on: "toServer", what: "end", at },
      { window: 100 },
    );
    const { net, client, server } = line;
    const received = arrivals(net, server);
    // More than the window: nobody holds it up.
    await sendAll(client, "hello".repeat(100));
    assertEquals(
      (await received).map(([, piece]) => piece).join(""),
      "hello".slice(0, at),
    );
    await server.write(HELLO);
    assertEquals(await readText(client), "hello", "the other way goes on");
    assertEquals([client.broken, server.broken], [false, false]);
  }
});

Deno.test("stall holds data and the end of file up for a time", async () => {
  await using line = await faulty(
    { on: "toServer", what: "stall", at: 3, for: 200 },
  );
  const { net, client, server } = line;
  const toServer = arrivals(net, server);
  await client.write(HELLO);
  await client.closeWrite();
  await server.write(HELLO);
  assertEquals(await readText(client), "hello");
  assertEquals(net.now, 0, "the other way goes on");
  assertEquals(await toServer, [[0, "hel"], [200, "lo"], [200, ""]]);
});

Deno.test("stall begins when its byte comes, and lasts as long as is drawn", async () => {
  const ends = new Set<number>();
  for (let seed = 1; seed <= 30; seed++) {
    await using line = await faulty(
      { on: "toServer", what: "stall", for: [10, 12] },
      {},
      seed,
    );
    const received = arrivals(line.net, line.server);
    await line.client.write(HELLO);
    line.client.close();
    ends.add((await received)[0]![0]);
  }
  assertEquals([...ends].sort(), [10, 11, 12]);
});

Deno.test("stall lasts for ever unless told otherwise", async () => {
  await using line = await faulty(
    { on: "toServer", what: "stall", at: 3 },
    { window: 10 },
  );
  const { net, client, server } = line;
  await client.write(HELLO);
  assertEquals(await readText(server), "hel");
  const never = watch(server.read(new Uint8Array(1)));
  await client.write(new Uint8Array(100));
  const waiting = watch(client.write(new Uint8Array(100)));
  await net.sleep(1e9);
  assertEquals([never.now, waiting.now], ["pending", "pending"]);
});

Deno.test("writeError fails the sender's writes after so many bytes", async () => {
  await using line = await faulty({
    on: "toServer",
    what: "writeError",
    at: 3,
  });
  const { net, client, server } = line;
  assertEquals(await client.write(HELLO), 3);
  assertEquals(await outcome(client.write(HELLO)), EIO);
  assertEquals(await outcome(client.write(HELLO)), EIO);
  await net.sleep(1);
  assertEquals(await readText(server), "hel");
  await server.write(HELLO);
  assertEquals(await readText(client), "hello", "the other way goes on");
});

Deno.test("writeError without at fails the first write", async () => {
  await using line = await faulty({ on: "toClient", what: "writeError" });
  assertEquals(await outcome(line.server.write(HELLO)), EIO);
  assertEquals(await outcome(line.client.write(HELLO)), "5");
});

Deno.test("urgent tells the receiver after so many bytes, and takes none away", async () => {
  await using line = await faulty(
    { on: "toClient", what: "urgent", at: 3 },
    { latency: 10 },
  );
  const { net, client, server } = line;
  const start = net.now;
  const told: number[] = [];
  client.onUrgent = () => void told.push(net.now - start);
  await server.write(bytes("he"));
  await net.sleep(100);
  assertEquals(told, []);
  await server.write(bytes("llo"));
  await net.sleep(100);
  assertEquals(told, [110]);
  assertEquals(await readText(client), "hello");
});

Deno.test("several faults on one way happen in the order of their bytes", async () => {
  await using line = await simLine({
    faults: [
      { on: "toServer", what: "end", at: 4 },
      { on: "toServer", what: "stall", at: 2, for: 10 },
      { on: "toServer", what: "urgent", at: 3 },
    ],
  });
  const { net, client, server } = line;
  const told: number[] = [];
  server.onUrgent = () => void told.push(net.now);
  const received = arrivals(net, server);
  await client.write(HELLO);
  assertEquals(await received, [[0, "he"], [10, "l"], [10, "l"], [10, ""]]);
  assertEquals(told, [10]);
});

Deno.test("at is drawn for each connection", async () => {
  const places = new Set<number>();
  for (let seed = 1; seed <= 30; seed++) {
    await using line = await faulty(
      { on: "toServer", what: "writeError", at: [2, 4] },
      {},
      seed,
    );
    places.add(await line.client.write(HELLO));
  }
  assertEquals([...places].sort(), [2, 3, 4]);
});

Deno.test("chance and times say which connections have a fault", async () => {
  const what = { on: "toServer", what: "writeError" } as const;
  const failures = async (fault: Fault) => {
    await using net = new SimNet({ seed: 1, link: { faults: [fault] } });
    let failed = "";
    for (let i = 0; i < 40; i++) {
      const [client] = await simPair(net);
      failed += await outcome(client.write(HELLO)) === EIO ? "x" : ".";
    }
    return failed;
  };
  assertEquals(await failures({ ...what, times: 2 }), "xx" + ".".repeat(38));
  assertEquals(await failures({ ...what, chance: 0 }), ".".repeat(40));
  const some = (await failures({ ...what, chance: 0.5 })).replaceAll(".", "");
  assert(some.length > 10 && some.length < 30, some);
});

// What the ends can do beyond what Deno's can.

Deno.test("SimConn.sendUrgent() tells the peer after what was sent before", async () => {
  await using line = await simLine({ latency: 10, bandwidth: 1_000 });
  const { net, client, server } = line;
  const start = net.now;
  const told: number[] = [];
  server.onUrgent = () => void told.push(net.now - start);
  await client.write(HELLO);
  client.sendUrgent();
  await net.sleep(100);
  assertEquals(told, [15]);
  assertEquals(await readText(server), "hello");
  client.close();
  assertThrows(() => client.sendUrgent(), Deno.errors.BadResource);
});

Deno.test("SimConn.reset() breaks the connection, and loses what is under way or not", async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 50; seed++) {
    await using line = await simLine({ latency: 10 }, seed);
    const { net, client, server } = line;
    await client.write(bytes("a"));
    await client.write(bytes("b"));
    client.reset();
    assert(client.closed);
    await net.sleep(100);
    let data = await readText(server);
    if (data !== RESET) {
      const end = await readText(server);
      assertEquals(end, RESET);
    } else data = "";
    seen.add(data);
    assertEquals(await readText(server), "null");
    assertThrows(() => client.reset(), Deno.errors.BadResource);
  }
  assertEquals([...seen].sort(), ["", "a", "ab"]);
});

Deno.test("SimConn.close() with unread data loses what is under way, and then the end of file, or nothing", async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 50; seed++) {
    await using line = await simLine({ latency: 10 }, seed);
    const { net, client, server } = line;
    await server.write(HELLO);
    await net.sleep(100);
    await client.write(bytes("a"));
    await client.write(bytes("b"));
    client.close();
    await net.sleep(100);
    let data = "";
    let end = await readText(server);
    while (end !== RESET && end !== "null") {
      data += end;
      end = await readText(server);
    }
    seen.add(`${data} ${end === RESET ? "reset" : "end"}`);
  }
  assertEquals([...seen].sort(), [" reset", "a reset", "ab end"]);
});

Deno.test("SimConn.reset() leaves data that has arrived alone", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    await using line = await simLine({ latency: [0, 10] }, seed);
    await line.client.write(HELLO);
    await line.net.sleep(100);
    line.client.reset();
    await line.net.sleep(100);
    assertEquals(await readText(line.server), "hello");
    assertEquals(await readText(line.server), RESET);
  }
});

Deno.test("ConnEnd.closed and .broken tell how it is", async () => {
  await using line = await simLine({ latency: 10 });
  const { net, client, server } = line;
  const state =
    () => [client.closed, client.broken, server.closed, server.broken];
  assertEquals(state(), [false, false, false, false]);
  client.reset();
  assertEquals(state(), [true, false, false, false]);
  await net.sleep(100);
  assertEquals(state(), [true, false, false, true]);
});

Deno.test("SimConn completes at once what can be, or a little later", async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 100; seed++) {
    await using line = await simLine({}, seed);
    await line.net.sleep(1);
    const written = watch(line.client.write(HELLO));
    for (let microtask = 0; microtask < 10; microtask++) await null;
    seen.add(written.now);
    assertEquals(await written.end, "5");
    assertEquals(line.net.now, 1);
  }
  assertEquals([...seen].sort(), ["5", "pending"]);
});

Deno.test("SimConn does not tell who closed of what arrives later", async () => {
  await using line = await simLine({ latency: 10 });
  const { net, client, server } = line;
  server.onUrgent = () => {
    throw new Error("told");
  };
  client.sendUrgent();
  await client.write(HELLO);
  server.close();
  await net.sleep(100);
  await assertRejects(() => server.read(new Uint8Array(1)));
  assertEquals(await readText(client), "null");
  assertEquals(await outcome(client.write(HELLO)), BROKEN_PIPE);
});

Deno.test("SimConn on a path tells a write that waits of the peer's close", async () => {
  const faults = [{ on: "toServer", what: "stall" }] as const;
  await using net = new SimNet({ seed: 1, link: { window: 5, faults } });
  const addr = { transport: "unix", path: "/run/stalled" } as const;
  using listener = net.listen(addr);
  const [client, server] = await Promise.all([
    net.connect(addr),
    listener.accept(),
  ]);
  await client.write(HELLO);
  const waiting = watch(client.write(HELLO));
  await net.sleep(1);
  assertEquals(waiting.now, "pending");
  server.close();
  assertEquals(await waiting.end, BROKEN_PIPE);
});
