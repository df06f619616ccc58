/**
 * What is said to an SMTP server, and what it answers.
 *
 * @module
 */

import type { Envelope } from "../examples/smtp/body.ts";

/** A message in memory. */
export interface Message extends Envelope {
  readonly text: string;
}

export const DATA = "354 End data with <CR><LF>.<CR><LF>";
const MAIL = "501 Syntax: MAIL FROM: <address>";
const RCPT = "501 Syntax: RCPT TO: <address>";
const MORE = " [SP <mail-parameters>]";
const COMMANDS =
  "Supported commands: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY";
export const HELO = "HELO example";
export const EHLO = "EHLO example";
export const FROM = "MAIL From:eggs@example";
export const TO = "RCPT To:spam@example";
export const TOO_MUCH = "552 Error: Too much mail data";
export const a = (length: number) => "a".repeat(length);

/** Lines, the answer to the last, and what is stored. */
type Case = readonly [
  name: string,
  lines: readonly string[],
  last: string,
  stored?: readonly Partial<Message>[],
];

/**
 * The cases of CPython 3.11's test_smtpd that drive a channel. Two differ. A stored text keeps its line ends, where
 * smtpd makes them "\n" and drops the last one. `test_bad_state` is missing: there is no such state to be in.
 */
export const CPYTHON: readonly Case[] = [
  ["missing_data", [""], "500 Error: bad syntax"],
  ["EHLO", [EHLO], "250 HELP"],
  ["EHLO_bad_syntax", ["EHLO"], "501 Syntax: EHLO hostname"],
  ["EHLO_duplicate", [EHLO, EHLO], "503 Duplicate HELO/EHLO"],
  ["EHLO_HELO_duplicate", [EHLO, HELO], "503 Duplicate HELO/EHLO"],
  ["HELO", [HELO], "250 localhost"],
  ["HELO_EHLO_duplicate", [HELO, EHLO], "503 Duplicate HELO/EHLO"],
  ["HELP", ["HELP"], `250 ${COMMANDS}`],
  ["HELP_command", ["HELP MAIL"], "250 Syntax: MAIL FROM: <address>"],
  ["HELP_command_unknown", ["HELP SPAM"], `501 ${COMMANDS}`],
  ["HELO_bad_syntax", ["HELO"], "501 Syntax: HELO hostname"],
  ["HELO_duplicate", [HELO, HELO], "503 Duplicate HELO/EHLO"],
  [
    "HELO_parameter_rejected_when_extensions_not_enabled",
    [HELO, "MAIL from:<foo@example.com> SIZE=1234"],
    MAIL,
  ],
  [
    "MAIL_allows_space_after_colon",
    [HELO, "MAIL from:   <foo@example.com>"],
    "250 OK",
  ],
  [
    "extended_MAIL_allows_space_after_colon",
    [EHLO, "MAIL from:   <foo@example.com> size=20"],
    "250 OK",
  ],
  ["NOOP", ["NOOP"], "250 OK"],
  ["HELO_NOOP", [HELO, "NOOP"], "250 OK"],
  ["NOOP_bad_syntax", ["NOOP hi"], "501 Syntax: NOOP"],
  ["QUIT", ["QUIT"], "221 Bye"],
  ["HELO_QUIT", [HELO, "QUIT"], "221 Bye"],
  ["QUIT_arg_ignored", ["QUIT bye bye"], "221 Bye"],
  [
    "command_too_long",
    [HELO, `MAIL from: ${a(512)}@example`],
    "500 Error: line too long",
  ],
  [
    "MAIL_command_limit_extended_with_SIZE, accepted",
    [EHLO, `MAIL from:<${a(512 - 20)}@example> SIZE=1234`],
    "250 OK",
  ],
  [
    "MAIL_command_limit_extended_with_SIZE, refused",
    [EHLO, `MAIL from:<${a(512 - 20 + 26)}@example> SIZE=1234`],
    "500 Error: line too long",
  ],
  [
    "MAIL_command_rejects_SMTPUTF8_by_default",
    [EHLO, "MAIL from: <naive@example.com> BODY=8BITMIME SMTPUTF8"],
    "555 MAIL FROM parameters not recognized or not implemented",
  ],
  [
    "MAIL_size_parameter",
    [EHLO, "MAIL FROM:<eggs@example> SIZE=512"],
    "250 OK",
  ],
  [
    "MAIL_invalid_size_parameter",
    [EHLO, "MAIL FROM:<eggs@example> SIZE=invalid"],
    MAIL + MORE,
  ],
  [
    "MAIL_RCPT_unknown_parameters, MAIL",
    [EHLO, "MAIL FROM:<eggs@example> ham=green"],
    "555 MAIL FROM parameters not recognized or not implemented",
  ],
  [
    "MAIL_RCPT_unknown_parameters, RCPT",
    [EHLO, "MAIL FROM:<eggs@example>", "RCPT TO:<eggs@example> ham=green"],
    "555 RCPT TO parameters not recognized or not implemented",
  ],
  [
    "need_MAIL",
    [HELO, "RCPT to:spam@example"],
    "503 Error: need MAIL command",
  ],
  ["MAIL_syntax_HELO", [HELO, "MAIL from eggs@example"], MAIL],
  ["MAIL_syntax_EHLO", [EHLO, "MAIL from eggs@example"], MAIL + MORE],
  ["MAIL_missing_address", [HELO, "MAIL from:"], MAIL],
  ["MAIL_chevrons", [HELO, "MAIL from:<eggs@example>"], "250 OK"],
  ["MAIL_empty_chevrons", [EHLO, "MAIL from:<>"], "250 OK"],
  [
    "MAIL_quoted_localpart",
    [EHLO, 'MAIL from: <"Fred Blogs"@example.com>', TO, "DATA", "."],
    "250 OK",
    [{ sender: '"Fred Blogs"@example.com' }],
  ],
  [
    "MAIL_quoted_localpart_no_angles",
    [EHLO, 'MAIL from: "Fred Blogs"@example.com', TO, "DATA", "."],
    "250 OK",
    [{ sender: '"Fred Blogs"@example.com' }],
  ],
  [
    "MAIL_quoted_localpart_with_size",
    [EHLO, 'MAIL from: <"Fred Blogs"@example.com> SIZE=1000', TO, "DATA", "."],
    "250 OK",
    [{ sender: '"Fred Blogs"@example.com' }],
  ],
  [
    "MAIL_quoted_localpart_with_size_no_angles",
    [EHLO, 'MAIL from: "Fred Blogs"@example.com SIZE=1000', TO, "DATA", "."],
    "250 OK",
    [{ sender: '"Fred Blogs"@example.com' }],
  ],
  [
    "nested_MAIL",
    [HELO, "MAIL from:eggs@example", "MAIL from:spam@example"],
    "503 Error: nested MAIL command",
  ],
  [
    "VRFY",
    ["VRFY eggs@example"],
    "252 Cannot VRFY user, but will accept message and attempt delivery",
  ],
  ["VRFY_syntax", ["VRFY"], "501 Syntax: VRFY <address>"],
  ["EXPN_not_implemented", ["EXPN"], "502 EXPN not implemented"],
  [
    "no_HELO_MAIL",
    ["MAIL from:<foo@example.com>"],
    "503 Error: send HELO first",
  ],
  ["need_RCPT", [HELO, FROM, "DATA"], "503 Error: need RCPT command"],
  [
    "RCPT_syntax_HELO",
    [HELO, "MAIL From: eggs@example", "RCPT to eggs@example"],
    RCPT,
  ],
  [
    "RCPT_syntax_EHLO",
    [EHLO, "MAIL From: eggs@example", "RCPT to eggs@example"],
    RCPT + MORE,
  ],
  [
    "RCPT_lowercase_to_OK",
    [HELO, "MAIL From: eggs@example", "RCPT to: <eggs@example>"],
    "250 OK",
  ],
  [
    "no_HELO_RCPT",
    ["RCPT to eggs@example"],
    "503 Error: send HELO first",
  ],
  [
    "data_dialog",
    [HELO, FROM, TO, "DATA", "data\r\nmore\r\n."],
    "250 OK",
    [{
      client: { transport: "tcp", hostname: "10.0.0.1", port: 0 },
      sender: "eggs@example",
      recipients: ["spam@example"],
      text: "data\r\nmore\r\n",
    }],
  ],
  ["DATA_syntax", [HELO, FROM, TO, "DATA spam"], "501 Syntax: DATA"],
  ["no_HELO_DATA", ["DATA spam"], "503 Error: send HELO first"],
  [
    "data_transparency_section_4_5_2",
    [HELO, FROM, TO, "DATA", "..\r\n."],
    "250 OK",
    [{ text: ".\r\n" }],
  ],
  [
    "multiple_RCPT",
    [HELO, FROM, TO, "RCPT To:ham@example", "DATA", "data\r\n."],
    "250 OK",
    [{ recipients: ["spam@example", "ham@example"], text: "data\r\n" }],
  ],
  [
    "manual_status",
    [HELO, FROM, TO, "DATA", "return status\r\n."],
    "250 Okish",
    [{}],
  ],
  ["RSET", [HELO, FROM, TO, "RSET"], "250 OK"],
  [
    "RSET, and then a message",
    [
      ...[HELO, FROM, TO, "RSET", "MAIL From:foo@example"],
      ...["RCPT To:eggs@example", "DATA", "data\r\n."],
    ],
    "250 OK",
    [{
      sender: "foo@example",
      recipients: ["eggs@example"],
      text: "data\r\n",
    }],
  ],
  ["HELO_RSET", [HELO, "RSET"], "250 OK"],
  ["RSET_syntax", ["RSET hi"], "501 Syntax: RSET"],
  [
    "unknown_command",
    ["UNKNOWN_CMD"],
    '500 Error: command "UNKNOWN_CMD" not recognized',
  ],
  [
    "ascii_data",
    [HELO, FROM, TO, "DATA", "plain ascii text\r\n."],
    "250 OK",
    [{ text: "plain ascii text\r\n" }],
  ],
  [
    "utf8_data",
    [HELO, FROM, TO, "DATA", "\xc5\xbc\xc5\xba\xc4\x87\r\nand ascii\r\n."],
    "250 OK",
    [{ text: "\xc5\xbc\xc5\xba\xc4\x87\r\nand ascii\r\n" }],
  ],
];

/** The same with other settings. */
export const CPYTHON_SIZE_LIMIT: readonly Case[] = [
  [
    "MAIL_size_parameter_larger_than_default_data_size_limit",
    [EHLO, "MAIL FROM:<eggs@example> SIZE=33"],
    "552 Error: message size exceeds fixed maximum message size",
  ],
  [
    "data_limit_dialog",
    [HELO, FROM, TO, "DATA", "data\r\nmore\r\n."],
    "250 OK",
    [{ text: "data\r\nmore\r\n" }],
  ],
  [
    "data_limit_dialog_too_much_data",
    [HELO, FROM, TO, "DATA", "This message is longer than 32 bytes\r\n."],
    TOO_MUCH,
  ],
  [
    "exactly the limit is accepted",
    [HELO, FROM, TO, "DATA", `${a(28)}\r\n..\r\n.`],
    TOO_MUCH,
  ],
  [
    "exactly the limit, without a doubled dot, is accepted",
    [HELO, FROM, TO, "DATA", `${a(27)}\r\n..\r\n.`],
    "250 OK",
    [{ text: `${a(27)}\r\n.\r\n` }],
  ],
  [
    "after too much data comes the next message",
    [HELO, FROM, TO, "DATA", `${a(33)}\r\n.`, FROM, TO, "DATA", "x\r\n."],
    "250 OK",
    [{ text: "x\r\n" }],
  ],
];

const UTF8 = "na\xc3\xafve@example.com";
const LIMIT = 512 + 26 + 10 - "mail from:<@example>".length;
const LONG = [
  ...[`MAIL from:<${a(LIMIT)}@example>`, "rcpt to:<hans@example.com>"],
  ...["data", "test\r\n."],
];

export const CPYTHON_SMTPUTF8: readonly Case[] = [
  [
    "MAIL_command_accepts_SMTPUTF8_when_announced",
    [EHLO, `MAIL from: <${UTF8}> BODY=8BITMIME SMTPUTF8`],
    "250 OK",
  ],
  [
    "process_smtputf8_message",
    [
      ...[EHLO, "MAIL from: <a@example> BODY=8BITMIME SMTPUTF8"],
      ...["rcpt to:<b@example.com>", "data", "c\r\n."],
    ],
    "250 OK",
    [{ protocol: "UTF8SMTP", text: "c\r\n" }],
  ],
  [
    "utf8_data",
    [
      ...[EHLO, `MAIL From: ${UTF8} BODY=8BITMIME SMTPUTF8`, `RCPT To:${UTF8}`],
      ...["DATA", "\xc5\xbc\r\n."],
    ],
    "250 OK",
    [{ recipients: ["naïve@example.com"], text: "\xc5\xbc\r\n" }],
  ],
  [
    "MAIL_command_limit_extended_with_SIZE_and_SMTPUTF8, refused",
    ["ehlo example", `MAIL from:<${a(LIMIT + 1)}@example>`],
    "500 Error: line too long",
  ],
  [
    "multiple_emails_with_extended_command_length",
    ["ehlo example", ...LONG, ...LONG, ...LONG],
    "250 OK",
    [{}, {}, {}],
  ],
  [
    "SMTPUTF8 takes no arguments",
    [EHLO, "MAIL from: <a@example> SMTPUTF8=yes"],
    "501 Error: SMTPUTF8 takes no arguments",
  ],
  [
    "an address that needs SMTPUTF8 needs it to be said",
    [EHLO, `MAIL from: <${UTF8}>`],
    "553 Error: the address needs SMTPUTF8",
  ],
  [
    "so does a recipient",
    [EHLO, "MAIL from: <a@example>", `RCPT TO:<${UTF8}>`],
    "553 Error: the address needs SMTPUTF8",
  ],
];

/** What CPython has no test for. */
export const FURTHER: readonly Case[] = [
  ["8BITMIME", [EHLO, "MAIL FROM:<a@b> BODY=8BITMIME"], "250 OK"],
  [
    "another BODY",
    [EHLO, "MAIL FROM:<a@b> BODY=9BIT"],
    "501 Error: BODY can only be one of 7BIT, 8BITMIME",
  ],
  [
    "a parameter twice",
    [EHLO, "MAIL FROM:<a@b> SIZE=1 SIZE=2"],
    MAIL + MORE,
  ],
  ["rubbish for parameters", [EHLO, "MAIL FROM:<a@b> =1"], MAIL + MORE],
  ["a path that does not end", [EHLO, "MAIL FROM:<a@b"], MAIL + MORE],
  ["two paths", [EHLO, "MAIL FROM:<a@b><c@d>"], MAIL + MORE],
  ["two mailboxes in a path", [EHLO, "MAIL FROM:<a@b c@d>"], MAIL + MORE],
  ["the empty recipient", [EHLO, FROM, "RCPT TO:<>"], RCPT + MORE],
  [
    "the recipient that every host has",
    [HELO, FROM, "RCPT TO:<Postmaster>", "DATA", "."],
    "250 OK",
    [{ recipients: ["Postmaster"] }],
  ],
  [
    "hosts to go through are ignored",
    [HELO, FROM, "RCPT TO:<@one,@two:joe@three>", "DATA", "."],
    "250 OK",
    [{ recipients: ["joe@three"] }],
  ],
  [
    "an address for a domain, and quotes within quotes",
    [HELO, FROM, 'RCPT TO:<"\\"<>\\""@[IPv6:::1]>', "DATA", "."],
    "250 OK",
    [{ recipients: ['"\\"<>\\""@[IPv6:::1]'] }],
  ],
  ["an empty message", [HELO, FROM, TO, "DATA", "."], "250 OK", [{ text: "" }]],
  [
    "an empty line",
    [HELO, FROM, TO, "DATA", "\r\n."],
    "250 OK",
    [{ text: "\r\n" }],
  ],
  [
    "DATA after DATA needs a new sender",
    [HELO, FROM, TO, "DATA", ".", "DATA"],
    "503 Error: need RCPT command",
    [{}],
  ],
  [
    "HELP for what may have more",
    [EHLO, "help rcpt"],
    `250${RCPT.slice(3)}${MORE}`,
  ],
  ["spaces behind a command", ["NOOP  "], "250 OK"],
  ["commands with a tab", ["HELO\tx"], "250 localhost"],
  ["no UTF-8", ["HELO \xff"], "500 Error: bad syntax"],
  [
    "512 bytes are no line that is too long",
    [`${a(512)}`],
    `500 Error: command "${a(512).toUpperCase()}" not recognized`,
  ],
  [
    "nothing but MAIL may be longer",
    [EHLO, `NOOP ${a(512)}`],
    "500 Error: line too long",
  ],
  [
    "a line end in disguise does not get into the headers",
    ["HELO a\nX-Evil: 1", "HELO a\rX-Evil: 1", "HELO a\0", HELO, FROM, TO]
      .concat("RCPT TO:<a\n@b>", "DATA", "."),
    "250 OK",
    [{ helo: "example", recipients: ["spam@example"] }],
  ],
];
