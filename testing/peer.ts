/**
 * The sockets that a test has in its own hands: they are used like Deno's.
 *
 * @module
 */

/** One end of a simulated connection: a `Deno.Conn`, which can do a little more. */
export interface SimConn extends Deno.Conn {
  /** Closes it so that the peer is told that the connection is broken, as a close with SO_LINGER 0 does; bytes under way may get lost. */
  reset(): void;
  /** Sends urgent data, of which the peer's dispatcher gets nothing but `handleExpt()`. */
  sendUrgent(): void;
  /** Has no effect: there is no Nagle's algorithm here. */
  setNoDelay(noDelay?: boolean): void;
  /** Has no effect: there are no probes here. */
  setKeepAlive(keepAlive?: boolean): void;
}

/** A simulated listener. */
export interface SimListener extends Deno.Listener {
  /** Waits for a connection, and takes it. */
  accept(): Promise<SimConn>;
}

/** A simulated socket for datagrams, which is used like a `Deno.DatagramConn`. Multicast groups have no members here. */
export interface SimDatagram extends Disposable {
  /** Its address. */
  readonly addr: Deno.Addr;
  /**
   * Receives one datagram.
   *
   * @param buffer Where it goes; what does not fit is lost. Without it there is room for the largest.
   * @returns The datagram, a view of `buffer`, and who sent it.
   */
  receive(buffer?: Uint8Array): Promise<[Uint8Array, Deno.Addr]>;
  /**
   * Sends one datagram.
   *
   * @param data Its bytes; at most 65,507.
   * @param to Where it goes. Nobody there is no error.
   * @returns How many bytes were sent.
   */
  send(data: Uint8Array, to: Deno.Addr): Promise<number>;
  /** Closes it. What waits to be received is lost. */
  close(): void;
  /** The datagrams, up to the close. */
  [Symbol.asyncIterator](): AsyncIterableIterator<[Uint8Array, Deno.Addr]>;
}
