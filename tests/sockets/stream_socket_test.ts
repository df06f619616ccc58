import { assertEquals } from "@std/assert";
import { BufferPool } from "../../sockets/buffer_pool.ts";
import type { SocketListener } from "../../sockets/socket.ts";
import { ConnSocket } from "../../sockets/stream_socket.ts";
import { bytes, FakeClock, FakeConn, settle, text } from "../fakes.ts";

const ADDR = { transport: "tcp", hostname: "127.0.0.1", port: 80 } as const;

/** A pool that counts what is out. */
class CountingPool extends BufferPool {
  out = 0;

  override acquire(length: number): Uint8Array<ArrayBuffer> {
    this.out++;
    return super.acquire(length);
  }

  override release(buffer: Uint8Array<ArrayBuffer>): void {
    this.out--;
    super.release(buffer);
  }

  override forget(buffer: Uint8Array<ArrayBuffer>): void {
    this.out--;
    super.forget(buffer);
  }
}

/** A socket, what it stands on, and what it has told. */
function make(connect: () => Promise<Deno.Conn> = () => Promise.reject()) {
  const told: string[] = [];
  const tell = (what: string) => () => void told.push(what);
  const pool = new CountingPool();
  const socket = new ConnSocket(
    {
      connected: tell("connected"),
      readReady: (n: number) => told.push(`read ${n}`),
      writeReady: (n: number) => told.push(`written ${n}`),
      writeFailed: tell("write failed"),
      exceptReady: tell("failed"),
      lingerStarted: tell("linger"),
      lingerEnded: tell("lingered"),
    } as unknown as SocketListener,
    { clock: new FakeClock(), pool, connect },
  );
  socket.sendBufferSize = 1_000;
  return { told, pool, socket };
}

/** One with a connection. */
function attached() {
  const made = make();
  const conn = new FakeConn();
  made.socket.attach(conn);
  return { ...made, conn };
}

Deno.test("ConnSocket: a connection that was closed before it was attached is a failed connect", async () => {
  const conn = new FakeConn();
  conn.setNoDelay = () => {
    throw new Deno.errors.BadResource("Bad resource ID");
  };
  const { socket, told } = make(() => Promise.resolve(conn));
  socket.connect(ADDR);
  await settle();
  assertEquals([told, conn.closed], [["failed"], true]);
  assertEquals(socket.error instanceof Deno.errors.BadResource, true);
  assertEquals([socket.localAddr, socket.remoteAddr], [null, null]);
});

Deno.test("ConnSocket: where nothing waits, nothing is taken, filled in or lent", () => {
  const { socket, pool } = attached();
  assertEquals(socket.take(10).length, 0);
  assertEquals(socket.takeInto(new Uint8Array(10)), 0);
  assertEquals(socket.lend(10, false).length, 0);
  socket.abort();
  assertEquals(pool.out, 0);
});

Deno.test("ConnSocket.startRead() starts no read while bytes wait, nor after close()", async () => {
  const { socket, conn, told, pool } = attached();
  socket.startRead();
  conn.deliver("hello");
  await settle();
  socket.startRead();
  assertEquals([conn.reads, told, socket.available], [1, ["read 5"], 5]);
  assertEquals(text(socket.take(5)), "hello");
  socket.abort();
  socket.startRead();
  assertEquals([conn.reads, pool.out], [1, 0]);
});

Deno.test("ConnSocket.close() after abort() does nothing", () => {
  const { socket, conn } = attached();
  socket.send(bytes("x"));
  socket.abort();
  socket.close();
  socket.abort();
  assertEquals(conn.calls, ["close"]);
});

Deno.test("ConnSocket.close() of one that was never connected, nor asked for, has nothing to wait for", () => {
  const { socket, told } = make();
  socket.sendAll(bytes("x"));
  socket.close();
  assertEquals(told, []);
});
