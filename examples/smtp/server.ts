/** The listening side of an SMTP server. */

import { type Address, Dispatcher, type DispatcherOptions } from "../../mod.ts";
import type { Deliver } from "./body.ts";
import { SmtpChannel, type SmtpSettings } from "./channel.ts";

const SETTINGS: SmtpSettings = {
  host: "localhost",
  sizeLimit: 33_554_432,
  // RFC 5321 asks for 998 bytes, many clients send more.
  lineLimit: 65_536,
  recipientLimit: 1_000,
  smtputf8: false,
};

/** Receives mail, and hands each message to `deliver`. */
export class SmtpServer extends Dispatcher {
  readonly #deliver: Deliver;
  readonly #settings: SmtpSettings;
  readonly #options: DispatcherOptions;

  constructor(
    addr: Address,
    deliver: Deliver,
    settings: Partial<SmtpSettings> = {},
    options: DispatcherOptions = {},
  ) {
    super(null, options);
    this.#deliver = deliver;
    this.#settings = { ...SETTINGS, ...settings };
    this.#options = options;
    this.createSocket();
    this.bind(addr);
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn) {
    new SmtpChannel(conn, this.#deliver, this.#settings, this.#options);
  }
}
