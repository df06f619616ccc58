import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deliver } from "../examples/smtp/body.ts";
import type { SmtpSettings } from "../examples/smtp/channel.ts";
import { Maildrop } from "../examples/smtp/maildrop.ts";
import { SmtpServer } from "../examples/smtp/server.ts";
import { closeAll } from "../mod.ts";
import { type LinkOptions, type SimConn, SimNet } from "../testing.ts";
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
  runPython,
  sendUntilFull,
  Server,
  simulateClients,
  Talk,
} from "./servers.ts";
import {
  a,
  CPYTHON,
  CPYTHON_SIZE_LIMIT,
  CPYTHON_SMTPUTF8,
  DATA,
  EHLO,
  FROM,
  FURTHER,
  HELO,
  type Message,
  TO,
  TOO_MUCH,
} from "./smtp_cases.ts";
import { run } from "./subprocess.ts";
import { toolTest } from "./tools.ts";
import { SIZES } from "./traced_chat.ts";

const ADDR = { hostname: "10.0.0.1", port: 25 };

/** Delivers into memory. */
class Memory {
  readonly messages: Message[] = [];
  /** How many were given up. */
  discarded = 0;
  /** What the client is told, instead of `250 OK`. */
  answer: (text: string) => string | undefined = () => undefined;

  readonly deliver: Deliver = (envelope) => {
    let text = "";
    let stored = false;
    return {
      // Byte for byte.
      write: (piece) => void (text += String.fromCharCode(...piece)),
      store: () => {
        stored = true;
        this.messages.push({ ...envelope, text });
        return this.answer(text);
      },
      discard: () => void (this.discarded += stored ? 0 : 1),
    };
  };
}

interface Simulated {
  readonly net: SimNet;
  readonly server: SmtpServer;
  readonly memory: Memory;
  /** A client; it is closed at the end. */
  connect(): Promise<Talk<SimConn>>;
}

interface SimulationOptions extends Partial<SmtpSettings> {
  readonly link?: LinkOptions;
  readonly deliver?: Deliver;
}

/** Runs clients against a server in simulation, until nothing happens any more. */
async function simulate(
  options: SimulationOptions,
  clients: (simulated: Simulated) => Promise<void>,
): Promise<void> {
  const { link = {}, deliver, ...settings } = options;
  await using net = new SimNet({ seed: 1, link });
  const memory = new Memory();
  const server = new SmtpServer(
    ADDR,
    deliver ?? memory.deliver,
    settings,
    { map: net.map },
  );
  await simulateClients(
    net,
    ADDR,
    (connect) => clients({ net, server, memory, connect }),
  );
}

/** Reads an answer; of one that has several lines, the last. */
async function answer(talk: Talk): Promise<string> {
  for (;;) {
    const line = await talk.line();
    if (line[3] !== "-") return line;
  }
}

/** Says lines, one after the other; returns what was answered to the last. */
async function say(talk: Talk, ...lines: string[]): Promise<string> {
  let last = "";
  for (const line of lines) {
    await talk.send(`${line}\r\n`);
    last = await answer(talk);
  }
  return last;
}

/** Says hello, and whom the message is for. */
async function begin(talk: Talk): Promise<void> {
  assertMatch(await answer(talk), /^220 /);
  const data = await say(talk, "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<c@d>");
  assertEquals(data, "250 OK");
  assertEquals(await say(talk, "DATA"), DATA);
}

function assertStored(memory: Memory, expected: readonly Partial<Message>[]) {
  assertEquals(memory.messages.length, expected.length);
  for (const [i, { client, ...rest }] of expected.entries()) {
    const message = memory.messages[i]!;
    for (const key of Object.keys(rest) as (keyof typeof rest)[]) {
      assertEquals(message[key], rest[key], key);
    }
    if (client) assertEquals(message.client?.transport, client.transport);
  }
}

for (
  const [cases, settings, who] of [
    [CPYTHON, {}, "test_smtpd"],
    [CPYTHON_SIZE_LIMIT, { sizeLimit: 32 }, "test_smtpd with a size limit"],
    [CPYTHON_SMTPUTF8, { smtputf8: true }, "test_smtpd with SMTPUTF8"],
    [FURTHER, {}, "further cases"],
  ] as const
) {
  Deno.test(`SmtpServer answers as expected: ${who}`, async (t) => {
    for (const [name, lines, last, stored = []] of cases) {
      await t.step(name, async () => {
        for (const segmentSize of SIZES) {
          const options = { ...settings, link: { segmentSize } };
          await simulate(options, async ({ connect, memory }) => {
            memory.answer = (text) =>
              text.startsWith("return status") ? "250 Okish" : undefined;
            const talk = await connect();
            assertEquals(await answer(talk), "220 localhost ESMTP");
            assertEquals(await say(talk, ...lines), last);
            assertStored(memory, stored);
          });
        }
      });
    }
  });
}

Deno.test("SmtpServer says what it can do", () =>
  simulate({ host: "mx.example", sizeLimit: 77 }, async ({ connect }) => {
    const talk = await connect();
    assertEquals(await talk.line(), "220 mx.example ESMTP");
    await talk.send("EHLO x\r\nQUIT\r\n");
    assertEquals(
      text(await talk.rest()),
      "250-mx.example\r\n250-SIZE 77\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 HELP\r\n221 Bye\r\n",
    );
  }));

Deno.test("SmtpServer answers a whole session that comes at once, in order, while storing takes its time", async () => {
  const session = [
    ...[HELO, "MAIL FROM:<one@a>", "RCPT TO:<x@b>", "DATA", "1\r\n."],
    ...["MAIL FROM:<two@a>", "RCPT TO:<x@b>", "DATA", "2\r\n.", "NOOP"],
    ...["QUIT", "MAIL FROM:<three@a>", "RCPT TO:<x@b>", "DATA", "3\r\n.", ""],
  ].join("\r\n");
  const codes = "220 250 250 250 354 250 250 250 354 250 250 221".split(" ");
  for (const segmentSize of SIZES) {
    const events: string[] = [];
    let sleep: SimNet["sleep"];
    await simulate({
      link: { segmentSize },
      deliver: async ({ sender }) => {
        events.push(`open ${sender}`);
        await sleep(1_000);
        return {
          write: () => sleep(1_000),
          store: async () => {
            await sleep(1_000);
            events.push(`stored ${sender}`);
          },
          discard: () => void events.push("discard"),
        };
      },
    }, async ({ connect, net }) => {
      sleep = (ms) => net.sleep(ms);
      const talk = await connect();
      await talk.send(session);
      const said = text(await talk.rest()).trimEnd().split("\r\n");
      assertEquals(said.map((line) => line.slice(0, 3)), codes);
      assertEquals(net.now, 6_000);
    });
    assertEquals(events, [
      ...["open one@a", "stored one@a"],
      ...["open two@a", "stored two@a"],
    ]);
  }
});

Deno.test("SmtpServer undoes the doubling of dots, and nothing else ends a message", async () => {
  const sent = [
    ...["..", "...", "..a", ".b", "a.", " .", "", "..", "", "\n.", "\n.\n"],
    ...["\r.\r", "x\n.\r", "\0", "\xff\xfe", "MAIL FROM:<smuggler@evil>", ""],
    ...["\r", "\n", "..\n", ".\r.\r"],
  ];
  const stored = sent.map((line) => line.replace(/^\./, ""));
  for (const segmentSize of SIZES) {
    await simulate({ link: { segmentSize } }, async ({ connect, memory }) => {
      const talk = await connect();
      await begin(talk);
      assertEquals(await say(talk, [...sent, "."].join("\r\n")), "250 OK");
      assertStored(memory, [{ text: `${stored.join("\r\n")}\r\n` }]);
    });
  }
});

Deno.test("SmtpServer takes no bare line end for the end of a message", async () => {
  const smuggled = "MAIL FROM:<root@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nevil";
  for (
    const end of ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n.\r"]
  ) {
    for (const segmentSize of SIZES) {
      await simulate({ link: { segmentSize } }, async ({ connect, memory }) => {
        const talk = await connect();
        await begin(talk);
        const said = await say(talk, `hello${end}${smuggled}\r\n.`, "NOOP");
        assertEquals(said, "250 OK");
        assertEquals(memory.messages.length, 1);
        const [{ text }] = memory.messages as [Message];
        assert(text.startsWith("hello"));
        assert(text.endsWith(`${smuggled}\r\n`));
      });
    }
  }
});

Deno.test("SmtpServer refuses a line that is too long, when the message has ended", () =>
  simulate({ lineLimit: 10 }, async ({ connect, memory }) => {
    const talk = await connect();
    await begin(talk);
    // A dot in front is not counted.
    assertEquals(await say(talk, `.${a(10)}\r\n.`), "250 OK");
    for (const line of [a(11), `.${a(11)}`, a(100_000)]) {
      assertEquals(await say(talk, FROM, TO, "DATA"), DATA);
      const said = await say(talk, `x\r\n${line}\r\nx\r\n.`);
      assertEquals(said, "500 Error: line too long");
    }
    assertEquals(await say(talk, FROM, TO, "DATA", "x\r\n."), "250 OK");
    assertStored(memory, [{ text: `${a(10)}\r\n` }, { text: "x\r\n" }]);
    assertEquals(memory.discarded, 3);
  }));

Deno.test("SmtpServer takes so many recipients and no more", () =>
  simulate({ recipientLimit: 2 }, async ({ connect, memory }) => {
    const talk = await connect();
    await answer(talk);
    assertEquals(await say(talk, HELO, FROM, TO, TO), "250 OK");
    assertEquals(await say(talk, TO), "452 Error: too many recipients");
    await say(talk, "DATA", ".");
    assertStored(memory, [{ recipients: ["spam@example", "spam@example"] }]);
  }));

Deno.test("SmtpServer answers 451 to what cannot be stored, and goes on", async () => {
  using console = captureConsole();
  for (const failing of ["open", "write", "store"]) {
    let discarded = 0;
    const fail = (step: string) => {
      if (step === failing) throw new Error("No space left");
    };
    await simulate({
      deliver: () => {
        fail("open");
        return {
          write: () => fail("write"),
          store: () => fail("store"),
          discard: () => void discarded++,
        };
      },
    }, async ({ connect }) => {
      const talk = await connect();
      await answer(talk);
      const opened = await say(talk, HELO, FROM, TO, "DATA");
      const lines = `${a(1_000)}\r\n`.repeat(1_000);
      const said = failing === "open" ? opened : await say(talk, `${lines}.`);
      assertEquals(said, "451 Error: local error in processing");
      assertEquals(await say(talk, "NOOP"), "250 OK");
    });
    assert(discarded > 0 || failing === "open");
  }
  assertEquals(
    console.err,
    Array(3).fill("Cannot store message: Error: No space left"),
  );
});

Deno.test("SmtpServer drops a message whose client goes away in the middle", async () => {
  for (const ending of ["end of file", "reset"]) {
    await simulate({}, async ({ connect, memory, net }) => {
      const talk = await connect();
      await begin(talk);
      await talk.send("Subject: x\r\n\r\nhello\r\n.\r");
      if (ending === "reset") talk.conn.reset();
      else await talk.conn.closeWrite();
      await net.sleep(1);
      assertEquals(memory.discarded, 1);
      assertStored(memory, []);
    });
  }
});

Deno.test("SmtpServer drops a message when it is closed itself", () =>
  simulate({}, async ({ connect, memory, net, server }) => {
    const talk = await connect();
    await begin(talk);
    await talk.send("hello\r\n");
    await net.sleep(1);
    await Promise.all([closeAll({ map: net.map }), talk.rest()]);
    assertEquals(memory.discarded, 1);
    server.createSocket();
    server.bind(ADDR);
    server.listen();
  }));

Deno.test("SmtpServer drops a message that it was about to begin when it is closed", async () => {
  let discarded = 0;
  await using net = new SimNet({ seed: 1 });
  new SmtpServer(
    ADDR,
    async () => {
      await net.sleep(1_000);
      return { write() {}, store() {}, discard: () => void discarded++ };
    },
    {},
    { map: net.map },
  );
  const client = (async () => {
    using talk = new Talk(await net.connect(ADDR));
    await answer(talk);
    await say(talk, HELO, FROM, TO);
    await talk.send("DATA\r\n");
    await net.sleep(500);
    await Promise.all([closeAll({ map: net.map }), talk.rest()]);
  })();
  await Promise.all([net.run(), client]);
  assertEquals(discarded, 1);
});

Deno.test("SmtpServer with a Maildrop can be closed at any moment, and leaves no half message", async () => {
  using console = captureConsole();
  // How far it has come: bytes in the draft, or in the end the message.
  for (
    const [size, suffix] of [[0, ".tmp"], [65_536, ".tmp"], [140_000, ".tmp"], [
      140_000,
      ".eml",
    ]] as const
  ) {
    for (let delay = 0; delay < 20; delay++) {
      using folder = tempDir();
      const maildrop = new Maildrop(folder.path, "localhost");
      const hasCome = () =>
        [...Deno.readDirSync(folder.path)].some(({ name }) =>
          name.endsWith(".eml") || name.endsWith(suffix) &&
            Deno.statSync(`${folder.path}/${name}`).size >= size
        );
      await simulate({
        deliver: (envelope) => maildrop.open(envelope),
      }, async ({ connect, net }) => {
        const talk = await connect();
        const text = "hello\r\n".repeat(20_000);
        const session = [HELO, FROM, TO, "DATA", `${text}.`, ""];
        await talk.send(session.join("\r\n"));
        await until(hasCome);
        for (let i = 0; i < delay; i++) await turns(i % 2);
        [...net.map].at(1)?.close();
        await talk.rest();
      });
      const messages = stored(folder.path);
      for (const message of messages) {
        assertEquals(textOf(message).length, 140_000);
      }
      if (suffix === ".eml") assertEquals(messages.length, 1);
    }
  }
  assertEquals([...console.out, ...console.err], []);
});

Deno.test("SmtpServer hears nothing behind QUIT", async () => {
  using console = captureConsole();
  await simulate({}, async ({ connect }) => {
    const talk = await connect();
    await talk.send(`QUIT\r\nNOOP\r\n${a(1_000)}\r\nNOOP\r\n`);
    const said = text(await talk.rest());
    assertEquals(said, "220 localhost ESMTP\r\n221 Bye\r\n");
  });
  assertEquals([...console.out, ...console.err], []);
});

Deno.test("SmtpServer serves others while one sends a byte per second", () =>
  simulate({}, async ({ connect, memory, net }) => {
    const slow = await connect();
    const message = "From: slow\r\n\r\nhello\r\n.";
    const lines = [HELO, "MAIL FROM:<slow@a>", TO, "DATA", message, "QUIT", ""];
    const session = lines.join("\r\n");
    const sending = (async () => {
      for (const byte of session) {
        await slow.send(byte);
        await net.sleep(1_000);
      }
    })();
    for (let minute = 0; minute < 60; minute++) {
      const talk = await connect();
      const before = net.now;
      await begin(talk);
      assertEquals(await say(talk, "hello\r\n."), "250 OK");
      assertEquals(net.now, before);
      await net.sleep(1_000);
    }
    await sending;
    assertMatch(text(await slow.rest()), /^250 OK\r\n221 Bye\r\n$/m);
    assertEquals(memory.messages.at(-1)?.sender, "slow@a");
    assertEquals(memory.messages.length, 61);
  }));

Deno.test("SmtpServer stops reading from a client that does not read its answers", async () => {
  for (const line of ["HELP\r\n", `${a(600)}\r\n`]) {
    const link = { window: 10_000 };
    await simulate({ link }, async ({ connect, net }) => {
      const deaf = await connect();
      let sent = 0;
      const sending = (async () => {
        const lines = bytes(line.repeat(100));
        for (;;) {
          sent += await deaf.conn.write(lines.subarray(sent % lines.length));
        }
      })();
      sending.catch(() => {});
      // Time passes when nothing else can happen.
      await net.sleep(60_000);
      // The answer to a long line has 26 bytes, and a few times 10,000 wait.
      assert(sent < 30_000 / 26 * line.length + 20_000, `${sent}`);
      const other = await connect();
      await begin(other);
    });
  }
});

Deno.test("SmtpServer gives up on a client that does not read the last answer", async () => {
  await simulate({ link: { window: 100 } }, async ({ connect, net }) => {
    const deaf = await connect();
    await deaf.send("HELP\r\nHELP\r\nHELP\r\nQUIT\r\n");
    await net.sleep(29_000);
    assertEquals(net.map.size, 2);
    await net.sleep(60_000);
    assertEquals(net.map.size, 1);
  });
});

// The program.

const PERMISSIONS = (folder: string) => [
  `--allow-read=${folder}`,
  `--allow-write=${folder}`,
];

function start(folder: string, ...args: string[]): Promise<Server> {
  const permissions = PERMISSIONS(folder);
  return Server.start("smtp_server.ts", [folder, ...args], { permissions });
}

/** What was stored, in the order in which it came; there must be nothing else. */
function stored(folder: string): string[] {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return names.map((name) => {
    assertMatch(name, /^\d{17}-[-0-9a-f]{36}\.eml$/);
    const data = Deno.readFileSync(`${folder}/${name}`);
    return new TextDecoder("latin1").decode(data);
  });
}

/** A stored message without its trace. */
function textOf(message: string): string {
  const [whole] = /^Return-Path: .*\r\n(?:(?:Delivered-To|Received|\t).*\r\n)*/
    .exec(message)!;
  return message.slice(whole.length);
}

Deno.test("smtp_server stores a message with its envelope in front", async () => {
  using folder = tempDir();
  await using server = await start(folder.path, "--name", "mx.example");
  using talk = await server.connect();
  assertEquals(await answer(talk), "220 mx.example ESMTP");
  const session = [EHLO, "MAIL FROM:<>", "RCPT TO:<a@b>", "RCPT TO:<c@d>"];
  await say(talk, ...session, "DATA");
  const said = await say(talk, "Subject: x\r\n\r\n\xff\r\n.");
  const [, id] = /^250 OK stored as (\S+)$/.exec(said)!;
  const [message] = stored(folder.path);
  assertMatch(
    message!,
    new RegExp(
      [
        "^Return-Path: <>",
        "Delivered-To: a@b",
        "Delivered-To: c@d",
        String.raw`Received: from example \(\[127\.0\.0\.1\]\)`,
        `\tby mx\\.example with ESMTP id ${id};`,
        String.raw`\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000`,
        "Subject: x\r\n\r\n\xff\r\n$",
      ].join("\r\n"),
    ),
  );
  await server.stop();
});

toolTest("smtp_server receives from swaks", ["swaks"], async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  for (const args of [[], ["--pipeline"], ["--protocol", "SMTP"]]) {
    const { code, stdout } = await run("swaks", [
      ...["--server", `127.0.0.1:${server.port}`],
      ...["--from", "jane@example.com", "--to", "joe@example.com,jim@b"],
      ...[
        "--header",
        "Subject: dots",
        "--body",
        "one\\n.\\n..two\\n.",
        ...args,
      ],
    ]);
    assertEquals(code, 0, text(stdout));
  }
  const messages = stored(folder.path);
  assertEquals(messages.length, 3);
  for (const message of messages) {
    assertMatch(message, /^Delivered-To: joe@example\.com\r$/m);
    assertMatch(message, /^Delivered-To: jim@b\r$/m);
    assertMatch(message, /^Subject: dots\r$/m);
    assertMatch(message, /\r\n\r\none\r\n\.\r\n\.\.two\r\n\.\r\n/);
  }
  assertMatch(messages[2]!, /with SMTP id/);
  await server.stop();
});

toolTest(
  "smtp_server receives from Python's smtplib",
  ["python3"],
  async () => {
    using folder = tempDir();
    await using server = await start(folder.path);
    await runPython(
      `
import smtplib
from email.message import EmailMessage

with smtplib.SMTP("127.0.0.1", ${server.port}) as client:
    assert client.ehlo()[0] == 250
    assert client.esmtp_features == {"size": "33554432", "8bitmime": "", "pipelining": "", "help": ""}
    for text in ["", ".", "..\\n.\\n", "caf\\u00e9\\n" * 1000]:
        message = EmailMessage()
        message["Subject"] = "caf\\u00e9"
        message["From"] = "jane@example.com"
        message["To"] = "joe@example.com, jim@example.com"
        message.set_content(text, cte="8bit")
        assert client.send_message(message) == {}
    # A message that is too large is refused before it is sent.
    try:
        client.sendmail("a@b", ["c@d"], "x" * 33554433)
        assert False
    except smtplib.SMTPSenderRefused as error:
        assert error.smtp_code == 552
    assert client.verify("jane@example.com")[0] == 252
    assert client.noop()[0] == 250
    big = ("x" * 76 + "\\r\\n") * 100000
    assert client.sendmail("a@b", ["c@d"], big) == {}
`,
      server.port,
    );
    const messages = stored(folder.path).map(textOf);
    assertEquals(messages.length, 5);
    const bodies = messages.slice(0, 4).map((message) => {
      const [head, ...body] = message.split("\r\n\r\n");
      assertMatch(head!, /^Subject: =\?utf-8\?q\?caf=C3=A9\?=/m);
      return body.join("\r\n\r\n");
    });
    assertEquals(bodies[0], "\r\n");
    assertEquals(bodies[1], ".\r\n");
    assertEquals(bodies[2], "..\r\n.\r\n");
    assertEquals(bodies[3], "caf\xc3\xa9\r\n".repeat(1_000));
    assert(messages[4] === `${"x".repeat(76)}\r\n`.repeat(100_000));
    await server.stop();
  },
);

Deno.test("smtp_server receives from nodemailer", async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  const attached = noise(300_000);
  Deno.writeFileSync(`${folder.path}/attached`, attached);
  const script = `
import nodemailer from "npm:nodemailer@7.0.10";
const transport = nodemailer.createTransport({
  host: "127.0.0.1", port: ${server.port}, pool: true, maxConnections: 3,
});
const content = Deno.readFileSync(Deno.args[0]);
await Promise.all(Array.from({ length: 10 }, (_, i) => transport.sendMail({
  from: "Jane <jane@example.com>",
  to: ["joe@example.com"], bcc: ["jim@example.com"],
  subject: "caf\\u00e9 " + i,
  text: "one\\n.\\n..two",
  attachments: [{ filename: "noise.bin", content }],
})));
transport.close();
`;
  assertGood(
    await run(
      Deno.execPath(),
      ["run", "-A", "--quiet", "--ext=js", "-", `${folder.path}/attached`],
      bytes(script),
    ),
  );
  Deno.removeSync(`${folder.path}/attached`);
  const messages = stored(folder.path);
  assertEquals(messages.length, 10);
  for (const message of messages) {
    assertMatch(message, /^Delivered-To: jim@example\.com\r$/m);
    assertMatch(message, /\r\n\r\none\r\n\.\r\n\.\.two\r\n/);
    const [, base64] = /filename=noise\.bin\r\n(?:.+\r\n)*\r\n([^-]+)/
      .exec(message)!;
    const file = Uint8Array.fromBase64(base64!.replaceAll("\r\n", ""));
    assertSameBytes(file, attached);
  }
  await server.stop();
});

Deno.test("smtp_server stores the messages of many clients, each once", async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  await Promise.all(Array.from({ length: 20 }, async (_, client) => {
    using talk = await server.connect();
    await answer(talk);
    await say(talk, HELO);
    for (let i = 0; i < 5; i++) {
      const said = await say(talk, FROM, TO, "DATA", `${client} ${i}\r\n.`);
      assertMatch(said, /^250 /);
    }
  }));
  const texts = stored(folder.path).map((message) => textOf(message).trim());
  const expected = Array.from(
    { length: 100 },
    (_, i) => `${Math.floor(i / 5)} ${i % 5}`,
  );
  assertEquals(texts.sort(), expected.sort());
  await server.stop();
});

Deno.test("smtp_server answers 451 when its folder is gone, and leaves nothing behind", async () => {
  using parent = tempDir();
  const folder = `${parent.path}/mail`;
  Deno.mkdirSync(folder);
  await using server = await start(folder);
  using talk = await server.connect();
  await begin(talk);
  Deno.removeSync(folder, { recursive: true });
  const local = "451 Error: local error in processing";
  assertEquals(await say(talk, "hello\r\n."), local);
  assertEquals(await say(talk, FROM, TO, "DATA"), local);
  Deno.mkdirSync(folder);
  assertMatch(await say(talk, "DATA", "hello\r\n."), /^250 /);
  assertEquals(stored(folder).map(textOf), ["hello\r\n"]);
});

Deno.test("Maildrop leaves nothing behind of a message that cannot be stored", async () => {
  using folder = tempDir();
  const maildrop = new Maildrop(folder.path, "localhost");
  const envelope = {
    ...{ client: null, helo: "x", protocol: "SMTP", sender: "" },
    recipients: ["a@b"],
  };
  const draft = await maildrop.open(envelope);
  await draft.write(bytes("hello\r\n"));
  draft.discard();
  draft.discard();
  assertEquals(stored(folder.path), []);
  // What was stored stays.
  const kept = await maildrop.open(envelope);
  await kept.store();
  kept.discard();
  assertEquals(stored(folder.path).length, 1);
});

/** What a server may need more for a client that sends 100 MB: not a tenth of them. */
const SPARE = 64 * 1_048_576;

Deno.test("smtp_server drops 100 MB without a line end, and serves others meanwhile", async (t) => {
  using folder = tempDir();
  const chunk = new Uint8Array(1_000_000).fill(120);
  for (const inMessage of [false, true]) {
    await t.step(inMessage ? "in a message" : "as a command", async () => {
      await using server = await start(folder.path);
      using talk = await server.connect();
      if (inMessage) await begin(talk);
      else await answer(talk);
      const before = server.peakMemory();
      for (let i = 0; i < 100; i++) {
        await talk.send(chunk);
        if (i % 10 > 0) continue;
        using other = await server.connect();
        await begin(other);
        assertMatch(await say(other, "hello\r\n."), /^250 /);
      }
      const spared = server.peakMemory() - before;
      assert(spared < SPARE, `${spared} bytes more`);
      const said = await say(talk, inMessage ? "\r\n." : "");
      assertEquals(said, "500 Error: line too long");
      assertEquals(await say(talk, "NOOP"), "250 OK");
      await server.stop();
    });
  }
  assertEquals(stored(folder.path).length, 20);
});

Deno.test("smtp_server refuses a message that is too large, and has nothing of it", async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  using talk = await server.connect();
  await begin(talk);
  const before = server.peakMemory();
  const lines = bytes(`${"x".repeat(98)}\r\n`.repeat(10_000));
  for (let i = 0; i < 40; i++) await talk.send(lines);
  assertEquals(await say(talk, "."), TOO_MUCH);
  assert(server.peakMemory() - before < SPARE);
  assertEquals(stored(folder.path), []);
  await server.stop();
});

Deno.test("smtp_server stops reading from a client that does not read, and serves others", async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  const deaf = await server.connect();
  using other = await server.connect();
  await begin(other);
  await say(other, ".");
  const before = server.peakMemory();
  await sendUntilFull(deaf, bytes("HELP\r\n".repeat(10_000)), async () => {
    assertEquals(await say(other, "NOOP"), "250 OK");
  });
  assert(server.peakMemory() - before < SPARE);
  deaf.conn.close();
  assertEquals(await say(other, "NOOP"), "250 OK");
});

Deno.test("smtp_server has nothing of a message whose client goes away in the middle", async () => {
  using folder = tempDir();
  await using server = await start(folder.path);
  for (let i = 0; i < 5; i++) {
    using talk = await server.connect();
    await begin(talk);
    await talk.send("Subject: x\r\n\r\n" + "hello\r\n".repeat(i * 10_000));
  }
  await until(() => [...Deno.readDirSync(folder.path)].length === 0);
  await server.stop();
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`smtp_server ends with code 0 on ${signal}, says so, and has no half message`, async () => {
    using folder = tempDir();
    await using server = await start(folder.path);
    using idle = await server.connect();
    using talk = await server.connect();
    await answer(idle);
    await begin(talk);
    await talk.send("hello\r\n".repeat(10_000));
    const stopped = server.stop(signal);
    for (const client of [idle, talk]) {
      assertEquals(
        text(await client.rest()),
        "421 localhost Service closing\r\n",
      );
      // The server waits for the ends of its clients.
      await client.conn.closeWrite();
    }
    await stopped;
    assertEquals(stored(folder.path), []);
  });
}

Deno.test("smtp_server fails with one line when its arguments are wrong", async () => {
  using folder = tempDir();
  const { path } = folder;
  Deno.writeTextFileSync(`${path}/file`, "");
  for (
    const args of [
      ...[[], [path, path], [`${path}/nowhere`], [`${path}/file`]],
      ...[[path, "--port", "x"], [path, "--port", "70000"], [path, "--tls"]],
    ]
  ) {
    await assertFails(
      "smtp_server.ts",
      args,
      /^Cannot start the mail server: [^\n]+\n$/,
      { permissions: PERMISSIONS(path) },
    );
  }
});
