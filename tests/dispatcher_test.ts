import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertIsError,
  assertMatch,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  type Address,
  ChannelMap,
  Dispatcher,
  type Family,
  poll,
} from "../mod.ts";
import {
  bytes,
  listenTcp,
  readExactly,
  readToEnd,
  Recorder,
  run,
  script,
  serveUntil,
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

/** A listening recorder. */
function listening(map: ChannelMap, addr: Address = LOOPBACK): Recorder {
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(addr);
  server.listen();
  return server;
}

/** A recorder that connects. */
function connecting(map: ChannelMap, addr: Deno.Addr | null): Recorder {
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(addr as Deno.NetAddr | Deno.UnixAddr);
  return client;
}

Deno.test("constructor() makes a dispatcher that is in no map and has no socket", () => {
  const map = new ChannelMap();
  for (const conn of [undefined, null]) {
    const dispatcher = new Dispatcher(conn, { map });
    assertEquals(map.size, 0);
    const { connected, accepting, connecting, closing } = dispatcher;
    assertEquals(
      { connected, accepting, connecting, closing },
      {
        connected: false,
        accepting: false,
        connecting: false,
        closing: false,
      },
    );
    assertEquals(dispatcher.addr, null);
    assertEquals(dispatcher.localAddr, null);
    assertEquals(dispatcher.remoteAddr, null);
    assertEquals(dispatcher.room, 0);
    assertEquals(dispatcher.bytesRead, 0);
    assertEquals(dispatcher.bytesWritten, 0);
    assertEquals(dispatcher.readable(), true);
    assertEquals(dispatcher.writable(), true);
    assertEquals(dispatcher.debug, false);
    assertEquals(dispatcher.ignoreLogTypes, new Set(["warning"]));
    dispatcher.close();
  }
});

Deno.test("constructor() adopts an open connection, which is connected at once", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const dispatcher = new Dispatcher(conn, { map });
  assertEquals([...map], [dispatcher]);
  assert(dispatcher.connected);
  assertEquals(dispatcher.connecting, false);
  assertEquals(dispatcher.addr, conn.remoteAddr);
  assertEquals(dispatcher.remoteAddr, conn.remoteAddr);
  assertEquals(dispatcher.localAddr, conn.localAddr);
  assertEquals(dispatcher.room, 262_144);
});

Deno.test("constructor() refuses what it cannot adopt, and leaves the map alone", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const [closed, other] = await tcpPair();
  using _peer = peer;
  using _other = other;
  using listener = listenTcp();
  closed.close();
  const owner = new Dispatcher(conn, { map });
  for (
    const [what, value] of Object.entries({
      adopted: conn,
      closed,
      listener,
      object: {},
      string: "127.0.0.1:80",
      number: 3,
    })
  ) {
    const error = assertThrows(
      () => new Dispatcher(value as unknown as Deno.Conn, { map }),
      TypeError,
      "",
      what,
    );
    assertMatch(error.message, /^Cannot adopt .+: [^]*[^.]$/, what);
  }
  assertEquals([...map], [owner]);
  assert(owner.connected);
});

Deno.test("constructor() refuses a connection that its former dispatcher closed", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  new Dispatcher(conn, { map }).close();
  assertThrows(() => new Dispatcher(conn, { map }), TypeError, "Cannot adopt");
});

Deno.test("constructor() refuses options out of range", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _conn = conn;
  using _peer = peer;
  const options = [
    { sendBufferSize: -1 },
    { sendBufferSize: 0 },
    { sendBufferSize: 1.5 },
    { sendBufferSize: NaN },
    { lingerTimeout: -1 },
    { lingerTimeout: NaN },
  ];
  for (const option of options) {
    for (const socket of [null, conn]) {
      const error = assertThrows(
        () => new Dispatcher(socket, { map, ...option }),
        RangeError,
        "Cannot set ",
        Deno.inspect(option),
      );
      assertMatch(error.message, /: .+[^.]$/);
    }
  }
  assertEquals(map.size, 0);
  // The connection is not taken by what failed.
  new Dispatcher(conn, { map });
  assertEquals(map.size, 1);
});

Deno.test("constructor() refuses a map that is no ChannelMap", async () => {
  const map = new Map() as unknown as ChannelMap;
  const [conn, peer] = await tcpPair();
  using _conn = conn;
  using _peer = peer;
  for (const socket of [null, conn]) {
    const error = assertThrows(
      () => new Dispatcher(socket, { map }),
      TypeError,
    );
    assertMatch(error.message, /^Cannot \w[^:]*: .*[^.]$/);
  }
});

Deno.test("createSocket() enters the map at once", () => {
  const map = new ChannelMap();
  const dispatcher = new Dispatcher(null, { map });
  dispatcher.createSocket();
  assertEquals([...map], [dispatcher]);
  assertEquals(dispatcher.connected, false);
  assertEquals(dispatcher.connecting, false);
  assertEquals(dispatcher.room, 0);
  dispatcher.close();
  assertEquals(map.size, 0);
});

Deno.test("createSocket() checks the family of addresses when one is given", () => {
  const hosts = {
    "127.0.0.1": "inet",
    "::1": "inet6",
    "[::1]": "inet6",
    "::ffff:127.0.0.1": "inet6",
    // For a name the resolver decides.
    "localhost": "name",
  };
  const addresses: [Address, string][] = [
    ...Object.entries(hosts).map(([hostname, family]) =>
      [{ hostname, port: 80 }, family] as [Address, string]
    ),
    [{ path: "/nowhere" }, "unix"],
    [{ transport: "unix", path: "/nowhere" }, "unix"],
  ];
  for (const family of [undefined, "inet", "inet6", "unix"] as const) {
    for (const [address, own] of addresses) {
      const dispatcher = new Dispatcher(null, { map: new ChannelMap() });
      dispatcher.createSocket(family);
      const fits = family === undefined || family === own ||
        own === "name" && family !== "unix";
      const label = `${family} ${Deno.inspect(address)}`;
      for (const verb of ["bind", "connect"] as const) {
        if (fits) {
          // `connect` would start; that it works is the matter of other tests.
          if (verb === "bind") dispatcher.bind(address);
          continue;
        }
        const error = assertThrows(
          () => dispatcher[verb](address),
          TypeError,
          `Cannot ${verb} `,
          label,
        );
        assertMatch(error.message, /: .+[^.]$/, label);
        assertEquals(dispatcher.addr, null, label);
        assertEquals(dispatcher.connecting, false, label);
      }
      dispatcher.close();
    }
  }
});

Deno.test("createSocket() refuses a family or a type that does not exist", () => {
  const map = new ChannelMap();
  const dispatcher = new Dispatcher(null, { map });
  for (const family of ["inet4", "ipv4", "", null, 2]) {
    assertThrows(
      () => dispatcher.createSocket(family as unknown as Family),
      TypeError,
      "Cannot create socket",
      Deno.inspect(family),
    );
  }
  for (const type of ["raw", "", null, 1]) {
    assertThrows(
      () => dispatcher.createSocket("inet", type as unknown as "stream"),
      TypeError,
      "Cannot create socket",
      Deno.inspect(type),
    );
  }
  assertEquals(map.size, 0);
});

Deno.test("createSocket() makes a new channel after close()", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const dispatcher = new Recorder(conn, { map });
  const { signal } = dispatcher;
  dispatcher.send(bytes("x"));
  dispatcher.close();
  assert(signal.aborted);
  dispatcher.createSocket();
  assertEquals([...map], [dispatcher]);
  assertEquals(dispatcher.connected, false);
  assertEquals(dispatcher.closing, false);
  assertEquals(dispatcher.remoteAddr, null);
  assertEquals(dispatcher.bytesWritten, 0);
  assertEquals(dispatcher.signal.aborted, false);
});

Deno.test("bind() remembers the address until listen() gives the real one", async () => {
  await using map = new ChannelMap();
  const server = new Dispatcher(null, { map });
  server.createSocket("inet");
  server.bind(LOOPBACK);
  assertEquals(server.addr, { transport: "tcp", ...LOOPBACK });
  assertEquals(server.localAddr, null);
  assertEquals(server.accepting, false);
  server.listen(5);
  const { hostname, port } = server.addr as Deno.NetAddr;
  assertEquals(hostname, "127.0.0.1");
  assert(port > 0);
  assertEquals(server.localAddr, server.addr);
  assertEquals(server.remoteAddr, null);
  assertEquals(server.accepting, true);
  assertEquals(server.connected, false);
  server.close();
  assertEquals(server.accepting, false);
});

Deno.test("bind() without a host name means every address", async () => {
  await using map = new ChannelMap();
  const server = listening(map, { port: 0 });
  assertEquals((server.addr as Deno.NetAddr).hostname, "0.0.0.0");
});

Deno.test("listen() throws AddrInUse at once when the address is taken", async () => {
  await using map = new ChannelMap();
  using taken = listenTcp();
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(taken.addr as Deno.NetAddr);
  assertThrows(() => server.listen(), Deno.errors.AddrInUse);
  assertEquals(server.accepting, false);
  assertEquals(server.localAddr, null);
  // It can be tried elsewhere.
  server.bind(LOOPBACK);
  server.listen();
  assert(server.accepting);
  await poll(0, map);
  assertEquals(server.events, []);
});

Deno.test("listen() refuses a backlog that is no count", () => {
  const server = new Dispatcher(null, { map: new ChannelMap() });
  server.createSocket();
  server.bind(LOOPBACK);
  for (const backlog of [-1, 1.5, NaN, Infinity]) {
    const error = assertThrows(
      () => server.listen(backlog),
      RangeError,
      "Cannot listen",
    );
    assertMatch(error.message, /: .+[^.]$/);
    assertEquals(server.accepting, false);
  }
  server.listen(0);
  assert(server.accepting);
  server.close();
});

Deno.test("listen() frees the address when the listener is closed", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const { addr } = server;
  server.close();
  server.createSocket();
  server.bind(addr as Deno.NetAddr);
  server.listen();
  assertEquals(server.addr, addr);
});

Deno.test("connect() shows its addresses in each state", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  assertEquals(client.connecting, true);
  assertEquals(client.connected, false);
  assertEquals(client.addr, { ...listener.addr });
  assertEquals(client.localAddr, null);
  assertEquals(client.remoteAddr, null);
  let seen: unknown;
  client.handleConnect = () => {
    const { connected, connecting, addr, remoteAddr, room } = client;
    const addrs = { addr: { ...addr }, remoteAddr: { ...remoteAddr } };
    seen = { connected, connecting, room, ...addrs };
  };
  using peer = await listener.accept();
  client.writable = () => seen === undefined;
  await serveUntil(map, () => seen !== undefined);
  assertEquals(seen, {
    connected: true,
    connecting: false,
    addr: { ...listener.addr },
    remoteAddr: { ...listener.addr },
    room: 262_144,
  });
  assertEquals(client.localAddr, peer.remoteAddr);
});

for (
  const [name, address] of Object.entries({
    "an IPv4 address": { hostname: "127.0.0.1", port: 0 },
    "an IPv6 address": { hostname: "::1", port: 0 },
    "an IPv6 address in brackets": { hostname: "[::1]", port: 0 },
    "a host name": { hostname: "localhost", port: 0 },
  })
) {
  Deno.test(`connect() reaches listen() at ${name}`, async () => {
    await using map = new ChannelMap();
    const server = listening(map, address);
    server.handleAccepted = (conn, addr) => {
      assertEquals(addr, conn.remoteAddr);
      const echo = new Recorder(conn, { map });
      echo.handleRead = () => void echo.send(echo.recv());
      server.close();
    };
    const client = new Recorder(null, { map });
    client.createSocket();
    const { port } = server.addr as Deno.NetAddr;
    client.connect({ ...address, port });
    client.handleConnect = () => void client.send(bytes("ping"));
    client.writable = () => !client.connected;
    client.handleRead = () => {
      client.received += text(client.recv());
      if (client.received === "ping") client.close();
    };
    await run(map);
    assertEquals(client.received, "ping");
    assertEquals(client.errors, []);
    assertEquals((client.addr as Deno.NetAddr).port, port);
  });
}

Deno.test("connect() reaches listen() over a Unix socket", async () => {
  using dir = tempDir();
  await using map = new ChannelMap();
  const path = `${dir.path}/s`;
  const server = new Recorder(null, { map });
  server.createSocket("unix");
  server.bind({ path });
  assertEquals(server.addr, { transport: "unix", path });
  server.listen();
  assertEquals(server.addr, { transport: "unix", path });
  server.handleAccepted = (conn) => {
    const echo = new Recorder(conn, { map });
    echo.handleRead = () => void echo.send(echo.recv());
    server.close();
  };
  const client = new Recorder(null, { map });
  client.createSocket("unix");
  client.connect({ path });
  assertEquals(client.addr, { transport: "unix", path });
  client.handleConnect = () => void client.send(bytes("ping"));
  client.writable = () => !client.connected;
  client.handleRead = () => {
    assertEquals(client.remoteAddr, { transport: "unix", path });
    client.received += text(client.recv());
    client.close();
  };
  await run(map);
  assertEquals(client.received, "ping");
});

Deno.test("connect() without a host name means this machine", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const { port } = server.addr as Deno.NetAddr;
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect({ port });
  await serveUntil(map, () => server.events.length > 0);
  assertEquals(server.events, ["accepted"]);
});

Deno.test("connect() after bind() says that Deno cannot choose the source address", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const client = new Dispatcher(null, { map });
  client.createSocket();
  client.bind(LOOPBACK);
  const error = assertThrows(
    () => client.connect(listener.addr as Deno.NetAddr),
    Deno.errors.NotSupported,
    "Cannot connect",
  );
  assertMatch(error.message, /: .+[^.]$/);
  assertEquals(client.connecting, false);
});

Deno.test("accept() returns the connection and the peer's address, then null", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  assertEquals(server.accept(), null);
  const { hostname, port } = server.addr as Deno.NetAddr;
  using peer = await Deno.connect({ hostname, port });
  let accepted: [Deno.Conn, Deno.Addr] | null = null;
  server.handleAccept = () => {
    accepted = server.accept();
    assertEquals(server.accept(), null);
  };
  await serveUntil(map, () => accepted !== null);
  const [conn, addr] = accepted!;
  using _ = conn;
  assertEquals(addr, peer.localAddr);
  assertEquals(conn.remoteAddr, peer.localAddr);
  await writeAll(conn, bytes("hi"));
  assertEquals(text(await readExactly(peer, 2)), "hi");
});

Deno.test("handleAccept() leads to handleAccepted() with connection and address", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  const { hostname, port } = server.addr as Deno.NetAddr;
  using peer = await Deno.connect({ hostname, port });
  const seen: [Deno.Conn, Deno.Addr][] = [];
  server.handleAccepted = (...args) => void seen.push(args);
  await serveUntil(map, () => seen.length > 0);
  const [[conn, addr]] = seen as [[Deno.Conn, Deno.Addr]];
  assertEquals(addr, peer.localAddr);
  conn.close();
});

Deno.test("close() leaves the map, and twice is once", async () => {
  const map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  const { addr } = channel;
  channel.close();
  channel.close();
  assertEquals(map.size, 0);
  assertEquals(map.counters.closes, 1);
  assertEquals(channel.connected, false);
  assertEquals(channel.closing, false);
  assertEquals(channel.addr, addr);
  assertEquals(channel.send(bytes("x")), 0);
  assertEquals(channel.room, 0);
  assertEquals(channel.recv().length, 0);
  assertEquals((await readToEnd(peer)).length, 0);
  await run(map);
  assertEquals(channel.events, []);
});

Deno.test("close() gives up a connect that is under way", async () => {
  const map = new ChannelMap();
  using listener = listenTcp();
  const client = connecting(map, listener.addr);
  client.close();
  assertEquals(client.connecting, false);
  await run(map);
  assertEquals(client.events, []);
});

Deno.test("Symbol.dispose closes, also where there is no socket", async () => {
  const map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  {
    using channel = new Recorder(conn, { map });
    using _none = new Recorder(null, { map });
    channel.send(bytes("kept"));
  }
  assertEquals(map.size, 0);
  assertEquals(text(await readToEnd(peer)), "kept");
  peer.close();
  await run(map);
});

Deno.test("disconnect() leads to one handleClose() of its kind", async () => {
  for (
    const kind of [
      "eof",
      "reset",
      "timeout",
      "error",
      "limit",
      "done",
    ] as const
  ) {
    await using map = new ChannelMap();
    const [conn, peer] = await tcpPair();
    using _ = peer;
    const channel = new Recorder(conn, { map });
    const error = new Error("why");
    channel.disconnect({ kind, error });
    channel.disconnect({ kind: "done" });
    assertEquals(channel.events, []);
    assertEquals(channel.closing, true);
    await run(map);
    assertEquals(channel.events, [`close ${kind}`]);
    assertStrictEquals(channel.reasons[0]?.error, error);
    assertEquals(channel.reasons[0]?.bytesUnsent, 0);
    assertEquals(channel.closing, false);
    assertEquals(channel.connected, false);
  }
});

Deno.test("disconnect() gives a reason without an error where there is none", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.disconnect({ kind: "done" });
  await run(map);
  assertEquals(channel.reasons, [{ kind: "done", bytesUnsent: 0 }]);
});

Deno.test("disconnect() ends a listener, too", async () => {
  await using map = new ChannelMap();
  const server = listening(map);
  server.disconnect({ kind: "done" });
  await run(map);
  assertEquals(server.events, ["close done"]);
  assertEquals(server.accepting, false);
});

Deno.test("disconnect() does nothing on a closed channel", async () => {
  const map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.close();
  channel.disconnect({ kind: "error" });
  await run(map);
  await turns();
  assertEquals(channel.events, []);
});

Deno.test("addChannel() brings back what delChannel() took out", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  await poll(0, map); // A read is armed now.
  channel.delChannel();
  channel.delChannel();
  assertEquals(map.size, 0);
  assertEquals(channel.connected, true);
  await writeAll(peer, bytes("kept"));
  await turns();
  await run(map);
  assertEquals(channel.events, []);
  channel.addChannel();
  channel.addChannel();
  assertEquals([...map], [channel]);
  await serveUntil(map, () => channel.events.length > 0);
  assertEquals(channel.events, ["read kept"]);
});

Deno.test("addChannel() changes over to another map", async () => {
  await using map = new ChannelMap();
  await using other = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.delChannel();
  channel.addChannel(other);
  assertEquals(map.size, 0);
  assertEquals([...other], [channel]);
  await writeAll(peer, bytes("there"));
  await serveUntil(other, () => channel.events.length > 0);
  assertEquals(channel.events, ["read there"]);
  // And back, without a delChannel() of the caller's.
  channel.addChannel(map);
  assertEquals(other.size, 0);
  assertEquals([...map], [channel]);
  await writeAll(peer, bytes("here"));
  await serveUntil(map, () => channel.events.length > 1);
  assertEquals(channel.received, "therehere");
});

Deno.test("delChannel() does not stop what send() took", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.send(bytes("sent"));
  channel.delChannel();
  assertEquals(text(await readExactly(peer, 4)), "sent");
  channel.close();
});

Deno.test("wake() has a channel asked again", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  let wanted = false;
  channel.readable = () => wanted;
  channel.handleRead = () => {
    channel.received += text(channel.recv());
    channel.close();
  };
  await writeAll(peer, bytes("x"));
  const served = run(map);
  await turns();
  assertEquals(channel.received, "");
  wanted = true;
  channel.wake();
  await served;
  assertEquals(channel.received, "x");
});

Deno.test("wake() does nothing without a socket", () => {
  const dispatcher = new Dispatcher(null, { map: new ChannelMap() });
  dispatcher.wake();
  dispatcher.createSocket();
  dispatcher.wake();
  dispatcher.close();
  dispatcher.wake();
});

Deno.test("signal aborts when the connection is closed, and when it ends", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const closed = new Recorder(conn, { map });
  using _peer = peer;
  assertEquals(closed.signal.aborted, false);
  assertStrictEquals(closed.signal, closed.signal);
  closed.close();
  assert(closed.signal.aborted);

  const [conn2, peer2] = await tcpPair();
  const ended = new Recorder(conn2, { map });
  const { signal } = ended;
  let inClose: boolean | undefined;
  ended.handleClose = () => void (inClose = signal.aborted);
  peer2.close();
  await run(map);
  assertEquals(inClose, true);

  // Made on first use: after the end it is aborted from the start.
  const [conn3, peer3] = await tcpPair();
  using _peer3 = peer3;
  const late = new Recorder(conn3, { map });
  late.close();
  assert(late.signal.aborted);
});

Deno.test("setNoDelay() is on from the start for what is adopted and what connects", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const { hostname, port } = listener.addr as Deno.NetAddr;
  using raw = await Deno.connect({ hostname, port });
  using peer = await listener.accept();
  const prototype = Object.getPrototypeOf(raw);
  const original = prototype.setNoDelay;
  const calls: [Deno.Conn, boolean | undefined][] = [];
  prototype.setNoDelay = function (this: Deno.Conn, on?: boolean) {
    calls.push([this, on]);
    return original.call(this, on);
  };
  try {
    const adopted = new Recorder(peer, { map });
    assertEquals(calls.length, 1);
    assertStrictEquals(calls[0]?.[0], peer);
    assert(calls[0]?.[1] ?? true);
    adopted.close();
    const client = connecting(map, listener.addr);
    client.writable = () => !client.connected;
    using _accepted = await listener.accept();
    await serveUntil(map, () => client.connected);
    assertEquals(calls.length, 2);
    assert(calls[1]?.[1] ?? true);
    client.setNoDelay(false);
    assertEquals(calls[2]?.[1], false);
    client.setNoDelay();
    assert(calls[3]?.[1] ?? true);
    client.close();
  } finally {
    prototype.setNoDelay = original;
  }
});

Deno.test("setKeepAlive() reaches the connection, also when called before it is there", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const { hostname, port } = listener.addr as Deno.NetAddr;
  using raw = await Deno.connect({ hostname, port });
  using _raw = await listener.accept();
  const prototype = Object.getPrototypeOf(raw);
  const original = prototype.setKeepAlive;
  const calls: (boolean | undefined)[] = [];
  prototype.setKeepAlive = function (this: Deno.Conn, on?: boolean) {
    calls.push(on);
    return original.call(this, on);
  };
  try {
    const client = connecting(map, listener.addr);
    client.setKeepAlive(true);
    client.writable = () => !client.connected;
    using _accepted = await listener.accept();
    await serveUntil(map, () => client.connected);
    assertEquals(calls, [true]);
    client.setKeepAlive(false);
    assertEquals(calls, [true, false]);
    client.close();
  } finally {
    prototype.setKeepAlive = original;
  }
});

Deno.test("setNoDelay() and setKeepAlive() have no effect on a Unix socket", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await unixPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.setNoDelay();
  channel.setKeepAlive();
  assert(channel.connected);
});

Deno.test("setReuseAddr() may be called in any state", () => {
  const server = new Dispatcher(null, { map: new ChannelMap() });
  server.setReuseAddr();
  server.createSocket();
  server.setReuseAddr();
  server.bind(LOOPBACK);
  server.listen();
  server.setReuseAddr();
  server.close();
  server.setReuseAddr();
});

Deno.test("recv(), send() and accept() count the channel's bytes", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Recorder(conn, { map });
  channel.handleRead = () => void channel.recv(1);
  await writeAll(peer, bytes("12345"));
  await serveUntil(map, () => channel.bytesRead > 0);
  assertEquals(channel.bytesRead, 5);
  channel.send(bytes("123"));
  assertEquals(channel.bytesWritten, 0);
  await readExactly(peer, 3);
  await until(() => channel.bytesWritten === 3);
});

Deno.test("listen() throws Deno's own error when the permission is missing", async () => {
  const { code, stdout, stderr } = await script(`
    import { Dispatcher, loop } from "./mod.ts";
    const server = new Dispatcher();
    server.createSocket();
    server.bind({ hostname: "127.0.0.1", port: 0 });
    try {
      server.listen();
    } catch (error) {
      console.log(error.name, error instanceof Deno.errors.NotCapable, error.message);
    }
    console.log(server.accepting);
    server.close();
    await loop();
  `);
  assertEquals(stderr, "");
  assertMatch(
    stdout,
    /^NotCapable true Requires net access to "127\.0\.0\.1:0".*\nfalse\n$/,
  );
  assertEquals(code, 0);
});

Deno.test("connect() leads to handleError() with Deno's own error when the permission is missing", async () => {
  const { code, stdout, stderr } = await script(`
    import { Dispatcher, loop } from "./mod.ts";
    class Client extends Dispatcher {
      handleConnect() { console.log("connect"); }
      handleError(error) { console.log("error", error.name, error.message); }
      handleClose(reason) { console.log("close", reason.kind, reason.error.name); }
    }
    for (const addr of [{ hostname: "127.0.0.1", port: 9 }, { hostname: "localhost", port: 9 }, { path: "/nowhere" }]) {
      const client = new Client();
      client.createSocket();
      client.connect(addr);
      console.log("called");
      await loop();
    }
  `);
  assertEquals(stderr, "");
  const [tcp, name, unix] = stdout.trimEnd().split(/^called\n/m).slice(1);
  assertMatch(
    tcp!,
    /^error NotCapable Requires net access to "127\.0\.0\.1:9".*\nclose error NotCapable\n$/,
  );
  assertMatch(
    name!,
    /^error NotCapable Requires net access to "localhost:9".*\nclose error NotCapable\n$/,
  );
  assertMatch(
    unix!,
    /^error NotCapable Requires .* access to "\/nowhere".*\nclose error NotCapable$/,
  );
  assertEquals(code, 0);
});

Deno.test("connect() leads to handleError() with a cause to look at when nobody listens", async () => {
  await using map = new ChannelMap();
  const listener = listenTcp();
  listener.close();
  const client = connecting(map, listener.addr);
  await run(map);
  assertEquals(client.events, ["error", "close error"]);
  assertInstanceOf(client.errors[0], Deno.errors.ConnectionRefused);
  assertStrictEquals(client.reasons[0]?.error, client.errors[0]);
  assertEquals(client.remoteAddr, null);
});

Deno.test("connect() leads to handleError() when the host name cannot be found", async () => {
  await using map = new ChannelMap();
  // A name that a resolver refuses by itself, without asking anybody.
  const client = connecting(map, {
    transport: "tcp",
    hostname: "-",
    port: 9,
  });
  await within(run(map));
  assertEquals(client.events, ["error", "close error"]);
  assertIsError(client.errors[0], Error);
});
