import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLessOrEqual,
} from "@std/assert";
import {
  BufferPool,
  MAX_BUFFER,
  MIN_BUFFER,
} from "../../sockets/buffer_pool.ts";

const SIZES = [256, 1_024, 4_096, 16_384, 65_536, 262_144];
const LIMIT = 32 * 1024 * 1024;

Deno.test("acquire() hands out the smallest of six sizes that fits", () => {
  assertEquals([MIN_BUFFER, MAX_BUFFER], [SIZES[0], SIZES.at(-1)]);
  const pool = new BufferPool();
  for (const size of SIZES) {
    for (const length of [size - 1, size]) {
      assertEquals(pool.acquire(length).length, size, `${length}`);
    }
    assertEquals(
      pool.acquire(size + 1).length,
      Math.min(4 * size, MAX_BUFFER),
      `${size + 1}`,
    );
  }
  assertEquals(pool.acquire(0).length, MIN_BUFFER);
  assertEquals(pool.acquire(1).length, MIN_BUFFER);
  assertEquals(pool.acquire(50_000_000).length, MAX_BUFFER);
});

Deno.test("acquire() never lends the same bytes twice", () => {
  const pool = new BufferPool();
  for (const size of SIZES) {
    const buffers = Array.from({ length: 300 }, () => pool.acquire(size));
    if (size === MAX_BUFFER) buffers.length = 20;
    buffers.forEach((buffer, i) => buffer.fill(i));
    buffers.forEach((buffer, i) =>
      assert(buffer.every((byte) => byte === i % 256), `${size} ${i}`)
    );
  }
});

Deno.test("acquire() cuts small buffers from common slabs", () => {
  const pool = new BufferPool();
  for (const size of [256, 1_024]) {
    const slabs = new Set<ArrayBuffer>();
    for (let i = 0; i < 1_000; i++) slabs.add(pool.acquire(size).buffer);
    const bytes = [...slabs].reduce((sum, slab) => sum + slab.byteLength, 0);
    assertLessOrEqual(slabs.size, 20);
    assertLessOrEqual(bytes, 1_000 * size + 65_536);
  }
});

Deno.test("release() gives a buffer to the next one who asks", () => {
  const pool = new BufferPool();
  for (const size of SIZES) {
    const buffer = pool.acquire(size);
    pool.release(buffer);
    assertEquals(pool.acquire(size) === buffer, true, `${size}`);
    // Only once.
    assertEquals(pool.acquire(size) === buffer, false, `${size}`);
  }
});

Deno.test("release() keeps a few megabytes of each size, and lets the rest go", () => {
  for (const size of [65_536, 262_144]) {
    const pool = new BufferPool();
    const count = 64 * 1024 * 1024 / size;
    const buffers = Array.from({ length: count }, () => pool.acquire(size));
    const known = new Set(buffers);
    for (const buffer of buffers) pool.release(buffer);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (known.has(pool.acquire(size))) kept++;
    }
    assertGreaterOrEqual(kept * size, 1024 * 1024);
    assertLessOrEqual(kept * size, 8 * 1024 * 1024);
  }
});

Deno.test("acquireForRead() hands out at most 32 MiB of buffers above 4 KiB", () => {
  for (const size of [16_384, 65_536, 262_144]) {
    const pool = new BufferPool();
    const out: Uint8Array<ArrayBuffer>[] = [];
    for (let i = 0; i < LIMIT / size; i++) {
      const buffer = pool.acquireForRead(size);
      assertEquals(buffer.length, size);
      out.push(buffer);
    }
    // Beyond that a small one, as many as are wanted.
    for (let i = 0; i < 100; i++) {
      assertEquals(pool.acquireForRead(size).length, 4_096);
      assertEquals(pool.acquireForRead(1_024).length, 1_024);
    }
    // What comes back may go out again, and no more.
    pool.releaseFromRead(out.pop()!);
    pool.forget(out.pop()!);
    assertEquals(pool.acquireForRead(size).length, size);
    assertEquals(pool.acquireForRead(size).length, size);
    assertEquals(pool.acquireForRead(size).length, 4_096);
    // The limit is for reads only.
    assertEquals(pool.acquire(size).length, size);
  }
});

Deno.test("acquireForRead() does not count what small buffers come and go", () => {
  const pool = new BufferPool();
  for (let i = 0; i < 20_000; i++) {
    pool.releaseFromRead(pool.acquireForRead(4_096));
    pool.forget(pool.acquireForRead(256));
  }
  for (let i = 0; i < LIMIT / MAX_BUFFER; i++) {
    assertEquals(pool.acquireForRead(MAX_BUFFER).length, MAX_BUFFER);
  }
  assertEquals(pool.acquireForRead(MAX_BUFFER).length, 4_096);
});

Deno.test("acquireForRead() counts the size it hands out, whatever was asked for", () => {
  const pool = new BufferPool();
  // As often as it takes for a wrong count to show.
  for (let i = 0; i < 10_000; i++) {
    pool.releaseFromRead(pool.acquireForRead(5_000));
  }
  let large = 0;
  while (pool.acquireForRead(20_000).length > 4_096) large += 65_536;
  assertEquals(large, LIMIT);
  // More than the largest is the largest.
  const other = new BufferPool();
  large = 0;
  for (let length; (length = other.acquireForRead(1 << 24).length) > 4_096;) {
    large += length;
  }
  assertEquals(large, LIMIT);
});

Deno.test("forget() leaves a buffer to whoever looks at it", () => {
  const pool = new BufferPool();
  const view = pool.acquireForRead(MAX_BUFFER);
  view.fill(7);
  pool.forget(view);
  for (let i = 0; i < 20; i++) {
    const buffer = pool.acquireForRead(MAX_BUFFER);
    assert(buffer.buffer !== view.buffer);
    buffer.fill(1);
  }
  assert(view.every((byte) => byte === 7));
});
