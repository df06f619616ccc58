import { assert, assertEquals, assertMatch } from "@std/assert";
import { FilePieces } from "../examples/http/file_pieces.ts";
import { HttpServer } from "../examples/http_server.ts";
import { type LinkOptions, type SimConn, SimNet } from "../testing.ts";
import {
  ANSWERED,
  CONDITIONS,
  get,
  HELLO,
  hello,
  HOST,
  long,
  MODIFIED,
  RANGES,
  REFUSED,
  request,
} from "./http_cases.ts";
import {
  bytes,
  captureConsole,
  noise,
  tempDir,
  text,
  turns,
  until,
} from "./net.ts";
import {
  assertFails,
  assertGood,
  assertSameBytes,
  sendUntilFull,
  Server,
  simulateClients,
  type Talk,
} from "./servers.ts";
import { run } from "./subprocess.ts";
import { hasTool, toolTest } from "./tools.ts";
import { SIZES } from "./traced_chat.ts";

const ADDR = { hostname: "10.0.0.1", port: 80 };

const BIG = 1_000_000;

/** A folder with files to show, within one with a file that nobody must see. */
function site(): Disposable & { readonly path: string } {
  const dir = tempDir();
  const path = `${dir.path}/site`;
  Deno.mkdirSync(`${path}/folder`, { recursive: true });
  Deno.mkdirSync(`${path}/empty`);
  Deno.mkdirSync(`${path}/odd/index.html`, { recursive: true });
  Deno.mkdirSync(`${path}/.well-known`);
  Deno.mkdirSync(`${dir.path}/site-backup`);
  const write = (name: string, data: string | Uint8Array) =>
    Deno.writeFileSync(
      `${path}/${name}`,
      typeof data === "string" ? bytes(data) : data,
    );
  write("hello.txt", HELLO);
  Deno.utimeSync(`${path}/hello.txt`, new Date(MODIFIED), new Date(MODIFIED));
  write("empty.txt", "");
  write("big.bin", noise(BIG));
  write("index.html", "<h1>Hello</h1>\n");
  write("folder/index.html", "in the folder\n");
  write("a b é %.txt", "a name\n");
  write(".hidden", "secret");
  write(".well-known/security.txt", "known\n");
  write("../secret", "secret");
  write("../site-backup/secret", "secret");
  Deno.symlinkSync("hello.txt", `${path}/inside`);
  Deno.symlinkSync("../secret", `${path}/outside`);
  Deno.symlinkSync("../site-backup", `${path}/backup`);
  Deno.symlinkSync("loop", `${path}/loop`);
  return { path, [Symbol.dispose]: () => dir[Symbol.dispose]() };
}

/** An answer. */
interface Response {
  readonly status: number;
  /** The names in small letters. */
  readonly fields: Map<string, string>;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Reads an answer. */
async function response(talk: Talk, method = "GET"): Promise<Response> {
  const line = await talk.line();
  const [, code] = /^HTTP\/1\.1 (\d{3}) [A-Z]/.exec(line) ?? [];
  assert(code !== undefined, line);
  const status = Number(code);
  const fields = new Map<string, string>();
  for (let line = await talk.line(); line !== ""; line = await talk.line()) {
    const [, name, value] = /^([-A-Za-z]+): (\S.*)$/.exec(line)!;
    assert(!fields.has(name!.toLowerCase()), `${name} twice`);
    fields.set(name!.toLowerCase(), value!);
  }
  const length = fields.get("content-length");
  const bodiless = status === 304 || status < 200;
  assertEquals(length === undefined, bodiless);
  if (status >= 200) {
    assertEquals(
      fields.get("date"),
      new Date(fields.get("date")!).toUTCString(),
    );
  }
  const none = bodiless || method === "HEAD";
  return { status, fields, body: await talk.bytes(none ? 0 : Number(length)) };
}

interface Simulated {
  readonly net: SimNet;
  /** A client; it is closed at the end. */
  connect(): Promise<Talk<SimConn>>;
}

/** Runs clients against a server in simulation, until nothing happens any more. */
async function simulate(
  folder: string,
  link: LinkOptions,
  clients: (simulated: Simulated) => Promise<void>,
): Promise<void> {
  await using net = new SimNet({ seed: 1, link });
  new HttpServer(ADDR, folder, { map: net.map });
  await simulateClients(net, ADDR, (connect) => clients({ net, connect }));
}

Deno.test("HttpServer refuses what is no request, however it arrives", async (t) => {
  using folder = site();
  for (const [status, said] of REFUSED) {
    const name = `${status} ${JSON.stringify(said.slice(0, 100))}`;
    await t.step(name, async () => {
      // The long ones are too long in any size.
      for (const segmentSize of said.length < 1_000 ? SIZES : [Infinity, 999]) {
        await simulate(folder.path, { segmentSize }, async ({ connect }) => {
          const talk = await connect();
          await talk.send(said);
          const { status: actual, fields, body } = await response(talk);
          assertEquals(actual, status);
          assert(text(body).startsWith(`${status} `));
          assertEquals(fields.get("connection"), "close");
          assertEquals((await talk.rest()).length, 0);
        });
      }
    });
  }
});

Deno.test("HttpServer answers, and then the next request", async (t) => {
  using folder = site();
  for (
    const [said, status, expected = {}, body] of [
      ...ANSWERED,
      ...RANGES,
      ...CONDITIONS,
    ]
  ) {
    const name = `${status} ${JSON.stringify(said.slice(0, 100))}`;
    await t.step(name, async () => {
      for (const segmentSize of SIZES) {
        await simulate(folder.path, { segmentSize }, async ({ connect }) => {
          const talk = await connect();
          await talk.send(hello());
          const etag = (await response(talk)).fields.get("etag")!;
          await talk.send(said.replaceAll("ETAG", etag));
          await talk.send(hello("Connection: close"));
          const answer = await response(talk);
          assertEquals(answer.status, status);
          for (const [name, value] of Object.entries(expected)) {
            const actual = answer.fields.get(name)?.replace(etag, "ETAG");
            assertEquals(actual, value, name);
          }
          if (body !== undefined) assertEquals(text(answer.body), body);
          const last = await response(talk);
          assertEquals(last.fields.get("connection"), "close");
          assertEquals(text(last.body), HELLO);
          assertEquals((await talk.rest()).length, 0);
        });
      }
    });
  }
});

Deno.test("HttpServer answers HEAD as GET, without the body", async () => {
  using folder = site();
  for (
    const target of ["/", "/big.bin", "/empty.txt", "/folder", "/nowhere", "/%"]
  ) {
    await simulate(folder.path, {}, async ({ connect }) => {
      const talk = await connect();
      await talk.send(get(target) + get(target).replace("GET", "HEAD"));
      const one = await response(talk);
      const other = await response(talk, "HEAD");
      one.fields.delete("date");
      other.fields.delete("date");
      assertEquals(other.status, one.status);
      assertEquals([...other.fields], [...one.fields]);
      // A range is for GET.
      await talk.send(
        get("/big.bin", "Range: bytes=0-1").replace("GET", "HEAD"),
      );
      assertEquals((await response(talk, "HEAD")).status, 200);
    });
  }
});

Deno.test("HttpServer keeps a connection open as long as the client likes", async () => {
  using folder = site();
  for (
    const [minor, connection, answered] of [
      [1, "x", undefined],
      [1, "Keep-Alive", undefined],
      [1, "close", "close"],
      [1, "keep-alive, Close", "close"],
      [0, "x", "close"],
      [0, "Keep-Alive", "keep-alive"],
      [0, "keep-alive, close", "close"],
    ] as const
  ) {
    await simulate(folder.path, {}, async ({ connect }) => {
      const talk = await connect();
      const line = `GET /hello.txt HTTP/1.${minor}`;
      const said = request(line, HOST, `Connection: ${connection}`);
      await talk.send(said);
      const { fields, body } = await response(talk);
      assertEquals(fields.get("connection"), answered);
      assertEquals(text(body), HELLO);
      if (answered === "close") {
        assertEquals((await talk.rest()).length, 0);
      } else {
        await talk.send(said);
        assertEquals(text((await response(talk)).body), HELLO);
      }
    });
  }
});

Deno.test("HttpServer needs no Host from a client of HTTP/1.0", async () => {
  using folder = site();
  await simulate(folder.path, {}, async ({ connect }) => {
    const talk = await connect();
    await talk.send("GET /hello.txt HTTP/1.0\r\n\r\n");
    assertEquals(text((await response(talk)).body), HELLO);
  });
});

Deno.test("HttpServer answers requests that come at once in their order, also after the client's half-close", async () => {
  using folder = site();
  const big = noise(BIG);
  for (const segmentSize of [...SIZES, 1_000]) {
    // A million bytes one by one take too long.
    const name = segmentSize < 1_000 ? "/empty.txt" : "/big.bin";
    await simulate(folder.path, { segmentSize }, async ({ connect }) => {
      const talk = await connect();
      const session = [
        ...[hello(), get(name), get("/nowhere"), get(name)],
        ...[hello("Range: bytes=1-2"), get(name), hello()],
      ];
      await talk.send(session.join(""));
      await talk.conn.closeWrite();
      const expected = name === "/empty.txt" ? bytes("") : big;
      for (const said of session) {
        const { status, body } = await response(talk);
        if (said.includes("nowhere")) assertEquals(status, 404);
        else if (said.includes("Range")) assertEquals(text(body), "el");
        else if (said.includes(name)) assertSameBytes(body, expected);
        else assertEquals(text(body), HELLO);
      }
      assertEquals((await talk.rest()).length, 0);
    });
  }
});

Deno.test("HttpServer tells a client that asks whether to send the body", async () => {
  using folder = site();
  await simulate(folder.path, {}, async ({ connect }) => {
    const expecting = ["Content-Length: 3", "Expect: 100-continue"];
    const talk = await connect();
    await talk.send(hello(...expecting));
    assertEquals((await response(talk)).status, 100);
    await talk.send("abc");
    assertEquals(text((await response(talk)).body), HELLO);
    // One of HTTP/1.0 would not understand it.
    const old = `${request("GET /hello.txt HTTP/1.0", ...expecting)}abc`;
    await talk.send(old);
    assertEquals((await response(talk)).status, 200);

    const poster = await connect();
    await poster.send(hello(...expecting).replace("GET", "POST"));
    assertEquals((await response(poster)).status, 405);
    assertEquals((await poster.rest()).length, 0);
  });
});

Deno.test("HttpServer says what is in a file by its name", async () => {
  using folder = site();
  await simulate(folder.path, {}, async ({ connect }) => {
    const talk = await connect();
    for (
      const [name, type] of [
        ["a.css", "text/css; charset=utf-8"],
        ["a.min.JS", "text/javascript; charset=utf-8"],
        ["a.svg", "image/svg+xml"],
        ["a.png", "image/png"],
        ["a.json", "application/json"],
        ["a.constructor", "application/octet-stream"],
        ["a", "application/octet-stream"],
        ["html", "application/octet-stream"],
      ] as const
    ) {
      Deno.writeTextFileSync(`${folder.path}/${name}`, "x");
      await talk.send(get(`/${name}`));
      const { fields } = await response(talk);
      assertEquals(fields.get("content-type"), type);
      assertEquals(fields.get("x-content-type-options"), "nosniff");
    }
  });
});

Deno.test("HttpServer tells a file that was changed from the one before", async () => {
  using folder = site();
  await simulate(folder.path, {}, async ({ connect }) => {
    const talk = await connect();
    const seen = new Set<string>();
    // As long as before, then as old as before, then from the future.
    for (
      const [data, year] of [["one", 2000], ["two", 2001], ["three", 2001], [
        "three",
        9000,
      ]] as const
    ) {
      Deno.writeTextFileSync(`${folder.path}/file`, data);
      const time = new Date(year, 1);
      Deno.utimeSync(`${folder.path}/file`, time, time);
      await talk.send(get("/file"));
      const { fields } = await response(talk);
      seen.add(fields.get("etag")!);
      assert(Date.parse(fields.get("last-modified")!) <= Date.now());
    }
    assertEquals(seen.size, 4);
  });
});

Deno.test("HttpServer closes the file when its client goes away in the middle, or it is closed itself", async () => {
  using folder = site();
  for (const ending of ["close", "reset", "server"] as const) {
    // Whether the file is closed, the test's own resources tell.
    await simulate(
      folder.path,
      { window: 10_000 },
      async ({ connect, net }) => {
        const talk = await connect();
        await talk.send(get("/big.bin").repeat(3));
        assertEquals(await talk.line(), "HTTP/1.1 200 OK");
        if (ending !== "server") talk.conn[ending]();
        else [...net.map].at(-1)!.close();
      },
    );
  }
});

Deno.test("HttpServer can be closed at any moment of an answer", async () => {
  using folder = site();
  using console = captureConsole();
  for (let moment = 0; moment < 60; moment++) {
    await simulate(folder.path, {}, async ({ connect, net }) => {
      const talk = await connect();
      await talk.send(hello("Connection: close") + hello());
      for (let i = 0; i < moment; i++) await turns(i % 2);
      [...net.map].at(1)?.close();
      await talk.rest();
    });
  }
  assertEquals([...console.out, ...console.err], []);
});

Deno.test("HttpServer breaks off when a file has become shorter", async () => {
  using folder = site();
  using console = captureConsole();
  await simulate(folder.path, { window: 10_000 }, async ({ connect }) => {
    const talk = await connect();
    await talk.send(get("/big.bin"));
    assertEquals(await talk.line(), "HTTP/1.1 200 OK");
    Deno.truncateSync(`${folder.path}/big.bin`, 10);
    const { length } = await talk.rest();
    assert(length > 0 && length < BIG, `${length}`);
  });
  assertEquals(console.out.length, 1);
  assertMatch(console.out[0]!, /The file ended \d+ bytes early/);
});

Deno.test("HttpServer serves others while one sends, and another reads, a byte per second", async () => {
  using folder = site();
  await simulate(folder.path, { window: 10_000 }, async ({ connect, net }) => {
    const slow = await connect();
    const sending = (async () => {
      for (const byte of hello("Connection: close")) {
        await slow.send(byte);
        await net.sleep(1_000);
      }
      assertEquals(text((await response(slow)).body), HELLO);
    })();
    const drip = await connect();
    await drip.send(get("/big.bin"));
    for (let second = 0; second < 60; second++) {
      await drip.bytes(1);
      const talk = await connect();
      const before = net.now;
      // Without a file: the disk is real, and takes its time.
      await talk.send(get("/%"));
      assertEquals((await response(talk)).status, 400);
      assertEquals(net.now, before);
      await net.sleep(1_000);
    }
    await sending;
  });
});

Deno.test("HttpServer gives up on a client that is refused and does not read it", async () => {
  using folder = site();
  await simulate(folder.path, { window: 10_000 }, async ({ connect, net }) => {
    const deaf = await connect();
    let sent = 0;
    const sending = (async () => {
      const answered = bytes(get("/%").repeat(200) + "rubbish\r\n");
      for (;;) {
        sent += await deaf.conn.write(
          answered.subarray(sent % answered.length),
        );
      }
    })();
    sending.catch(() => {});
    await net.sleep(29_000);
    assert(sent < 100_000, `${sent}`);
    assertEquals(net.map.size, 2);
    await net.sleep(60_000);
    assertEquals(net.map.size, 1);
  });
});

Deno.test("HttpServer stops reading from a client that does not read its answers", async () => {
  using folder = site();
  const link = { window: 10_000 };
  await simulate(folder.path, link, async ({ connect, net }) => {
    const deaf = await connect();
    let sent = 0;
    const sending = (async () => {
      const requests = bytes(get("/%").repeat(100));
      for (;;) {
        sent += await deaf.conn.write(
          requests.subarray(sent % requests.length),
        );
      }
    })();
    sending.catch(() => {});
    // Time passes when nothing else can happen.
    await net.sleep(60_000);
    // The answers are five times as long, and more than 64 KiB of them do not wait.
    assert(sent < 100_000, `${sent}`);
    const other = await connect();
    await other.send(hello());
    assertEquals(text((await response(other)).body), HELLO);
  });
});

Deno.test("FilePieces ends when it is ended while it reads", async () => {
  using folder = site();
  for (let i = 0; i < 100; i++) {
    const file = await Deno.open(`${folder.path}/big.bin`);
    const pieces = new FilePieces(file, BIG);
    const next = pieces.next();
    if (i % 2 > 0) await Promise.resolve();
    await pieces.return();
    assertEquals(await next, { done: true, value: undefined });
    assertEquals(await pieces.next(), { done: true, value: undefined });
  }
});

// The program.

const PERMISSIONS = (folder: string) => [`--allow-read=${folder}`];

function start(folder: string, ...args: string[]): Promise<Server> {
  const permissions = PERMISSIONS(folder);
  return Server.start("http_server.ts", [folder, ...args], { permissions });
}

/** Runs curl, and returns what it got. */
async function curl(...args: string[]): Promise<string> {
  const common = ["--silent", "--show-error", "--noproxy", "*"];
  const ending = await run("curl", [...common, ...args]);
  assertGood(ending);
  return new TextDecoder("latin1").decode(ending.stdout);
}

toolTest("http_server answers curl", ["curl"], async (t) => {
  using folder = site();
  using download = tempDir();
  await using server = await start(folder.path);
  const url = `http://127.0.0.1:${server.port}`;
  const status = ["--output", "/dev/null", "--write-out", "%{http_code}"];

  await t.step("a page", async () => {
    assertEquals(await curl(`${url}/hello.txt`), HELLO);
  });
  await t.step("HEAD", async () => {
    const said = await curl("--head", `${url}/big.bin`);
    assertMatch(said, /^HTTP\/1\.1 200 OK\r\n/);
    assertMatch(said, /^Content-Length: 1000000\r$/m);
  });
  await t.step("several pages by one connection", async () => {
    const format = ["--write-out", "%{num_connects} "];
    const urls = [`${url}/hello.txt`, `${url}/nowhere`, `${url}/hello.txt`];
    const said = await curl(...format, ...urls);
    assertEquals(said, `${HELLO}1 404 Not Found\n0 ${HELLO}0 `);
  });
  await t.step("HTTP/1.0, a connection for each", async () => {
    const format = ["--http1.0", "--write-out", "%{num_connects} "];
    const said = await curl(...format, `${url}/hello.txt`, `${url}/hello.txt`);
    assertEquals(said, `${HELLO}1 ${HELLO}1 `);
  });
  await t.step("HTTP/1.0, one connection", async () => {
    const format = ["--http1.0", "--write-out", "%{num_connects} "];
    const keep = ["--header", "Connection: keep-alive"];
    const urls = [`${url}/hello.txt`, `${url}/hello.txt`];
    const said = await curl(...format, ...keep, ...urls);
    assertEquals(said, `${HELLO}1 ${HELLO}0 `);
  });
  await t.step("many at once", async () => {
    const urls = Array.from({ length: 50 }, () => `${url}/hello.txt`);
    // Some versions say how far they are, silent or not.
    const quiet = ["--silent", "--noproxy", "*", "--parallel"];
    const { code, stdout } = await run("curl", [...quiet, ...urls]);
    assertEquals([code, text(stdout)], [0, HELLO.repeat(50)]);
  });
  await t.step("ranges", async () => {
    assertEquals(await curl("--range", "0-4", `${url}/hello.txt`), "hello");
    assertEquals(await curl("--range", "-6", `${url}/hello.txt`), "world\n");
    const said = await curl(...status, "--range", "99-", `${url}/hello.txt`);
    assertEquals(said, "416");
  });
  await t.step("a download that is taken up again", async () => {
    const path = `${download.path}/big.bin`;
    Deno.writeFileSync(path, noise(BIG).subarray(0, 333_333));
    await curl("--continue-at", "-", "--output", path, `${url}/big.bin`);
    assertSameBytes(Deno.readFileSync(path), noise(BIG));
  });
  await t.step("a copy that is still good", async () => {
    const path = `${download.path}/etag`;
    const save = ["--etag-save", path, `${url}/hello.txt`];
    assertEquals(await curl(...save), HELLO);
    const compare = ["--etag-compare", path, `${url}/hello.txt`];
    assertEquals(await curl(...status, ...compare), "304");
    const since = ["--time-cond", MODIFIED, `${url}/hello.txt`];
    assertEquals(await curl(...status, ...since), "304");
  });
  await t.step("a folder", async () => {
    assertEquals(await curl("--location", `${url}/folder`), "in the folder\n");
  });
  await t.step("a body, with and without its length", async () => {
    const body = ["--data-binary", "x".repeat(100_000)];
    const chunked = ["--header", "Transfer-Encoding: chunked"];
    const expect = ["--header", "Expect: 100-continue"];
    for (const more of [[], chunked, expect, [...chunked, ...expect]]) {
      const args = ["--request", "GET", ...body, ...more, `${url}/hello.txt`];
      assertEquals(await curl(...args), HELLO);
      const post = [...status, ...body, ...more, `${url}/hello.txt`];
      assertEquals(await curl(...post), "405");
    }
  });
  await t.step("no way out", async () => {
    for (const path of ["/../secret", "/%2e%2e/secret", "/outside"]) {
      const said = await curl(...status, "--path-as-is", `${url}${path}`);
      assertEquals(said, "404");
    }
  });
  await server.stop();
});

toolTest("http_server answers wrk", ["wrk"], async () => {
  using folder = site();
  await using server = await start(folder.path);
  for (const path of ["/hello.txt", "/big.bin"]) {
    const { code, stdout } = await run("wrk", [
      ...["--threads", "1", "--connections", "50", "--duration", "1s"],
      `http://127.0.0.1:${server.port}${path}`,
    ]);
    const said = text(stdout);
    assertEquals(code, 0, said);
    assertMatch(said, /^ *[1-9]\d* requests in /m);
    assert(!/Socket errors|Non-2xx/.test(said), said);
  }
  await server.stop();
});

const BROWSERS = ["chromium", "chromium-browser", "google-chrome"];
const browser = BROWSERS.find(hasTool);

// Not a `toolTest`: a browser is a lot to install, and may be missing on CI, too.
Deno.test({
  name:
    "http_server shows a browser a page with a style sheet, a script and an image",
  ignore: browser === undefined,
  async fn() {
    using folder = tempDir();
    using profile = tempDir();
    await using server = await start(folder.path);
    const files = {
      "index.html": `<!doctype html><title>A page</title>
<link rel="stylesheet" href="style.css"><script src="script.js" defer></script>
<h1>A page</h1><img src="image.svg" alt="a disc"><p id="seen">nothing</p>`,
      "style.css": "h1 { color: rgb(1, 2, 3) }",
      "script.js": `addEventListener("load", () => {
  const { color } = getComputedStyle(document.querySelector("h1"));
  const { naturalWidth } = document.querySelector("img");
  document.querySelector("#seen").textContent = color + ", " + naturalWidth;
});`,
      "image.svg": `<svg xmlns="http://www.w3.org/2000/svg" width="77"
height="77"><circle cx="38" cy="38" r="38" fill="teal"/></svg>`,
    };
    for (const [name, data] of Object.entries(files)) {
      Deno.writeTextFileSync(`${folder.path}/${name}`, data);
    }
    const { stdout } = await run(browser!, [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server"],
      ...["--disable-dev-shm-usage", `--user-data-dir=${profile.path}`],
      ...["--dump-dom", `http://127.0.0.1:${server.port}/`],
    ]);
    assertMatch(text(stdout), /<p id="seen">rgb\(1, 2, 3\), 77<\/p>/);
    await server.stop();
  },
});

/** What a server may need more for a client that sends 100 MB, or does not read as much. */
const SPARE = 64 * 1_048_576;

Deno.test("http_server refuses 100 MB without a line end, and serves others meanwhile", async () => {
  using folder = site();
  await using server = await start(folder.path);
  const before = server.peakMemory();
  for (
    const [status, head] of [[414, ""], [431, "GET / HTTP/1.1\r\n"]] as const
  ) {
    using talk = await server.connect();
    await talk.send(head);
    const sending = (async () => {
      const chunk = new Uint8Array(1_000_000).fill(120);
      for (let i = 0; i < 100; i++) await talk.send(chunk);
    })();
    assertEquals((await response(talk)).status, status);
    for (let i = 0; i < 10; i++) {
      using other = await server.connect();
      await other.send(hello());
      assertEquals(text((await response(other)).body), HELLO);
    }
    // It was cut off, unless it was very quick.
    await sending.catch((error) => {
      const { ConnectionReset, BrokenPipe } = Deno.errors;
      const told = [ConnectionReset, BrokenPipe];
      assert(told.some((type) => error instanceof type), error);
    });
  }
  const spared = server.peakMemory() - before;
  assert(spared < SPARE, `${spared} bytes more`);
  await server.stop();
});

Deno.test("http_server drops a body of any number of chunks, up to a limit", async () => {
  using folder = site();
  await using server = await start(folder.path);
  using talk = await server.connect();
  const body = `1\r\nx\r\n`.repeat(100_000);
  for (let i = 0; i < 3; i++) {
    await talk.send(`${hello("Transfer-Encoding: chunked")}${body}0\r\n\r\n`);
    assertEquals(text((await response(talk)).body), HELLO);
  }
  const whole = `80000\r\n${long(0x80000)}\r\n`.repeat(2);
  await talk.send(`${hello("Transfer-Encoding: chunked")}${whole}0\r\n\r\n`);
  assertEquals((await response(talk)).status, 200);
  await talk.send(`${hello("Transfer-Encoding: chunked")}${whole}1\r\n`);
  assertEquals((await response(talk)).status, 413);
  talk.conn.close();
  await server.stop();
});

Deno.test("http_server stops reading from clients that do not read, has one file open for each, and serves others", async () => {
  using folder = site();
  await using server = await start(folder.path);
  // More than the kernel's buffers can hold.
  const path = `${folder.path}/huge.bin`;
  Deno.writeFileSync(path, new Uint8Array(0));
  Deno.truncateSync(path, 100_000_000);
  using other = await server.connect();
  const before = server.peakMemory();
  using clients = new DisposableStack();
  for (const [i, target] of ["/huge.bin", "/hello.txt", "/nowhere"].entries()) {
    const deaf = clients.use(await server.connect());
    await sendUntilFull(deaf, bytes(get(target).repeat(1_000)), async () => {
      await other.send(hello());
      assertEquals(text((await response(other)).body), HELLO);
    });
    if (i === 0) await untilOpen(server, path, 1);
  }
  const spared = server.peakMemory() - before;
  assert(spared < SPARE, `${spared} bytes more`);
  clients.dispose();
  await untilOpen(server, path, 0);
});

/** Waits until the server has a file open so many times: while it reads, it may be once more. */
async function untilOpen(
  server: Server,
  path: string,
  times: number,
): Promise<void> {
  if (Deno.build.os !== "linux") return;
  await until(() => server.openFiles(path) === times);
}

Deno.test("http_server closes the files of clients that go away in the middle", async () => {
  using folder = site();
  const path = `${folder.path}/huge.bin`;
  Deno.writeFileSync(path, new Uint8Array(0));
  Deno.truncateSync(path, 100_000_000);
  await using server = await start(folder.path);
  {
    using clients = new DisposableStack();
    for (let i = 0; i < 10; i++) {
      const talk = clients.use(await server.connect());
      await talk.send(get("/huge.bin"));
      assertEquals(await talk.line(), "HTTP/1.1 200 OK");
    }
    await untilOpen(server, path, 10);
  }
  await untilOpen(server, path, 0);
  using talk = await server.connect();
  await talk.send(hello());
  assertEquals(text((await response(talk)).body), HELLO);
  talk.conn.close();
  await server.stop();
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`http_server ends with code 0 on ${signal}`, async () => {
    using folder = site();
    await using server = await start(folder.path);
    using idle = await server.connect();
    await idle.send(hello());
    assertEquals(text((await response(idle)).body), HELLO);
    const stopped = server.stop(signal);
    assertEquals((await idle.rest()).length, 0);
    // The server waits for the ends of its clients.
    await idle.conn.closeWrite();
    await stopped;
    // The port is free again.
    const args = ["--port", `${server.port}`];
    await using next = await start(folder.path, ...args);
    assertEquals(next.port, server.port);
  });
}

Deno.test("http_server fails with one line when its arguments are wrong", async () => {
  using folder = site();
  const { path } = folder;
  for (
    const args of [
      ...[[], [path, path], [`${path}/nowhere`], [`${path}/hello.txt`]],
      ...[[path, "--port", "x"], [path, "--port", "70000"], [path, "--tls"]],
    ]
  ) {
    await assertFails(
      "http_server.ts",
      args,
      /^Cannot start the web server: [^\n]+\n$/,
      { permissions: PERMISSIONS(path) },
    );
  }
});
