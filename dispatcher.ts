/**
 * One socket and its handlers. A {@linkcode Dispatcher} turns what its socket reports into events, keeps the state of the
 * connection, and leaves it to `loop.ts` when handlers run.
 *
 * States: idle → connecting → connected → closing → closed, or idle → listening → closed. `createSocket()` leads from closed
 * back to idle.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import {
  askReadable,
  askWritable,
  type ChannelMap,
  channelMap,
  declareOwn,
  isOwn,
  isPromise,
  logThrough,
  Registration,
  running,
  selectorOf,
} from "./channel_map.ts";
import { CLOSE_SERVED, DEAD, END_SERVED, READ, WRITE } from "./flags.ts";
import {
  CLOSE_KINDS,
  type CloseKind,
  type CloseReason,
  describeError,
  endKind,
  ExitNow,
} from "./errors.ts";
import { formatAddress, parseAddress } from "./sockets/address.ts";
import type {
  Address,
  Family,
  ListenerSocket,
  Network,
  SocketAddress,
  StreamSocket,
} from "./sockets/socket.ts";
import { LINGER_TIMEOUT } from "./sockets/stream_socket.ts";
import { SystemNetwork } from "./sockets/system_network.ts";

/** Options of a {@linkcode Dispatcher}. */
export interface DispatcherOptions {
  /**
   * The map to enter.
   *
   * @default {channelMap}
   */
  readonly map?: ChannelMap;
  /**
   * The most bytes that wait in the send buffer.
   *
   * @default {262_144}
   */
  readonly sendBufferSize?: number;
  /**
   * How long a closed socket goes on without a byte written, in milliseconds; 0 closes at once and drops what waits.
   *
   * @default {10_000}
   */
  readonly lingerTimeout?: number;
}

type State =
  | "idle"
  | "connecting"
  | "connected"
  | "listening"
  | "closing"
  | "closed";

/** What this library's own subclasses can do with a dispatcher, and nobody else. */
export interface Friend {
  /** As `dispatcher.send(data)`, but takes everything and before the connection is there, too. */
  sendAll(dispatcher: Dispatcher, data: Uint8Array): number;
  /** How many bytes were sent that did not go to the operating system yet. */
  unsent(dispatcher: Dispatcher): number;
  /** Says what waits to be sent, so that it counts as unsent in the reason of an end. */
  setOutbox(dispatcher: Dispatcher, outbox: { readonly length: number }): void;
  /** Whether the socket is neither closed nor its connection ended. */
  open(dispatcher: Dispatcher): boolean;
  /** The socket's registration, if it is to be served: open, in its map and not ended. */
  current(dispatcher: Dispatcher): Registration | null;
  /** Gives back the last bytes of a view that `recvView()` has lent in the running event. */
  putBack(registration: Registration, bytes: number): void;
  /** Drops received bytes that nobody has taken. */
  drop(dispatcher: Dispatcher, bytes: number): void;
  /** Has a function called whenever bytes have left. */
  onWritten(dispatcher: Dispatcher, run: () => void): void;
  /** Whether `shutdown("write")` was called. */
  shutDown(dispatcher: Dispatcher): boolean;
  /** Has the loop wait for a promise, until the returned function is called; what it rejects with goes to `handleError()`. */
  follow(dispatcher: Dispatcher, promise: Promise<unknown>): () => void;
  /** Of the map. */
  clock(dispatcher: Dispatcher): Clock;
}

/** See {@linkcode Friend}. */
export let friend: Friend;

const SEND_BUFFER_SIZE = 262_144;
const DEFAULT_IGNORED = new Set(["warning"]);
/** Whether the default `ignoreLogTypes` is only looked at, so that the shared one will do. */
let peeking = false;

/**
 * One socket with handlers to override: asyncore's `dispatcher`.
 *
 * Handlers are called by a running {@linkcode loop} or {@linkcode poll} only, never inside a call of yours. Each may return a
 * promise: until it settles, that direction of the channel waits, everything else goes on.
 *
 * - **Reading**: while `readable()` is true, data that arrives leads to `handleRead()`, which takes it by `recv()`. The end of
 *   file is a read event in which `recv()` returns 0 bytes, followed by `handleEof()`.
 * - **Writing**: while `writable()` is true and half of the send buffer is free, `handleWrite()` is called. `send()` may be called
 *   at any time; it copies what fits into the send buffer.
 * - **Ending**: a connection that ends for any reason but your own `close()` ends with exactly one `handleClose(reason)`.
 * - **Closing**: `close()` does not lose what `send()` took: the socket writes it by itself. `abort()` does.
 * - **Flow control**: data that `handleRead()` does not take stays, and stops the peer before long.
 *
 * Not here: a client cannot choose its source address, urgent data does not exist and the kernel's buffers cannot be sized,
 * since Deno has nothing for it.
 *
 * @example A client
 * ```ts
 * import { Dispatcher, loop } from "@asyncore/asyncore";
 * import { assertEquals } from "@std/assert";
 *
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const greeting = listener.accept().then(async (conn) => {
 *   await conn.write(new TextEncoder().encode("hello"));
 *   conn.close();
 * });
 *
 * class Reader extends Dispatcher {
 *   text = "";
 *   override handleRead() {
 *     this.text += new TextDecoder().decode(this.recv());
 *   }
 *   override handleClose() {
 *     this.close();
 *   }
 * }
 *
 * const reader = new Reader();
 * reader.createSocket();
 * reader.connect(listener.addr as Deno.NetAddr);
 * await loop();
 * await greeting;
 * listener.close();
 * assertEquals(reader.text, "hello");
 * ```
 */
export class Dispatcher implements Disposable {
  #map: ChannelMap;
  #registration: Registration | null = null;
  #stream: StreamSocket | null = null;
  #listener: ListenerSocket | null = null;
  #phase: State = "idle";
  #family: Family | undefined;
  #addr: Deno.Addr | null = null;
  #reason: { kind: CloseKind; error?: unknown } | null = null;
  #sendBufferSize = SEND_BUFFER_SIZE;
  #lingerTimeout = LINGER_TIMEOUT;
  #controller: AbortController | null = null;
  #outbox: { readonly length: number } | null = null;

  /**
   * Types of messages that {@linkcode Dispatcher.logInfo} drops.
   *
   * @default {new Set(["warning"])}
   */
  declare ignoreLogTypes: Set<string>;

  /**
   * Whether to log what happens to the channel, with the type `debug`.
   *
   * @default {false}
   */
  declare debug: boolean;

  static {
    const { readable, writable, handleRead, handleWrite } = this.prototype;
    declareOwn(readable, writable, handleRead, handleWrite);
    friend = {
      sendAll: (dispatcher, data) => dispatcher.#sendAll(data),
      unsent: (dispatcher) => dispatcher.#stream?.unsent ?? 0,
      setOutbox: (dispatcher, outbox) => dispatcher.#outbox = outbox,
      open(dispatcher) {
        const registration = dispatcher.#registration;
        return registration !== null && !registration.ended;
      },
      current: (dispatcher) =>
        dispatcher.#continues(dispatcher.#registration)
          ? dispatcher.#registration
          : null,
      putBack: (registration, bytes) =>
        (registration.socket as StreamSocket).putBack(bytes),
      drop: (dispatcher, bytes) => void dispatcher.#stream?.take(bytes),
      onWritten: (dispatcher, run) =>
        void (dispatcher.#registration!.onWritten = run),
      shutDown: (dispatcher) => dispatcher.#stream?.shutDown ?? false,
      follow: (dispatcher, promise) =>
        dispatcher.#registration!.follow(promise),
      clock: (dispatcher) => selectorOf(dispatcher.#map).clock,
    };
    // Defaults that cost nothing per connection: own properties come into being when they are set, or a Set is asked for.
    this.prototype.debug = false;
    Object.defineProperty(this.prototype, "ignoreLogTypes", {
      configurable: true,
      get(this: Dispatcher) {
        if (peeking) return DEFAULT_IGNORED;
        return this.ignoreLogTypes = new Set(DEFAULT_IGNORED);
      },
      set(this: Dispatcher, value: Set<string>) {
        Object.defineProperty(this, "ignoreLogTypes", {
          value,
          writable: true,
          configurable: true,
          enumerable: true,
        });
      },
    });
    Object.defineProperty(this.prototype, Symbol.for("Deno.customInspect"), {
      configurable: true,
      value(this: Dispatcher) {
        return #map in this ? this.#describe() : "Dispatcher {}";
      },
    });
  }

  /**
   * Makes a dispatcher, with an open connection or without a socket.
   *
   * @param conn A connection to adopt: open, not adopted by another dispatcher, with no read or write pending. The dispatcher
   * is connected at once, and `handleConnect()` is not called.
   * @param options See {@linkcode DispatcherOptions}.
   * @throws {TypeError} If `conn` is no connection, closed, or was adopted before.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(
    conn: Deno.Conn | null = null,
    options: DispatcherOptions = {},
  ) {
    const { map = channelMap, sendBufferSize, lingerTimeout } = options;
    selectorOf(map); // throws for what is none
    this.#map = map;
    if (sendBufferSize !== undefined) this.sendBufferSize = sendBufferSize;
    if (lingerTimeout !== undefined) this.lingerTimeout = lingerTimeout;
    if (conn !== null) this.#adopt(conn);
  }

  // Opening.

  /**
   * Makes a socket and enters the map. After `close()` it makes a new one: nothing of the old one reaches the dispatcher.
   *
   * @param family What addresses must be: `inet` (IPv4), `inet6` or `unix`; checked against literal addresses and paths, for a
   * host name the resolver decides. Without it the address decides.
   * @param type The kind of socket.
   * @throws {TypeError} If the dispatcher has an open socket, or an argument is none of the values named.
   * @throws {Deno.errors.NotSupported} For `dgram`.
   */
  createSocket(family?: Family, type: "stream" | "dgram" = "stream"): void {
    if (this.#registration !== null && !this.#registration.has(DEAD)) {
      throw this.#misuse("create socket of", "it has one, close it first");
    }
    if (
      family !== undefined && family !== "inet" && family !== "inet6" &&
      family !== "unix"
    ) throw this.#misuse("create socket of", `no such family: ${family}`);
    if (type === "dgram") {
      throw new Deno.errors.NotSupported(
        "Cannot create socket: datagram sockets are not supported yet",
      );
    }
    if (type !== "stream") {
      throw this.#misuse("create socket of", `no such type: ${type}`);
    }
    this.#family = family;
    this.#listener =
      this.#addr =
      this.#reason =
      this.#controller =
        null;
    const registration = new Registration(this, selectorOf(this.#map));
    this.#attach(registration, this.#network.stream(registration));
    this.#setState("idle");
    this.addChannel();
  }

  /** Does nothing: Deno sets SO_REUSEADDR on every listener. It is here so that ported programs need no change. */
  setReuseAddr(): void {}

  /**
   * Remembers the address to listen on: Deno binds when {@linkcode Dispatcher.listen} is called.
   *
   * @param addr Without a host name: every address of the machine. Port 0 lets the system choose.
   * @throws {TypeError} If there is no socket or it is in use, or `addr` is no address or of another family.
   * @throws {RangeError} If the port is out of range.
   */
  bind(addr: Address): void {
    this.#requireIdle("bind");
    const any = this.#family === "inet6" ? "::" : "0.0.0.0";
    this.#addr = parseAddress("bind", addr, this.#family, any);
  }

  /**
   * Listens on the bound address, at once. `addr` is the real address afterwards.
   *
   * @param backlog The most connections that the system keeps waiting; without effect on Unix sockets. Deno's default is 511.
   * @throws {TypeError} If there is no socket, it is in use or not bound.
   * @throws {RangeError} If `backlog` is not a whole number, 0 or more.
   * @throws {Deno.errors.AddrInUse} If the address is taken, and whatever else the system or a missing permission makes Deno
   * throw.
   */
  listen(backlog?: number): void {
    const registration = this.#requireIdle("listen on");
    if (this.#addr === null) {
      throw this.#misuse("listen on", "it has no address, call bind() first");
    }
    if (backlog !== undefined && (!Number.isInteger(backlog) || backlog < 0)) {
      throw new RangeError(
        `Cannot listen: the backlog must be a whole number, 0 or more, got ${backlog}`,
      );
    }
    const addr = this.#addr as SocketAddress;
    const socket = this.#network.listener(addr, backlog, registration);
    this.#stream = null;
    this.#listener = registration.socket = socket;
    this.#addr = socket.addr;
    this.#trace("listen()", undefined, socket.addr);
    registration.set(READ.open);
    registration.touch();
    this.#setState("listening");
  }

  /**
   * Starts to connect. Success leads to `handleConnect()`, failure to `handleError(error)` with Deno's own error, then to
   * `handleClose()`.
   *
   * @param addr Without a host name: this machine.
   * @throws {TypeError} If there is no socket or it is in use, or `addr` is no address or of another family.
   * @throws {RangeError} If the port is out of range.
   * @throws {Deno.errors.NotSupported} After `bind()`: Deno cannot choose a client's source address.
   */
  connect(addr: Address): void {
    const registration = this.#requireIdle("connect");
    const local = this.#family === "inet6" ? "::1" : "127.0.0.1";
    const target = parseAddress("connect to", addr, this.#family, local);
    if (this.#addr !== null) {
      throw new Deno.errors.NotSupported(
        `Cannot connect from ${
          formatAddress(this.#addr)
        }: Deno cannot bind the source address of a client`,
      );
    }
    this.#addr = target;
    this.#stream!.connect(target);
    this.#trace("connect()", undefined, target);
    registration.touch();
    this.#setState("connecting");
  }

  /**
   * Takes an accepted connection; for `handleAccept()`.
   *
   * @returns The connection and the peer's address, or `null` if none waits.
   * @throws {TypeError} If the dispatcher does not listen.
   */
  accept(): [Deno.Conn, Deno.Addr] | null {
    if (this.#state === "closed" && this.#listener !== null) return null;
    if (this.#listener === null) {
      throw this.#misuse("accept on", "it does not listen");
    }
    const conn = this.#listener.accept();
    if (conn === null) return null;
    selectorOf(this.#map).counters.accepts++;
    this.#registration!.took();
    this.#trace("accept()", undefined, conn.remoteAddr);
    return [conn, conn.remoteAddr];
  }

  // Data.

  /**
   * Copies what fits into the send buffer. Writing starts when the running handler returns, so several small sends leave in
   * one system call; outside a handler it starts in the next microtask, loop or no loop.
   *
   * @param data The bytes; they may be changed afterwards.
   * @returns How many bytes were taken: fewer, or 0, when the buffer is full; 0 while not connected, after `close()` and once
   * the connection has ended.
   * @throws {TypeError} If `data` is no `Uint8Array`, there is no socket or it listens, or after `shutdown("write")`.
   */
  send(data: Uint8Array): number {
    const stream = this.#sending(data);
    if (stream === null) return 0;
    if (this.#state !== "connected" && !this.#peerEnded) return 0;
    return data.length > 0 ? this.#sent(stream.send(data)) : 0;
  }

  /** How many bytes {@linkcode Dispatcher.send} would take now. */
  get room(): number {
    const sendable = this.#state === "connected" || this.#peerEnded;
    return sendable ? this.#stream!.room : 0;
  }

  /**
   * Takes received bytes, as a copy.
   *
   * @param n The most bytes to take.
   * @returns The bytes; none at and after the end of the connection.
   * @throws {Deno.errors.WouldBlock} If nothing is there yet.
   * @throws {RangeError} If `n` is not a whole number, 0 or more.
   * @throws {TypeError} If there is no socket or it listens.
   */
  recv(n = 65_536): Uint8Array<ArrayBuffer> {
    const stream = this.#receiving(n);
    if (stream === null) return new Uint8Array(0);
    const data = stream.take(n);
    this.#took(data.length);
    return data;
  }

  /**
   * Takes received bytes into a buffer of yours.
   *
   * @param buffer Where the bytes go.
   * @returns How many bytes there were; 0 at and after the end of the connection.
   * @throws {Deno.errors.WouldBlock} If nothing is there yet.
   * @throws {TypeError} If `buffer` is no `Uint8Array`, there is no socket or it listens.
   */
  recvInto(buffer: Uint8Array): number {
    if (!(buffer instanceof Uint8Array)) {
      throw this.#misuse("receive from", "the buffer must be a Uint8Array");
    }
    const stream = this.#receiving(buffer.length);
    if (stream === null) return 0;
    const length = stream.takeInto(buffer);
    this.#took(length);
    return length;
  }

  /**
   * Takes received bytes without a copy, for whoever is done with them at once, as relays and parsers are.
   *
   * @param n The most bytes to take.
   * @returns A view, valid until the handler returns or its promise settles; empty at and after the end of the connection. Its
   * `buffer` is shared with others: look at the view only.
   * @throws {Deno.errors.WouldBlock} If nothing is there yet.
   * @throws {RangeError} If `n` is not a whole number, 0 or more.
   * @throws {TypeError} If there is no socket or it listens.
   */
  recvView(n = 65_536): Uint8Array<ArrayBuffer> {
    const stream = this.#receiving(n);
    if (stream === null) return new Uint8Array(0);
    // Lent to another channel's handler, or outside of any, nobody can say when it is done.
    const view = stream.lend(n, !this.#registration!.handling);
    this.#took(view.length);
    return view;
  }

  // Closing.

  /**
   * Closes the socket and leaves the map; no handler runs any more. What `send()` took is not lost: the socket goes on by
   * itself, writes it, half-closes, and closes at the peer's end of file. Twice is once.
   */
  close(): void {
    const kind = this.#reason?.kind;
    const lost = kind === "reset" || kind === "timeout" || kind === "limit";
    this.#leave(
      "close()",
      (stream) => stream.close(lost ? 0 : this.#lingerTimeout),
    );
  }

  /** Closes at once and drops what waits in the send buffer, also after `close()`. No handler runs any more. */
  abort(): void {
    const stream = this.#stream;
    this.#leave("abort()", () => {});
    stream?.abort();
  }

  /** As {@linkcode Dispatcher.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Ends the connection as if it had broken: `handleClose()` follows. Nothing happens if it has ended already.
   *
   * @param reason How and why. After `reset`, `timeout` and `limit` what waits in the send buffer is dropped.
   * @throws {TypeError} If there is no socket, or the kind is none of {@linkcode CloseKind}.
   */
  disconnect(reason: { kind: CloseKind; error?: unknown }): void {
    if (!CLOSE_KINDS.has(reason?.kind)) {
      throw this.#misuse("disconnect", `no such kind: ${reason?.kind}`);
    }
    if (this.#registration === null) {
      throw this.#misuse("disconnect", "it has no socket");
    }
    this.#trace("disconnect()", undefined, reason.kind);
    this.#end(reason.kind, reason.error);
  }

  /**
   * Half-closes: the peer gets an end of file after everything that `send()` took. `writable()` is not asked any more. Twice is
   * once.
   *
   * @param how The direction; Deno can close `write` only.
   * @throws {TypeError} If there is no socket, it listens, or `how` is not `write`.
   * @throws {Deno.errors.NotConnected} If the connection is not there yet.
   */
  shutdown(how: "write"): void {
    if (how !== "write") {
      throw this.#misuse("shut down", `only "write" is possible, got ${how}`);
    }
    if (this.#state === "closed") return;
    const stream = this.#requireStream("shut down");
    if (this.#state === "idle" || this.#state === "connecting") {
      throw new Deno.errors.NotConnected(
        `Cannot shut down ${this.#describe()}: it is not connected`,
      );
    }
    if (stream.shutDown) return;
    const registration = this.#registration!;
    registration.clear(WRITE.open);
    stream.shutdown();
    this.#trace("shutdown()");
    registration.touch();
  }

  // The map.

  /**
   * Enters a map again after {@linkcode Dispatcher.delChannel}, or changes over to another one. The next pass examines it.
   *
   * @param map The map; without it the one it was in.
   * @throws {TypeError} If there is no socket, or it is closed.
   */
  addChannel(map: ChannelMap = this.#map): void {
    const registration = this.#registration;
    if (registration === null || registration.has(DEAD)) {
      throw this.#misuse("add", "it has no open socket");
    }
    registration.add(selectorOf(map));
    this.#map = map;
    this.#debug("adding channel");
  }

  /**
   * Leaves the map without closing: no handler runs any more until {@linkcode Dispatcher.addChannel}. An operation in flight
   * completes and its result is kept; what `send()` took is still written.
   */
  delChannel(): void {
    this.#registration?.delete();
    this.#debug("removing channel");
  }

  /**
   * Says that something changed which this channel's predicates or handlers see: it is asked again, and served again if it was
   * parked. It means nothing in a handler of the channel itself. Two handlers that wake each other each time never rest.
   */
  wake(): void {
    const registration = this.#registration;
    if (registration === null) return;
    // A handler may have been set on the object meanwhile.
    if (!isOwn(this.handleRead)) registration.clear(READ.retired);
    if (!isOwn(this.handleWrite)) registration.clear(WRITE.retired);
    registration.touch();
  }

  // Predicates and handlers: to be overridden.

  /**
   * Whether the dispatcher wants to read, or to accept. A read is only started while this is true, and it is asked again right
   * before the handler. It must be quick and without a promise. After a change that comes from outside a handler, call
   * {@linkcode Dispatcher.wake}.
   *
   * @returns `true`.
   */
  readable(): boolean {
    return true;
  }

  /**
   * Whether the dispatcher wants to write; asked as {@linkcode Dispatcher.readable}.
   *
   * @returns `true`.
   */
  writable(): boolean {
    return true;
  }

  /** Data has arrived, or the end: `recv()` takes it. Logs a warning. */
  handleRead(): void | Promise<void> {
    this.#warn("unhandled read event");
  }

  /** There is room to send. Logs a warning, once. */
  handleWrite(): void | Promise<void> {
    this.#warn("unhandled write event");
  }

  /** An exceptional condition, such as urgent data: not on sockets of Deno, which cannot report any. Logs a warning. */
  handleExpt(): void | Promise<void> {
    this.#warn("unhandled incoming priority event");
  }

  /** The connection that `connect()` asked for is there. Logs a warning. */
  handleConnect(): void | Promise<void> {
    this.#warn("unhandled connect event");
  }

  /** A connection waits to be accepted. Takes it and calls {@linkcode Dispatcher.handleAccepted}. */
  handleAccept(): void | Promise<void> {
    const accepted = this.accept();
    if (accepted === null) return;
    // Not destructured: that is an iteration, for every connection.
    const conn = accepted[0];
    const network = this.#network;
    try {
      this.#trace("accepted", undefined, accepted[1]);
      const result = this.handleAccepted(conn, accepted[1]);
      if (!isPromise(result)) return;
      return Promise.resolve(result).catch((error) => {
        network.discard(conn);
        throw error;
      });
    } catch (error) {
      network.discard(conn);
      throw error;
    }
  }

  /**
   * A connection was accepted; it belongs to whoever is given it here, as a rule a new dispatcher. If the handler fails before
   * that, it is closed. Closes it and logs a warning.
   *
   * @param conn The connection.
   * @param _addr The peer's address.
   */
  handleAccepted(conn: Deno.Conn, _addr: Deno.Addr): void | Promise<void> {
    conn.close();
    this.#warn("unhandled accepted event");
  }

  /**
   * The peer will send no more. Ends the connection by `disconnect({ kind: "eof" })`; a subclass that does not can go on writing,
   * and ends the connection by `close()`. If it throws `ExitNow`, it is called again when the map is served again.
   */
  handleEof(): void | Promise<void> {
    this.disconnect({ kind: "eof" });
  }

  /**
   * The connection has ended, for any reason but your own `close()`. If the socket is still open afterwards, it is closed. Logs a
   * warning and closes.
   *
   * @param _reason How and why.
   */
  handleClose(_reason?: CloseReason): void | Promise<void> {
    this.#warn("unhandled close event");
    this.close();
  }

  /**
   * A handler or predicate failed, or `connect()` did. Logs the error with a compact traceback, and ends the connection; a listener
   * goes on.
   *
   * @param error What was thrown.
   */
  handleError(error: unknown): void | Promise<void> {
    const what = this.accepting ? "exception in" : "exception, closing channel";
    logThrough(
      this,
      `uncaptured ${what} ${this.#describe()} (${describeError(error)})`,
      "error",
    );
    const registration = this.#registration;
    if (this.accepting || registration === null) return;
    // The failed handler may be that of a socket before this one.
    const failed = running.current;
    if (failed?.channel === this && failed !== registration) return;
    this.disconnect({ kind: "error", error });
  }

  // Events: between scheduler and handlers.

  /** A read event: leads to `handleAccept`, or to `handleConnect` where that is due, `handleRead` and `handleEof`. */
  handleReadEvent(): void | Promise<void> {
    if (this.#state === "listening") {
      this.#trace("accept");
      return this.handleAccept();
    }
    if (this.#state === "connecting") {
      const registration = this.#registration!;
      const result = this.handleConnectEvent();
      if (isPromise(result) || !this.#continues(registration)) return result;
      if (!registration.free(READ) || !this.#stream!.waiting) return;
      if (!askReadable(this)) return;
    }
    return this.#handleRead();
  }

  /** A write event: leads to `handleConnect` where that is due, and `handleWrite`. */
  handleWriteEvent(): void | Promise<void> {
    if (this.#state === "connecting") {
      const registration = this.#registration!;
      const result = this.handleConnectEvent();
      if (isPromise(result) || !this.#continues(registration)) return result;
      if (!registration.free(WRITE) || !this.#stream!.writeReady) return;
      if (!askWritable(this)) return;
    }
    const registration = this.#registration!;
    this.#trace("write");
    const result = this.handleWrite();
    // More of the library's own would change nothing, and cost a pass each time.
    if (!registration.has(WRITE.progress) && isOwn(this.handleWrite)) {
      registration.set(WRITE.retired);
    }
    return result;
  }

  /** The connection is there: leads to `handleConnect`. */
  handleConnectEvent(): void | Promise<void> {
    if (this.#state !== "connecting" || this.#stream!.remoteAddr === null) {
      return;
    }
    const registration = this.#registration!;
    this.#addr = this.#stream!.remoteAddr;
    this.#setState("connected");
    registration.selector.counters.connects++;
    registration.selector.progressed = true;
    this.#trace("connect");
    const result = this.handleConnect();
    if (!isPromise(result)) return;
    // handleRead or handleWrite is still to come in an event of its own, so nothing is parked for want of progress.
    registration.set(READ.progress | WRITE.progress);
    const release = () => {
      registration.release(READ);
      registration.release(WRITE);
    };
    registration.hold(READ);
    registration.hold(WRITE);
    return Promise.resolve(result).then(release, (error) => {
      release();
      throw error;
    });
  }

  /** An exceptional condition: a failed connection ends it, anything else leads to `handleExpt`. */
  handleExptEvent(): void | Promise<void> {
    const failure = this.#listener?.error ?? this.#stream?.writeError;
    if (failure !== undefined) return this.#end(endKind(failure), failure);
    const error = this.#stream?.error;
    if (error === undefined) {
      this.#trace("expt");
      return this.handleExpt();
    }
    this.#end("error", error);
    // The scheduler hands it to handleError, as any error of an event.
    throw error;
  }

  /** The end of the connection: leads to `handleClose`. */
  handleCloseEvent(): void | Promise<void> {
    if (this.#reason === null) return this.handleClose();
    const { kind, error } = this.#reason;
    const bytesUnsent = (this.#stream?.unsent ?? 0) +
      (this.#outbox?.length ?? 0);
    this.#trace("close", bytesUnsent, kind);
    return this.handleClose(
      error === undefined
        ? { kind, bytesUnsent }
        : { kind, error, bytesUnsent },
    );
  }

  // What it is.

  /** Whether the connection is there; true right before `handleConnect()`. */
  get connected(): boolean {
    return this.#state === "connected";
  }

  /** Whether it listens. */
  get accepting(): boolean {
    return this.#state === "listening";
  }

  /** Whether a connection was asked for and is not there yet. */
  get connecting(): boolean {
    return this.#state === "connecting";
  }

  /** Whether the connection has ended and `handleClose()` is due or running. */
  get closing(): boolean {
    return this.#state === "closing";
  }

  /**
   * The address asked for after `bind()`, the real local one after `listen()`, the peer's when connecting or connected. It
   * stays after the end.
   */
  get addr(): Deno.Addr | null {
    return this.#addr;
  }

  /** The local address, when connected or listening. */
  get localAddr(): Deno.Addr | null {
    return this.#listener?.addr ?? this.#stream?.localAddr ?? null;
  }

  /** The peer's address, when connected. */
  get remoteAddr(): Deno.Addr | null {
    return this.#stream?.remoteAddr ?? null;
  }

  /** Bytes received on this socket, taken or not. */
  get bytesRead(): number {
    return this.#stream?.bytesRead ?? 0;
  }

  /** Bytes of this socket that went to the operating system. */
  get bytesWritten(): number {
    return this.#stream?.bytesWritten ?? 0;
  }

  /** Aborts when the connection ends or is closed; one for each socket, made on first use. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      const controller = this.#controller = new AbortController();
      const registration = this.#registration;
      if (registration?.ended) controller.abort();
      else if (registration) registration.onEnd = () => controller.abort();
    }
    return this.#controller.signal;
  }

  /**
   * The most bytes that wait in the send buffer. It can be changed at any time.
   *
   * @default {262_144}
   */
  get sendBufferSize(): number {
    return this.#sendBufferSize;
  }

  set sendBufferSize(size: number) {
    if (!Number.isInteger(size) || size < 1) {
      throw new RangeError(
        `Cannot set sendBufferSize: it must be a whole number above 0, got ${size}`,
      );
    }
    this.#sendBufferSize = size;
    if (this.#stream !== null) this.#stream.sendBufferSize = size;
    this.#registration?.touch();
  }

  /**
   * How long a closed socket goes on without a byte written, in milliseconds; 0 closes at once. It counts when `close()` is called.
   *
   * @default {10_000}
   */
  get lingerTimeout(): number {
    return this.#lingerTimeout;
  }

  set lingerTimeout(timeout: number) {
    if (!(timeout >= 0)) {
      throw new RangeError(
        `Cannot set lingerTimeout: it must be 0 or more milliseconds, got ${timeout}`,
      );
    }
    this.#lingerTimeout = timeout;
  }

  /**
   * Switches TCP_NODELAY. It is on from the start on connections that a dispatcher opens or adopts: with Nagle's algorithm a
   * request/response program waits for acknowledgements. Without effect on Unix sockets.
   *
   * @param noDelay Whether small pieces are sent at once.
   * @throws {TypeError} If there is no socket, or it listens.
   */
  setNoDelay(noDelay = true): void {
    if (this.#state === "closed") return;
    this.#requireStream("set no-delay of").setNoDelay(noDelay);
  }

  /**
   * Switches TCP's keep-alive probes, off from the start. Without effect on Unix sockets.
   *
   * @param keepAlive Whether the system probes an idle peer.
   * @throws {TypeError} If there is no socket, or it listens.
   */
  setKeepAlive(keepAlive = true): void {
    if (this.#state === "closed") return;
    this.#requireStream("set keep-alive of").setKeepAlive(keepAlive);
  }

  // Logging.

  /**
   * Logs a message to standard error, as `log: message`.
   *
   * @param message The text.
   */
  log(message: string): void {
    console.error(`log: ${message}`);
  }

  /**
   * Logs a message to standard output, as `type: message`, unless {@linkcode Dispatcher.ignoreLogTypes} has the type. Everything
   * the library logs about a channel comes through here.
   *
   * @param message The text.
   * @param type What kind of message it is; the library uses `warning`, `error` and `debug`.
   */
  logInfo(message: string, type = "info"): void {
    if (!this.#ignores(type)) console.log(`${type}: ${message}`);
  }

  // Inside.

  get #network(): Network {
    const selector = selectorOf(this.#map);
    return selector.network ??= new SystemNetwork(selector.clock);
  }

  #attach(registration: Registration, stream: StreamSocket): void {
    this.#registration = registration;
    stream.sendBufferSize = this.#sendBufferSize;
    this.#stream = registration.socket = stream;
  }

  #adopt(conn: Deno.Conn): void {
    const registration = new Registration(this, selectorOf(this.#map));
    this.#attach(registration, this.#network.adopt(conn, registration));
    this.#addr = conn.remoteAddr;
    this.#setState("connected");
    this.addChannel();
    registration.connected();
  }

  /** The registration, if the socket is new. */
  #requireIdle(verb: string): Registration {
    if (this.#registration === null || this.#registration.has(DEAD)) {
      throw this.#misuse(verb, "it has no socket, call createSocket() first");
    }
    if (this.#state !== "idle") {
      throw this.#misuse(verb, `it is ${this.#state} already`);
    }
    return this.#registration;
  }

  /** The stream; also that of a closed connection. */
  #requireStream(verb: string): StreamSocket {
    if (this.#stream !== null) return this.#stream;
    const why = this.#listener === null ? "it has no socket" : "it listens";
    throw this.#misuse(verb, why);
  }

  /** The stream to send through, once it is clear that it may be done and with what; `null` after the close. */
  #sending(data: Uint8Array): StreamSocket | null {
    if (!(data instanceof Uint8Array)) {
      const got = data === null ? "null" : typeof data;
      throw this.#misuse("send to", `data must be a Uint8Array, got ${got}`);
    }
    if (this.#state === "closed") return null;
    const stream = this.#requireStream("send to");
    if (stream.shutDown) {
      throw this.#misuse("send to", 'shutdown("write") was called');
    }
    return stream;
  }

  /** As `send`, but takes everything, before the connection is there, too. */
  #sendAll(data: Uint8Array): number {
    const stream = this.#sending(data);
    if (stream === null) return 0;
    if (this.#state === "closing" && !this.#peerEnded) return 0;
    return this.#sent(stream.sendAll(data));
  }

  /** Bytes were given to the stream. */
  #sent(length: number): number {
    if (length > 0) this.#registration!.sent();
    this.#trace("send()", length);
    return length;
  }

  /** Bytes, or the news of the end, were taken. */
  #took(length: number): void {
    this.#registration!.took();
    this.#trace("recv()", length);
  }

  /** The stream to take bytes from, or `null` if none can come any more, or none are asked for. */
  #receiving(n: number): StreamSocket | null {
    if (!Number.isInteger(n) || n < 0) {
      throw new RangeError(
        `Cannot receive from ${this.#describe()}: the length must be a whole number, 0 or more, got ${n}`,
      );
    }
    if (this.#state === "closed") return null;
    const stream = this.#requireStream("receive from");
    if (n === 0) return null;
    if (stream.available > 0) return stream;
    if (stream.atEnd || this.#state === "closing") return null;
    throw new Deno.errors.WouldBlock(
      `Cannot receive from ${this.#describe()}: nothing is there yet`,
    );
  }

  /** Whether only the peer has ended the connection, and `handleClose` was not called yet: there is still somebody to write to. */
  get #peerEnded(): boolean {
    return this.#state === "closing" && this.#reason!.kind === "eof" &&
      !this.#registration!.has(CLOSE_SERVED);
  }

  #continues(registration: Registration | null): boolean {
    return registration !== null && this.#registration === registration &&
      registration.served;
  }

  #handleRead(): void | Promise<void> {
    const stream = this.#stream!;
    const registration = this.#registration!;
    const atEnd = stream.atEnd;
    if (!registration.has(END_SERVED)) {
      if (atEnd) registration.set(END_SERVED);
      this.#trace("read", stream.available);
      const result = this.handleRead();
      if (!atEnd) {
        // More of the library's own would change nothing: the data stays.
        if (!registration.has(READ.progress) && isOwn(this.handleRead)) {
          registration.set(READ.retired);
        }
        return result;
      }
      // What is left comes with an event of its own.
      if (isPromise(result)) return result;
    }
    return this.#finishReading(registration);
  }

  /** After the read event of the end. */
  #finishReading(registration: Registration): void | Promise<void> {
    if (!this.#continues(registration)) return;
    const { readError } = this.#stream!;
    if (readError !== undefined) {
      return this.#end(endKind(readError), readError);
    }
    const finish = () => registration.clear(READ.open);
    // After an ExitNow the event stays, as that of any handler.
    const fail = (error: unknown) => {
      if (!(error instanceof ExitNow)) finish();
      throw error;
    };
    try {
      this.#trace("eof");
      const result = this.handleEof();
      if (isPromise(result)) return Promise.resolve(result).then(finish, fail);
    } catch (error) {
      fail(error);
    }
    finish();
  }

  /** The connection has ended: `handleClose` is due. */
  #end(kind: CloseKind, error?: unknown): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    this.#reason = { kind, error };
    this.#setState("closing");
    this.#registration!.end(kind === "eof");
  }

  /** Leaves the map for good. User code, which may open the dispatcher again, comes last. */
  #leave(how: string, closeStream: (stream: StreamSocket) => void): void {
    const registration = this.#registration;
    if (registration === null || registration.has(DEAD)) return;
    const stream = this.#stream;
    registration.close();
    this.#phase = "closed";
    this.#listener?.close();
    if (stream !== null) closeStream(stream);
    this.#trace(how);
    this.#debug("closing channel");
    registration.onEnd?.();
  }

  /** A map that is closed closes a socket whose dispatcher's own `close()` did not. */
  get #state(): State {
    return this.#registration?.has(DEAD) ? "closed" : this.#phase;
  }

  #setState(state: State): void {
    this.#phase = state;
    this.#debug(state);
  }

  #trace(event: string, bytes?: number, detail?: unknown): void {
    this.#registration?.selector.tracer?.trace(this, event, bytes, detail);
  }

  #debug(what: string): void {
    if (this.debug) logThrough(this, `${what} ${this.#describe()}`, "debug");
  }

  #warn(message: string): void {
    logThrough(this, message, "warning");
  }

  /** Asks the set of types to ignore, but does not make one for that. */
  #ignores(type: string): boolean {
    peeking = true;
    try {
      return this.ignoreLogTypes.has(type);
    } finally {
      peeking = false;
    }
  }

  #misuse(verb: string, what: string): TypeError {
    return new TypeError(`Cannot ${verb} ${this.#describe()}: ${what}`);
  }

  /** `<EchoHandler connected 127.0.0.1:4711>` */
  #describe(): string {
    const addr = this.#addr === null ? "" : formatAddress(this.#addr);
    const state = this.#state === "idle" ? "" : this.#state;
    const words = [this.constructor.name, state, addr].filter(Boolean);
    return `<${words.join(" ")}>`;
  }
}
