/**
 * What MAIL and RCPT have behind the colon: a path, as in `<jane@example.com>`,
 * and parameters, as in `SIZE=1000 BODY=8BITMIME`.
 */

const ATOM = String.raw`[^\s"(),.:;<>@[\]\\]+`;
const QUOTED = String.raw`"(?:[^"\\]|\\.)*"`;
const LITERAL = String.raw`\[[^\s[\]\\]+\]`;
const DOTTED = String.raw`${ATOM}(?:\.${ATOM})*`;
// The domain may be missing: mail for <postmaster> must be accepted.
const MAILBOX = `(?:${DOTTED}|${QUOTED})(?:@(?:${DOTTED}|${LITERAL}))?`;

// A list of hosts to go through, as in <@one,@two:jane@three>, is obsolete and
// ignored, as RFC 5321 (appendix F.2) has it.
const IN_ANGLES = new RegExp(`^<(?:@[^:<>]*:)?(${MAILBOX})?>(?:\\s+(.*))?$`);
const BARE = new RegExp(`^(${MAILBOX})(?:\\s+(.*))?$`);

/** A path and what follows it. */
export interface Path {
  /** The mailbox, as it was written; empty in `<>`. */
  readonly mailbox: string;
  /** The parameters, not parsed. */
  readonly parameters: string;
}

/** Parses a path, in angle brackets or not; `null` if it is none. */
export function parsePath(text: string): Path | null {
  const match = IN_ANGLES.exec(text) ?? BARE.exec(text);
  if (match === null) return null;
  const [, mailbox = "", parameters = ""] = match;
  return { mailbox, parameters };
}

/** Parses parameters, the names in capitals; `null` if it is something else. */
export function parseParameters(
  text: string,
): Map<string, string | null> | null {
  const parameters = new Map<string, string | null>();
  for (const word of text.toUpperCase().split(/\s+/)) {
    if (word === "") continue;
    const match = /^([A-Z0-9][A-Z0-9-]*)(?:=([^=]+))?$/.exec(word);
    if (match === null || parameters.has(match[1]!)) return null;
    parameters.set(match[1]!, match[2] ?? null);
  }
  return parameters;
}
