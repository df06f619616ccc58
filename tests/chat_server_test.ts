import { assert, assertEquals, assertMatch } from "@std/assert";
import { ChatServer } from "../examples/chat_server.ts";
import {
  forSeeds,
  type LinkOptions,
  type SimConn,
  SimNet,
} from "../testing.ts";
import { bytes, text } from "./net.ts";
import {
  assertFails,
  assertGood,
  python,
  runPython,
  Server,
  simulate,
  Talk,
} from "./servers.ts";
import { run } from "./subprocess.ts";
import { toolTest } from "./tools.ts";

const ADDR = { hostname: "10.0.0.1", port: 7 };

/** A guest in a simulation. */
class Visitor extends Talk<SimConn> {
  /** Comes in, and says the name if there is one. */
  static async in(net: SimNet, name?: string): Promise<Visitor> {
    const visitor = new Visitor(await net.connect(ADDR));
    await visitor.hears("* Welcome! What is your name?");
    if (name !== undefined) {
      await visitor.say(name);
      await visitor.hears(`* ${name} is here`);
    }
    return visitor;
  }

  async say(...lines: string[]): Promise<void> {
    for (const line of lines) await this.send(bytes(`${line}\n`));
  }

  hear(): Promise<string> {
    return this.line("\n");
  }

  async hears(...lines: string[]): Promise<void> {
    for (const line of lines) assertEquals(await this.hear(), line);
  }

  /** Hears nothing more. */
  async hearsEnd(): Promise<void> {
    assertEquals(text(await this.rest()), "");
  }
}

/** Has guests meet in a simulation. */
async function meet(
  link: LinkOptions,
  act: (net: SimNet, server: ChatServer) => Promise<void>,
): Promise<void> {
  await using net = new SimNet({ seed: 1, link });
  const server = new ChatServer(ADDR, { map: net.map });
  await simulate(net, act(net, server));
  assertEquals([...net.map], [server]);
  assertEquals(net.leaks().filter((leak) => /linger|timer/.test(leak)), []);
}

Deno.test("chat_server passes on what one says, to everybody", async () => {
  for (const segmentSize of [Infinity, 1, 2, 3, 5, 7]) {
    await meet({ segmentSize }, async (net) => {
      using ann = await Visitor.in(net, "Ann");
      using bob = await Visitor.in(net, "Bob");
      await ann.hears("* Bob is here");
      await bob.say(
        "Hello, is anybody there?",
        "//who does that",
        "smørrebrød 🙂",
      );
      for (const guest of [ann, bob]) {
        await guest.hears(
          "Bob: Hello, is anybody there?",
          "Bob: /who does that",
          "Bob: smørrebrød 🙂",
        );
      }
    });
  }
});

Deno.test("chat_server does what it is told", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    using bob = await Visitor.in(net, "Bob");
    await ann.hears("* Bob is here");
    await bob.say("/who", "/msg ann psst", "/msg nobody x", "/msg ann", "/xyz");
    await bob.hears(
      "* Here: Ann, Bob",
      "you, to Ann: psst",
      "* Not here: nobody",
      "* As in /msg NAME TEXT",
      "* No such command: /xyz; /help lists them",
    );
    await ann.hears("Bob, to you: psst");
    await bob.say("/help");
    assertMatch(await bob.hear(), /^\* \/who /);
    while (!(await bob.hear()).startsWith("* //"));
    await bob.say("/me waves", "/nick Robert", "/nick ann", "/nick R B");
    await bob.hears(
      "* Bob waves",
      "* You are Robert now",
      "* That name is taken: ann",
      "* A name has 1 to 20 letters, digits, _ and -",
    );
    await ann.hears("* Bob waves", "* Bob is Robert now");
    await bob.say("/quit Good night", "nobody hears this");
    await bob.hearsEnd();
    await ann.hears("* Robert leaves: Good night");
    await ann.say("/nick Robert", "/nick robert", "/who");
    await ann.hears(
      "* You are Robert now",
      "* You are robert now",
      "* Here: robert",
    );
  });
});

Deno.test("chat_server lets nobody in without a name of their own", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    using other = await Visitor.in(net);
    await other.say(
      "/who",
      "",
      "A B",
      "x".repeat(21),
      "ANN",
      "ａｎｎ",
      "Än-n_1",
    );
    await other.hears(
      ...Array(3).fill("* A name has 1 to 20 letters, digits, _ and -"),
      "* That name is taken: ANN",
      "* That name is taken: ａｎｎ",
      "* Än-n_1 is here",
    );
    // Who has no name is not missed.
    using nameless = await Visitor.in(net);
    await nameless.say("/quit");
    await nameless.hearsEnd();
    await ann.say("/who");
    await ann.hears("* Än-n_1 is here", "* Here: Ann, Än-n_1");
  });
});

Deno.test("chat_server lets nobody control the terminals of others", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    await ann.say("a\x1b[2Jb\x07\u202Ec\x9b", "\xff");
    await ann.hears("Ann: a [2Jb  c", "Ann: \xff");
    await ann.say("\r", " \t", "x\r");
    await ann.hears("Ann: x");
  });
});

Deno.test("chat_server hears the last line though its end is missing, and answers after a half-close", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    using bob = await Visitor.in(net, "Bob");
    await bob.send("/who\nbye");
    await bob.conn.closeWrite();
    await bob.hears("* Here: Ann, Bob", "Bob: bye");
    await bob.hearsEnd();
    await ann.hears("* Bob is here", "Bob: bye", "* Bob leaves");
  });
});

Deno.test("chat_server notices when a guest is gone, in mid-line, too", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    const bob = await Visitor.in(net, "Bob");
    await bob.send("I was about to");
    await net.sleep(1);
    bob.conn.reset();
    await ann.hears("* Bob is here", "* Bob is gone");
    await ann.say("/who");
    await ann.hears("* Here: Ann");
  });
});

Deno.test("chat_server drops what has no end, and its guest stays", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    using bob = await Visitor.in(net, "Bob");
    await ann.hears("* Bob is here");
    await bob.say("x".repeat(1024), "x".repeat(1025), "x".repeat(1_000_000));
    await bob.say("short");
    await bob.hears(
      `Bob: ${"x".repeat(1024)}`,
      "* A line has 1024 bytes at most",
      "* A line has 1024 bytes at most",
      "Bob: short",
    );
    await ann.hears(`Bob: ${"x".repeat(1024)}`, "Bob: short");
  });
});

Deno.test("chat_server serves others while one sends a byte a second", async () => {
  await meet({}, async (net) => {
    using ann = await Visitor.in(net, "Ann");
    using bob = await Visitor.in(net, "Bob");
    await ann.hears("* Bob is here");
    const slow = (async () => {
      for (const char of "one by one\n") {
        await bob.send(char);
        await net.sleep(1_000);
      }
    })();
    for (let i = 0; i < 10; i++) {
      await ann.say(`${i}`);
      await ann.hears(`Ann: ${i}`);
      await net.sleep(1_000);
    }
    await ann.hears("Bob: one by one");
    await slow;
  });
});

Deno.test("chat_server keeps little for a guest who does not read, tells how much was lost, and lets no one wait", async () => {
  const LINES = 1000;
  const WINDOW = 10_000;
  const message = (i: number) => `${i} ${"x".repeat(1000)}`;
  await meet({ window: WINDOW }, async (net, server) => {
    using ann = await Visitor.in(net, "Ann");
    using deaf = await Visitor.in(net, "Deaf");
    await ann.hears("* Deaf is here");
    const [guest] = [...net.map].filter((channel) =>
      channel !== server && (channel as { name?: string }).name === "Deaf"
    ) as unknown as { queuedBytes: number }[];
    let most = 0;
    for (let i = 0; i < LINES; i++) {
      await ann.say(message(i));
      await ann.hears(`Ann: ${message(i)}`);
      most = Math.max(most, guest!.queuedBytes);
    }
    assert(most > 65_536 && most < 65_536 + 1100, `${most}`);

    // Reads a little: there is room, but what was lost is to be told first.
    let kept = 0;
    for (; kept < 20; kept++) await deaf.hears(`Ann: ${message(kept)}`);
    await ann.say("lost, too");
    await ann.hears("Ann: lost, too");
    assert(guest!.queuedBytes < 50_000, `${guest!.queuedBytes}`);

    // Reads on: what was kept, the notice, and what is said from then on.
    let line = await deaf.hear();
    for (; line === `Ann: ${message(kept)}`; kept++) line = await deaf.hear();
    assertEquals(
      line,
      `* Messages lost, since you did not read: ${LINES + 1 - kept}`,
    );
    assert(kept > 65 && kept < 100, `${kept}`);
    await ann.say("again");
    await deaf.hears("Ann: again");
  });
});

Deno.test("chat_server keeps little for a guest who asks and does not read", async () => {
  await meet({ window: 10_000 }, async (net, server) => {
    using deaf = await Visitor.in(net, "Deaf");
    // Everything is read, and most answers are lost.
    for (let i = 0; i < 5_000; i++) await deaf.say("/help");
    const [guest] = [...net.map].filter((channel) =>
      channel !== server
    ) as unknown as { queuedBytes: number }[];
    assert(guest!.queuedBytes < 70_000, `${guest!.queuedBytes}`);
    let line = await deaf.hear();
    while (line.startsWith("* /")) line = await deaf.hear();
    while (!line.startsWith("* Messages lost")) line = await deaf.hear();
  });
});

Deno.test("chat_server lets a guest go who leaves without reading", async () => {
  for (const how of ["/quit", "end"]) {
    await meet({ window: 10_000 }, async (net, server) => {
      using ann = await Visitor.in(net, "Ann");
      using deaf = await Visitor.in(net, "Deaf");
      await ann.hears("* Deaf is here");
      for (let i = 0; i < 100; i++) {
        await ann.say("x".repeat(1000));
        await ann.hears(`Ann: ${"x".repeat(1000)}`);
      }
      if (how === "end") await deaf.conn.closeWrite();
      else await deaf.say(how);
      await net.sleep(5_000);
      assertEquals(net.map.size, 3);
      await ann.say("/who");
      await ann.hears("* Deaf leaves", "* Here: Ann");
      await net.sleep(6_000);
      assertEquals(net.map.size, 2);
      assertEquals([...net.map][0], server);
    });
  }
});

Deno.test("chat_server: guests hear the same in the same order, on any network", async () => {
  await forSeeds(async (net) => {
    net.setLink(ADDR, {
      latency: [1, 100],
      segmentSize: [1, 20],
      writeSize: [1, 20],
      faults: [{ on: "toServer", what: "reset", at: [20, 200], chance: 0.2 }],
    });
    const server = new ChatServer(ADDR, { map: net.map });
    const guest = async (name: string) => {
      using visitor = await Visitor.in(net);
      await visitor.say(name);
      // Everybody is to be there before somebody speaks.
      await net.sleep(60_000);
      await visitor.say(...Array.from("abcdefgh"));
      await net.sleep(60_000);
      await visitor.conn.closeWrite();
      const heard = text(await visitor.rest()).split("\n");
      return heard.filter((line) => /^\w: \w$/.test(line));
    };
    const guests = Promise.allSettled(["A", "B", "C", "D"].map(guest));
    const [all] = await simulate(net, guests);
    assertEquals([...net.map], [server]);
    const heard = all.flatMap((each) =>
      each.status === "fulfilled" ? [each.value] : []
    );
    for (const lines of heard) {
      assertEquals(lines, heard[0]);
      assert(lines.length >= 8 * heard.length, `${lines}`);
    }
  }, { seed: 1, runs: 50 });
});

// Clients that somebody else wrote.

toolTest("chat_server lets people talk by nc", ["nc"], async () => {
  await using server = await Server.start("chat_server.ts");
  const { code, stdout } = await run(
    "nc",
    ["-N", "127.0.0.1", `${server.port}`],
    bytes("Ann\n/who\nhello\n/me waves\n/quit"),
  );
  assertEquals(code, 0);
  assertEquals(
    text(stdout),
    "* Welcome! What is your name?\n* Ann is here\n* Here: Ann\nAnn: hello\n* Ann waves\n",
  );
  await server.stop();
});

toolTest("chat_server serves 100 guests", ["python3"], async () => {
  await using server = await Server.start("chat_server.ts");
  await runPython(
    `
guests = []
for i in range(100):
    conn = connect()
    assert line(conn).endswith(b"name?\\n")
    conn.sendall(b"guest%d\\n" % i)
    guests.append(conn)
    for each in guests:
        assert line(each) == b"* guest%d is here\\n" % i
for i in range(0, 100, 10):
    guests[i].sendall(b"hello from %d\\n" % i)
    for each in guests:
        assert line(each) == b"guest%d: hello from %d\\n" % (i, i)
for each in guests[1:]:
    reset(each)
gone = sorted(line(guests[0]) for i in range(99))
assert gone == sorted(b"* guest%d is gone\\n" % i for i in range(1, 100))
`,
    server.port,
  );
  await server.stop();
});

toolTest(
  "chat_server bears guests who mean no good, and serves the others",
  ["python3"],
  async () => {
    await using server = await Server.start("chat_server.ts");
    await runPython(
      `
def enter(name):
    conn = connect()
    line(conn)
    conn.sendall(name + b"\\n")
    while line(conn) != b"* " + name + b" is here\\n":
        pass
    return conn

def served():
    one.sendall(b"still here?\\n")
    while ears.readline() != b"one: still here?\\n":
        pass

one = enter(b"one")
ears = one.makefile("rb")

# A line of 100 MB: it is read, so that the sender is not kept waiting, and dropped.
endless = enter(b"endless")
for i in range(1000):
    endless.sendall(b"x" * 100_000)
    if i % 100 == 0:
        served()
endless.sendall(b"\\nend\\n")
while ears.readline() != b"endless: end\\n":
    pass

# One who reads nothing gets what the system takes, then nothing; the others get all.
deaf = enter(b"deaf")
text = b"x" * 1000
for i in range(10_000):
    one.sendall(text + b"\\n")
    if i % 100 == 0:
        served()
served()
deaf.settimeout(20)
data = b""
while b"* Messages lost" not in data:
    data = data[-100:] + deaf.recv(65536)

# One who breaks off in mid-line.
rude = enter(b"rude")
rude.sendall(b"I was")
reset(rude)
while ears.readline() != b"* rude is gone\\n":
    pass
served()
`,
      server.port,
    );
    await server.stop();
  },
);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  toolTest(
    `chat_server ends with code 0 on ${signal}, and its guests have heard everything`,
    [
      "python3",
    ],
    async () => {
      await using server = await Server.start("chat_server.ts");
      await using guest = python(
        `
conn = connect()
conn.sendall(b"Ann\\nhello\\n")
for i in range(2):
    line(conn)
print("ready", flush=True)
rest = conn.makefile("rb").read()
assert rest == b"Ann: hello\\n", rest
`,
        server.port,
      );
      assertEquals(await guest.line(), "ready");
      server.kill(signal);
      for (const process of [guest, server]) {
        assertGood(await process.end());
      }
    },
  );
}

Deno.test("chat_server fails with one line when its arguments are wrong", async () => {
  for (const args of [["--port", "x"], ["--port", "70000"], ["7"]]) {
    await assertFails(
      "chat_server.ts",
      args,
      /^Cannot start the chat server: ./,
    );
  }
});
