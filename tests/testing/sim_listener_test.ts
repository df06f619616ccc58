import { assert, assertEquals, assertRejects } from "@std/assert";
import { type AcceptFault, SimNet } from "../../testing.ts";
import { bytes } from "../net.ts";
import { attempt } from "./sim.ts";
import { outcome, watch } from "./worlds.ts";

const PORT = { port: 80 };
const TOO_MANY = "Error EMFILE: Too many open files (os error 24)";

Deno.test("SimListener lets as many connections wait as was asked for, and one more", async () => {
  for (const tcpBacklog of [0, 1, 5]) {
    await using net = new SimNet({ seed: 1 });
    using _ = net.listen({ ...PORT, tcpBacklog });
    for (let i = 0; i <= tcpBacklog; i++) await net.connect(PORT);
    const pending = watch(net.connect(PORT));
    await net.sleep(100);
    assertEquals(pending.now, "pending");
  }
});

Deno.test("SimListener lets 512 connections wait unless told otherwise", async () => {
  await using net = new SimNet({ seed: 1 });
  using _ = net.listen(PORT);
  await Promise.all(Array.from({ length: 512 }, () => net.connect(PORT)));
  const pending = watch(net.connect(PORT));
  await net.sleep(100);
  assertEquals(pending.now, "pending");
});

Deno.test("a full SimListener is asked again after 1 s, 2 s, 4 s …", async () => {
  for (const [free, connected] of [[0.5, 1], [1.5, 3], [3.5, 7], [40, 63]]) {
    await using net = new SimNet({ seed: 1 });
    using listener = net.listen({ ...PORT, tcpBacklog: 0 });
    await net.connect(PORT);
    const pending = attempt(net, PORT);
    await net.sleep(free! * 1_000);
    using _ = await listener.accept();
    assertEquals(await pending, [connected! * 1_000, "connected"]);
  }
});

Deno.test("a SimListener that stays full is given up after 127 s", async () => {
  await using net = new SimNet({ seed: 1 });
  using _ = net.listen({ ...PORT, tcpBacklog: 0 });
  await net.connect(PORT);
  assertEquals(
    await outcome(net.connect(PORT)),
    "TimedOut ETIMEDOUT: Connection timed out (os error 110)",
  );
  assertEquals(net.now, 127_000);
});

Deno.test("a full SimListener that closes meanwhile refuses", async () => {
  await using net = new SimNet({ seed: 1 });
  const listener = net.listen({ ...PORT, tcpBacklog: 0 });
  await net.connect(PORT);
  const pending = attempt(net, PORT);
  await net.sleep(1_500);
  listener.close();
  assertEquals(await pending, [3_000, "ConnectionRefused"]);
});

Deno.test("accept() fails for lack of something, and the connection waits on", async () => {
  const messages: Record<string, string> = {
    EMFILE: "Too many open files (os error 24)",
    ENFILE: "Too many open files in system (os error 23)",
    ENOBUFS: "No buffer space available (os error 105)",
    ENOMEM: "Cannot allocate memory (os error 12)",
  };
  for (const [code, message] of Object.entries(messages)) {
    const what = code as AcceptFault["what"];
    const faults = [{ on: "accept", what, times: 2 }] as const;
    await using net = new SimNet({ seed: 1, link: { faults } });
    using listener = net.listen(PORT);
    const client = await net.connect(PORT);
    for (let i = 0; i < 2; i++) {
      assertEquals(
        await outcome(listener.accept()),
        `Error ${code}: ${message}`,
      );
    }
    using server = await listener.accept();
    assertEquals(server.remoteAddr, client.localAddr);
  }
});

Deno.test("accept() with ECONNABORTED loses the connection", async () => {
  const what = "ECONNABORTED";
  const faults = [{ on: "accept", what, times: 1 }] as const;
  await using net = new SimNet({ seed: 1, link: { faults } });
  using listener = net.listen(PORT);
  const lost = await net.connect(PORT);
  const kept = await net.connect(PORT);
  assertEquals(
    await outcome(listener.accept()),
    "ConnectionAborted ECONNABORTED: Software caused connection abort (os error 103)",
  );
  using server = await listener.accept();
  assertEquals(server.remoteAddr, kept.localAddr);
  await assertRejects(
    () => lost.read(new Uint8Array(1)),
    Deno.errors.ConnectionReset,
  );
});

Deno.test("accept() fails only when there is a connection", async () => {
  const faults = [{ on: "accept", what: "EMFILE" }] as const;
  await using net = new SimNet({ seed: 1, link: { faults } });
  using listener = net.listen(PORT);
  const accepted = watch(listener.accept());
  await net.sleep(1_000);
  assertEquals(accepted.now, "pending");
  await net.connect(PORT);
  assertEquals(await accepted.end, TOO_MANY);
});

Deno.test("accept() fails with the chance it says", async () => {
  const faults = [{ on: "accept", what: "EMFILE", chance: 0.5 }] as const;
  await using net = new SimNet({ seed: 1, link: { faults } });
  using listener = net.listen(PORT);
  for (let i = 0; i < 50; i++) await net.connect(PORT);
  let failed = 0;
  for (let accepted = 0; accepted < 50;) {
    const end = await outcome(listener.accept().then((conn) => conn.close()));
    if (end === "done") accepted++;
    else failed++;
  }
  assert(failed > 25 && failed < 100, `${failed} failed`);
});

Deno.test("a SimListener yields its connections until it is closed", async () => {
  await using net = new SimNet({ seed: 1 });
  const listener = net.listen(PORT);
  const seen: Deno.Conn[] = [];
  const done = (async () => {
    for await (const conn of listener) seen.push(conn);
  })();
  const clients = [await net.connect(PORT), await net.connect(PORT)];
  await net.sleep(1);
  listener.close();
  await done;
  assertEquals(
    seen.map((conn) => conn.remoteAddr),
    clients.map((conn) => conn.localAddr),
  );
});

Deno.test("iterating over a SimListener fails with its accept()", async () => {
  const faults = [{ on: "accept", what: "EMFILE" }] as const;
  await using net = new SimNet({ seed: 1, link: { faults } });
  using listener = net.listen(PORT);
  await net.connect(PORT);
  await assertRejects(async () => {
    for await (const _ of listener);
  }, "Too many open files");
});

Deno.test("a SimListener that closes resets who waits, whatever they sent", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    await using net = new SimNet({ seed, link: { latency: [0, 10] } });
    const listener = net.listen(PORT);
    const clients = [await net.connect(PORT), await net.connect(PORT)];
    await clients[0]!.write(bytes("hello"));
    listener.close();
    for (const client of clients) {
      await assertRejects(
        () => client.read(new Uint8Array(1)),
        Deno.errors.ConnectionReset,
      );
    }
  }
});

Deno.test("a SimListener on a path takes its file along when it closes", async () => {
  await using net = new SimNet({ seed: 1 });
  const addr = { transport: "unix", path: "/run/echo" } as const;
  assertEquals(await attempt(net, addr), [0, "NotFound"]);
  const listener = net.listen(addr);
  assertEquals(listener.addr, addr);
  assertEquals(await attempt(net, addr), [0, "connected"]);
  assertEquals(await attempt(net, { ...addr, path: "/run" }), [0, "NotFound"]);
  listener.close();
  assertEquals(await attempt(net, addr), [0, "NotFound"]);
  using _ = net.listen(addr);
});

Deno.test("accept() of a connection that broke fails over TCP, not on a path", async () => {
  await using net = new SimNet({ seed: 1 });
  const path = { transport: "unix", path: "/run/echo" } as const;
  const outcomes: string[] = [];
  for (const addr of [PORT, path]) {
    using listener = net.listen(addr);
    (await net.connect(addr)).reset();
    await net.sleep(1);
    const accepted = listener.accept();
    outcomes.push(await outcome(accepted.then((conn) => conn.close())));
  }
  assertEquals(outcomes, [
    "NotConnected ENOTCONN: Transport endpoint is not connected (os error 107)",
    "done",
  ]);
});
