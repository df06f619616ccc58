/**
 * RESP2, Redis's protocol: replies as bytes, and what arguments can be read as.
 *
 * Strings are binary in Redis. As text they are latin1 here, a character for a
 * byte, so that a `Map` can have them as keys.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** What a command replies: a string of bytes (text is latin1), an integer, nothing, a status, or a list. */
export type Reply =
  | Uint8Array
  | string
  | number
  | bigint
  | null
  | Status
  | readonly Reply[];

/** A reply that is one word, or a few. */
export class Status {
  readonly bytes: Uint8Array;

  constructor(text: string) {
    this.bytes = toBytes(`+${text}\r\n`);
  }
}

export const OK = new Status("OK");

/** What a command cannot do, with the text for the client. */
export class ReplyError extends Error {
  override name = "ReplyError";

  get bytes(): Uint8Array {
    return toBytes(`-${this.message.replace(/[\r\n]/g, " ")}\r\n`);
  }
}

export const SYNTAX_ERROR = "ERR syntax error";
export const NOT_AN_INTEGER = "ERR value is not an integer or out of range";

/** So many bytes at once are turned into text. */
const CHUNK = 8192;

/** Bytes as latin1. */
export function toText(bytes: Uint8Array): string {
  if (bytes.length <= CHUNK) return ofCodes(bytes);
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += ofCodes(bytes.subarray(at, at + CHUNK));
  }
  return text;
}

function ofCodes(bytes: Uint8Array): string {
  // Half as long as adding characters one by one takes.
  return String.fromCharCode.apply(null, bytes as unknown as number[]);
}

/** Latin1 as bytes. */
export function toBytes(text: string): Uint8Array {
  const bytes = allocate(text.length);
  writeText(text, bytes, 0);
  return bytes;
}

/** Bytes that will be written, all of them: a part of a common buffer, which takes a tenth of the time to make. */
function allocate(length: number): Uint8Array {
  return Buffer.allocUnsafe(length);
}

/** A reply as bytes. */
export function encode(reply: Reply): Uint8Array {
  if (reply instanceof Status) return reply.bytes;
  const bytes = allocate(lengthOf(reply));
  write(reply, bytes, 0);
  return bytes;
}

/** What stands before a string of so many bytes. */
export function bulkHead(length: number): Uint8Array {
  return toBytes(`$${length}\r\n`);
}

function lengthOf(reply: Reply): number {
  if (reply === null) return 5;
  if (reply instanceof Status) return reply.bytes.length;
  if (typeof reply === "number" || typeof reply === "bigint") {
    return `${reply}`.length + 3;
  }
  const { length } = reply;
  const head = `${length}`.length + 3;
  if (!(reply instanceof Array)) return head + length + 2;
  return reply.reduce<number>((sum, item) => sum + lengthOf(item), head);
}

/** Writes a reply, and returns where it ends. */
function write(reply: Reply, bytes: Uint8Array, at: number): number {
  if (reply === null) return writeText("$-1\r\n", bytes, at);
  if (reply instanceof Status) {
    bytes.set(reply.bytes, at);
    return at + reply.bytes.length;
  }
  if (typeof reply === "number" || typeof reply === "bigint") {
    return writeText(`:${reply}\r\n`, bytes, at);
  }
  if (reply instanceof Array) {
    let end = writeText(`*${reply.length}\r\n`, bytes, at);
    for (const item of reply) end = write(item, bytes, end);
    return end;
  }
  let end = writeText(`$${reply.length}\r\n`, bytes, at);
  if (typeof reply === "string") end = writeText(reply, bytes, end);
  else {
    bytes.set(reply, end);
    end += reply.length;
  }
  return writeText("\r\n", bytes, end);
}

function writeText(text: string, bytes: Uint8Array, at: number): number {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  return at + text.length;
}

const MAX_INTEGER = 2n ** 63n - 1n;
const MIN_INTEGER = -(2n ** 63n);

/** A 64-bit integer in its shortest form; `null` if it is none. */
export function parseInteger(bytes: Uint8Array): bigint | null {
  if (bytes.length === 0 || bytes.length > 20) return null;
  const text = toText(bytes);
  if (!/^(0|-?[1-9]\d*)$/.test(text)) return null;
  return inRange(BigInt(text));
}

/** A 64-bit integer; `null` if it has become larger than that. */
export function inRange(integer: bigint): bigint | null {
  return integer < MIN_INTEGER || integer > MAX_INTEGER ? null : integer;
}

/** An argument that has to be an integer. */
export function integerOf(bytes: Uint8Array): bigint {
  const integer = parseInteger(bytes);
  if (integer === null) throw new ReplyError(NOT_AN_INTEGER);
  return integer;
}

/** The length in the rest of a line: as {@linkcode parseInteger}, but quick; NaN if it is none. */
export function parseLength(line: Uint8Array, from: number): number {
  const negative = line[from] === 45; // -
  const first = negative ? from + 1 : from;
  const digits = line.length - first;
  let length = 0;
  for (let at = first; at < line.length; at++) {
    const digit = line[at]! - 48;
    if (digit < 0 || digit > 9) return NaN;
    length = length * 10 + digit;
  }
  const shortest = line[first] !== 48 || digits === 1 && !negative;
  if (digits === 0 || digits > 15 || !shortest) return NaN;
  return negative ? -length : length;
}

const ESCAPES = new Map([
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["b", "\b"],
  ["a", "\x07"],
]);

const SPACE = /[ \t\n\v\f\r]*/y;
/** An argument: plain, quoted, or quoted at its end. */
const ARGUMENT =
  /([^ \t\n\v\f\r"']*)(?:"((?:\\[^]|[^"\\])*)"|'((?:\\'|\\(?!')|[^'\\])*)')?/y;

/** The arguments of a command that was typed in as a line; `null` if a quote has no end, or something right behind it. */
export function splitLine(line: string): string[] | null {
  const args: string[] = [];
  let at = skipSpace(line, 0);
  while (at < line.length) {
    ARGUMENT.lastIndex = at;
    const [whole, plain, double, single] = ARGUMENT.exec(line)!;
    const next = skipSpace(line, at + whole.length);
    if (next === at + whole.length && next < line.length) return null;
    const quoted = double === undefined
      ? single?.replaceAll("\\'", "'")
      : unescape(double);
    args.push(plain! + (quoted ?? ""));
    at = next;
  }
  return args;
}

function skipSpace(line: string, at: number): number {
  SPACE.lastIndex = at;
  return at + SPACE.exec(line)![0].length;
}

function unescape(text: string): string {
  return text.replace(
    /\\(?:x([0-9a-fA-F]{2})|([^]))/g,
    (_, hex: string | undefined, char: string) =>
      hex === undefined
        ? ESCAPES.get(char) ?? char
        : String.fromCharCode(parseInt(hex, 16)),
  );
}
