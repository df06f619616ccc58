/**
 * An echo server: every client gets back what it sends.
 *
 *     deno run --allow-net examples/echo_server.ts [--port N] [--hostname H]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. Try it with `nc 127.0.0.1 PORT`; Ctrl-C ends it.
 * `echo_server_test.ts` tests it without a network.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { type Address, Dispatcher, type DispatcherOptions } from "../mod.ts";
import { serve } from "./serve.ts";

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

/** The server. What its options say goes for its clients, too. */
export class EchoServer extends Dispatcher {
  readonly #options: DispatcherOptions;

  constructor(addr: Address, options: DispatcherOptions = {}) {
    super(null, options);
    this.#options = options;
    this.createSocket();
    this.bind(addr);
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn) {
    new Echo(conn, this.#options);
  }
}

function startServer(): EchoServer {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      port: { type: "string", default: "0" },
      hostname: { type: "string", default: "127.0.0.1" },
    },
  });
  const { hostname, port } = values;
  return new EchoServer({ hostname, port: Number(port) });
}

if (import.meta.main) await serve("echo server", startServer);
