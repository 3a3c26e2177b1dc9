"""Many long connections that carry checked data all the time, and the longest gap in each.

    python -m dvipad.lab.long_connections ADDRESS PORT --connections 200 --interval-ms 20

Every connection sends a numbered, checksummed frame each interval, whether or not earlier ones have
come back, and expects them all back in order. A gap is the time between two echoes on a connection.
Prints `open` when all are connected; then obeys the commands of :mod:`dvipad.lab.tool`.
"""

from __future__ import annotations

import argparse
import errno
import select
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from dvipad.address import Address, parse
from dvipad.lab.frames import MAX_FRAME, MAX_NAME, MIN_FRAME, WHO, FrameError, encode, take_frames
from dvipad.lab.tool import Commands, emit, prepare_process

TURN_S: Final = 0.002
READ_BYTES: Final = 262144
MAX_CONNECTIONS: Final = 10000
MAX_CONNECTING: Final = 64
NS_PER_MS: Final = 1_000_000
OPEN: Final = "open"
RESETS: Final = ("ECONNRESET", "EPIPE")
"""How a connection ends whose other end says that there is none."""


class Connection:
    """One connection: what it expects next, and the longest gap of this phase."""

    __slots__ = (
        "expected",
        "gap_ns",
        "inbox",
        "index",
        "last_ns",
        "next",
        "outbox",
        "server",
        "sock",
        "state",
    )

    def __init__(self, index: int, sock: socket.socket) -> None:
        self.index = index
        self.sock = sock
        self.state = "connecting"
        self.server = ""
        self.next = 0
        self.expected = 0
        self.inbox = bytearray()
        self.outbox = b""
        self.last_ns = 0
        self.gap_ns = 0

    def received(self, data: bytes, now_ns: int) -> int:
        """Check echoed `data`; returns the number of frames. Raises :class:`FrameError`."""
        self.inbox += data
        frames, _ = take_frames(self.inbox)
        for connection, sequence in frames:
            if (connection, sequence) != (self.index, self.expected):
                wanted = f"{self.index}/{self.expected}"
                raise FrameError(f"frame {connection}/{sequence} came back, not {wanted}")
            self.expected += 1
        if frames:
            self.gap_ns = max(self.gap_ns, now_ns - self.last_ns)
            self.last_ns = now_ns
        return len(frames)

    def quiet_ns(self, now_ns: int) -> int:
        """How long nothing has come back."""
        return now_ns - self.last_ns


class LongRun:
    """All connections of one run, and its loop."""

    def __init__(
        self, address: Address, port: int, count: int, interval_ms: float, size: int
    ) -> None:
        self._where = (str(address), port)
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._count = count
        self._step_ns = int(interval_ms * NS_PER_MS / count)
        self._size = size
        self._epoll = select.epoll()
        self._all: list[Connection] = []
        self._by_fd: dict[int, Connection] = {}
        self._sending = False
        self._cursor = 0
        self._due_ns = 0
        self._phase = "start"
        self._phase_ns = time.monotonic_ns()
        self._echoed = 0
        self._stall_ns = 0
        self._turn_ns = 0

    def connect_all(self, timeout_s: float) -> bool:
        """Open all connections and learn who serves them; False when one could not be opened."""
        deadline = time.monotonic() + timeout_s
        while any(c.state in ("connecting", "asking") for c in self._all) or self._more():
            while self._more() and self._unfinished() < MAX_CONNECTING:
                self._connect()
            self._turn(TURN_S * 10)
            if time.monotonic() >= deadline:
                break
        return all(c.state == OPEN for c in self._all) and not self._more()

    def run(self, commands: Commands) -> None:
        """Send and check until the `stop` command."""
        self._epoll.register(commands.fd, select.EPOLLIN)
        now_ns = time.monotonic_ns()
        for connection in self._all:
            connection.last_ns = now_ns
        self._due_ns = self._turn_ns = now_ns
        self._sending = True
        while True:
            if self._turn(TURN_S):
                for command in commands.read():
                    if command == "stop":
                        return
                    self._obey(command)
            self._send_due()

    def _obey(self, command: str) -> None:
        verb, _, name = command.partition(" ")
        if verb not in ("phase", "report"):
            return
        emit(verb, **self.report())
        if verb == "phase":
            self._phase, self._phase_ns = name, time.monotonic_ns()
            self._echoed = self._stall_ns = 0
            for connection in self._all:
                connection.gap_ns = 0

    def report(self, details: bool = False) -> dict[str, Any]:
        """The figures of this phase; `details`: with one row per connection."""
        now_ns = time.monotonic_ns()
        rows = [_row(connection, now_ns) for connection in self._all]
        gaps = [row["max_gap_ms"] for row in rows if row["state"] == OPEN]
        values: dict[str, Any] = {
            "phase": self._phase,
            "seconds": round((now_ns - self._phase_ns) / 1e9, 3),
            "states": dict(Counter(row["state"] for row in rows)),
            "servers": {server: _summary(rows, server) for server in {r["server"] for r in rows}},
            "max_gap_ms": max(gaps, default=0.0),
            "median_gap_ms": statistics.median(gaps) if gaps else 0.0,
            "echoed": self._echoed,
            "own_stall_ms": round(self._stall_ns / NS_PER_MS, 1),
        }
        return {**values, "connections": rows} if details else values

    # The loop

    def _more(self) -> bool:
        return len(self._all) < self._count

    def _unfinished(self) -> int:
        return sum(c.state in ("connecting", "asking") for c in self._all)

    def _connect(self) -> None:
        sock = socket.socket(self._family)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(len(self._all), sock)
        self._all.append(connection)
        code = sock.connect_ex(self._where)
        if code not in (0, errno.EINPROGRESS):
            connection.state = errno.errorcode.get(code, str(code))
            return
        self._by_fd[sock.fileno()] = connection
        self._epoll.register(sock, select.EPOLLOUT)

    def _turn(self, timeout_s: float) -> bool:
        """Handle what has come in; True when a command has."""
        commanded = False
        ready = self._epoll.poll(timeout_s)
        now_ns = time.monotonic_ns()
        if self._sending:
            self._stall_ns = max(self._stall_ns, now_ns - self._turn_ns)
        self._turn_ns = now_ns
        for fd, events in ready:
            connection = self._by_fd.get(fd)
            if connection is None:
                commanded = True
                continue
            try:
                self._handle(connection, events, now_ns)
            except BlockingIOError:
                continue
            except FrameError as error:
                emit("corrupt", connection=connection.index, reason=str(error))
                self._end(connection, "corrupt")
            except OSError as error:
                self._end(connection, errno.errorcode.get(error.errno or 0, "error"))
        return commanded

    def _handle(self, connection: Connection, events: int, now_ns: int) -> None:
        if connection.state == "connecting":
            code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            connection.sock.send(WHO)
            connection.state = "asking"
            self._epoll.modify(connection.sock, select.EPOLLIN)
            return
        if events & select.EPOLLOUT and connection.outbox:
            self._send(connection, connection.outbox)
        if events & ~select.EPOLLOUT:
            data = connection.sock.recv(READ_BYTES)
            if not data:
                self._end(connection, "closed")
            elif connection.state == OPEN:
                self._echoed += connection.received(data, now_ns)
            else:
                self._learn_name(connection, data)

    def _learn_name(self, connection: Connection, data: bytes) -> None:
        connection.inbox += data
        if len(connection.inbox) > MAX_NAME:
            raise FrameError(f"not a name: {bytes(connection.inbox[:MAX_NAME])!r}")
        if connection.inbox.endswith(b"\n"):
            connection.server = connection.inbox.decode(errors="replace").strip()
            connection.inbox.clear()
            connection.state = OPEN

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        self._due_ns = max(self._due_ns, now_ns - self._step_ns * self._count)
        while self._due_ns <= now_ns:
            self._due_ns += self._step_ns
            connection = self._all[self._cursor]
            self._cursor = (self._cursor + 1) % self._count
            if connection.state != OPEN or connection.outbox:
                continue
            frame = encode(connection.index, connection.next, self._size)
            connection.next += 1
            try:
                self._send(connection, frame)
            except OSError as error:
                self._end(connection, errno.errorcode.get(error.errno or 0, "error"))

    def _send(self, connection: Connection, data: bytes) -> None:
        waiting = bool(connection.outbox)
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        connection.outbox = data[sent:]
        if bool(connection.outbox) != waiting:
            writing = select.EPOLLOUT if connection.outbox else 0
            self._epoll.modify(connection.sock, select.EPOLLIN | writing)

    def _end(self, connection: Connection, state: str) -> None:
        connection.state = state
        del self._by_fd[connection.sock.fileno()]
        self._epoll.unregister(connection.sock)
        connection.sock.close()


def _row(connection: Connection, now_ns: int) -> dict[str, Any]:
    quiet_ns = connection.quiet_ns(now_ns) if connection.state == OPEN else 0
    return {
        "server": connection.server,
        "state": connection.state,
        "max_gap_ms": round(max(connection.gap_ns, quiet_ns) / NS_PER_MS, 1),
        "quiet_ms": round(quiet_ns / NS_PER_MS, 1),
        "sent": connection.next,
        "echoed": connection.expected,
    }


def _summary(rows: Sequence[dict[str, Any]], server: str) -> dict[str, Any]:
    own = [row for row in rows if row["server"] == server]
    is_open = [row for row in own if row["state"] == OPEN]
    return {
        "connections": len(own),
        "open": len(is_open),
        "reset": sum(row["state"] in RESETS for row in own),
        "max_gap_ms": max((row["max_gap_ms"] for row in is_open), default=0.0),
        "quiet_ms": max((row["quiet_ms"] for row in is_open), default=0.0),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run until `stop`; exit status 1 when not all connections could be opened."""
    parser = argparse.ArgumentParser(prog="dvipad.lab.long_connections", description=__doc__)
    parser.add_argument("address", type=parse)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=32, help="bytes of a frame")
    parser.add_argument("--connect-timeout-s", type=float, default=15.0)
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.connections <= MAX_CONNECTIONS:
        parser.error(f"connections: 1 to {MAX_CONNECTIONS}")
    if not MIN_FRAME <= arguments.size <= MAX_FRAME:
        parser.error(f"size: {MIN_FRAME} to {MAX_FRAME}")
    prepare_process()
    run = LongRun(
        arguments.address,
        arguments.port,
        arguments.connections,
        arguments.interval_ms,
        arguments.size,
    )
    if not run.connect_all(arguments.connect_timeout_s):
        emit("failed", **run.report())
        return 1
    emit("open", **run.report())
    run.run(Commands())
    emit("result", **run.report(details=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
