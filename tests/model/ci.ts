/**
 * What every run of the tests checks: the same programs each time, on which the
 * mutants are tried, too.
 *
 * @module
 */

/** The seeds. */
export const CI_SEEDS: readonly number[] = [1, 2, 3];

/** Programs for each seed. */
export const CI_RUNS = 600;
