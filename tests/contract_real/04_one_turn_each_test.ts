import { assertLess } from "@std/assert";
import { ChannelMap } from "../../mod.ts";
import { bytes, readToEnd, run, StoppedClock, until } from "../net.ts";
import { pair } from "./ends.ts";

/** A clock on which every look at it takes a millisecond, so that every few passes are a long time. */
class HastyClock extends StoppedClock {
  #looks = 0;
  override now(): number {
    return super.now() + ++this.#looks;
  }
}

Deno.test("4 other connections get their turn while one is always busy", async () => {
  await using map = new ChannelMap({ clock: new HastyClock() });
  const [busy, sink] = await pair(map);
  const [channel, peer] = await pair(map);
  using _sink = sink;
  using _peer = peer;
  busy.writable = () => true;
  busy.handleWrite = () => void busy.send(bytes("x"));
  const waits: number[] = [];
  let start = 0;
  channel.handleRead = () => {
    channel.recv();
    waits.push(map.counters.passes - start);
  };
  const served = run(map);
  for (let i = 1; i <= 21; i++) {
    await peer.write(bytes("y"));
    start = map.counters.passes;
    await until(() => waits.length === i);
  }
  // Deno looks for input and output in every 31st turn of a busy event loop: a
  // pass that gives way for one turn only would let others wait 200 passes.
  const median = waits.toSorted((a, b) => a - b)[10]!;
  assertLess(median, 60, `${waits}`);
  busy.close();
  channel.close();
  await readToEnd(sink);
  sink.close();
  await served;
});
