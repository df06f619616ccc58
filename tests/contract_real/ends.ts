/**
 * What the tests of the contract on the system's own sockets share: dispatchers
 * that note what happens to them, and their peers.
 *
 * @module
 */

import type { ChannelMap, DispatcherOptions } from "../../mod.ts";
import { Recorder, StoppedClock, tcpPair } from "../net.ts";

export const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

/** A listening recorder and the address to reach it at. */
export function listening(map: ChannelMap): [Recorder, Deno.ConnectOptions] {
  const server = new Recorder(null, { map });
  server.createSocket();
  server.bind(LOOPBACK);
  server.listen();
  const { hostname, port } = server.addr as Deno.NetAddr;
  return [server, { hostname, port }];
}

/** A recorder that connects. */
export function connecting(map: ChannelMap, addr: Deno.Addr): Recorder {
  const client = new Recorder(null, { map });
  client.createSocket();
  client.connect(addr as Deno.NetAddr | Deno.UnixAddr);
  client.writable = () => !client.connected;
  return client;
}

/** A recorder on one end of a TCP connection, and the other end. */
export async function pair(
  map: ChannelMap,
  options: DispatcherOptions = {},
): Promise<[Recorder, Deno.TcpConn]> {
  const [conn, peer] = await tcpPair();
  return [new Recorder(conn, { map, ...options }), peer];
}

export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}

/** A clock on which everything takes time, and whose timers fire on demand. */
export class TickingClock extends StoppedClock {
  #ticks = 0;
  override now(): number {
    return super.now() + ++this.#ticks / 1_000;
  }
}
