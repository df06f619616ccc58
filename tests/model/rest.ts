/**
 * What must hold when nothing can happen any more: nothing is left undone that
 * could be done; and at the end: nothing is lost and nothing is left.
 *
 * @module
 */

import type { End, Seat } from "./books.ts";
import type { Checker } from "./checker.ts";

/** The longest `lingerTimeout`, the 2 s after the half-close, and what travels in between. */
const MOST_LINGER = 13_000;

/** 6, 8, 9, 11, 13 to 15, 17: the loops sleep, rightly? */
export function checkAtRest(checker: Checker): void {
  for (const seat of checker.seats) {
    const { end, name } = seat;
    if (seat.suspended) continue;
    for (const error of seat.owed) {
      checker.broke(11, `${name} was not told of ${error}`);
    }
    if (seat.listening) listening(checker, seat);
    if (end === null || end.left !== null) continue;
    if (end.due !== null && end.closes === 0) {
      if (end.pending.length === 0) {
        checker.broke(6, `${name} handleClose (${end.due.kind}) did not come`);
      }
      continue;
    }
    if (end.closes > 0) {
      if (
        end.pending.length === 0 &&
        (seat.channel.connected || seat.channel.closing)
      ) {
        checker.broke(6, `${name} still open after handleClose`);
      }
      continue;
    }
    if (!end.connected) connecting(checker, seat, end);
    else connected(checker, seat, end);
  }
}

/** Whether somebody would be served who wants it. */
function asks(seat: Seat, direction: "read" | "write"): boolean {
  const state = seat[direction];
  if (state.idleSince !== Infinity && state.stirredAt < state.idleSince) {
    return false;
  }
  return seat.wants(direction) &&
    (state.askedAt < 0 || state.answer || state.stirredAt > state.askedAt);
}

/** 17: whoever waits is accepted, also after an accept that failed. */
function listening(checker: Checker, seat: Seat): void {
  const server = seat.listener!;
  if (!server.healthy || server.gaveUp || seat.accepting.length > 0) return;
  if (!asks(seat, "read")) return;
  for (const end of checker.ends) {
    if (end.server !== server || !end.connected || end.adopted) continue;
    if (end.peer === null && end.port > 0 && !end.over && !end.broke) {
      checker.broke(17, `${seat.name} did not accept stream ${end.stream}`);
    }
  }
}

function connecting(checker: Checker, seat: Seat, end: End): void {
  if (!end.server.answers || !end.server.listens || end.pending.length > 0) {
    return;
  }
  // Without data no read event could tell, without room no write event.
  if (seat.unsent * 2 > end.size) return;
  if (seat.overrides === "all" && asks(seat, "write")) {
    checker.broke(8, `${seat.name} is not told that it is connected`);
  }
}

function connected(checker: Checker, seat: Seat, end: End): void {
  const { name, channel } = seat;
  const { peer, server } = end;
  if (channel.closing && end.pending.length === 0) {
    return checker.broke(6, `${name} ended, handleClose did not come`);
  }
  if (seat.can("read") && end.eofs === 0 && asks(seat, "read")) {
    if (seat.waiting > 0) {
      checker.broke(
        13,
        `${name} was not given the ${seat.waiting} bytes there`,
      );
    } else if (server.healthy && peer !== null && !peer.mayLose) {
      if (peer.taken > end.received) {
        checker.broke(
          13,
          `${name} did not get byte ${end.received} of ${peer.taken}`,
        );
      } else if ((peer.shut || peer.left === "close") && !peer.due) {
        checker.broke(13, `${name} did not see the end of file`);
      }
    }
  }
  if (checker.passes.ready(seat, "write")) {
    checker.broke(13, `${name} was not asked to write`);
  }
  if (
    !server.healthy || peer === null || peer.over || peer.mayLose ||
    seat.unsent <= 0
  ) {
    return;
  }
  const underWay = channel.bytesWritten - peer.received;
  if (underWay === 0) {
    checker.broke(9, `${name} did not write ${seat.unsent} bytes`);
  }
}

/** 9, 10, 12: everybody has read to the end, or would have. */
export function checkDelivered(
  checker: Checker,
  sent: "open" | "closed",
): void {
  for (const end of checker.ends) {
    if (!end.intact) checker.broke(10, `what recv() copied out has changed`);
    const { peer } = end;
    if (
      peer === null || end.received >= peer.taken || peer.mayLose ||
      !end.readsOn
    ) continue;
    // Whoever left, or was told of a break, did not read on.
    if (
      end.left !== null || end.broke || end.drops ||
      end.closes > 0 && !end.sawEnd
    ) continue;
    if (end.pending.length > 0 || end.eofs > 0) continue;
    if (sent === "open" && !end.connected) continue;
    checker.broke(
      9,
      `stream ${peer.stream}: ${end.received} of ${peer.taken} bytes arrived`,
    );
  }
}

/** 9: `loop()` ended, so that nothing lingers; and it did not take for ever. */
export function checkLinger(
  checker: Checker,
  leaks: readonly string[],
  took: number,
  timers: number,
): void {
  const lingering = leaks.find((leak) => leak.includes("linger"));
  if (lingering !== undefined) checker.broke(9, `loop() left ${lingering}`);
  const left = leaks.find((leak) => leak.startsWith("timers: "));
  if (left !== undefined && Number(left.slice("timers: ".length)) > timers) {
    checker.broke(9, `loop() left ${left}`);
  }
  // What is slow may go on for as long as it moves.
  if (took > MOST_LINGER) checker.broke(9, `closing took ${took} ms`);
}

/** 5, 6, 12: all were closed. */
export function checkGone(checker: Checker): void {
  for (const seat of checker.seats) {
    const { channel, name, end } = seat;
    if (channel.connected || channel.connecting || channel.accepting) {
      checker.broke(5, `${name} is open after all was closed`);
    }
    if (seat.owed.length > 0) {
      checker.broke(11, `${name} was not told of ${seat.owed[0]}`);
    }
    if (end?.signal && !end.signal.aborted) {
      checker.broke(12, `${name} signal did not abort`);
    }
    if (end !== null && end.pending.length > 0) {
      checker.broke(12, `${name} ${end.pending[0]} never settled`);
    }
  }
}
