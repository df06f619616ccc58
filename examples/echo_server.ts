/**
 * An echo server: every client gets back what it sends.
 *
 *     deno run --allow-net examples/echo_server.ts [--port N] [--hostname H]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. Try it with `nc 127.0.0.1 PORT`; Ctrl-C ends it.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { closeAll, Dispatcher, loop } from "../mod.ts";

/** One client. */
class Echo extends Dispatcher {
  // A client that does not read fills our send buffer; then we stop reading
  // from it, until there is room again.
  override readable() {
    return this.room > 0;
  }

  override handleRead() {
    this.send(this.recvView(this.room));
  }
}

class EchoServer extends Dispatcher {
  constructor(hostname: string, port: number) {
    super();
    this.createSocket();
    this.bind({ hostname, port });
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn) {
    new Echo(conn);
  }
}

function startServer(): EchoServer {
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: {
        port: { type: "string", default: "0" },
        hostname: { type: "string", default: "127.0.0.1" },
      },
    });
    return new EchoServer(values.hostname, Number(values.port));
  } catch (error) {
    const [reason] = (error as Error).message.split("\n");
    console.error(`Cannot start the echo server: ${reason}`);
    Deno.exit(2);
  }
}

const server = startServer();

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

const { hostname, port } = server.addr as Deno.NetAddr;
console.log(`Listening on ${hostname} port ${port}`);
await loop({ signal: stop.signal });
// Waits until the clients have what was echoed to them.
await closeAll();
