/**
 * All mutants.
 *
 * @module
 */

import { asking } from "./asking.ts";
import { bytes } from "./bytes.ts";
import { closing } from "./closing.ts";
import { errors } from "./errors.ts";
import { memory } from "./memory.ts";
import type { Mutant } from "./mutant.ts";
import { order } from "./order.ts";
import { waking } from "./waking.ts";

/** The mutants, by the kind of what they break. */
export const mutants: readonly Mutant[] = [
  ...order,
  ...asking,
  ...bytes,
  ...closing,
  ...waking,
  ...memory,
  ...errors,
];
