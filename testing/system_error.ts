/**
 * Errors as Deno has them: class, text and code.
 *
 * @module
 */

function coded(error: Error, code: string): Error {
  return Object.assign(error, { code });
}

/** What the system says, by the name of the condition. */
export const SYSTEM_ERRORS = {
  refused: () =>
    coded(
      new Deno.errors.ConnectionRefused("Connection refused (os error 111)"),
      "ECONNREFUSED",
    ),
  unreachable: () =>
    coded(
      new Deno.errors.NetworkUnreachable(
        "Network is unreachable (os error 101)",
      ),
      "ENETUNREACH",
    ),
  unanswered: () =>
    coded(
      new Deno.errors.TimedOut("Connection timed out (os error 110)"),
      "ETIMEDOUT",
    ),
  // Deno has no class and no code for it.
  notFound: () =>
    new Error(
      "failed to lookup address information: Name or service not known",
    ),
  denied: () =>
    coded(
      new Deno.errors.PermissionDenied("Permission denied (os error 13)"),
      "EACCES",
    ),
  noSuchPath: () =>
    coded(
      new Deno.errors.NotFound("No such file or directory (os error 2)"),
      "ENOENT",
    ),
  inUse: () =>
    coded(
      new Deno.errors.AddrInUse("Address already in use (os error 98)"),
      "EADDRINUSE",
    ),
  noPorts: () =>
    coded(
      new Deno.errors.AddrNotAvailable(
        "Cannot assign requested address (os error 99)",
      ),
      "EADDRNOTAVAIL",
    ),
  reset: () =>
    coded(
      new Deno.errors.ConnectionReset(
        "Connection reset by peer (os error 104)",
      ),
      "ECONNRESET",
    ),
  brokenPipe: () =>
    coded(new Deno.errors.BrokenPipe("Broken pipe (os error 32)"), "EPIPE"),
  notConnected: () =>
    coded(
      new Deno.errors.NotConnected(
        "Transport endpoint is not connected (os error 107)",
      ),
      "ENOTCONN",
    ),
  interrupted: () =>
    coded(new Deno.errors.Interrupted("operation canceled"), "EINTR"),
  badResource: () => new Deno.errors.BadResource("Bad resource ID"),
  socketClosed: () => new Deno.errors.BadResource("Socket has been closed"),
  listenerClosed: () => new Deno.errors.BadResource("Listener has been closed"),
  busy: () => new Deno.errors.Busy("Another accept task is ongoing"),
  busyUnix: () => new Deno.errors.Busy("Listener already in use"),
  wouldBlock: () =>
    coded(
      new Deno.errors.WouldBlock(
        "Resource temporarily unavailable (os error 11)",
      ),
      "EAGAIN",
    ),
  writeError: () => coded(new Error("Input/output error (os error 5)"), "EIO"),
  tooLong: () => coded(new Error("Message too long (os error 90)"), "EMSGSIZE"),
  EMFILE: () => coded(new Error("Too many open files (os error 24)"), "EMFILE"),
  ENFILE: () =>
    coded(new Error("Too many open files in system (os error 23)"), "ENFILE"),
  ENOBUFS: () =>
    coded(new Error("No buffer space available (os error 105)"), "ENOBUFS"),
  ENOMEM: () =>
    coded(new Error("Cannot allocate memory (os error 12)"), "ENOMEM"),
  ECONNABORTED: () =>
    coded(
      new Deno.errors.ConnectionAborted(
        "Software caused connection abort (os error 103)",
      ),
      "ECONNABORTED",
    ),
} satisfies Record<string, () => Error>;

/** An error of the system. */
export function systemError(what: keyof typeof SYSTEM_ERRORS): Error {
  return SYSTEM_ERRORS[what]();
}
