import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertStrictEquals,
} from "@std/assert";
import {
  Alarm,
  type Clock,
  microtask,
  systemClock,
  type Timer,
} from "../clock.ts";
import { script, turns, within } from "./net.ts";

/** A clock that shows what is asked of it. */
class FakeClock implements Clock {
  time = 0;
  set = 0;
  readonly pending = new Map<Timer, { at: number; run: () => void }>();
  now(): number {
    return this.time;
  }
  setTimer(at: number, run: () => void): Timer {
    const timer = {};
    this.set++;
    this.pending.set(timer, { at, run });
    return timer;
  }
  clearTimer(timer: Timer): void {
    this.pending.delete(timer);
  }
  defer(run: () => void): void {
    run();
  }
  idle(): void {}
  /** Lets time pass. */
  go(to: number): void {
    this.time = to;
    for (const [timer, { at, run }] of [...this.pending]) {
      if (at <= to && this.pending.delete(timer)) run();
    }
  }
  /** Fires every timer, due or not. */
  hurry(): void {
    for (const [timer, { run }] of [...this.pending]) {
      this.pending.delete(timer);
      run();
    }
  }
}

Deno.test("systemClock.now() goes on, and never back", () => {
  let last = systemClock.now();
  for (let i = 0; i < 1_000; i++) {
    const now = systemClock.now();
    assertGreaterOrEqual(now, last);
    last = now;
  }
});

Deno.test("systemClock.setTimer() runs at its time or later, once", async () => {
  for (const delay of [0, 1, 2.5]) {
    let runs = 0;
    const at = systemClock.now() + delay;
    const now = await within(
      new Promise<number>((resolve) => {
        systemClock.setTimer(at, () => {
          runs++;
          resolve(systemClock.now());
        });
      }),
    );
    assertGreaterOrEqual(now, at);
    await turns();
    assertEquals(runs, 1);
  }
});

Deno.test("systemClock.setTimer() does not ask for less than the time that is left", () => {
  const { setTimeout } = globalThis;
  const delays: number[] = [];
  globalThis.setTimeout = ((_run: unknown, delay: number) => {
    delays.push(delay);
    return 0;
  }) as unknown as typeof setTimeout;
  try {
    for (let i = 0; i < 20; i++) {
      const at = systemClock.now() + 5 + i / 20;
      systemClock.setTimer(at, () => {});
      const left = at - systemClock.now();
      assertGreaterOrEqual(delays.at(-1)!, left);
      assert(Number.isInteger(delays.at(-1)!), "fractions are cut off");
    }
  } finally {
    globalThis.setTimeout = setTimeout;
  }
});

Deno.test("systemClock.setTimer() runs soon what is overdue", async () => {
  await within(
    new Promise<void>((resolve) =>
      void systemClock.setTimer(systemClock.now() - 1_000, resolve)
    ),
  );
  await within(
    new Promise<void>((resolve) =>
      void systemClock.setTimer(-Infinity, resolve)
    ),
  );
});

Deno.test("systemClock.clearTimer() takes a timer back, also one that has fired", async () => {
  const ran: string[] = [];
  const cleared = systemClock.setTimer(
    systemClock.now(),
    () => void ran.push("cleared"),
  );
  systemClock.clearTimer(cleared);
  systemClock.clearTimer(cleared);
  const fired = await within(
    new Promise<Timer>((resolve) => {
      const timer = systemClock.setTimer(systemClock.now() + 2, () => {
        ran.push("fired");
        resolve(timer);
      });
    }),
  );
  systemClock.clearTimer(fired);
  assertEquals(ran, ["fired"]);
});

Deno.test("systemClock.setTimer() does not run what is far away", async () => {
  let ran = 0;
  const timers = [2 ** 31, 2 ** 40, Infinity].map((delay) =>
    systemClock.setTimer(systemClock.now() + delay, () => void ran++)
  );
  // One that is not far away fires meanwhile.
  await within(
    new Promise<void>((resolve) =>
      void systemClock.setTimer(systemClock.now() + 5, resolve)
    ),
  );
  for (const timer of timers) systemClock.clearTimer(timer);
  assertEquals(ran, 0);
});

Deno.test("systemClock.setTimer() holds the process, clearTimer() lets it go", async () => {
  const { code, stdout, stderr } = await script(`
    import { systemClock } from "./clock.ts";
    const far = systemClock.setTimer(Infinity, () => console.log("never"));
    systemClock.setTimer(systemClock.now() + 20, () => {
      console.log("held");
      systemClock.clearTimer(far);
    });
  `);
  assertEquals([code, stdout, stderr], [0, "held\n", ""]);
});

Deno.test("systemClock.defer() runs after microtasks, in order, once", async () => {
  const order: string[] = [];
  await within(
    new Promise<void>((resolve) => {
      systemClock.defer(() => void order.push("first"));
      systemClock.defer(() => {
        order.push("second");
        resolve();
      });
      microtask(() => void order.push("microtask"));
      order.push("now");
    }),
  );
  await turns();
  assertEquals(order, ["now", "microtask", "first", "second"]);
});

Deno.test("systemClock.defer() gives timers a turn, however long the chain", async () => {
  let timer = false;
  systemClock.setTimer(systemClock.now() + 1, () => void (timer = true));
  await within(
    new Promise<void>((resolve) => {
      const hop = () => timer ? resolve() : systemClock.defer(hop);
      hop();
    }),
  );
  assert(timer);
});

Deno.test("Alarm rings once, when its deadline is reached", () => {
  const clock = new FakeClock();
  let rings = 0;
  const alarm = new Alarm(clock, () => void rings++);
  assertEquals(alarm.rang, false);
  alarm.set(10);
  clock.go(9);
  assertEquals([rings, alarm.rang], [0, false]);
  clock.go(10);
  assertEquals([rings, alarm.rang], [1, true]);
  clock.go(100);
  assertEquals(rings, 1);
  assertEquals(clock.pending.size, 0);
});

Deno.test("Alarm costs no timer for a deadline that moves on", () => {
  const clock = new FakeClock();
  let rings = 0;
  const alarm = new Alarm(clock, () => void rings++);
  for (let at = 10; at < 1_000; at++) {
    alarm.set(at);
    assertEquals(clock.pending.size, 1);
  }
  assertEquals(clock.set, 1);
  clock.go(500);
  assertEquals(rings, 0);
  assertEquals(clock.set, 2);
  clock.go(998);
  assertEquals(rings, 0);
  clock.go(999);
  assertEquals(rings, 1);
});

Deno.test("Alarm rings at an earlier deadline, too", () => {
  const clock = new FakeClock();
  const rings: number[] = [];
  const alarm = new Alarm(clock, () => void rings.push(clock.time));
  alarm.set(Infinity);
  alarm.set(100);
  alarm.set(10);
  assertEquals(clock.pending.size, 1);
  clock.go(10);
  assertEquals(rings, [10]);
  assertEquals(clock.pending.size, 0);
});

Deno.test("Alarm looks at the time again when a timer fires early", () => {
  const clock = new FakeClock();
  let rings = 0;
  const alarm = new Alarm(clock, () => void rings++);
  alarm.set(10);
  clock.hurry();
  assertEquals(rings, 0);
  assertEquals(clock.pending.size, 1);
  clock.go(10);
  assertEquals(rings, 1);
});

Deno.test("Alarm that never rings still holds a timer", () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock, () => assert(false));
  alarm.set(Infinity);
  assertEquals(clock.pending.size, 1);
  clock.hurry();
  assertEquals(clock.pending.size, 1);
  alarm.clear();
  assertEquals(clock.pending.size, 0);
});

Deno.test("Alarm is silent after clear(), and can be set again", () => {
  const clock = new FakeClock();
  let rings = 0;
  const alarm = new Alarm(clock, () => void rings++);
  alarm.clear();
  alarm.set(10);
  alarm.clear();
  alarm.clear();
  clock.go(20);
  assertEquals(rings, 0);
  // Later than the one that was taken back, and earlier.
  alarm.set(40);
  clock.go(39);
  assertEquals(rings, 0);
  clock.go(40);
  assertEquals(rings, 1);
  alarm.set(45);
  assertEquals(alarm.rang, false);
  clock.go(45);
  assertEquals(rings, 2);
});

Deno.test("Alarm may be set again while it rings", () => {
  const clock = new FakeClock();
  const rings: number[] = [];
  const alarm: Alarm = new Alarm(clock, () => {
    rings.push(clock.time);
    if (rings.length < 3) alarm.set(clock.time + 10);
  });
  alarm.set(10);
  for (let at = 1; at <= 50; at++) clock.go(at);
  assertEquals(rings, [10, 20, 30]);
  assertStrictEquals(clock.pending.size, 0);
});
