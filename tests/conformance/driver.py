"""Runs the conformance scenarios on CPython's own asyncore and asynchat and prints their traces as JSON.

    python3 driver.py [--only TEXT]

scenarios.json says what happens; README.md says what its words mean; driver.ts does the same on the module of this
repository. Needs Python 3.11 or older: 3.12 removed both.

A trace is a list of lines, "who what". It holds no time, no address and no number of passes: a line in REPEATABLE is
dropped while its channel has only had such lines, this one among them, since the last line of another kind. So a handler
that asyncore calls again in every pass, because nothing changed, leaves one line.
"""

import contextlib
import io
import json
import os
import pathlib
import platform
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import asynchat
    import asyncore

HERE = pathlib.Path(__file__).parent
HOST = "127.0.0.1"
DEADLINE = 30  # seconds; reached only by a scenario that hangs, which is a failure
QUIET_PASSES = 3  # a scenario has settled after so many passes without a new line: here one pass shows all there is
MAX_PASSES = 400  # and does not settle if that has not happened by then
REPEATABLE = {"read", "write", "accept", "log warning: unhandled read event", "log warning: unhandled write event"}
HANDLERS = ("connect", "read", "write", "accept", "close", "expt")
BASES = {"with_send": asyncore.dispatcher_with_send, "async_chat": asynchat.async_chat}
PATTERN = bytes(range(251))  # a prime length, so that a shifted, lost or doubled piece shows


class Boom(Exception):
    """What a scenario's handler raises on purpose."""


def describe(error):
    """The words that both drivers have for an error."""
    if isinstance(error, Boom):
        return str(error)
    for kind, words in (
        (asyncore.ExitNow, "ExitNow"),
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (FileNotFoundError, "not found"),
        (BlockingIOError, "would block"),
        (ValueError, "out of range"),
    ):
        if isinstance(error, kind):
            return words
    return "failure"


def quoted(data):
    return json.dumps(data.decode("ascii"))


def patterned(size):
    return PATTERN * (size // len(PATTERN)) + PATTERN[: size % len(PATTERN)]


def encoded(value):
    """A text as bytes, a number or None as it is."""
    return value.encode("ascii") if isinstance(value, str) else value


def content(data):
    """The bytes of a text, or so many of the pattern."""
    return patterned(data) if isinstance(data, int) else data.encode("ascii")


class Fence:
    """A way through the kernel and back: what was sent before it has arrived after it."""

    def __init__(self):
        with socket.create_server((HOST, 0)) as server:
            self.near = socket.create_connection(server.getsockname())
            self.far, _ = server.accept()

    def pass_through(self):
        for _ in range(2):
            self.near.sendall(b"?")
            self.far.recv(1)
            self.far.sendall(b"!")
            self.near.recv(1)
        time.sleep(0.001)

    def close(self):
        self.near.close()
        self.far.close()


class World:
    """One run of one scenario."""

    def __init__(self, scenario, mode):
        self.scenario = scenario
        self.use_poll = mode == "poll"
        self.lines = []
        self.recent = {}  # channel -> the repeatable lines since its last line of another kind
        self.flags = dict(scenario.get("flags", {}))
        self.maps = {"main": {}}
        self.map = self.maps["main"]
        self.channels = {}
        self.peers = {}
        self.folder = tempfile.mkdtemp()
        self.sockets = []  # kept so that nothing is closed by the garbage collector, and all of it at the end
        self.fence = Fence()

    # -- the trace

    def trace(self, who, what):
        recent = self.recent.setdefault(who, set())
        if what in REPEATABLE:
            if what in recent:
                return
            recent.add(what)
        else:
            recent.clear()
        self.lines.append(f"{who} {what}")

    # -- running

    def run(self):
        try:
            for subject, verb, *rest in self.scenario["steps"]:
                if subject == "loop":
                    getattr(self, "loop_" + verb)(*rest)
                elif subject in self.scenario["channels"] or subject in self.channels:
                    self.channel_step(subject, verb, rest)
                else:
                    getattr(self, "peer_" + verb)(subject, *rest)
                self.fence.pass_through()
            return self.lines
        finally:
            self.tidy()

    def tidy(self):
        for channel in self.channels.values():
            if channel.socket is not None:
                channel.socket.close()
        for sock in [*self.peers.values(), *self.sockets]:
            sock.close()
        self.fence.close()
        shutil.rmtree(self.folder)

    def channel_step(self, name, verb, rest):
        if verb == "pair":
            self.connect_pair(name, *rest)
            return
        try:
            self.act(self.channel(name), [[verb, *rest]], ())
        except Exception as error:
            self.trace(name, "raised " + describe(error))

    # -- the loop

    def one_pass(self):
        (asyncore.poll2 if self.use_poll else asyncore.poll)(0, self.map)

    @contextlib.contextmanager
    def caught(self):
        try:
            yield
        except asyncore.ExitNow:
            self.trace("loop", "ExitNow")
        except Exception as error:
            self.trace("loop", "raised " + describe(error))

    def loop_pass(self, count=1):
        with self.caught():
            for _ in range(count):
                self.one_pass()
                self.fence.pass_through()

    def loop_settle(self):
        with self.caught():
            quiet = 0
            for _ in range(MAX_PASSES):
                before = len(self.lines)
                self.one_pass()
                self.fence.pass_through()
                quiet = quiet + 1 if len(self.lines) == before else 0
                if quiet == QUIET_PASSES:
                    return
            raise SystemExit(f"{self.scenario['name']}: does not settle: {self.lines[-6:]}")

    def loop_trickle(self, peer, text, size):
        for at in range(0, len(text), size):
            self.peer_send(peer, text[at : at + size])
            self.fence.pass_through()
            self.loop_settle()

    def loop_run(self, count=None):
        with self.caught():
            asyncore.loop(timeout=0.05, use_poll=self.use_poll, map=self.map, count=count)
            self.trace("loop", "ended")

    def loop_closeAll(self, ignore_all=False):
        with self.caught():
            asyncore.close_all(self.map, ignore_all)

    def loop_channels(self):
        names = sorted(channel.label for channel in self.map.values())
        self.trace("loop", " ".join(["channels", *names]))

    def loop_map(self, name):
        self.map = self.maps.setdefault(name, {})

    def loop_set(self, flag, value):
        self.flags[flag] = value

    def loop_drain(self, peer, size):
        sock = self.peers[peer]
        expected = memoryview(patterned(size))
        total, intact = 0, True
        while total < size:
            self.one_pass()
            while select.select([sock], [], [], 0)[0]:
                data = sock.recv(65536)
                if not data:
                    raise SystemExit(f"{self.scenario['name']}: {peer} ended after {total} bytes")
                intact = intact and expected[total : total + len(data)] == data
                total += len(data)
        self.trace(peer, f"got {total} bytes " + ("intact" if intact else "damaged"))

    def loop_feed(self, peer, size, reader):
        sock, channel = self.peers[peer], self.channels[reader]
        data = memoryview(patterned(size))
        sock.setblocking(False)
        while data or channel.total < size:
            with contextlib.suppress(BlockingIOError):
                data = data[sock.send(data[:65536]) :]
            self.one_pass()
        sock.setblocking(True)

    # -- peers: plain blocking sockets

    def add_peer(self, name, sock):
        sock.settimeout(DEADLINE / 2)
        self.peers[name] = sock

    def address_of(self, target):
        """Where a channel or a peer listens; "nobody" and "nowhere" are places where none does."""
        if target == "nobody":
            # The near end of an open connection: the port is taken, so nobody else can listen there.
            return socket.AF_INET, self.fence.near.getsockname()
        if target == "nowhere":
            return socket.AF_UNIX, os.path.join(self.folder, "nowhere.sock")
        sock = self.channels[target].socket if target in self.channels else self.peers[target]
        return sock.family, sock.getsockname()

    def peer_connect(self, name, target):
        family, address = self.address_of(target)
        sock = socket.socket(family)
        sock.connect(address)
        self.add_peer(name, sock)

    def peer_listen(self, name, family="inet"):
        if family == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(os.path.join(self.folder, name + ".sock"))
        else:
            sock = socket.socket()
            sock.bind((HOST, 0))
        sock.listen()
        self.add_peer(name, sock)

    def peer_accept(self, name, listener):
        self.add_peer(name, self.peers[listener].accept()[0])

    def peer_send(self, name, text):
        self.peers[name].sendall(text.encode("ascii"))

    def peer_shutdown(self, name):
        self.peers[name].shutdown(socket.SHUT_WR)

    def peer_close(self, name):
        self.peers.pop(name).close()

    def peer_reset(self, name):
        # Closing with unread input makes the kernel send a reset; so there must be some.
        assert self.peers[name].recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        self.peer_close(name)

    def peer_expect(self, name, size):
        data = b""
        while len(data) < size:
            piece = self.peers[name].recv(size - len(data))
            if not piece:
                break
            data += piece
        self.trace(name, "got " + quoted(data))

    def peer_eof(self, name):
        data = b""
        while piece := self.peers[name].recv(65536):
            data += piece
        self.trace(name, "eof" if not data else f"eof after {quoted(data)}")

    def peer_gone(self, name):
        # How a connection nobody took comes to its end, by an end of file or a reset, is the system's business.
        with contextlib.suppress(ConnectionError):
            while self.peers[name].recv(65536):
                pass
        self.trace(name, "gone")

    # -- channels

    def channel(self, name):
        return self.channels.get(name) or self.new_channel(name)

    def connect_pair(self, name, peer, family="inet"):
        """The channel adopts the near end of a new connection; its far end is the peer."""
        listener = "pairs of " + family
        if listener not in self.peers:
            self.peer_listen(listener, family)
        self.peer_connect("near", listener)
        self.peer_accept(peer, listener)
        self.new_channel(name, self.peers.pop("near"))

    def new_channel(self, name, sock=None):
        """Makes the channel `name`, or its second, third … instance, named name2, name3 …"""
        spec = self.scenario["channels"][name]
        label, number = name, 1
        while label in self.channels:
            number += 1
            label = f"{name}{number}"
        base = BASES.get(spec.get("type"), asyncore.dispatcher)
        members = self.members(spec, base)
        channel_class = type(label, (base,), members)
        channel_class.label = label
        channel_class.spec = spec
        channel = channel_class.__new__(channel_class)
        channel.buffer = memoryview(spec.get("buffer", "").encode("ascii"))
        channel.total = 0
        channel.intact = True
        channel.ran = set()
        self.channels[label] = channel
        if sock is not None:
            self.sockets.append(sock)
        channel.__init__(sock, self.map)
        if "terminator" in spec:
            channel.set_terminator(encoded(spec["terminator"]))
        return channel

    def members(self, spec, base):
        """The methods of a channel's class: only what the scenario overrides, for the others are under test, too."""
        world = self
        members = {}

        def handler(event, actions):
            def handle(channel):
                world.trace(channel.label, event)
                world.act(channel, actions, ())

            return handle

        handlers = spec.get("on", {})
        for event in HANDLERS:
            if event in handlers:
                members["handle_" + event] = handler(event, handlers[event])

        if "accepted" in handlers:

            def handle_accepted(channel, sock, address):
                world.trace(channel.label, "accepted")
                world.act(channel, handlers["accepted"], (sock,))

            members["handle_accepted"] = handle_accepted

        if base is asynchat.async_chat:
            members["collect_incoming_data"] = self.collector(handlers.get("collect"))
        if "found" in handlers:
            members["found_terminator"] = handler("found", handlers["found"])

        if "error" in handlers:

            def handle_error(channel):
                world.trace(channel.label, "error " + describe(sys.exc_info()[1]))
                world.act(channel, handlers["error"], ())

            members["handle_error"] = handle_error

        for predicate in ("readable", "writable"):
            if predicate in spec:
                members[predicate] = self.predicate(spec[predicate])

        if "closeRaises" in spec:

            def close(channel):
                base.close(channel)
                raise Boom(spec["closeRaises"])

            members["close"] = close

        def printed(call):
            """What a log method prints is its trace; of an error only that it is one, for its text names code."""
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                call()
            text = out.getvalue().rstrip("\n")
            return "error" if text.startswith("error: ") else text

        def log(channel, message):
            world.trace(channel.label, "log " + printed(lambda: base.log(channel, message)))

        def log_info(channel, message, type="info"):
            text = printed(lambda: base.log_info(channel, message, type))
            if text:
                world.trace(channel.label, "log " + text)

        members["log"] = log
        members["log_info"] = log_info
        if spec.get("logsAll"):
            members["ignore_log_types"] = frozenset()
        return members

    def collector(self, actions):
        """What collects for a channel: here one has to be defined."""

        def collect_incoming_data(channel, data):
            if actions is not None:
                self.trace(channel.label, "collect " + quoted(data))
                self.act(channel, actions, ())
            channel._collect_incoming_data(data)

        return collect_incoming_data

    def predicate(self, rule):
        if isinstance(rule, bool):
            return lambda channel: rule
        if rule == "buffer":
            return lambda channel: len(channel.buffer) > 0
        if rule.startswith("flag:"):
            return lambda channel: self.flags[rule[5:]]

        def raises_once(channel):
            if rule not in channel.ran:
                channel.ran.add(rule)
                raise asyncore.ExitNow if rule == "exit" else Boom(rule[6:])
            return True

        assert rule == "exit" or rule.startswith("raise:")
        return raises_once

    # -- actions: what a handler, or a step, does with a channel

    def act(self, channel, actions, arguments):
        for verb, *rest in actions:
            if verb == "at":
                self.act(self.channel(rest[0]), [rest[1:]], ())
            elif verb == "first":
                key = json.dumps(rest)
                ran_before = key in channel.ran
                channel.ran.add(key)
                self.act(channel, rest[1 if ran_before else 0], arguments)
            elif verb in ("adopt", "drop"):
                getattr(self, "do_" + verb)(channel, arguments[0], *rest)
            else:
                getattr(self, "do_" + verb)(channel, *rest)

    def do_adopt(self, channel, sock, name):
        self.new_channel(name, sock)

    def do_drop(self, channel, sock):
        sock.close()

    def do_create(self, channel, family="inet"):
        channel.create_socket(socket.AF_UNIX if family == "unix" else socket.AF_INET)
        self.sockets.append(channel.socket)

    def do_serve(self, channel, family="inet"):
        self.do_create(channel, family)
        if family == "unix":
            channel.bind(os.path.join(self.folder, channel.label + ".sock"))
        else:
            channel.bind((HOST, 0))
        channel.listen(5)

    def do_connect(self, channel, target):
        channel.connect(self.address_of(target)[1])

    def do_accept(self, channel, name):
        pair = channel.accept()
        if pair is None:
            self.trace(channel.label, "accepted nothing")
        else:
            self.new_channel(name, pair[0])

    def do_recv(self, channel, size):
        try:
            data = channel.recv(size)
        except BlockingIOError:
            self.trace(channel.label, "recv would block")
            return
        if data:
            self.trace(channel.label, "got " + quoted(data))

    def do_recvAlsoNothing(self, channel, size):
        data = channel.recv(size)
        self.trace(channel.label, "got " + quoted(data))

    def do_take(self, channel, size):
        self.check(channel, channel.recv(size))

    def check(self, channel, data):
        start = channel.total % len(PATTERN)
        channel.intact = channel.intact and patterned(start + len(data))[start:] == data
        channel.total += len(data)

    def do_total(self, channel):
        self.trace(channel.label, f"got {channel.total} bytes " + ("intact" if channel.intact else "damaged"))

    def do_echo(self, channel, size):
        self.do_relay(channel, channel.label, size)

    def do_relay(self, channel, name, size):
        data = channel.recv(size)
        if data:
            self.trace(channel.label, "got " + quoted(data))
        other = self.channels[name]
        other.buffer = memoryview(bytes(other.buffer) + data)

    def do_queue(self, channel, text):
        channel.buffer = memoryview(bytes(channel.buffer) + text.encode("ascii"))

    def do_queuePattern(self, channel, size):
        channel.buffer = memoryview(patterned(size))

    def do_flush(self, channel):
        channel.buffer = channel.buffer[channel.send(channel.buffer) :]

    def do_piece(self, channel, size):
        count = channel.send(channel.buffer[:size])
        channel.buffer = channel.buffer[count:]
        self.trace(channel.label, f"sent {count}")

    def do_waiting(self, channel):
        self.trace(channel.label, "has unsent bytes" if channel.buffer else "has nothing unsent")

    def do_send(self, channel, text):
        channel.send(text.encode("ascii"))

    def do_sendCounted(self, channel, text):
        self.trace(channel.label, f"sent {channel.send(text.encode('ascii'))}")

    # -- asynchat

    def do_setTerminator(self, channel, terminator):
        channel.set_terminator(encoded(terminator))

    def do_setTerminatorAsIs(self, channel, terminator):
        channel.set_terminator(terminator)

    def do_getTerminator(self, channel):
        terminator = channel.get_terminator()
        shown = quoted(terminator) if isinstance(terminator, bytes) else json.dumps(terminator)
        self.trace(channel.label, "terminator " + shown)

    def do_takeIncoming(self, channel):
        self.trace(channel.label, "took " + quoted(channel._get_data()))

    def do_checkIncoming(self, channel):
        self.check(channel, channel._get_data())

    def do_handleRead(self, channel):
        channel.handle_read()

    def do_push(self, channel, data):
        channel.push(content(data))

    def do_pushAsIs(self, channel, value):
        channel.push(value)

    def do_pushProducer(self, channel, pieces):
        channel.push_with_producer(Producer(self, channel, pieces))

    def do_pushSimpleProducer(self, channel, data, size):
        channel.push_with_producer(asynchat.simple_producer(content(data), size))

    def do_pushBytesAsProducer(self, channel, text):
        channel.push_with_producer(text.encode("ascii"))

    def do_closeWhenDone(self, channel):
        channel.close_when_done()

    def do_discardBuffers(self, channel):
        channel.discard_buffers()

    # -- the rest

    def do_close(self, channel):
        channel.close()

    def do_delChannel(self, channel):
        channel.del_channel()

    def do_addChannel(self, channel):
        # del_channel forgets the descriptor, so that asyncore needs to be told it again.
        channel._fileno = channel.socket.fileno()
        channel.add_channel()

    def do_flags(self, channel):
        words = [name for name in ("connected", "accepting", "connecting") if getattr(channel, name)]
        self.trace(channel.label, " ".join(["flags:", *(words or ["none"])]))

    def do_log(self, channel, message):
        channel.log(message)

    def do_logInfo(self, channel, *arguments):
        channel.log_info(*arguments)

    def do_set(self, channel, flag, value):
        self.flags[flag] = value

    def do_raise(self, channel, message):
        raise Boom(message)

    def do_exit(self, channel):
        raise asyncore.ExitNow

    def do_poll(self, channel):
        self.one_pass()
        self.trace(channel.label, "has polled")


class Producer:
    """Makes the pieces of a scenario; where one is an action, that is carried out first."""

    def __init__(self, world, channel, pieces):
        self.world = world
        self.channel = channel
        self.pieces = list(pieces)

    def more(self):
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, str):
                return piece.encode("ascii")
            self.world.act(self.channel, [piece], ())
        return b""


def main():
    only = sys.argv[2] if sys.argv[1:2] == ["--only"] else ""
    scenarios = json.loads((HERE / "scenarios.json").read_text())
    traces = {}
    for scenario in scenarios:
        if only not in scenario["name"]:
            continue
        runs = {}
        for mode in ("select", "poll"):
            signal.alarm(DEADLINE)
            runs[mode] = World(scenario, mode).run()
            signal.alarm(0)
        if runs["select"] == runs["poll"]:
            runs = {"both": runs["select"]}
        traces[scenario["name"]] = runs
    json.dump({"python": platform.python_version(), "traces": traces}, sys.stdout, indent=2)
    print()


main()
