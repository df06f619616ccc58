import {
  assert,
  assertEquals,
  assertMatch,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  ChannelMap,
  type CloseReason,
  Dispatcher,
  DispatcherWithSend,
  poll,
} from "../mod.ts";
import {
  bytes,
  captureConsole,
  listenTcp,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  tcpPair,
  tempDir,
  turns,
  unixPair,
  writeAll,
} from "./net.ts";

class EchoHandler extends Dispatcher {
  override writable() {
    return false;
  }
}

/** A dispatcher that keeps what is logged, whatever its type. */
class Logging extends Dispatcher {
  readonly lines: string[] = [];
  override logInfo(message: string, type = "info") {
    this.lines.push(`${type}: ${message}`);
  }
}

Deno.test("log() writes to standard error", () => {
  using captured = captureConsole();
  new Dispatcher().log("a message");
  assertEquals(captured.err, ["log: a message"]);
  assertEquals(captured.out, []);
});

Deno.test("logInfo() writes to standard output with its type", () => {
  using captured = captureConsole();
  const dispatcher = new Dispatcher();
  dispatcher.logInfo("a message");
  dispatcher.logInfo("another", "error");
  dispatcher.logInfo("a third", "debug");
  dispatcher.logInfo("a fourth", "anything");
  assertEquals(captured.out, [
    "info: a message",
    "error: another",
    "debug: a third",
    "anything: a fourth",
  ]);
  assertEquals(captured.err, []);
});

Deno.test("ignoreLogTypes hides warnings, and whatever it is told to", () => {
  using captured = captureConsole();
  const dispatcher = new Dispatcher();
  dispatcher.logInfo("hidden", "warning");
  dispatcher.ignoreLogTypes.add("info");
  dispatcher.logInfo("hidden");
  dispatcher.ignoreLogTypes = new Set(["error"]);
  dispatcher.logInfo("hidden", "error");
  dispatcher.logInfo("shown", "warning");
  // Each dispatcher has its own.
  new Dispatcher().logInfo("shown, too");
  assertEquals(captured.out, ["warning: shown", "info: shown, too"]);
});

Deno.test("ignoreLogTypes may be a field of a subclass", () => {
  using captured = captureConsole();
  class Talkative extends Dispatcher {
    override ignoreLogTypes = new Set<string>();
  }
  new Talkative().logInfo("shown", "warning");
  assertEquals(captured.out, ["warning: shown"]);
});

Deno.test("log() is used by nobody but the user", async () => {
  using captured = captureConsole();
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  new Dispatcher(conn, { map });
  peer.close();
  await run(map);
  assertEquals(captured.err, []);
});

Deno.test("handleExpt() logs a warning when it is not overridden", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Logging(conn, { map });
  await channel.handleExptEvent();
  assertEquals(channel.lines, ["warning: unhandled incoming priority event"]);
});

Deno.test("handleRead() logs a warning when it is not overridden, once", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Logging(conn, { map });
  channel.writable = () => false;
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => channel.lines.length > 0);
  for (let i = 0; i < 3; i++) {
    map.wake();
    await poll(0, map);
  }
  assertEquals(channel.lines, ["warning: unhandled read event"]);
});

Deno.test("handleWrite() logs a warning when it is not overridden, once", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Logging(conn, { map });
  await serveUntil(map, () => channel.lines.length > 0);
  for (let i = 0; i < 3; i++) {
    map.wake();
    await poll(0, map);
  }
  assertEquals(channel.lines, ["warning: unhandled write event"]);
});

Deno.test("handleConnect() logs a warning when it is not overridden", async () => {
  await using map = new ChannelMap();
  using listener = listenTcp();
  const channel = new Logging(null, { map });
  channel.createSocket();
  channel.connect(listener.addr as Deno.NetAddr);
  using _ = await listener.accept();
  await serveUntil(map, () => channel.connected);
  assertEquals(channel.lines[0], "warning: unhandled connect event");
});

Deno.test("handleAccepted() closes the connection and logs a warning when it is not overridden", async () => {
  await using map = new ChannelMap();
  const server = new Logging(null, { map });
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  const { hostname, port } = server.addr as Deno.NetAddr;
  using peer = await Deno.connect({ hostname, port });
  await serveUntil(map, () => server.lines.length > 0);
  assertEquals(server.lines, ["warning: unhandled accepted event"]);
  assertEquals((await readToEnd(peer)).length, 0);
  assert(server.accepting);
});

Deno.test("handleClose() logs a warning and closes when it is not overridden", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const channel = new Logging(conn, { map });
  channel.writable = () => false;
  channel.handleRead = () => void channel.recv();
  peer.close();
  await run(map);
  assertEquals(channel.lines, ["warning: unhandled close event"]);
  assertEquals(channel.connected, false);
  // As for a subclass that calls it and looks afterwards.
  const [conn2, peer2] = await tcpPair();
  using _ = peer2;
  const other = new Logging(conn2, { map });
  other.handleClose();
  assertEquals(map.size, 0);
});

Deno.test("handleEof() ends the connection when it is not overridden", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  const channel = new Logging(conn, { map });
  const reasons: (CloseReason | undefined)[] = [];
  channel.handleClose = (reason) => void reasons.push(reason);
  peer.close();
  await run(map);
  assertEquals(reasons, [{ kind: "eof", bytesUnsent: 0 }]);
});

Deno.test("handleError() logs one line with channel, error and traceback, and ends the connection", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Logging(conn, { map });
  channel.writable = () => false;
  let error: unknown;
  channel.handleRead = function overridden() {
    throw error = new RangeError("too\nmuch");
  };
  const reasons: (CloseReason | undefined)[] = [];
  channel.handleClose = (reason) => void reasons.push(reason);
  const shown = Deno.inspect(channel);
  await writeAll(peer, bytes("x"));
  await run(map);
  assertEquals(channel.lines.length, 1);
  const [line] = channel.lines as [string];
  assertMatch(line, /^error: .+$/);
  assertStringIncludes(line, shown);
  assertStringIncludes(line, "RangeError");
  assertMatch(line, /\[dispatcher_log_test\.ts\|[^|]*overridden[^|]*\|\d+\]/);
  assertEquals(reasons.map((reason) => reason?.kind), ["error"]);
  assertStrictEquals(reasons[0]?.error, error);
});

/** What a program may throw, and what of it must be told. */
const THROWN: Record<string, [thrown: () => unknown, told: string]> = {
  "a string": [() => "odd", "odd"],
  "a string of two lines": [() => "odd\nthing", "odd"],
  "undefined": [() => undefined, "undefined"],
  "null": [() => null, "null"],
  "a number": [() => 3, "3"],
  "an object without text": [
    () => ({
      toString() {
        throw new Error("no text");
      },
    }),
    "",
  ],
  "an object without a prototype": [() => Object.create(null), ""],
  "an error without a stack": [
    () => Object.assign(new Error("odd"), { stack: undefined }),
    "Error: odd",
  ],
  "an error whose stack is no text": [
    () => Object.assign(new Error("odd"), { stack: 3 }),
    "Error: odd",
  ],
  "an error whose stack throws": [
    () =>
      Object.defineProperty(new Error("odd"), "stack", {
        get() {
          throw new Error("no stack");
        },
      }),
    "Error: odd",
  ],
};

for (const [name, [thrown, told]] of Object.entries(THROWN)) {
  Deno.test(`handleError() logs ${name} on one line`, async () => {
    for (const handler of ["handleRead", "handleClose", "handleError"]) {
      await using map = new ChannelMap();
      const [conn, peer] = await tcpPair();
      using _ = peer;
      const channel = new Logging(conn, { map });
      channel.writable = () => false;
      channel.handleRead = () => {
        if (handler === "handleRead") throw thrown();
        if (handler === "handleError") throw new Error("before");
        channel.disconnect({ kind: "done" });
      };
      if (handler === "handleError") {
        channel.handleError = () => {
          throw thrown();
        };
      }
      channel.handleClose = () => {
        if (handler === "handleClose") throw thrown();
      };
      await writeAll(peer, bytes("x"));
      await run(map);
      assertEquals(channel.lines.length, 1, handler);
      assertMatch(channel.lines[0]!, /^error: .+$/, handler);
      assertStringIncludes(channel.lines[0]!, told, handler);
      assertEquals(channel.connected, false, handler);
    }
  });
}

Deno.test("logInfo() that fails is nobody's trouble", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Dispatcher(conn, { map });
  let closed = 0;
  let logged = 0;
  channel.debug = true;
  channel.logInfo = () => {
    logged++;
    throw new Error("the disk is full");
  };
  channel.handleWrite = () => {
    throw new Error("first");
  };
  channel.handleClose = () => {
    closed++;
    throw new Error("second");
  };
  await run(map);
  assertEquals(closed, 1);
  assert(logged > 0);
});

Deno.test("Deno.inspect() that a subclass breaks hides no error", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  class Unprintable extends Logging {
    [Symbol.for("Deno.customInspect")]() {
      throw new Error("no text");
    }
  }
  const channel = new Unprintable(conn, { map });
  channel.handleWrite = () => {
    throw new Error("told");
  };
  channel.handleClose = () => {};
  await run(map);
  assertEquals(channel.lines.length, 1);
  assertStringIncludes(channel.lines[0]!, "Error: told");
});

Deno.test("handleError() leaves a listener open", async () => {
  await using map = new ChannelMap();
  const server = new Logging(null, { map });
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  let accepted = 0;
  server.handleAccepted = () => {
    accepted++;
    throw new Error("not today");
  };
  const { hostname, port } = server.addr as Deno.NetAddr;
  for (let i = 1; i <= 3; i++) {
    using peer = await Deno.connect({ hostname, port });
    await serveUntil(map, () => accepted === i);
    assertEquals((await readToEnd(peer)).length, 0);
  }
  assertEquals(server.lines.length, 3);
  assert(server.accepting);
});

Deno.test("debug logs what happens to the channel, and only then", async () => {
  for (const debug of [false, true]) {
    await using map = new ChannelMap();
    using listener = listenTcp();
    const channel = new Logging(null, { map });
    channel.debug = debug;
    channel.handleRead = () => void channel.recv();
    channel.handleWrite = () => {};
    channel.handleConnect = () => {};
    channel.handleClose = () => {};
    channel.createSocket();
    channel.connect(listener.addr as Deno.NetAddr);
    const peer = await listener.accept();
    await serveUntil(map, () => channel.connected);
    peer.close();
    await run(map);
    assertEquals(channel.lines.length > 0, debug);
    assertEquals(
      channel.lines.filter((line) => !line.startsWith("debug: ")),
      [],
    );
  }
});

Deno.test("debug may be a field of a subclass", async () => {
  using captured = captureConsole();
  await using map = new ChannelMap();
  class Verbose extends Recorder {
    override debug = true;
  }
  const channel = new Verbose(null, { map });
  channel.createSocket();
  channel.close();
  assert(captured.out.length > 0);
  assert(captured.out.every((line) => line.startsWith("debug: ")));
});

Deno.test("Deno.inspect() shows class, state and address", async () => {
  await using map = new ChannelMap();
  assertEquals(Deno.inspect(new EchoHandler(null, { map })), "<EchoHandler>");
  assertEquals(
    Deno.inspect(new DispatcherWithSend(null, { map })),
    "<DispatcherWithSend>",
  );

  const server = new EchoHandler(null, { map });
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  assertMatch(Deno.inspect(server), /^<EchoHandler\b.* 127\.0\.0\.1:0>$/);
  server.listen();
  const { hostname, port } = server.addr as Deno.NetAddr;
  assertEquals(
    Deno.inspect(server),
    `<EchoHandler listening 127.0.0.1:${port}>`,
  );

  const client = new EchoHandler(null, { map });
  client.createSocket();
  client.connect({ hostname, port });
  assertEquals(
    Deno.inspect(client),
    `<EchoHandler connecting 127.0.0.1:${port}>`,
  );
  client.writable = () => !client.connected;
  server.handleAccepted = (conn) => conn.close();
  client.handleConnect = () => {
    assertEquals(
      Deno.inspect(client),
      `<EchoHandler connected 127.0.0.1:${port}>`,
    );
    client.disconnect({ kind: "done" });
    assertEquals(
      Deno.inspect(client),
      `<EchoHandler closing 127.0.0.1:${port}>`,
    );
  };
  await serveUntil(map, () => map.size === 1);
  assertEquals(
    Deno.inspect(client),
    `<EchoHandler closed 127.0.0.1:${port}>`,
  );
});

Deno.test("Deno.inspect() shows an IPv6 address in brackets", () => {
  const server = new EchoHandler(null, { map: new ChannelMap() });
  server.createSocket("inet6");
  server.bind({ hostname: "::1", port: 0 });
  server.listen();
  const { port } = server.addr as Deno.NetAddr;
  assertEquals(Deno.inspect(server), `<EchoHandler listening [::1]:${port}>`);
  server.close();
});

Deno.test("Deno.inspect() shows the path of a Unix socket", async () => {
  await using map = new ChannelMap();
  using dir = tempDir();
  const path = `${dir.path}/s`;
  const server = new EchoHandler(null, { map });
  server.createSocket();
  server.bind({ path });
  server.listen();
  assertEquals(Deno.inspect(server), `<EchoHandler listening ${path}>`);
  server.close();
  // The peer of an accepted one has no path.
  const [conn, peer] = await unixPair();
  using _ = conn;
  assertMatch(
    Deno.inspect(new EchoHandler(peer, { map })),
    /^<EchoHandler connected\b[^>]*>$/,
  );
});

Deno.test("Deno.inspect() shows a dispatcher inside other things on one line", () => {
  const dispatcher = new EchoHandler(null, { map: new ChannelMap() });
  assertEquals(Deno.inspect([dispatcher]), "[ <EchoHandler> ]");
  assertEquals(Deno.inspect({ dispatcher }), "{ dispatcher: <EchoHandler> }");
});

Deno.test("handleWrite() that is not overridden does not spin", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Logging(conn, { map });
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await turns(20);
  const { passes, writes } = map.counters;
  await turns(20);
  assertEquals(map.counters.passes, passes);
  assertEquals(map.counters.writes, writes);
  controller.abort();
  await served;
  assertEquals(channel.lines, ["warning: unhandled write event"]);
});

Deno.test("ignoreLogTypes is each dispatcher's own, though one of them cannot give it", () => {
  const map = new ChannelMap();
  class Broken extends Dispatcher {}
  Object.defineProperty(Broken.prototype, "ignoreLogTypes", {
    get() {
      throw new Error("mine");
    },
  });
  assertThrows(() => new Broken(null, { map }).logInfo("x"), Error, "mine");
  const [a, b] = [new Dispatcher(null, { map }), new Dispatcher(null, { map })];
  a.ignoreLogTypes.add("error");
  assertEquals(b.ignoreLogTypes, new Set(["warning"]));
});

Deno.test("Deno.inspect() shows a prototype, which is no dispatcher", () => {
  assertEquals(Deno.inspect(Dispatcher.prototype), "Dispatcher {}");
  class Handler extends Dispatcher {}
  Deno.inspect(Handler.prototype);
});
