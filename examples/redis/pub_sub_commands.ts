/**
 * Commands for messages.
 *
 * @module
 */

import { type Client, type Commands, group } from "./command.ts";
import { matcher } from "./glob.ts";
import { type Reply, toText } from "./resp.ts";

/** What somebody can subscribe to. */
type Kind = "channels" | "patterns";

function subscriptions({ channels, patterns }: Client): number {
  return channels.size + patterns.size;
}

/** Makes SUBSCRIBE and PSUBSCRIBE; there is a reply for each name. */
function subscribe(command: string, kind: Kind) {
  return (args: readonly Uint8Array[], client: Client) => {
    for (const arg of args.slice(1)) {
      const name = toText(arg);
      client[kind].add(name);
      client.database.pubSub[kind].add(name, client);
      client.reply([command, arg, subscriptions(client)]);
    }
  };
}

/** Makes UNSUBSCRIBE and PUNSUBSCRIBE; without names they are for all. */
function unsubscribe(command: string, kind: Kind) {
  return (args: readonly Uint8Array[], client: Client): Reply | void => {
    const names = args.length > 1
      ? args.slice(1).map(toText)
      : [...client[kind]];
    if (names.length === 0) return [command, null, subscriptions(client)];
    for (const name of names) {
      client[kind].delete(name);
      client.database.pubSub[kind].delete(name, client);
      client.reply([command, name, subscriptions(client)]);
    }
  };
}

/** Ends all subscriptions of a client, without a reply. */
export function forgetSubscriber(client: Client): void {
  for (const kind of ["channels", "patterns"] as const) {
    for (const name of client[kind]) {
      client.database.pubSub[kind].delete(name, client);
    }
    client[kind].clear();
  }
}

export const PUB_SUB_COMMANDS: Commands = {
  subscribe: {
    arity: -2,
    subscriber: true,
    run: subscribe("subscribe", "channels"),
  },
  unsubscribe: {
    arity: -1,
    subscriber: true,
    run: unsubscribe("unsubscribe", "channels"),
  },
  psubscribe: {
    arity: -2,
    subscriber: true,
    run: subscribe("psubscribe", "patterns"),
  },
  punsubscribe: {
    arity: -1,
    subscriber: true,
    run: unsubscribe("punsubscribe", "patterns"),
  },
  publish: {
    arity: 3,
    run: (args, { database: { pubSub } }) =>
      pubSub.publish(toText(args[1]!), args[2]!),
  },
  pubsub: group("pubsub", {
    channels: {
      arity: -2,
      run(args, { database: { pubSub } }) {
        const matches = args.length > 2
          ? matcher(toText(args[2]!))
          : () => true;
        return pubSub.channels.names().filter(matches);
      },
    },
    numsub: {
      arity: -2,
      run: (args, { database: { pubSub } }) =>
        args.slice(2).flatMap((name) => [
          name,
          pubSub.channels.subscribersOf(toText(name)).size,
        ]),
    },
    numpat: {
      arity: 2,
      run: (_args, { database: { pubSub } }) => pubSub.patterns.size,
    },
  }),
};
