// Random behaviour on both sides of real connections: whatever happens in
// whatever order, the lines of the contract hold.

import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { ChannelMap, type CloseReason, Dispatcher } from "../../mod.ts";
import { noise, run, tcpPair, turns, unixPair, within } from "../net.ts";

const DATA = noise(1 << 20);
const CHANNELS = 12;

/** Numbers from a fixed seed (Park and Miller's generator). */
class Dice {
  #seed: number;
  constructor(seed: number) {
    this.#seed = seed * 7_919 + 1;
  }
  /** A whole number below `n`. */
  below(n: number): number {
    this.#seed = this.#seed * 48_271 % 2_147_483_647;
    return this.#seed % n;
  }
  /** True once in `n` times. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
}

/** Behaves at random, and checks what is done to it. */
class Gambler extends Dispatcher {
  readonly dice: Dice;
  readonly map: ChannelMap;
  /** What came in, and what `send()` took, as lengths of a beginning of DATA. */
  got = 0;
  sent = 0;
  reasons: CloseReason[] = [];
  /** Closed, aborted or disconnected by itself. */
  left: "" | "close" | "abort" | "disconnect" | "error" = "";
  sawEof = false;
  wanted = true;
  #asked = { read: false, write: false };
  #running = "";
  #pending = { read: false, write: false };
  #pass = { read: -1, write: -1 };
  thrown = 0;
  told = 0;

  constructor(conn: Deno.Conn, map: ChannelMap, dice: Dice) {
    const sendBufferSize = [100, 5_000, 262_144][dice.below(3)]!;
    super(conn, { map, sendBufferSize });
    this.map = map;
    this.dice = dice;
  }

  override readable(): boolean {
    this.#predicate();
    assert(!this.#pending.read, "asked while a read handler is unsettled");
    assert(!this.sawEof, "asked for reading after the end of file");
    return this.#asked.read = this.wanted;
  }
  override writable(): boolean {
    this.#predicate();
    assert(!this.#pending.write, "asked while a write handler is unsettled");
    return this.#asked.write = this.sent < DATA.length && !this.dice.once(3);
  }
  #predicate() {
    assertEquals(this.#running, "", "a predicate inside a handler");
    assert(this.left !== "close" && this.left !== "abort", "asked when closed");
  }

  override handleRead(): void | Promise<void> {
    return this.#event("read", () => {
      assert(!this.sawEof, "a read event after the end of file");
      const before = this.got;
      switch (this.dice.below(3)) {
        case 0:
          this.#check(this.recv(1 + this.dice.below(3_000)));
          break;
        case 1:
          this.#check(this.recvView());
          break;
        case 2: {
          const buffer = new Uint8Array(1 + this.dice.below(100_000));
          this.#check(buffer.subarray(0, this.recvInto(buffer)));
        }
      }
      if (this.got > before) this.#send();
    });
  }
  override handleWrite(): void | Promise<void> {
    return this.#event("write", () => this.#send());
  }
  override handleEof(): void {
    assertEquals(this.#running, "");
    assertEquals(this.recv().length, 0);
    assert(!this.sawEof, "two ends of file");
    this.sawEof = true;
    if (!this.dice.once(3)) return this.disconnect({ kind: "eof" });
    if (this.dice.once(2)) return this.#leave("close");
    // Half-closed for a while.
    setImmediate(() => {
      if (this.left === "") this.#leave("disconnect");
    });
  }
  override handleClose(reason?: CloseReason): void {
    assertEquals(this.#running, "");
    assert(!this.#pending.read && !this.#pending.write, "an unsettled handler");
    assert(this.left !== "close" && this.left !== "abort", "closed by itself");
    assertEquals(this.reasons.length, 0, "two handleClose()");
    assert(this.closing && !this.connected);
    assertEquals(this.send(Uint8Array.of(1)), 0);
    this.reasons.push(reason!);
    if (this.dice.once(2)) this.close();
  }
  override handleError(error: unknown): void {
    if ((error as Error).message !== "thrown by the dice") {
      broken.push(error);
    }
    this.told++;
    if (this.left === "") this.#leave("error");
  }
  override logInfo(message: string): void {
    broken.push(message);
  }

  #event(
    direction: "read" | "write",
    act: () => void,
  ): void | Promise<void> {
    assertEquals(this.#running, "", "a handler inside a handler");
    assert(
      this.left !== "close" && this.left !== "abort",
      "served when closed",
    );
    assertEquals(this.reasons.length, 0, "served after handleClose()");
    assert(this.#asked[direction], "served without being asked");
    assert(!this.#pending[direction], "served while unsettled");
    const { passes } = this.map.counters;
    assert(this.#pass[direction] !== passes, "served twice in a pass");
    this.#pass[direction] = passes;
    this.#running = direction;
    try {
      if (this.left === "") act();
      this.#whim();
    } finally {
      this.#running = "";
    }
    if (!this.dice.once(6)) return;
    this.#pending[direction] = true;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const settle = () => {
      this.#pending[direction] = false;
      if (!this.dice.once(30)) return resolve();
      this.thrown++;
      reject(new Error("thrown by the dice"));
    };
    if (this.dice.once(2)) queueMicrotask(settle);
    else turns(1 + this.dice.below(3)).then(settle);
    return promise;
  }

  #check(data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      if (data[i] !== DATA[this.got + i]) throw new Error("wrong bytes");
    }
    this.got += data.length;
    assertLessOrEqual(this.got, this.bytesRead);
  }

  #send(): void {
    const { room } = this;
    const piece = DATA.subarray(
      this.sent,
      this.sent + this.dice.below([10, 1_000, 300_000][this.dice.below(3)]!),
    );
    const taken = this.send(piece);
    assertEquals(taken, Math.min(room, piece.length));
    this.sent += taken;
  }

  /** Something that a program does at the end of a handler. */
  #whim(): void {
    switch (this.dice.below(60)) {
      case 0:
        return this.#leave("close");
      case 1:
        return this.#leave("abort");
      case 2:
        return this.#leave("disconnect");
      case 3:
        this.thrown++;
        throw new Error("thrown by the dice");
      case 4:
        this.delChannel();
        return this.#later(() => this.addChannel());
      case 5:
        this.delChannel();
        return this.addChannel();
      case 6:
      case 7:
        this.wanted = false;
        return this.#later(() => {
          this.wanted = true;
          if (this.dice.once(2)) this.wake();
          else this.map.wake();
        });
      case 8:
        return this.#later(() => {
          if (this.left === "") this.#leave("close");
        });
    }
  }
  #later(act: () => void): void {
    turns(1 + this.dice.below(3)).then(() => {
      const closed = this.left === "close" || this.left === "abort";
      if (!closed && this.reasons.length === 0) act();
    });
  }
  #leave(how: "close" | "abort" | "disconnect" | "error"): void {
    this.left = how;
    if (how === "close") this.close();
    else if (how === "abort") this.abort();
    else this.disconnect({ kind: how === "error" ? "error" : "done" });
  }
}

/** What went wrong where an assertion would be taken for a handler's error. */
const broken: unknown[] = [];

/** A peer that talks, listens and leaves at random. */
async function peer(
  conn: Deno.Conn,
  dice: Dice,
): Promise<{ wrote: number; got: number; whole: boolean; ended: boolean }> {
  let wrote = 0;
  let got = 0;
  let whole = false;
  let ended = false;
  const limit = dice.below(2) ? 300_000 : 2_000;
  const write = (async () => {
    while (wrote < limit && !dice.once(40)) {
      const n = 1 + dice.below([10, 1_000, 200_000][dice.below(3)]!);
      wrote += await conn.write(DATA.subarray(wrote, wrote + n));
      if (dice.once(4)) await turns(1);
    }
    await conn.closeWrite();
    ended = true;
  })().catch(() => {});
  const read = (async () => {
    const buffer = new Uint8Array(65_536);
    for (;;) {
      if (dice.once(60)) return; // Had enough.
      const n = await conn.read(buffer);
      if (n === null) break;
      for (let i = 0; i < n; i++) {
        if (buffer[i] !== DATA[got + i]) broken.push("wrong bytes at the peer");
      }
      got += n;
    }
    whole = true;
  })().catch(() => {});
  await read;
  if (whole && dice.once(2)) await write;
  conn.close();
  await write;
  return { wrote, got, whole, ended };
}

async function game(seed: number): Promise<void> {
  const dice = new Dice(seed);
  await using map = new ChannelMap();
  const gamblers: Gambler[] = [];
  const peers: ReturnType<typeof peer>[] = [];
  for (let i = 0; i < CHANNELS; i++) {
    const [conn, other] = await (dice.once(2) ? tcpPair() : unixPair());
    gamblers.push(new Gambler(conn, map, new Dice(seed * 100 + i)));
    peers.push(peer(other, new Dice(seed * 100 + i + 50)));
  }
  const keeper = new Dispatcher(null, { map });
  keeper.createSocket(); // While channels are suspended the map may be empty.
  keeper.readable = keeper.writable = () => false;
  const over = () =>
    gamblers.every(({ left, reasons }) =>
      left === "close" || left === "abort" || reasons.length > 0
    );
  const watch = setInterval(() => {
    if (over()) keeper.close();
  }, 1);
  try {
    await run(map, { usePoll: dice.once(2) });
  } finally {
    clearInterval(watch);
  }
  const outcomes = await within(Promise.all(peers));
  gamblers.forEach((gambler, i) => {
    const { wrote, got, whole } = outcomes[i]!;
    const { left, reasons, sent, thrown, told } = gambler;
    assertLessOrEqual(gambler.got, wrote);
    assertLessOrEqual(got, sent);
    assertEquals(told, thrown);
    const [reason] = reasons;
    if (reason?.kind === "eof") assertEquals(gambler.got, wrote);
    // Whoever leaves without breaking off loses nothing.
    const gentle = left === "close" || reason?.kind === "eof" ||
      reason?.kind === "done";
    if (whole && gentle) assertEquals(got, sent);
    if (reason) assertLessOrEqual(reason.bytesUnsent, sent);
  });
  assertEquals(map.size, 0);
  assertEquals(broken, []);
}

for (let seed = 1; seed <= 10; seed++) {
  Deno.test(`6 7 9 12 18 hold whatever happens (seed ${seed})`, () =>
    game(seed));
}
