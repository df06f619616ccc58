import { assertEquals } from "@std/assert";
import { ChannelMap, Dispatcher } from "../../mod.ts";
import {
  bytes,
  noise,
  readExactly,
  readToEnd,
  run,
  serveUntil,
  StoppedClock,
  tcpPair,
  text,
  turns,
  until,
  writeAll,
} from "../net.ts";
import { listening, pair } from "./ends.ts";

Deno.test("13 a listener whose handleAccept() takes nothing waits, and does not spin", async () => {
  await using map = new ChannelMap();
  const [server, addr] = listening(map);
  let calls = 0;
  server.handleAccept = () => void calls++;
  using peer = await Deno.connect(addr);
  const controller = new AbortController();
  const served = run(map, { signal: controller.signal });
  await until(() => calls > 0);
  await turns(20);
  assertEquals(calls, 1);
  // Somebody else may take it.
  const [conn] = server.accept()!;
  await writeAll(conn, bytes("hi"));
  assertEquals(text(await readExactly(peer, 2)), "hi");
  conn.close();
  // Then the next one is asked for.
  using second = await Deno.connect(addr);
  await until(() => calls > 1);
  controller.abort();
  await served;
  server.close();
  assertEquals((await readToEnd(second)).length, 0);
});

Deno.test("13 what was served without progress is served again when loop() is called", async () => {
  await using map = new ChannelMap();
  const [channel, peer] = await pair(map);
  using _ = peer;
  let calls = 0;
  channel.handleRead = () => void calls++;
  await writeAll(peer, bytes("x"));
  await serveUntil(map, () => calls === 1);
  await run(map, { count: 1 });
  assertEquals(calls, 2);
});

Deno.test("13 what was served without progress is served again when a pass's timeout ends", async () => {
  const clock = new StoppedClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  const [other, otherPeer] = await pair(map);
  using _1 = peer;
  using _2 = otherPeer;
  let calls = 0;
  channel.handleRead = () => void calls++;
  let wanted = false;
  other.readable = () => wanted;
  await writeAll(peer, bytes("x"));
  await writeAll(otherPeer, bytes("y"));
  const served = run(map, { timeout: 1_000 });
  await until(() => calls === 1);
  wanted = true; // And nobody says so.
  await clock.advance(999);
  assertEquals([calls, other.received], [1, ""]);
  await clock.advance(1);
  // Once for the time, and perhaps again since the other one made progress.
  await until(() => calls > 1 && other.received === "y");
  channel.close();
  other.close();
  await served;
});

Deno.test("13 a handler that takes the place of the library's own is called after wake()", async () => {
  await using map = new ChannelMap();
  const [conn, peer] = await tcpPair();
  using _ = peer;
  const channel = new Dispatcher(conn, { map });
  await writeAll(peer, bytes("x"));
  const served = run(map);
  await until(() => map.counters.reads > 0 && map.counters.writes > 0);
  let written = 0;
  let read = "";
  channel.handleWrite = () => {
    if (written === 0) written = channel.send(bytes("hello"));
  };
  channel.handleRead = () => void (read += text(channel.recv()));
  channel.wake();
  assertEquals(text(await readExactly(peer, 5)), "hello");
  await until(() => read === "x");
  channel.close();
  peer.close();
  await served;
});

Deno.test("13 a relay of default predicates moves on when the other end wakes it", async () => {
  await using map = new ChannelMap();
  const [from, source] = await pair(map);
  const [to, target] = await pair(map, { sendBufferSize: 5_000 });
  const data = noise(8_000_000);
  // Takes what the other end has room for, which may be nothing.
  from.handleRead = () => {
    if (to.room > 0) to.send(from.recv(to.room));
  };
  to.writable = () => true;
  to.handleWrite = () => from.wake();
  from.handleEof = () => to.close();
  from.handleClose = () => {};
  const written = writeAll(source, data).then(() => source.closeWrite());
  const read = readToEnd(target).then((got) => {
    target.close();
    from.close();
    return got;
  });
  await run(map);
  await written;
  assertEquals((await read).length, data.length);
  source.close();
});
