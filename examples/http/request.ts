/** Requests: what their lines say (RFC 9112), and what is wrong with them. */

/** A request that is answered by an error. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  /** The status code. */
  readonly status: number;
  /** More header fields of the answer. */
  readonly fields: Readonly<Record<string, string>>;

  constructor(status: number, fields: Readonly<Record<string, string>> = {}) {
    super(`HTTP status ${status}`);
    this.status = status;
    this.fields = fields;
  }
}

/** A request without its body. */
export interface Request {
  readonly method: string;
  /** What is asked for, as it was sent. */
  readonly target: string;
  /** The version: HTTP/1.minor. */
  readonly minor: number;
  /** The header fields, the names in small letters. */
  readonly fields: Map<string, string>;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Parses the first line of a request. */
export function parseRequestLine(line: string): Request {
  const [method, target, version, ...rest] = line.split(" ");
  const [, major, minor] = /^HTTP\/(\d)\.(\d)$/.exec(version ?? "") ?? [];
  if (
    rest.length > 0 || major === undefined || !TOKEN.test(method!) ||
    !/^[\x21-\x7e]+$/.test(target!)
  ) throw new Refusal(400);
  if (major !== "1") throw new Refusal(505);
  return {
    method: method!,
    target: target!,
    minor: Number(minor),
    fields: new Map(),
  };
}

/**
 * Two of these could make two programs disagree on where a request ends, or on
 * whom it is for.
 */
const ONCE = new Set(["host", "content-length", "transfer-encoding"]);

/** Parses a header field. */
export function parseField(line: string, fields: Map<string, string>): void {
  const colon = line.indexOf(":");
  // A space before the colon, or at the start of the line, has hidden fields
  // from programs before.
  if (colon < 0 || !TOKEN.test(line.slice(0, colon))) throw new Refusal(400);
  const name = line.slice(0, colon).toLowerCase();
  const value = line.slice(colon + 1);
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(value)) throw new Refusal(400);
  const before = fields.get(name);
  if (before === undefined) fields.set(name, value.trim());
  else if (ONCE.has(name)) throw new Refusal(400);
  else fields.set(name, `${before}, ${value.trim()}`);
}

/** The words of a field that is a list, in small letters. */
export function wordsOf(value: string | undefined): string[] {
  return (value ?? "").toLowerCase().split(",").map((word) => word.trim());
}

/** Whether the connection is to stay open after the answer. */
export function wantsMore({ minor, fields }: Request): boolean {
  const words = wordsOf(fields.get("connection"));
  if (words.includes("close")) return false;
  return minor > 0 || words.includes("keep-alive");
}

/**
 * How long the body is: a number of bytes, or `chunked`. Refuses a request
 * whose end is not certain.
 */
export function bodyLengthOf({ minor, fields }: Request): number | "chunked" {
  const length = fields.get("content-length");
  const coding = fields.get("transfer-encoding");
  if (coding !== undefined) {
    if (length !== undefined || minor === 0) throw new Refusal(400);
    if (coding.toLowerCase() !== "chunked") throw new Refusal(501);
    return "chunked";
  }
  if (length === undefined) return 0;
  if (!/^\d+$/.test(length)) throw new Refusal(400);
  return Number(length);
}

/** Checks the field that every request of HTTP/1.1 has. */
export function checkHost({ minor, fields }: Request): void {
  const host = fields.get("host");
  if (host === undefined && minor === 0) return;
  if (!/^[\w.~!$&'()*+,;=%[\]:-]*$/.test(host ?? " ")) throw new Refusal(400);
}

/** Parses the line before a chunk of a body: its length. */
export function parseChunkSize(line: string): number {
  const [, size] = /^([0-9A-Fa-f]+)[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/
    .exec(line) ?? [];
  if (size === undefined) throw new Refusal(400);
  return parseInt(size, 16);
}

// In "C:" and "file:stream" the colon, too, says where to look.
const SEPARATORS = Deno.build.os === "windows" ? /[/\\:]/ : /[/\\]/;

/**
 * Takes a target apart. The last name is empty if the path ends with a slash.
 * Refuses whatever is no name of a file that everybody may see.
 */
export function parseTarget(
  target: string,
): { path: string; query: string; names: string[] } {
  // A proxy is asked by the whole URL, and so may be we.
  const [, rest] =
    /^(?:https?:\/\/[^/?#]+(?=[/?]|$)|(?=\/))(.*)$/i.exec(target) ?? [];
  if (rest === undefined || rest.includes("#")) throw new Refusal(400);
  const [, path, query] = /^([^?]*)(.*)$/.exec(rest)!;
  const names = (path || "/").split("/").slice(1).map(decode);
  for (const [i, name] of names.entries()) {
    const last = i === names.length - 1;
    // No "..", no hidden file, no separator in disguise.
    const hidden = name.startsWith(".") && name !== ".well-known";
    if (hidden || SEPARATORS.test(name) || (name === "" && !last)) {
      throw new Refusal(404);
    }
  }
  return { path: path || "/", query: query!, names };
}

function decode(text: string): string {
  let name: string;
  try {
    name = decodeURIComponent(text);
  } catch {
    // No digits behind a percent sign, or bytes that are no UTF-8.
    throw new Refusal(400);
  }
  if (name.includes("\0")) throw new Refusal(400);
  return name;
}
