/**
 * Mutants of what puts a channel to rest and what wakes it.
 *
 * @module
 */

import { Registration, running, Selector } from "../../channel_map.ts";
import { Dispatcher } from "../../dispatcher.ts";
import { READ, WRITE } from "../../flags.ts";
import type { StreamSocket } from "../../sockets/socket.ts";
import { type Mutant, wrap } from "./mutant.ts";

/** True `n` times for each channel: not for ever, so that whoever finds out need not wait until it is given up. */
function chances(n: number): (registration: Registration) => boolean {
  const taken = new WeakMap<Registration, number>();
  return (registration) => {
    const times = taken.get(registration) ?? 0;
    taken.set(registration, times + 1);
    return times < n;
  };
}

/** The mutants of this file. */
export const waking: readonly Mutant[] = [
  {
    name: "wake-up of a writer lost",
    line: 13,
    what:
      "The write that empties the send buffer does not have the channel asked again.",
    apply() {
      wrap(Registration, "writeReady", (original) =>
        function (bytes) {
          const { unsent } = this.socket as StreamSocket;
          if (unsent > 0) return original.call(this, bytes);
          this.selector.counters.bytesWritten += bytes;
        });
    },
  },
  {
    name: "map.wake() does not wake",
    line: 14,
    what: "map.wake() is noted, but a pass that waits goes on waiting.",
    apply() {
      wrap(Selector, "wake", () =>
        function () {
          this.woken = true;
        });
    },
  },
  {
    name: "dispatcher.wake() forgotten",
    line: 14,
    what: "wake() of a channel does nothing outside of handlers.",
    apply() {
      wrap(Dispatcher, "wake", (original) =>
        function () {
          if (running.held) original.call(this);
        });
    },
  },
  {
    name: "send() from outside not written",
    line: 9,
    what:
      "What is sent outside of a handler waits until the channel sends something in one.",
    apply() {
      wrap(Registration, "sent", (original) =>
        function () {
          if (running.held) original.call(this);
          else this.set(WRITE.progress);
        });
    },
  },
  {
    name: "accept not tried again",
    line: 17,
    what: "A listener that was short of descriptors accepts no more.",
    apply() {
      wrap(Registration, "retry", () => function () {});
    },
  },
  {
    name: "kept data not delivered",
    line: 18,
    what:
      "What arrived while a channel was suspended is not ready after addChannel().",
    apply() {
      let adding: Registration | null = null;
      wrap(Registration, "add", (original) =>
        function (selector) {
          if (this.socket?.waiting) adding = this;
          original.call(this, selector);
          adding = null;
        });
      wrap(Selector, "examine", (original) =>
        function (registration) {
          if (registration !== adding) original.call(this, registration);
        });
    },
  },
  {
    name: "parked for ever",
    line: 13,
    what:
      "A channel whose handleWrite sent nothing is not tried again after wake() or a send() from elsewhere.",
    apply() {
      wrap(Registration, "unpark", () =>
        function () {
          this.clear(READ.parked | READ.threw);
        });
    },
  },
  {
    name: "parked channels not swept",
    line: 13,
    what:
      "A parked channel is not tried again after another channel's handler made progress.",
    apply() {
      wrap(
        Selector,
        "park",
        () =>
          function (registration, direction, threw = false) {
            registration.set(
              threw ? direction.parked | direction.threw : direction.parked,
            );
          },
      );
    },
  },
  {
    name: "spin",
    line: 13,
    what:
      "A channel whose handler made no progress is served again at once, a hundred times.",
    apply() {
      const left = chances(100);
      wrap(
        Selector,
        "park",
        (original) =>
          function (registration, direction, threw) {
            if (left(registration)) this.examine(registration);
            else original.call(this, registration, direction, threw);
          },
      );
    },
  },
  {
    name: "spin by sweeps",
    line: 13,
    what:
      "A retry without progress is a reason for the next sweep, a hundred times for each channel.",
    apply() {
      const left = chances(100);
      wrap(
        Selector,
        "park",
        (original) =>
          function (registration, direction, threw) {
            original.call(this, registration, direction, threw);
            if (left(registration)) this.progressed = true;
          },
      );
    },
  },
  {
    name: "no sweep after a no",
    line: 15,
    what:
      "A channel whose predicate said no is not asked again after another channel's handler made progress.",
    apply() {
      wrap(Selector, "sweepLater", (original) =>
        function (registration) {
          if (registration.has(READ.parked | WRITE.parked)) {
            original.call(this, registration);
          }
        });
    },
  },
];
