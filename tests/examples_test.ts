import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { type Ending, run, Subprocess } from "./subprocess.ts";
import { toolTest } from "./tools.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Starts an example as its first lines say: with no permission but the network. */
function example(name: string, ...args: string[]): Subprocess {
  const path = new URL(`../examples/${name}`, import.meta.url);
  return new Subprocess(Deno.execPath(), [
    "run",
    "--allow-net",
    path.href,
    ...args,
  ]);
}

/** Runs an example to its end. */
async function runExample(name: string, ...args: string[]): Promise<Ending> {
  await using process = example(name, ...args);
  return await process.end();
}

/** The port in the line with which a server says where it listens. */
async function portOf(server: Subprocess): Promise<number> {
  const line = await server.line();
  const [, port] = /^Listening on .*?(\d+)\/?$/.exec(line) ?? [];
  assert(port !== undefined, line);
  return Number(port);
}

/** A port on which nobody listens. */
function deadPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function connect(port: number): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: "127.0.0.1", port });
}

async function writeAll(conn: Deno.Conn, data: Uint8Array): Promise<void> {
  while (data.length > 0) data = data.subarray(await conn.write(data));
}

/** Reads `length` bytes, or fewer if the end of file comes before. */
async function read(conn: Deno.Conn, length: number): Promise<Uint8Array> {
  const data = new Uint8Array(length);
  let end = 0;
  while (end < length) {
    const n = await conn.read(data.subarray(end));
    if (n === null) break;
    end += n;
  }
  return data.subarray(0, end);
}

/** Reads up to the end of file. Not by `conn.readable`, which closes the connection there. */
async function readAll(conn: Deno.Conn): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const buffer = new Uint8Array(65_536);
    const n = await conn.read(buffer);
    if (n === null) return await new Blob(chunks).bytes();
    chunks.push(buffer.subarray(0, n));
  }
}

/** One byte goes from one to the other. */
async function passByte(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  await writeAll(from, Uint8Array.of(1));
  assertEquals(await read(to, 1), Uint8Array.of(1));
}

/**
 * Returns when a count stands still: a hundred times in a row `meanwhile`, which makes the same server do something else, changes
 * nothing.
 */
async function untilStill(
  count: () => number,
  meanwhile: () => Promise<void>,
): Promise<void> {
  for (let last = count(), still = 0; still < 100; still++) {
    await meanwhile();
    if (count() !== last) still = 0;
    last = count();
  }
}

/** Bytes with no pattern, and with everything that is no text. */
function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i += 65_536) {
    crypto.getRandomValues(data.subarray(i, i + 65_536));
  }
  return data;
}

/** Not `assertEquals`, which would print megabytes. */
function assertSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  assertEquals(actual.length, expected.length);
  assert(actual.every((byte, i) => byte === expected[i]), "other bytes");
}

/** The example said one line on standard error, nothing else, and ended with `code`. */
function assertFailure(ending: Ending, code: number, line: RegExp): void {
  assertMatch(ending.stderr, line);
  assertEquals(ending.stderr.trimEnd().split("\n").length, 1);
  assertEquals(ending.stdout.length, 0);
  assertEquals(ending.code, code);
}

/** Lets `http_client` fetch from a server that is `serve`; returns what `serve` returned, and how the client ended. */
async function fetchFrom(
  path: string,
  serve: (conn: Deno.Conn) => Promise<string>,
): Promise<{ host: string; request: string; ending: Ending }> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
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
  while (!head.includes("\r\n\r\n")) {
    const byte = await read(conn, 1);
    if (byte.length === 0) break;
    head += decoder.decode(byte);
  }
  return head;
}

/** Starts a Python script, which can `connect()` to the port given, `receive()` all of so many bytes, and `reset()` a connection. */
function python(script: string, port = 0): Subprocess {
  const prelude = `
import socket, struct

def connect():
    conn = socket.create_connection(("127.0.0.1", ${port}))
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn

def receive(conn, length):
    data = b""
    while len(data) < length:
        more = conn.recv(length - len(data))
        if not more:
            break
        data += more
    return data

def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
`;
  return new Subprocess("python3", ["-c", prelude + script]);
}

/** Runs a Python script to its end, which has to be a good one. */
async function runPython(script: string, port: number): Promise<void> {
  await using process = python(script, port);
  const { code, stderr } = await process.end();
  assertEquals([code, stderr], [0, ""]);
}

const HELLO = "Hello from asyncore!\n";

// http_client.ts

Deno.test("http_client prints the response of a server of its own when no URL is given", async () => {
  const { code, stdout, stderr } = await runExample("http_client.ts");
  const response = decoder.decode(stdout);
  assertEquals(stderr, "");
  assert(response.startsWith("HTTP/1.0 200 OK\r\n"), response);
  assert(response.endsWith(`\r\n\r\n${HELLO}`), response);
  assertEquals(code, 0);
});

Deno.test("http_client prints what a URL's server sends, byte by byte", async () => {
  const head = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n";
  const response = await new Blob([head, randomBytes(8_000_000)]).bytes();
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
  assertEquals(ending.stderr, "");
  assertSameBytes(ending.stdout, response);
  assertEquals(ending.code, 0);
});

Deno.test("http_client prints an empty response", async () => {
  const { request, ending } = await fetchFrom("", readHead);
  assertMatch(request, /^GET \/ HTTP\/1\.0\r\n/);
  assertEquals([ending.code, ending.stdout.length, ending.stderr], [0, 0, ""]);
});

Deno.test("http_client fails with one line when the connection is refused", async () => {
  const ending = await runExample(
    "http_client.ts",
    `http://127.0.0.1:${deadPort()}/`,
  );
  assertFailure(ending, 1, /^Cannot fetch http:.*: Connection refused/);
});

Deno.test("http_client fails with one line when the host is unknown", async () => {
  const ending = await runExample(
    "http_client.ts",
    "http://nonexistent.invalid/",
  );
  assertFailure(ending, 1, /^Cannot fetch http:\/\/nonexistent\.invalid\/: ./);
});

toolTest(
  "http_client fails with one line when the server resets the connection",
  ["python3"],
  async () => {
    await using server = python(`
server = socket.create_server(("127.0.0.1", 0))
print("Listening on", *server.getsockname(), flush=True)
conn = server.accept()[0]
assert receive(conn, 4) == b"GET "
reset(conn)
`);
    const url = `http://127.0.0.1:${await portOf(server)}/`;
    const ending = await runExample("http_client.ts", url);
    assertFailure(ending, 1, /^Cannot fetch http:.*: Connection reset/);
  },
);

Deno.test("http_client fails with one line when the argument is no http URL", async () => {
  for (
    const url of ["https://localhost/", "localhost", "file:///etc/hosts", ""]
  ) {
    const ending = await runExample("http_client.ts", url);
    assertFailure(ending, 1, /^Cannot fetch .*: it is not a URL that begins/);
  }
});

// hello_server.ts

toolTest("hello_server answers curl", ["curl"], async (t) => {
  await using server = example("hello_server.ts");
  const url = `http://127.0.0.1:${await portOf(server)}/`;
  const curl = async (...args: string[]) => {
    const common = ["--silent", "--show-error", "--noproxy", "*"];
    // Standard input is for the request that has a body.
    const { code, stdout, stderr } = await run(
      "curl",
      [...common, ...args],
      new Uint8Array(500_000),
    );
    assertEquals([code, stderr], [0, ""]);
    return decoder.decode(stdout);
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
  await using server = example("hello_server.ts");
  const port = await portOf(server);
  for (
    const [request, status] of [
      ["GET / HTTP/1.0\r\n\r\n", "200"],
      ["GET /\r\n\r\n", "400"],
    ] as const
  ) {
    using conn = await connect(port);
    conn.setNoDelay();
    for (const byte of encoder.encode(request)) {
      await writeAll(conn, Uint8Array.of(byte));
    }
    const said = decoder.decode(await readAll(conn));
    assert(said.startsWith(`HTTP/1.0 ${status} `), said);
  }
});

Deno.test("hello_server fails with one line when its arguments are wrong", async () => {
  for (const args of [["--port", "x"], ["--port", "70000"], ["8080"]]) {
    const ending = await runExample("hello_server.ts", ...args);
    assertFailure(ending, 2, /^Cannot start the hello server: ./);
  }
});

// echo_server.ts

/** A server that went through what a test did to it ends as if nothing had been. */
async function assertUnharmed(server: Subprocess): Promise<void> {
  server.kill("SIGINT");
  const { code, stdout, stderr } = await server.end();
  assertEquals([code, decoder.decode(stdout), stderr], [0, "", ""]);
}

toolTest("echo_server gives nc back what it sends", ["nc"], async () => {
  await using server = example("echo_server.ts");
  const port = await portOf(server);
  for (const size of [0, 1, 5_000_000]) {
    const data = randomBytes(size);
    const nc = await run("nc", ["-N", "127.0.0.1", `${port}`], data);
    assertEquals([nc.code, nc.stderr], [0, ""]);
    assertSameBytes(nc.stdout, data);
  }
  await assertUnharmed(server);
});

toolTest("echo_server gives back one byte at a time", ["python3"], async () => {
  await using server = example("echo_server.ts");
  const port = await portOf(server);
  await runPython(
    `
conn = connect()
for i in range(500):
    conn.sendall(bytes([i % 256]))
    assert conn.recv(10) == bytes([i % 256])
`,
    port,
  );
  await assertUnharmed(server);
});

toolTest("echo_server gives a client the rest after its half-close", [
  "python3",
], async () => {
  await using server = example("echo_server.ts");
  const port = await portOf(server);
  await runPython(
    `
conn = connect()
data = bytes(range(250)) * 1000
conn.sendall(data)
conn.shutdown(socket.SHUT_WR)
assert receive(conn, len(data) + 1) == data
`,
    port,
  );
  await assertUnharmed(server);
});

toolTest(
  "echo_server goes on when clients reset the connection",
  ["python3"],
  async () => {
    await using server = example("echo_server.ts");
    const port = await portOf(server);
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
      port,
    );
    await assertUnharmed(server);
  },
);

toolTest(
  "echo_server stops reading from a client that does not read, and serves others",
  ["python3"],
  async () => {
    await using server = example("echo_server.ts");
    const port = await portOf(server);
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
      port,
    );
    await assertUnharmed(server);
  },
);

toolTest("echo_server serves 200 clients at once", ["python3"], async () => {
  await using server = example("echo_server.ts");
  const port = await portOf(server);
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
    port,
  );
  await assertUnharmed(server);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`echo_server ends with code 0 on ${signal}, and half-closes first`, async () => {
    await using server = example("echo_server.ts");
    const port = await portOf(server);
    using conn = await connect(port);
    const data = randomBytes(1000);
    await writeAll(conn, data);
    assertSameBytes(await read(conn, data.length), data);
    server.kill(signal);
    // It half-closes.
    assertEquals((await read(conn, 1)).length, 0);
    // It waits for the end of its last client.
    conn.closeWrite();
    const { code, stderr } = await server.end();
    assertEquals([code, stderr], [0, ""]);

    // The port is free again.
    await using next = example("echo_server.ts", "--port", `${port}`);
    assertEquals(await portOf(next), port);
  });
}

Deno.test("echo_server writes what it has taken before it ends", async () => {
  await using server = example("echo_server.ts");
  const port = await portOf(server);
  using deaf = await connect(port);
  const other = await connect(port);
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
    return await readAll(deaf);
  };
  const [echo] = await Promise.all([receive(), send()]);
  assert(echo.every((byte, i) => byte === i % 251), "other bytes");
  assert(echo.length > pattern.length && echo.length <= sent);
  const { code, stderr } = await server.end();
  assertEquals([code, stderr], [0, ""]);
});

Deno.test("echo_server fails with one line when its arguments are wrong", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
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
    const ending = await runExample("echo_server.ts", ...args);
    assertFailure(ending, 2, /^Cannot start the echo server: ./);
  }
});

// port_forwarder.ts

/** Starts a forwarder to a listener of the test. */
async function forward(listener: Deno.TcpListener) {
  const { hostname, port } = listener.addr;
  const target = hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
  const forwarder = example("port_forwarder.ts", "127.0.0.1:0", target);
  // Connections that never come are not waited for.
  forwarder.ended().then(() => listener.close());
  return { forwarder, port: await portOf(forwarder) };
}

/** A connection through a forwarder, seen from both ends. */
async function openThrough(listener: Deno.TcpListener, port: number) {
  const client = await connect(port);
  return { client, server: await listener.accept() };
}

Deno.test("port_forwarder forwards to the echo server and back", async () => {
  await using server = example("echo_server.ts");
  const target = `127.0.0.1:${await portOf(server)}`;
  await using forwarder = example("port_forwarder.ts", "127.0.0.1:0", target);
  const port = await portOf(forwarder);
  await Promise.all(Array.from({ length: 10 }, async () => {
    using conn = await connect(port);
    const data = randomBytes(1_000_000);
    const sending = writeAll(conn, data).then(() => conn.closeWrite());
    const [echo] = await Promise.all([readAll(conn), sending]);
    assertSameBytes(echo, data);
  }));
});

Deno.test("port_forwarder passes on the client's half-close, and then forwards to the client", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const { client, server } = await openThrough(listener, port);
  await writeAll(client, encoder.encode("question"));
  await client.closeWrite();
  assertEquals(decoder.decode(await read(server, 100)), "question");
  await writeAll(server, encoder.encode("answer"));
  server.close();
  assertEquals(decoder.decode(await readAll(client)), "answer");
  client.close();
});

Deno.test("port_forwarder passes on the target's half-close, and then forwards to the target", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const { client, server } = await openThrough(listener, port);
  await writeAll(server, encoder.encode("greeting"));
  await server.closeWrite();
  assertEquals(decoder.decode(await read(client, 100)), "greeting");
  await writeAll(client, encoder.encode("thanks"));
  client.close();
  assertEquals(decoder.decode(await readAll(server)), "thanks");
  server.close();
});

toolTest("port_forwarder ends the other side when one resets the connection", [
  "python3",
], async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
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
  await writeAll(server, await read(server, 5));
  assertEquals(await read(server, 1), new Uint8Array(0));
  const { code, stderr } = await client.end();
  assertEquals([code, stderr], [0, ""]);
});

Deno.test("port_forwarder closes the client when the target refuses, and goes on", async () => {
  const target = `127.0.0.1:${deadPort()}`;
  await using forwarder = example("port_forwarder.ts", "127.0.0.1:0", target);
  const port = await portOf(forwarder);
  for (let i = 0; i < 3; i++) {
    using conn = await connect(port);
    assertEquals(await read(conn, 1), new Uint8Array(0));
    assertMatch(await forwarder.line(), /^error: .*ConnectionRefused/);
  }
});

Deno.test("port_forwarder makes the sender wait for a slow reader, and loses nothing", async () => {
  const CHUNK = 65_536;
  const CHUNKS = 1024; // 64 MiB
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { forwarder, port } = await forward(listener);
  await using _ = forwarder;
  const other = await openThrough(listener, port);
  const { client, server } = await openThrough(listener, port);

  const sentHash = createHash("sha256");
  let sent = 0;
  const send = async () => {
    const chunk = randomBytes(CHUNK);
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
    await using server = example("echo_server.ts", "--hostname", "::1");
    const target = `[::1]:${await portOf(server)}`;
    await using forwarder = example("port_forwarder.ts", "[::1]:0", target);
    const port = await portOf(forwarder);
    using conn = await Deno.connect({ hostname: "::1", port });
    await writeAll(conn, encoder.encode("hello"));
    assertEquals(decoder.decode(await read(conn, 5)), "hello");
  },
});

Deno.test("port_forwarder fails with one line when its arguments are wrong", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
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
    const ending = await runExample("port_forwarder.ts", ...args);
    assertFailure(ending, 2, /^Cannot start the forwarder: ./);
  }
});
