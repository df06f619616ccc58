/**
 * The keys, and when they expire.
 *
 * @module
 */

/** So many keys are looked at when another one gets a time to live. */
const SWEEP = 2;

/** So many bytes may be wasted on a value. */
const MAX_REST = 16;

/** Values by key. */
export class Store {
  readonly #now: () => number;
  readonly #values = new Map<string, Uint8Array>();
  /** When keys expire. Few have a time to live, and the others do without an entry. */
  readonly #deadlines = new Map<string, number>();
  /** Where the sweep is. */
  #sweep = this.#deadlines.entries();
  /** How many keys have expired. */
  expired = 0;

  /** @param now The time in milliseconds, by a clock that nobody sets. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** How many keys there are, those included that have expired and nobody asked for. */
  get size(): number {
    return this.#values.size;
  }

  /** How many of them have a time to live. */
  get volatileSize(): number {
    return this.#deadlines.size;
  }

  /** The value, which must not be changed. */
  get(key: string): Uint8Array | null {
    if (this.#expire(key)) return null;
    return this.#values.get(key) ?? null;
  }

  has(key: string): boolean {
    return !this.#expire(key) && this.#values.has(key);
  }

  /** Sets the value, which belongs to the store from now on; the time to live stays. */
  set(key: string, value: Uint8Array): void {
    // Received bytes are part of a buffer, which would be kept as a whole.
    const rest = value.buffer.byteLength - value.length;
    const own = rest <= MAX_REST + value.length / 8;
    this.#values.set(key, own ? value : value.slice());
  }

  /** Whether there was a value. */
  delete(key: string): boolean {
    if (this.#expire(key)) return false;
    return this.#remove(key);
  }

  clear(): void {
    this.#values.clear();
    this.#deadlines.clear();
  }

  /** The keys, in the order in which they were made. */
  *keys(): Generator<string> {
    for (const key of this.#values.keys()) if (!this.#expire(key)) yield key;
  }

  /** How many milliseconds a key that is there has to live. */
  timeToLive(key: string): number {
    const deadline = this.#deadlines.get(key);
    return deadline === undefined ? Infinity : deadline - this.#now();
  }

  /** Sets how many milliseconds a key that is there has to live. */
  setTimeToLive(key: string, ms: number): void {
    if (ms === Infinity) this.#deadlines.delete(key);
    else if (ms <= 0) this.#remove(key);
    else {
      this.#expireSome();
      this.#deadlines.set(key, this.#now() + ms);
    }
  }

  /** Removes a key whose time is over, and says whether it was. */
  #expire(key: string): boolean {
    if (this.#deadlines.size === 0) return false;
    const deadline = this.#deadlines.get(key);
    if (deadline === undefined || this.#now() < deadline) return false;
    this.expired++;
    return this.#remove(key);
  }

  /** A key that nobody asks for goes, too: without a timer, for each key that comes two are looked at. */
  #expireSome(): void {
    for (let i = 0; i < SWEEP; i++) {
      const { done, value } = this.#sweep.next();
      if (done) {
        this.#sweep = this.#deadlines.entries();
        return;
      }
      this.#expire(value[0]);
    }
  }

  #remove(key: string): boolean {
    this.#deadlines.delete(key);
    return this.#values.delete(key);
  }
}
