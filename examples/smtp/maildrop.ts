/** A folder in which each message becomes a file of its own. */

import type { Draft, Envelope } from "./body.ts";

const encoder = new TextEncoder();

/**
 * Stores messages in a folder, for `SmtpServer`. A message has a temporary
 * name, which begins with a dot, until all of it is on the disk; so whoever
 * looks for `*.eml` sees whole messages only.
 */
export class Maildrop {
  readonly #folder: string;
  readonly #host: string;

  /** `host` is the name of this machine, for the headers. */
  constructor(folder: string, host: string) {
    this.#folder = folder;
    this.#host = host;
  }

  /** Makes a file for a message. */
  async open(envelope: Envelope): Promise<Draft> {
    // In the order in which they came, and never one name twice.
    const time = new Date().toISOString().replace(/\D/g, "");
    const id = `${time}-${crypto.randomUUID()}`;
    const path = `${this.#folder}/.${id}.tmp`;
    const file = await Deno.open(path, {
      write: true,
      createNew: true,
      mode: 0o600,
    });
    const draft = new FileDraft(file, path, `${this.#folder}/${id}.eml`, id);
    try {
      await draft.write(encoder.encode(this.#trace(envelope, id)));
      return draft;
    } catch (error) {
      draft.discard();
      throw error;
    }
  }

  /**
   * What a server puts before a message (RFC 5321, section 4.4), so that the
   * envelope is not lost.
   */
  #trace(envelope: Envelope, id: string): string {
    const { client, helo, protocol, sender, recipients } = envelope;
    const date = new Date().toUTCString().replace("GMT", "+0000");
    return [
      `Return-Path: <${sender}>`,
      ...recipients.map((recipient) => `Delivered-To: ${recipient}`),
      `Received: from ${helo} (${literal(client)})`,
      `\tby ${this.#host} with ${protocol} id ${id};`,
      `\t${date}`,
      "",
    ].join("\r\n");
  }
}

/** An address as SMTP writes it. */
function literal(addr: Deno.Addr | null): string {
  if (addr?.transport !== "tcp") return "[unknown]";
  const { hostname } = addr;
  return hostname.includes(":") ? `[IPv6:${hostname}]` : `[${hostname}]`;
}

class FileDraft implements Draft {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  readonly #finalPath: string;
  readonly #id: string;
  #closed = false;

  constructor(file: Deno.FsFile, path: string, finalPath: string, id: string) {
    this.#file = file;
    this.#path = path;
    this.#finalPath = finalPath;
    this.#id = id;
  }

  async write(piece: Uint8Array): Promise<void> {
    while (piece.length > 0) {
      piece = piece.subarray(await this.#file.write(piece));
    }
  }

  async store(): Promise<string> {
    // "250" means that it will not get lost (RFC 5321, section 6.1).
    await this.#file.sync();
    this.#close();
    await Deno.rename(this.#path, this.#finalPath);
    return `250 OK stored as ${this.#id}`;
  }

  discard(): void {
    this.#close();
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      // It was stored, or the whole folder has gone.
      if (!(error instanceof Deno.errors.NotFound)) {
        console.error(`Cannot remove draft: ${error}`);
      }
    }
  }

  #close(): void {
    if (!this.#closed) this.#file.close();
    this.#closed = true;
  }
}
