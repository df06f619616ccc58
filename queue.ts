/**
 * Queues that are worked off in batches, and that allocate nothing once they have grown.
 *
 * @module
 */

/** A list that keeps its memory when it is emptied: an array whose length is set to 0 gives it away. */
export class Batch<T> {
  readonly #items: (T | undefined)[] = [];
  length = 0;

  /** The item at `index`, which is below `length`. */
  at(index: number): T {
    return this.#items[index]!;
  }

  push(item: T): void {
    this.#items[this.length++] = item;
  }

  /** Empties the list. */
  clear(): void {
    while (this.length > 0) this.#items[--this.length] = undefined;
  }

  sort(order: (item: T) => number): void {
    this.#items.length = this.length;
    this.#items.sort((a, b) => order(a!) - order(b!));
  }
}

/** What waits to be worked on, in batches: what is pushed while one is worked on goes into the next. */
export class Queue<T> {
  #next = new Batch<T>();
  #taken = new Batch<T>();

  /** How many wait for the next batch. */
  get length(): number {
    return this.#next.length;
  }

  push(item: T): void {
    this.#next.push(item);
  }

  /** Takes everything. Whoever takes it clears it, so that nothing is kept in memory, before taking the next. */
  take(): Batch<T> {
    const batch = this.#next;
    this.#next = this.#taken;
    this.#taken = batch;
    return batch;
  }
}
