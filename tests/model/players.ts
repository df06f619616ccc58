/**
 * The dispatchers of a program: every method they override asks their actor.
 *
 * @module
 */

import { type CloseReason, Dispatcher, DispatcherWithSend } from "../../mod.ts";
import type { Actor } from "./actor.ts";

/** The overridden methods: all but the predicates and `handleWrite`. */
// deno-lint-ignore no-explicit-any -- what a mixin's base must be
function playing<Base extends new (...args: any[]) => Dispatcher>(base: Base) {
  return class Player extends base {
    declare actor: Actor;
    override handleRead() {
      return this.actor.play("read");
    }
    override handleExpt() {
      return this.actor.play("expt");
    }
    override handleConnect() {
      return this.actor.play("connect");
    }
    override handleAccept() {
      return this.actor.play("accept", undefined, () => super.handleAccept());
    }
    override handleAccepted(conn: Deno.Conn) {
      return this.actor.play("accepted", conn);
    }
    override handleEof() {
      return this.actor.play("eof", undefined, () => super.handleEof());
    }
    override handleClose(reason?: CloseReason) {
      return this.actor.play("close", reason);
    }
    override handleError(error: unknown) {
      return this.actor.play("error", error, () => super.handleError(error));
    }
    override logInfo(message: string, type = "info") {
      this.actor.logged(message, type);
    }
  };
}

// deno-lint-ignore no-explicit-any -- what a mixin's base must be
function writing<Base extends new (...args: any[]) => { actor: Actor }>(
  base: Base,
) {
  return class Writer extends base {
    handleWrite() {
      return this.actor.play("write");
    }
  };
}

// deno-lint-ignore no-explicit-any -- what a mixin's base must be
function choosing<Base extends new (...args: any[]) => { actor: Actor }>(
  base: Base,
) {
  return class Chooser extends base {
    readable() {
      return this.actor.ask("read");
    }
    writable() {
      return this.actor.ask("write");
    }
  };
}

const Plain = playing(Dispatcher);
const WithSend = playing(DispatcherWithSend);
export const PLAYERS = {
  plain: {
    some: Plain,
    handlers: writing(Plain),
    all: choosing(writing(Plain)),
  },
  withSend: {
    some: WithSend,
    handlers: writing(WithSend),
    all: choosing(writing(WithSend)),
  },
} as const;
