/**
 * Mutants of what goes wrong and who is told, and of handlers that take their time.
 *
 * @module
 */

import { Registration, Selector } from "../../channel_map.ts";
import { Dispatcher } from "../../dispatcher.ts";
import { ExitNow } from "../../errors.ts";
import { DEAD, ENDING, READ } from "../../flags.ts";
import { type Mutant, wrap } from "./mutant.ts";

/**
 * Does something more when an attempt to connect failed, before it is told.
 *
 * @param more What to do.
 */
function onFailedConnect(
  more: (dispatcher: Dispatcher, error: unknown) => unknown,
): void {
  wrap(Dispatcher, "handleExptEvent", (original) =>
    function () {
      try {
        return original.call(this);
      } catch (error) {
        // It is thrown for a failed connect only; that of handleExpt leaves the channel as it was.
        if (this.closing) more(this, error);
        throw error;
      }
    });
}

/** The mutants of this file. */
export const errors: readonly Mutant[] = [
  {
    name: "failed connect told twice",
    line: 8,
    what: "handleError is called twice for a connect that failed.",
    apply() {
      onFailedConnect((dispatcher, error) => dispatcher.handleError(error));
    },
  },
  {
    name: "connect after a failure",
    line: 8,
    what:
      "handleConnect is called for a connect that was not refused but failed otherwise.",
    apply() {
      onFailedConnect((dispatcher, error) => {
        if (!(error instanceof Deno.errors.ConnectionRefused)) {
          return dispatcher.handleConnect();
        }
      });
    },
  },
  {
    name: "error swallowed",
    line: 11,
    what:
      "What an async handler rejects with is not told if its channel was closed meanwhile.",
    apply() {
      wrap(Selector, "reject", (original) =>
        function (registration, error) {
          const lost = registration.has(DEAD) && !(error instanceof ExitNow);
          if (!lost) original.call(this, registration, error);
        });
    },
  },
  {
    name: "error reaches loop()",
    line: 11,
    what: "A failed handler whose channel ends by it makes loop() reject.",
    apply() {
      wrap(
        Selector,
        "park",
        (original) =>
          function (registration, direction, threw) {
            if (threw && registration.has(ENDING)) {
              throw new Error("Cannot park: the channel has ended");
            }
            original.call(this, registration, direction, threw);
          },
      );
    },
  },
  {
    name: "ExitNow swallowed",
    line: 11,
    what:
      "An ExitNow that an async handler rejects with does not end the loop.",
    apply() {
      wrap(Selector, "reject", (original) =>
        function (registration, error) {
          if (!(error instanceof ExitNow)) {
            original.call(this, registration, error);
          }
        });
    },
  },
  {
    name: "async handler not held",
    line: 12,
    what: "handleRead is called again while an async one is pending.",
    apply() {
      wrap(Registration, "hold", (original) =>
        function (direction) {
          if (direction !== READ) original.call(this, direction);
        });
      wrap(Registration, "release", (original) =>
        function (direction) {
          if (direction !== READ) original.call(this, direction);
          else this.selector.examine(this);
        });
    },
  },
];
