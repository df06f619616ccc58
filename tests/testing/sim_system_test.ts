import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type ConnectFault, type LinkOptions, SimNet } from "../../testing.ts";
import { bytes } from "../net.ts";
import { attempt, simPair } from "./sim.ts";
import { outcome, watch } from "./worlds.ts";

const PORT = { port: 80 };

function portOf(addr: Deno.Addr): number {
  return (addr as Deno.NetAddr).port;
}

function hostOf(addr: Deno.Addr): string {
  return (addr as Deno.NetAddr).hostname;
}

/** A network where somebody listens everywhere. */
function listening(link: LinkOptions, seed = 1): SimNet {
  const net = new SimNet({ seed, link });
  net.listen(PORT);
  return net;
}

// Attempts to connect.

Deno.test("connect() takes a round trip, and the acceptor hears of it halfway", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 50 } });
  using listener = net.listen(PORT);
  const heard = listener.accept().then((conn) => {
    conn.close();
    return net.now;
  });
  assertEquals(await attempt(net, PORT), [100, "connected"]);
  assertEquals(await heard, 50);
});

Deno.test("connectLatency comes on top of the round trip", async () => {
  await using net = listening({ latency: 50, connectLatency: 1_000 });
  assertEquals(await attempt(net, PORT), [1_100, "connected"]);
  const times = new Set<number>();
  for (let seed = 1; seed <= 30; seed++) {
    await using net = listening({ connectLatency: [5, 7] }, seed);
    times.add((await attempt(net, PORT))[0]);
  }
  assertEquals([...times].sort(), [5, 6, 7]);
});

Deno.test("connect() is refused after a round trip where nobody listens", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 50 } });
  assertEquals(await attempt(net, PORT), [100, "ConnectionRefused"]);
  assertEquals(
    await attempt(net, { transport: "unix", path: "/none" }),
    [200, "NotFound"],
  );
});

Deno.test("connect() fails as its faults say, whoever listens", async () => {
  const expected: Record<ConnectFault["what"], [number, string]> = {
    refused: [
      120,
      "ConnectionRefused ECONNREFUSED: Connection refused (os error 111)",
    ],
    unreachable: [
      20,
      "NetworkUnreachable ENETUNREACH: Network is unreachable (os error 101)",
    ],
    unanswered: [
      127_000,
      "TimedOut ETIMEDOUT: Connection timed out (os error 110)",
    ],
    notFound: [
      20,
      "Error: failed to lookup address information: Name or service not known",
    ],
    denied: [20, "PermissionDenied EACCES: Permission denied (os error 13)"],
  };
  for (const [what, [time, error]] of Object.entries(expected)) {
    const fault = { on: "connect", what, times: 1 } as ConnectFault;
    const link = { latency: 50, connectLatency: 20, faults: [fault] };
    await using net = listening(link);
    assertEquals(await outcome(net.connect(PORT)), error);
    assertEquals(net.now, time, what);
    assertEquals(await attempt(net, PORT), [time + 120, "connected"]);
  }
});

Deno.test("connect() fails with the chance that its fault has", async () => {
  const faults = [{ on: "connect", what: "denied", chance: 0.5 }] as const;
  await using net = listening({ faults });
  let failed = 0;
  for (let i = 0; i < 100; i++) {
    if ((await attempt(net, PORT))[1] !== "connected") failed++;
  }
  assert(failed > 30 && failed < 70, `${failed} of 100`);
});

Deno.test("connect() that is given up rejects at once with the reason", async () => {
  const faults = [{ on: "connect", what: "unanswered" }] as const;
  await using net = listening({ faults });
  const controller = new AbortController();
  const { signal } = controller;
  const pending = watch(net.connect({ ...PORT, signal }));
  await net.sleep(30_000);
  assertEquals(pending.now, "pending");
  controller.abort("enough");
  assertEquals(await pending.end, "enough");
  assertEquals(net.now, 30_000);
});

Deno.test("connect() that is given up halfway closes what was accepted", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 50 } });
  using listener = net.listen(PORT);
  const controller = new AbortController();
  const { signal } = controller;
  const pending = outcome(net.connect({ ...PORT, signal }));
  using conn = await listener.accept();
  controller.abort("enough");
  assertEquals(await pending, "enough");
  assertEquals(await conn.read(new Uint8Array(1)), null);
});

Deno.test("connect() that was given up before reaches nobody", async () => {
  await using net = new SimNet({ seed: 1 });
  using listener = net.listen(PORT);
  const accepted = watch(listener.accept());
  const signal = AbortSignal.abort("no");
  assertEquals(await outcome(net.connect({ ...PORT, signal })), "no");
  await net.sleep(1_000);
  assertEquals(accepted.now, "pending");
});

Deno.test("connect() to a port that there is not rejects, listen() throws", async () => {
  await using net = new SimNet({ seed: 1 });
  for (const port of [-1, 65_536, 1.5]) {
    await assertRejects(() => net.connect({ port }), RangeError);
    assertThrows(() => net.listen({ port }), RangeError);
    assertThrows(() => net.listenDatagram({ port }), RangeError);
  }
});

Deno.test("connect() to a full listener on a path fails at once", async () => {
  await using net = new SimNet({ seed: 1 });
  const addr = { transport: "unix", path: "/run/full" } as const;
  net.listen(addr);
  await Promise.all(Array.from({ length: 1_025 }, () => net.connect(addr)));
  assertEquals(
    await outcome(net.connect(addr)),
    "WouldBlock EAGAIN: Resource temporarily unavailable (os error 11)",
  );
  assertEquals(net.now, 0);
});

// Addresses.

Deno.test("a host name is whatever a listener was bound to", async () => {
  await using net = new SimNet({ seed: 1 });
  const addr = { hostname: "server.example", port: 80 };
  using listener = net.listen(addr);
  assertEquals(listener.addr, { transport: "tcp", ...addr });
  using conn = await net.connect(addr);
  assertEquals(conn.remoteAddr, { transport: "tcp", ...addr });
  const others = [PORT, { ...addr, port: 81 }, { ...addr, hostname: "other" }];
  for (const other of others) {
    assertEquals((await attempt(net, other))[1], "ConnectionRefused");
  }
});

Deno.test("localhost is 127.0.0.1, which is where to unless told otherwise", async () => {
  await using net = new SimNet({ seed: 1 });
  using listener = net.listen({ hostname: "localhost", port: 80 });
  assertEquals(hostOf(listener.addr), "127.0.0.1");
  for (const hostname of ["localhost", "127.0.0.1"]) {
    using conn = await net.connect({ hostname, port: 80 });
    assertEquals(hostOf(conn.remoteAddr), "127.0.0.1");
  }
  using conn = await net.connect(PORT);
  assertEquals(hostOf(conn.remoteAddr), "127.0.0.1");
});

Deno.test("listen() listens everywhere unless told otherwise", async () => {
  await using net = new SimNet({ seed: 1 });
  using listener = net.listen(PORT);
  assertEquals(hostOf(listener.addr), "0.0.0.0");
  for (const hostname of ["127.0.0.1", "10.0.0.1", "server.example"]) {
    using _ = await net.connect({ hostname, port: 80 });
  }
});

Deno.test("the same port is another one at another address", async () => {
  await using net = new SimNet({ seed: 1 });
  for (const hostname of ["10.0.0.1", "10.0.0.2", "server.example"]) {
    net.listen({ hostname, port: 80 });
    assertThrows(
      () => net.listen({ hostname, port: 80 }),
      Deno.errors.AddrInUse,
    );
  }
  assertThrows(() => net.listen(PORT), Deno.errors.AddrInUse);
});

Deno.test("listen() on a path that is in use throws", async () => {
  await using net = new SimNet({ seed: 1 });
  const addr = { transport: "unix", path: "/run/one" } as const;
  using _ = net.listen(addr);
  assertThrows(() => net.listen(addr), Deno.errors.AddrInUse);
  using _other = net.listen({ ...addr, path: "/run/other" });
});

Deno.test("ports are given from 32,768 on, each once", async () => {
  await using net = new SimNet({ seed: 1 });
  using listener = net.listen({ port: 0 });
  const addr = listener.addr as Deno.NetAddr;
  const conn = await net.connect({ ...addr, hostname: "127.0.0.1" });
  using other = net.listen({ port: 0 });
  assertEquals(
    [addr, conn.localAddr, other.addr].map(portOf),
    [32_768, 32_769, 32_770],
  );
});

Deno.test("ports that are in use are not given", async () => {
  await using net = new SimNet({ seed: 1 });
  using _ = net.listen({ port: 32_768 });
  using _datagram = net.listenDatagram({ port: 32_769 });
  const listeners = [net.listen({ port: 0 }), net.listen({ port: 0 })];
  const ports = listeners.map(({ addr }) => portOf(addr));
  assert(!ports.includes(32_768));
  const { addr } = net.listenDatagram({ port: 0 });
  assert(portOf(addr) !== 32_769);
});

Deno.test("ports are given again when they have run out", async () => {
  await using net = new SimNet({ seed: 1 });
  for (let i = 0; i < 40_000; i++) {
    using listener = net.listen({ port: 0 });
    assert(portOf(listener.addr) <= 65_535, `${portOf(listener.addr)}`);
  }
});

// Links.

Deno.test("setLink() concerns who connects to what has all that is named", async () => {
  await using net = new SimNet({ seed: 1 });
  const late = { connectLatency: 1_000 };
  for (const hostname of ["a", "b"]) {
    for (const port of [1, 2]) net.listen({ hostname, port });
  }
  net.listen({ transport: "unix", path: "/run/a" });
  const duration = async (addr: Parameters<SimNet["connect"]>[0]) => {
    const start = net.now;
    const [end] = await attempt(net, addr);
    return end - start;
  };
  const durations = async () => [
    await duration({ hostname: "a", port: 1 }),
    await duration({ hostname: "a", port: 2 }),
    await duration({ hostname: "b", port: 1 }),
    await duration({ hostname: "b", port: 2 }),
    await duration({ transport: "unix", path: "/run/a" }),
  ];
  net.setLink({ hostname: "a", port: 1 }, late);
  assertEquals(await durations(), [1_000, 0, 0, 0, 0]);
  net.setLink({ hostname: "b" }, { connectLatency: 2 });
  assertEquals(await durations(), [1_000, 0, 2, 2, 0]);
  net.setLink({ port: 2 }, { connectLatency: 3 });
  assertEquals(await durations(), [1_000, 3, 2, 3, 0]);
  net.setLink({ path: "/run/a" }, { connectLatency: 4 });
  assertEquals(await durations(), [1_000, 3, 2, 3, 4]);
  net.setLink({}, { connectLatency: 5 });
  assertEquals(await durations(), [5, 5, 5, 5, 5]);
});

Deno.test("setLink() takes a host name as connected to", async () => {
  await using net = new SimNet({ seed: 1 });
  net.listen(PORT);
  net.setLink({ hostname: "localhost" }, { connectLatency: 7 });
  const end = await attempt(net, { hostname: "localhost", port: 80 });
  assertEquals(end, [7, "connected"]);
});

Deno.test("setLink() concerns the accepts of who listens everywhere", async () => {
  await using net = new SimNet({ seed: 1 });
  using listener = net.listen(PORT);
  const faults = [{ on: "accept", what: "EMFILE" }] as const;
  net.setLink({ hostname: "127.0.0.1" }, { faults });
  await net.connect(PORT);
  assertEquals(
    await outcome(listener.accept()),
    "Error EMFILE: Too many open files (os error 24)",
  );
});

Deno.test("setLink() leaves connections alone that are there", async () => {
  await using net = new SimNet({ seed: 1 });
  const [client, server] = await simPair(net);
  net.setLink({}, { latency: 1_000 });
  await client.write(bytes("hello"));
  await server.read(new Uint8Array(5));
  assertEquals(net.now, 0);
});

Deno.test("setLink() concerns datagrams by where they go", async () => {
  await using net = new SimNet({ seed: 1 });
  const [a, b] = [1, 2].map((port) =>
    net.listenDatagram({ hostname: "127.0.0.1", port })
  );
  net.setLink({ port: 2 }, { latency: 30 });
  await a!.send(bytes("hello"), b!.addr);
  await b!.receive();
  assertEquals(net.now, 30);
  await b!.send(bytes("hello"), a!.addr);
  await a!.receive();
  assertEquals(net.now, 30);
});

Deno.test("setLink() replaces the faults", async () => {
  const faults = [{ on: "connect", what: "denied" }] as const;
  await using net = listening({ faults });
  assertEquals((await attempt(net, PORT))[1], "PermissionDenied");
  net.setLink(PORT, {});
  assertEquals((await attempt(net, PORT))[1], "connected");
});
