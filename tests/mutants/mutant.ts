/**
 * What a mutant is, and how it is put in place of what it breaks.
 *
 * @module
 */

/** A library that is broken on purpose, in one place. */
export interface Mutant {
  /** What it does, in a few words. */
  readonly name: string;
  /** The line of the contract that it breaks: the number that the files of `tests/contract/` begin with. */
  readonly line: number;
  /** What is broken, in a sentence. */
  readonly what: string;
  /** Whether it never comes to rest: then no answer within the deadline is what was to be found. */
  readonly spins?: true;
  /** Breaks the library, for good and for every map of this thread. */
  apply(): void;
}

type MethodName<T> = {
  [K in keyof T]: T[K] extends (...args: never[]) => unknown ? K : never;
}[keyof T];

type Method<T, K extends keyof T> = T[K] extends
  (...args: infer Args) => infer Result ? (this: T, ...args: Args) => Result
  : never;

/**
 * Puts another method in the place of one.
 *
 * @param type The class; or an object as the `prototype`.
 * @param name The method.
 * @param make Makes the other one, which may call the original.
 */
export function wrap<T extends object, K extends MethodName<T>>(
  type: { readonly prototype: T },
  name: K,
  make: (original: Method<T, K>) => Method<T, K>,
): void {
  const { prototype } = type;
  Object.defineProperty(prototype, name, {
    value: make(prototype[name] as Method<T, K>),
    configurable: true,
    writable: true,
  });
}

/**
 * Puts another getter in the place of one.
 *
 * @param type The class.
 * @param name The property.
 * @param make Makes the other one, which may call the original.
 */
export function wrapGetter<T extends object, K extends keyof T>(
  type: { readonly prototype: T },
  name: K,
  make: (original: (this: T) => T[K]) => (this: T) => T[K],
): void {
  const { prototype } = type;
  const { get } = Object.getOwnPropertyDescriptor(prototype, name)!;
  Object.defineProperty(prototype, name, {
    get: make(get!),
    configurable: true,
  });
}

/** True every `n`th time it is asked. */
export function everyNth(n: number): () => boolean {
  let times = 0;
  return () => ++times % n === 0;
}
