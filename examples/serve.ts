/**
 * How every server of this folder starts and ends: it says where it listens, or
 * in one line why it cannot, and Ctrl-C ends it when everybody has what was sent
 * to them.
 */

import { closeAll, type Dispatcher, loop } from "../mod.ts";

/** Starts a server, or says why that is not possible and ends the process. */
function begin(name: string, start: () => Dispatcher): Dispatcher {
  try {
    return start();
  } catch (error) {
    const [reason] = (error as Error).message.split("\n");
    console.error(`Cannot start the ${name}: ${reason}`);
    Deno.exit(2);
  }
}

/** A signal that is aborted by Ctrl-C, or when the process is to end. */
function untilTold(): AbortSignal {
  // Windows has no SIGTERM.
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT"]
    : ["SIGINT", "SIGTERM"];
  const stop = new AbortController();
  for (const signal of signals) {
    Deno.addSignalListener(signal, function onSignal() {
      stop.abort();
      // A second Ctrl-C ends the process at once.
      Deno.removeSignalListener(signal, onSignal);
    });
  }
  return stop.signal;
}

/** Serves until Ctrl-C; `goodbye` is what is done before the channels are closed. */
export async function serve(
  name: string,
  start: () => Dispatcher,
  goodbye = () => {},
): Promise<void> {
  const server = begin(name, start);
  const signal = untilTold();
  const { hostname, port } = server.addr as Deno.NetAddr;
  console.log(`Listening on ${hostname} port ${port}`);
  await loop({ signal });
  goodbye();
  // Waits until the clients have what was sent to them.
  await closeAll();
}
