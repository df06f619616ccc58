/**
 * The echo server, tested without a network: on connections in memory, in
 * virtual time, with faults.
 *
 *     deno task test examples/echo_server_test.ts
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore/testing".
 */

import { assert, assertEquals } from "@std/assert";
import { forSeeds, SimNet } from "../testing.ts";
import { EchoServer } from "./echo_server.ts";

const MEGABYTE = 1_048_576;
const ADDR = { hostname: "10.0.0.1", port: 7 };

Deno.test("EchoServer stops reading from a client that does not read", async () => {
  await using net = new SimNet({ seed: 1, link: { window: 10_000 } });
  new EchoServer(ADDR, { map: net.map, sendBufferSize: 5_000 });

  let written = 0;
  const client = (async () => {
    using conn = await net.connect(ADDR);
    while (written < MEGABYTE) {
      written += await conn.write(new Uint8Array(1_000));
    }
  })();
  await net.run(); // until nothing happens any more

  // Both windows, the send buffer, and what one read took in.
  assert(written <= 10_000 + 10_000 + 5_000 + 10_000, `${written}`);
  assertEquals(net.map.size, 2);

  // The connection is closed with the network, which the client notices.
  client.catch((error) => assert(error instanceof Deno.errors.Interrupted));
});

Deno.test("EchoServer gives a slow client all it sent", async () => {
  await using net = new SimNet({ seed: 1, link: { bandwidth: 100_000 } });
  new EchoServer(ADDR, { map: net.map });

  const client = (async () => {
    const conn = await net.connect(ADDR);
    const sent = crypto.getRandomValues(new Uint8Array(50_000));
    const writing = (async () => {
      for (let n = 0; n < sent.length;) n += await conn.write(sent.subarray(n));
      await conn.closeWrite();
    })();
    const got: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const buffer = new Uint8Array(1_000);
      const n = await conn.read(buffer);
      if (n === null) break;
      got.push(buffer.subarray(0, n));
      await net.sleep(60_000); // a minute, which takes no time
    }
    await writing;
    conn.close();
    assertEquals(await new Blob(got).bytes(), sent);
  })();
  await net.run();
  await client;
});

Deno.test("EchoServer survives clients that break off, on any network", async () => {
  await forSeeds(async (net) => {
    net.setLink(ADDR, {
      latency: [1, 100],
      segmentSize: [1, 10],
      writeSize: [1, 10],
      faults: [
        { on: "toServer", what: "reset", at: [0, 20], chance: 0.5 },
        { on: "accept", what: "EMFILE", chance: 0.2 },
      ],
    });
    const server = new EchoServer(ADDR, { map: net.map });
    server.ignoreLogTypes.add("error"); // it would say that accepting failed

    const hello = new TextEncoder().encode("hello, is anybody there?");
    const clients = Promise.allSettled(Array.from({ length: 5 }, async () => {
      using conn = await net.connect(ADDR);
      for (let n = 0; n < hello.length;) {
        n += await conn.write(hello.subarray(n));
      }
      const answer = new Uint8Array(hello.length);
      for (let n = 0; n < answer.length;) {
        n += await conn.read(answer.subarray(n)) ?? Infinity;
      }
      assertEquals(answer, hello);
    }));
    await net.run();

    for (const client of await clients) {
      if (client.status === "fulfilled") continue;
      // Told once: a write that follows says that the pipe is broken.
      const { ConnectionReset, BrokenPipe } = Deno.errors;
      const told = [ConnectionReset, BrokenPipe];
      assert(told.some((type) => client.reason instanceof type), client.reason);
    }
    assertEquals([...net.map], [server]);
  }, { seed: 1, runs: 50 });
});
