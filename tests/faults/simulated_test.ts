import { forSeeds, type LinkOptions, type SimNet } from "../../testing.ts";
import { assertSeen } from "./seen.ts";
import { playSimulated } from "./simulated_stage.ts";
import { table } from "./table.ts";

/** What a network does to every connection, beside the fault. */
const LINKS: readonly LinkOptions[] = [
  {},
  { latency: [0, 50], connectLatency: [0, 50] },
  { segmentSize: [1, 3_000], readSize: [1, 3_000], writeSize: [1, 3_000] },
  { latency: 5, segmentSize: [100, 9_000], window: 10_000 },
];

const SEEDS = 3;

for (const row of table.filter(({ realOnly }) => !realOnly)) {
  Deno.test(`simulated: ${row.name}`, async () => {
    for (const link of LINKS) {
      const play = async (net: SimNet) =>
        assertSeen(await playSimulated(row, net, link), row);
      await forSeeds(play, { seed: 1, runs: SEEDS });
    }
  });
}
