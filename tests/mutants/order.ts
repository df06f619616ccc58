/**
 * Mutants of whose turn it is: phases, snapshots, fairness.
 *
 * @module
 */

import {
  askReadable,
  isPromise,
  ReadyQueue,
  type Registration,
  running,
  type Selector,
} from "../../channel_map.ts";
import { Dispatcher } from "../../dispatcher.ts";
import { ACTIVE, CLOSE_SERVED, DEAD, ENDING, READ } from "../../flags.ts";
import { runClose } from "../../handling.ts";
import type { Batch } from "../../queue.ts";
import { everyNth, type Mutant, wrap } from "./mutant.ts";

/** Puts other items into a batch. */
function refill(batch: Batch<Registration>, items: Registration[]): void {
  batch.clear();
  for (const item of items) batch.push(item);
}

function itemsOf(batch: Batch<Registration>): Registration[] {
  return Array.from({ length: batch.length }, (_, i) => batch.at(i));
}

/** Calls `handleClose` of the channels that have ended, but not of the one that is running. */
function serveCloses(selector: Selector): void {
  const { current } = running;
  const batch = selector.closes.take();
  const due = itemsOf(batch);
  batch.clear();
  try {
    for (let next = due.shift(); next !== undefined; next = due.shift()) {
      const servable = next !== current && next.selector === selector &&
        next.has(ACTIVE) && next.has(ENDING) && !next.has(CLOSE_SERVED) &&
        next.unsettled === 0 && next.since < selector.pass;
      if (!servable) {
        selector.closes.push(next);
        continue;
      }
      next.set(CLOSE_SERVED);
      runClose(selector, next);
    }
  } finally {
    for (const left of due) selector.closes.push(left);
    running.current = current;
  }
}

/** The mutants of this file. */
export const order: readonly Mutant[] = [
  {
    name: "closes first",
    line: 3,
    what:
      "A channel that ends in a pass gets its handleClose before the next event of the pass, not after all of them.",
    apply() {
      for (const name of ["handleReadEvent", "handleWriteEvent"] as const) {
        wrap(Dispatcher, name, (original) =>
          function () {
            serveCloses(running.current!.selector);
            return original.call(this);
          });
      }
    },
  },
  {
    name: "last in, first out",
    line: 3,
    what:
      "Of several channels that are ready in one direction, the one whose I/O completed last is served first.",
    apply() {
      wrap(ReadyQueue, "take", (original) =>
        function () {
          const batch = original.call(this);
          refill(batch, itemsOf(batch).reverse());
          return batch;
        });
    },
  },
  {
    name: "two read events in a pass",
    line: 4,
    what:
      "A channel whose handleRead left something gets, every third time, another read event at once.",
    apply() {
      const third = everyNth(3);
      wrap(Dispatcher, "handleReadEvent", (original) =>
        function () {
          const result = original.call(this);
          const registration = running.current;
          if (isPromise(result) || registration?.channel !== this) {
            return result;
          }
          const { socket } = registration;
          const more = this.connected && registration.free(READ) &&
            registration.has(ACTIVE) && !registration.has(ENDING | DEAD) &&
            registration.has(READ.progress) && socket!.waiting &&
            !socket!.atEnd;
          if (!more || !third() || !askReadable(this)) return result;
          return original.call(this);
        });
    },
  },
  {
    name: "starved channel",
    line: 4,
    what:
      "Of two channels that are ready in one direction, one is put back in a hundred passes.",
    apply() {
      const victims = new WeakMap<
        ReadyQueue,
        { readonly who: Registration; times: number }
      >();
      wrap(ReadyQueue, "take", (original) =>
        function () {
          const batch = original.call(this);
          const items = itemsOf(batch);
          if (items.length > 1 && !victims.has(this)) {
            victims.set(this, { who: items[0]!, times: 0 });
          }
          const victim = victims.get(this);
          if (victim === undefined || ++victim.times > 100) return batch;
          const { who } = victim;
          if (!items.includes(who) || !who.has(ACTIVE)) return batch;
          refill(batch, items.filter((item) => item !== who));
          this.push(who);
          return batch;
        });
    },
  },
];
