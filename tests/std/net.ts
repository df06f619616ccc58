/**
 * Stand-in for `@std/net`, used where JSR cannot be reached: only what the
 * tests import, with the signature of the real package.
 *
 * @module
 */

/** Options of {@linkcode getAvailablePort}. */
export interface GetAvailablePortOptions {
  /** The port to take if it is free. 0: any. */
  preferredPort?: number;
}

/** Returns a TCP port that nobody listens on at the moment of the call. */
export function getAvailablePort(options?: GetAvailablePortOptions): number {
  try {
    using listener = Deno.listen({ port: options?.preferredPort ?? 0 });
    return listener.addr.port;
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    return getAvailablePort();
  }
}
