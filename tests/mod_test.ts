import { assertEquals } from "@std/assert";
import * as mod from "../mod.ts";
import * as testing from "../testing.ts";
import { visit } from "./syntax.ts";

/** What the package exports: values. */
const VALUES = [
  "AsyncChat",
  "ChannelMap",
  "Dispatcher",
  "DispatcherWithSend",
  "ExitNow",
  "SimpleProducer",
  "channelMap",
  "closeAll",
  "loop",
  "poll",
];

/** What the package exports: types. */
const TYPES = [
  "Address",
  "AsyncChatOptions",
  "Channel",
  "ChannelMapOptions",
  "Clock",
  "CloseAllOptions",
  "CloseKind",
  "CloseReason",
  "CloseWhenDoneOptions",
  "Counters",
  "DispatcherOptions",
  "Family",
  "ListenerSocket",
  "LoopOptions",
  "Network",
  "PollOptions",
  "Producer",
  "ProducerLike",
  "Socket",
  "SocketAddress",
  "SocketListener",
  "StreamSocket",
  "Terminator",
  "Timer",
];

/** What `./testing` exports: values. */
const TESTING_VALUES = ["SimNet", "forSeeds"];

/** What `./testing` exports: types. */
const TESTING_TYPES = [
  "AcceptFault",
  "ConnectFault",
  "ConnectTarget",
  "Fault",
  "FaultOccurrence",
  "ForSeedsOptions",
  "LinkOptions",
  "LinkTarget",
  "ListenTarget",
  "Range",
  "RunOptions",
  "SimConn",
  "SimDatagram",
  "SimListener",
  "SimNetOptions",
  "StreamFault",
  "TraceEntry",
];

/** The public and protected members of every dispatcher. */
const DISPATCHER = [
  "abort",
  "accept",
  "accepting",
  "addChannel",
  "addr",
  "bind",
  "bytesRead",
  "bytesWritten",
  "close",
  "closing",
  "connect",
  "connected",
  "connecting",
  "createSocket",
  "debug",
  "delChannel",
  "disconnect",
  "handleAccept",
  "handleAccepted",
  "handleClose",
  "handleCloseEvent",
  "handleConnect",
  "handleConnectEvent",
  "handleEof",
  "handleError",
  "handleExpt",
  "handleExptEvent",
  "handleRead",
  "handleReadEvent",
  "handleWrite",
  "handleWriteEvent",
  "ignoreLogTypes",
  "lingerTimeout",
  "listen",
  "localAddr",
  "log",
  "logInfo",
  "readable",
  "recv",
  "recvInto",
  "recvView",
  "remoteAddr",
  "room",
  "send",
  "sendBufferSize",
  "setKeepAlive",
  "setNoDelay",
  "setReuseAddr",
  "shutdown",
  "signal",
  "wake",
  "writable",
];

/** What an AsyncChat has in addition. */
const ASYNC_CHAT = [
  "closeWhenDone",
  "collectIncomingData",
  "discardBuffers",
  "foundTerminator",
  "getTerminator",
  "handleDrained",
  "handleFrameTooLong",
  "handleIncompleteFrame",
  "highWaterMark",
  "maxFrameLength",
  "push",
  "pushWithProducer",
  "queuedBytes",
  "setTerminator",
  "takeIncoming",
];

/** Members that are symbols. */
const DISPATCHER_SYMBOLS = [
  "Symbol(Deno.customInspect)",
  "Symbol(Symbol.dispose)",
];

/** The members of an instance and its classes, sorted; those of Object apart. */
function members(instance: object): { names: string[]; symbols: string[] } {
  const keys = new Set<string | symbol>();
  for (
    let at = instance;
    at !== Object.prototype;
    at = Object.getPrototypeOf(at)
  ) {
    for (const key of Reflect.ownKeys(at)) keys.add(key);
  }
  keys.delete("constructor");
  return {
    names: [...keys].filter((key) => typeof key === "string").sort(),
    symbols: [...keys].filter((key) => typeof key === "symbol")
      .map(String).sort(),
  };
}

Deno.test("mod.ts exports the values it is meant to", () => {
  assertEquals(Object.keys(mod).sort(), VALUES);
});

Deno.test("mod.ts holds named re-exports only", () => {
  const exported: string[] = [];
  visit("mod.ts", {
    "Program > :not(ExportNamedDeclaration)"(node) {
      throw new Error(`mod.ts has a ${node.type}`);
    },
    ExportSpecifier({ exported: name }) {
      exported.push(name.type === "Identifier" ? name.name : name.value);
    },
  });
  assertEquals(exported.sort(), [...VALUES, ...TYPES].sort());
});

Deno.test("testing.ts exports what it is meant to", () => {
  assertEquals(Object.keys(testing).sort(), TESTING_VALUES);
  const exported: string[] = [];
  visit("testing.ts", {
    ExportSpecifier({ exported: name }) {
      exported.push(name.type === "Identifier" ? name.name : name.value);
    },
    "ExportNamedDeclaration > :matches(ClassDeclaration, FunctionDeclaration, TSInterfaceDeclaration)"(
      node: { id: { name: string } },
    ) {
      exported.push(node.id.name);
    },
  });
  assertEquals(exported.sort(), [...TESTING_VALUES, ...TESTING_TYPES].sort());
});

Deno.test("Dispatcher has the members it is meant to, and leaves all other names to subclasses", () => {
  assertEquals(members(new mod.Dispatcher()), {
    names: DISPATCHER,
    symbols: DISPATCHER_SYMBOLS,
  });
});

Deno.test("DispatcherWithSend has the members of Dispatcher", () => {
  assertEquals(members(new mod.DispatcherWithSend()), {
    names: DISPATCHER,
    symbols: DISPATCHER_SYMBOLS,
  });
});

Deno.test("AsyncChat has the members it is meant to in addition", () => {
  assertEquals(members(new mod.AsyncChat()), {
    names: [...DISPATCHER, ...ASYNC_CHAT].sort(),
    symbols: DISPATCHER_SYMBOLS,
  });
});
