/**
 * What can be true or false of a channel, as bits: a map has one {@linkcode Registration} for each of many idle connections, where
 * each `boolean` would cost eight bytes.
 *
 * @module
 */

/** One direction of a channel, reading or writing: the flags of a {@linkcode Registration} that concern it. */
export interface Direction {
  /** There can be events at all: connected (or listening), and not ended in this direction. */
  readonly open: number;
  /** Served without progress: not before something may have changed. */
  readonly parked: number;
  /** Parked because it threw: room that a write makes is no reason to try it again. */
  readonly threw: number;
  /** The library's own handler was called once, and more of it would change nothing. */
  readonly retired: number;
  /** Held: neither asked nor served. */
  readonly held: number;
  /** In the ready queue. */
  readonly queued: number;
  /** The running handler took or sent something. */
  readonly progress: number;
  /** Those of which only `open` may be set for the direction to be asked or served. */
  readonly free: number;
}

function direction(shift: number): Direction {
  const [open, parked, retired, held] = [1, 2, 4, 8].map((bit) => bit << shift);
  return {
    open: open!,
    parked: parked!,
    retired: retired!,
    held: held!,
    queued: 16 << shift,
    progress: 32 << shift,
    threw: 64 << shift,
    free: 15 << shift,
  };
}

/** Reading, or accepting. */
export const READ: Direction = direction(0);
/** Writing. */
export const WRITE: Direction = direction(7);

/** The channel is in the map. */
export const ACTIVE: number = 1 << 14;
/** Its socket was closed by us. */
export const DEAD: number = 1 << 15;
/** A read or an accept is in flight: it cannot be taken back, so the predicate need not be asked. */
export const ARMED: number = 1 << 16;
/** In the queue of those to be examined. */
export const EXAMINING: number = 1 << 17;
/** In the queue of those to be swept. */
export const SWEEPING: number = 1 << 18;
/** An exceptional condition waits to be served. */
export const EXCEPTIONAL: number = 1 << 19;
/** The connection has ended: `handleClose` is due. */
export const ENDING: number = 1 << 20;
/** `handleClose` was called. */
export const CLOSE_SERVED: number = 1 << 21;
/** `handleRead` was called for the end: only `handleEof` is missing, for which the predicate is not asked. */
export const END_SERVED: number = 1 << 22;
