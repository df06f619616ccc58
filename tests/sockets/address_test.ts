import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { Address, Family } from "../../mod.ts";
import { formatAddress, parseAddress } from "../../sockets/address.ts";

const FAMILIES = [undefined, "inet", "inet6", "unix"] as const;

/** What `parseAddress` makes of an address, or the name of its error. */
function parsed(address: unknown, family?: Family): unknown {
  try {
    return parseAddress("connect", address as Address, family, "any.host");
  } catch (error) {
    return (error as Error).name;
  }
}

Deno.test("parseAddress() completes an address", () => {
  assertEquals(parsed({ port: 80 }), {
    transport: "tcp",
    hostname: "any.host",
    port: 80,
  });
  assertEquals(parsed({ hostname: "a", port: 0 }), {
    transport: "tcp",
    hostname: "a",
    port: 0,
  });
  assertEquals(parsed({ transport: "tcp", hostname: "a", port: 65_535 }), {
    transport: "tcp",
    hostname: "a",
    port: 65_535,
  });
  assertEquals(parsed({ path: "/a" }), { transport: "unix", path: "/a" });
  assertEquals(parsed({ transport: "unix", path: "a" }), {
    transport: "unix",
    path: "a",
  });
});

Deno.test("parseAddress() does not give back the caller's own object", () => {
  const address = { transport: "tcp", hostname: "a", port: 1 } as const;
  const result = parseAddress("connect", address, undefined, "");
  assertEquals(result, address);
  assertEquals(result === address, false);
});

Deno.test("parseAddress() takes an address of the family that was asked for", () => {
  const hosts: [string, Family | undefined][] = [
    ["127.0.0.1", "inet"],
    ["0.0.0.0", "inet"],
    ["255.255.255.255", "inet"],
    ["::", "inet6"],
    ["::1", "inet6"],
    ["[::1]", "inet6"],
    ["fe80::1%eth0", "inet6"],
    ["::ffff:127.0.0.1", "inet6"],
    // Names, for which the resolver decides.
    ["localhost", undefined],
    ["1.2.3.example", undefined],
    ["1.2.3.4.example", undefined],
    ["127.1", undefined],
    ["deadbeef", undefined],
  ];
  for (const [hostname, own] of hosts) {
    for (const family of FAMILIES) {
      const fits = family === undefined || family === own ||
        own === undefined && family !== "unix";
      assertEquals(
        parsed({ hostname, port: 1 }, family),
        fits ? { transport: "tcp", hostname, port: 1 } : "TypeError",
        `${hostname} ${family}`,
      );
    }
  }
  for (const family of FAMILIES) {
    assertEquals(
      parsed({ path: "/a" }, family),
      family === undefined || family === "unix"
        ? { transport: "unix", path: "/a" }
        : "TypeError",
    );
  }
});

Deno.test("parseAddress() refuses a port that is none", () => {
  for (const port of [-1, 65_536, 70_000, 1.5, NaN, Infinity, -Infinity]) {
    assertEquals(parsed({ port }), "RangeError", `${port}`);
  }
  for (const port of ["80", null, true, {}, 80n, undefined]) {
    assertEquals(parsed({ port }), "TypeError", `${port}`);
  }
});

Deno.test("parseAddress() refuses what is no address", () => {
  for (
    const address of [
      undefined,
      null,
      80,
      "127.0.0.1",
      true,
      [],
      ["127.0.0.1", 80],
      {},
      () => {},
      { hostname: "", port: 80 },
      { hostname: 1, port: 80 },
      { hostname: null, port: 80 },
      { transport: "udp", port: 80 },
      { transport: "tls", port: 80 },
      { path: "" },
      { path: null },
      { path: undefined },
      { transport: "unixpacket", path: "/a" },
      { transport: "tcp", path: "/a" },
    ]
  ) assertEquals(parsed(address), "TypeError", Deno.inspect(address));
});

Deno.test("parseAddress() says what the caller was about to do", () => {
  for (const verb of ["bind", "connect"]) {
    for (const address of [null, { port: "80" }, { path: "" }, { port: -1 }]) {
      const { message } = assertThrows(
        () => parseAddress(verb, address as Address, undefined, "any.host"),
        Error,
        `Cannot ${verb} `,
      );
      assertMatch(message, /: \S.*[^.]$/);
    }
  }
  assertThrows(
    () => parseAddress("bind", { port: 70_000 }, undefined, "any.host"),
    RangeError,
    "70000",
  );
});

Deno.test("formatAddress() shows host and port, or the path", () => {
  const cases: [Deno.Addr, string][] = [
    [{ transport: "tcp", hostname: "127.0.0.1", port: 80 }, "127.0.0.1:80"],
    [{ transport: "tcp", hostname: "localhost", port: 0 }, "localhost:0"],
    [{ transport: "tcp", hostname: "::1", port: 80 }, "[::1]:80"],
    [{ transport: "tcp", hostname: "[::1]", port: 80 }, "[::1]:80"],
    [{ transport: "udp", hostname: "::", port: 53 }, "[::]:53"],
    [{ transport: "unix", path: "/run/a.sock" }, "/run/a.sock"],
    [{ transport: "unixpacket", path: "/run/a.sock" }, "/run/a.sock"],
    // What Deno shows for the unnamed side of a Unix socket.
    [{ transport: "unix", path: null as unknown as string }, ""],
  ];
  for (const [addr, expected] of cases) {
    assertEquals(formatAddress(addr), expected);
  }
});
