import { assertEquals } from "@std/assert";
import { ChannelMap, poll } from "../../mod.ts";
import {
  bytes,
  noise,
  readToEnd,
  Recorder,
  run,
  tcpPair,
  text,
  unixPair,
  until,
  writeAll,
} from "../net.ts";
import { pair } from "./ends.ts";

/** Has other channels receive and send what would overwrite a buffer in use. */
async function churn(map: ChannelMap): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const [channel, peer] = await pair(map);
    channel.handleRead = () => {
      const data = channel.recv();
      channel.send(data.fill(35));
      channel.received += text(data);
    };
    for (let n = 1; n <= 4; n++) {
      await writeAll(peer, bytes("#".repeat(200)));
      await until(() => channel.received.length === 200 * n);
    }
    channel.close();
    peer.close();
  }
}

Deno.test("10 a peer that sends one byte at a time is read as it comes", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  const data = noise(1_000);
  const got: number[] = [];
  channel.handleRead = () => void got.push(...channel.recv());
  const sent = (async () => {
    for (const byte of data) await writeAll(peer, Uint8Array.of(byte));
    peer.close();
  })();
  await run(map);
  await sent;
  assertEquals(Uint8Array.from(got), data);
  assertEquals(channel.events, ["eof", "close eof"]);
});

Deno.test("10 an echo of a million bytes is the same bytes", async () => {
  for (const unix of [false, true]) {
    await using map = new ChannelMap();
    const [conn, peer] = unix ? await unixPair() : await tcpPair();
    const channel = new Recorder(conn, { map, sendBufferSize: 30_000 });
    channel.readable = () => channel.room > 0;
    channel.handleRead = () => {
      const data = channel.recvView(channel.room);
      assertEquals(channel.send(data), data.length);
    };
    channel.handleEof = () => channel.close();
    const data = noise(1_000_000);
    const written = writeAll(peer, data).then(() => peer.closeWrite());
    const read = readToEnd(peer);
    const served = run(map);
    await written;
    assertEquals(await read, data);
    peer.close();
    await served;
    assertEquals(channel.errors, []);
  }
});

Deno.test("10 a view lives as long as its async handler, after close(), too", async () => {
  for (const how of ["close", "abort", "createSocket"] as const) {
    await using map = new ChannelMap();
    const [channel, peer] = await pair(map);
    using _ = peer;
    const seen: string[] = [];
    const gate = Promise.withResolvers<void>();
    channel.handleRead = async () => {
      const view = channel.recvView(4);
      const rest = channel.recvView();
      channel[how === "abort" ? "abort" : "close"]();
      if (how === "createSocket") channel.createSocket();
      await gate.promise;
      seen.push(text(view), text(rest));
      if (how === "createSocket") channel.close();
    };
    await writeAll(peer, bytes("lent bytes"));
    const served = run(map);
    await until(() => !channel.connected);
    await churn(map);
    gate.resolve();
    await served;
    assertEquals(seen, ["lent", " bytes"], how);
  }
});

Deno.test("10 a view lives as long as an async handleClose()", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let seen = "";
  const gate = Promise.withResolvers<void>();
  let entered = false;
  channel.handleRead = () => channel.disconnect({ kind: "error" });
  channel.handleClose = async () => {
    const view = channel.recvView();
    entered = true;
    await gate.promise;
    seen = text(view);
  };
  await writeAll(peer, bytes("lent bytes"));
  const served = run(map);
  await until(() => entered);
  await churn(map);
  gate.resolve();
  await served;
  assertEquals(seen, "lent bytes");
});

Deno.test("10 a view of another channel lives as long as the handler that took it", async () => {
  await using map = new ChannelMap();
  const [taker, takerPeer] = await pair(map);
  const [channel, peer] = await pair(map);
  using _1 = takerPeer;
  using _2 = peer;
  let wanted = true;
  channel.readable = () => wanted;
  let seen = "";
  let entered = false;
  const gate = Promise.withResolvers<void>();
  await poll(0, map);
  await writeAll(peer, bytes("lent bytes"));
  await until(() => channel.bytesRead === 10);
  wanted = false;
  taker.handleRead = async () => {
    taker.recv();
    const view = channel.recvView(4);
    wanted = true;
    channel.wake();
    entered = true;
    await gate.promise;
    seen = text(view);
  };
  await writeAll(takerPeer, bytes("x"));
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => entered);
  await writeAll(peer, bytes("OTHER BYTES"));
  await until(() => channel.received === " bytesOTHER BYTES");
  await churn(map);
  gate.resolve();
  await until(() => seen !== "");
  controller.abort();
  await served;
  assertEquals(seen, "lent");
});

Deno.test("10 a view that was taken outside of handlers stays good", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  await poll(0, map);
  await writeAll(peer, bytes("lent bytes"));
  await until(() => channel.bytesRead === 10);
  const view = channel.recvView(4);
  const served = run(map);
  channel.wake();
  // A handler takes the rest and returns: that is not the end of the view.
  await writeAll(peer, bytes("OTHER BYTES"));
  await until(() => channel.received === " bytesOTHER BYTES");
  await churn(map);
  assertEquals(text(view), "lent");
  channel.close();
  await served;
});

Deno.test("10 a view that was sent on may be reused at once", async () => {
  await using map = new ChannelMap();
  const [from, source] = await pair(map);
  const [to, target] = await pair(map, { sendBufferSize: 40_000 });
  const data = noise(3_000_000);
  from.readable = () => to.room > 0;
  from.handleRead = () => {
    const view = from.recvView(to.room);
    assertEquals(to.send(view), view.length);
    view.fill(0); // It is a copy that leaves.
  };
  from.handleClose = () => to.shutdown("write");
  const written = writeAll(source, data).then(() => source.close());
  const read = readToEnd(target).then((got) => {
    target.close();
    return got;
  });
  to.wake();
  await run(map);
  await written;
  assertEquals(await read, data);
});
