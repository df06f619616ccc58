/**
 * Mutants of what is sent and received.
 *
 * @module
 */

import { isPromise, Registration, running } from "../../channel_map.ts";
import { Dispatcher } from "../../dispatcher.ts";
import { END_SERVED, READ } from "../../flags.ts";
import { ByteQueue } from "../../sockets/byte_queue.ts";
import { SendBuffer } from "../../sockets/send_buffer.ts";
import { ConnSocket } from "../../sockets/stream_socket.ts";
import { everyNth, type Mutant, wrap, wrapGetter } from "./mutant.ts";

/**
 * Changes what is dropped after a write that took only a part.
 *
 * @param dropped How many bytes are dropped after `n` of `shown` were written.
 */
function consumePartially(
  dropped: (n: number, shown: number) => number,
): void {
  const lengths = new WeakMap<ByteQueue, number>();
  wrap(ByteQueue, "peek", (original) =>
    function () {
      const view = original.call(this);
      lengths.set(this, view.length);
      return view;
    });
  wrap(ByteQueue, "consume", (original) =>
    function (n) {
      const shown = lengths.get(this)!;
      original.call(this, n < shown ? dropped(n, shown) : n);
    });
}

/** The mutants of this file. */
export const bytes: readonly Mutant[] = [
  {
    name: "end of file without handleRead",
    line: 7,
    what:
      "The end of file is told by handleEof alone, without the handleRead in which recv() returns 0 bytes.",
    apply() {
      wrap(Dispatcher, "handleReadEvent", (original) =>
        function () {
          const registration = running.current!;
          if (registration.socket!.atEnd) registration.set(END_SERVED);
          return original.call(this);
        });
    },
  },
  {
    name: "data after the end of file",
    line: 7,
    what:
      "A read event that leaves bytes is taken for the last one, every fifth time: handleEof comes before they are taken.",
    apply() {
      const fifth = everyNth(5);
      wrap(Dispatcher, "handleReadEvent", (original) =>
        function () {
          const result = original.call(this);
          const registration = running.current;
          if (isPromise(result) || registration?.channel !== this) {
            return result;
          }
          const { socket } = registration;
          const left = this.connected && socket!.waiting && !socket!.atEnd;
          return left && fifth() ? this.handleEof() : result;
        });
    },
  },
  {
    name: "end before the data",
    line: 7,
    what:
      "After a failed write the connection ends before what was received is delivered.",
    apply() {
      wrap(Registration, "writeFailed", (original) =>
        function () {
          original.call(this);
          this.failing = "over";
        });
    },
  },
  {
    name: "end of file told again",
    line: 7,
    what:
      "After a handleEof that keeps the write half, handleEof is called again and again.",
    spins: true,
    apply() {
      // Only that of the end of file clears it while the end was served.
      wrap(Registration, "clear", (original) =>
        function (flags) {
          if (!(flags === READ.open && this.has(END_SERVED))) {
            original.call(this, flags);
          }
        });
    },
  },
  {
    name: "reordered bytes",
    line: 9,
    what:
      "Of what is sent while something waits, the second half leaves first, every third time.",
    apply() {
      const third = everyNth(3);
      wrap(SendBuffer, "append", (original) =>
        function (data) {
          const half = data.length >> 1;
          if (half === 0 || this.length === 0 || !third()) {
            return original.call(this, data);
          }
          original.call(this, data.subarray(half));
          original.call(this, data.subarray(0, half));
        });
    },
  },
  {
    name: "duplicated byte",
    line: 9,
    what:
      "After a write that took only a part, the last byte that it took is written again.",
    apply() {
      consumePartially((n) => Math.max(n - 1, 1));
    },
  },
  {
    name: "lost byte",
    line: 9,
    what:
      "After a write that took all but a few bytes, the first of these is skipped.",
    apply() {
      consumePartially((n, shown) => shown - n < 10 ? n + 1 : n);
    },
  },
  {
    name: "send() beyond the room",
    line: 9,
    what: "send() takes everything, as long as there is room for some of it.",
    apply() {
      wrap(ConnSocket, "send", (original) =>
        function (data) {
          const fits = this.room === 0 || this.room >= data.length;
          return fits ? original.call(this, data) : this.sendAll(data);
        });
    },
  },
  {
    name: "send() counts what it refused",
    line: 9,
    what:
      "send() says that it took everything, every fifth time that there is room for a part only.",
    apply() {
      const fifth = everyNth(5);
      wrap(ConnSocket, "send", (original) =>
        function (data) {
          const length = original.call(this, data);
          const short = length > 0 && length < data.length;
          return short && fifth() ? data.length : length;
        });
    },
  },
  {
    name: "half-close forgotten",
    line: 9,
    what: "A half-close that is asked for while bytes wait never happens.",
    apply() {
      wrap(SendBuffer, "halfClose", (original) =>
        function () {
          if (this.length === 0) original.call(this);
        });
    },
  },
  {
    name: "recv() drops the rest",
    line: 10,
    what:
      "The first byte that recv() leaves behind is gone, every third time that it leaves some.",
    apply() {
      const third = everyNth(3);
      wrap(ConnSocket, "take", (original) =>
        function (n) {
          const data = original.call(this, n);
          if (data.length > 0 && this.available > 0 && third()) {
            original.call(this, 1);
          }
          return data;
        });
    },
  },
  {
    name: "wrong bytesUnsent",
    line: 6,
    what:
      "After a failed write handleClose hears that everything was sent that send() took.",
    apply() {
      wrapGetter(ConnSocket, "unsent", (original) =>
        function () {
          return this.writeError === undefined ? original.call(this) : 0;
        });
    },
  },
];
