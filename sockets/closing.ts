/**
 * Closing what somebody else may have closed already.
 *
 * @module
 */

/**
 * Closes a connection or a listener of Deno; one that is closed already is what was wanted.
 *
 * @param resource What to close.
 */
export function closeResource(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    // Whoever made it, or a handler that had it, was first.
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}
