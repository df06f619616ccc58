/**
 * Addresses: checked before anything is done with them, and as text.
 *
 * @module
 */

import type { Address, Family, SocketAddress } from "./socket.ts";

const IPV4 = /^\d{1,3}(\.\d{1,3}){3}$/;

/**
 * Checks an address and completes it.
 *
 * @param verb What the caller is about to do, for the error: `connect`, `bind`.
 * @param address What the caller was given.
 * @param family The family the socket was made for; `undefined` takes the address's own.
 * @param anyHost The host name to take where the address has none.
 * @returns The address, complete.
 * @throws {TypeError} If it is no address, or of another family.
 * @throws {RangeError} If the port is not a whole number from 0 to 65535.
 */
export function parseAddress(
  verb: string,
  address: Address,
  family: Family | undefined,
  anyHost: string,
): SocketAddress {
  const fail = (what: string): TypeError =>
    new TypeError(`Cannot ${verb} ${Deno.inspect(address)}: ${what}`);
  if (typeof address !== "object" || address === null) {
    throw fail("an address is an object with a port or a path");
  }
  if ("path" in address) {
    const { path, transport = "unix" } = address;
    if (typeof path !== "string" || path === "") {
      throw fail("the path must be a string that is not empty");
    }
    if (transport !== "unix") throw fail(`no stream over ${transport}`);
    if (family !== undefined && family !== "unix") {
      throw fail(`a path is not of the family ${family}`);
    }
    return { transport, path };
  }
  const { hostname = anyHost, port, transport = "tcp" } = address;
  if (transport !== "tcp") throw fail(`no stream over ${transport}`);
  if (family === "unix") throw fail("the family unix needs a path");
  if (typeof hostname !== "string" || hostname === "") {
    throw fail("the hostname must be a string that is not empty");
  }
  if (typeof port !== "number") throw fail("the port must be a number");
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new RangeError(
      `Cannot ${verb} ${hostname}: the port must be a whole number from 0 to 65535, got ${port}`,
    );
  }
  // For a name the resolver decides: only a literal address shows its family.
  const literal = hostname.includes(":")
    ? "inet6"
    : IPV4.test(hostname)
    ? "inet"
    : undefined;
  if (
    family !== undefined && literal !== undefined && family !== literal
  ) throw fail(`the address is of the family ${literal}, not ${family}`);
  return { transport, hostname, port };
}

/**
 * An address as text.
 *
 * @param addr Any address of Deno's.
 * @returns `127.0.0.1:80`, `[::1]:80`, the path of a Unix socket, or an empty string for an unnamed one.
 */
export function formatAddress(addr: Deno.Addr): string {
  if ("path" in addr) return addr.path ?? "";
  if (!("hostname" in addr)) return Deno.inspect(addr);
  const { hostname, port } = addr;
  const bare = hostname.includes(":") && !hostname.startsWith("[");
  return `${bare ? `[${hostname}]` : hostname}:${port}`;
}
