/**
 * An echo server without the library, to compare with: one async function per
 * connection, each with a buffer of 64 KiB.
 *
 *     deno run --allow-net bench/raw_echo.ts
 *
 * @module
 */

async function echo(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  try {
    for (let n = await conn.read(buffer); n !== null;) {
      let data = buffer.subarray(0, n);
      while (data.length > 0) data = data.subarray(await conn.write(data));
      n = await conn.read(buffer);
    }
  } catch {
    // The client is gone, which is all there is to know.
  } finally {
    conn.close();
  }
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(`Listening on 127.0.0.1 port ${listener.addr.port}`);
for await (const conn of listener) echo(conn);
