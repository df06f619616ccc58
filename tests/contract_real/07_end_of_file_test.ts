import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { ChannelMap, type Dispatcher, poll } from "../../mod.ts";
import {
  breakablePair,
  bytes,
  listenTcp,
  noise,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  tcpPair,
  text,
  turns,
  unixPair,
  until,
  writeAll,
} from "../net.ts";
import { pair } from "./ends.ts";

/** Sends on a connection that was reset until a write has failed. */
async function failToWrite(channel: Dispatcher, conn: Deno.Conn) {
  const write = conn.write;
  let failed = false;
  conn.write = (data) => {
    const written = write.call(conn, data);
    written.catch(() => failed = true);
    return written;
  };
  await until(() => {
    channel.send(bytes("too late"));
    return failed;
  });
}

Deno.test("7 the end of file comes after all data was taken", async () => {
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    const [conn, peer] = unix ? await unixPair() : await tcpPair();
    const channel = new Recorder(conn, { map });
    channel.handleRead = () => {
      channel.events.push(`read ${text(channel.recv(2))}`.trim());
    };
    await writeAll(peer, bytes("abcde"));
    peer.close();
    await run(map);
    assertEquals(channel.events, [
      "read ab",
      "read cd",
      "read e",
      "read",
      "eof",
      "close eof",
    ]);
  }
});

Deno.test("7 data that is left in handleRead() holds the end of file back", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let take = false;
  channel.handleRead = () => {
    channel.events.push("read");
    if (take) channel.recv();
  };
  await writeAll(peer, bytes("kept"));
  peer.close();
  const served = run(map);
  await until(() => channel.events.length > 0);
  await turns(20);
  assertEquals(channel.events, ["read"]);
  take = true;
  channel.wake();
  await served;
  assertEquals(channel.events, ["read", "read", "read", "eof", "close eof"]);
});

Deno.test("7 the peer's half-close leaves the write half to a handleEof() that keeps it", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let asked = 0;
  let ended = false;
  let pieces = 0;
  channel.readable = () => {
    if (ended) asked++;
    return true;
  };
  channel.writable = () => ended && pieces < 3;
  channel.handleEof = () => {
    channel.events.push("eof");
    ended = true;
  };
  channel.handleWrite = () => {
    channel.events.push("write");
    channel.send(bytes(`piece ${++pieces} `));
    if (pieces === 3) channel.close();
  };
  await writeAll(peer, bytes("question"));
  await peer.closeWrite();
  const answer = readToEnd(peer);
  await run(map);
  assertEquals(text(await answer), "piece 1 piece 2 piece 3 ");
  assertEquals(channel.events, [
    "read question",
    "read",
    "eof",
    "write",
    "write",
    "write",
  ]);
  assertEquals(asked, 0);
  peer.close();
});

Deno.test("7 a half-closed connection ends by a failed write", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  using listener = listenTcp();
  const { hostname, port } = listener.addr as Deno.NetAddr;
  const raw = await Deno.connect({ hostname, port });
  const half = new Recorder(await listener.accept(), { map });
  half.handleEof = () => void half.events.push("eof");
  await raw.closeWrite();
  await serveUntil(map, () => half.events.length > 1);
  assertEquals(half.events, ["read", "eof"]);
  raw.close();
  // The first write makes the peer reset, a later one finds out.
  let served = false;
  const loop = run(map).then(() => served = true);
  while (!served && half.connected) {
    half.send(bytes("x"));
    await turns(1);
  }
  await peer.reset();
  await loop;
  assertEquals(half.events, ["read", "eof", "close reset"]);
  assertEquals(channel.events, ["read", "close reset"]);
});

Deno.test("7 our own half-close leaves reading as it is", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.send(bytes("question"));
  channel.shutdown("write");
  const served = (async () => {
    const question = text(await readToEnd(peer));
    await writeAll(peer, bytes(`answer to ${question}`));
    peer.close();
  })();
  await run(map);
  await served;
  assertEquals(channel.received, "answer to question");
  assertEquals(channel.events.slice(-3), ["read", "eof", "close eof"]);
});

Deno.test("7 a reset comes after all data that was received before it", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  const data = text(noise(0)) + "x".repeat(5_000);
  await peer.write(bytes(data));
  await peer.reset();
  let lengths: number[] = [];
  channel.handleRead = () => {
    const { length } = channel.recv(700);
    lengths.push(length);
    if (length === 0) lengths.push(channel.recv().length);
  };
  await run(map);
  const last = lengths.slice(-2);
  lengths = lengths.slice(0, -2);
  assertEquals(lengths.reduce((sum, length) => sum + length, 0), 5_000);
  assert(lengths.every((length) => length > 0 && length <= 700));
  assertEquals(last, [0, 0]);
  assertEquals(channel.events, ["close reset"]);
  assertInstanceOf(channel.reasons[0]?.error, Deno.errors.ConnectionReset);
});

Deno.test("7 after a failed write received data comes first, while readable() is true", async () => {
  for (const wanted of [true, false]) {
    await using map = new ChannelMap();
    const [conn, peer] = await breakablePair();
    const channel = new Recorder(conn, { map });
    channel.readable = () => wanted;
    await peer.write(bytes("last words"));
    await peer.reset();
    await failToWrite(channel, conn);
    await run(map);
    assertEquals(channel.received, wanted ? "last words" : "");
    assertEquals(channel.events.at(-1), "close reset");
    assertEquals(channel.reasons.length, 1);
    if (wanted) assertEquals(channel.events[0], "read last words");
    else assertEquals(channel.events.length, 1);
  }
});

Deno.test("7 after a failed write data in parts comes first, too, and nothing is written", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  channel.writable = () => true;
  channel.handleRead = () => {
    channel.received += text(channel.recv(3));
    channel.send(bytes("answer"));
  };
  await peer.write(bytes("last words"));
  await peer.reset();
  await failToWrite(channel, conn);
  await run(map);
  assertEquals(channel.received, "last words");
  assertEquals(channel.events.filter((event) => event !== "write"), [
    "close reset",
  ]);
});

Deno.test("7 after a failed write data that lies in the system, and for which a read waits, comes first", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const { read, write } = conn;
  let reading = false;
  let failed = false;
  conn.read = (buffer) => {
    reading = true;
    return read.call(conn, buffer);
  };
  conn.write = (data) => {
    const written = write.call(conn, data);
    written.catch(() => failed = true);
    return written;
  };
  const channel = new Recorder(conn, { map });
  const served = run(map);
  await until(() => reading);
  await turns(1);
  await peer.write(bytes("last words"));
  peer.close();
  // Not one turn of the event loop in between, so that Deno knows of the failure first: the peer's system answers at once.
  for (let i = 0; i < 1_000 && !failed; i++) {
    channel.send(bytes("too late"));
    for (let microtasks = 0; microtasks < 10; microtasks++) await null;
  }
  await served;
  assertEquals(channel.received, "last words");
  assertEquals(channel.events, ["read last words", "close reset"]);
});

Deno.test("7 a channel with neither predicate true does not notice the peer's close", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let wanted = false;
  channel.readable = () => wanted;
  peer.close();
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(channel.events, []);
  wanted = true;
  channel.wake();
  await run(map);
  assertEquals(channel.events, ["read", "eof", "close eof"]);
});

Deno.test("7 an end that our own write finds is reported whatever the predicates say", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  channel.readable = () => false;
  await peer.reset();
  const served = run(map);
  // The news may be under way still: one of the writes finds out.
  await until(() => {
    channel.send(bytes("x"));
    return channel.events.length > 0;
  });
  await served;
  assertEquals(channel.events, ["close reset"]);
});
