/**
 * Scenes on bare connections and listeners, played on the system's sockets and
 * on simulated ones: both must come to the same end. So these are the facts
 * about Deno on Linux that the simulation stands on, too.
 *
 * @module
 */

import { assertEquals, AssertionError, assertThrows } from "@std/assert";
import { bytes, text, within } from "../net.ts";
import {
  called,
  type Kind,
  outcome,
  SimulatedWorld,
  SystemWorld,
  watch,
  type Watched,
  type World,
} from "./worlds.ts";

const INTERRUPTED = "Interrupted EINTR: operation canceled";
const BAD_RESOURCE = "BadResource: Bad resource ID";
const RESET =
  "ConnectionReset ECONNRESET: Connection reset by peer (os error 104)";
const BROKEN_PIPE = "BrokenPipe EPIPE: Broken pipe (os error 32)";
const REFUSED =
  "ConnectionRefused ECONNREFUSED: Connection refused (os error 111)";
const NO_SUCH_PATH = "NotFound ENOENT: No such file or directory (os error 2)";
const IN_USE = "AddrInUse EADDRINUSE: Address already in use (os error 98)";
const LISTENER_CLOSED = "BadResource: Listener has been closed";
const NOT_CONNECTED =
  "NotConnected ENOTCONN: Transport endpoint is not connected (os error 107)";
const ABORTED = "DOMException: The signal has been aborted";

/** What a scene comes to, line by line; a line with several values may be any of them. */
type Outcomes = readonly (string | readonly string[])[];

/** Seeds that every scene is simulated with. */
const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

/** Plays a scene in both worlds. */
function scene(
  name: string,
  play: (world: World) => string[] | Promise<string[]>,
  expected: { readonly [kind in Kind | "both"]?: Outcomes },
  { ignore = false } = {},
): void {
  const { tcp = expected.both, unix = expected.both } = expected;
  for (const [kind, outcomes] of [["tcp", tcp], ["unix", unix]] as const) {
    if (outcomes === undefined) continue;
    Deno.test({
      name: `${kind}: ${name}: on the system's sockets`,
      ignore,
      fn: async () => {
        await using world = new SystemWorld(kind);
        compare(await within(Promise.resolve(play(world))), outcomes);
      },
    });
    Deno.test(`${kind}: ${name}: in simulation`, async () => {
      for (const seed of SEEDS) {
        const latency = seed % 2 === 0 ? 0 : [0, 20] as const;
        await using world = new SimulatedWorld(kind, seed, { latency });
        compare(
          await within(Promise.resolve(play(world))),
          outcomes,
          `seed ${seed}`,
        );
      }
    });
  }
}

function compare(actual: string[], expected: Outcomes, message = ""): void {
  const lines = actual.map((line, i): Outcomes[number] => {
    const allowed = expected[i];
    return typeof allowed === "object" && allowed.includes(line)
      ? allowed
      : line;
  });
  assertEquals(lines, [...expected], message);
}

// What scenes consist of.

/** A read's data as text. */
async function reading(conn: Deno.Conn, size = 100): Promise<string | null> {
  const buffer = new Uint8Array(size);
  const count = await conn.read(buffer);
  if (count === null || size === 0) return String(count);
  return text(buffer.subarray(0, count));
}

function read(conn: Deno.Conn, size?: number): Promise<string> {
  return outcome(reading(conn, size));
}

function write(conn: Deno.Conn, data = "hello"): Promise<string> {
  return outcome(conn.write(bytes(data)));
}

function closeWrite(conn: Deno.Conn): Promise<string> {
  return outcome(halfClose(conn));
}

/** Deno resolves with `null` what is declared as nothing. */
async function halfClose(conn: Deno.Conn): Promise<void> {
  await conn.closeWrite();
}

/** Has the peer send, and it arrive. */
async function deliver(
  world: World,
  peer: { write(data: Uint8Array): Promise<unknown> },
  data = "hello",
): Promise<void> {
  await peer.write(bytes(data));
  await world.settled();
}

/** Writes more and more until a write waits. */
async function fill(
  world: World,
  conn: Deno.Conn,
  data = new Uint8Array(10_000_000),
): Promise<{ sent: number; write: Watched }> {
  for (let sent = 0;;) {
    const write = watch(conn.write(data));
    await world.settled();
    if (write.now === "pending") return { sent, write };
    sent += Number(write.now);
  }
}

/** Reads until the end, or until there is no more. */
async function drain(
  world: World,
  conn: Deno.Conn,
): Promise<{ data: Uint8Array; end: string }> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const buffer = new Uint8Array(1_000_000);
    const read = watch(conn.read(buffer));
    await world.settled();
    const { now } = read;
    if (!/^\d+$/.test(now)) {
      return { data: await new Blob(pieces).bytes(), end: now };
    }
    pieces.push(buffer.subarray(0, Number(now)));
  }
}

// Reading.

scene("a read waits for data, and gets what has arrived", async (world) => {
  const [conn, peer] = await world.pair();
  const first = watch(reading(conn));
  await world.settled();
  const before = first.now;
  await deliver(world, peer);
  return [before, await first.end];
}, { both: ["pending", "hello"] });

scene("a read leaves what its buffer cannot hold", async (world) => {
  const [conn, peer] = await world.pair();
  await deliver(world, peer);
  return [await read(conn, 3), await read(conn, 3)];
}, { both: ["hel", "lo"] });

scene("a read gets all that several writes sent", async (world) => {
  const [conn, peer] = await world.pair();
  await deliver(world, peer, "hel");
  await deliver(world, peer, "lo");
  return [await read(conn)];
}, { both: ["hello"] });

scene("two reads are served in their order", async (world) => {
  const [conn, peer] = await world.pair();
  const first = watch(reading(conn));
  const second = watch(reading(conn));
  await deliver(world, peer, "abc");
  const meanwhile = [first.now, second.now];
  await deliver(world, peer, "def");
  return [...meanwhile, await second.end];
}, { both: ["abc", "pending", "def"] });

scene("a read of nothing gets 0, whatever else there is", async (world) => {
  const [conn, peer] = await world.pair();
  const nothing = () => read(conn, 0);
  const outcomes = [await nothing()];
  const pending = read(conn);
  outcomes.push(await nothing());
  await deliver(world, peer);
  await pending;
  await deliver(world, peer);
  outcomes.push(await nothing(), await read(conn));
  peer.close();
  await world.settled();
  outcomes.push(await nothing());
  conn.close();
  return [...outcomes, await nothing()];
}, { both: ["0", "0", "0", "hello", "0", "0"] });

scene(
  "the end of file comes after the data, again and again",
  async (world) => {
    const [conn, peer] = await world.pair();
    await peer.write(bytes("hello"));
    peer.close();
    await world.settled();
    return [await read(conn), await read(conn), await read(conn)];
  },
  { both: ["hello", "null", "null"] },
);

scene("the end of file ends every read", async (world) => {
  const [conn, peer] = await world.pair();
  const reads = [read(conn), read(conn)];
  await world.settled();
  peer.close();
  return await Promise.all(reads);
}, { both: ["null", "null"] });

// Writing.

scene(
  "a write takes what there is room for, and the next waits",
  async (world) => {
    const [conn, peer] = await world.pair();
    const data = new Uint8Array(10_000_000);
    const first = Number(await outcome(conn.write(data)));
    const { sent, write } = await fill(world, conn, data);
    const before = write.now;
    const received = await drain(world, peer);
    const second = Number(await write.end);
    return [
      String(0 < first && first < data.length),
      before,
      String(0 < second && second < data.length),
      received.end,
      String(received.data.length - first - sent - second),
    ];
  },
  { both: ["true", "pending", "true", "pending", "0"] },
);

scene("writes are served in their order", async (world) => {
  const [conn, peer] = await world.pair();
  const { write: waiting } = await fill(world, conn, new Uint8Array(1_000_000));
  const writes = ["abc", "de", "f"].map((data) =>
    watch(conn.write(bytes(data)))
  );
  await world.settled();
  const before = writes.map(({ now }) => now);
  const { data } = await drain(world, peer);
  await waiting.end;
  const after = await Promise.all(writes.map(({ end }) => end));
  return [...before, ...after, text(data.subarray(-6))];
}, {
  both: ["pending", "pending", "pending", "3", "2", "1", "abcdef"],
});

scene(
  "a write that waits sends what its buffer holds in the end",
  async (world) => {
    const [conn, peer] = await world.pair();
    const buffer = new Uint8Array(1_000_000).fill(1);
    const { sent, write } = await fill(world, conn, buffer);
    buffer.fill(2);
    const { data } = await drain(world, peer);
    await write.end;
    return [data[sent - 1], data[sent]].map(String);
  },
  { both: ["1", "2"] },
);

scene("a write of nothing takes 0", async (world) => {
  const [conn] = await world.pair();
  return [await write(conn, "")];
}, { both: ["0"] });

scene("a write of nothing waits for the writes before it", async (world) => {
  const [conn, peer] = await world.pair();
  await fill(world, conn);
  const nothing = watch(conn.write(new Uint8Array(0)));
  await world.settled();
  const before = nothing.now;
  await drain(world, peer);
  return [before, await nothing.end];
}, { both: ["pending", "0"] });

scene("a write of nothing fails as any other does", async (world) => {
  const [conn, peer] = await world.pair();
  await conn.closeWrite();
  const outcomes = [await write(conn, "")];
  peer.close();
  conn.close();
  return [...outcomes, await write(conn, "")];
}, { both: [BROKEN_PIPE, BAD_RESOURCE] });

// Closing.

scene("close() interrupts the reads that wait", async (world) => {
  const [conn] = await world.pair();
  const reads = [read(conn), read(conn)];
  await world.settled();
  conn.close();
  return await Promise.all(reads);
}, { both: [INTERRUPTED, INTERRUPTED] });

scene("close() interrupts a read that was just asked for", async (world) => {
  const [conn, peer] = await world.pair();
  const pending = read(conn);
  conn.close();
  return [await pending, await read(peer)];
}, { both: [INTERRUPTED, "null"] });

scene(
  "close() comes too late for a read that had data, or not",
  async (world) => {
    const [conn, peer] = await world.pair();
    await deliver(world, peer);
    const pending = read(conn);
    conn.close();
    return [await pending];
  },
  { both: [["hello", INTERRUPTED]] },
);

scene(
  "close() comes too late for a write that had room, or not",
  async (world) => {
    const [conn, peer] = await world.pair();
    const pending = write(conn);
    conn.close();
    const written = await pending;
    await world.settled();
    const { data, end } = await drain(world, peer);
    const same =
      data.length === (written === INTERRUPTED ? 0 : Number(written));
    return [written, String(same), end];
  },
  { both: [["5", INTERRUPTED], "true", "null"] },
);

scene("close() comes too late for a half-close, or not", async (world) => {
  const [conn, peer] = await world.pair();
  const pending = closeWrite(conn);
  conn.close();
  return [await pending, await read(peer)];
}, { both: [["done", INTERRUPTED], "null"] });

scene(
  "close() returns, microtasks run, then what waits is rejected",
  async (world) => {
    const [conn] = await world.pair();
    const order: string[] = [];
    const pending = conn.read(new Uint8Array(8)).catch(() =>
      order.push("read")
    );
    await world.settled();
    conn.close();
    order.push("returned");
    queueMicrotask(() => order.push("microtask"));
    await pending;
    return order;
  },
  { both: ["returned", "microtask", "read"] },
);

scene(
  "close() interrupts writes that wait; what was written arrives",
  async (world) => {
    const [conn, peer] = await world.pair();
    const { sent, write: first } = await fill(world, conn);
    const second = write(conn);
    const half = closeWrite(conn);
    await world.settled();
    conn.close();
    const outcomes = await Promise.all([first.end, second, half]);
    const { data, end } = await drain(world, peer);
    return [...outcomes, String(data.length - sent), end];
  },
  { both: [INTERRUPTED, INTERRUPTED, INTERRUPTED, "0", "null"] },
);

scene(
  "a closed connection refuses everything but to look at it",
  async (world) => {
    const [conn] = await world.pair();
    conn.close();
    return [
      await read(conn),
      await write(conn),
      await closeWrite(conn),
      called(() => conn.close()),
      called(() => conn[Symbol.dispose]()),
      called(() => conn.unref()),
      called(() => conn.ref()),
      conn.remoteAddr.transport,
    ];
  },
  {
    tcp: [
      BAD_RESOURCE,
      BAD_RESOURCE,
      BAD_RESOURCE,
      BAD_RESOURCE,
      "done",
      "done",
      "done",
      "tcp",
    ],
    unix: [
      BAD_RESOURCE,
      BAD_RESOURCE,
      BAD_RESOURCE,
      BAD_RESOURCE,
      "done",
      "done",
      "done",
      "unix",
    ],
  },
);

scene("a closed connection refuses the options of TCP", async (world) => {
  const [conn] = await world.pair() as [Deno.TcpConn, Deno.Conn];
  const outcomes = [
    called(() => conn.setNoDelay(true)),
    called(() => conn.setKeepAlive(true)),
  ];
  conn.close();
  return [
    ...outcomes,
    called(() => conn.setNoDelay(true)),
    called(() => conn.setKeepAlive(true)),
  ];
}, { tcp: ["done", "done", BAD_RESOURCE, BAD_RESOURCE] });

scene("a peer that has closed is noticed by writes", async (world) => {
  const [conn, peer] = await world.pair();
  peer.close();
  await world.settled();
  const outcomes = [await write(conn)];
  // The first one is answered with a reset.
  await world.settled();
  return [
    ...outcomes,
    await write(conn),
    await write(conn),
    await write(conn, ""),
    await read(conn),
    await read(conn),
    await closeWrite(conn),
  ];
}, {
  tcp: ["5", BROKEN_PIPE, BROKEN_PIPE, BROKEN_PIPE, "null", "null", "done"],
  unix: [
    BROKEN_PIPE,
    BROKEN_PIPE,
    BROKEN_PIPE,
    BROKEN_PIPE,
    "null",
    "null",
    "done",
  ],
});

scene(
  "a peer that has closed is noticed by writes after its end of file",
  async (world) => {
    const [conn, peer] = await world.pair();
    peer.close();
    const outcomes = [await read(conn), await write(conn)];
    await world.settled();
    return [...outcomes, await write(conn), await read(conn)];
  },
  {
    tcp: ["null", "5", BROKEN_PIPE, "null"],
    unix: ["null", BROKEN_PIPE, BROKEN_PIPE, "null"],
  },
);

// Deno half-closes a connection before it closes it, so that over TCP the end
// of file is there before the reset.
scene(
  "a peer that closes with unread data resets: the reader's view",
  async (world) => {
    const [conn, peer] = await world.pair();
    await deliver(world, conn);
    peer.close();
    await world.settled();
    return [
      await read(conn),
      await read(conn),
      await write(conn),
      await write(conn),
      await closeWrite(conn),
    ];
  },
  {
    tcp: ["null", "null", BROKEN_PIPE, BROKEN_PIPE, "done"],
    unix: [RESET, "null", BROKEN_PIPE, BROKEN_PIPE, "done"],
  },
);

scene(
  "a peer that closes with unread data resets: the writer's view",
  async (world) => {
    const [conn, peer] = await world.pair();
    await deliver(world, conn);
    peer.close();
    await world.settled();
    return [
      await write(conn),
      await write(conn),
      await read(conn),
      await read(conn),
    ];
  },
  {
    tcp: [BROKEN_PIPE, BROKEN_PIPE, "null", "null"],
    unix: [BROKEN_PIPE, BROKEN_PIPE, RESET, "null"],
  },
);

scene(
  "a peer that closes with unread data resets: after its data",
  async (world) => {
    const [conn, peer] = await world.pair();
    await deliver(world, conn);
    await deliver(world, peer);
    peer.close();
    await world.settled();
    return [await read(conn), await read(conn), await read(conn)];
  },
  {
    tcp: ["hello", "null", "null"],
    unix: ["hello", RESET, "null"],
  },
);

scene(
  "a peer that closes with unread data ends reads and writes that wait",
  async (world) => {
    const [conn, peer] = await world.pair();
    const { write: waiting } = await fill(world, conn);
    const reads = [read(conn), read(conn)];
    await world.settled();
    peer.close();
    return [...await Promise.all(reads), await waiting.end, await read(conn)];
  },
  {
    tcp: ["null", "null", BROKEN_PIPE, "null"],
    unix: [RESET, "null", BROKEN_PIPE, "null"],
  },
);

scene(
  "a peer that half-closes and then closes with unread data breaks writes",
  async (world) => {
    const [conn, peer] = await world.pair();
    const { write: waiting } = await fill(world, conn);
    await peer.closeWrite();
    await world.settled();
    peer.close();
    return [
      await waiting.end,
      await write(conn),
      await read(conn),
      await read(conn),
    ];
  },
  {
    tcp: [BROKEN_PIPE, BROKEN_PIPE, "null", "null"],
    unix: [BROKEN_PIPE, BROKEN_PIPE, RESET, "null"],
  },
);

scene(
  "a peer's end of file is no reset if it has read everything",
  async (world) => {
    const [conn, peer] = await world.pair();
    await deliver(world, conn);
    await conn.closeWrite();
    await read(peer);
    peer.close();
    return [await read(conn), await read(conn)];
  },
  { both: ["null", "null"] },
);

// Half-closing.

scene("closeWrite() is the peer's end of file; reads go on", async (world) => {
  const [conn, peer] = await world.pair();
  await deliver(world, conn);
  const outcomes = [await closeWrite(conn), await read(peer), await read(peer)];
  await deliver(world, peer, "answer");
  outcomes.push(await read(conn));
  peer.close();
  return [...outcomes, await read(conn)];
}, { both: ["done", "hello", "null", "answer", "null"] });

scene("closeWrite() ends writing, and may be called again", async (world) => {
  const [conn, peer] = await world.pair();
  const outcomes = [
    await closeWrite(conn),
    await write(conn),
    await closeWrite(conn),
  ];
  peer.close();
  await world.settled();
  return [...outcomes, await closeWrite(conn)];
}, { both: ["done", BROKEN_PIPE, "done", "done"] });

scene("closeWrite() leaves the other direction alone", async (world) => {
  const [conn, peer] = await world.pair();
  await peer.closeWrite();
  const outcomes = [await read(conn), await write(conn), await write(conn)];
  await world.settled();
  return [...outcomes, await read(peer)];
}, { both: ["null", "5", "5", "hellohello"] });

scene("closeWrite() waits for the writes before it", async (world) => {
  const [conn, peer] = await world.pair();
  const { sent, write: waiting } = await fill(world, conn);
  const last = watch(conn.write(bytes("last")));
  const half = watch(halfClose(conn));
  await world.settled();
  const before = half.now;
  const { data, end } = await drain(world, peer);
  const total = sent + Number(await waiting.end) + Number(await last.end);
  return [before, await half.end, String(data.length - total), end];
}, { both: ["pending", "done", "0", "null"] });

scene("closeWrite() and close() are one end of file", async (world) => {
  const [conn, peer] = await world.pair();
  await conn.closeWrite();
  conn.close();
  return [await read(peer), await read(peer)];
}, { both: ["null", "null"] });

// A peer that resets.

scene("a reset is told once, to a read that waits", async (world) => {
  const [conn, peer] = await world.breakable();
  const pending = read(conn);
  await world.settled();
  await peer.reset();
  return [
    await pending,
    await read(conn),
    await read(conn),
    await write(conn),
    await write(conn),
    await closeWrite(conn),
  ];
}, { tcp: [RESET, "null", "null", BROKEN_PIPE, BROKEN_PIPE, "done"] });

scene("a reset is told once, to the next read", async (world) => {
  const [conn, peer] = await world.breakable();
  await peer.reset();
  await world.settled();
  return [await read(conn), await read(conn), await write(conn)];
}, { tcp: [RESET, "null", BROKEN_PIPE] });

scene("a reset is told once, to the next write", async (world) => {
  const [conn, peer] = await world.breakable();
  await peer.reset();
  await world.settled();
  return [await write(conn), await write(conn), await read(conn)];
}, { tcp: [RESET, BROKEN_PIPE, "null"] });

scene("a reset is told to the read if a write waits, too", async (world) => {
  const [conn, peer] = await world.breakable();
  const { write: waiting } = await fill(world, conn);
  const reads = [read(conn), read(conn)];
  await world.settled();
  await peer.reset();
  return [...await Promise.all(reads), await waiting.end];
}, { tcp: [RESET, "null", BROKEN_PIPE] });

scene("a reset is told to the write that waits", async (world) => {
  const [conn, peer] = await world.breakable();
  const { write: waiting } = await fill(world, conn);
  const next = write(conn);
  await peer.reset();
  return [await waiting.end, await next, await read(conn)];
}, { tcp: [RESET, BROKEN_PIPE, "null"] });

scene("a reset is told after the data that had arrived", async (world) => {
  const [conn, peer] = await world.breakable();
  await deliver(world, peer);
  await peer.reset();
  await world.settled();
  return [await read(conn, 3), await read(conn), await read(conn)];
}, { tcp: ["hel", "lo", RESET] });

scene("a reset after the end of file is told to writes only", async (world) => {
  const [conn, peer] = await world.breakable();
  await peer.closeWrite();
  await world.settled();
  await peer.reset();
  await world.settled();
  return [
    await read(conn),
    await write(conn),
    await write(conn),
    await read(conn),
  ];
}, { tcp: ["null", BROKEN_PIPE, BROKEN_PIPE, "null"] });

scene(
  "a reset is not told to who reads nothing or half-closes",
  async (world) => {
    const [conn, peer] = await world.breakable();
    await peer.reset();
    await world.settled();
    return [await read(conn, 0), await closeWrite(conn), await read(conn)];
  },
  { tcp: ["0", "done", RESET] },
);

scene("a reset is told to a write of nothing", async (world) => {
  const [conn, peer] = await world.breakable();
  await peer.reset();
  await world.settled();
  return [await write(conn, ""), await write(conn, ""), await read(conn)];
}, { tcp: [RESET, BROKEN_PIPE, "null"] });

// Listening.

scene("accept() waits for a connection", async (world) => {
  const listener = world.listen();
  const accepted = watch(listener.accept().then((conn) => conn.close()));
  await world.settled();
  const before = accepted.now;
  const conn = await world.connect(listener.addr);
  return [before, await accepted.end, await read(conn)];
}, { both: ["pending", "done", "null"] });

scene(
  "accept() gets connections in their order, with what they sent",
  async (world) => {
    const listener = world.listen();
    for (const name of ["first", "second"]) {
      const conn = await world.connect(listener.addr);
      await write(conn, name);
    }
    const outcomes: string[] = [];
    for (let i = 0; i < 2; i++) {
      using conn = await listener.accept();
      outcomes.push(await read(conn));
    }
    return outcomes;
  },
  { both: ["first", "second"] },
);

scene(
  "accept() gets a connection that was closed, and its data",
  async (world) => {
    const listener = world.listen();
    const client = await world.connect(listener.addr);
    await write(client);
    client.close();
    await world.settled();
    using conn = await listener.accept();
    return [await read(conn), await read(conn)];
  },
  { both: ["hello", "null"] },
);

scene("accept() fails for a connection that was reset, once", async (world) => {
  const listener = world.listen();
  const client = await world.knock(listener.addr);
  await client.reset();
  await world.settled();
  const first = await outcome(listener.accept());
  const second = listener.accept().then((conn) => conn.close());
  await world.connect(listener.addr);
  return [first, await outcome(second)];
}, { tcp: [NOT_CONNECTED, "done"] });

scene("accept() does not go with another", async (world) => {
  const listener = world.listen();
  const first = outcome(listener.accept());
  const second = await outcome(listener.accept());
  listener.close();
  return [second, await first];
}, {
  tcp: ["Busy: Another accept task is ongoing", LISTENER_CLOSED],
  unix: ["Busy: Listener already in use", LISTENER_CLOSED],
});

scene(
  "a closed listener refuses everything but to look at it",
  async (world) => {
    const listener = world.listen();
    const pending = outcome(listener.accept());
    await world.settled();
    listener.close();
    return [
      await pending,
      await outcome(listener.accept()),
      called(() => listener.close()),
      called(() => listener[Symbol.dispose]()),
      called(() => listener.ref()),
      called(() => listener.unref()),
    ];
  },
  {
    both: [
      LISTENER_CLOSED,
      LISTENER_CLOSED,
      BAD_RESOURCE,
      "done",
      "done",
      "done",
    ],
  },
);

scene("the connections of a listener end with it", async (world) => {
  const listener = world.listen();
  const iterator = listener[Symbol.asyncIterator]();
  const pending = iterator.next();
  await world.settled();
  listener.close();
  const outcomes = [(await pending).done, (await iterator.next()).done];
  return outcomes.map(String);
}, { both: ["true", "true"] });

scene(
  "a listener's close() returns, microtasks run, then accept() is rejected",
  async (world) => {
    const listener = world.listen();
    const order: string[] = [];
    const pending = listener.accept().catch(() => order.push("accept"));
    await world.settled();
    listener.close();
    order.push("returned");
    queueMicrotask(() => order.push("microtask"));
    await pending;
    return order;
  },
  { both: ["returned", "microtask", "accept"] },
);

scene(
  "a listener that closes resets the connections that wait",
  async (world) => {
    const listener = world.listen();
    const conn = await world.connect(listener.addr);
    await write(conn);
    const pending = read(conn);
    await world.settled();
    listener.close();
    return [await pending, await read(conn), await write(conn)];
  },
  { both: [RESET, "null", BROKEN_PIPE] },
);

scene(
  "a listener that closes breaks the writes of those who wait",
  async (world) => {
    const listener = world.listen();
    const conn = await world.connect(listener.addr);
    listener.close();
    await world.settled();
    return [await write(conn), await write(conn), await read(conn)];
  },
  {
    tcp: [RESET, BROKEN_PIPE, "null"],
    unix: [BROKEN_PIPE, BROKEN_PIPE, RESET],
  },
);

scene(
  "a listener that closes leaves accepted connections alone",
  async (world) => {
    const [conn, peer] = await world.pair();
    return [await write(conn), await read(peer)];
  },
  { both: ["5", "hello"] },
);

scene("an address is in use until its listener is closed", (world) => {
  const { addr } = world.listen();
  const outcomes = [called(() => world.listen({ addr }))];
  const other = world.listen();
  other.close();
  outcomes.push(called(() => world.listen({ addr: other.addr })));
  return outcomes;
}, { both: [IN_USE, "done"] });

scene("a wildcard address conflicts with every address", (world) => {
  const any = { transport: "tcp", hostname: "0.0.0.0" } as const;
  const one = { transport: "tcp", hostname: "127.0.0.1" } as const;
  const outcomes: string[] = [];
  for (const [first, second] of [[any, one], [one, any]] as const) {
    using listener = world.listen({ addr: { ...first, port: 0 } });
    const { port } = listener.addr as Deno.NetAddr;
    outcomes.push(called(() => world.listen({ addr: { ...second, port } })));
  }
  return outcomes;
}, { tcp: [IN_USE, IN_USE] });

// Connecting.

scene("nobody listens", async (world) => {
  const listener = world.listen();
  listener.close();
  return [await outcome(world.connect(listener.addr))];
}, { tcp: [REFUSED], unix: [NO_SUCH_PATH] });

scene("addresses are told, as seen from both sides", async (world) => {
  const listener = world.listen();
  const accepted = listener.accept();
  const conn = await world.connect(listener.addr);
  using peer = await accepted;
  const here = show(listener.addr);
  return [conn.remoteAddr, peer.localAddr].map((addr) =>
    show(addr) === here ? "the listener's" : show(addr)
  ).concat(
    show(peer.remoteAddr) === show(conn.localAddr) ? "the same" : "others",
    "path" in conn.localAddr
      ? show(conn.localAddr)
      : (conn.localAddr as Deno.NetAddr).hostname,
  );
}, {
  tcp: ["the listener's", "the listener's", "the same", "127.0.0.1"],
  unix: [
    "the listener's",
    "the listener's",
    "the same",
    '{"transport":"unix","path":null}',
  ],
});

scene("localhost and 0.0.0.0 are this machine", async (world) => {
  const listener = world.listen();
  const { port } = listener.addr as Deno.NetAddr;
  const outcomes: string[] = [];
  for (const hostname of ["localhost", "0.0.0.0"]) {
    const addr = { transport: "tcp", hostname, port } as const;
    const { remoteAddr } = await world.connect(addr);
    outcomes.push((remoteAddr as Deno.NetAddr).hostname);
  }
  return outcomes;
}, { tcp: ["127.0.0.1", "127.0.0.1"] });

scene(
  "who listens everywhere is told where a connection came to",
  async (world) => {
    const hostname = "0.0.0.0";
    const listener = world.listen({
      addr: { transport: "tcp", hostname, port: 0 },
    });
    const addr = listener.addr as Deno.NetAddr;
    const accepted = listener.accept();
    await world.connect({ ...addr, hostname: "127.0.0.1" });
    using conn = await accepted;
    return [
      addr,
      conn.localAddr as Deno.NetAddr,
      conn.remoteAddr as Deno.NetAddr,
    ]
      .map(({ hostname }) => hostname);
  },
  { tcp: ["0.0.0.0", "127.0.0.1", "127.0.0.1"] },
);

scene("connect() can be given up", async (world) => {
  const listener = world.listen({ tcpBacklog: 0 });
  await world.connect(listener.addr);
  const outcomes: string[] = [];
  for (const reason of [undefined, "a reason"]) {
    const controller = new AbortController();
    const pending = watch(world.connect(listener.addr, controller.signal));
    await world.settled();
    outcomes.push(pending.now);
    controller.abort(reason);
    outcomes.push(await pending.end);
  }
  return outcomes;
}, { tcp: ["pending", ABORTED, "pending", "a reason"] });

scene("connect() is not begun if it was given up before", async (world) => {
  const { addr } = world.listen();
  return [
    await outcome(world.connect(addr, AbortSignal.abort())),
    await outcome(world.connect(addr, AbortSignal.abort("a reason"))),
  ];
}, { tcp: [ABORTED, "a reason"] });

scene("connect() over a path cannot be given up", async (world) => {
  const { addr } = world.listen();
  const conn = await world.connect(addr, AbortSignal.abort());
  return [await write(conn)];
}, { unix: ["5"] });

scene("giving up later has no effect", async (world) => {
  const listener = world.listen();
  const controller = new AbortController();
  const conn = await world.connect(listener.addr, controller.signal);
  using peer = await listener.accept();
  controller.abort();
  await world.settled();
  return [await write(conn), await read(peer)];
}, { tcp: ["5", "hello"] });

// IPv6, where the machine has it.

const ignore =
  called(() => Deno.listen({ hostname: "::1", port: 0 }).close()) !==
    "done";

scene(
  "an IPv6 address may be in brackets",
  async (world) => {
    const addr = { transport: "tcp", hostname: "::1", port: 0 } as const;
    const listener = world.listen({ addr });
    const { port } = listener.addr as Deno.NetAddr;
    const outcomes: string[] = [];
    for (const hostname of ["::1", "[::1]"]) {
      const conn = await world.connect({ ...addr, hostname, port });
      outcomes.push((conn.remoteAddr as Deno.NetAddr).hostname);
    }
    return outcomes;
  },
  { tcp: ["::1", "::1"] },
  { ignore },
);

scene(
  "who listens at :: is reached over IPv4, too",
  async (world) => {
    const addr = { transport: "tcp", hostname: "::", port: 0 } as const;
    const listener = world.listen({ addr });
    const { port } = listener.addr as Deno.NetAddr;
    const outcomes = ["127.0.0.1", "0.0.0.0", "::1"].map((hostname) =>
      called(() => world.listen({ addr: { ...addr, hostname, port } }))
    );
    for (const hostname of ["127.0.0.1", "::1"]) {
      const accepted = listener.accept();
      await world.connect({ ...addr, hostname, port });
      using conn = await accepted;
      outcomes.push((conn.remoteAddr as Deno.NetAddr).hostname);
    }
    return outcomes;
  },
  { tcp: [IN_USE, IN_USE, IN_USE, "::ffff:127.0.0.1", "::1"] },
  { ignore },
);

scene(
  "who listens at 0.0.0.0 is not reached over IPv6",
  async (world) => {
    const addr = { transport: "tcp", hostname: "0.0.0.0", port: 0 } as const;
    const { port } = world.listen({ addr }).addr as Deno.NetAddr;
    const six = { ...addr, hostname: "::1", port };
    return [
      await outcome(world.connect(six)),
      called(() => world.listen({ addr: six })),
    ];
  },
  { tcp: [REFUSED, "done"] },
  { ignore },
);

// Streams.

scene("readable ends with the connection, and closes it", async (world) => {
  const [conn, peer] = await world.pair();
  await peer.write(bytes("hello"));
  peer.close();
  const data = await within(new Response(conn.readable).text());
  return [data, await write(conn), called(() => conn.close())];
}, { both: ["hello", BAD_RESOURCE, BAD_RESOURCE] });

scene("readable.cancel() closes the connection", async (world) => {
  const [conn, peer] = await world.pair();
  await conn.readable.cancel();
  return [called(() => conn.close()), await read(peer)];
}, { both: [BAD_RESOURCE, "null"] });

scene("a reset fails readable, and closes the connection", async (world) => {
  const [conn, peer] = await world.breakable();
  await peer.reset();
  await world.settled();
  const data = await outcome(conn.readable.getReader().read());
  return [data, called(() => conn.close())];
}, { tcp: [RESET, BAD_RESOURCE] });

scene("writable.close() closes the connection", async (world) => {
  const [conn, peer] = await world.pair();
  const writer = conn.writable.getWriter();
  await writer.write(bytes("hello"));
  await writer.close();
  return [called(() => conn.close()), await read(peer), await read(peer)];
}, { both: [BAD_RESOURCE, "hello", "null"] });

scene("writable.abort() closes the connection", async (world) => {
  const [conn, peer] = await world.pair();
  await conn.writable.abort();
  return [called(() => conn.close()), await read(peer)];
}, { both: [BAD_RESOURCE, "null"] });

scene(
  "a broken pipe fails writable, and closes the connection",
  async (world) => {
    const [conn] = await world.pair();
    await conn.closeWrite();
    const writer = conn.writable.getWriter();
    const closed = outcome(writer.closed);
    const written = await outcome(writer.write(bytes("hello")));
    return [written, await closed, called(() => conn.close())];
  },
  { both: [BROKEN_PIPE, BROKEN_PIPE, BAD_RESOURCE] },
);

function show(addr: Deno.Addr): string {
  const { transport, ...rest } = addr as Deno.NetAddr;
  return JSON.stringify({ transport, ...rest });
}

Deno.test("a scene's outcomes are compared", () => {
  compare(["1", "a"], ["1", ["a", "b"]]);
  for (const other of [["1", "c"], ["", "a"], ["1"], ["1", "a", "a"]]) {
    assertThrows(() => compare(other, ["1", ["a", "b"]]), AssertionError);
  }
});
