import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import {
  bytes,
  listenTcp,
  noise,
  readExactly,
  readToEnd,
  text,
  writeAll,
} from "./net.ts";
import {
  assertFails,
  assertGood,
  assertSameBytes,
  connect,
  deadPort,
  example,
  python,
  runPython,
  Server,
  untilStill,
} from "./servers.ts";
import { type Ending, run } from "./subprocess.ts";
import { toolTest } from "./tools.ts";

/** One byte goes from one to the other. */
async function passByte(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  await writeAll(from, Uint8Array.of(1));
  assertEquals(await readExactly(to, 1), Uint8Array.of(1));
}

/** Lets `http_client` fetch from a server that is `serve`; returns what `serve` returned, and how the client ended. */
async function fetchFrom(
  path: string,
  serve: (conn: Deno.Conn) => Promise<string>,
): Promise<{ host: string; request: string; ending: Ending }> {
  using listener = listenTcp();
  const host = `127.0.0.1:${listener.addr.port}`;
  await using client = example("http_client.ts", `http://${host}${path}`);
  const [request, ending] = await Promise.all([
    listener.accept().then(async (conn) => {
      const request = await serve(conn);
      conn.close();
      return request;
    }),
    // A connection that never came is not waited for.
    client.end().finally(() => listener.close()),
  ]);
  return { host, request, ending };
}

/** Reads the head of a request. */
async function readHead(conn: Deno.Conn): Promise<string> {
  let head = "";
  while (!head.includes("\r\n\r\n")) head += text(await readExactly(conn, 1));
  return head;
}

const HELLO = "Hello from asyncore!\n";

// http_client.ts

Deno.test("http_client prints the response of a server of its own when no URL is given", async () => {
  await using client = example("http_client.ts");
  const ending = await client.end();
  const response = text(ending.stdout);
  assertGood(ending);
  assert(response.startsWith("HTTP/1.0 200 OK\r\n"), response);
  assert(response.endsWith(`\r\n\r\n${HELLO}`), response);
});

Deno.test("http_client prints what a URL's server sends, byte by byte", async () => {
  const head = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n";
  const response = await new Blob([head, noise(8_000_000)]).bytes();
  const { host, request, ending } = await fetchFrom(
    "/a%20b?c=d#e",
    async (conn) => {
      const head = await readHead(conn);
      await writeAll(conn, response);
      return head;
    },
  );
  assertEquals(
    request,
    `GET /a%20b?c=d HTTP/1.0\r\nHost: ${host}\r\n\r\n`,
  );
  assertGood(ending);
  assertSameBytes(ending.stdout, response);
});

Deno.test("http_client prints an empty response", async () => {
  const { request, ending } = await fetchFrom("", readHead);
  assertMatch(request, /^GET \/ HTTP\/1\.0\r\n/);
  assertEquals([ending.code, ending.stdout.length, ending.stderr], [0, 0, ""]);
});

Deno.test("http_client fails with one line when the connection is refused", async () => {
  await assertFails(
    "http_client.ts",
    [`http://127.0.0.1:${deadPort()}/`],
    /^Cannot fetch http:.*: Connection refused/,
    { code: 1 },
  );
});

Deno.test("http_client fails with one line when the host is unknown", async () => {
  await assertFails(
    "http_client.ts",
    ["http://nonexistent.invalid/"],
    /^Cannot fetch http:\/\/nonexistent\.invalid\/: ./,
    { code: 1 },
  );
});

toolTest(
  "http_client fails with one line when the server resets the connection",
  ["python3"],
  async () => {
    await using server = python(`
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
conn = server.accept()[0]
assert receive(conn, 4) == b"GET "
reset(conn)
`);
    const url = `http://127.0.0.1:${await server.line()}/`;
    await assertFails(
      "http_client.ts",
      [url],
      /^Cannot fetch http:.*: Connection reset/,
      { code: 1 },
    );
  },
);

Deno.test("http_client fails with one line when the argument is no http URL", async () => {
  for (
    const url of ["https://localhost/", "localhost", "file:///etc/hosts", ""]
  ) {
    await assertFails(
      "http_client.ts",
      [url],
      /^Cannot fetch .*: it is not a URL that begins/,
      { code: 1 },
    );
  }
});

// hello_server.ts

function startHello(): Promise<Server> {
  const says = /^Listening on http:\/\/127\.0\.0\.1:(\d+)\/$/;
  return Server.start("hello_server.ts", [], { says });
}

toolTest("hello_server answers curl", ["curl"], async (t) => {
  await using server = await startHello();
  const url = `http://127.0.0.1:${server.port}/`;
  const curl = async (...args: string[]) => {
    const common = ["--silent", "--show-error", "--noproxy", "*"];
    // Standard input is for the request that has a body.
    const body = new Uint8Array(500_000);
    const ending = await run("curl", [...common, ...args], body);
    assertGood(ending);
    return text(ending.stdout);
  };

  const headers = [
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${HELLO.length}`,
    "Connection: close",
  ];
  const head = ["HTTP/1.0 200 OK", ...headers, "", ""].join("\r\n");
  for (const version of ["--http1.0", "--http1.1"]) {
    await t.step(`GET with ${version}`, async () => {
      assertEquals(await curl("-i", version, url), head + HELLO);
    });
    await t.step(`HEAD with ${version}`, async () => {
      assertEquals(await curl("--head", version, url), head);
    });
  }
  await t.step(
    "a connection for each request, though it is asked to stay",
    async () => {
      const said = await curl(
        "--write-out",
        "%{num_connects}\n",
        "--header",
        "Connection: keep-alive",
        url,
        url,
      );
      assertEquals(said, `${HELLO}1\n`.repeat(2));
    },
  );
  await t.step("POST is not allowed, and its body is not needed", async () => {
    const said = await curl("-i", "--data-binary", "@-", url);
    assertMatch(said, /^HTTP\/1\.0 405 Method Not Allowed\r\n/);
    assertMatch(said, /^Allow: GET, HEAD\r$/m);
  });
  await t.step("a head that is too long", async () => {
    const said = await curl("--header", `X: ${"x".repeat(50_000)}`, url);
    assertEquals(said, "431 Request Header Fields Too Large\n");
  });
});

Deno.test("hello_server understands a request that comes byte by byte", async () => {
  await using server = await startHello();
  for (
    const [request, status] of [
      ["GET / HTTP/1.0\r\n\r\n", "200"],
      ["GET /\r\n\r\n", "400"],
    ] as const
  ) {
    using talk = await server.connect();
    talk.conn.setNoDelay();
    for (const byte of request) await talk.send(byte);
    const said = text(await talk.rest());
    assert(said.startsWith(`HTTP/1.0 ${status} `), said);
  }
});

Deno.test("hello_server fails with one line when its arguments are wrong", async () => {
  for (const args of [["--port", "x"], ["--port", "70000"], ["8080"]]) {
    await assertFails(
      "hello_server.ts",
      args,
      /^Cannot start the hello server: ./,
    );
  }
});

// echo_server.ts

toolTest("echo_server gives nc back what it sends", ["nc"], async () => {
  await using server = await Server.start("echo_server.ts");
  for (const size of [0, 1, 5_000_000]) {
    const data = noise(size);
    const nc = await run("nc", ["-N", "127.0.0.1", `${server.port}`], data);
    assertGood(nc);
    assertSameBytes(nc.stdout, data);
  }
  await server.stop();
});

toolTest("echo_server gives back one byte at a time", ["python3"], async () => {
  await using server = await Server.start("echo_server.ts");
  await runPython(
    `
conn = connect()
for i in range(500):
    conn.sendall(bytes([i % 256]))
    assert conn.recv(10) == bytes([i % 256])
`,
    server.port,
  );
  await server.stop();
});

toolTest("echo_server gives a client the rest after its half-close", [
  "python3",
], async () => {
  await using server = await Server.start("echo_server.ts");
  await runPython(
    `
conn = connect()
data = bytes(range(250)) * 1000
conn.sendall(data)
conn.shutdown(socket.SHUT_WR)
assert receive(conn, len(data) + 1) == data
`,
    server.port,
  );
  await server.stop();
});

toolTest(
  "echo_server goes on when clients reset the connection",
  ["python3"],
  async () => {
    await using server = await Server.start("echo_server.ts");
    await runPython(
      `
for i in range(50):
    conn = connect()
    conn.sendall(b"x" * 1000 * i)
    if i % 2:
        receive(conn, 10)
    reset(conn)
conn = connect()
conn.sendall(b"hello")
assert receive(conn, 5) == b"hello"
`,
      server.port,
    );
    await server.stop();
  },
);

toolTest(
  "echo_server stops reading from a client that does not read, and serves others",
  ["python3"],
  async () => {
    await using server = await Server.start("echo_server.ts");
    await runPython(
      `
pattern = bytes(range(251)) * 300
other = connect()
deaf = connect()
deaf.setblocking(False)
sent = 0
full = 0
# A hundred answers to the other one later there is still no room: the server
# does not read.
while full < 100:
    assert sent < 64_000_000
    try:
        sent += deaf.send(pattern[sent % 251:])
        full = 0
    except BlockingIOError:
        full += 1
        other.sendall(b"x")
        assert receive(other, 1) == b"x"
# Now it reads, and nothing is missing.
deaf.setblocking(True)
deaf.shutdown(socket.SHUT_WR)
assert receive(deaf, sent + 1) == (pattern * (sent // len(pattern) + 1))[:sent]
`,
      server.port,
    );
    await server.stop();
  },
);

toolTest("echo_server serves 200 clients at once", ["python3"], async () => {
  await using server = await Server.start("echo_server.ts");
  await runPython(
    `
conns = [connect() for i in range(200)]
for turn in range(5):
    for i, conn in enumerate(conns):
        conn.sendall(b"%d %d;" % (i, turn))
    for i, conn in enumerate(conns):
        text = b"%d %d;" % (i, turn)
        assert receive(conn, len(text)) == text
`,
    server.port,
  );
  await server.stop();
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`echo_server ends with code 0 on ${signal}, and half-closes first`, async () => {
    await using server = await Server.start("echo_server.ts");
    using conn = await connect(server.port);
    const data = noise(1000);
    await writeAll(conn, data);
    assertSameBytes(await readExactly(conn, data.length), data);
    server.kill(signal);
    // It half-closes.
    assertEquals((await readToEnd(conn)).length, 0);
    // It waits for the end of its last client.
    conn.closeWrite();
    assertGood(await server.end());

    // The port is free again.
    const args = ["--port", `${server.port}`];
    await using next = await Server.start("echo_server.ts", args);
    assertEquals(next.port, server.port);
  });
}

Deno.test("echo_server writes what it has taken before it ends", async () => {
  await using server = await Server.start("echo_server.ts");
  using deaf = await connect(server.port);
  const other = await connect(server.port);
  const pattern = Uint8Array.from({ length: 251 * 300 }, (_, i) => i % 251);
  let sent = 0;
  let stop = false;
  const send = async () => {
    while (!stop) sent += await deaf.write(pattern.subarray(sent % 251));
    await deaf.closeWrite();
  };
  const receive = async () => {
    await untilStill(() => sent, () => passByte(other, other));
    other.close();
    stop = true;
    server.kill("SIGINT");
    // It ends well: a server that just went would reset the connection.
    return await readToEnd(deaf);
  };
  const [echo] = await Promise.all([receive(), send()]);
  assert(echo.every((byte, i) => byte === i % 251), "other bytes");
  assert(echo.length > pattern.length && echo.length <= sent);
  assertGood(await server.end());
});

Deno.test("echo_server fails with one line when its arguments are wrong", async () => {
  using listener = listenTcp();
  for (
    const args of [
      ["--port", "x"],
      ["--port", "70000"],
      ["--port", "-1"],
      ["--port"],
      ["--hostname", "nonexistent.invalid"],
      ["--verbose"],
      ["8080"],
      ["--port", `${listener.addr.port}`],
    ]
  ) {
    await assertFails(
      "echo_server.ts",
      args,
      /^Cannot start the echo server: ./,
    );
  }
});

// port_forwarder.ts

function startForwarder(target: string): Promise<Server> {
  return Server.start("port_forwarder.ts", ["127.0.0.1:0", target]);
}

/** Starts a forwarder to a listener of the test. */
async function forward(listener: Deno.TcpListener) {
  const { hostname, port } = listener.addr;
  const target = hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
  const forwarder = await startForwarder(target);
  // Connections that never come are not waited for.
  forwarder.ended().then(() => listener.close());
  return { forwarder, port: forwarder.port };
}

/** A connection through a forwarder, seen from both ends. */
async function openThrough(listener: Deno.TcpListener, port: number) {
  const client = await connect(port);
  return { client, server: await listener.accept() };
}

Deno.test("port_forwarder forwards to the echo server and back", async () => {
  await using server = await Server.start("echo_server.ts");
  await using forwarder = await startForwarder(`127.0.0.1:${server.port}`);
  await Promise.all(Array.from({ length: 10 }, async (_, i) => {
    using conn = await connect(forwarder.port);
    const data = noise(1_000_000 + i).subarray(i);
    const sending = writeAll(conn, data).then(() => conn.closeWrite());
    const [echo] = await Promise.all([readToEnd(conn), sending]);
    assertSameBytes(echo, data);
  }));
});

Deno.test("port_forwarder passes on the client's half-close, and then forwards to the client", async () => {
  using listener = listenTcp();
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const { client, server } = await openThrough(listener, port);
  await writeAll(client, bytes("question"));
  await client.closeWrite();
  assertEquals(text(await readToEnd(server)), "question");
  await writeAll(server, bytes("answer"));
  server.close();
  assertEquals(text(await readToEnd(client)), "answer");
  client.close();
});

Deno.test("port_forwarder passes on the target's half-close, and then forwards to the target", async () => {
  using listener = listenTcp();
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const { client, server } = await openThrough(listener, port);
  await writeAll(server, bytes("greeting"));
  await server.closeWrite();
  assertEquals(text(await readToEnd(client)), "greeting");
  await writeAll(client, bytes("thanks"));
  client.close();
  assertEquals(text(await readToEnd(server)), "thanks");
  server.close();
});

toolTest("port_forwarder ends the other side when one resets the connection", [
  "python3",
], async () => {
  using listener = listenTcp();
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  await using client = python(
    `
conn = connect()
conn.sendall(b"hello")
assert receive(conn, 5) == b"hello"
reset(conn)
`,
    port,
  );
  using server = await listener.accept();
  await writeAll(server, await readExactly(server, 5));
  assertEquals(await readToEnd(server), new Uint8Array(0));
  assertGood(await client.end());
});

Deno.test("port_forwarder closes the client when the target refuses, and goes on", async () => {
  await using forwarder = await startForwarder(`127.0.0.1:${deadPort()}`);
  for (let i = 0; i < 3; i++) {
    using conn = await connect(forwarder.port);
    assertEquals(await readToEnd(conn), new Uint8Array(0));
    assertMatch(await forwarder.line(), /^error: .*ConnectionRefused/);
  }
});

Deno.test("port_forwarder makes the sender wait for a slow reader, and loses nothing", async () => {
  const CHUNK = 65_536;
  const CHUNKS = 1024; // 64 MiB
  using listener = listenTcp();
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const other = await openThrough(listener, port);
  const { client, server } = await openThrough(listener, port);

  const sentHash = createHash("sha256");
  let sent = 0;
  const send = async () => {
    const chunk = noise(CHUNK);
    for (; sent < CHUNKS; sent++) {
      // No two chunks are alike.
      new DataView(chunk.buffer).setUint32(0, sent);
      sentHash.update(chunk);
      await writeAll(client, chunk);
    }
    await client.closeWrite();
  };

  const receivedHash = createHash("sha256");
  let received = 0;
  const receive = async () => {
    // We do not read yet, and the sender has to wait.
    await untilStill(() => sent, () => passByte(other.client, other.server));
    assert(sent < CHUNKS, "the forwarder took everything");
    const buffer = new Uint8Array(CHUNK);
    for (let n; (n = await server.read(buffer)) !== null; received += n) {
      receivedHash.update(buffer.subarray(0, n));
    }
  };

  await Promise.all([receive(), send()]);
  assertEquals(received, CHUNKS * CHUNK);
  assertEquals(receivedHash.digest("hex"), sentHash.digest("hex"));
  for (const conn of [client, server, other.client, other.server]) conn.close();
});

/** Whether this machine has IPv6. */
function hasIpv6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

Deno.test({
  name: "port_forwarder and echo_server understand IPv6 addresses",
  ignore: !hasIpv6(),
  async fn() {
    const hostname = "::1";
    const says = /^Listening on ::1 port (\d+)$/;
    const echo = ["--hostname", hostname];
    await using server = await Server.start("echo_server.ts", echo, { says });
    const args = ["[::1]:0", `[::1]:${server.port}`];
    await using forwarder = await Server.start("port_forwarder.ts", args, {
      says,
    });
    using conn = await Deno.connect({ hostname, port: forwarder.port });
    await writeAll(conn, bytes("hello"));
    assertEquals(text(await readExactly(conn, 5)), "hello");
  },
});

Deno.test("port_forwarder fails with one line when its arguments are wrong", async () => {
  using listener = listenTcp();
  for (
    const args of [
      [],
      ["127.0.0.1:0"],
      ["127.0.0.1:0", "localhost"],
      ["127.0.0.1:0", "localhost:70000"],
      ["127.0.0.1:0", "::1:80"],
      ["127.0.0.1:0", "localhost:80", "more"],
      [`127.0.0.1:${listener.addr.port}`, "localhost:80"],
    ]
  ) {
    await assertFails(
      "port_forwarder.ts",
      args,
      /^Cannot start the forwarder: ./,
    );
  }
});
