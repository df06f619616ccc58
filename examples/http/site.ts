/** A folder of files, and what is answered to whoever asks for one. */

import { isKnown, rangeOf, type Version } from "./conditions.ts";
import { FilePieces } from "./file_pieces.ts";
import { parseTarget, Refusal, type Request } from "./request.ts";

/** What is sent back. */
export interface Answer {
  readonly status: number;
  readonly fields: Readonly<Record<string, string>>;
  /** The body; without one, not even its length is told. */
  readonly body: string | FilePieces | null;
}

/** Whoever opens too many files at once is told to come again. */
const BUSY = new Set(["EMFILE", "ENFILE"]);
const MISSING = new Set([
  "ENOENT",
  "ENOTDIR",
  "EACCES",
  "EPERM",
  "ELOOP",
  "ENAMETOOLONG",
  "EINVAL",
]);

const METHODS = new Set(
  ["OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"],
);

const TYPES = new Map(Object.entries({
  html: "text/html; charset=utf-8",
  htm: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  txt: "text/plain; charset=utf-8",
  md: "text/markdown; charset=utf-8",
  csv: "text/csv; charset=utf-8",
  xml: "text/xml; charset=utf-8",
  json: "application/json",
  map: "application/json",
  webmanifest: "application/manifest+json",
  wasm: "application/wasm",
  pdf: "application/pdf",
  zip: "application/zip",
  gz: "application/gzip",
  svg: "image/svg+xml",
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  ico: "image/vnd.microsoft.icon",
  woff: "font/woff",
  woff2: "font/woff2",
  mp3: "audio/mpeg",
  mp4: "video/mp4",
  webm: "video/webm",
}));

const SEPARATOR = Deno.build.os === "windows" ? "\\" : "/";

/** The files below a folder. */
export class Site {
  /** The folder, with a separator at its end. */
  readonly #root: string;

  constructor(folder: string) {
    const root = Deno.realPathSync(folder);
    if (!Deno.statSync(root).isDirectory) {
      throw new TypeError(`${folder} is no folder`);
    }
    this.#root = root.endsWith(SEPARATOR) ? root : root + SEPARATOR;
  }

  /** Refuses a method that no file knows. */
  checkMethod({ method }: Request): void {
    if (method === "GET" || method === "HEAD") return;
    if (METHODS.has(method)) throw new Refusal(405, { Allow: "GET, HEAD" });
    throw new Refusal(501);
  }

  /**
   * Answers a request. If the body is a file, it is open, and the caller's to
   * close.
   */
  async answer(request: Request): Promise<Answer> {
    this.checkMethod(request);
    const { path, query, names } = parseTarget(request.target);
    try {
      const found = await this.#find(names);
      if (found !== null) return await this.#answerFile(request, found);
    } catch (error) {
      throw refusalOf(error);
    }
    // With the slash, links on the page are relative to the folder.
    const fields = { Location: `${path}/${query}` };
    return { status: 301, fields, body: "301 Moved Permanently\n" };
  }

  /**
   * The path of a file; `null` if it is a folder, and the request did not say
   * so.
   */
  async #find(names: readonly string[]): Promise<string | null> {
    const asFolder = names.at(-1) === "";
    const path = this.#root + names.join("/");
    const file = await this.#realPath(asFolder ? `${path}index.html` : path);
    const { isFile, isDirectory } = await Deno.stat(file);
    if (isFile) return file;
    // Neither is a pipe or a device of any use.
    if (!isDirectory || asFolder) throw new Refusal(404);
    return null;
  }

  /** Where a path leads, and not out of the folder by a symbolic link. */
  async #realPath(path: string): Promise<string> {
    const real = await Deno.realPath(path);
    // With the separator, or "/site" would have "/site-backup" in it.
    if (!(real + SEPARATOR).startsWith(this.#root)) throw new Refusal(404);
    return real;
  }

  async #answerFile(request: Request, path: string): Promise<Answer> {
    const { method, fields } = request;
    const file = await Deno.open(path);
    let body: FilePieces | null = null;
    try {
      // Of the file that is open: the one at the path may be another one by
      // now.
      const { size, mtime } = await file.stat();
      const version = versionOf(size, mtime);
      const validators = {
        "ETag": version.etag,
        "Last-Modified": new Date(version.modified).toUTCString(),
        // Whoever keeps it asks whether it has changed.
        "Cache-Control": "no-cache",
      };
      if (isKnown(fields, version)) {
        return { status: 304, fields: validators, body: null };
      }
      const range = method === "GET" ? rangeOf(fields, size, version) : null;
      const { start, length } = range ?? { start: 0, length: size };
      if (start > 0) await file.seek(start, Deno.SeekMode.Start);
      body = new FilePieces(file, length);
      const described = {
        ...validators,
        "Accept-Ranges": "bytes",
        "Content-Type": typeOf(path),
        "X-Content-Type-Options": "nosniff",
      };
      if (range === null) return { status: 200, fields: described, body };
      const contentRange = `bytes ${start}-${start + length - 1}/${size}`;
      return {
        status: 206,
        fields: { ...described, "Content-Range": contentRange },
        body,
      };
    } finally {
      if (body === null) file.close();
    }
  }
}

function refusalOf(error: unknown): unknown {
  const { code } = error as { code?: string };
  if (code !== undefined && BUSY.has(code)) {
    return new Refusal(503, { "Retry-After": "1" });
  }
  const missing = code !== undefined && MISSING.has(code) ||
    // A link that leads to where we may not look.
    error instanceof Deno.errors.NotCapable;
  return missing ? new Refusal(404) : error;
}

function versionOf(size: number, mtime: Date | null): Version {
  const time = mtime?.getTime() ?? 0;
  // A time to come would keep a copy fresh for ever.
  const past = Math.min(time, Date.now());
  return {
    etag: `"${time.toString(36)}-${size.toString(36)}"`,
    modified: Math.floor(past / 1_000) * 1_000,
  };
}

function typeOf(path: string): string {
  const [, extension = ""] = /\.([^./\\]+)$/.exec(path) ?? [];
  return TYPES.get(extension.toLowerCase()) ?? "application/octet-stream";
}
