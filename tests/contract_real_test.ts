// The lines of the contract that need the system's own sockets; a test's name
// begins with the number of its line.

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import {
  ChannelMap,
  type CloseReason,
  Dispatcher,
  type DispatcherOptions,
  ExitNow,
  poll,
} from "../mod.ts";
import {
  breakablePair,
  bytes,
  listenTcp,
  noise,
  readExactly,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  StoppedClock,
  tcpPair,
  tempDir,
  text,
  turns,
  unixPair,
  until,
  within,
  writeAll,
} from "./net.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** A listening recorder and the address to reach it at. */
function listening(map: ChannelMap): [Recorder, Deno.ConnectOptions] {
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen();
  const { hostname, port } = server.addr as Deno.NetAddr;
  return [server, { hostname, port }];
}

/** A recorder that connects. */
function connecting(map: ChannelMap, addr: Deno.Addr): Recorder {
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(addr as Deno.NetAddr | Deno.UnixAddr);
  client.writable = () => !client.connected;
  return client;
}

/** A recorder on one end of a TCP connection, and the other end. */
async function pair(
  map: ChannelMap,
  options: DispatcherOptions = {},
): Promise<[Recorder, Deno.TcpConn]> {
  const [conn, peer] = await tcpPair();
  return [new Recorder(conn, { map, ...options }), peer];
}

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

async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}

Deno.test("1 listen(), connect(), send() and close() call nothing by themselves", async () => {
  await using map = new ChannelMap();
  const calls: string[] = [];
  class Spy extends Recorder {
    override readable() {
      calls.push("readable");
      return true;
    }
    override writable() {
      calls.push("writable");
      return true;
    }
  }
  const server = new Spy(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen();
  const client = new Spy(null, { map });
  client.createSocket();
  client.connect(server.addr as Deno.NetAddr);
  const refused = listenTcp();
  refused.close();
  const failing = new Spy(null, { map });
  failing.createSocket();
  failing.connect(refused.addr as Deno.NetAddr);
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const adopted = new Spy(conn, { map });
  adopted.send(bytes("x"));
  adopted.wake();
  await writeAll(peer, bytes("y"));
  await readExactly(peer, 1);
  await turns(10);
  const channels = [server, client, failing, adopted];
  assertEquals(channels.flatMap(({ events }) => events), []);
  assertEquals(calls, []);
  assertEquals(failing.connecting, true);
  for (const channel of channels) channel.close();
  await turns();
  assertEquals(channels.flatMap(({ events }) => events), []);
  assertEquals(calls, []);
});

Deno.test("1 nothing re-enters a handler", async () => {
  await using map = new ChannelMap();
  let depth = 0;
  let deepest = 0;
  let handled = 0;
  const enter = (run: () => void) => {
    deepest = Math.max(deepest, ++depth);
    handled++;
    run();
    depth--;
  };
  class Spy extends Dispatcher {
    override readable() {
      deepest = Math.max(deepest, depth + 1);
      return true;
    }
    override writable() {
      deepest = Math.max(deepest, depth + 1);
      return handled < 3;
    }
    override handleRead() {
      enter(() => {
        this.send(this.recv());
        other.send(bytes("x"));
        other.wake();
        map.wake();
      });
    }
    override handleWrite() {
      enter(() => {
        this.send(bytes("y"));
        this.wake();
        this.delChannel();
        this.addChannel();
      });
    }
    override handleEof() {
      enter(() => {
        this.disconnect({ kind: "eof" });
        this.shutdown("write");
      });
    }
    override handleClose() {
      enter(() => {
        other.disconnect({ kind: "done" });
        this.close();
        this.createSocket();
        this.connect(refused.addr as Deno.NetAddr);
        this.disconnect({ kind: "reset" });
        this.close();
      });
    }
    override handleError(error: unknown) {
      throw error;
    }
  }
  const refused = listenTcp();
  refused.close();
  const [conn, peer] = await tcpPair();
  const [conn2, peer2] = await tcpPair();
  const other = new Spy(conn2, { map });
  new Spy(conn, { map });
  await writeAll(peer, bytes("hello"));
  await serveUntil(map, () => handled >= 3);
  await peer.read(new Uint8Array(99));
  peer.close();
  const read = readToEnd(peer2).then(() => peer2.close());
  await run(map);
  await read;
  assertEquals(deepest, 1);
  assertGreater(handled, 4);
});

Deno.test("2 nothing is delivered while readable() is false", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const [beside, besidePeer] = await pair(map);
  using _beside = besidePeer;
  let wanted = false;
  channel.readable = () => wanted;
  await writeAll(peer, bytes("kept"));
  for (let i = 1; i <= 5; i++) {
    await writeAll(besidePeer, bytes(`${i}`));
    await serveUntil(map, () => beside.events.length === i);
  }
  assertEquals(channel.events, []);
  assertEquals(channel.bytesRead, 0);
  wanted = true;
  channel.wake();
  await serveUntil(map, () => channel.events.length > 0);
  assertEquals(channel.events, ["read kept"]);
});

Deno.test("2 data that arrived waits while readable() has become false", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  let wanted = true;
  channel.readable = () => wanted;
  await poll(0, map); // Starts the read.
  await writeAll(peer, bytes("kept"));
  wanted = false;
  await until(() => channel.bytesRead === 4);
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(channel.events, []);
  peer.close();
  wanted = true;
  channel.wake();
  await run(map);
  assertEquals(channel.events, ["read kept", "read", "eof", "close eof"]);
});

Deno.test("2 the peer stops when its data is not wanted", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let wanted = true;
  let got = 0;
  channel.readable = () => wanted;
  channel.handleRead = () => void (got += channel.recv().length);
  await poll(0, map);
  wanted = false;
  // More than the kernel's buffers hold on both sides.
  const data = noise(20_000_000);
  let written = 0;
  const writing = (async () => {
    while (written < data.length) {
      written += await peer.write(data.subarray(written));
    }
    peer.close();
  })();
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(got, 0);
  assertLess(written, data.length);
  assertLess(channel.bytesRead, 300_000);
  wanted = true;
  channel.wake();
  await run(map);
  await writing;
  assertEquals(got, data.length);
});

Deno.test("2 a predicate that handleConnect() makes false holds the rest of the event", async () => {
  for (const direction of ["readable", "writable"] as const) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    let wanted = true;
    client.readable = client.writable = () => false;
    client[direction] = () => wanted;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      wanted = false;
    };
    const served = run(map);
    await until(() => client.connected);
    await turns(20);
    assertEquals(client.events, ["connect"]);
    wanted = true;
    client.wake();
    await until(() => client.events.length > 1);
    client.close();
    await served;
    assertEquals(
      client.events[1],
      direction === "readable" ? "read hello" : "write",
    );
  }
});

Deno.test("2 nothing is accepted while a listener's readable() is false", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let wanted = false;
  server.readable = () => wanted;
  using peer = await Deno.connect(addr);
  using second = await Deno.connect(addr);
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(server.events, []);
  assertEquals(map.counters.accepts, 0);
  wanted = true;
  server.wake();
  await serveUntil(map, () => server.events.length === 2);
  assertEquals(server.events, ["accepted", "accepted"]);
  assertEquals((await readToEnd(peer)).length, 0);
  assertEquals((await readToEnd(second)).length, 0);
});

Deno.test("2 a connection that was asked for before waits undelivered", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let wanted = true;
  server.readable = () => wanted;
  await poll(0, map); // Starts an accept.
  wanted = false;
  const peers = [await Deno.connect(addr), await Deno.connect(addr)];
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(server.events, []);
  // It belongs to the listener, which closes it.
  server.close();
  for (const peer of peers) {
    // The other one was never accepted: the kernel resets it.
    const got = await readToEnd(peer).catch(() => new Uint8Array(0));
    assertEquals(got.length, 0);
    peer.close();
  }
});

/** A clock on which every look at it takes a millisecond, so that every few passes are a long time. */
class HastyClock extends StoppedClock {
  #looks = 0;
  override now(): number {
    return super.now() + ++this.#looks;
  }
}

Deno.test("4 other connections get their turn while one is always busy", async () => {
  await using map = new ChannelMap({ clock: new HastyClock() });
  const [busy, sink] = await pair(map);
  const [channel, peer] = await pair(map);
  using _sink = sink;
  using _peer = peer;
  busy.writable = () => true;
  busy.handleWrite = () => void busy.send(bytes("x"));
  const waits: number[] = [];
  let start = 0;
  channel.handleRead = () => {
    channel.recv();
    waits.push(map.counters.passes - start);
  };
  const served = run(map);
  for (let i = 1; i <= 21; i++) {
    await peer.write(bytes("y"));
    start = map.counters.passes;
    await until(() => waits.length === i);
  }
  // Deno looks for input and output in every 31st turn of a busy event loop: a
  // pass that gives way for one turn only would let others wait 200 passes.
  const median = waits.toSorted((a, b) => a - b)[10]!;
  assertLess(median, 60, `${waits}`);
  busy.close();
  channel.close();
  await readToEnd(sink);
  sink.close();
  await served;
});

Deno.test("5 no handler runs after close(), not even for what has arrived", async () => {
  for (
    const [how, close] of [
      ["outside", (channel: Recorder) => channel.close()],
      ["aborted", (channel: Recorder) => channel.abort()],
    ] as const
  ) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    await poll(0, map);
    await writeAll(peer, bytes("x"));
    await until(() => channel.bytesRead === 1); // It has arrived.
    close(channel);
    peer.close();
    await turns();
    await run(map);
    assertEquals(channel.events, [], how);
  }
});

Deno.test("5 one channel may close the other in the same pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map, { usePoll });
    await writeAll(peer1, bytes("x"));
    await writeAll(peer2, bytes("y"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first closes the other one.
    const ran: string[] = [];
    first.handleRead = () => {
      ran.push("first");
      first.recv();
      second.close();
    };
    second.handleRead = () => {
      ran.push("second");
      second.recv();
      first.close();
    };
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals(ran.length, 1);
    assertEquals([...first.events, ...second.events], []);
    assertEquals(map.size, 1);
  }
});

Deno.test("5 close() in one event takes back the other one of the same pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    await poll(0, map);
    await writeAll(peer, bytes("x"));
    await until(() => channel.bytesRead === 1);
    channel.writable = () => true;
    channel.handleRead = () => {
      channel.events.push("read");
      channel.close();
    };
    channel.wake();
    await poll(0, map, { usePoll });
    await poll(0, map, { usePoll });
    assertEquals(channel.events.filter((event) => event === "read").length, 1);
    assertEquals(channel.events.at(-1), "read");
  }
});

Deno.test("5 handleError() still comes for what a handler throws after its own close()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const error = new Error("afterwards");
  channel.handleRead = () => {
    channel.close();
    throw error;
  };
  await writeAll(peer, bytes("x"));
  await run(map);
  assertEquals(channel.events, ["error"]);
  assertStrictEquals(channel.errors[0], error);

  const [late, latePeer] = await pair(map);
  using _late = latePeer;
  late.handleRead = async () => {
    late.close();
    await null;
    throw error;
  };
  await writeAll(latePeer, bytes("x"));
  await run(map);
  assertEquals(late.events, ["error"]);
});

Deno.test("5 nothing of the old socket reaches the dispatcher's next one", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  using listener = listenTcp();
  await poll(0, map);
  await writeAll(peer, bytes("old"));
  await until(() => channel.bytesRead === 3); // A read event is due.
  channel.send(bytes("answer"));
  channel.disconnect({ kind: "error" }); // So is a close event.
  channel.close();
  channel.createSocket();
  channel.connect(listener.addr as Deno.NetAddr);
  channel.writable = () => !channel.connected;
  using newPeer = await listener.accept();
  await writeAll(newPeer, bytes("new"));
  await serveUntil(map, () => channel.received !== "");
  assertEquals(channel.events, ["connect", "read new"]);
  assertEquals(channel.bytesRead, 3);
  assertEquals(channel.bytesWritten, 0);
  // The old one's bytes were not lost either.
  assertEquals(text(await readToEnd(peer)), "answer");
});

Deno.test("5 a socket that is closed while it connects never connects", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  using peer = await listener.accept();
  await turns(); // The connection is there, and nobody knows.
  client.close();
  assertEquals((await readToEnd(peer)).length, 0);
  await run(map);
  assertEquals(client.events, []);
});

Deno.test("5 what ends the channel in the read event of the end of file leaves no handleEof()", async () => {
  const ways: Record<string, (channel: Recorder) => void> = {
    close: (channel) => channel.close(),
    abort: (channel) => channel.abort(),
    disconnect: (channel) => channel.disconnect({ kind: "done" }),
    delChannel: (channel) => channel.delChannel(),
  };
  for (const [how, leave] of Object.entries(ways)) {
    for (const late of [false, true]) {
      await using map = new ChannelMap();
      const [channel, peer] = await pair(map);
      channel.handleRead = () => {
        channel.events.push("read");
        assertEquals(channel.recv().length, 0);
        if (!late) return leave(channel);
        return turns(1).then(() => leave(channel));
      };
      peer.close();
      await run(map);
      const rest = how === "disconnect" ? ["close done"] : [];
      assertEquals(channel.events, ["read", ...rest], how);
      if (how !== "delChannel") continue;
      // The end was served, but not told.
      channel.addChannel();
      await run(map);
      assertEquals(channel.events, ["read", "eof", "close eof"]);
    }
  }
});

Deno.test("5 a connection that comes after close() is closed", async () => {
  using dir = tempDir();
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    using listener: Deno.Listener = unix
      ? Deno.listen({ transport: "unix", path: `${dir.path}/s` })
      : listenTcp();
    for (const hops of [0, 1, 2]) {
      const client = connecting(map, listener.addr);
      const accepted = listener.accept();
      await turns(hops);
      client.close();
      // In time or not, nobody holds it.
      using peer = await within(accepted);
      assertEquals((await readToEnd(peer)).length, 0);
      assertEquals(client.events, []);
    }
  }
});

Deno.test("6 an end of file is one handleClose(), and the scheduler closes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await writeAll(peer, bytes("bye"));
  peer.close();
  await run(map);
  assertEquals(channel.events, ["read bye", "read", "eof", "close eof"]);
  assertEquals(channel.reasons, [{ kind: "eof", bytesUnsent: 0 }]);
  assertEquals(channel.connected, false);
});

Deno.test("6 the write event of the pass that found the end of file still comes, no other", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    channel.writable = () => true;
    let taken = 0;
    channel.handleWrite = () => {
      channel.events.push("write");
      taken += channel.send(bytes("x"));
    };
    await serveUntil(map, () => channel.events.length > 0);
    await peer.closeWrite();
    const read = readToEnd(peer);
    await run(map, { usePoll });
    const end = channel.events.indexOf("read");
    assertEquals(channel.events.slice(end), [
      "read",
      "eof",
      "write",
      "close eof",
    ]);
    assertEquals((await read).length, taken);
  }
});

Deno.test("6 a reset is one handleClose() with Deno's error", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await breakablePair();
  const channel = new Recorder(conn, { map });
  await poll(0, map);
  await peer.reset();
  await run(map);
  assertEquals(channel.events, ["read", "close reset"]);
  assertInstanceOf(channel.reasons[0]?.error, Deno.errors.ConnectionReset);
});

Deno.test("6 an async handleClose() is waited for before the scheduler closes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const gate = Promise.withResolvers<void>();
  const states: boolean[] = [];
  let entered = false;
  channel.handleClose = async () => {
    entered = true;
    states.push(map.size === 1, channel.closing);
    await gate.promise;
    states.push(map.size === 1, channel.closing);
  };
  peer.close();
  const served = run(map);
  while (!entered) await turns(1);
  await turns();
  gate.resolve();
  await served;
  assertEquals(states, [true, true, true, true]);
  assertEquals(map.size, 0);
});

Deno.test("6 reconnecting in handleClose() works", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  const kinds: string[] = [];
  client.handleClose = (reason?: CloseReason) => {
    kinds.push(reason!.kind);
    client.close();
    if (kinds.length === 3) return;
    client.createSocket();
    client.connect(listener.addr as Deno.NetAddr);
  };
  const greetings = (async () => {
    for (let i = 1; i <= 3; i++) {
      using conn = await listener.accept();
      if (i === 1) await writeAll(conn, bytes("only one"));
    }
  })();
  await run(map);
  await greetings;
  assertEquals(kinds, ["eof", "eof", "eof"]);
  // Each of them has an end of its own.
  assertEquals(
    client.events,
    ["connect", "read only one", "read", "eof"].concat(
      ["connect", "read", "eof"],
      ["connect", "read", "eof"],
    ),
  );
  assertEquals(client.errors, []);
});

Deno.test("6 reconnecting without close() is refused, since the socket is still there", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const logged: string[] = [];
  channel.logInfo = (message, type) => void logged.push(`${type} ${message}`);
  channel.handleClose = () => channel.createSocket();
  peer.close();
  await run(map);
  // What handleClose() throws is logged, and the socket closed.
  assertEquals(logged.length, 1);
  assertStringIncludes(logged[0]!, "Cannot create socket");
  assertEquals(channel.events, ["read", "eof"]);
  assertEquals(channel.connected, false);
});

Deno.test("6 disconnect() in a handler is served in this or the next pass", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const error = new Error("enough");
  channel.writable = () => true;
  channel.handleRead = () => {
    channel.events.push("read");
    channel.disconnect({ kind: "limit", error });
  };
  channel.handleWrite = () => {};
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.events.length > 0);
  if (map.size > 0) await poll(0, map);
  assertEquals(channel.events, ["read", "close limit"]);
  assertStrictEquals(channel.reasons[0]?.error, error);
  assertEquals(map.size, 0);
});

for (const kind of ["eof", "error", "done"] as const) {
  Deno.test(`9 after disconnect() for ${kind} what send() took is still written`, async () => {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map, { sendBufferSize: 1 << 23 });
    const data = noise(1 << 23);
    channel.send(data);
    channel.disconnect({ kind });
    const read = readToEnd(peer).then((got) => {
      peer.close();
      return got;
    });
    await run(map);
    assertEquals(await sha256(await read), await sha256(data));
    assertEquals(channel.events, [`close ${kind}`]);
  });
}

for (const kind of ["reset", "timeout", "limit"] as const) {
  Deno.test(`9 after disconnect() for ${kind} nothing is flushed`, async () => {
    await using map = new ChannelMap({ clock: new StoppedClock() });
    const [channel, peer] = await pair(map, { sendBufferSize: 1 << 25 });
    using _ = peer;
    const size = channel.send(new Uint8Array(1 << 25));
    await turns();
    channel.disconnect({ kind });
    // It ends although nobody reads and no time passes.
    await run(map);
    const got = await readToEnd(peer).then((data) => data.length, () => 0);
    assertLess(got, size);
    assertEquals(channel.events, [`close ${kind}`]);
    assertEquals(
      channel.reasons[0]?.bytesUnsent,
      size - channel.bytesWritten,
    );
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

Deno.test("8 handleConnect() runs once, before the first read or write event", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => client.events.length < 6;
    const peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    await turns();
    const states: boolean[] = [];
    client.handleConnect = () => {
      client.events.push("connect");
      states.push(client.connected, client.connecting);
    };
    await serveUntil(map, () => client.received !== "");
    peer.close();
    await run(map, { usePoll });
    assertEquals(client.events[0], "connect");
    assertEquals(
      client.events.filter((event) => event === "connect").length,
      1,
    );
    assertEquals(states, [true, false]);
    assertEquals(map.counters.connects, 1);
  }
});

Deno.test("8 handleConnect() waits for a predicate", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  let wanted = false;
  client.readable = () => false;
  client.writable = () => wanted;
  using _ = await listener.accept();
  for (let i = 0; i < 5; i++) {
    map.wake();
    await poll(0, map);
    await turns();
  }
  assertEquals(client.events, []);
  assertEquals(client.connected, false);
  assertEquals(client.connecting, true);
  wanted = true;
  client.wake();
  await serveUntil(map, () => client.events.length > 0);
  assertEquals(client.events[0], "connect");
});

Deno.test("8 a connection without data leads to connect, then write", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  client.writable = () => client.events.length < 2;
  using _ = await listener.accept();
  await serveUntil(map, () => client.events.length > 1);
  assertEquals(client.events, ["connect", "write"]);
});

Deno.test("8 a client that only reads is told of its connection with the first data", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  client.writable = () => false;
  using peer = await listener.accept();
  await writeAll(peer, bytes("hello"));
  await serveUntil(map, () => client.received !== "");
  assertEquals(client.events, ["connect", "read hello"]);
});

Deno.test("8 handleConnect() never runs for an adopted connection", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.writable = () => true;
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.received !== "");
  peer.close();
  await run(map);
  assert(!channel.events.includes("connect"));
  assertEquals(map.counters.connects, 0);
});

Deno.test("8 an error in handleConnect() ends the connection, and it is not called again", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  let calls = 0;
  client.handleConnect = () => {
    calls++;
    throw new Error("not like this");
  };
  client.handleError = Dispatcher.prototype.handleError;
  client.logInfo = () => {};
  using _ = await listener.accept();
  await run(map);
  assertEquals(calls, 1);
  assertEquals(client.events, ["close error"]);
});

Deno.test("8 a failed connect is one handleError(), whatever the predicates say", async () => {
  using dir = tempDir();
  Deno.writeTextFileSync(`${dir.path}/file`, "");
  const refused = listenTcp();
  refused.close();
  const cases: [string, Deno.Addr, new (...args: never[]) => Error][] = [
    ["nobody listens", refused.addr, Deno.errors.ConnectionRefused],
    ["no such name", { transport: "tcp", hostname: "-", port: 9 }, Error],
    ["no name at all", { transport: "tcp", hostname: "a b", port: 9 }, Error],
    [
      "no such path",
      { transport: "unix", path: `${dir.path}/none` },
      Deno.errors.NotFound,
    ],
    [
      "no socket",
      { transport: "unix", path: `${dir.path}/file` },
      Deno.errors.ConnectionRefused,
    ],
    ["path too long", {
      transport: "unix",
      path: `/${"x".repeat(200)}`,
    }, Error],
  ];
  for (const [what, addr, type] of cases) {
    for (const wanted of [true, false]) {
      await using map = new ChannelMap();
      const client = connecting(map, addr);
      client.readable = client.writable = () => wanted;
      assert(client.connecting, what);
      await run(map);
      assertEquals(client.events, ["error", "close error"], what);
      assertInstanceOf(client.errors[0], type, what);
      assertStrictEquals(client.reasons[0]?.error, client.errors[0], what);
      assertEquals(client.connected, false, what);
      assertEquals(client.connecting, false, what);
    }
  }
});

Deno.test("8 reconnecting in handleError() works, and no handleClose() follows", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, refused.addr);
  client.handleError = (error) => {
    client.errors.push(error);
    client.close();
    client.createSocket();
    client.connect(
      (client.errors.length < 3 ? refused : listener).addr as Deno.NetAddr,
    );
  };
  const greeting = (async () => {
    using conn = await listener.accept();
    await writeAll(conn, bytes("at last"));
  })();
  await run(map);
  await greeting;
  assertEquals(client.errors.length, 3);
  assertEquals(client.received, "at last");
  assertEquals(client.events, [
    "connect",
    "read at last",
    "read",
    "eof",
    "close eof",
  ]);
});

Deno.test("8 close() in handleError() ends it without a handleClose()", async () => {
  await using map = new ChannelMap();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, refused.addr);
  client.handleError = () => {
    client.events.push("error");
    client.close();
  };
  await run(map);
  assertEquals(client.events, ["error"]);
});

Deno.test("9 close() with 50 MB queued to a reader that starts late loses nothing", async () => {
  await using map = new ChannelMap();
  const size = 50_000_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  const data = noise(size);
  assertEquals(channel.send(data), size);
  channel.close();
  assertEquals(map.size, 0);
  let ended = false;
  const served = run(map).then(() => ended = true);
  await turns();
  assertEquals(ended, false);
  const got = await readToEnd(peer, 20_000);
  assertEquals(got.length, size);
  assertEquals(await sha256(got), await sha256(data));
  peer.close();
  await served;
  assertEquals(channel.events, []);
});

Deno.test("9 close() with input that nobody read destroys nothing", async () => {
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    const [conn, peer] = unix ? await unixPair() : await tcpPair();
    const channel = new Recorder(conn, { map });
    channel.readable = () => false;
    // What the peer said is unread when we close, and it goes on talking.
    await writeAll(peer, noise(50_000));
    const answer = noise(100_000);
    channel.send(answer);
    const served = run(map);
    await turns();
    channel.close();
    await turns();
    const talking = writeAll(peer, noise(1_000_000));
    const got = await readToEnd(peer);
    assertEquals(got, answer);
    await talking;
    peer.close();
    await served;
  }
});

Deno.test("9 a closed socket waits 2 s for the peer's end of file, then closes", async () => {
  const clock = new StoppedClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.send(bytes("bye"));
  channel.close();
  let ended = false;
  const served = run(map).then(() => ended = true);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  await clock.advance(1_999);
  assertEquals(ended, false);
  await writeAll(peer, bytes("still here")); // Thrown away.
  await turns();
  assertEquals(ended, false);
  await clock.advance(1);
  await served;
});

Deno.test("9 a closed socket closes at the peer's end of file", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [channel, peer] = await pair(map);
  channel.send(bytes("bye"));
  channel.close();
  let ended = false;
  const served = run(map).then(() => ended = true);
  assertEquals(text(await readToEnd(peer)), "bye");
  await turns();
  assertEquals(ended, false);
  peer.close();
  await served;
});

Deno.test("9 a socket closes at once if nothing was sent or the end was seen", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [silent, peer] = await pair(map);
  using _ = peer;
  silent.close();
  await run(map);
  assertEquals((await readToEnd(peer)).length, 0);

  const [channel, peer2] = await pair(map);
  channel.send(bytes("answer"));
  await readExactly(peer2, 6);
  await peer2.closeWrite();
  await run(map);
  assertEquals(channel.events, ["read", "eof", "close eof"]);
  peer2.close();
});

Deno.test("9 lingering ends when no byte is written for lingerTimeout", async () => {
  for (const lingerTimeout of [undefined, 500]) {
    const clock = new StoppedClock();
    await using map = new ChannelMap({ clock });
    const sendBufferSize = 1 << 25;
    const [channel, peer] = await pair(
      map,
      lingerTimeout === undefined
        ? { sendBufferSize }
        : { sendBufferSize, lingerTimeout },
    );
    using _ = peer;
    const size = channel.send(new Uint8Array(sendBufferSize));
    channel.close();
    let ended = false;
    const served = run(map).then(() => ended = true);
    const wait = lingerTimeout ?? 10_000;
    await turns(20);
    await clock.advance(wait - 1);
    assertEquals(ended, false);
    // A byte that goes out starts the time anew.
    const before = channel.bytesWritten;
    let got = 0;
    while (channel.bytesWritten === before) {
      got += await peer.read(new Uint8Array(1 << 20)) ?? 0;
      await turns();
    }
    await turns(20);
    await clock.advance(wait - 1);
    assertEquals(ended, false);
    await clock.advance(1);
    await served;
    await readToEnd(peer).then((rest) => got += rest.length, () => {});
    assertLess(got, size);
  }
});

Deno.test("9 a lingerTimeout of 0 closes at once", async () => {
  await using map = new ChannelMap({ clock: new StoppedClock() });
  const [channel, peer] = await pair(map, {
    sendBufferSize: 1 << 25,
    lingerTimeout: 0,
  });
  using _ = peer;
  const size = channel.send(new Uint8Array(1 << 25));
  await turns();
  channel.close();
  await run(map);
  const got = await readToEnd(peer).then((data) => data.length, () => 0);
  assertLess(got, size);
});

Deno.test("9 a peer that never reads stops send(), and memory stays bounded", async () => {
  await using map = new ChannelMap();
  const size = 100_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  using _ = peer;
  let taken = 0;
  let calls = 0;
  const piece = new Uint8Array(30_000);
  channel.writable = () => true;
  channel.handleWrite = () => {
    calls++;
    for (let n = 1; n > 0;) {
      n = channel.send(piece);
      taken += n;
      assertLessOrEqual(taken - channel.bytesWritten, size);
    }
    assertEquals(channel.room, 0);
  };
  // Until the kernel takes no more.
  for (let quiet = 0, before = -1; quiet < 20;) {
    await poll(0, map);
    quiet = channel.bytesWritten === before ? quiet + 1 : 0;
    before = channel.bytesWritten;
  }
  assertEquals(taken - channel.bytesWritten, size);
  assertEquals(channel.send(piece), 0);
  const served = calls;
  for (let i = 0; i < 20; i++) {
    await poll(0, map);
    map.wake();
  }
  assertEquals(calls, served);
  channel.abort();
});

Deno.test("9 writing starts when the handler returns, for every channel it sent to", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const [other, otherPeer] = await pair(map);
  const elsewhere = new ChannelMap();
  const [foreign, foreignPeer] = await pair(elsewhere);
  const [suspended, suspendedPeer] = await pair(map);
  using _1 = peer;
  using _2 = otherPeer;
  using _3 = foreignPeer;
  using _4 = suspendedPeer;
  suspended.delChannel();
  channel.handleRead = () => {
    channel.recv();
    for (const each of [channel, other, foreign, suspended]) {
      for (const letter of "hello") each.send(bytes(letter));
      assertEquals(each.bytesWritten, 0);
    }
    throw new ExitNow("left"); // Even then.
  };
  await writeAll(peer, bytes("x"));
  const left = await run(map).catch((error) => error);
  assertInstanceOf(left, ExitNow);
  for (const each of [peer, otherPeer, foreignPeer, suspendedPeer]) {
    const data = new Uint8Array(9);
    // All letters left in one system call.
    assertEquals(await within(each.read(data)), 5);
    assertEquals(text(data.subarray(0, 5)), "hello");
  }
  foreign.close();
  suspended.close();
});

Deno.test("9 after an await in a handler writing starts in the next microtask", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  const gate = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  channel.handleRead = async () => {
    channel.recv();
    await gate.promise;
    channel.send(bytes("lat"));
    channel.send(bytes("er"));
    await done.promise;
  };
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.bytesRead > 0);
  gate.resolve();
  const data = new Uint8Array(9);
  assertEquals(await within(peer.read(data)), 5);
  assertEquals(text(data.subarray(0, 5)), "later");
  done.resolve();
});

Deno.test("9 bytes leave in the order they were sent, one byte at a time to one byte at a time", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const data = noise(2_000);
  let at = 0;
  channel.writable = () => at < data.length;
  channel.handleWrite = () => {
    at += channel.send(data.subarray(at, at + 1));
  };
  const read = (async () => {
    const got = new Uint8Array(data.length);
    for (let n = 0; n < got.length; n++) {
      assertEquals(await peer.read(got.subarray(n, n + 1)), 1);
    }
    peer.close();
    return got;
  })();
  await run(map);
  assertEquals(await read, data);
});

Deno.test("10 a peer that sends one byte at a time is read as it comes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const data = noise(1_000);
  const got: number[] = [];
  channel.handleRead = () => void got.push(...channel.recv());
  const sent = (async () => {
    for (const byte of data) await writeAll(peer, Uint8Array.of(byte));
    peer.close();
  })();
  await run(map);
  await sent;
  assertEquals(Uint8Array.from(got), data);
  assertEquals(channel.events, ["eof", "close eof"]);
});

Deno.test("10 an echo of a million bytes is the same bytes", async () => {
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    const [conn, peer] = unix ? await unixPair() : await tcpPair();
    const channel = new Recorder(conn, { map, sendBufferSize: 30_000 });
    channel.readable = () => channel.room > 0;
    channel.handleRead = () => {
      const data = channel.recvView(channel.room);
      assertEquals(channel.send(data), data.length);
    };
    channel.handleEof = () => channel.close();
    const data = noise(1_000_000);
    const written = writeAll(peer, data).then(() => peer.closeWrite());
    const read = readToEnd(peer);
    const served = run(map);
    await written;
    assertEquals(await read, data);
    peer.close();
    await served;
    assertEquals(channel.errors, []);
  }
});

Deno.test("14 map.wake() and wake() end the wait", async () => {
  for (const who of ["map", "channel"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    let wanted = false;
    channel.readable = () => false;
    channel.writable = () => wanted;
    channel.handleWrite = () => channel.close();
    const served = run(map);
    await turns(); // It waits.
    wanted = true;
    (who === "map" ? map : channel).wake();
    await served;
  }
});

Deno.test("14 send(), close() and disconnect() from outside end the wait", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.readable = () => false;
  let served = run(map);
  await turns();
  channel.close();
  await served;

  const [other, otherPeer] = await pair(map);
  using _other = otherPeer;
  other.readable = () => false;
  served = run(map);
  await turns();
  other.disconnect({ kind: "done" });
  await served;
  assertEquals(other.events, ["close done"]);

  const [third, thirdPeer] = await pair(map, { sendBufferSize: 10 });
  using _third = thirdPeer;
  third.readable = () => false;
  let full = true;
  third.writable = () => !full;
  third.handleWrite = () => third.close();
  served = run(map);
  await turns();
  full = false;
  third.send(bytes("x"));
  await readToEnd(thirdPeer);
  thirdPeer.close();
  await served;
});

Deno.test("14 recv() from outside takes what a read event was due for, and reading goes on", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await poll(0, map);
  await writeAll(peer, bytes("taken"));
  await until(() => channel.bytesRead === 5);
  assertEquals(text(channel.recv()), "taken");
  await writeAll(peer, bytes("next"));
  peer.close();
  await run(map);
  assertEquals(channel.events, ["read next", "read", "eof", "close eof"]);
});

Deno.test("14 accept() from outside takes what an accept event was due for, and accepting goes on", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  await poll(0, map);
  using first = await Deno.connect(addr);
  let taken: [Deno.Conn, Deno.Addr] | null = null;
  await until(() => (taken = server.accept()) !== null);
  using second = await Deno.connect(addr);
  await serveUntil(map, () => server.events.length > 0);
  taken![0].close();
  assertEquals((await readToEnd(first)).length, 0);
  assertEquals((await readToEnd(second)).length, 0);
  assertEquals(server.events, ["accepted"]);
});

Deno.test("14 a channel that comes from outside is served by the waiting loop", async () => {
  await using map = new ChannelMap();
  const [server] = listening(map);
  const served = run(map);
  await turns();
  const [channel, peer] = await pair(map);
  await writeAll(peer, bytes("hello"));
  peer.close();
  channel.handleClose = () => server.close();
  await served;
  assertEquals(channel.received, "hello");
});

Deno.test("17 a connection that handleAccepted() fails on is closed", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  const ways: ((conn: Deno.Conn) => void | Promise<void>)[] = [
    () => {
      throw new Error("at once");
    },
    async () => {
      await turns(2);
      throw new Error("later");
    },
    () => Promise.reject(new Error("by a promise")),
  ];
  for (const way of ways) {
    server.handleAccepted = way;
    using peer = await Deno.connect(addr);
    server.errors.length = 0;
    await serveUntil(map, () => server.errors.length > 0);
    assertEquals((await readToEnd(peer)).length, 0);
    assertEquals(server.errors.length, 1);
  }
  assert(server.accepting);
});

Deno.test("17 a connection that was adopted stays open when handleAccepted() fails", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  const adopted: Recorder[] = [];
  server.handleAccepted = (conn) => {
    adopted.push(new Recorder(conn, { map }));
    throw new Error("afterwards");
  };
  using peer = await Deno.connect(addr);
  await serveUntil(map, () => adopted.length > 0);
  assertEquals(server.errors.length, 1);
  await writeAll(peer, bytes("still here"));
  await serveUntil(map, () => adopted[0]!.received !== "");
  assertEquals(adopted[0]!.received, "still here");
});

Deno.test("17 a connection belongs to handleAccepted(), whatever it does with it", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let kept: Deno.Conn | undefined;
  server.handleAccepted = (conn) => void (kept = conn);
  using peer = await Deno.connect(addr);
  await serveUntil(map, () => kept !== undefined);
  server.close();
  await run(map);
  await writeAll(kept!, bytes("mine"));
  assertEquals(text(await readExactly(peer, 4)), "mine");
  kept!.close();
});

Deno.test("17 an async handleAccepted() holds back the next connection", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  const gate = Promise.withResolvers<void>();
  let running = 0;
  let most = 0;
  let accepted = 0;
  server.handleAccepted = async (conn) => {
    accepted++;
    most = Math.max(most, ++running);
    if (accepted === 1) await gate.promise;
    running--;
    conn.close();
  };
  using _1 = await Deno.connect(addr);
  using _2 = await Deno.connect(addr);
  using _3 = await Deno.connect(addr);
  await serveUntil(map, () => accepted > 0);
  await turns();
  await poll(0, map);
  assertEquals(accepted, 1);
  gate.resolve();
  await serveUntil(map, () => accepted === 3);
  assertEquals(most, 1);
});

Deno.test("17 close() of a listener closes what it accepted and did not deliver", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let wanted = true;
  server.readable = () => wanted;
  await poll(0, map);
  wanted = false;
  using peer = await Deno.connect(addr);
  await turns(); // It was accepted, and waits.
  server.close();
  assertEquals((await readToEnd(peer)).length, 0);
  assertEquals(server.events, []);
});

Deno.test("17 close() of a listener closes what arrives afterwards, too", async () => {
  await using map = new ChannelMap();
  for (let i = 0; i < 40; i++) {
    const [server, addr] = listening(map);
    await poll(0, map);
    // Somewhere between the connection and its acceptance: some turns later,
    // or as soon as the other side knows of it.
    const hops = i % 4;
    const connected = Deno.connect(addr).then(
      async (peer) => {
        if (hops === 3) server.close();
        const data = await readToEnd(peer).catch(() => new Uint8Array(0));
        peer.close();
        return data.length;
      },
      () => 0,
    );
    if (hops < 3) {
      await turns(hops);
      server.close();
    }
    assertEquals(await within(connected), 0);
    assertEquals(server.events, []);
  }
});

Deno.test("17 close() of a listener closes what was accepted in the same moment", async () => {
  await using map = new ChannelMap();
  const [ours, theirs] = await tcpPair();
  using _ours = ours;
  using _theirs = theirs;
  for (let i = 0; i < 20; i++) {
    const [server, addr] = listening(map);
    await poll(0, map);
    // Both complete at once, and whoever waits for the one ends the other.
    const closed = ours.read(new Uint8Array(1)).then(() => server.close());
    const written = theirs.write(Uint8Array.of(1));
    const connected = Deno.connect(addr);
    await within(closed);
    await written;
    const peer = await within(connected);
    const data = await readToEnd(peer).catch(() => new Uint8Array(0));
    assertEquals(data.length, 0);
    assertEquals(server.events, []);
    peer.close();
  }
});

Deno.test("17 a listener that closes in handleAccepted() delivers nothing more", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  const peers = await Promise.all(
    Array.from({ length: 5 }, () => Deno.connect(addr)),
  );
  let accepted = 0;
  server.handleAccepted = (conn) => {
    accepted++;
    conn.close();
    server.close();
  };
  await run(map);
  assertEquals(accepted, 1);
  for (const peer of peers) {
    await readToEnd(peer).catch(() => {});
    peer.close();
  }
});

Deno.test("17 300 connections at once are all accepted and answered", async () => {
  await using map = new ChannelMap();
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen(512);
  const { hostname, port } = server.addr as Deno.NetAddr;
  const seen = new Set<Deno.Conn>();
  server.handleAccepted = (conn) => {
    assert(!seen.has(conn));
    seen.add(conn);
    const echo = new Recorder(conn, { map });
    echo.handleRead = () => void echo.send(echo.recv());
    echo.handleEof = () => echo.close();
    if (seen.size === 300) server.close();
  };
  const served = run(map);
  const answers = await Promise.all(
    Array.from({ length: 300 }, async (_, i) => {
      using conn = await Deno.connect({ hostname, port });
      await writeAll(conn, bytes(`client ${i}`));
      await conn.closeWrite();
      return text(await readToEnd(conn));
    }),
  );
  await served;
  assertEquals(answers, answers.map((_, i) => `client ${i}`));
  assertEquals(map.counters.accepts, 300);
});

Deno.test("17 300 clients at once all connect and are answered", async () => {
  await using map = new ChannelMap();
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen(512);
  let closed = 0;
  server.handleAccepted = (conn) => {
    const echo = new Recorder(conn, { map });
    echo.handleRead = () => void echo.send(echo.recv());
    echo.handleClose = () => {
      if (++closed === 300) server.close();
    };
  };
  const clients = Array.from({ length: 300 }, (_, i) => {
    const client = connecting(map, server.addr!);
    client.handleConnect = () => {
      client.events.push("connect");
      client.send(bytes(`client ${i}`));
    };
    client.handleRead = () => {
      client.received += text(client.recv());
      if (client.received === `client ${i}`) client.close();
    };
    return client;
  });
  await run(map);
  clients.forEach((client, i) => {
    assertEquals(client.received, `client ${i}`);
    assertEquals(client.events, ["connect"]);
  });
  assertEquals(map.counters.connects, 300);
});

Deno.test("17 a connection that others closed ends with an error", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await poll(0, map); // Starts a read.
  conn.close();
  await run(map);
  assertEquals(channel.events, ["read", "close error"]);
  assertInstanceOf(channel.reasons[0]?.error, Error);

  // Found by a write.
  const [conn2, peer2] = await tcpPair();
  using _2 = peer2;
  const writer = new Recorder(conn2, { map });
  writer.readable = () => false;
  conn2.close();
  writer.send(bytes("x"));
  await run(map);
  assertEquals(writer.events, ["close error"]);
});

Deno.test("17 a closed connection is refused, or ends with an error at once", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await unixPair();
  using _ = peer;
  conn.close();
  // Deno does not tell of a Unix socket that it is closed before it is used.
  let channel: Recorder;
  try {
    channel = new Recorder(conn, { map });
  } catch (error) {
    return assertInstanceOf(error, TypeError);
  }
  await run(map);
  assertEquals(channel.events.at(-1), "close error");
});

Deno.test("18 delChannel() takes back the events of the running pass", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map, { usePoll });
    await writeAll(peer1, bytes("1"));
    await writeAll(peer2, bytes("2"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first suspends both.
    let suspend = true;
    for (const channel of [first, second]) {
      channel.handleRead = () => {
        channel.received += text(channel.recv());
        if (!suspend) return;
        first.delChannel();
        second.delChannel();
      };
    }
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals((first.received + second.received).length, 1);
    assertEquals(map.size, 0);
    suspend = false;
    first.addChannel();
    second.addChannel();
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals([first.received, second.received], ["1", "2"]);
  }
});

Deno.test("18 a channel that another one moves to another map is served there", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    await using other = new ChannelMap();
    const [first, peer1] = await pair(map);
    const [second, peer2] = await pair(map);
    using _1 = peer1;
    using _2 = peer2;
    await poll(0, map);
    await writeAll(peer1, bytes("1"));
    await writeAll(peer2, bytes("2"));
    await until(() => first.bytesRead + second.bytesRead === 2);
    // Whoever comes first moves the other one.
    const ran: Recorder[] = [];
    const move = (channel: Recorder, moved: Recorder) => {
      channel.handleRead = () => {
        channel.received += text(channel.recv());
        if (ran.push(channel) === 1) moved.addChannel(other);
      };
    };
    move(first, second);
    move(second, first);
    for (let i = 0; i < 3; i++) await poll(0, map, { usePoll });
    assertEquals(ran.length, 1);
    assertEquals([map.size, other.size], [1, 1]);
    await serveUntil(other, () => ran.length === 2);
    assertEquals([first.received, second.received], ["1", "2"]);
  }
});

Deno.test("18 what was in flight at delChannel() is kept for addChannel()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  await poll(0, map); // A read is in flight.
  channel.delChannel();
  await writeAll(peer, bytes("kept"));
  peer.close();
  await until(() => channel.bytesRead === 4);
  await run(map);
  assertEquals(channel.events, []);
  channel.addChannel();
  await run(map);
  assertEquals(channel.events, ["read kept", "read", "eof", "close eof"]);
});

Deno.test("18 an end that is due waits, too", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  channel.disconnect({ kind: "limit" });
  channel.delChannel();
  await run(map);
  assertEquals(channel.events, []);
  channel.addChannel();
  await run(map);
  assertEquals(channel.events, ["close limit"]);
});

Deno.test("18 a listener keeps the connection it had asked for", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  await poll(0, map);
  server.delChannel();
  using peer = await Deno.connect(addr);
  await turns();
  await run(map);
  assertEquals(server.events, []);
  server.addChannel();
  await serveUntil(map, () => server.events.length > 0);
  assertEquals(server.events, ["accepted"]);
  assertEquals((await readToEnd(peer)).length, 0);
});

Deno.test("18 a connect that ends while suspended is told afterwards", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const refused = listenTcp();
  refused.close();
  const client = connecting(map, listener.addr);
  const failing = connecting(map, refused.addr);
  client.delChannel();
  failing.delChannel();
  using _ = await listener.accept();
  await turns(10);
  await run(map);
  assertEquals([client.events, failing.events], [[], []]);
  client.addChannel();
  failing.addChannel();
  await serveUntil(
    map,
    () => client.events.length > 0 && failing.reasons.length > 0,
  );
  assertEquals(client.events, ["connect"]);
  assertEquals(failing.events, ["error", "close error"]);
});

Deno.test("18 bytes that send() took are written while suspended", async () => {
  await using map = new ChannelMap();
  const size = 20_000_000;
  const [channel, peer] = await pair(map, { sendBufferSize: size });
  const data = noise(size);
  channel.send(data);
  channel.delChannel();
  const got = await readExactly(peer, size);
  assertEquals(await sha256(got), await sha256(data));
  channel.close();
  peer.close();
  await turns();
});

Deno.test("5 close() in handleConnect() is the last event", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => true;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      client.send(bytes("bye"));
      client.close();
    };
    const read = readToEnd(peer).then((got) => {
      peer.close();
      return text(got);
    });
    await run(map, { usePoll });
    assertEquals(client.events, ["connect"]);
    assertEquals(await read, "bye");
  }
});

Deno.test("6 disconnect() in handleConnect() is followed by handleClose() only", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const client = connecting(map, listener.addr);
    client.writable = () => true;
    using peer = await listener.accept();
    await writeAll(peer, bytes("hello"));
    client.handleConnect = () => {
      client.events.push("connect");
      client.disconnect({ kind: "done" });
    };
    await run(map, { usePoll });
    assertEquals(client.events, ["connect", "close done"]);
  }
});

Deno.test("6 disconnect() of a channel that was added in the same pass leads to handleClose()", async () => {
  for (const usePoll of [false, true]) {
    await using map = new ChannelMap();
    const [server, addr] = listening(map);
    let child: Recorder | undefined;
    server.handleAccepted = (conn) => {
      child = new Recorder(conn, { map });
      child.disconnect({ kind: "limit" });
      server.close();
    };
    using peer = await Deno.connect(addr);
    await run(map, { usePoll });
    assertEquals(child?.events, ["close limit"]);
    await readToEnd(peer).catch(() => {});
  }
});

Deno.test("5 a listener of signal may close the channel while it ends", async () => {
  for (const how of ["disconnect", "close", "abort", "eof"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    let aborted = 0;
    channel.signal.addEventListener("abort", () => {
      aborted++;
      channel.close();
      channel.abort();
    });
    if (how === "eof") await peer.closeWrite();
    else if (how === "disconnect") channel.disconnect({ kind: "error" });
    else channel[how]();
    await run(map);
    assertEquals(aborted, 1, how);
    assertEquals(channel.reasons.length, 0, how);
    assertEquals(map.size, 0, how);
  }
});

/** Has other channels receive and send what would overwrite a buffer in use. */
async function churn(map: ChannelMap): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const [channel, peer] = await pair(map);
    channel.handleRead = () => {
      const data = channel.recv();
      channel.send(data.fill(35));
      channel.received += text(data);
    };
    for (let n = 1; n <= 4; n++) {
      await writeAll(peer, bytes("#".repeat(200)));
      await until(() => channel.received.length === 200 * n);
    }
    channel.close();
    peer.close();
  }
}

Deno.test("10 a view lives as long as its async handler, after close(), too", async () => {
  for (const how of ["close", "abort", "createSocket"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    const seen: string[] = [];
    const gate = Promise.withResolvers<void>();
    channel.handleRead = async () => {
      const view = channel.recvView(4);
      const rest = channel.recvView();
      channel[how === "abort" ? "abort" : "close"]();
      if (how === "createSocket") channel.createSocket();
      await gate.promise;
      seen.push(text(view), text(rest));
      if (how === "createSocket") channel.close();
    };
    await writeAll(peer, bytes("lent bytes"));
    const served = run(map);
    await until(() => !channel.connected);
    await churn(map);
    gate.resolve();
    await served;
    assertEquals(seen, ["lent", " bytes"], how);
  }
});

Deno.test("10 a view lives as long as an async handleClose()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let seen = "";
  const gate = Promise.withResolvers<void>();
  let entered = false;
  channel.handleRead = () => channel.disconnect({ kind: "error" });
  channel.handleClose = async () => {
    const view = channel.recvView();
    entered = true;
    await gate.promise;
    seen = text(view);
  };
  await writeAll(peer, bytes("lent bytes"));
  const served = run(map);
  await until(() => entered);
  await churn(map);
  gate.resolve();
  await served;
  assertEquals(seen, "lent bytes");
});

Deno.test("10 a view of another channel lives as long as the handler that took it", async () => {
  await using map = new ChannelMap();
  const [taker, takerPeer] = await pair(map);
  const [channel, peer] = await pair(map);
  using _1 = takerPeer;
  using _2 = peer;
  let wanted = true;
  channel.readable = () => wanted;
  let seen = "";
  let entered = false;
  const gate = Promise.withResolvers<void>();
  await poll(0, map);
  await writeAll(peer, bytes("lent bytes"));
  await until(() => channel.bytesRead === 10);
  wanted = false;
  taker.handleRead = async () => {
    taker.recv();
    const view = channel.recvView(4);
    wanted = true;
    channel.wake();
    entered = true;
    await gate.promise;
    seen = text(view);
  };
  await writeAll(takerPeer, bytes("x"));
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => entered);
  await writeAll(peer, bytes("OTHER BYTES"));
  await until(() => channel.received === " bytesOTHER BYTES");
  await churn(map);
  gate.resolve();
  await until(() => seen !== "");
  controller.abort();
  await served;
  assertEquals(seen, "lent");
});

Deno.test("10 a view that was taken outside of handlers stays good", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  await poll(0, map);
  await writeAll(peer, bytes("lent bytes"));
  await until(() => channel.bytesRead === 10);
  const view = channel.recvView(4);
  const served = run(map);
  channel.wake();
  // A handler takes the rest and returns: that is not the end of the view.
  await writeAll(peer, bytes("OTHER BYTES"));
  await until(() => channel.received === " bytesOTHER BYTES");
  await churn(map);
  assertEquals(text(view), "lent");
  channel.close();
  await served;
});

Deno.test("10 a view that was sent on may be reused at once", async () => {
  await using map = new ChannelMap();
  const [from, source] = await pair(map);
  const [to, target] = await pair(map, { sendBufferSize: 40_000 });
  const data = noise(3_000_000);
  from.readable = () => to.room > 0;
  from.handleRead = () => {
    const view = from.recvView(to.room);
    assertEquals(to.send(view), view.length);
    view.fill(0); // It is a copy that leaves.
  };
  from.handleClose = () => to.shutdown("write");
  const written = writeAll(source, data).then(() => source.close());
  const read = readToEnd(target).then((got) => {
    target.close();
    return got;
  });
  to.wake();
  await run(map);
  await written;
  assertEquals(await read, data);
});

/** A clock on which everything takes time, and whose timers fire on demand. */
class TickingClock extends StoppedClock {
  #ticks = 0;
  override now(): number {
    return super.now() + ++this.#ticks / 1_000;
  }
}

Deno.test("12 loop() ends when the last async handler settles, whatever alarm rang before", async () => {
  const clock = new TickingClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  using _ = peer;
  const gate = Promise.withResolvers<void>();
  let waiting = false;
  channel.handleRead = async () => {
    channel.received += text(channel.recv());
    if (channel.received.length < 3) return;
    // The alarm for the next sweep rings now, while nobody waits.
    void clock.advance(60_000);
    channel.close();
    waiting = true;
    await gate.promise;
  };
  const served = run(map);
  for (let n = 1; n <= 3; n++) {
    await writeAll(peer, bytes("x"));
    await until(() => channel.received.length === n);
    await turns();
  }
  assert(waiting);
  gate.resolve();
  await served;
});

Deno.test("9 loop() ends when the last socket has lingered, whatever alarm rang before", async () => {
  const clock = new TickingClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map, { lingerTimeout: 1e9 });
  channel.handleRead = () => {
    channel.received += text(channel.recv());
    if (channel.received.length < 3) return;
    void clock.advance(60_000);
    channel.send(bytes("bye"));
    channel.close();
  };
  const served = run(map);
  for (let n = 1; n <= 3; n++) {
    await writeAll(peer, bytes("x"));
    await until(() => channel.received.length === n);
    await turns();
  }
  assertEquals(text(await readToEnd(peer)), "bye");
  peer.close();
  await served;
});

Deno.test("13 a listener whose handleAccept() takes nothing waits, and does not spin", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let calls = 0;
  server.handleAccept = () => void calls++;
  using peer = await Deno.connect(addr);
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => calls > 0);
  await turns(20);
  assertEquals(calls, 1);
  // Somebody else may take it.
  const [conn] = server.accept()!;
  await writeAll(conn, bytes("hi"));
  assertEquals(text(await readExactly(peer, 2)), "hi");
  conn.close();
  // Then the next one is asked for.
  using second = await Deno.connect(addr);
  await until(() => calls > 1);
  controller.abort();
  await served;
  server.close();
  assertEquals((await readToEnd(second)).length, 0);
});

Deno.test("13 what was served without progress is served again when loop() is called", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let calls = 0;
  channel.handleRead = () => void calls++;
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => calls === 1);
  await run(map, { count: 1 });
  assertEquals(calls, 2);
});

Deno.test("13 what was served without progress is served again when a pass's timeout ends", async () => {
  const clock = new StoppedClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  const [other, otherPeer] = await pair(map);
  using _1 = peer;
  using _2 = otherPeer;
  let calls = 0;
  channel.handleRead = () => void calls++;
  let wanted = false;
  other.readable = () => wanted;
  await writeAll(peer, bytes("x"));
  await writeAll(otherPeer, bytes("y"));
  const served = run(map, { timeout: 1_000 });
  await until(() => calls === 1);
  wanted = true; // And nobody says so.
  await clock.advance(999);
  assertEquals([calls, other.received], [1, ""]);
  await clock.advance(1);
  // Once for the time, and perhaps again since the other one made progress.
  await until(() => calls > 1 && other.received === "y");
  channel.close();
  other.close();
  await served;
});

Deno.test("13 a handler that takes the place of the library's own is called after wake()", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Dispatcher(conn, { map });
  await writeAll(peer, bytes("x"));
  const served = run(map);
  await until(() => map.counters.reads > 0 && map.counters.writes > 0);
  let written = 0;
  let read = "";
  channel.handleWrite = () => {
    if (written === 0) written = channel.send(bytes("hello"));
  };
  channel.handleRead = () => void (read += text(channel.recv()));
  channel.wake();
  assertEquals(text(await readExactly(peer, 5)), "hello");
  await until(() => read === "x");
  channel.close();
  peer.close();
  await served;
});

Deno.test("13 a relay of default predicates moves on when the other end wakes it", async () => {
  await using map = new ChannelMap();
  const [from, source] = await pair(map);
  const [to, target] = await pair(map, { sendBufferSize: 5_000 });
  const data = noise(8_000_000);
  // Takes what the other end has room for, which may be nothing.
  from.handleRead = () => {
    if (to.room > 0) to.send(from.recv(to.room));
  };
  to.writable = () => true;
  to.handleWrite = () => from.wake();
  from.handleEof = () => to.close();
  from.handleClose = () => {};
  const written = writeAll(source, data).then(() => source.closeWrite());
  const read = readToEnd(target).then((got) => {
    target.close();
    from.close();
    return got;
  });
  await run(map);
  await written;
  assertEquals((await read).length, data.length);
  source.close();
});

Deno.test("18 delChannel() and addChannel() in a handler change nothing for the next events", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.handleRead = () => {
    channel.received += text(channel.recv(1));
    channel.delChannel();
    channel.addChannel();
  };
  await writeAll(peer, bytes("abc"));
  peer.close();
  await run(map);
  assertEquals(channel.received, "abc");
  assertEquals(channel.events, ["eof", "close eof"]);
});

Deno.test("18 a channel may change its map in a handler", async () => {
  await using map = new ChannelMap();
  await using other = new ChannelMap();
  const [channel, peer] = await pair(map);
  channel.handleRead = () => {
    channel.received += text(channel.recv(1));
    channel.addChannel(channel.received.length % 2 ? other : map);
  };
  await writeAll(peer, bytes("abcd"));
  peer.close();
  for (let i = 1; i <= 4; i++) await run(i % 2 ? map : other);
  assertEquals(channel.received, "abcd");
  await run(map);
  assertEquals(channel.events, ["eof", "close eof"]);
});
