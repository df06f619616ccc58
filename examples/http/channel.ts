/** One client of an HTTP server: its requests, one after the other. */

import { AsyncChat, type DispatcherOptions } from "../../mod.ts";
import { FilePieces } from "./file_pieces.ts";
import {
  bodyLengthOf,
  checkHost,
  parseChunkSize,
  parseField,
  parseRequestLine,
  Refusal,
  type Request,
  wantsMore,
  wordsOf,
} from "./request.ts";
import type { Answer, Site } from "./site.ts";

/** The longest request line, in bytes. */
const REQUEST_LINE_LIMIT = 8_192;
/**
 * How long all header fields may be together, in bytes, and how many there may
 * be.
 */
const FIELDS_LIMIT = 16_384;
const FIELD_COUNT_LIMIT = 100;
/** The longest body, in bytes. Nobody needs one here. */
const BODY_LIMIT = 1_048_576;
/** The longest line before a chunk of a body, in bytes. */
const CHUNK_LINE_LIMIT = 256;
/** How long a client that is refused may take to read that, in milliseconds. */
const REFUSAL_TIME = 30_000;

const REASONS = new Map([
  [200, "OK"],
  [206, "Partial Content"],
  [301, "Moved Permanently"],
  [304, "Not Modified"],
  [400, "Bad Request"],
  [404, "Not Found"],
  [405, "Method Not Allowed"],
  [412, "Precondition Failed"],
  [413, "Content Too Large"],
  [414, "URI Too Long"],
  [416, "Range Not Satisfiable"],
  [431, "Request Header Fields Too Large"],
  [500, "Internal Server Error"],
  [501, "Not Implemented"],
  [503, "Service Unavailable"],
  [505, "HTTP Version Not Supported"],
]);

const latin1 = new TextDecoder("latin1");

/** What the next frame is. All but `body` and `chunk` are lines. */
type Expected =
  | "request line"
  | "field"
  | "body"
  | "chunk size"
  | "chunk"
  | "chunk end"
  | "trailer"
  | "nothing";

/**
 * One client. A frame is a line of a request's head, or a body, which is
 * dropped: nobody has anything to tell a file. The next request waits until the
 * answer to the last one has left, more or less; so there is one file open for
 * a client at most, whatever it asks for.
 */
export class HttpChannel extends AsyncChat {
  readonly #site: Site;
  #expected: Expected = "request line";
  #request: Request | null = null;
  /**
   * Bytes and fields of the head, and bytes of the body, that may still come.
   */
  #fieldBytes = 0;
  #fieldCount = 0;
  #bodyBytes = 0;
  /** Lets the next request in, if an answer waits for that. */
  #resume = () => {};

  constructor(conn: Deno.Conn, site: Site, options: DispatcherOptions = {}) {
    super(conn, options);
    this.#site = site;
    this.#expectLine("request line", REQUEST_LINE_LIMIT);
    this.signal.addEventListener("abort", () => this.#resume());
  }

  override collectIncomingData(data: Uint8Array) {
    const dropped = ["body", "chunk", "nothing"];
    if (!dropped.includes(this.#expected)) super.collectIncomingData(data);
  }

  override foundTerminator(): void | Promise<void> {
    try {
      return this.#frame(latin1.decode(this.takeIncoming()));
    } catch (error) {
      this.#refuse(error);
    }
  }

  // What comes behind the last request is not read.
  override readable() {
    return this.#expected !== "nothing";
  }

  override handleFrameTooLong() {
    const statuses: Partial<Record<Expected, number>> = {
      "request line": 414,
      "field": 431,
      "trailer": 431,
    };
    this.#refuse(new Refusal(statuses[this.#expected] ?? 400));
  }

  override handleDrained() {
    this.#resume();
  }

  override handleClose() {
    this.close();
  }

  #expectLine(expected: Expected, limit: number): void {
    this.#expected = expected;
    // 0 is no limit that can be set; no field has a single byte, and an empty
    // line none.
    this.maxFrameLength = Math.max(limit, 1);
    this.setTerminator("\r\n");
  }

  #expectBytes(expected: "body" | "chunk", length: number): void {
    this.#bodyBytes -= length;
    this.#expected = expected;
    this.setTerminator(length);
  }

  #frame(line: string): void | Promise<void> {
    switch (this.#expected) {
      case "request line":
        // Some clients send an empty line behind a body.
        if (line !== "") this.#beginRequest(line);
        return;
      case "field":
        return line === "" ? this.#endHead() : this.#field(line);
      case "body":
        return this.#serve();
      case "chunk size":
        return this.#beginChunk(parseChunkSize(line));
      case "chunk":
        return this.#expectLine("chunk end", 1);
      case "chunk end":
        if (line !== "") throw new Refusal(400);
        return this.#expectLine("chunk size", CHUNK_LINE_LIMIT);
      case "trailer":
        return line === "" ? this.#serve() : this.#field(line);
    }
  }

  #beginRequest(line: string): void {
    this.#request = parseRequestLine(line);
    this.#fieldBytes = FIELDS_LIMIT;
    this.#fieldCount = FIELD_COUNT_LIMIT;
    this.#bodyBytes = BODY_LIMIT;
    this.#expectLine("field", this.#fieldBytes);
  }

  #field(line: string): void {
    this.#fieldBytes -= line.length;
    this.#fieldCount--;
    if (this.#fieldCount < 0) throw new Refusal(431);
    // What comes behind the body changes nothing any more.
    const trailer = this.#expected === "trailer";
    parseField(line, trailer ? new Map() : this.#request!.fields);
    this.#expectLine(this.#expected, this.#fieldBytes);
  }

  #endHead(): void | Promise<void> {
    const request = this.#request!;
    checkHost(request);
    const length = bodyLengthOf(request);
    if (length === 0) return this.#serve();
    const tooLong = length !== "chunked" && length > BODY_LIMIT;
    const expect = wordsOf(request.fields.get("expect"));
    const continued = request.minor > 0 && expect.includes("100-continue");
    // Better than to wait for a body that changes nothing.
    if (tooLong || continued) this.#site.checkMethod(request);
    if (tooLong) throw new Refusal(413);
    if (continued) this.push("HTTP/1.1 100 Continue\r\n\r\n");
    if (length !== "chunked") return this.#expectBytes("body", length);
    this.#expectLine("chunk size", CHUNK_LINE_LIMIT);
  }

  #beginChunk(size: number): void {
    if (size > this.#bodyBytes) throw new Refusal(413);
    if (size > 0) this.#expectBytes("chunk", size);
    else this.#expectLine("trailer", this.#fieldBytes);
  }

  /**
   * Answers the request, and lets the next one come when the answer has left.
   */
  async #serve(): Promise<void> {
    const request = this.#request!;
    const more = wantsMore(request);
    let answer: Answer;
    try {
      answer = await this.#site.answer(request);
    } catch (error) {
      answer = this.#answerOf(error);
    }
    this.#request = null;
    this.#respond(answer, request, more);
    if (more) this.#expectLine("request line", REQUEST_LINE_LIMIT);
    else this.#endAfterAnswer();
    await this.#left(answer);
  }

  /**
   * Waits until a file is read and not too much of it, and of other answers, is
   * still to be sent.
   */
  async #left({ body }: Answer): Promise<void> {
    let reading = body instanceof FilePieces;
    if (body instanceof FilePieces) {
      body.closed.then(() => {
        reading = false;
        this.#resume();
      });
    }
    // The end of the connection, too, has to wait for this.
    while (
      !this.signal.aborted &&
      (reading || this.queuedBytes > this.highWaterMark)
    ) await new Promise<void>((resolve) => this.#resume = resolve);
  }

  /**
   * Answers a request that cannot be understood: nobody knows where the next
   * one begins.
   */
  #refuse(error: unknown): void {
    this.#respond(this.#answerOf(error), this.#request, false);
    this.#endAfterAnswer(REFUSAL_TIME);
  }

  #endAfterAnswer(deadline = Infinity): void {
    this.#expected = "nothing";
    this.setTerminator(null);
    this.closeWhenDone({ deadline });
  }

  #answerOf(error: unknown): Answer {
    if (!(error instanceof Refusal)) console.error("Cannot answer:", error);
    const { status, fields } = error instanceof Refusal
      ? error
      : new Refusal(500);
    return { status, fields, body: `${status} ${REASONS.get(status)}\n` };
  }

  #respond(answer: Answer, request: Request | null, more: boolean): void {
    const { status, fields, body } = answer;
    const head = [
      `HTTP/1.1 ${status} ${REASONS.get(status)}`,
      `Date: ${new Date().toUTCString()}`,
    ];
    if (typeof body === "string") {
      head.push("Content-Type: text/plain; charset=utf-8");
    }
    if (body !== null) head.push(`Content-Length: ${body.length}`);
    for (const [name, value] of Object.entries(fields)) {
      head.push(`${name}: ${value}`);
    }
    if (!more) head.push("Connection: close");
    else if (request!.minor === 0) head.push("Connection: keep-alive");
    this.push(`${head.join("\r\n")}\r\n\r\n`);
    if (request?.method !== "HEAD") {
      if (body !== null) this.pushWithProducer(body);
    } else if (body instanceof FilePieces) body.return();
  }
}
