/**
 * The lines about the life of a connection: connected, ended, closed (5 to 9).
 *
 * @module
 */

import type { CloseKind, CloseReason } from "../../mod.ts";
import type { End, Seat } from "./books.ts";
import type { Checker } from "./checker.ts";
import type { Handler } from "./program.ts";

export class Life {
  readonly #checker: Checker;

  constructor(checker: Checker) {
    this.#checker = checker;
  }

  /** 6 to 8, 12: what the state of the connection allows. */
  begins(seat: Seat, end: End, handler: Handler, argument: unknown): void {
    const { name, channel } = seat;
    if (handler === "close") {
      return this.#closed(seat, end, argument as CloseReason);
    }
    if (end.closes > 0) {
      this.#checker.broke(6, `${name} ${handler} after handleClose`);
    }
    const { due } = end;
    if (due !== null) {
      const last = handler === "write" && due.kind === "eof" &&
        due.pass === this.#checker.passOf(seat.map);
      if (!last) {
        this.#checker.broke(
          6,
          `${name} ${handler} after the connection ended (${due.kind})`,
        );
      }
    }
    if (handler === "connect") {
      if (++end.connects > 1) {
        this.#checker.broke(8, `${name} handleConnect twice`);
      }
      if (end.adopted) {
        this.#checker.broke(
          8,
          `${name} handleConnect of an adopted connection`,
        );
      }
      if (end.failure !== undefined) {
        this.#checker.broke(8, `${name} handleConnect after a failure`);
      }
      if (!channel.connected) {
        this.#checker.broke(8, `${name} handleConnect, not connected`);
      }
      end.connected = true;
    } else if (!end.connected && handler !== "expt") {
      this.#checker.broke(8, `${name} ${handler} before handleConnect`);
    }
    if (handler !== "eof") return;
    if (++end.eofs > 1) this.#checker.broke(7, `${name} handleEof twice`);
    if (seat.previous !== "read" && seat.previous !== "eof") {
      this.#checker.broke(
        7,
        `${name} handleEof after ${seat.previous}, not handleRead`,
      );
    }
    end.sawEnd = true;
    this.endSeen(seat.name, end);
    if (seat.waiting > 0) {
      this.#checker.broke(7, `${name} handleEof, ${seat.waiting} bytes wait`);
    }
  }

  /** Whether the other end has given a reason for this one to end. */
  mayEnd(end: End): boolean {
    const { peer, server } = end;
    if (peer !== null) return peer.mayEnd;
    if (!server.healthy || !server.answers || server.gaveUp) return true;
    // Whoever left before the connection was known may have been the peer.
    return this.#checker.ends.some((other) =>
      other !== end && other.server === server && other.peer === null &&
      other.mayEnd
    );
  }

  /** 7, 9: an end of file comes from the peer's, after all its data. */
  endSeen(name: string, end: End): void {
    end.moved(this.#checker.now);
    const { peer } = end;
    if (!this.mayEnd(end)) {
      this.#checker.broke(7, `${name} end of file, the peer did not end`);
    } else if (peer !== null && !peer.mayLose && end.received < peer.taken) {
      this.#checker.broke(
        9,
        `${name} end of file after ${end.received} of ${peer.taken} bytes`,
      );
    }
  }

  /** 6, 12: `handleClose`. */
  #closed(seat: Seat, end: End, reason: CloseReason): void {
    const { name } = seat;
    if (end.closes === 0 && end.left === null) end.overAt = this.#checker.now;
    if (++end.closes > 1) this.#checker.broke(6, `${name} handleClose twice`);
    if (end.pending.length > 0) {
      this.#checker.broke(
        12,
        `${name} handleClose while ${end.pending[0]} is pending`,
      );
    }
    const { due } = end;
    const kind = reason?.kind;
    if (due !== null) {
      if (due.kind !== null && due.kind !== kind) {
        this.#checker.broke(
          6,
          `${name} handleClose as ${kind}, not ${due.kind}`,
        );
      }
      if (due.error !== undefined && due.error !== reason.error) {
        this.#checker.broke(
          6,
          `${name} handleClose with ${reason.error}, not ${due.error}`,
        );
      }
    } else this.#unasked(seat, end, kind);
    if (kind === "reset") end.broke = true;
    if (end.withSend && !end.connected) return;
    if (reason?.bytesUnsent !== seat.unsent) {
      this.#checker.broke(
        6,
        `${name} handleClose, ${reason?.bytesUnsent} bytes unsent, not ${seat.unsent}`,
      );
    }
    if (end.signal !== null && !end.signal.aborted) {
      this.#checker.broke(12, `${name} signal is not aborted in handleClose`);
    }
  }

  /** A close that nobody asked for needs a cause. */
  #unasked(seat: Seat, end: End, kind: CloseKind): void {
    const { peer, server } = end;
    const foreign = end.mayFail || !server.healthy || server.gaveUp ||
      (peer === null ? this.mayEnd(end) : peer.over || peer.mayLose);
    if (
      seat.waitedOpen > 0 && seat.waiting > 0 && !end.mayFail &&
      seat.read.idleSince === Infinity &&
      seat.read.answer && seat.wants("read")
    ) {
      this.#checker.broke(
        7,
        `${seat.name} handleClose before ${seat.waiting} bytes there`,
      );
    }
    if (kind === "reset" || kind === "error") {
      if (!foreign) {
        this.#checker.broke(
          6,
          `${seat.name} handleClose as ${kind}, which nobody caused`,
        );
      }
      end.broke = true;
    } else {this.#checker.broke(
        6,
        `${seat.name} handleClose as ${kind}, which nobody asked for`,
      );}
  }
}
