/**
 * Redis's patterns: `*`, `?`, `[a-z]`, `[^a]` and `\` before a character that
 * means itself.
 *
 * @module
 */

/** One character of a pattern, or `null` for `*`. */
type Step = ((char: string) => boolean) | null;

/**
 * What says whether a text matches a pattern.
 *
 * Not a `RegExp`: with a few `*` that would take for ever on a text that does
 * not match. Only the last `*` needs to be tried again.
 */
export function matcher(pattern: string): (text: string) => boolean {
  const steps = parse(pattern);
  return (text) => {
    let step = 0;
    let at = 0;
    /** Behind the last `*`, and how much of the text it leaves to the rest. */
    let retryStep = -1;
    let retryAt = 0;
    while (at < text.length) {
      const matches = steps[step];
      if (matches === null) {
        retryStep = ++step;
        retryAt = at;
      } else if (matches?.(text[at]!)) {
        step++;
        at++;
      } else if (retryStep < 0) return false;
      else {
        step = retryStep;
        at = ++retryAt;
      }
    }
    while (steps[step] === null) step++;
    return step === steps.length;
  };
}

function parse(pattern: string): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === "*") steps.push(null);
    else if (char === "?") steps.push(() => true);
    else if (char === "[") at = parseClass(pattern, at + 1, steps);
    else {
      if (char === "\\" && at + 1 < pattern.length) at++;
      const expected = pattern[at];
      steps.push((char) => char === expected);
    }
  }
  return steps;
}

/** Reads `[...]`, which the end of the pattern ends, too; returns where its last character is. */
function parseClass(pattern: string, start: number, steps: Step[]): number {
  let at = start;
  const not = pattern[at] === "^";
  if (not) at++;
  const ranges: [string, string][] = [];
  for (; at < pattern.length && pattern[at] !== "]"; at++) {
    if (pattern[at] === "\\" && at + 1 < pattern.length) {
      at++;
      ranges.push([pattern[at]!, pattern[at]!]);
    } else if (pattern[at + 1] === "-" && at + 2 < pattern.length) {
      const [from, to] = [pattern[at]!, pattern[at + 2]!].sort();
      ranges.push([from!, to!]);
      at += 2;
    } else ranges.push([pattern[at]!, pattern[at]!]);
  }
  steps.push((char) =>
    ranges.some(([from, to]) => from <= char && char <= to) !== not
  );
  return at;
}
