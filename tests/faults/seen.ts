import { assertEquals } from "@std/assert";
import type { Row, Seen } from "./story.ts";

/** Fails unless one of the things that may be seen was; shows the first. */
export function assertSeen(
  seen: Seen,
  { expected: [first, ...others] }: Row,
): void {
  for (const other of others) {
    try {
      return assertEquals(seen, other);
    } catch {
      // Then it must be another one.
    }
  }
  assertEquals(seen, first);
}
