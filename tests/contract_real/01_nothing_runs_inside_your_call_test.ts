import { assertEquals, assertGreater } from "@std/assert";
import { ChannelMap, Dispatcher } from "../../mod.ts";
import {
  bytes,
  listenTcp,
  readExactly,
  readToEnd,
  Recorder,
  run,
  serveUntil,
  tcpPair,
  turns,
  writeAll,
} from "../net.ts";
import { LOOPBACK } from "./ends.ts";

Deno.test("1 listen(), connect(), send() and close() call nothing by themselves", async () => {
  await using map = new ChannelMap();
  const calls: string[] = [];
  class Spy extends Recorder {
    override readable() {
      calls.push("readable");
      return true;
    }
    override writable() {
      calls.push("writable");
      return true;
    }
  }
  const server = new Spy(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen();
  const client = new Spy(null, { map });
  client.createSocket();
  client.connect(server.addr as Deno.NetAddr);
  const refused = listenTcp();
  refused.close();
  const failing = new Spy(null, { map });
  failing.createSocket();
  failing.connect(refused.addr as Deno.NetAddr);
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const adopted = new Spy(conn, { map });
  adopted.send(bytes("x"));
  adopted.wake();
  await writeAll(peer, bytes("y"));
  await readExactly(peer, 1);
  await turns(10);
  const channels = [server, client, failing, adopted];
  assertEquals(channels.flatMap(({ events }) => events), []);
  assertEquals(calls, []);
  assertEquals(failing.connecting, true);
  for (const channel of channels) channel.close();
  await turns();
  assertEquals(channels.flatMap(({ events }) => events), []);
  assertEquals(calls, []);
});

Deno.test("1 nothing re-enters a handler", async () => {
  await using map = new ChannelMap();
  let depth = 0;
  let deepest = 0;
  let handled = 0;
  const enter = (run: () => void) => {
    deepest = Math.max(deepest, ++depth);
    handled++;
    run();
    depth--;
  };
  class Spy extends Dispatcher {
    override readable() {
      deepest = Math.max(deepest, depth + 1);
      return true;
    }
    override writable() {
      deepest = Math.max(deepest, depth + 1);
      return handled < 3;
    }
    override handleRead() {
      enter(() => {
        this.send(this.recv());
        other.send(bytes("x"));
        other.wake();
        map.wake();
      });
    }
    override handleWrite() {
      enter(() => {
        this.send(bytes("y"));
        this.wake();
        this.delChannel();
        this.addChannel();
      });
    }
    override handleEof() {
      enter(() => {
        this.disconnect({ kind: "eof" });
        this.shutdown("write");
      });
    }
    override handleClose() {
      enter(() => {
        other.disconnect({ kind: "done" });
        this.close();
        this.createSocket();
        this.connect(refused.addr as Deno.NetAddr);
        this.disconnect({ kind: "reset" });
        this.close();
      });
    }
    override handleError(error: unknown) {
      throw error;
    }
  }
  const refused = listenTcp();
  refused.close();
  const [conn, peer] = await tcpPair();
  const [conn2, peer2] = await tcpPair();
  const other = new Spy(conn2, { map });
  new Spy(conn, { map });
  await writeAll(peer, bytes("hello"));
  await serveUntil(map, () => handled >= 3);
  await peer.read(new Uint8Array(99));
  peer.close();
  const read = readToEnd(peer2).then(() => peer2.close());
  await run(map);
  await read;
  assertEquals(deepest, 1);
  assertGreater(handled, 4);
});
