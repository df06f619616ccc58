// The lines of the contract that need a process of their own; a test's name
// begins with the number of its line.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { listenTcp, readToEnd, script, turns, within } from "../net.ts";

/** What the programs have in common: a listener and both ends of a connection. */
const CHANNELS = `
  import { ChannelMap, Dispatcher, ExitNow, loop, poll } from "./mod.ts";
  class Quiet extends Dispatcher {
    handleConnect() {}
    handleRead() { this.recv(); }
    handleAccepted(conn) { new Quiet(conn); }
    handleWrite() {}
  }
  const server = new Quiet();
  server.createSocket();
  server.bind({ hostname: "127.0.0.1", port: 0 });
  server.listen();
  const client = new Quiet();
  client.createSocket();
  client.connect(server.addr);
  while (!client.connected) await loop({ count: 1 });
`;

const WAYS = {
  count: "await loop({ count: 3, timeout: 1 });",
  "a count of none": "await loop({ count: 0 });",
  poll: "await poll(1);",
  signal: `
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1);
    await loop({ signal: controller.signal });
  `,
  ExitNow: `
    client.writable = () => { throw new ExitNow("enough"); };
    setTimeout(() => client.wake(), 1);
    await loop().catch((error) => console.log(error.name));
  `,
  "nothing at all": "",
};

for (const [name, leave] of Object.entries(WAYS)) {
  Deno.test(`16 armed reads and accepts hold nothing after a loop that was left by ${name}`, async () => {
    const { code, stdout, stderr } = await script(
      `
      ${CHANNELS}
      ${leave}
      console.log("left", server.accepting, client.connected);
    `,
      "--allow-net",
    );
    assertEquals(stderr, "");
    assertMatch(stdout, /^(ExitNow\n)?left true true\n$/);
    assertEquals(stdout.startsWith("ExitNow"), name === "ExitNow");
    assertEquals(code, 0);
  });
}

Deno.test("16 a connection under way holds nothing without a loop", async () => {
  const { code, stdout, stderr } = await script(
    `
    import { Dispatcher } from "./mod.ts";
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const client = new Dispatcher();
    client.createSocket();
    client.connect(listener.addr);
    console.log("left");
  `,
    "--allow-net",
  );
  assertEquals([code, stdout, stderr], [0, "left\n", ""]);
});

for (
  const [name, serve] of Object.entries({
    "loop()": "loop()",
    "loop({ timeout: Infinity })": "loop({ timeout: Infinity })",
    "poll(Infinity)": "poll(Infinity)",
  })
) {
  Deno.test(`16 a running ${name} holds the process while nothing happens`, async () => {
    const { code, stdout, stderr } = await script(
      `
      import { Dispatcher, loop, poll } from "./mod.ts";
      const server = new Dispatcher();
      server.createSocket();
      server.bind({ hostname: "127.0.0.1", port: 0 });
      server.listen();
      // Holds nothing: without the loop the process would end before.
      Deno.unrefTimer(setTimeout(() => {
        console.log("still here");
        server.close();
      }, 100));
      ${serve}.then(() => console.log("left"));
    `,
      "--allow-net",
    );
    assertEquals([code, stdout, stderr], [0, "still here\nleft\n", ""]);
  });
}

Deno.test("16 a write under way holds the process, without a loop, too", async () => {
  const size = 25_000_000;
  const cases = {
    "no loop": "",
    "a loop that was left": "await loop({ count: 1, timeout: 0 });",
    "a closed channel": "channel.close();",
    "a suspended channel": "channel.delChannel();",
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, then]) => {
      using listener = listenTcp();
      const { port } = listener.addr as Deno.NetAddr;
      const outcome = script(
        `
        import { Dispatcher, loop } from "./mod.ts";
        class Sender extends Dispatcher {
          handleRead() { this.recv(); }
          writable() { return false; }
        }
        const conn = await Deno.connect({ hostname: "127.0.0.1", port: ${port} });
        const channel = new Sender(conn, { sendBufferSize: ${size} });
        console.log(channel.send(new Uint8Array(${size})));
        ${then}
        console.log("left");
      `,
        "--allow-net",
      );
      const conn = await within(listener.accept());
      // It may come to its end before anybody reads.
      await turns(50);
      const got = await readToEnd(conn);
      conn.close();
      const { code, stdout, stderr } = await outcome;
      assertEquals(got.length, size, name);
      assertEquals([code, stdout, stderr], [0, `${size}\nleft\n`, ""], name);
    }),
  );
});

Deno.test("16 a loop that waits for a lingering socket ends when that does", async () => {
  using listener = listenTcp();
  const { port } = listener.addr as Deno.NetAddr;
  const outcome = script(
    `
    import { Dispatcher, loop } from "./mod.ts";
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: ${port} });
    const channel = new Dispatcher(conn);
    channel.send(new TextEncoder().encode("bye"));
    channel.close();
    await loop();
    console.log("left");
  `,
    "--allow-net",
  );
  const conn = await within(listener.accept());
  assertEquals((await readToEnd(conn)).length, 3);
  conn.close();
  assertEquals(await outcome, { code: 0, stdout: "left\n", stderr: "" });
});

Deno.test("11 an error that nobody handles does not end the process", async () => {
  const { code, stdout, stderr } = await script(
    `
    ${CHANNELS}
    client.writable = () => true;
    let n = 0;
    client.handleWrite = async () => {
      client.send(new Uint8Array(1));
      await null;
      throw new Error("number " + ++n);
    };
    client.handleClose = () => {
      server.close();
      throw new Error("in handleClose");
    };
    await loop();
    console.log("left");
  `,
    "--allow-net",
  );
  assertEquals(stderr, "");
  const lines = stdout.trimEnd().split("\n");
  assertMatch(lines[0]!, /^error: .*number 1/);
  assertMatch(lines[1]!, /^error: .*in handleClose/);
  assertEquals(lines.slice(2), ["left"]);
  assertEquals(code, 0);
});

Deno.test({
  name: "17 a listener survives running out of descriptors",
  ignore: Deno.build.os === "windows",
  async fn() {
    const clients = 150;
    // Half of them do not fit. When accepting stops, all that were accepted are
    // closed after some vain tries more, which makes room for the next ones.
    const source = `
      import { Dispatcher, loop } from "./mod.ts";
      Deno.addSignalListener("SIGUSR1", () => {}); // Needs descriptors itself.
      let accepted = 0;
      let open = [];
      let errors = 0;
      const lines = [];
      let episodes = 0;
      let waiting = false;
      class Server extends Dispatcher {
        handleAccepted(conn) {
          open.push(conn);
          if (++accepted === ${clients}) this.close();
        }
        handleError() { errors++; }
        logInfo(message, type) {
          lines.push(type + ": " + message);
          if (waiting) return;
          waiting = true;
          episodes++;
          setTimeout(() => {
            waiting = false;
            for (const conn of open.splice(0)) conn.close();
          }, 50);
        }
      }
      const server = new Server();
      server.createSocket();
      server.bind({ hostname: "127.0.0.1", port: 0 });
      server.listen(512);
      console.log(server.addr.port);
      await loop();
      for (const conn of open) conn.close();
      console.log(JSON.stringify({ accepted, errors, episodes, lines }));
      Deno.exit();
    `;
    const child = new Deno.Command("sh", {
      args: [
        "-c",
        'ulimit -n 100; exec "$0" run --quiet --no-prompt --allow-net -',
        Deno.execPath(),
      ],
      cwd: new URL("../..", import.meta.url),
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(source));
    await writer.close();
    const output = child.stdout.pipeThrough(new TextDecoderStream())
      .getReader();
    const conns: Deno.Conn[] = [];
    try {
      const port = Number((await within(output.read())).value);
      assert(port > 0);
      for (let i = 0; i < clients; i++) {
        conns.push(await Deno.connect({ hostname: "127.0.0.1", port }));
      }
      let said = "";
      for (;;) {
        const { value, done } = await within(output.read());
        if (done) break;
        said += value;
      }
      const { accepted, errors, episodes, lines } = JSON.parse(said);
      assertEquals(accepted, clients);
      assertEquals(errors, 0);
      assert(episodes > 0, said);
      assertEquals(lines.length, episodes, said);
      for (const line of lines) assertMatch(line, /EMFILE|Too many open files/);
    } finally {
      for (const conn of conns) conn.close();
      await output.cancel();
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended by itself, as it should.
      }
      await child.status;
    }
  },
});
