import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { Random } from "../../testing/random.ts";
import { VirtualClock } from "../../testing/virtual_clock.ts";

function virtualClock(seed = 1, tick = 0): VirtualClock {
  return new VirtualClock(new Random(seed), tick);
}

Deno.test("VirtualClock.now() stands still while code runs", () => {
  const clock = virtualClock();
  for (let look = 0; look < 1_000; look++) assertEquals(clock.now(), 0);
});

Deno.test("VirtualClock.now() goes on for code that never rests", async () => {
  const clock = virtualClock();
  while (clock.now() < 5);
  assertAlmostEquals(clock.time, 5, 0.02);
  await clock.quiet();
  const start = clock.time;
  // Each turn has so many looks for nothing.
  for (let look = 0; look < 1_000; look++) assertEquals(clock.now(), start);
});

Deno.test("VirtualClock.now() takes a tick, a look at time does not", () => {
  const clock = virtualClock(1, 0.5);
  assertEquals([clock.now(), clock.now(), clock.now()], [0.5, 1, 1.5]);
  assertEquals([clock.time, clock.time], [1.5, 1.5]);
});

Deno.test("VirtualClock.setTimer() jumps from one time to the next", async () => {
  const clock = virtualClock();
  const times: number[] = [];
  for (const at of [30_000, 0.5, 86_400_000, 7]) {
    clock.setTimer(at, () => void times.push(clock.now()));
  }
  await clock.quiet();
  assertEquals(times, [0.5, 7, 30_000, 86_400_000]);
});

Deno.test("VirtualClock.setTimer() keeps the order of timers of the same time", async () => {
  const clock = virtualClock();
  const order: number[] = [];
  for (let i = 0; i < 20; i++) clock.setTimer(5, () => void order.push(i));
  await clock.quiet();
  assertEquals(order, Array.from({ length: 20 }, (_, i) => i));
});

Deno.test("VirtualClock.setTimer() runs what is overdue, and time does not go back", async () => {
  const clock = virtualClock();
  const times: number[] = [];
  clock.setTimer(10, () => {
    clock.setTimer(3, () => void times.push(clock.now()));
    clock.setTimer(-Infinity, () => void times.push(clock.now()));
  });
  await clock.quiet();
  assertEquals(times, [10, 10]);
});

Deno.test("VirtualClock.setTimer() lets promises' callbacks run between timers", async () => {
  const clock = virtualClock();
  const order: string[] = [];
  for (const name of ["first", "second"]) {
    clock.setTimer(1, () => {
      order.push(name);
      Promise.resolve().then(() => order.push(`after ${name}`));
    });
  }
  await clock.quiet();
  assertEquals(order, ["first", "after first", "second", "after second"]);
});

Deno.test("VirtualClock.clearTimer() takes a timer back, also one that has fired", async () => {
  const clock = virtualClock();
  const ran: string[] = [];
  const cleared = clock.setTimer(1, () => void ran.push("cleared"));
  const fired = clock.setTimer(2, () => void ran.push("fired"));
  clock.clearTimer(cleared);
  clock.clearTimer(cleared);
  await clock.quiet();
  clock.clearTimer(fired);
  assertEquals(ran, ["fired"]);
});

Deno.test("VirtualClock.timers counts those that did not fire and were not cleared", async () => {
  const clock = virtualClock();
  const never = clock.setTimer(Infinity, () => {});
  clock.clearTimer(clock.setTimer(1, () => {}));
  clock.setTimer(2, () => {});
  assertEquals(clock.timers, 2);
  await clock.quiet();
  assertEquals([clock.timers, clock.time], [1, 2]);
  clock.clearTimer(never);
  assertEquals(clock.timers, 0);
});

Deno.test("VirtualClock.schedule() leaves to chance what happens first at one time", async () => {
  const orders = new Set<string>();
  for (let seed = 0; seed < 50; seed++) {
    const clock = virtualClock(seed);
    let order = "";
    for (const name of "abc") clock.schedule(1, () => void (order += name));
    await clock.quiet();
    orders.add(order);
  }
  assertEquals([...orders].sort(), ["abc", "acb", "bac", "bca", "cab", "cba"]);
});

Deno.test("VirtualClock.schedule() comes before timers of the same time", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const clock = virtualClock(seed);
    const order: string[] = [];
    clock.setTimer(1, () => void order.push("timer"));
    clock.schedule(1, () => void order.push("completion"));
    await clock.quiet();
    assertEquals(order, ["completion", "timer"]);
  }
});

Deno.test("VirtualClock.schedule() has no time for what never happens", async () => {
  const clock = virtualClock();
  let happened = 0;
  clock.schedule(Infinity, () => void happened++);
  clock.schedule(3, () => void happened++);
  await clock.quiet();
  assertEquals([happened, clock.time], [1, 3]);
});

Deno.test("VirtualClock.scheduleInOrder() keeps the order, before others of the same time", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const clock = virtualClock(seed);
    let order = "";
    const add = (name: string) => () => void (order += name);
    clock.setTimer(1, add("t"));
    clock.schedule(1, add("x"));
    clock.scheduleInOrder(2, add("z"));
    for (const name of "abcd") clock.scheduleInOrder(1, add(name));
    clock.scheduleInOrder(Infinity, add("never"));
    await clock.quiet();
    assertEquals(order, "abcdxtz");
  }
});

Deno.test("VirtualClock delivers completions in batches of any size, up to Deno's", async () => {
  const sizes = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const clock = virtualClock(seed);
    let size = 0;
    for (let i = 0; i < 300; i++) {
      clock.schedule(1, () => {
        if (size++ > 0) return;
        queueMicrotask(() => {
          sizes.add(size);
          size = 0;
        });
      });
    }
    await clock.quiet();
  }
  assert(Math.max(...sizes) <= 128);
  assert(sizes.size > 64, `${sizes.size} different sizes`);
});

Deno.test("VirtualClock.defer() waits for what is due, and not for what is not", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const clock = virtualClock(seed);
    const order: string[] = [];
    clock.schedule(1, () => void order.push("later"));
    clock.setTimer(0, () => void order.push("timer"));
    clock.schedule(0, () => void order.push("completion"));
    for (const name of ["first", "second"]) {
      clock.defer(() => void order.push(`${name} at ${clock.time}`));
    }
    await Promise.resolve().then(() => order.push("microtask"));
    await clock.quiet();
    assertEquals(order, [
      "microtask",
      "completion",
      "timer",
      "first at 0",
      "second at 0",
      "later",
    ]);
  }
});

Deno.test("VirtualClock.defer() waits for everything that is due", async () => {
  const clock = virtualClock();
  let done = 0;
  for (let i = 0; i < 300; i++) clock.schedule(0, () => void done++);
  let before = 0;
  clock.defer(() => void (before = done));
  await clock.quiet();
  assertEquals(before, 300);
});

Deno.test("VirtualClock.defer() does not wait for ever", async () => {
  const clock = virtualClock();
  let due = 0;
  let deferred = false;
  const again = () => {
    due++;
    // As an operation does that was asked for by a promise's callback.
    if (!deferred && due < 1_000) {
      queueMicrotask(() => clock.schedule(clock.time, again));
    }
  };
  again();
  clock.defer(() => void (deferred = true));
  await clock.quiet();
  assert(deferred);
  assert(due < 20, `${due} went before`);
});

Deno.test("VirtualClock.quiet() waits for all that follows", async () => {
  const clock = virtualClock();
  const seen: number[] = [];
  const sleep = (ms: number) =>
    new Promise<void>((resolve) =>
      void clock.setTimer(clock.time + ms, resolve)
    );
  (async () => {
    for (let i = 0; i < 3; i++) {
      await sleep(10);
      seen.push(clock.time);
    }
  })();
  await clock.quiet();
  assertEquals(seen, [10, 20, 30]);
  await Promise.all([clock.quiet(), clock.quiet()]);
  assertEquals(clock.time, 30);
});

Deno.test("VirtualClock.stop() forgets everything", async () => {
  const clock = virtualClock();
  let ran = 0;
  clock.setTimer(1, () => void ran++);
  clock.schedule(1, () => void ran++);
  clock.defer(() => void ran++);
  clock.stop();
  await clock.quiet();
  assertEquals([ran, clock.time, clock.timers], [0, 0, 0]);
});

Deno.test("VirtualClock counts its turns, and tells of each at its beginning", async () => {
  const clock = virtualClock();
  const order: string[] = [];
  clock.onTurn = () => {
    order.push(`turn ${clock.turns}`);
    return false;
  };
  clock.setTimer(1, () => void order.push("first"));
  clock.setTimer(2, () => void order.push("second"));
  await clock.quiet();
  assertEquals(order.slice(0, 4), ["turn 1", "first", "turn 2", "second"]);
});

Deno.test("VirtualClock keeps the order of a thousand random times", async () => {
  const clock = virtualClock();
  const random = new Random(2);
  const times: number[] = [];
  const timers: NonNullable<unknown>[] = [];
  for (let i = 0; i < 1_000; i++) {
    const at = random.draw([0, 500]);
    if (i % 2 === 0) clock.schedule(at, () => void times.push(at));
    else timers.push(clock.setTimer(at, () => void times.push(at)));
  }
  for (const timer of timers.slice(0, 250)) clock.clearTimer(timer);
  await clock.quiet();
  assertEquals(times, times.toSorted((a, b) => a - b));
  assertEquals(times.length, 750);
});

Deno.test("VirtualClock.soon() completes at once, or in the next turn, in order", async () => {
  const counts = new Set<number>();
  for (let seed = 1; seed <= 100; seed++) {
    const clock = virtualClock(seed);
    const done: number[] = [];
    for (let i = 0; i < 10; i++) clock.soon(() => void done.push(i));
    counts.add(done.length);
    await clock.quiet();
    assertEquals(done, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assertEquals(clock.time, 0);
  }
  assert(
    counts.has(0) && counts.has(10) && counts.size > 2,
    [...counts].join(),
  );
});

Deno.test("VirtualClock.soon() completes 128 operations at once in one turn at most", () => {
  let most = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const clock = virtualClock(seed);
    let done = 0;
    for (let i = 0; i < 300; i++) clock.soon(() => void done++);
    most = Math.max(most, done);
    clock.stop();
  }
  assertEquals(most, 128);
});
