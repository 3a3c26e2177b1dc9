"""Tens of thousands of connections that are held open, and asked whether they still live.

    python -m dvipad.lab.held_connections ADDRESS PORT --connections 10000 --rate 100

Opens them, a limited number at a time, and says every second how many are open; then prints `open`
and asks one after the other with a numbered, checksummed frame, at a rate, for as long as it runs.
Obeys `check` besides the commands of :mod:`dvipad.lab.tool`: every connection is asked anew, and
`checked` is printed when all have answered or when nothing has come back for a while.
"""

from __future__ import annotations

import argparse
import errno
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

from dvipad.address import Address, parse
from dvipad.lab.frames import MAX_NAME, WHO, FrameError, encode
from dvipad.lab.long_connections import NS_PER_MS, OPEN, READ_BYTES, Connection
from dvipad.lab.tool import Commands, emit, prepare_process

MAX_CONNECTIONS: Final = 60_000
"""Of one process: a client address has no more ports for one server."""
MAX_CONNECTING: Final = 128
MAX_ASKED: Final = 256
"""Connections that are asked at the same time in a check, as long as answers come."""
TURN_S: Final = 0.005
PROGRESS_S: Final = 1.0
UNANSWERED_NS: Final = 250_000_000
"""Each time so long without any answer a check asks the next ones all the same."""


class HeldRun:
    """All connections of one run, and its loop. `quiet_s`: without progress for so long it ends."""

    def __init__(
        self, address: Address, port: int, count: int, rate: float, quiet_s: float
    ) -> None:
        self._where = (str(address), port)
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._count = count
        self._step_ns = int(1e9 / rate) if rate else 0
        self._quiet_ns = int(quiet_s * 1e9)
        self._epoll = select.epoll()
        self._all: list[Connection] = []
        self._by_fd: dict[int, Connection] = {}
        self._unopened = 0
        self._asking: deque[Connection] = deque()
        self._awaited: set[Connection] | None = None
        self._silences = 0
        self._turns = 0
        self._due_ns = 0
        self._answered = 0
        self._answer_ns = self._began_ns = time.monotonic_ns()
        self._gap_ns = 0

    # Opening

    def open_all(self) -> bool:
        """Open all connections and learn who serves them; False when one could not be opened."""
        said_ns = moved_ns = time.monotonic_ns()
        opened = 0
        while self._unopened or len(self._all) < self._count:
            while len(self._all) < self._count and self._unopened < MAX_CONNECTING:
                self._connect()
            self._turn(TURN_S)
            now_ns = time.monotonic_ns()
            if len(self._all) - self._unopened > opened:
                opened, moved_ns = len(self._all) - self._unopened, now_ns
            if now_ns - moved_ns > self._quiet_ns:
                break
            if now_ns - said_ns > PROGRESS_S * 1e9:
                said_ns = now_ns
                emit("opening", open=opened)
        return not self._unopened and all(c.state == OPEN for c in self._all)

    def _connect(self) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(len(self._all), sock)
        self._all.append(connection)
        code = sock.connect_ex(self._where)
        if code not in (0, errno.EINPROGRESS):
            connection.state = errno.errorcode.get(code, str(code))
            return
        self._unopened += 1
        self._by_fd[sock.fileno()] = connection
        self._epoll.register(sock, select.EPOLLOUT)

    def _opening(self, connection: Connection) -> None:
        """The handshake is over, or its answer to `who` is there."""
        if connection.state == "connecting":
            code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            connection.sock.send(WHO)
            connection.state = "asking"
            self._epoll.modify(connection.sock, select.EPOLLIN)
            return
        connection.inbox += self._receive(connection)
        if len(connection.inbox) > MAX_NAME:
            raise FrameError(f"not a name: {bytes(connection.inbox[:MAX_NAME])!r}")
        if connection.inbox.endswith(b"\n"):
            connection.server = connection.inbox.decode(errors="replace").strip()
            connection.inbox.clear()
            connection.state = OPEN
            self._unopened -= 1

    # Asking

    def run(self, commands: Commands) -> None:
        """Ask in turn, and obey, until the `stop` command."""
        self._epoll.register(commands.fd, select.EPOLLIN)
        self._begin_phase()
        self._due_ns = time.monotonic_ns()
        while True:
            if self._turn(TURN_S):
                for command in commands.read():
                    if command == "stop":
                        return
                    self._obey(command)
            if self._awaited is None:
                self._ask_due()
            else:
                self._go_on_checking()

    def _obey(self, command: str) -> None:
        if command == "check" and self._awaited is None:
            self._asking = deque(c for c in self._all if c.state == OPEN)
            self._awaited = set()
            self._silences = 0
            self._answer_ns = time.monotonic_ns()
            self._go_on_checking()
        elif command == "report" or command.startswith("phase "):
            emit(command.partition(" ")[0], **self.report())
            if command != "report":
                self._begin_phase()

    def _begin_phase(self) -> None:
        self._gap_ns = self._answered = 0
        self._answer_ns = self._began_ns = time.monotonic_ns()

    def report(self) -> dict[str, Any]:
        """The figures of this phase."""
        now_ns = time.monotonic_ns()
        gap_ns = max(self._gap_ns, now_ns - self._answer_ns)
        return {
            "seconds": round((now_ns - self._began_ns) / 1e9, 3),
            "states": dict(Counter(c.state for c in self._all)),
            "servers": dict(Counter(c.server for c in self._all if c.state == OPEN)),
            "unanswered": sum(c.state == OPEN and c.expected < c.next for c in self._all),
            "answered": self._answered,
            "max_gap_ms": round(gap_ns / NS_PER_MS, 1),
        }

    def _ask_due(self) -> None:
        """The next connections in turn; one that has not answered yet is not asked again."""
        now_ns = time.monotonic_ns()
        if not self._step_ns:
            return
        self._due_ns = max(self._due_ns, now_ns - int(PROGRESS_S * 1e9))
        while self._due_ns <= now_ns:
            self._due_ns += self._step_ns
            connection = self._all[self._turns % self._count]
            self._turns += 1
            if connection.state == OPEN and connection.expected == connection.next:
                self._ask(connection)

    def _go_on_checking(self) -> None:
        """Ask the next ones; print the result when there is nothing to wait for any more."""
        assert self._awaited is not None
        self._awaited = {c for c in self._awaited if c.state == OPEN and c.expected < c.next}
        quiet_ns = time.monotonic_ns() - self._answer_ns
        patience_ns = UNANSWERED_NS * (self._silences + 1)
        if quiet_ns < UNANSWERED_NS:
            self._silences = 0
        elif quiet_ns > patience_ns and self._asking:
            self._silences += 1
        while self._asking and len(self._awaited) < MAX_ASKED * (self._silences + 1):
            connection = self._asking.popleft()
            if connection.state == OPEN:
                self._ask(connection)
                self._awaited.add(connection)
        if not self._asking and (not self._awaited or quiet_ns > self._quiet_ns):
            self._awaited = None
            emit("checked", **self.report())

    def _ask(self, connection: Connection) -> None:
        frame = encode(connection.index, connection.next)
        connection.next += 1
        try:
            sent = connection.sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(connection, errno.errorcode.get(error.errno or 0, "error"))
            return
        if sent != len(frame):  # so little fits into any socket whose other end lives
            self._end(connection, "blocked")

    # The loop

    def _turn(self, timeout_s: float) -> bool:
        """Handle what has come in; True when a command has."""
        commanded = False
        for fd, _ in self._epoll.poll(timeout_s):
            connection = self._by_fd.get(fd)
            if connection is None:
                commanded = True
                continue
            try:
                if connection.state == OPEN:
                    self._answer(connection)
                else:
                    self._opening(connection)
            except BlockingIOError:
                continue
            except FrameError as error:
                emit("corrupt", connection=connection.index, reason=str(error))
                self._end(connection, "corrupt")
            except EOFError:
                self._end(connection, "closed")
            except OSError as error:
                self._end(connection, errno.errorcode.get(error.errno or 0, "error"))
        return commanded

    def _answer(self, connection: Connection) -> None:
        now_ns = time.monotonic_ns()
        if connection.received(self._receive(connection), now_ns):
            self._answered += 1
            self._gap_ns = max(self._gap_ns, now_ns - self._answer_ns)
            self._answer_ns = now_ns

    @staticmethod
    def _receive(connection: Connection) -> bytes:
        data = connection.sock.recv(READ_BYTES)
        if not data:
            raise EOFError
        return data

    def _end(self, connection: Connection, state: str) -> None:
        if connection.state in ("connecting", "asking"):
            self._unopened -= 1
        connection.state = state
        del self._by_fd[connection.sock.fileno()]
        self._epoll.unregister(connection.sock)
        connection.sock.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until `stop`; exit status 1 when not all connections could be opened."""
    parser = argparse.ArgumentParser(prog="dvipad.lab.held_connections", description=__doc__)
    parser.add_argument("address", type=parse)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0, help="connections asked per second")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="without progress: give up")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.connections <= MAX_CONNECTIONS:
        parser.error(f"connections: 1 to {MAX_CONNECTIONS}")
    if arguments.rate < 0:
        parser.error("rate: 0 or more")
    prepare_process()
    run = HeldRun(
        arguments.address,
        arguments.port,
        arguments.connections,
        arguments.rate,
        arguments.quiet_s,
    )
    if not run.open_all():
        emit("failed", **run.report())
        return 1
    emit("open", **run.report())
    run.run(Commands())
    emit("result", **run.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
