/**
 * The text of a message while it arrives: line by line, and on into a draft in
 * pieces, so that of a long message only a piece is in memory.
 */

/** Where a message comes from and where it goes, as its commands said. */
export interface Envelope {
  /** The address of the client. */
  readonly client: Deno.Addr | null;
  /** What the client calls itself. */
  readonly helo: string;
  /** How it came: SMTP, ESMTP or UTF8SMTP. */
  readonly protocol: string;
  /** The mailbox that wants to hear of failures; empty if none does. */
  readonly sender: string;
  readonly recipients: readonly string[];
}

/** A message that is being received. */
export interface Draft {
  /** Appends a piece of the text; it may be changed afterwards. */
  write(piece: Uint8Array): void | Promise<void>;
  /**
   * The message is complete. What this returns is the answer, where it is not
   * to be `250 OK`.
   */
  store(): string | void | Promise<string | void>;
  /** The message will not be complete. Does nothing after `store()`. */
  discard(): void;
}

/** Opens a draft. */
export type Deliver = (envelope: Envelope) => Draft | Promise<Draft>;

/** The answer to a line that is too long. */
export const LINE_TOO_LONG = "500 Error: line too long";
/** The answer where we, not the client, are at fault. */
export const LOCAL_ERROR = "451 Error: local error in processing";

const PIECE = 65_536;

/** One message, line by line. */
export class Body {
  readonly #draft: Draft;
  readonly #sizeLimit: number;
  readonly #lineLimit: number;
  readonly #piece: Uint8Array;
  #pieceLength = 0;
  /** What was received so far, in bytes, without the doubled dots. */
  #size = 0;
  /** The answer to a message that is not stored. */
  #refusal: string | null = null;

  constructor(draft: Draft, sizeLimit: number, lineLimit: number) {
    this.#draft = draft;
    this.#sizeLimit = sizeLimit;
    this.#lineLimit = lineLimit;
    // A line fits always, while less than a piece waits.
    this.#piece = new Uint8Array(PIECE + lineLimit + 2);
  }

  /** Adds a line. What comes after one that is refused is dropped. */
  add(line: Uint8Array): void | Promise<void> {
    if (this.#refusal !== null) return;
    if (line.length > this.#lineLimit) return this.refuse(LINE_TOO_LONG);
    this.#size += line.length + 2;
    if (this.#size > this.#sizeLimit) {
      return this.refuse("552 Error: Too much mail data");
    }
    this.#piece.set(line, this.#pieceLength);
    this.#pieceLength += line.length;
    this.#piece[this.#pieceLength++] = 13;
    this.#piece[this.#pieceLength++] = 10;
    if (this.#pieceLength >= PIECE) return this.#flush();
  }

  /**
   * Gives up on the message. The first reason is told when all of it has come.
   */
  refuse(answer: string): void {
    this.#refusal ??= answer;
    this.#draft.discard();
  }

  /** All of it has come. Returns the answer. */
  async end(): Promise<string> {
    await this.#flush();
    if (this.#refusal !== null) return this.#refusal;
    try {
      return await this.#draft.store() ?? "250 OK";
    } catch (error) {
      this.#fail(error);
      return this.#refusal!;
    }
  }

  async #flush(): Promise<void> {
    if (this.#refusal !== null) return;
    try {
      await this.#draft.write(this.#piece.subarray(0, this.#pieceLength));
      this.#pieceLength = 0;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    // One that was given up may fail as it likes.
    if (this.#refusal === null) console.error(`Cannot store message: ${error}`);
    this.refuse(LOCAL_ERROR);
  }
}
