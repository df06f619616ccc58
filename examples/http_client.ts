/**
 * Fetches a page over HTTP and prints the response as it is received: status
 * line, headers, body.
 *
 *     deno run --allow-net examples/http_client.ts [URL]
 *
 * Without a URL it fetches from a server of its own, in the same loop, and so
 * needs no network.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { type CloseReason, Dispatcher, loop } from "../mod.ts";
import { HelloServer } from "./hello_server.ts";

const encoder = new TextEncoder();
const stdout = Deno.stdout.writable.getWriter();

class HttpClient extends Dispatcher {
  url: URL;
  buffer: Uint8Array;

  constructor(url: URL) {
    super();
    this.url = url;
    this.buffer = encoder.encode(
      `GET ${url.pathname}${url.search} HTTP/1.0\r\nHost: ${url.host}\r\n\r\n`,
    );
    this.createSocket();
    this.connect({ hostname: url.hostname, port: Number(url.port || 80) });
  }

  override writable() {
    return this.buffer.length > 0;
  }

  override handleWrite() {
    this.buffer = this.buffer.subarray(this.send(this.buffer));
  }

  // Until the promise settles, nothing more is read: a slow reader of our
  // output slows the server down.
  override async handleRead() {
    await stdout.write(this.recv());
  }

  // An error, such as a refused connection, ends the connection.
  override handleError(error: unknown) {
    this.disconnect({ kind: "error", error });
  }

  override handleClose({ kind, error }: CloseReason) {
    this.close();
    if (kind !== "eof") fail(this.url.href, (error as Error).message);
  }
}

function fail(url: string, reason: string) {
  console.error(`Cannot fetch ${url}: ${reason}`);
  Deno.exitCode = 1;
}

const [argument] = Deno.args;
if (argument === undefined) {
  const server = new HelloServer();
  const client = new HttpClient(new URL(server.url));
  client.signal.addEventListener("abort", () => server.close());
} else {
  const url = URL.parse(argument);
  if (url?.protocol === "http:") new HttpClient(url);
  else fail(argument, "it is not a URL that begins with http://");
}
await loop();
