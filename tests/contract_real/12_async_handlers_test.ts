import { assert } from "@std/assert";
import { ChannelMap } from "../../mod.ts";
import { bytes, run, text, turns, until, writeAll } from "../net.ts";
import { pair, TickingClock } from "./ends.ts";

Deno.test("12 loop() ends when the last async handler settles, whatever alarm rang before", async () => {
  const clock = new TickingClock();
  await using map = new ChannelMap({ clock });
  const [channel, peer] = await pair(map);
  using _ = peer;
  const gate = Promise.withResolvers<void>();
  let waiting = false;
  channel.handleRead = async () => {
    channel.received += text(channel.recv());
    if (channel.received.length < 3) return;
    // The alarm for the next sweep rings now, while nobody waits.
    void clock.advance(60_000);
    channel.close();
    waiting = true;
    await gate.promise;
  };
  const served = run(map);
  for (let n = 1; n <= 3; n++) {
    await writeAll(peer, bytes("x"));
    await until(() => channel.received.length === n);
    await turns();
  }
  assert(waiting);
  gate.resolve();
  await served;
});
