import { assertEquals } from "@std/assert";
import { AcceptSocket } from "../../sockets/listener_socket.ts";
import type { SocketListener } from "../../sockets/socket.ts";
import { FakeClock, FakeConn, FakeListener, settle } from "../fakes.ts";

/** A socket, what it stands on, and what it has told. */
function make() {
  const told: string[] = [];
  const clock = new FakeClock();
  const source = new FakeListener();
  const socket = new AcceptSocket(
    {
      readReady: () => told.push("ready"),
      exceptReady: () => told.push("failed"),
      acceptFailed: (_error: unknown, first: boolean) =>
        told.push(first ? "first failure" : "failure"),
      retry: () => told.push("retry"),
    } as unknown as SocketListener,
    clock,
    source,
  );
  return { told, clock, source, socket };
}

function lackOf(code: string): Error {
  return Object.assign(new Error(`${code} happened`), { code });
}

Deno.test("AcceptSocket.startRead() starts one accept, and none while a connection waits", async () => {
  const { socket, source, told } = make();
  socket.startRead();
  socket.startRead();
  assertEquals(source.accepts, 1);
  const conn = source.deliver(new FakeConn());
  await settle();
  socket.startRead();
  assertEquals([source.accepts, socket.waiting, told], [1, true, ["ready"]]);
  assertEquals(socket.accept(), conn);
  assertEquals([socket.accept(), socket.waiting], [null, false]);
  socket.startRead();
  assertEquals(source.accepts, 2);
  socket.close();
  conn.close();
  await settle();
});

Deno.test("AcceptSocket.startRead() waits until a failed accept may be tried again", async () => {
  const { socket, source, told, clock } = make();
  socket.startRead();
  source.fail(lackOf("EMFILE"));
  await settle();
  socket.startRead();
  assertEquals([source.accepts, told], [1, ["first failure"]]);
  await clock.advance(5);
  socket.startRead();
  assertEquals([source.accepts, told.at(-1)], [2, "retry"]);
  source.fail(lackOf("EMFILE"));
  await settle();
  assertEquals([told.at(-1), clock.timers], ["failure", [10]]);
  socket.close();
  assertEquals(clock.timers, []);
});

Deno.test("AcceptSocket.startRead() does nothing after the listener has failed, or was closed", async () => {
  const { socket, source, told } = make();
  socket.startRead();
  source.fail(new Error("broken for good"));
  await settle();
  socket.startRead();
  assertEquals([source.accepts, told], [1, ["failed"]]);
  socket.close();
  socket.startRead();
  assertEquals(source.accepts, 1);
});

Deno.test("AcceptSocket.close() closes a connection that is accepted or arrives, and twice is once", async () => {
  const waiting = make();
  waiting.socket.startRead();
  const accepted = waiting.source.deliver(new FakeConn());
  await settle();
  waiting.socket.close();
  waiting.socket.close();
  assertEquals([accepted.closed, waiting.socket.waiting], [true, false]);

  const late = make();
  late.socket.startRead();
  const arriving = late.source.deliver(new FakeConn());
  late.socket.close();
  await settle();
  assertEquals([arriving.closed, late.told], [true, []]);
});

Deno.test("AcceptSocket has nothing to write and nothing to take back", () => {
  const { socket, source } = make();
  socket.flush();
  socket.reclaim();
  assertEquals([socket.writeReady, socket.atEnd], [false, false]);
  assertEquals(socket.addr, source.addr);
  socket.close();
});
