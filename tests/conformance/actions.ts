/**
 * What a scenario's handlers and steps do with a channel: the verbs of
 * scenarios.json, as README.md explains them.
 *
 * @module
 */

import {
  AsyncChat,
  type Dispatcher,
  ExitNow,
  type Producer,
  SimpleProducer,
  type Terminator,
} from "../../mod.ts";
import { bytesOf, concat, isPatterned, patterned, quoted } from "./bytes.ts";
import { type Address, HOST } from "./place.ts";
import type { Action } from "./scenario.ts";

/** What a scenario's handler throws on purpose. */
export class Boom extends Error {}

/** A dispatcher and what its handlers work on. */
export interface Channel {
  /** Its name in the trace. */
  readonly label: string;
  /** The channel itself. */
  readonly dispatcher: Dispatcher;
  /** What it wants to send. */
  buffer: Uint8Array;
  /** How much of the pattern it received. */
  total: number;
  /** Whether all of that was right. */
  intact: boolean;
  /** What happens only once, and has happened. */
  readonly ran: Set<string>;
}

/** What the actions need of the run they belong to. */
export interface Stage {
  /** Where Unix sockets go. */
  readonly folder: string;
  /** What predicates may depend on. */
  readonly flags: Record<string, boolean>;
  /** Adds a line. */
  trace(who: string, what: string): void;
  /** The channel of this name, made if need be. */
  channel(name: string): Channel;
  /** Makes the next channel of this name. */
  newChannel(name: string, conn?: Deno.Conn): Channel;
  /** Where a channel or a peer listens. */
  addressOf(target: string): Address;
  /** Serves the map for one pass. */
  onePass(): Promise<void>;
}

/** What one verb does. A handler that was given a connection hands it on. */
type Deed = (
  stage: Stage,
  channel: Channel,
  // deno-lint-ignore no-explicit-any -- what a verb's arguments are, the scenario says
  args: any[],
  conn?: Deno.Conn,
) => void;

/** Carries out one action after the other. */
export function act(
  stage: Stage,
  channel: Channel,
  actions: readonly Action[],
  conn?: Deno.Conn,
): void {
  for (const [verb, ...args] of actions) {
    const deed = DEEDS[verb];
    if (deed === undefined) {
      throw new TypeError(`Cannot act on a channel: no verb "${verb}"`);
    }
    deed(stage, channel, args, conn);
  }
}

const DEEDS: Readonly<Record<string, Deed>> = {
  // Who, and how often.

  at: (stage, _, [name, ...action]) =>
    act(stage, stage.channel(name), [action as unknown as Action]),

  first(stage, channel, args, conn) {
    const key = JSON.stringify(args);
    const [now, later] = args;
    const ranBefore = channel.ran.has(key);
    channel.ran.add(key);
    act(stage, channel, ranBefore ? later : now, conn);
  },

  // Sockets.

  create: (_, { dispatcher }, [family = "inet"]) =>
    dispatcher.createSocket(family),

  serve(stage, { dispatcher, label }, [family = "inet"]) {
    dispatcher.createSocket(family);
    dispatcher.bind(
      family === "unix"
        ? { transport: "unix", path: `${stage.folder}/${label}.sock` }
        : { hostname: HOST, port: 0 },
    );
    dispatcher.listen(5);
  },

  connect: (stage, { dispatcher }, [target]) =>
    dispatcher.connect(stage.addressOf(target)),

  accept(stage, { dispatcher, label }, [name]) {
    const pair = dispatcher.accept();
    if (pair === null) stage.trace(label, "accepted nothing");
    else stage.newChannel(name, pair[0]);
  },

  adopt: (stage, _, [name], conn) => void stage.newChannel(name, conn),
  drop: (_stage, _channel, _args, conn) => conn!.close(),
  close: (_, { dispatcher }) => dispatcher.close(),
  delChannel: (_, { dispatcher }) => dispatcher.delChannel(),
  addChannel: (_, { dispatcher }) => dispatcher.addChannel(),

  flags(stage, { dispatcher, label }) {
    const words = (["connected", "accepting", "connecting"] as const)
      .filter((name) => dispatcher[name]);
    stage.trace(label, `flags: ${words.join(" ") || "none"}`);
  },

  // Receiving.

  recv(stage, { dispatcher, label }, [size]) {
    try {
      const bytes = dispatcher.recv(size);
      if (bytes.length > 0) stage.trace(label, `got ${quoted(bytes)}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.WouldBlock)) throw error;
      stage.trace(label, "recv would block");
    }
  },

  recvAlsoNothing(stage, { dispatcher, label }, [size]) {
    stage.trace(label, `got ${quoted(dispatcher.recv(size))}`);
  },

  take: (_, channel, [size]) => check(channel, channel.dispatcher.recv(size)),

  total(stage, { label, total, intact }) {
    stage.trace(label, `got ${total} bytes ${intact ? "intact" : "damaged"}`);
  },

  echo: (stage, channel, [size]) => relay(stage, channel, channel, size),
  relay: (stage, channel, [name, size]) =>
    relay(stage, channel, stage.channel(name), size),

  // Sending.

  queue(_, channel, [text]) {
    channel.buffer = concat(channel.buffer, bytesOf(text));
  },

  queuePattern(_, channel, [size]) {
    channel.buffer = patterned(size);
  },

  flush(_, channel) {
    const { buffer, dispatcher } = channel;
    channel.buffer = buffer.subarray(dispatcher.send(buffer));
  },

  piece(stage, channel, [size]) {
    const { buffer, dispatcher, label } = channel;
    const count = dispatcher.send(buffer.subarray(0, size));
    channel.buffer = buffer.subarray(count);
    stage.trace(label, `sent ${count}`);
  },

  waiting(stage, { buffer, label }) {
    const what = buffer.length > 0 ? "unsent bytes" : "nothing unsent";
    stage.trace(label, `has ${what}`);
  },

  send: (_, { dispatcher }, [text]) => void dispatcher.send(bytesOf(text)),

  sendCounted(stage, { dispatcher, label }, [text]) {
    stage.trace(label, `sent ${dispatcher.send(bytesOf(text))}`);
  },

  // Frames.

  setTerminator: (_, channel, [terminator]) =>
    chatOf(channel).setTerminator(encoded(terminator)),
  setTerminatorAsIs: (_, channel, [terminator]) =>
    chatOf(channel).setTerminator(terminator),

  getTerminator(stage, channel) {
    const terminator = chatOf(channel).getTerminator();
    const shown = terminator instanceof Uint8Array
      ? quoted(terminator)
      : JSON.stringify(terminator);
    stage.trace(channel.label, `terminator ${shown}`);
  },

  takeIncoming(stage, channel) {
    const bytes = chatOf(channel).takeIncoming();
    stage.trace(channel.label, `took ${quoted(bytes)}`);
  },

  checkIncoming: (_, channel) => check(channel, chatOf(channel).takeIncoming()),
  handleRead: (_, { dispatcher }) => void dispatcher.handleRead(),

  push: (_, channel, [data]) => chatOf(channel).push(content(data)),
  pushAsIs: (_, channel, [value]) => chatOf(channel).push(value),
  pushProducer: (stage, channel, [pieces]) =>
    chatOf(channel).pushWithProducer(producer(stage, channel, pieces)),
  pushSimpleProducer: (_, channel, [data, size]) =>
    chatOf(channel).pushWithProducer(new SimpleProducer(content(data), size)),
  pushBytesAsProducer: (_, channel, [text]) =>
    chatOf(channel).pushWithProducer(bytesOf(text)),
  closeWhenDone: (_, channel) => chatOf(channel).closeWhenDone(),
  discardBuffers: (_, channel) => chatOf(channel).discardBuffers(),

  // The rest.

  log: (_, { dispatcher }, [message]) => dispatcher.log(message),

  logInfo: (_, { dispatcher }, [message, type]) =>
    dispatcher.logInfo(message, type),

  set(stage, _, [flag, value]) {
    stage.flags[flag] = value;
  },

  raise(_stage, _channel, [message]) {
    throw new Boom(message);
  },

  exit() {
    throw new ExitNow();
  },

  poll(stage, { label }) {
    stage.onePass().then(
      () => stage.trace(label, "has polled"),
      () => stage.trace(label, "may not poll"),
    );
  },
};

/** What may be done with a channel. */
export const VERBS: ReadonlySet<string> = new Set(Object.keys(DEEDS));

/** Receives for one channel, or for itself, to send. */
function relay(stage: Stage, from: Channel, to: Channel, size: number): void {
  const bytes = from.dispatcher.recv(size);
  if (bytes.length > 0) stage.trace(from.label, `got ${quoted(bytes)}`);
  to.buffer = concat(to.buffer, bytes);
}

/** The channel, which must be one with frames. */
function chatOf({ dispatcher, label }: Channel): AsyncChat {
  if (dispatcher instanceof AsyncChat) return dispatcher;
  throw new TypeError(`Cannot act on "${label}": it is no async_chat`);
}

/** A text as bytes, a number or `null` as it is. */
export function encoded(terminator: string | number | null): Terminator {
  return typeof terminator === "string" ? bytesOf(terminator) : terminator;
}

/** The bytes of a text, or so many of the pattern. */
function content(data: string | number): Uint8Array {
  return typeof data === "number" ? patterned(data) : bytesOf(data);
}

/** Checks that what was received goes on with the pattern. */
function check(channel: Channel, bytes: Uint8Array): void {
  channel.intact &&= isPatterned(bytes, channel.total);
  channel.total += bytes.length;
}

/** Makes the pieces of a scenario; where one is an action, that is carried out first. */
function producer(
  stage: Stage,
  channel: Channel,
  pieces: readonly (string | Action)[],
): Producer {
  const rest = [...pieces];
  return {
    more() {
      for (
        let piece = rest.shift();
        piece !== undefined;
        piece = rest.shift()
      ) {
        if (typeof piece === "string") return bytesOf(piece);
        act(stage, channel, [piece]);
      }
      return bytesOf("");
    },
  };
}
