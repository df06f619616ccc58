/**
 * The methods that the Deno driver's channels override, but for the handlers of
 * a socket's events.
 *
 * @module
 */

import { AsyncChat, type Dispatcher } from "../../mod.ts";
import { Boom, encoded } from "./actions.ts";
import { quoted } from "./bytes.ts";
import type { Action, ChannelSpec } from "./scenario.ts";

/** What `call` prints. */
function printed(call: () => void): string {
  const { log, error } = console;
  let text = "";
  console.log = console.error = (line: string) => text += line;
  try {
    call();
  } finally {
    console.log = log;
    console.error = error;
  }
  return text;
}

/** Methods that put what is logged into the trace. */
export function logMethods(
  Base: typeof Dispatcher,
  trace: (what: string) => void,
): Record<string, unknown> {
  return {
    log(this: Dispatcher, message: string) {
      trace(`log ${printed(() => Base.prototype.log.call(this, message))}`);
    },
    logInfo(this: Dispatcher, message: string, type?: string) {
      const text = printed(() =>
        Base.prototype.logInfo.call(this, message, type)
      );
      // Of an error only that it is one: its text names code.
      if (text.startsWith("error: ")) trace("log error");
      else if (text !== "") trace(`log ${text}`);
    },
  };
}

/** What a channel with frames is told at first. */
export function setUpFrames(
  chat: AsyncChat,
  { terminator, maxFrameLength }: ChannelSpec,
): void {
  if (terminator !== undefined) chat.setTerminator(encoded(terminator));
  if (maxFrameLength !== undefined) chat.maxFrameLength = maxFrameLength;
}

/** A `close()` that fails after it has done its work. */
export function closeMethod(
  Base: typeof Dispatcher,
  message: string,
): Record<string, unknown> {
  return {
    close(this: Dispatcher) {
      Base.prototype.close.call(this);
      throw new Boom(message);
    },
  };
}

/**
 * What an `async_chat` is told about frames.
 *
 * @param on Its handlers.
 * @param play Adds a line to the trace and carries out actions.
 * @returns The methods that are named in `on`.
 */
export function frameMethods(
  { found, collect, incomplete, tooLong }: NonNullable<ChannelSpec["on"]>,
  play: (what: string, actions: readonly Action[]) => void,
): Record<string, unknown> {
  return {
    ...found && { foundTerminator: () => play("found", found) },
    ...collect && {
      collectIncomingData(this: AsyncChat, data: Uint8Array) {
        play(`collect ${quoted(data)}`, collect);
        AsyncChat.prototype.collectIncomingData.call(this, data);
      },
    },
    ...incomplete && {
      handleIncompleteFrame: (data: Uint8Array) =>
        play(`incomplete ${quoted(data)}`, incomplete),
    },
    ...tooLong && { handleFrameTooLong: () => play("tooLong", tooLong) },
  };
}
