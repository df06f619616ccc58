/**
 * Mutants of what channels are asked, and when.
 *
 * @module
 */

import { type Channel, isOwn, Registration } from "../../channel_map.ts";
import { READ } from "../../flags.ts";
import { ConnSocket } from "../../sockets/stream_socket.ts";
import { type Mutant, wrap, wrapGetter } from "./mutant.ts";

/**
 * Puts something between the scheduler and the predicates of every channel.
 *
 * @param name The predicate.
 * @param answer Gives the answer; it may ask the channel.
 */
function shadow(
  name: "readable" | "writable",
  answer: (registration: Registration, ask: () => boolean) => boolean,
): void {
  const registrations = new WeakMap<Channel, Registration>();
  wrap(Registration, "add", (original) =>
    function (selector) {
      const { channel } = this;
      const predicate = channel[name];
      if (!isOwn(predicate)) {
        if (!registrations.has(channel)) {
          channel[name] = () =>
            answer(
              registrations.get(channel)!,
              () => predicate.call(channel),
            );
        }
        registrations.set(channel, this);
      }
      original.call(this, selector);
    });
}

/** The mutants of this file. */
export const asking: readonly Mutant[] = [
  {
    name: "readable() asked too early",
    line: 2,
    what:
      "The answer that readable() gave when the read was started is taken for its answer right before the handler.",
    apply() {
      shadow(
        "readable",
        (registration, ask) => registration.has(READ.queued) || ask(),
      );
    },
  },
  {
    name: "writable() asked once in a pass",
    line: 2,
    what:
      "What writable() said when the pass began is taken for its answer right before the handler.",
    apply() {
      const asked = new WeakMap<Registration, number>();
      shadow("writable", (registration, ask) => {
        const { pass } = registration.selector;
        if (asked.get(registration) === pass) return true;
        const wanted = ask();
        if (wanted === true) asked.set(registration, pass);
        return wanted;
      });
    },
  },
  {
    name: "readable() of a listener not asked",
    line: 2,
    what: "A listener accepts, whatever its readable() says.",
    apply() {
      shadow(
        "readable",
        ({ channel }, ask) => channel.accepting || ask(),
      );
    },
  },
  {
    name: "reads ahead",
    line: 2,
    what:
      "A read is started whether readable() is true or not; only before the handler it is asked.",
    apply() {
      shadow("readable", ({ channel, socket }, ask) => {
        return !channel.accepting && !socket!.waiting || ask();
      });
    },
  },
  {
    name: "write event without room",
    line: 9,
    what:
      "A channel counts as ready to write as soon as there is room for one byte.",
    apply() {
      wrapGetter(ConnSocket, "writeReady", () =>
        function () {
          return this.room > 0;
        });
    },
  },
];
