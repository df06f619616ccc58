/**
 * Mutants of what is handed out and has to come back: buffers, timers.
 *
 * @module
 */

import { Alarm } from "../../clock.ts";
import { BufferPool } from "../../sockets/buffer_pool.ts";
import { ByteQueue } from "../../sockets/byte_queue.ts";
import { ConnSocket } from "../../sockets/stream_socket.ts";
import { everyNth, type Mutant, wrap } from "./mutant.ts";

/** The mutants of this file. */
export const memory: readonly Mutant[] = [
  {
    name: "leaked slab slice",
    line: 9,
    what:
      "The buffers of what waits to be sent do not come back when the connection is closed at once.",
    apply() {
      wrap(ByteQueue, "clear", () => function () {});
    },
  },
  {
    name: "buffer released twice",
    line: 10,
    what:
      "Every fifth buffer that comes back is handed out to two at the same time.",
    apply() {
      const fifth = everyNth(5);
      wrap(BufferPool, "release", (original) =>
        function (buffer) {
          original.call(this, buffer);
          if (fifth()) original.call(this, buffer);
        });
    },
  },
  {
    name: "view taken back early",
    line: 10,
    what:
      "The buffer behind a view is used for something else before the handler returns, or its promise settles.",
    apply() {
      wrap(ConnSocket, "lend", (original) =>
        function (n, forGood) {
          const view = original.call(this, n, forGood);
          this.reclaim();
          return view;
        });
    },
  },
  {
    name: "leaked timer of a loop",
    line: 16,
    what:
      "The timer by which a loop without a time limit holds the process is not taken back when the loop ends.",
    apply() {
      const endless = new WeakSet<Alarm>();
      wrap(Alarm, "set", (original) =>
        function (at) {
          if (at === Infinity) endless.add(this);
          original.call(this, at);
        });
      wrap(Alarm, "clear", (original) =>
        function () {
          if (!endless.has(this)) original.call(this);
        });
    },
  },
  {
    name: "leaked timer of a socket",
    line: 9,
    what:
      "The timer of a lingering socket is not taken back when the socket closes before it is due.",
    apply() {
      let aborting = false;
      wrap(ConnSocket, "abort", (original) =>
        function () {
          aborting = true;
          original.call(this);
          aborting = false;
        });
      wrap(Alarm, "clear", (original) =>
        function () {
          if (!aborting) original.call(this);
        });
    },
  },
];
