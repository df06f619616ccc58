/**
 * Plays one row of the table on real sockets and prints what was seen, as JSON:
 * for rows that need a process of their own.
 *
 * @module
 */

import { playForReal } from "./real_stage.ts";
import { table } from "./table.ts";

// Deno panics where its own pair of sockets for signals, which it makes soon,
// finds no descriptors left; this makes it now.
Deno.addSignalListener("SIGUSR2", () => {});

const row = table.find(({ name }) => name === Deno.args[0]);
console.log(JSON.stringify(await playForReal(row!)));
// It ends by itself: a connect that was not given up would hold it.
