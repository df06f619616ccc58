import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  readExactly,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  tcpPair,
  text,
  turns,
  unixPair,
  within,
  writeAll,
} from "../net.ts";
import { connecting, listening, LOOPBACK } from "./ends.ts";

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
