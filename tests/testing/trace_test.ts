import { assertEquals } from "@std/assert";
import type { Channel } from "../../channel_map.ts";
import { Trace } from "../../testing/trace.ts";

class Echo {}
class Server {}

function channel(thing: object): Channel {
  return thing as Channel;
}

Deno.test("Trace names a channel by its class and its number", () => {
  const trace = new Trace(() => 0);
  const [first, second] = [new Echo(), new Echo()];
  for (const each of [first, new Server(), second, first]) {
    trace.trace(channel(each), "read");
  }
  assertEquals(
    trace.entries.map((entry) => entry.channel),
    ["Echo#1", "Server#1", "Echo#2", "Echo#1"],
  );
});

Deno.test("Trace takes the name that a channel was given", () => {
  const trace = new Trace(() => 0);
  const [first, second] = [new Echo(), new Echo()];
  trace.name(first, "the first");
  trace.trace(channel(first), "read");
  trace.trace(channel(second), "read");
  assertEquals(
    trace.entries.map((entry) => entry.channel),
    ["the first", "Echo#1"],
  );
});

Deno.test("Trace writes down when, what, how many bytes and what else", () => {
  let time = 1;
  const trace = new Trace(() => time++);
  const echo = channel(new Echo());
  trace.trace(echo, "write");
  trace.trace(echo, "recv()", 0);
  trace.trace(echo, "close", 5, "eof");
  trace.trace(echo, "error", undefined, new TypeError("no"));
  const common = { channel: "Echo#1" };
  assertEquals(trace.entries, [
    { ...common, time: 1, event: "write" },
    { ...common, time: 2, event: "recv()", bytes: 0 },
    { ...common, time: 3, event: "close", bytes: 5, detail: "eof" },
    { ...common, time: 4, event: "error", detail: "TypeError: no" },
  ]);
});

Deno.test("Trace writes addresses as text", () => {
  const trace = new Trace(() => 0);
  const addresses: Deno.Addr[] = [
    { transport: "tcp", hostname: "127.0.0.1", port: 80 },
    { transport: "tcp", hostname: "::1", port: 80 },
    { transport: "unix", path: "/run/echo" },
  ];
  for (const addr of addresses) {
    trace.trace(channel(new Echo()), "listen()", undefined, addr);
  }
  assertEquals(
    trace.entries.map(({ detail }) => detail),
    ["127.0.0.1:80", "[::1]:80", "/run/echo"],
  );
});
