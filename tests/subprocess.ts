/**
 * Programs that tests start and talk to: the examples, and clients of the
 * system such as `curl`.
 *
 * @module
 */

/**
 * A program that still runs after this many milliseconds is killed, so that a
 * test that waits for it, or for its end of a connection, fails.
 */
const DEADLINE = 60_000;

/** What a program said, and how it ended. */
export interface Ending {
  /** The exit code; 128 and the number of the signal if one killed it. */
  readonly code: number;
  /** What it wrote to its standard output and was not read by `line()`. */
  readonly stdout: Uint8Array<ArrayBuffer>;
  /** What it wrote to its standard error. */
  readonly stderr: string;
}

/** A running program, killed when it goes out of scope. */
export class Subprocess implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #deadline: ReturnType<typeof setTimeout>;
  readonly #stdout: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #stderr: Promise<string>;
  #unread = new Uint8Array(0);
  #ending: Promise<Ending> | undefined;

  /** Starts `program`; `input` is its standard input. */
  constructor(program: string, args: readonly string[], input?: Uint8Array) {
    this.#process = new Deno.Command(program, {
      args: [...args],
      env: { NO_COLOR: "1" },
      stdin: input === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#deadline = setTimeout(() => this.kill("SIGKILL"), DEADLINE);
    this.#stdout = this.#process.stdout.getReader();
    this.#stderr = new Response(this.#process.stderr).text();
    if (input !== undefined) {
      // A program that ends before it has read everything is judged by its exit code.
      new Response(input.slice()).body!.pipeTo(this.#process.stdin)
        .catch(() => {});
    }
  }

  /** Its process id. */
  get pid(): number {
    return this.#process.pid;
  }

  /** The next line of standard output; throws if it ends before. */
  async line(): Promise<string> {
    for (;;) {
      const end = this.#unread.indexOf(10);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#unread.subarray(0, end));
        this.#unread = this.#unread.slice(end + 1);
        return line;
      }
      const { value } = await this.#stdout.read();
      if (value === undefined) {
        throw new Error(`Cannot read line: ${await this.#stderr}`);
      }
      this.#unread = await new Blob([this.#unread, value]).bytes();
    }
  }

  /** Sends a signal; nothing happens if the program has ended. */
  kill(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch {
      // It has ended.
    }
  }

  /** Waits until the program ends, without reading its output. */
  async ended(): Promise<void> {
    await this.#process.status;
  }

  /** Reads the output to its end, and waits until the program ends. */
  end(): Promise<Ending> {
    return this.#ending ??= this.#end();
  }

  async #end(): Promise<Ending> {
    const chunks = [this.#unread];
    for (;;) {
      const { value } = await this.#stdout.read();
      if (value === undefined) break;
      chunks.push(value);
    }
    const stderr = await this.#stderr;
    const { code } = await this.#process.status;
    clearTimeout(this.#deadline);
    return { code, stdout: await new Blob(chunks).bytes(), stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.end();
  }
}

/** Runs a program to its end. */
export async function run(
  program: string,
  args: readonly string[],
  input?: Uint8Array,
): Promise<Ending> {
  await using process = new Subprocess(program, args, input);
  return await process.end();
}
