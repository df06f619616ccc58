/**
 * A dispatcher whose `send()` never refuses: its send buffer has no limit, and takes bytes before it is connected.
 *
 * @module
 */

import { declareOwn } from "./channel_map.ts";
import { Dispatcher, friend } from "./dispatcher.ts";

/**
 * A dispatcher for programs that send and forget: asyncore's `dispatcher_with_send`.
 *
 * `send()` queues everything at once, before the connection is there, too. There is no limit: who sends more than the peer
 * reads fills the memory. Where that can happen, look at `room`, or use a {@linkcode Dispatcher} and its `handleWrite()`.
 *
 * @example
 * ```ts
 * import { DispatcherWithSend, loop } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const received = listener.accept().then((conn) =>
 *   new Response(conn.readable).text()
 * );
 *
 * const client = new DispatcherWithSend();
 * client.createSocket();
 * client.connect(listener.addr as Deno.NetAddr);
 * client.send(new TextEncoder().encode("one "));
 * client.send(new TextEncoder().encode("two"));
 * client.close();
 * await loop();
 * assertEquals(await received, "one two");
 * listener.close();
 * ```
 */
export class DispatcherWithSend extends Dispatcher {
  static {
    declareOwn(this.prototype.writable, this.prototype.handleWrite);
  }

  /**
   * Queues all of the bytes, as a copy; also while the connection is being made. `close()` does not lose them.
   *
   * @param data The bytes; they may be changed afterwards.
   * @returns The length of `data`; 0 after `close()` and once the connection has ended.
   * @throws {TypeError} If `data` is no `Uint8Array`, there is no socket or it listens, or after `shutdown("write")`.
   */
  override send(data: Uint8Array): number {
    return friend.sendAll(this, data);
  }

  /** Whether the connection is not there yet, or bytes are queued. */
  override writable(): boolean {
    return !this.connected || friend.unsent(this) > 0;
  }

  /** Nothing: the socket writes the queue by itself. */
  override handleWrite(): void | Promise<void> {}
}
