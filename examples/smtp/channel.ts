/** One client of an SMTP server: its commands, and where it stands. */

import { AsyncChat, type DispatcherOptions } from "../../mod.ts";
import { Body, type Deliver, LINE_TOO_LONG, LOCAL_ERROR } from "./body.ts";
import { parseParameters, parsePath } from "./path.ts";

/** The longest command, in bytes without its line end. */
const COMMAND_LIMIT = 512;
/** How much longer MAIL may be for its parameters SIZE and SMTPUTF8. */
const SIZE_LENGTH = 26;
const SMTPUTF8_LENGTH = 10;

/**
 * Answers that may wait for a client to read them, in bytes, before we look at
 * what else it says.
 */
const ANSWERS = 16_384;
/** How long a client may take to read the last one, in milliseconds. */
const GOODBYE_TIME = 30_000;

const DOT = ".".charCodeAt(0);

/** What HELP says about each command. */
const USAGE = new Map([
  ["EHLO", "EHLO hostname"],
  ["HELO", "HELO hostname"],
  ["MAIL", "MAIL FROM: <address>"],
  ["RCPT", "RCPT TO: <address>"],
  ["DATA", "DATA"],
  ["RSET", "RSET"],
  ["NOOP", "NOOP"],
  ["QUIT", "QUIT"],
  ["VRFY", "VRFY <address>"],
]);
const SUPPORTED = `Supported commands: ${[...USAGE.keys()].join(" ")}`;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** What holds for every client. */
export interface SmtpSettings {
  /** The name of this machine, for greetings. */
  readonly host: string;
  /** The longest message, in bytes. */
  readonly sizeLimit: number;
  /** The longest line of a message, in bytes without its end. */
  readonly lineLimit: number;
  /** The most recipients of a message. */
  readonly recipientLimit: number;
  /** Whether addresses may have any letters. */
  readonly smtputf8: boolean;
}

/**
 * One client. A frame is a line, of the commands as of the text of a message,
 * and nothing but CR LF ends it. So a dot alone between bare line feeds is text
 * like any other, and no message can be hidden in another one ("SMTP
 * smuggling").
 */
export class SmtpChannel extends AsyncChat {
  readonly #deliver: Deliver;
  readonly #settings: SmtpSettings;
  #helo = "";
  #extended = false;
  /** The sender, `null` before MAIL. */
  #sender: string | null = null;
  #utf8 = false;
  #recipients: string[] = [];
  /** The message that is being received, between DATA and the dot. */
  #body: Body | null = null;
  /** Lets the next line in, if one waits for the client to read. */
  #resume = () => {};

  readonly #commands = new Map<string, (arg: string) => void | Promise<void>>([
    ["HELO", (arg) => this.#greet("HELO", arg)],
    ["EHLO", (arg) => this.#greet("EHLO", arg)],
    ["MAIL", (arg) => this.#mail(arg)],
    ["RCPT", (arg) => this.#rcpt(arg)],
    ["DATA", (arg) => this.#data(arg)],
    ["RSET", (arg) => this.#rset(arg)],
    ["NOOP", (arg) => this.#reply(arg ? "501 Syntax: NOOP" : "250 OK")],
    ["QUIT", () => this.#quit("221 Bye")],
    ["VRFY", (arg) => this.#vrfy(arg)],
    ["HELP", (arg) => this.#help(arg)],
    ["EXPN", () => this.#reply("502 EXPN not implemented")],
  ]);

  constructor(
    conn: Deno.Conn,
    deliver: Deliver,
    settings: SmtpSettings,
    options: DispatcherOptions = {},
  ) {
    super(conn, { ...options, highWaterMark: ANSWERS });
    this.#deliver = deliver;
    this.#settings = settings;
    this.signal.addEventListener("abort", () => this.#resume());
    this.setTerminator("\r\n");
    this.#expectCommand();
    this.#reply(`220 ${settings.host} ESMTP`);
  }

  /** Says that the server is about to go, and closes. */
  shutDown(): void {
    this.#reply(`421 ${this.#settings.host} Service closing`);
    this.close();
  }

  // What comes behind QUIT is not for us.
  override readable() {
    return this.getTerminator() !== null;
  }

  override foundTerminator(): void | Promise<void> {
    return this.#paced(this.#line(this.takeIncoming()));
  }

  override handleFrameTooLong(): void | Promise<void> {
    // What follows up to the end of the line is dropped.
    if (this.#body === null) this.#reply(LINE_TOO_LONG);
    else this.#body.refuse(LINE_TOO_LONG);
    return this.#paced();
  }

  /** Has the next line wait while the client has too much to read. */
  #paced(pending?: void | Promise<void>): void | Promise<void> {
    return this.queuedBytes > ANSWERS ? this.#answersRead(pending) : pending;
  }

  override handleDrained() {
    this.#resume();
  }

  /** Waits until the client has read most of what we have said. */
  async #answersRead(pending?: void | Promise<void>): Promise<void> {
    await pending;
    // The end of the connection, too, has to wait for this.
    while (!this.signal.aborted && this.queuedBytes > ANSWERS) {
      await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  #line(line: Uint8Array): void | Promise<void> {
    if (this.#body === null) return this.#command(line);
    if (line[0] !== DOT) return this.#body.add(line);
    // The client doubles a dot that begins a line.
    if (line.length > 1) return this.#body.add(line.subarray(1));
    return this.#store(this.#body);
  }

  override handleClose() {
    this.close();
  }

  override close() {
    super.close();
    this.#body?.refuse(LOCAL_ERROR);
  }

  #reply(line: string): void {
    this.push(`${line}\r\n`);
  }

  #quit(line: string): void {
    this.#reply(line);
    this.closeWhenDone({ deadline: GOODBYE_TIME });
    this.setTerminator(null);
  }

  #expectCommand(): void {
    const { smtputf8 } = this.#settings;
    this.maxFrameLength = COMMAND_LIMIT +
      (this.#extended ? SIZE_LENGTH + (smtputf8 ? SMTPUTF8_LENGTH : 0) : 0);
  }

  #command(line: Uint8Array): void | Promise<void> {
    let text: string;
    try {
      text = decoder.decode(line);
    } catch {
      return this.#reply("500 Error: bad syntax");
    }
    // What a client says ends up in headers and answers: no control characters.
    if (text === "" || /\p{Cc}/u.test(text.replaceAll("\t", " "))) {
      return this.#reply("500 Error: bad syntax");
    }
    const [, word, arg] = /^(\S*)\s*(.*?)\s*$/.exec(text)!;
    const name = word!.toUpperCase();
    if (line.length > COMMAND_LIMIT && name !== "MAIL") {
      return this.#reply(LINE_TOO_LONG);
    }
    const command = this.#commands.get(name);
    if (command !== undefined) return command(arg!);
    this.#reply(`500 Error: command "${name}" not recognized`);
  }

  #greet(name: "HELO" | "EHLO", arg: string): void {
    if (arg === "") return this.#reply(`501 Syntax: ${name} hostname`);
    if (this.#helo !== "") return this.#reply("503 Duplicate HELO/EHLO");
    this.#helo = arg;
    const { host, sizeLimit, smtputf8 } = this.#settings;
    if (name === "HELO") return this.#reply(`250 ${host}`);
    this.#extended = true;
    this.#expectCommand();
    const lines = [host, `SIZE ${sizeLimit}`, "8BITMIME", "PIPELINING"];
    if (smtputf8) lines.push("SMTPUTF8");
    for (const line of lines) this.#reply(`250-${line}`);
    this.#reply("250 HELP");
  }

  #mail(arg: string): void {
    if (this.#helo === "") return this.#reply("503 Error: send HELO first");
    const path = this.#parsePath("FROM:", arg);
    if (path === null) return this.#syntaxError("MAIL");
    if (this.#sender !== null) {
      return this.#reply("503 Error: nested MAIL command");
    }
    const parameters = parseParameters(path.parameters);
    if (parameters === null) return this.#syntaxError("MAIL");
    const error = this.#checkParameters(parameters);
    if (error === "501") return this.#syntaxError("MAIL");
    if (error !== null) return this.#reply(error);
    const utf8 = parameters.has("SMTPUTF8");
    if (!utf8 && !isAscii(path.mailbox)) return this.#notAscii();
    this.#sender = path.mailbox;
    this.#utf8 = utf8;
    this.#reply("250 OK");
  }

  /**
   * What is wrong with the parameters of MAIL: the answer, `501` if it is their
   * syntax, else `null`.
   */
  #checkParameters(parameters: Map<string, string | null>): string | null {
    const { sizeLimit, smtputf8 } = this.#settings;
    for (const [name, value] of parameters) {
      if (name === "BODY") {
        if (value === "7BIT" || value === "8BITMIME") continue;
        return "501 Error: BODY can only be one of 7BIT, 8BITMIME";
      } else if (name === "SIZE") {
        if (!/^\d+$/.test(value ?? "")) return "501";
        if (Number(value) <= sizeLimit) continue;
        return "552 Error: message size exceeds fixed maximum message size";
      } else if (name === "SMTPUTF8" && smtputf8) {
        if (value === null) continue;
        return "501 Error: SMTPUTF8 takes no arguments";
      }
      return "555 MAIL FROM parameters not recognized or not implemented";
    }
    return null;
  }

  #rcpt(arg: string): void {
    if (this.#helo === "") return this.#reply("503 Error: send HELO first");
    if (this.#sender === null) {
      return this.#reply("503 Error: need MAIL command");
    }
    const path = this.#parsePath("TO:", arg);
    // Nobody has the empty mailbox.
    if (path === null || path.mailbox === "") return this.#syntaxError("RCPT");
    const parameters = parseParameters(path.parameters);
    if (parameters === null) return this.#syntaxError("RCPT");
    if (parameters.size > 0) {
      return this.#reply(
        "555 RCPT TO parameters not recognized or not implemented",
      );
    }
    if (!this.#utf8 && !isAscii(path.mailbox)) return this.#notAscii();
    if (this.#recipients.length >= this.#settings.recipientLimit) {
      return this.#reply("452 Error: too many recipients");
    }
    this.#recipients.push(path.mailbox);
    this.#reply("250 OK");
  }

  async #data(arg: string): Promise<void> {
    if (this.#helo === "") return this.#reply("503 Error: send HELO first");
    if (this.#recipients.length === 0) {
      return this.#reply("503 Error: need RCPT command");
    }
    if (arg !== "") return this.#reply("501 Syntax: DATA");
    let body: Body;
    const { sizeLimit, lineLimit } = this.#settings;
    try {
      const draft = await this.#deliver({
        client: this.remoteAddr,
        helo: this.#helo,
        protocol: this.#utf8 ? "UTF8SMTP" : this.#extended ? "ESMTP" : "SMTP",
        sender: this.#sender!,
        recipients: this.#recipients,
      });
      body = new Body(draft, sizeLimit, lineLimit);
    } catch (error) {
      console.error(`Cannot store message: ${error}`);
      return this.#reply(LOCAL_ERROR);
    }
    // Closed meanwhile: by us, since no end of the connection is told before
    // this function returns.
    if (!this.connected && !this.closing) return body.refuse(LOCAL_ERROR);
    this.#body = body;
    this.maxFrameLength = lineLimit + 1; // a dot more
    this.#reply("354 End data with <CR><LF>.<CR><LF>");
  }

  // The next command waits until this settles.
  async #store(body: Body): Promise<void> {
    const answer = await body.end();
    this.#reset();
    this.#reply(answer);
  }

  #rset(arg: string): void {
    if (arg !== "") return this.#reply("501 Syntax: RSET");
    this.#reset();
    this.#reply("250 OK");
  }

  #reset(): void {
    this.#sender = null;
    this.#utf8 = false;
    this.#recipients = [];
    this.#body = null;
    this.#expectCommand();
  }

  #vrfy(arg: string): void {
    if (arg === "") return this.#reply("501 Syntax: VRFY <address>");
    if (parsePath(arg) === null || !isAscii(arg)) {
      return this.#reply("502 Could not VRFY that");
    }
    this.#reply(
      "252 Cannot VRFY user, but will accept message and attempt delivery",
    );
  }

  #help(arg: string): void {
    const name = arg.toUpperCase();
    const usage = USAGE.get(name);
    if (arg === "") this.#reply(`250 ${SUPPORTED}`);
    else if (usage === undefined) this.#reply(`501 ${SUPPORTED}`);
    else this.#reply(`250 Syntax: ${usage}${this.#more(name)}`);
  }

  #syntaxError(name: "MAIL" | "RCPT"): void {
    this.#reply(`501 Syntax: ${USAGE.get(name)}${this.#more(name)}`);
  }

  /** What a client that said EHLO may add. */
  #more(name: string): string {
    const extensible = name === "MAIL" || name === "RCPT";
    return this.#extended && extensible ? " [SP <mail-parameters>]" : "";
  }

  #notAscii(): void {
    this.#reply("553 Error: the address needs SMTPUTF8");
  }

  /**
   * The path behind a word; `null` if there is none, or parameters that only
   * EHLO allows.
   */
  #parsePath(word: string, arg: string) {
    if (arg.slice(0, word.length).toUpperCase() !== word) return null;
    const path = parsePath(arg.slice(word.length).trim());
    return path?.parameters && !this.#extended ? null : path;
  }
}

function isAscii(text: string): boolean {
  return !/\P{ASCII}/u.test(text);
}
