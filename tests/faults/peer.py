"""The peer of a fault on real sockets.

Plays the steps it is given (see stage.ts), one after the other, on one
connection, and prints lines of JSON: the address it listens at, or null, as
soon as it is ready, "waiting" whenever it waits for a cue, which is SIGUSR1,
and at the end what it saw.

    python3 peer.py '{"steps": ["listen", "accept", {"send": 5}, "close"]}'

"cable": true makes a cable to the network namespace of the parent process,
which must be another one than its own: this end is FAR, the other is NEAR.
"""

import json
import os
import signal
import socket
import struct
import sys

NEAR = "10.0.0.1"
FAR = "10.0.0.2"
FAR_HARDWARE = "02:00:00:00:00:02"

# The byte at place n of a stream is n % 251.
BYTES = bytes(range(251)) * 300
PIECE = 65_536


def ip(command, *, near=False):
    # Most peers do without, and are to start quickly.
    import subprocess

    enter = ["nsenter", "--net", f"--target={os.getppid()}"] if near else []
    subprocess.run([*enter, "ip", *command.split()], check=True)


def lay_cable():
    ip(
        f"link add far address {FAR_HARDWARE} type veth "
        f"peer name near netns {os.getppid()}"
    )
    ip(f"address add {NEAR}/24 dev near", near=True)
    ip("link set near up", near=True)
    # A cut is no business of ARP, which would notice it.
    ip(
        f"neighbour add {FAR} lladdr {FAR_HARDWARE} dev near nud permanent",
        near=True,
    )
    ip(f"address add {FAR}/24 dev far")
    ip("link set far up")


class Peer:
    def __init__(self, job):
        self.job = job
        self.host = FAR if job.get("cable") else "127.0.0.1"
        self.conn = None
        self.sent = 0
        self.received = 0
        self.intact = True
        self.end = None

    def report(self):
        return {
            "sent": self.sent,
            "received": self.received,
            "intact": self.intact,
            "end": self.end,
        }

    def listen(self):
        if "path" in self.job:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.job["path"])
            address = {"transport": "unix", "path": self.job["path"]}
        else:
            self.listener = socket.socket()
            self.listener.bind((self.host, 0))
            hostname, port = self.listener.getsockname()
            address = {"transport": "tcp", "hostname": hostname, "port": port}
        self.listener.listen()
        say(address)

    def accept(self):
        self.conn, _ = self.listener.accept()

    def connect(self):
        to = self.job["to"]
        if to["transport"] == "unix":
            self.conn = socket.socket(socket.AF_UNIX)
            self.conn.connect(to["path"])
        else:
            host = NEAR if self.job.get("cable") else to["hostname"]
            self.conn = socket.create_connection((host, to["port"]))

    def wait(self):
        say("waiting")
        signal.sigwait({signal.SIGUSR1})

    def next(self, length):
        start = self.sent % 251
        return BYTES[start : start + length]

    def send(self, length, piece=PIECE):
        if piece < PIECE:
            self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        left = length
        while left > 0:
            data = self.next(min(left, piece))
            self.conn.sendall(data)
            self.sent += len(data)
            left -= len(data)

    def fill(self):
        self.conn.setblocking(False)
        try:
            while True:
                self.sent += self.conn.send(self.next(PIECE))
        except BlockingIOError:
            self.conn.setblocking(True)

    def receive(self, length, piece=PIECE):
        left = sys.maxsize if length == "all" else length
        while left > 0:
            try:
                data = self.conn.recv(min(left, piece))
            except ConnectionResetError:
                self.end = "reset"
                return
            if not data:
                self.end = "eof"
                return
            start = self.received % 251
            if data != BYTES[start : start + len(data)]:
                self.intact = False
            self.received += len(data)
            left -= len(data)

    def finish(self):
        self.conn.shutdown(socket.SHUT_WR)

    def close(self):
        self.conn.close()

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.conn.close()

    def cut(self):
        ip("link set far down")

    def mend(self):
        ip("link set far up")


def say(what):
    print(json.dumps(what), flush=True)


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    job = json.loads(sys.argv[1])
    if job.get("cable"):
        lay_cable()
    peer = Peer(job)
    if "listen" not in job["steps"]:
        say(None)
    for step in job["steps"]:
        if isinstance(step, str):
            getattr(peer, step)()
            continue
        piece = step.get("piece", PIECE)
        if "send" in step:
            peer.send(step["send"], piece)
        else:
            peer.receive(step["receive"], piece)
    say(peer.report())


main()
