/**
 * A chat server: what one says, all others see.
 *
 *     deno run --allow-net examples/chat_server.ts [--port N] [--hostname H]
 *
 * It prints where it listens: on 127.0.0.1 and a port that the system chooses,
 * unless told otherwise. Join with `nc 127.0.0.1 PORT`; the first line is your
 * name, and /help lists the commands. Ctrl-C ends it.
 *
 * Outside this repository, import from "jsr:@asyncore/asyncore".
 */

import { parseArgs } from "node:util";
import {
  type Address,
  AsyncChat,
  Dispatcher,
  type DispatcherOptions,
} from "../mod.ts";
import { serve } from "./serve.ts";

/** The longest line, in bytes. */
const MAX_LINE = 1024;
/** How much may wait for a guest who does not read, in bytes; then what others say is lost. */
const MAX_QUEUED = 65_536;
/** How long a guest who leaves may take to read what waits, in milliseconds. */
const GRACE = 10_000;

const NAME = /^[\p{L}\p{N}_-]{1,20}$/u;
/** What controls a terminal, or the direction of what follows. */
const CONTROL = /[\p{Cc}\p{Bidi_Control}]/gu;

const HELP = `* /who             who is here
* /msg NAME TEXT   what only one is to see
* /me TEXT         what you do
* /nick NAME       another name
* /quit [TEXT]     good-bye
* //TEXT           what begins with a slash`;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The guests who have a name, by that name. */
class Room {
  readonly #guests = new Map<string, Guest>();

  names(): string[] {
    return Array.from(this.#guests.values(), ({ name }) => name);
  }

  find(name: string): Guest | undefined {
    return this.#guests.get(keyOf(name));
  }

  add(guest: Guest): void {
    this.#guests.set(keyOf(guest.name), guest);
  }

  delete(guest: Guest): void {
    this.#guests.delete(keyOf(guest.name));
  }

  /** Tells everybody in the room. */
  tell(line: string): void {
    const bytes = encoder.encode(`${line}\n`);
    for (const guest of this.#guests.values()) guest.deliver(bytes);
  }
}

/** Names that look alike are the same. */
function keyOf(name: string): string {
  return name.normalize("NFKC").toLowerCase();
}

/** One connection; a guest in the room as soon as there is a name. */
class Guest extends AsyncChat {
  name = "";
  readonly #room: Room;
  #left = false;
  /** How many messages were lost, since those before were not read. */
  #lost = 0;

  constructor(conn: Deno.Conn, room: Room, options: DispatcherOptions) {
    super(conn, {
      ...options,
      maxFrameLength: MAX_LINE,
      highWaterMark: MAX_QUEUED,
    });
    this.#room = room;
    this.setTerminator("\n");
    this.tell("* Welcome! What is your name?");
  }

  tell(lines: string): void {
    this.deliver(encoder.encode(`${lines}\n`));
  }

  /**
   * Sends a message, unless there is too much before it. Everything for a guest
   * comes through here: one who does not read takes little memory, and no one
   * waits.
   */
  deliver(message: Uint8Array): void {
    if (this.#lost > 0 || this.queuedBytes > this.highWaterMark) this.#lost++;
    else this.push(message);
  }

  /** What waited has been read, or half of it. */
  override handleDrained(): void {
    if (this.#lost === 0 || this.#left) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.tell(`* Messages lost, since you did not read: ${lost}`);
  }

  override foundTerminator(): void {
    this.#hear(this.takeIncoming());
  }

  // The rest of the line is dropped, and the guest stays.
  override handleFrameTooLong(): void {
    this.tell(`* A line has ${MAX_LINE} bytes at most`);
  }

  override handleIncompleteFrame(data: Uint8Array): void {
    this.#hear(data);
  }

  override handleEof(): void | Promise<void> {
    const result = super.handleEof();
    this.#leave("leaves");
    return result;
  }

  override handleClose(): void {
    this.#leave("is gone");
    this.close();
  }

  #hear(data: Uint8Array): void {
    const line = decoder.decode(data).replace(CONTROL, " ").trim();
    if (line === "" || this.#left) return;
    const [, command, rest = ""] = /^\/(\w+)\s*(.*)$/.exec(line) ?? [];
    if (command === "quit") {
      this.#leave(rest === "" ? "leaves" : `leaves: ${rest}`);
    } else if (this.name === "") this.#enter(line);
    else if (command !== undefined) this.#obey(command, rest);
    else this.#room.tell(`${this.name}: ${line.replace(/^\/\//, "/")}`);
  }

  #enter(name: string): void {
    if (!this.#isFree(name)) return;
    this.name = name;
    this.#room.add(this);
    this.#room.tell(`* ${name} is here`);
  }

  #obey(command: string, rest: string): void {
    if (command === "who") {
      this.tell(`* Here: ${this.#room.names().sort().join(", ")}`);
    } else if (command === "msg") this.#whisper(rest);
    else if (command === "me") this.#room.tell(`* ${this.name} ${rest}`);
    else if (command === "nick") this.#rename(rest);
    else if (command === "help") this.tell(HELP);
    else this.tell(`* No such command: /${command}; /help lists them`);
  }

  #whisper(rest: string): void {
    const [, name, text] = /^(\S+)\s+(.+)$/.exec(rest) ?? [];
    if (name === undefined) return this.tell("* As in /msg NAME TEXT");
    const guest = this.#room.find(name);
    if (guest === undefined) return this.tell(`* Not here: ${name}`);
    guest.tell(`${this.name}, to you: ${text}`);
    if (guest !== this) this.tell(`you, to ${guest.name}: ${text}`);
  }

  #rename(name: string): void {
    if (!this.#isFree(name)) return;
    this.#room.delete(this);
    this.#room.tell(`* ${this.name} is ${name} now`);
    this.tell(`* You are ${name} now`);
    this.name = name;
    this.#room.add(this);
  }

  /** Whether one can be called so; if not, says why. */
  #isFree(name: string): boolean {
    if (!NAME.test(name)) {
      this.tell("* A name has 1 to 20 letters, digits, _ and -");
      return false;
    }
    const other = this.#room.find(name);
    if (other === undefined || other === this) return true;
    this.tell(`* That name is taken: ${name}`);
    return false;
  }

  #leave(how: string): void {
    if (this.#left) return;
    this.#left = true;
    if (this.name !== "") {
      this.#room.delete(this);
      this.#room.tell(`* ${this.name} ${how}`);
    }
    this.closeWhenDone({ deadline: GRACE });
  }
}

/** The server. What its options say goes for the guests, too. */
export class ChatServer extends Dispatcher {
  readonly #room = new Room();
  readonly #options: DispatcherOptions;

  constructor(addr: Address, options: DispatcherOptions = {}) {
    super(null, options);
    this.#options = options;
    this.createSocket();
    this.bind(addr);
    this.listen();
  }

  override handleAccepted(conn: Deno.Conn): void {
    new Guest(conn, this.#room, this.#options);
  }
}

function startServer(): ChatServer {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      port: { type: "string", default: "0" },
      hostname: { type: "string", default: "127.0.0.1" },
    },
  });
  const { hostname, port } = values;
  return new ChatServer({ hostname, port: Number(port) });
}

if (import.meta.main) await serve("chat server", startServer);
