/**
 * Python's `asyncore` for Deno: many sockets, one loop, handlers to override and predicates that say when.
 *
 * - {@linkcode Dispatcher} is one socket with its handlers; {@linkcode DispatcherWithSend} never refuses to send.
 * - {@linkcode AsyncChat} carries frames: what comes in is cut at terminators, what goes out waits in a queue.
 * - {@linkcode ChannelMap} holds the open ones; {@linkcode channelMap} is the default one.
 * - {@linkcode loop} serves a map until it is empty, {@linkcode poll} for one pass; {@linkcode closeAll} closes every channel.
 * - {@linkcode ExitNow} leaves the loop from inside a handler.
 *
 * @example An echo server
 * ```ts
 * import { Dispatcher, loop } from "@asyncore/asyncore";
 *
 * class Echo extends Dispatcher {
 *   override readable() {
 *     return this.room > 0; // a client that does not read stops being read
 *   }
 *   override handleRead() {
 *     this.send(this.recv(this.room));
 *   }
 * }
 *
 * class Server extends Dispatcher {
 *   constructor(port: number) {
 *     super();
 *     this.createSocket();
 *     this.bind({ hostname: "127.0.0.1", port });
 *     this.listen();
 *   }
 *   override handleAccepted(conn: Deno.Conn) {
 *     new Echo(conn);
 *   }
 * }
 *
 * const server = new Server(0);
 * setTimeout(() => server.close(), 0); // so that this example ends
 * await loop();
 * ```
 *
 * @module
 */

export {
  AsyncChat,
  type AsyncChatOptions,
  type CloseWhenDoneOptions,
} from "./async_chat.ts";
export {
  type Channel,
  ChannelMap,
  channelMap,
  type ChannelMapOptions,
  type Counters,
} from "./channel_map.ts";
export { type Clock, type Timer } from "./clock.ts";
export { Dispatcher, type DispatcherOptions } from "./dispatcher.ts";
export { DispatcherWithSend } from "./dispatcher_with_send.ts";
export { type CloseKind, type CloseReason, ExitNow } from "./errors.ts";
export { type Terminator } from "./framing.ts";
export {
  closeAll,
  type CloseAllOptions,
  loop,
  type LoopOptions,
  poll,
  type PollOptions,
} from "./loop.ts";
export {
  type Producer,
  type ProducerLike,
  SimpleProducer,
} from "./producers.ts";
export type {
  Address,
  Family,
  ListenerSocket,
  Network,
  Socket,
  SocketAddress,
  SocketListener,
  StreamSocket,
} from "./sockets/socket.ts";
