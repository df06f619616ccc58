/** Conditional requests (RFC 9110, section 13) and ranges (section 14). */

import { Refusal } from "./request.ts";

type Fields = ReadonlyMap<string, string>;

/** What tells one version of a file from another. */
export interface Version {
  /** The entity tag, a strong one. */
  readonly etag: string;
  /** When it was changed, in milliseconds, a whole number of seconds. */
  readonly modified: number;
}

/**
 * Whether the client has this version already; refuses what is meant for
 * another version.
 */
export function isKnown(fields: Fields, version: Version): boolean {
  const ifMatch = fields.get("if-match");
  const ifUnmodified = parseDate(fields.get("if-unmodified-since"));
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, version.etag, "strong")) throw new Refusal(412);
  } else if (version.modified > ifUnmodified) throw new Refusal(412);

  const ifNoneMatch = fields.get("if-none-match");
  if (ifNoneMatch !== undefined) {
    return matches(ifNoneMatch, version.etag, "weak");
  }
  return version.modified <= parseDate(fields.get("if-modified-since"));
}

/** The part of a file that is asked for. */
export interface Range {
  readonly start: number;
  readonly length: number;
}

/**
 * The range that is asked for; `null` if it is the whole file, as it is, too,
 * for more than one range, which nobody has to serve. Refuses a range that
 * begins behind the end.
 */
export function rangeOf(
  fields: Fields,
  size: number,
  version: Version,
): Range | null {
  const match = /^bytes=(\d*)-(\d*)$/i.exec(fields.get("range") ?? "");
  if (match === null || !rangeIsFor(version, fields.get("if-range"))) {
    return null;
  }
  const [, first, last] = match;
  if (first === "" && last === "") return null;
  if (first === "") {
    // The last so many bytes.
    const length = Math.min(Number(last), size);
    if (length === 0) throw unsatisfiable(size);
    return { start: size - length, length };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return null;
  if (start >= size) throw unsatisfiable(size);
  const end = last === "" ? size : Math.min(Number(last) + 1, size);
  return { start, length: end - start };
}

function unsatisfiable(size: number): Refusal {
  return new Refusal(416, { "Content-Range": `bytes */${size}` });
}

function rangeIsFor(version: Version, ifRange: string | undefined): boolean {
  if (ifRange === undefined) return true;
  if (/^(?:W\/)?"/.test(ifRange)) return ifRange === version.etag;
  return parseDate(ifRange) === version.modified;
}

/** Whether a list of entity tags has this one. */
function matches(
  list: string,
  etag: string,
  comparison: "strong" | "weak",
): boolean {
  if (list === "*") return true;
  const tags = list.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((tag) =>
    tag === etag || comparison === "weak" && tag === `W/${etag}`
  );
}

/**
 * A date in any of the three formats that clients have ever sent; NaN, which
 * compares with nothing, if there is none.
 */
function parseDate(text: string | undefined): number {
  if (text === undefined || !/^[A-Z][a-z]{2,8},? /.test(text)) return NaN;
  return Date.parse(text.endsWith(" GMT") ? text : `${text} GMT`);
}
