/**
 * What tests of the servers in `examples/` share: they are started as their
 * first lines say, and talked to by Python, by hand or in simulation.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import type { SimNet } from "../testing.ts";
import { type Ending, Subprocess } from "./subprocess.ts";

/** Starts an example with no permission but the network. */
export function example(name: string, ...args: string[]): Subprocess {
  const { href } = new URL(`../examples/${name}`, import.meta.url);
  return new Subprocess(Deno.execPath(), ["run", "--allow-net", href, ...args]);
}

/** The port in the line with which a server says where it listens. */
export async function portOf(server: Subprocess): Promise<number> {
  const line = await server.line();
  const [, port] = /^Listening on 127\.0\.0\.1 port (\d+)$/.exec(line) ?? [];
  assert(port !== undefined, line);
  return Number(port);
}

/** A server that went through what a test did to it ends as if nothing had been. */
export async function assertUnharmed(server: Subprocess): Promise<void> {
  server.kill("SIGINT");
  const { code, stdout, stderr } = await server.end();
  assertEquals([code, new TextDecoder().decode(stdout), stderr], [0, "", ""]);
}

/** The server does not start with these arguments, and says why in one line. */
export async function assertRefuses(
  name: string,
  args: string[],
  line: RegExp,
): Promise<void> {
  await using server = example(name, ...args);
  const { code, stdout, stderr } = await server.end();
  assertMatch(stderr, line);
  assertEquals(stderr.trimEnd().split("\n").length, 1);
  assertEquals([code, stdout.length], [2, 0]);
}

/** A port on which nobody listens. */
export function deadPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Bytes of latin1. */
export function latin1(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Latin1 of bytes. */
export function fromLatin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

/** Writes everything. */
export async function writeAll(
  conn: Deno.Conn,
  text: string | Uint8Array,
): Promise<void> {
  let data = typeof text === "string" ? latin1(text) : text;
  while (data.length > 0) data = data.subarray(await conn.write(data));
}

/** Reads until `done` says so, or the end comes. */
export async function readUntil(
  conn: Deno.Conn,
  done: (text: string) => boolean,
): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  while (!done(text)) {
    const n = await conn.read(buffer);
    if (n === null) break;
    text += fromLatin1(buffer.subarray(0, n));
  }
  return text;
}

/** Says something, then no more, and listens to the end. */
export async function talk(
  conn: Deno.Conn,
  text: string | Uint8Array,
): Promise<string> {
  const said = (async () => {
    await writeAll(conn, text);
    await conn.closeWrite();
  })();
  const heard = await readUntil(conn, () => false);
  await said;
  conn.close();
  return heard;
}

/** Runs a simulation to its end, and what was begun in it. */
export async function simulate<T extends unknown[]>(
  net: SimNet,
  ...acts: { [K in keyof T]: Promise<T[K]> }
): Promise<T> {
  const all = Promise.all(acts);
  // Waited for below, unless the simulation fails before.
  all.catch(() => {});
  await net.run();
  return await all as T;
}

/** Starts a Python script, which can `connect()` to the port, `receive()` all of so many bytes or a `line()`, and `reset()` a connection. */
export function python(script: string, port: number): Subprocess {
  const prelude = `
import socket, struct

def connect():
    conn = socket.create_connection(("127.0.0.1", ${port}))
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn

def receive(conn, length):
    data = b""
    while len(data) < length:
        more = conn.recv(length - len(data))
        if not more:
            break
        data += more
    return data

def line(conn):
    data = b""
    while not data.endswith(b"\\n"):
        more = conn.recv(1)
        if not more:
            break
        data += more
    return data

def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
`;
  return new Subprocess("python3", ["-c", prelude + script]);
}

/** The program did what it was to do, and had nothing to complain about. */
export function assertGood({ code, stderr }: Ending): void {
  assertEquals([code, stderr], [0, ""]);
}

/** Runs a Python script to its end, which has to be a good one. */
export async function runPython(script: string, port: number): Promise<void> {
  await using process = python(script, port);
  assertGood(await process.end());
}
