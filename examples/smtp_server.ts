/**
 * A mail server that receives: each message becomes a file in FOLDER.
 *
 *     deno run --allow-net --allow-read=FOLDER --allow-write=FOLDER \
 *         examples/smtp_server.ts FOLDER [--port N] [--hostname H] [--name N]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. `--name` is what it calls itself in greetings. Try it
 * with `swaks --server 127.0.0.1:PORT --to jane@example.com`; Ctrl-C ends it.
 *
 * It takes mail from anybody for anybody, sends none on, and knows neither TLS
 * nor passwords: it is for programs under test, and for a mailbox behind a
 * gateway. What is where: `smtp/channel.ts` has the commands, `smtp/body.ts`
 * the text of a message, `smtp/maildrop.ts` the files.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import { channelMap } from "../mod.ts";
import { SmtpChannel } from "./smtp/channel.ts";
import { Maildrop } from "./smtp/maildrop.ts";
import { SmtpServer } from "./smtp/server.ts";
import { serve } from "./serve.ts";

function startServer(): SmtpServer {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: {
      port: { type: "string", default: "0" },
      hostname: { type: "string", default: "127.0.0.1" },
      name: { type: "string", default: "localhost" },
    },
  });
  const [folder, ...rest] = positionals;
  if (folder === undefined || rest.length > 0) {
    throw new TypeError("it takes one argument, FOLDER");
  }
  if (!Deno.statSync(folder).isDirectory) {
    throw new TypeError(`${folder} is no folder`);
  }
  const { hostname, port, name: host } = values;
  const maildrop = new Maildrop(folder, host);
  return new SmtpServer(
    { hostname, port: Number(port) },
    (envelope) => maildrop.open(envelope),
    { host },
  );
}

function sayGoodbye(): void {
  for (const channel of channelMap) {
    if (channel instanceof SmtpChannel) channel.shutDown();
  }
}

if (import.meta.main) await serve("mail server", startServer, sayGoodbye);
