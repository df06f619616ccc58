import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertNotStrictEquals,
} from "@std/assert";
import { BufferPool, MAX_BUFFER } from "../../sockets/buffer_pool.ts";
import { ByteQueue } from "../../sockets/byte_queue.ts";
import { noise } from "../net.ts";

/** A pool that knows what is out. */
class CountingPool extends BufferPool {
  readonly out = new Set<Uint8Array>();
  override acquire(length: number): Uint8Array<ArrayBuffer> {
    const buffer = super.acquire(length);
    assert(!this.out.has(buffer), "A buffer was handed out twice");
    this.out.add(buffer);
    return buffer;
  }
  override release(buffer: Uint8Array<ArrayBuffer>): void {
    assert(this.out.delete(buffer), "A buffer came back that was not out");
    super.release(buffer);
  }
}

/** Takes everything, as it lies in the queue's buffers. */
function drain(queue: ByteQueue): number[] {
  const got: number[] = [];
  while (queue.length > 0) {
    const piece = queue.peek();
    assert(piece.length > 0);
    for (const byte of piece) got.push(byte);
    queue.consume(piece.length);
  }
  return got;
}

Deno.test("ByteQueue holds nothing, and no buffer, while it is empty", () => {
  const pool = new CountingPool();
  const queue = new ByteQueue(pool);
  assertEquals(queue.length, 0);
  assertEquals(queue.peek().length, 0);
  queue.append(new Uint8Array(0));
  assertEquals(queue.length, 0);
  assertEquals(queue.peek().length, 0);
  queue.clear();
  assertEquals(pool.out.size, 0);
});

Deno.test("append() copies, peek() does not", () => {
  const queue = new ByteQueue(new BufferPool());
  const data = Uint8Array.of(1, 2, 3);
  queue.append(data);
  data.fill(0);
  const view = queue.peek();
  assertEquals([...view], [1, 2, 3]);
  assertNotStrictEquals(view.buffer, data.buffer);
  assertEquals(queue.length, 3);
  queue.consume(2);
  assertEquals([...queue.peek()], [3]);
  assertEquals(queue.peek().buffer, view.buffer);
});

Deno.test("append() puts small pieces side by side", () => {
  const queue = new ByteQueue(new BufferPool());
  for (let i = 0; i < 100; i++) queue.append(Uint8Array.of(i, i));
  assertEquals(queue.peek().length, 200);
  assertEquals(drain(queue).length, 200);
});

Deno.test("append() leaves a view of peek() where it is", () => {
  for (const size of [1, 255, 256, 257, 5_000, MAX_BUFFER, MAX_BUFFER + 1]) {
    const pool = new CountingPool();
    const queue = new ByteQueue(pool);
    const data = noise(size);
    queue.append(data);
    const view = queue.peek(); // A write is under way.
    const shown = view.length;
    const more = noise(3 * MAX_BUFFER);
    for (let at = 0, n = 1; at < more.length; at += n, n = n * 3 + 1) {
      queue.append(more.subarray(at, at + n));
      assertEquals(view.length, shown);
    }
    assertEquals(view, data.subarray(0, shown));
    assertEquals(queue.length, size + more.length);
    queue.consume(shown);
    const rest = drain(queue);
    assertEquals(rest.length, size - shown + more.length);
    assertEquals(pool.out.size, 0);
  }
});

Deno.test("consume() in part leaves the rest where it is", () => {
  const pool = new CountingPool();
  const queue = new ByteQueue(pool);
  const data = noise(MAX_BUFFER);
  queue.append(data);
  const { buffer } = queue.peek();
  for (let at = 0; at < data.length; at += 4_096) {
    const view = queue.peek();
    assertEquals(view.buffer, buffer);
    assertEquals(view[0], data[at]);
    assertEquals(view.length, data.length - at);
    queue.consume(4_096);
  }
  assertEquals(queue.length, 0);
  assertEquals(pool.out.size, 0);
});

Deno.test("consume(0) changes nothing", () => {
  const queue = new ByteQueue(new BufferPool());
  queue.append(Uint8Array.of(1, 2));
  queue.peek();
  queue.consume(0);
  assertEquals(queue.length, 2);
  assertEquals(drain(queue), [1, 2]);
});

Deno.test("clear() drops everything and gives the buffers back", () => {
  const pool = new CountingPool();
  const queue = new ByteQueue(pool);
  queue.append(noise(5 * MAX_BUFFER));
  assert(pool.out.size > 0);
  queue.peek();
  queue.clear();
  assertEquals(queue.length, 0);
  assertEquals(queue.peek().length, 0);
  assertEquals(pool.out.size, 0);
  queue.append(Uint8Array.of(7));
  assertEquals(drain(queue), [7]);
});

Deno.test("ByteQueue holds little more than what waits", () => {
  const pool = new CountingPool();
  const queue = new ByteQueue(pool);
  const held = () => [...pool.out].reduce((sum, { length }) => sum + length, 0);
  for (let i = 0; i < 2_000; i++) {
    queue.append(new Uint8Array(1_000));
    assertLessOrEqual(held(), 4 * queue.length + MAX_BUFFER);
  }
  while (queue.length > 0) {
    queue.consume(Math.min(1_000, queue.peek().length));
    assertLessOrEqual(held(), queue.length + 2 * MAX_BUFFER);
  }
});

Deno.test("append() does not copy again and again what waits", () => {
  // 40 MB in pieces of 100 bytes behind a write that is under way: quadratic
  // copying would take minutes, or run into the pool.
  const queue = new ByteQueue(new BufferPool());
  const piece = new Uint8Array(100).fill(1);
  queue.append(piece);
  const view = queue.peek();
  for (let i = 0; i < 400_000; i++) queue.append(piece);
  assertEquals(queue.length, 40_000_100);
  assertEquals(view.length, 100);
  queue.consume(100);
  let pieces = 0;
  for (; queue.length > 0; pieces++) queue.consume(queue.peek().length);
  assertLessOrEqual(pieces, 40_000_000 / MAX_BUFFER + 10);
});

Deno.test("ByteQueue does what a plain array does, whatever the order of calls", () => {
  // The order comes from a fixed seed (Park and Miller's generator).
  let seed = 20_240_607;
  const below = (n: number) => {
    seed = seed * 48_271 % 2_147_483_647;
    return seed % n;
  };
  const data = noise(1 << 21);
  for (let round = 0; round < 30; round++) {
    const pool = new CountingPool();
    const queue = new ByteQueue(pool);
    // The model: what was appended, as positions in `data`.
    let start = 0;
    let end = 0;
    const sizes = [1, 10, 300, 5_000, 70_000, 400_000];
    const size = sizes[round % sizes.length]!;
    let view: Uint8Array | undefined;
    for (let step = 0; step < 300; step++) {
      const what = below(10);
      if (what < 5) {
        const n = Math.min(below(size + 1), data.length - end);
        queue.append(data.subarray(end, end + n));
        end += n;
      } else if (what < 7 && end > start) {
        view ??= queue.peek(); // A write begins, or goes on.
        assert(view.length > 0);
      } else if (what < 9 && view !== undefined) {
        // A write ends, in part or as a whole.
        assertEquals(view, data.subarray(start, start + view.length));
        const n = below(3) === 0 ? view.length : 1 + below(view.length);
        queue.consume(n);
        start += n;
        view = undefined;
      } else if (below(40) === 0 && view === undefined) {
        queue.clear();
        start = end;
      }
      assertEquals(queue.length, end - start);
      if (end === start) assertEquals(pool.out.size, 0);
    }
    if (view !== undefined) {
      assertEquals(view, data.subarray(start, start + view.length));
    }
    while (queue.length > 0) {
      const piece = queue.peek();
      assertEquals(piece, data.subarray(start, start + piece.length));
      queue.consume(piece.length);
      start += piece.length;
    }
    assertEquals(start, end);
    assertEquals(pool.out.size, 0);
  }
});
