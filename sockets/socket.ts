/**
 * What a dispatcher stands on: the contracts of the sockets and of the network that makes them. Deno completes operations, it
 * does not announce that one would succeed; a socket turns completions into readiness. It holds at most one read and one
 * write in flight, remembers what came back, and tells its {@linkcode SocketListener}. The sockets of the system are the
 * other files of this folder.
 *
 * The duties of every socket:
 * - nothing of the listener is called inside a call of one of the socket's methods;
 * - after `close()` or `abort()` nothing is reported any more but `lingerEnded()`, and `writeReady()` for what is still written;
 * - no operation's rejection is left without an owner;
 * - a buffer under an operation in flight is not touched.
 *
 * @module
 */

/**
 * An address of a socket: a host and a port, or the path of a Unix socket. Every `Deno.NetAddr`, `Deno.UnixAddr` and
 * `Deno.ConnectOptions` is one.
 */
export type Address =
  | {
    /** `tcp` may be left out. */
    readonly transport?: "tcp" | "udp";
    /** An IP address or a host name. */
    readonly hostname?: string;
    /** 0 to 65535; 0 lets the system choose. */
    readonly port: number;
  }
  | {
    /** `unix` may be left out. */
    readonly transport?: "unix" | "unixpacket";
    /** The path of the socket in the file system. */
    readonly path: string;
  };

/** Address families, as in `socket(2)`: IPv4, IPv6 and Unix. */
export type Family = "inet" | "inet6" | "unix";

/** An {@linkcode Address} that was checked and is complete. */
export type SocketAddress = Deno.NetAddr | Deno.UnixAddr;

/** Who is told what happened on a socket. */
export interface SocketListener {
  /** The connection that `connect()` asked for is there. */
  connected(): void;
  /** A read or an accept ended: `bytes` arrived, or with 0 bytes an end of file, an error or a connection. */
  readReady(bytes: number): void;
  /** A write ended: `bytes` left, so there is room. */
  writeReady(bytes: number): void;
  /** A write failed; `writeError` says why. */
  writeFailed(): void;
  /** Something out of the ordinary: a failed connect or listener (`error` says why), or urgent data. */
  exceptReady(): void;
  /** An accept failed for lack of resources; `first` for the first failure in a row. A `readReady` or `retry` follows. */
  acceptFailed(error: unknown, first: boolean): void;
  /** An accept that failed may be tried again. */
  retry(): void;
  /** A closed socket goes on to write what waits; `lingerEnded` follows. */
  lingerStarted(): void;
  /** A socket that lingered is closed. */
  lingerEnded(): void;
}

/** What the scheduler needs of every socket. */
export interface Socket {
  /** Starts a read or an accept, if none is in flight, nothing waits to be taken and the end was not reached. */
  startRead(): void;
  /** Ends the loan of the views that were lent until now, but for those lent for good. */
  reclaim(): void;
  /** Whether something waits: bytes, a connection, or an end that was not served yet. */
  readonly waiting: boolean;
  /** Whether the end was reached and everything before it was taken. */
  readonly atEnd: boolean;
  /** Starts to write what waits, if no write is in flight. */
  flush(): void;
  /**
   * Closes without losing what `send()` took: writes it, half-closes, waits for the peer's end of file and closes. A listener closes
   * at once, and what it accepted and did not hand over, too.
   *
   * @param lingerTimeout The longest time without a byte written, in milliseconds; 0 closes at once; 10,000 if left out.
   */
  close(lingerTimeout?: number): void;
  /** Whether a write is welcome: connected, not failed, and half of the send buffer free. */
  readonly writeReady: boolean;
}

/** A connected, or connecting, byte stream. */
export interface StreamSocket extends Socket {
  /** The local address once connected, else `null`. */
  readonly localAddr: Deno.Addr | null;
  /** The peer's address once connected, else `null`. */
  readonly remoteAddr: Deno.Addr | null;
  /** Why `connect()` failed. */
  readonly error: unknown;
  /** Why a read failed. */
  readonly readError: unknown;
  /** Why a write failed. */
  readonly writeError: unknown;
  /** Bytes received and not taken. */
  readonly available: number;
  /** Bytes received so far. */
  readonly bytesRead: number;
  /** Bytes that went to the operating system so far. */
  readonly bytesWritten: number;
  /** Bytes taken by `send()` that did not go to the operating system yet. */
  readonly unsent: number;
  /** The most bytes that may wait in the send buffer. */
  sendBufferSize: number;
  /** How many bytes `send()` would take now. */
  readonly room: number;
  /** Whether `shutdown()` was called. */
  readonly shutDown: boolean;
  /** Starts to connect; `connected` or `exceptReady` follows. */
  connect(addr: SocketAddress): void;
  /** Takes at most `n` bytes, as a copy. */
  take(n: number): Uint8Array<ArrayBuffer>;
  /** Takes as many bytes as fit into `buffer` and returns how many. */
  takeInto(buffer: Uint8Array): number;
  /**
   * Takes at most `n` bytes without a copy. The view is good until {@linkcode Socket.reclaim}, or for good where nobody
   * can say when its user is done.
   */
  lend(n: number, forGood: boolean): Uint8Array<ArrayBuffer>;
  /** Gives back the last bytes that were lent, while their view is good: they wait again. */
  putBack(bytes: number): void;
  /** Copies what fits into the send buffer and returns how many bytes that was. */
  send(data: Uint8Array): number;
  /** As `send()`, but takes all of it, and before it is connected, too; nothing once a write has failed. */
  sendAll(data: Uint8Array): number;
  /** Half-closes after everything that `send()` took. */
  shutdown(): void;
  /** Switches Nagle's algorithm off (`true`) or on; remembered until connected. */
  setNoDelay(on: boolean): void;
  /** Switches TCP's keep-alive probes; remembered until connected. */
  setKeepAlive(on: boolean): void;
  /** Closes at once and drops what waits, also while it lingers. */
  abort(): void;
}

/** A socket that accepts connections, one at a time. */
export interface ListenerSocket extends Socket {
  /** The address it listens on. */
  readonly addr: Deno.Addr;
  /** Why it stopped, if it did by itself. */
  readonly error: unknown;
  /** Takes the connection that waits; `null` if there is none. */
  accept(): Deno.Conn | null;
}

/** Where sockets come from: the system's, or a simulated one. Not guaranteed: its shape may change in any version. */
export interface Network {
  /** Makes a socket of an open connection. Throws a `TypeError` for one that is closed, taken or not of this network. */
  adopt(conn: Deno.Conn, listener: SocketListener): StreamSocket;
  /** Makes a socket that can connect. */
  stream(listener: SocketListener): StreamSocket;
  /** Makes a socket that listens on `addr`; throws what the system says, at once. */
  listener(
    addr: SocketAddress,
    backlog: number | undefined,
    listener: SocketListener,
  ): ListenerSocket;
  /** Closes an accepted connection that no socket has adopted. */
  discard(conn: Deno.Conn): void;
}
