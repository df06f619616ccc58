/**
 * The calls a program makes, each compared with what the contract says that it
 * does.
 *
 * @module
 */

import type { ChannelMap, CloseKind } from "../../mod.ts";
import type { Lent, Seat } from "./books.ts";
import { bytesOf } from "./bytes.ts";
import type { Checker, Turn } from "./checker.ts";

/** Where a call is made: in a handler of the channel itself, or anywhere else. */
export type From = "own" | "elsewhere";

export const KINDS: readonly CloseKind[] = [
  "eof",
  "reset",
  "timeout",
  "error",
  "limit",
  "done",
];

/** Whether the connection may have ended without the program knowing yet. */
function mayBeOver(checker: Checker, { channel, end }: Seat): boolean {
  return channel.closing || end === null || end.over || end.due !== null ||
    end.failure !== undefined || !end.server.healthy || end.server.gaveUp ||
    (end.peer === null
      ? checker.life.mayEnd(end)
      : end.peer.over || end.peer.mayLose);
}

/** 9: `send()` takes what fits. Returns how many bytes it took. */
export function send(
  checker: Checker,
  seat: Seat,
  n: number,
  from: From,
): number {
  const { channel, end, name } = seat;
  if (end === null) return 0;
  const room = channel.room;
  const data = bytesOf(end.stream, end.taken, n);
  let took: number;
  try {
    took = checker.call(() => channel.send(data));
  } catch (error) {
    if (!(error instanceof TypeError && end.shut)) {
      checker.broke(9, `${name} send() threw ${error}`);
    }
    return 0;
  }
  data.fill(0); // its bytes were copied
  checker.note(() => `${name} sent ${took} of ${n}`);
  end.taken += took;
  end.attempted = end.taken;
  end.sentIn = checker.passOf(seat.map);
  if (from === "elsewhere") checker.deed();
  if (end.shut) {
    if (!end.over) checker.broke(9, `${name} send() after shutdown()`);
    return took;
  }
  let wanted = end.withSend ? n : Math.min(n, room);
  if (end.over || end.due !== null) wanted = 0;
  else if (!end.withSend && !channel.connected) wanted = 0;
  // After an end of file the other half is open until it is closed.
  const open = end.due?.kind === "eof" && !end.over;
  if (took !== wanted && !open && !(took === 0 && mayBeOver(checker, seat))) {
    checker.broke(9, `${name} send(${n}) took ${took}, room ${room}`);
  }
  checkRoom(checker, seat);
  return took;
}

function checkRoom(checker: Checker, seat: Seat): void {
  const { channel, end } = seat;
  if (end === null || end.withSend || !channel.connected || end.shut) return;
  if (mayBeOver(checker, seat)) return;
  const room = end.size - seat.unsent;
  if (channel.room === room) return;
  checker.broke(9, `${seat.name} room is ${channel.room}, ${room} bytes free`);
}

/** 10: `recv()` and its sisters. */
export function recv(
  checker: Checker,
  seat: Seat,
  how: "recv" | "recvInto" | "recvView",
  n: number,
  lent: Lent[],
): void {
  const { channel, end, name } = seat;
  if (end === null || end.left !== null) return;
  const { waiting } = seat;
  let data: Uint8Array;
  try {
    data = checker.call(() => {
      if (how === "recv") return channel.recv(n);
      if (how === "recvView") return channel.recvView(n);
      const buffer = new Uint8Array(n);
      return buffer.subarray(0, channel.recvInto(buffer));
    });
  } catch (error) {
    checker.note(() => `${name} ${how}(${n}) throws ${error}`);
    if (!(error instanceof Deno.errors.WouldBlock)) {
      checker.broke(10, `${name} ${how}(${n}) threw ${error}`);
    } else if (waiting > 0) {
      checker.broke(
        10,
        `${name} ${how}(${n}), ${waiting} bytes wait: ${error}`,
      );
    } else if (end.sawEnd || end.over) {
      checker.broke(10, `${name} ${how}(${n}) at the end: ${error}`);
    } else if (n === 0) checker.broke(10, `${name} ${how}(0) threw ${error}`);
    return;
  }
  checker.note(() => `${name} ${how}(${n}) of ${waiting}: ${data.length}`);
  if (data.length > n) {
    checker.broke(10, `${name} ${how}(${n}) gave ${data.length} bytes`);
  }
  if (data.length > waiting) {
    checker.broke(
      10,
      `${name} ${how}(${n}) gave more than the ${waiting} read`,
    );
  }
  if (data.length > 0) {
    const position = end.received;
    const wrong = end.takeIn(data, how !== "recvView", checker.now);
    if (wrong !== null) checker.broke(10, `${name} ${how}(${n}): ${wrong}`);
    if (how === "recvView") lent.push({ end, data, position });
    return;
  }
  if (n === 0) return;
  // After handleClose it is closed; a handler of an earlier socket may still run.
  if (end.closes > 0 && !channel.closing) return;
  if (waiting > 0) {
    return checker.broke(10, `${name} ${how}(${n}) gave none of ${waiting}`);
  }
  if (end.due !== null || end.over || channel.closing) return;
  end.sawEnd = true;
  if (!checker.life.mayEnd(end)) {
    checker.broke(
      7,
      `${name} ${how}(${n}) says the end, the peer did not end`,
    );
  }
}

/** 10: what `recvView()` lent is as it was. */
export function giveBack(checker: Checker, { seat, lent }: Turn): void {
  for (const { end, data, position } of lent) {
    if (!end.still(data, position)) {
      checker.broke(
        10,
        `${seat.name} a view changed before the handler was done`,
      );
    }
  }
}

/** 5: `close()` and `abort()`. */
export function close(
  checker: Checker,
  seat: Seat,
  how: "close" | "abort",
): void {
  const { channel, end, name } = seat;
  checker.note(() => `${name} ${how}()`);
  checker.call(() => channel[how]());
  checker.deed();
  if (seat.listener !== null) {
    seat.listening = false;
    seat.listener.listens = false;
    seat.listener.gaveUp = true;
  }
  if (end !== null) {
    if (!end.over) end.overAt = checker.now;
    if (end.left === null || how === "abort") end.left = how;
    if (end.signal !== null && !end.signal.aborted) {
      checker.broke(12, `${name} signal is not aborted after ${how}()`);
    }
  }
  seat.suspended = false;
  if (channel.connected) checker.broke(5, `${name} connected after ${how}()`);
  if ([...seat.map].includes(channel)) {
    checker.broke(9, `${name} in the map after ${how}()`);
  }
}

/** 6: `disconnect()`. */
export function disconnect(
  checker: Checker,
  seat: Seat,
  kind: CloseKind,
): void {
  const { channel, end, name } = seat;
  if (end === null || !channel.connected || end.over || channel.closing) return;
  checker.note(() => `${name} disconnect(${kind})`);
  checker.call(() => channel.disconnect({ kind }));
  checker.deed();
  if (channel.closing) return checker.becameDue(seat, kind, undefined);
  checker.broke(6, `${name} not closing after disconnect()`);
}

/** 9: `shutdown("write")`. */
export function shutdown(checker: Checker, seat: Seat): void {
  const { channel, end, name } = seat;
  if (end === null || !channel.connected || end.over || channel.closing) return;
  checker.note(() => `${name} shutdown()`);
  checker.call(() => channel.shutdown("write"));
  checker.deed();
  end.shut = true;
}

/** 18: leaves the map. */
export function suspend(checker: Checker, seat: Seat): boolean {
  const { end } = seat;
  if (seat.suspended || end?.over || (end === null && !seat.listening)) {
    return false;
  }
  checker.note(() => `${seat.name} delChannel()`);
  checker.call(() => seat.channel.delChannel());
  checker.deed();
  seat.suspended = true;
  return true;
}

/** 18: enters a map. */
export function enter(checker: Checker, seat: Seat, map: ChannelMap): void {
  const { end } = seat;
  if (end?.over || (end === null && !seat.listening)) return;
  checker.note(() => `${seat.name} addChannel()`);
  const home = checker.homeOf(seat);
  const anew = home === null
    ? seat.suspended || map !== seat.map
    : map !== home;
  checker.call(() => seat.channel.addChannel(map));
  if (map !== seat.map) seat.read.servedIn = seat.write.servedIn = -1;
  seat.map = map;
  seat.read.readySince = seat.write.readySince = Infinity;
  seat.suspended = false;
  if (end !== null && end.due !== null) end.due.pass = checker.passOf(map);
  // Where it is already, nothing happens; nor where its own handler takes it out and in again, which must not spin.
  if (anew) return checker.stir(seat);
  checker.deed();
  if (home !== null) seat.read.stirredAt = seat.write.stirredAt = -1;
}
