import {
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertMatch,
  assertThrows,
} from "@std/assert";
import { type Address, ChannelMap, Dispatcher } from "../mod.ts";
import { bytes, run, tcpPair, turns } from "./net.ts";

/** The states a dispatcher can be in. */
type State =
  | "without a socket"
  | "idle"
  | "bound"
  | "listening"
  | "connecting"
  | "connected"
  | "shut down"
  | "closing"
  | "closed";

/** What can be called, and in which states that is a mistake. */
interface Misuse {
  readonly name: string;
  readonly call: (dispatcher: Dispatcher) => unknown;
  readonly wrong: readonly State[];
}

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

class Quiet extends Dispatcher {
  calls = 0;
  override handleConnect() {
    this.calls++;
  }
  override handleRead() {
    this.calls++;
  }
  override handleWrite() {
    this.calls++;
  }
  override handleAccept() {
    this.calls++;
  }
  override handleClose() {
    this.calls++;
  }
  override handleError() {
    this.calls++;
  }
}

const MAKE: Record<
  State,
  (map: ChannelMap, conn: Deno.Conn, listener: Deno.NetAddr) => Quiet
> = {
  "without a socket": (map) => new Quiet(null, { map }),
  idle(map) {
    const dispatcher = new Quiet(null, { map });
    dispatcher.createSocket();
    return dispatcher;
  },
  bound(map) {
    const dispatcher = new Quiet(null, { map });
    dispatcher.createSocket();
    dispatcher.bind(LOOPBACK);
    return dispatcher;
  },
  listening(map) {
    const dispatcher = new Quiet(null, { map });
    dispatcher.createSocket();
    dispatcher.bind(LOOPBACK);
    dispatcher.listen();
    return dispatcher;
  },
  connecting(map, _conn, listener) {
    const dispatcher = new Quiet(null, { map });
    dispatcher.createSocket();
    dispatcher.connect(listener);
    return dispatcher;
  },
  connected: (map, conn) => new Quiet(conn, { map }),
  "shut down"(map, conn) {
    const dispatcher = new Quiet(conn, { map });
    dispatcher.shutdown("write");
    return dispatcher;
  },
  closing(map, conn) {
    const dispatcher = new Quiet(conn, { map });
    dispatcher.disconnect({ kind: "error" });
    return dispatcher;
  },
  closed(map, conn) {
    const dispatcher = new Quiet(conn, { map });
    dispatcher.close();
    return dispatcher;
  },
};

const MISUSES: Misuse[] = [
  {
    name: "createSocket()",
    call: (dispatcher) => dispatcher.createSocket(),
    wrong: [
      "idle",
      "bound",
      "listening",
      "connecting",
      "connected",
      "shut down",
      "closing",
    ],
  },
  {
    name: "bind()",
    call: (dispatcher) => dispatcher.bind(LOOPBACK),
    wrong: [
      "without a socket",
      "listening",
      "connecting",
      "connected",
      "shut down",
      "closing",
      "closed",
    ],
  },
  {
    name: "listen()",
    call: (dispatcher) => dispatcher.listen(),
    wrong: [
      "without a socket",
      "idle",
      "listening",
      "connecting",
      "connected",
      "shut down",
      "closing",
      "closed",
    ],
  },
  {
    name: "connect()",
    call: (dispatcher) => dispatcher.connect(LOOPBACK),
    wrong: [
      "without a socket",
      "bound",
      "listening",
      "connecting",
      "connected",
      "shut down",
      "closing",
      "closed",
    ],
  },
  {
    name: "accept()",
    call: (dispatcher) => dispatcher.accept(),
    wrong: [
      "without a socket",
      "idle",
      "bound",
      "connecting",
      "connected",
      "shut down",
      "closing",
    ],
  },
  {
    name: "send()",
    call: (dispatcher) => dispatcher.send(bytes("x")),
    wrong: ["without a socket", "listening", "shut down"],
  },
  {
    name: "send() of a string",
    call: (dispatcher) => dispatcher.send("x" as unknown as Uint8Array),
    wrong: [
      "without a socket",
      "idle",
      "listening",
      "connecting",
      "connected",
      "shut down",
    ],
  },
  ...[undefined, null, 1, [1], new ArrayBuffer(1), new Uint16Array(1)].map(
    (data): Misuse => ({
      name: `send() of ${Deno.inspect(data)}`,
      call: (dispatcher) => dispatcher.send(data as unknown as Uint8Array),
      wrong: ["connected"],
    }),
  ),
  {
    name: "recv()",
    call: (dispatcher) => dispatcher.recv(),
    wrong: ["without a socket", "listening"],
  },
  {
    name: "recvView()",
    call: (dispatcher) => dispatcher.recvView(),
    wrong: ["without a socket", "listening"],
  },
  {
    name: "recvInto()",
    call: (dispatcher) => dispatcher.recvInto(new Uint8Array(1)),
    wrong: ["without a socket", "listening"],
  },
  ...["x", undefined, [1], new ArrayBuffer(1)].map((buffer): Misuse => ({
    name: `recvInto() of ${Deno.inspect(buffer)}`,
    call: (dispatcher) => dispatcher.recvInto(buffer as unknown as Uint8Array),
    wrong: ["connected", "closing"],
  })),
  {
    name: "shutdown()",
    call: (dispatcher) => dispatcher.shutdown("write"),
    wrong: ["without a socket", "listening"],
  },
  ...["read", "both", undefined, 1].map((how): Misuse => ({
    name: `shutdown() of ${Deno.inspect(how)}`,
    call: (dispatcher) => dispatcher.shutdown(how as unknown as "write"),
    wrong: ["connected", "shut down"],
  })),
  {
    name: "disconnect()",
    call: (dispatcher) => dispatcher.disconnect({ kind: "error" }),
    wrong: ["without a socket"],
  },
  ...[undefined, null, "eof", {}, { kind: "over" }, { kind: undefined }].map(
    (reason): Misuse => ({
      name: `disconnect() of ${Deno.inspect(reason)}`,
      call: (dispatcher) =>
        dispatcher.disconnect(reason as unknown as { kind: "error" }),
      wrong: ["idle", "listening", "connected"],
    }),
  ),
  {
    name: "addChannel()",
    call: (dispatcher) => dispatcher.addChannel(),
    wrong: ["without a socket", "closed"],
  },
  {
    name: "setNoDelay()",
    call: (dispatcher) => dispatcher.setNoDelay(),
    wrong: ["without a socket", "listening"],
  },
  {
    name: "setKeepAlive()",
    call: (dispatcher) => dispatcher.setKeepAlive(),
    wrong: ["without a socket", "listening"],
  },
];

/** What an error's message must look like. */
const WORDING = /^Cannot [a-z][^]*: \S[^]*[^.\s]$/;

/** Runs a check on a dispatcher in a state. */
async function inState(
  state: State,
  check: (dispatcher: Quiet, map: ChannelMap) => void,
): Promise<void> {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _conn = conn;
  using _peer = peer;
  using listener = Deno.listen(LOOPBACK);
  const dispatcher = MAKE[state](map, conn, listener.addr as Deno.NetAddr);
  check(dispatcher, map);
  assertEquals(dispatcher.calls, 0);
  dispatcher.close();
  await turns();
}

for (const { name, call, wrong } of MISUSES) {
  Deno.test(`${name} says what is wrong when it is called in the wrong place`, async () => {
    for (const state of wrong) {
      await inState(state, (dispatcher, map) => {
        const before = [
          dispatcher.connected,
          dispatcher.connecting,
          dispatcher.accepting,
          dispatcher.closing,
          map.size,
        ];
        const error = assertThrows(() => call(dispatcher), Error, "", state);
        if (!(error instanceof Deno.errors.NotSupported)) {
          assertInstanceOf(error, TypeError, state);
        }
        assertMatch(error.message, WORDING, state);
        assertFalse(/n't\b/.test(error.message), error.message);
        // A refused call changes nothing.
        assertEquals([
          dispatcher.connected,
          dispatcher.connecting,
          dispatcher.accepting,
          dispatcher.closing,
          map.size,
        ], before);
      });
    }
  });
}

for (const n of [-1, 1.5, NaN, -Infinity, Infinity]) {
  Deno.test(`recv(${n}) is a RangeError`, async () => {
    await inState("connected", (dispatcher) => {
      for (
        const call of [
          () => dispatcher.recv(n),
          () => dispatcher.recvView(n),
        ]
      ) {
        const error = assertThrows(call, RangeError);
        assertMatch(error.message, WORDING);
        assertMatch(error.message, new RegExp(`${n}$`));
      }
    });
  });
}

const ADDRESSES: [unknown, typeof RangeError | typeof TypeError][] = [
  [{ hostname: "127.0.0.1", port: 70_000 }, RangeError],
  [{ hostname: "127.0.0.1", port: 65_536 }, RangeError],
  [{ hostname: "127.0.0.1", port: -1 }, RangeError],
  [{ hostname: "127.0.0.1", port: 1.5 }, RangeError],
  [{ hostname: "127.0.0.1", port: NaN }, RangeError],
  [{ hostname: "127.0.0.1", port: "80" }, TypeError],
  [{ hostname: "127.0.0.1", port: null }, TypeError],
  [{ hostname: "127.0.0.1" }, TypeError],
  [{ hostname: "", port: 80 }, TypeError],
  [{ hostname: 1, port: 80 }, TypeError],
  [{ hostname: null, port: 80 }, TypeError],
  [{ hostname: "127.0.0.1", port: 80, transport: "udp" }, TypeError],
  [{ hostname: "127.0.0.1", port: 80, transport: "tls" }, TypeError],
  [{ path: "" }, TypeError],
  [{ path: 1 }, TypeError],
  [{ path: "/nowhere", transport: "unixpacket" }, TypeError],
  [{ path: "/nowhere", transport: "tcp" }, TypeError],
  [{}, TypeError],
  ["127.0.0.1:80", TypeError],
  [["127.0.0.1", 80], TypeError],
  [80, TypeError],
  [null, TypeError],
  [undefined, TypeError],
];

for (const verb of ["bind", "connect"] as const) {
  Deno.test(`${verb}() says what is wrong with an address`, async () => {
    for (const [address, type] of ADDRESSES) {
      await inState("idle", (dispatcher) => {
        const label = Deno.inspect(address);
        const error = assertThrows(
          () => dispatcher[verb](address as Address),
          type,
          `Cannot ${verb} `,
          label,
        );
        assertMatch(error.message, WORDING, label);
        assertEquals(dispatcher.addr, null, label);
        assertEquals(dispatcher.connecting, false, label);
      });
    }
  });
}

Deno.test("close() is never a mistake", async () => {
  for (const state of Object.keys(MAKE) as State[]) {
    await inState(state, (dispatcher, map) => {
      dispatcher.close();
      dispatcher.close();
      assertEquals(map.size, 0, state);
    });
  }
});

Deno.test("A dispatcher that was misused in every way still runs", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const dispatcher = new Quiet(conn, { map });
  for (const { call, wrong } of MISUSES) {
    if (wrong.includes("connected")) assertThrows(() => call(dispatcher));
  }
  assertEquals(dispatcher.send(bytes("still here")), 10);
  dispatcher.writable = () => false;
  dispatcher.handleRead = () => void dispatcher.recv();
  peer.close();
  await run(map);
  assertEquals(dispatcher.calls, 1);
});
