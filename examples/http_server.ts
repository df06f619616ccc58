/**
 * A web server: it shows the files in FOLDER.
 *
 *     deno run --allow-net --allow-read=FOLDER examples/http_server.ts FOLDER \
 *         [--port N] [--hostname H]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. Try it with `curl -i` and a browser; Ctrl-C ends it.
 *
 * It knows GET and HEAD, connections that stay open, ranges and conditional
 * requests. It shows `index.html` for a folder, and no file whose name begins
 * with a dot. What is where: `http/channel.ts` has one client,
 * `http/request.ts` what it says, `http/site.ts` the files,
 * `http/conditions.ts` ranges and conditions.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { type Address, Dispatcher, type DispatcherOptions } from "../mod.ts";
import { HttpChannel } from "./http/channel.ts";
import { Site } from "./http/site.ts";
import { serve } from "./serve.ts";

/** The server. What its options say goes for its clients, too. */
export class HttpServer extends Dispatcher {
  readonly #site: Site;
  readonly #options: DispatcherOptions;

  constructor(addr: Address, folder: string, options: DispatcherOptions = {}) {
    super(null, options);
    this.#site = new Site(folder);
    this.#options = options;
    this.createSocket();
    this.bind(addr);
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn) {
    new HttpChannel(conn, this.#site, this.#options);
  }
}

function startServer(): HttpServer {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: {
      port: { type: "string", default: "0" },
      hostname: { type: "string", default: "127.0.0.1" },
    },
  });
  const [folder, ...rest] = positionals;
  if (folder === undefined || rest.length > 0) {
    throw new TypeError("it takes one argument, FOLDER");
  }
  const { hostname, port } = values;
  return new HttpServer({ hostname, port: Number(port) }, folder);
}

if (import.meta.main) await serve("web server", startServer);
