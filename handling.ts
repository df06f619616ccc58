/**
 * How a handler is called: what becomes of its promise and of its error, and what its progress means for the channel. Whose turn
 * it is, is the business of `loop.ts`.
 *
 * @module
 */

import {
  type Channel,
  isPromise,
  logThrough,
  type Registration,
  running,
  type Selector,
} from "./channel_map.ts";
import { DEAD, type Direction, ENDING, READ, WRITE } from "./flags.ts";
import { attempt, describeError, ExitNow } from "./errors.ts";

/** Calls one handler; what it throws goes to `handleError` right after it. */
export function run(
  selector: Selector,
  registration: Registration,
  direction: Direction | null,
  event: (channel: Channel) => void | Promise<void>,
): void {
  if (direction !== null) registration.clear(direction.progress);
  running.current = registration;
  let result: void | Promise<void> = undefined;
  let outcome: Outcome = "returned";
  try {
    result = event(registration.channel);
  } catch (error) {
    outcome = thrown(registration, direction);
    report(selector, registration, error);
  } finally {
    running.current = null;
    if (!isPromise(result)) settle(selector, registration, direction, outcome);
    running.flush();
  }
  if (!isPromise(result)) return;
  if (direction !== null) registration.hold(direction);
  follow(registration, result, (failure) => {
    if (direction !== null) registration.release(direction);
    let outcome: Outcome = "returned";
    if (failure !== null) {
      outcome = thrown(registration, direction);
      registration.selector.reject(registration, failure.error);
    }
    settle(selector, registration, direction, outcome);
  });
}

/** How a handler ended. */
type Outcome = "returned" | "threw after progress" | "threw";

/** How a handler ended that threw: before `handleError`, whose own doings are no progress of the handler's. */
function thrown(
  registration: Registration,
  direction: Direction | null,
): Outcome {
  const progress = direction !== null && registration.has(direction.progress);
  return progress ? "threw after progress" : "threw";
}

/** What a promise was rejected with, which may be anything; `null` if it was not. */
type Failure = { readonly error: unknown } | null;

/** Counts a promise as unsettled until it settles. */
function follow(
  registration: Registration,
  promise: PromiseLike<void>,
  done: (failure: Failure) => void,
): void {
  const { selector } = registration;
  registration.unsettled++;
  selector.unsettled++;
  const settled = (failure: Failure) => {
    registration.unsettled--;
    selector.unsettled--;
    done(failure);
    // Its handleClose may have waited for this, and the loop for the last one.
    if (registration.has(ENDING)) registration.selector.dueClose(registration);
    selector.notify();
  };
  // Not the promise's own `then`, where it is no promise of the system's but anything with a `then`.
  Promise.resolve(promise).then(
    () => settled(null),
    (error) => settled({ error }),
  );
}

/** Draws the consequences of a handler's run. */
function settle(
  caller: Selector,
  registration: Registration,
  direction: Direction | null,
  outcome: Outcome,
): void {
  // Not the one that called the handler: the channel may have changed over.
  const { selector, socket } = registration;
  if (registration.unsettled === 0) socket?.reclaim();
  if (registration.has(DEAD | ENDING)) {
    selector.progressed = caller.progressed = true;
  }
  // What handleError sent after the handler threw is no progress.
  const progress = outcome !== "threw" &&
    (direction === null || registration.has(direction.progress));
  if (progress) {
    // Channels of the map it has left may have waited for it, too.
    selector.progressed = caller.progressed = true;
    if (direction !== READ) registration.clear(READ.parked);
    if (direction !== WRITE) registration.clear(WRITE.parked);
  }
  if (direction !== null && (outcome !== "returned" || !progress)) {
    const ready = direction === READ
      ? socket!.waiting && !socket!.atEnd
      : registration.has(direction.open);
    // In another map it begins anew: there was no progress to wait for.
    if (ready && !registration.has(direction.retired) && selector === caller) {
      selector.park(registration, direction, outcome === "threw");
    }
  }
  selector.examine(registration);
  if (caller !== selector) caller.notify();
}

/** Hands an error to the channel; `ExitNow` goes to the caller of the loop. */
export function report(
  selector: Selector,
  registration: Registration,
  error: unknown,
): void {
  if (error instanceof ExitNow) throw error;
  selector.counters.errors++;
  selector.tracer?.trace(registration.channel, "error", undefined, error);
  try {
    const result = registration.channel.handleError(error);
    if (!isPromise(result)) return;
    follow(registration, result, (failure) => {
      if (failure !== null) {
        exitOr(giveUp, registration, failure.error);
      }
    });
  } catch (second) {
    if (second instanceof ExitNow) throw second;
    giveUp(registration, second);
  }
}

/** Outside of a pass an `ExitNow` waits for the next one; anything else is for `deal`. */
function exitOr(
  deal: (registration: Registration, error: unknown) => void,
  registration: Registration,
  error: unknown,
): void {
  if (error instanceof ExitNow) {
    registration.selector.reject(registration, error);
  } else deal(registration, error);
}

/** `handleError` itself failed: the channel ends, but a listener goes on. */
function giveUp(registration: Registration, error: unknown): void {
  const { channel } = registration;
  logFailure("handleError", registration, error);
  // A dispatcher that was opened again is another channel.
  if (channel.accepting || registration.has(DEAD)) return;
  try {
    channel.disconnect({ kind: "error", error });
  } catch (third) {
    logFailure("disconnect", registration, third);
    registration.destroy();
  }
}

function logFailure(
  handler: string,
  registration: Registration,
  error: unknown,
): void {
  const { channel } = registration;
  const name = attempt(() => Deno.inspect(channel)) ??
    "a channel that cannot be shown";
  logThrough(
    channel,
    `exception in ${handler} of ${name} (${describeError(error)})`,
    "error",
  );
}

/** Calls `handleClose`; what it throws is logged. Afterwards the socket is closed. */
export function runClose(
  selector: Selector,
  registration: Registration,
): void {
  running.current = registration;
  let result: void | Promise<void> = undefined;
  try {
    result = registration.channel.handleCloseEvent();
  } catch (error) {
    if (error instanceof ExitNow) throw error;
    logCloseFailure(registration, error);
  } finally {
    running.current = null;
    selector.progressed = true;
    if (!isPromise(result)) closeAfter(registration);
    running.flush();
  }
  if (!isPromise(result)) return;
  follow(registration, result, (failure) => {
    if (failure !== null) exitOr(logCloseFailure, registration, failure.error);
    registration.selector.progressed = true;
    closeAfter(registration);
  });
}

function logCloseFailure(registration: Registration, error: unknown): void {
  logFailure("handleClose", registration, error);
}

/** After `handleClose` the socket that ended is closed, if the handler did not see to it. */
function closeAfter(registration: Registration): void {
  if (registration.has(DEAD)) return;
  const { channel } = registration;
  try {
    const result: unknown = channel.close();
    if (isPromise(result)) {
      return follow(registration, result, (failure) => {
        if (failure) exitOr(logCloseFailure, registration, failure.error);
        registration.destroy();
      });
    }
  } catch (error) {
    exitOr(logCloseFailure, registration, error);
  }
  registration.destroy();
}
