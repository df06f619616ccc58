/**
 * What tests of the simulation share.
 *
 * @module
 */

import {
  type ConnectTarget,
  type LinkOptions,
  type SimDatagram,
  SimNet,
} from "../../testing.ts";
import type { ConnEnd } from "../../testing/sim_conn.ts";
import { bytes, text } from "../net.ts";

/** Both ends of a simulated connection, with their inner side: who connected, who accepted. */
export async function simPair(
  net: SimNet,
  addr: { hostname?: string; port: number } = { port: 80 },
): Promise<[client: ConnEnd, server: ConnEnd]> {
  using listener = net.listen(addr);
  const ends = Promise.all([net.connect(addr), listener.accept()]);
  return await ends as [ConnEnd, ConnEnd];
}

/** A connection on a network of its own. */
export async function simLine(
  link: LinkOptions,
  seed = 1,
): Promise<
  & { net: SimNet; client: ConnEnd; server: ConnEnd }
  & AsyncDisposable
> {
  const net = new SimNet({ seed, link });
  const [client, server] = await simPair(net);
  return {
    net,
    client,
    server,
    [Symbol.asyncDispose]: () => net[Symbol.asyncDispose](),
  };
}

/** A piece that arrived, and when. */
export type Arrival = readonly [time: number, data: string];

/** Reads up to the end of file, which is an arrival of nothing. */
export async function arrivals(
  net: SimNet,
  conn: Deno.Conn,
): Promise<Arrival[]> {
  const seen: Arrival[] = [];
  for (;;) {
    const buffer = new Uint8Array(65_536);
    const count = await conn.read(buffer);
    seen.push([net.now, text(buffer.subarray(0, count ?? 0))]);
    if (count === null) return seen;
  }
}

/** Everything that is received until the network has nothing more to deliver. */
export async function receiveAll(
  net: SimNet,
  socket: SimDatagram,
): Promise<Arrival[]> {
  const seen: Arrival[] = [];
  const done = (async () => {
    for await (const [data] of socket) seen.push([net.now, text(data)]);
  })();
  await net.sleep(100_000);
  socket.close();
  await done;
  return seen;
}

/** Sends all of a text. */
export async function sendAll(conn: Deno.Conn, data: string): Promise<void> {
  for (let rest = bytes(data); rest.length > 0;) {
    rest = rest.subarray(await conn.write(rest));
  }
}

/** Tries to connect: when that ended, and how. */
export async function attempt(
  net: SimNet,
  addr: ConnectTarget,
): Promise<[time: number, outcome: string]> {
  try {
    const conn = await net.connect(addr);
    conn.close();
    return [net.now, "connected"];
  } catch (error) {
    return [net.now, (error as Error).constructor.name];
  }
}
