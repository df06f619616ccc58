/**
 * A listening socket on a `Deno.Listener`: TCP or Unix. One accept is in flight at most, and at most one accepted connection
 * waits to be handed over.
 *
 * @module
 */

import type { Clock, Timer } from "../clock.ts";
import { acceptFailure } from "../errors.ts";
import { closeResource } from "./closing.ts";
import type { ListenerSocket, SocketListener } from "./socket.ts";

/** The first wait after a failed accept, in milliseconds; each further one is twice as long, up to the last. */
const FIRST_RETRY = 5;
const LAST_RETRY = 1_000;

/** See the module's documentation, and {@linkcode ListenerSocket} for what the members promise. */
export class AcceptSocket implements ListenerSocket {
  readonly #listener: SocketListener;
  readonly #clock: Clock;
  readonly #source: Deno.Listener;
  #accepting = false;
  #closed = false;
  #accepted: Deno.Conn | null = null;
  #retryDelay = FIRST_RETRY;
  #retryTimer: Timer | undefined;

  error: unknown = undefined;
  readonly atEnd = false;
  readonly writeReady = false;

  constructor(listener: SocketListener, clock: Clock, source: Deno.Listener) {
    this.#listener = listener;
    this.#clock = clock;
    this.#source = source;
    source.unref();
  }

  get addr(): Deno.Addr {
    return this.#source.addr;
  }

  get waiting(): boolean {
    return this.#accepted !== null;
  }

  startRead(): void {
    if (this.#accepting || this.#closed || this.waiting) return;
    if (this.#retryTimer !== undefined || this.error !== undefined) return;
    this.#accepting = true;
    this.#source.accept().then(this.#onAccept, this.#onAcceptError);
  }

  readonly #onAccept = (conn: Deno.Conn): void => {
    this.#accepting = false;
    if (this.#closed) return conn.close();
    this.#retryDelay = FIRST_RETRY;
    this.#accepted = conn;
    this.#listener.readReady(0);
  };

  readonly #onAcceptError = (error: unknown): void => {
    this.#accepting = false;
    if (this.#closed) return;
    const failure = acceptFailure(error);
    if (failure === "unlucky") return this.startRead();
    if (failure === "failed") {
      this.error = error;
      return this.#listener.exceptReady();
    }
    // At once it would fail again, and again: 60 failures a millisecond.
    this.#listener.acceptFailed(error, this.#retryDelay === FIRST_RETRY);
    const at = this.#clock.now() + this.#retryDelay;
    this.#retryDelay = Math.min(this.#retryDelay * 2, LAST_RETRY);
    this.#retryTimer = this.#clock.setTimer(at, () => {
      this.#retryTimer = undefined;
      this.#listener.retry();
    });
  };

  accept(): Deno.Conn | null {
    const conn = this.#accepted;
    this.#accepted = null;
    return conn;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#retryTimer !== undefined) {
      this.#clock.clearTimer(this.#retryTimer);
    }
    this.#accepted?.close();
    this.#accepted = null;
    closeResource(this.#source);
  }

  /** A listener lends nothing. */
  reclaim(): void {}

  /** A listener writes nothing. */
  flush(): void {}
}
