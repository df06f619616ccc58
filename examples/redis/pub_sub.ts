/**
 * Who has subscribed to what.
 *
 * @module
 */

import { matcher } from "./glob.ts";
import { encode, type Reply } from "./resp.ts";

/** Who gets messages. */
export interface Subscriber {
  /** Takes a message: bytes of the protocol, which others get, too. */
  deliver(message: Uint8Array): void;
}

const NOBODY: ReadonlySet<Subscriber> = new Set();

/** Channels, or patterns, that have subscribers. */
class Topics {
  readonly #topics = new Map<string, Set<Subscriber>>();

  get size(): number {
    return this.#topics.size;
  }

  names(): string[] {
    return [...this.#topics.keys()];
  }

  subscribersOf(name: string): ReadonlySet<Subscriber> {
    return this.#topics.get(name) ?? NOBODY;
  }

  add(name: string, subscriber: Subscriber): void {
    const subscribers = this.#topics.get(name);
    if (subscribers === undefined) {
      this.#topics.set(name, new Set([subscriber]));
    } else subscribers.add(subscriber);
  }

  delete(name: string, subscriber: Subscriber): void {
    const subscribers = this.#topics.get(name);
    subscribers?.delete(subscriber);
    if (subscribers?.size === 0) this.#topics.delete(name);
  }
}

/** Passes messages on. */
export class PubSub {
  readonly channels = new Topics();
  readonly patterns = new Topics();

  /** Sends a message to all who subscribed to its channel, or to a pattern; returns how many they are. */
  publish(channel: string, payload: Uint8Array): number {
    let count = deliver(
      this.channels.subscribersOf(channel),
      ["message", channel, payload],
    );
    for (const pattern of this.patterns.names()) {
      if (!matcher(pattern)(channel)) continue;
      count += deliver(
        this.patterns.subscribersOf(pattern),
        ["pmessage", pattern, channel, payload],
      );
    }
    return count;
  }
}

function deliver(to: ReadonlySet<Subscriber>, message: Reply): number {
  if (to.size === 0) return 0;
  // Encoded once, however many they are.
  const bytes = encode(message);
  for (const subscriber of to) subscriber.deliver(bytes);
  return to.size;
}
