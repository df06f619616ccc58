import { assert, assertEquals, assertThrows } from "@std/assert";
import { Dispatcher } from "../../mod.ts";
import { type Fault, SimNet } from "../../testing.ts";
import { CountingPool } from "../../testing/sim_network.ts";
import { bytes, Recorder, tcpPair } from "../net.ts";
import { simPair } from "./sim.ts";

/** Notes when it is told of urgent data. */
class Urgent extends Recorder {
  readonly #net: SimNet;
  constructor(net: SimNet, conn: Deno.Conn) {
    super(conn, { map: net.map });
    this.#net = net;
  }
  override handleExpt(): void {
    this.events.push(`expt at ${this.#net.now}`);
  }
}

Deno.test("CountingPool counts what is out", () => {
  const pool = new CountingPool();
  const buffers = [16, 512, 65_536].map((size) => pool.acquire(size));
  const read = pool.acquireForRead(512);
  assertEquals(pool.out, 4);
  pool.release(buffers[0]!);
  pool.forget(buffers[1]!);
  assertEquals(pool.out, 2);
  pool.releaseFromRead(read);
  pool.release(buffers[2]!);
  assertEquals(pool.out, 0);
});

Deno.test("a dispatcher refuses a connection that is not simulated", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await tcpPair();
  using _conn = conn;
  using _peer = peer;
  for (const foreign of [conn, {}]) {
    assertThrows(
      () => new Dispatcher(foreign as Deno.Conn, { map: net.map }),
      TypeError,
      "it is not a connection of this simulation",
    );
  }
  assertEquals(net.map.size, 0);
});

Deno.test("a dispatcher refuses a connection of another simulation", async () => {
  await using net = new SimNet({ seed: 1 });
  await using other = new SimNet({ seed: 1 });
  const [conn] = await simPair(other);
  assertThrows(
    () => new Dispatcher(conn, { map: net.map }),
    TypeError,
    "it is not a connection of this simulation",
  );
});

Deno.test("a dispatcher refuses a simulated connection that is taken or closed", async () => {
  await using net = new SimNet({ seed: 1 });
  const [taken, closed] = await simPair(net);
  closed.close();
  new Recorder(taken, { map: net.map });
  assertThrows(() => new Recorder(taken, { map: net.map }), TypeError);
  assertThrows(
    () => new Recorder(closed, { map: net.map }),
    TypeError,
    "it is closed",
  );
});

Deno.test("a dispatcher takes a simulated connection, on any map of its network", async () => {
  await using net = new SimNet({ seed: 1 });
  const [conn, peer] = await simPair(net);
  const channel = new Recorder(conn, { map: net.createMap() });
  await peer.write(bytes("hello"));
  peer.close();
  await net.run();
  assertEquals(channel.events, ["read hello", "read", "eof", "close eof"]);
});

Deno.test("handleExpt() is told of urgent data that the peer sends", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 10 } });
  const [conn, peer] = await simPair(net);
  const channel = new Urgent(net, conn);
  const start = net.now;
  await peer.write(bytes("hello"));
  peer.sendUrgent();
  await net.run();
  assertEquals(
    channel.events.toSorted(),
    [`expt at ${start + 10}`, "read hello"],
  );
  peer.sendUrgent();
  await net.run();
  assertEquals(channel.events.at(-1), `expt at ${start + 20}`);
  assert(!channel.events.includes("error"));
});

Deno.test("handleExpt() is told of urgent data by a fault, in both directions", async () => {
  for (const on of ["toServer", "toClient"] as const) {
    const fault: Fault = { on, what: "urgent", at: 3 };
    await using net = new SimNet({ seed: 1, link: { faults: [fault] } });
    const [client, server] = await simPair(net);
    const [near, far] = on === "toServer" ? [server, client] : [client, server];
    const channel = new Urgent(net, near);
    const other = new Urgent(net, far);
    other.send(bytes("he"));
    await net.run({ until: 5 });
    assertEquals(channel.events, ["read he"]);
    other.send(bytes("llo"));
    await net.run();
    assertEquals(channel.received, "hello");
    assert(channel.events.includes("expt at 5"), channel.events.join());
    assertEquals(other.events, []);
  }
});

Deno.test("handleExpt() is not called after close()", async () => {
  await using net = new SimNet({ seed: 1, link: { latency: 10 } });
  const [conn, peer] = await simPair(net);
  const channel = new Urgent(net, conn);
  channel.send(bytes("hello"));
  peer.sendUrgent();
  await net.run({ until: net.now + 5 });
  channel.close();
  peer.sendUrgent();
  peer.close();
  await net.run();
  assertEquals(channel.events, []);
});
