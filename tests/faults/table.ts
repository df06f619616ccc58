/**
 * The faults of a network and what a dispatcher must see of each: one table,
 * played on real sockets by `real_test.ts` and in a simulated network by
 * `simulated_test.ts`.
 *
 * @module
 */

import type { Peer } from "./stage.ts";
import {
  ALL,
  ending,
  failure,
  GIVEN_UP,
  givenUp,
  last,
  lingering,
  type Row,
  rows,
  sentUntil,
  stuck,
  TCP,
} from "./story.ts";
import { Door, Subject } from "./subject.ts";

/** The faults. */
export const table: readonly Row[] = [
  failure("no listener", "ConnectionRefused"),
  failure("no name", "Error failed to lookup address information"),
  failure("no socket", "NotFound"),
  failure("no route", "NetworkUnreachable", "cable"),
  failure("no answer", "TimedOut", "cable"),

  // Resets.
  ...rows({
    name: "a reset of an idle connection",
    ways: TCP,
    peer: ["wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stage.until(() => us.connected);
      await stage.quiet();
      peer.cue();
    },
    expected: [
      { events: ["read 0", "close reset ConnectionReset"], unsent: "none" },
    ],
  }),
  ...rows({
    name: "a reset after data that was taken",
    ways: TCP,
    peer: [{ send: 1_000 }, "wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stage.until(() => us.received === 1_000);
      peer.cue();
    },
    expected: [{
      events: ["read everything", "read 0", "close reset ConnectionReset"],
      unsent: "none",
    }],
  }),
  ...rows({
    name: "a reset after data that nobody took yet",
    ways: TCP,
    we: { reads: false },
    peer: [{ send: 5_000 }, "wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stage.until(() => us.connected && peer.waiting);
      await stage.quiet();
      peer.cue();
      await peer.report();
      await stage.quiet();
      us.reads = true;
      us.wake();
    },
    expected: [{
      events: ["read everything", "read 0", "close reset ConnectionReset"],
      unsent: "none",
    }],
  }),
  ...rows({
    name: "a reset while we write",
    ways: TCP,
    we: { reads: false },
    peer: ["wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      peer.cue();
    },
    expected: [
      {
        events: ["write", "close reset ConnectionReset"],
        unsent: "some",
        arrived: "nothing",
      },
      {
        events: ["write", "close reset BrokenPipe"],
        unsent: "some",
        arrived: "nothing",
      },
    ],
  }),
  ...rows({
    name: "a reset while we write and read",
    ways: TCP,
    peer: [{ send: 1_000 }, "wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stage.until(() => us.received === 1_000);
      await stuck(stage, us);
      peer.cue();
    },
    // Found by the read, by the write, or by both at once.
    expected: [["read 0"], []].flatMap((found) =>
      ["ConnectionReset", "BrokenPipe"].map((error) => ({
        events: ["read everything", "write", ...found, `close reset ${error}`],
        unsent: "some",
        arrived: "nothing",
      }))
    ),
  }),
  ...rows({
    name: "a reset as the first thing after the connection",
    ways: ["a client"],
    peer: ["reset"],
    expected: [
      { events: ["read 0", "close reset ConnectionReset"], unsent: "none" },
    ],
  }).map((row) => ({
    ...row,
    // Or it comes before Deno's connect() is done, which then fails.
    expected: [
      ...row.expected,
      ...["ConnectionReset", "NotConnected"].map((error) => ({
        events: [`error ${error}`, `close error ${error}`],
        unsent: "none",
      })),
    ],
  })),
  {
    name: "a reset before the connection is accepted",
    async play(stage) {
      const door = new Door(stage.map, stage.here("tcp"));
      door.open = false;
      const addr = door.addr as Deno.NetAddr;
      const first = await stage.caller(addr, ["connect", "reset"]);
      await first.report();
      const second = await stage.caller(addr, [
        "connect",
        { send: 1_000 },
        "close",
      ]);
      const report = await second.report();
      await stage.quiet();
      const before = [...door.events];
      door.open = true;
      door.wake();
      await stage.finish();
      return {
        before,
        door: door.events,
        ...ending(door.subjects[0]!, report),
      };
    },
    // Whoever is gone is not delivered.
    expected: [{
      before: [],
      door: ["accepted"],
      events: ["read everything", "read 0", "eof", "close eof"],
      unsent: "none",
    }],
  },
  ...rows({
    name: "a peer that closes with our data unread",
    ways: ALL,
    we: { sends: 1_000 },
    // What comes in one piece is there as a whole when a byte of it is.
    peer: ["wait", { receive: 1 }, "close"],
    async meanwhile(stage, us, peer) {
      await stage.until(() => us.bytesWritten === 1_000);
      peer.cue();
    },
    expected: [
      {
        events: ["write", "read 0", "close reset ConnectionReset"],
        unsent: "none",
        arrived: "a part",
      },
      // Deno half-closes before it closes: a peer may say that first.
      {
        events: ["write", "read 0", "eof", "close eof"],
        unsent: "none",
        arrived: "a part",
      },
    ],
  }),

  ...rows({
    name: "a reset when we have closed",
    timed: true,
    ways: TCP,
    we: { lingerTimeout: 60_000 },
    peer: ["wait", "reset"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      us.close();
      us.events.push(lingering(stage.map) ? "lingers" : "gone");
      peer.cue();
      await peer.report();
      await stage.quiet();
      us.events.push(lingering(stage.map) ? "lingers" : "gone");
    },
    expected: [{ events: ["write", ...GIVEN_UP], arrived: "nothing" }],
  }),

  // Ends.
  ...rows({
    name: "a peer that half-closes while we still send",
    ways: ALL,
    we: { answers: 300_000 },
    peer: [{ send: 1_000 }, "finish", { receive: "all" }, "close"],
    expected: [{
      events: ["read everything", "read 0", "eof", "write"],
      arrived: "everything",
      end: "eof",
    }],
  }),
  ...rows({
    name: "a peer that half-closes when nothing of ours goes out any more",
    ways: ALL,
    peer: ["wait", "finish", "wait", { receive: "all" }, "close"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      peer.cue();
      await stage.until(() => us.unsent !== undefined);
      peer.cue();
    },
    // What send() took is not lost, although handleClose() counts it.
    expected: [{
      events: ["write", "read 0", "eof", "close eof"],
      unsent: "some",
      arrived: "everything",
      end: "eof",
    }],
  }),

  // Slowness.
  ...rows({
    name: "segments of one byte",
    ways: TCP,
    peer: [{ send: 3_000, piece: 1 }, "close"],
    expected: [{
      events: ["read everything", "read 0", "eof", "close eof"],
      unsent: "none",
    }],
  }),
  ...rows({
    name: "a peer that reads byte by byte",
    ways: ALL,
    we: { sends: 5_000, closes: true },
    peer: [{ receive: "all", piece: 1 }, "close"],
    expected: [{ events: ["write"], arrived: "everything", end: "eof" }],
  }),
  ...rows({
    name: "a peer that stops reading for a while",
    ways: ALL,
    peer: [{ receive: 1_000 }, "wait", { receive: "all" }, "close"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      peer.cue();
      last(us, 500_000);
    },
    expected: [{ events: ["write"], arrived: "everything", end: "eof" }],
  }),
  ...rows({
    name: "a peer that stops reading for a while, when we have closed",
    ways: ALL,
    peer: ["wait", { receive: "all" }, "close"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      us.close();
      peer.cue();
    },
    expected: [{ events: ["write"], arrived: "everything", end: "eof" }],
  }),
  ...rows({
    name: "a peer that never reads, when we have closed",
    timed: true,
    ways: ALL,
    we: { lingerTimeout: 5_000 },
    peer: ["wait", "close"],
    async meanwhile(stage, us, peer) {
      await stuck(stage, us);
      await givenUp(stage, us);
      peer.cue();
    },
    expected: [{ events: ["write", ...GIVEN_UP], arrived: "nothing" }],
  }),
  {
    name: "a full backlog",
    async play(stage) {
      const door = new Door(stage.map, stage.here("tcp"), {
        backlog: 1,
        most: 3,
      });
      door.open = false;
      const clients = Array.from({ length: 3 }, () => {
        const we = { sends: 1_000, closes: true };
        const client = new Subject(null, stage.map, we);
        client.createSocket();
        client.connect(door.addr as Deno.NetAddr);
        return client;
      });
      await stage.until(() => clients.some(({ events }) => events.length > 0));
      await stage.quiet();
      const pending = clients.filter((client) => client.connecting);
      const before = pending.map((client) => [...client.events]);
      door.open = true;
      door.wake();
      await stage.finish();
      return {
        before,
        door: door.events,
        clients: clients.map((client) => client.events),
        subjects: door.subjects.map((subject) => subject.events),
      };
    },
    expected: [{
      before: [[]],
      door: ["accepted", "accepted", "accepted"],
      clients: Array(3).fill(["connect", "write"]),
      subjects: Array(3).fill(["read 1000", "read 0", "eof", "close eof"]),
    }],
  },

  // Descriptors.
  {
    name: "accepts that fail for want of descriptors",
    needs: "descriptors",
    timed: true,
    async play(stage) {
      const door = new Door(stage.map, stage.here("tcp"), { most: 4 });
      const callers: Peer[] = [];
      for (let i = 0; i < 4; i++) {
        callers.push(
          await stage.caller(door.addr as Deno.NetAddr, [
            "wait",
            "connect",
            { send: 1_000 },
            "close",
            // Its end would free descriptors.
            "wait",
          ]),
        );
      }
      // Two episodes, of two connections each.
      for (const episode of [1, 2]) {
        stage.exhaust();
        const logged = door.events.length + 1;
        const mine = callers.slice(2 * episode - 2, 2 * episode);
        for (const caller of mine) caller.cue();
        await stage.until(() => door.events.length === logged);
        // Longer each time, and in vain.
        for (let i = 0; i < 10; i++) await stage.advance(1_000);
        await stage.quiet();
        door.events.push("relieved");
        stage.relieve();
        await stage.advance(1_000);
        await stage.until(() => door.subjects.length === 2 * episode);
        for (const caller of mine) {
          caller.cue();
          await caller.report();
        }
        // Theirs are free then, too.
        await stage.until(() => door.subjects.every(({ closed }) => closed));
      }
      await stage.finish();
      return {
        door: door.events,
        subjects: door.subjects.map((subject) => subject.events),
      };
    },
    // One line each time; no handleError.
    expected: [{
      door: [1, 2].flatMap(() => [
        "log error",
        "relieved",
        "accepted",
        "accepted",
      ]),
      subjects: Array(4).fill(["read 1000", "read 0", "eof", "close eof"]),
    }],
  },
  {
    name: "a connect that fails for want of descriptors, and the next one",
    needs: "descriptors",
    realOnly: true,
    async play(stage) {
      const peer = await stage.listener([
        "listen",
        "accept",
        { send: 1_000 },
        "close",
      ]);
      stage.exhaust();
      const us = new Subject(null, stage.map);
      us.createSocket();
      us.connect(peer.address!);
      await stage.finish();
      stage.relieve();
      us.createSocket();
      us.connect(peer.address!);
      await stage.finish();
      return ending(us, await peer.report());
    },
    expected: [{
      events: [
        "error Error EMFILE",
        "close error Error EMFILE",
        "connect",
        "read everything",
        "read 0",
        "eof",
        "close eof",
      ],
      unsent: "none",
    }],
  },

  // Cables.
  ...(["close", "abort"] as const).map((how): Row => ({
    name: `${how}() of a connect that nobody answers`,
    needs: "cable",
    timed: true,
    async play(stage) {
      const peer = await stage.listener(["cut", "listen", "wait"]);
      const us = new Subject(null, stage.map);
      us.createSocket();
      us.connect(peer.address!);
      await stage.quiet();
      const { connecting } = us;
      us[how]();
      const left = [stage.map.size, lingering(stage.map)];
      await stage.finish();
      peer.cue();
      await peer.report();
      return { connecting, left, events: us.events };
    },
    expected: [{ connecting: true, left: [0, false], events: [] }],
  })),
  {
    name: "a connect that is answered late",
    needs: "cable",
    async play(stage) {
      const peer = await stage.listener([
        "cut",
        "listen",
        "wait",
        "mend",
        "accept",
        { send: 1_000 },
        "close",
      ]);
      const us = new Subject(null, stage.map);
      us.createSocket();
      us.connect(peer.address!);
      await stage.quiet();
      const before = [us.connecting, ...us.events];
      peer.cue();
      await stage.finish();
      return { before, ...ending(us, await peer.report()) };
    },
    expected: [{
      before: [true],
      events: ["connect", "read everything", "read 0", "eof", "close eof"],
      unsent: "none",
    }],
  },
  ...rows({
    name: "a cable that is cut while we send, and mended",
    needs: "cable",
    ways: TCP,
    peer: [
      { receive: 300_000 },
      "cut",
      "wait",
      "mend",
      { receive: "all" },
      "close",
    ],
    async meanwhile(stage, us, peer) {
      await sentUntil(stage, us, () => peer.waiting);
      await stuck(stage, us);
      peer.cue();
      last(us, 500_000);
    },
    expected: [{ events: ["write"], arrived: "everything", end: "eof" }],
  }),
  ...rows({
    name: "a cable that is cut while the peer sends, and mended",
    needs: "cable",
    ways: TCP,
    peer: [
      { send: 300_000 },
      "cut",
      "fill",
      "mend",
      { send: 300_000 },
      "close",
    ],
    expected: [{
      events: ["read everything", "read 0", "eof", "close eof"],
      unsent: "none",
    }],
  }),
  ...rows({
    name: "a cable that is cut for good, when we have closed",
    needs: "cable",
    timed: true,
    ways: TCP,
    we: { lingerTimeout: 5_000 },
    peer: [{ receive: 100_000 }, "cut", "wait"],
    async meanwhile(stage, us, peer) {
      await sentUntil(stage, us, () => peer.waiting);
      await stuck(stage, us);
      await givenUp(stage, us);
      peer.cue();
    },
    expected: [{ events: ["write", ...GIVEN_UP], arrived: "a part" }],
  }),
  ...rows({
    name: "abort() when the cable is cut for good",
    needs: "cable",
    timed: true,
    ways: TCP,
    peer: [{ receive: 100_000 }, "cut", "wait"],
    async meanwhile(stage, us, peer) {
      await sentUntil(stage, us, () => peer.waiting);
      await stuck(stage, us);
      us.abort();
      us.events.push(lingering(stage.map) ? "lingers" : "gone");
      peer.cue();
    },
    expected: [{ events: ["write", "gone"], arrived: "a part" }],
  }),
];
