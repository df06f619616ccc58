/**
 * Mutants of ends: of connections, of channels, of what outlives them.
 *
 * @module
 */

import {
  isPromise,
  Registration,
  running,
  Selector,
} from "../../channel_map.ts";
import { microtask } from "../../clock.ts";
import { Dispatcher } from "../../dispatcher.ts";
import { ACTIVE, CLOSE_SERVED, DEAD, READ, WRITE } from "../../flags.ts";
import { runClose } from "../../handling.ts";
import { AcceptSocket } from "../../sockets/listener_socket.ts";
import { ConnSocket, LINGER_TIMEOUT } from "../../sockets/stream_socket.ts";
import { type Mutant, wrap } from "./mutant.ts";

/** The mutants of this file. */
export const closing: readonly Mutant[] = [
  {
    name: "handleClose inside disconnect()",
    line: 1,
    what:
      "When a handler ends another channel's connection, handleClose of that one runs inside the call.",
    apply() {
      wrap(Registration, "end", (original) =>
        function (endOfFile) {
          original.call(this, endOfFile);
          const { current } = running;
          const foreign = current !== null && current !== this &&
            this.has(ACTIVE) && this.unsettled === 0;
          if (!foreign || this.has(CLOSE_SERVED)) return;
          this.set(CLOSE_SERVED);
          runClose(this.selector, this);
          running.current = current;
        });
    },
  },
  {
    name: "handler after close()",
    line: 5,
    what:
      "A channel that is closed by another one's handler is closed only when the pass is over.",
    apply() {
      wrap(Dispatcher, "close", (original) =>
        function () {
          const { current } = running;
          if (current === null || current.channel === this) {
            return original.call(this);
          }
          microtask(() => original.call(this));
        });
    },
  },
  {
    name: "handleClose twice",
    line: 6,
    what: "handleClose is called again if it did not close the channel.",
    apply() {
      wrap(Dispatcher, "handleCloseEvent", (original) =>
        function () {
          const registration = running.current!;
          const again = () => {
            if (!registration.has(DEAD)) return original.call(this);
          };
          const result = original.call(this);
          return isPromise(result)
            ? Promise.resolve(result).then(again)
            : again();
        });
    },
  },
  {
    name: "handleClose never",
    line: 6,
    what:
      "A connection that ends while an async handler is pending gets no handleClose afterwards.",
    apply() {
      const told = new WeakSet<Registration>();
      wrap(Selector, "dueClose", (original) =>
        function (registration) {
          if (told.has(registration)) return;
          if (registration.has(ACTIVE)) told.add(registration);
          original.call(this, registration);
        });
    },
  },
  {
    name: "handleClose beside a pending handler",
    line: 12,
    what: "handleClose does not wait for an async handler that is pending.",
    apply() {
      wrap(Registration, "end", (original) =>
        function (endOfFile) {
          original.call(this, endOfFile);
          this.unsettled = 0;
        });
    },
  },
  {
    name: "signal not aborted",
    line: 12,
    what: "The peer's end of file does not abort the signal.",
    apply() {
      wrap(Registration, "end", (original) =>
        function (endOfFile) {
          if (endOfFile) this.onEnd = null;
          original.call(this, endOfFile);
        });
    },
  },
  {
    name: "dropped tail",
    line: 9,
    what:
      "close() drops what waits, if something was written before and the rest is short.",
    apply() {
      wrap(ConnSocket, "close", (original) =>
        function (lingerTimeout) {
          const tail = this.bytesWritten > 0 && this.unsent > 0 &&
            this.unsent < 1_000;
          if (tail) this.abort();
          else original.call(this, lingerTimeout);
        });
    },
  },
  {
    name: "endless linger",
    line: 9,
    what:
      "A closed socket waits for a peer that does not take what waits, a thousand times as long as lingerTimeout says.",
    apply() {
      wrap(ConnSocket, "close", (original) =>
        function (lingerTimeout) {
          original.call(this, (lingerTimeout ?? LINGER_TIMEOUT) * 1_000);
        });
    },
  },
  {
    name: "loop() leaves lingering sockets",
    line: 9,
    what: "loop() does not wait for the closed sockets that still write.",
    apply() {
      wrap(Registration, "lingerStarted", () => function () {});
      wrap(Registration, "lingerEnded", () => function () {});
    },
  },
  {
    name: "listener keeps what it did not deliver",
    line: 17,
    what:
      "close() of a listener leaves a connection open that was accepted and not handed over.",
    apply() {
      wrap(AcceptSocket, "close", (original) =>
        function () {
          this.accept();
          original.call(this);
        });
    },
  },
  {
    name: "failed handleAccepted keeps the connection",
    line: 17,
    what:
      "A connection stays open whose handleAccepted threw before it gave it to anyone.",
    apply() {
      wrap(Dispatcher, "handleAccept", () =>
        function () {
          const accepted = this.accept();
          if (accepted !== null) return this.handleAccepted(...accepted);
        });
    },
  },
  {
    name: "delChannel() ignored",
    line: 18,
    what:
      "A channel that is suspended while an event of it is due gets it, and later ones.",
    apply() {
      wrap(Registration, "delete", (original) =>
        function () {
          const due = this.has(READ.queued | WRITE.queued) && !this.has(DEAD);
          original.call(this);
          if (due) this.set(ACTIVE);
        });
    },
  },
];
