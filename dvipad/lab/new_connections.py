"""New connections at a steady rate: which failed, which were slowed, and who answered.

    python -m dvipad.lab.new_connections ADDRESS PORT --rate 500 [--count 3000] [--requests 10]

Each connects, asks who serves it (`--requests` times), and closes. One whose SYN was retransmitted,
by the kernel's own count (TCP_INFO), or that took 0.9 s or more to connect, counts as slowed.
Obeys the commands of :mod:`dvipad.lab.tool`; stops by itself after `--count` connections.
"""

from __future__ import annotations

import argparse
import errno
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from dvipad.address import Address, parse
from dvipad.lab.frames import MAX_NAME, WHO
from dvipad.lab.tool import Commands, emit, prepare_process

TURN_S: Final = 0.002
MAX_PENDING: Final = 20000
SLOW_MS: Final = 900.0
NS_PER_MS: Final = 1_000_000
SWEEP_NS: Final = 100 * NS_PER_MS

_TCP_INFO_BYTES: Final = 104
_RETRANSMITS: Final = struct.Struct("=100xI")
"""tcpi_total_retrans of struct tcp_info (linux/tcp.h)."""


class Attempt:
    """One connection on its way."""

    __slots__ = ("answers", "connected", "inbox", "sock", "started_ns")

    def __init__(self, sock: socket.socket, started_ns: int) -> None:
        self.sock = sock
        self.started_ns = started_ns
        self.connected = False
        self.inbox = b""
        self.answers = 0


class Figures:
    """The figures of one phase."""

    __slots__ = (
        "answered",
        "connect_ms",
        "failed",
        "max_connect_ms",
        "retransmits",
        "servers",
        "slowed",
        "started",
        "started_ns",
    )

    def __init__(self, now_ns: int) -> None:
        self.started_ns = now_ns
        self.started = 0
        self.answered = 0
        self.slowed = 0
        self.retransmits = 0
        self.connect_ms = 0.0
        self.max_connect_ms = 0.0
        self.failed: Counter[str] = Counter()
        self.servers: Counter[str] = Counter()

    def connected(self, connect_ms: float, retransmits: int) -> None:
        """Count an established connection."""
        self.connect_ms += connect_ms
        self.max_connect_ms = max(self.max_connect_ms, connect_ms)
        self.retransmits += retransmits
        if retransmits or connect_ms >= SLOW_MS:
            self.slowed += 1

    def values(self, phase: str, pending: int) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "phase": phase,
            "seconds": round((time.monotonic_ns() - self.started_ns) / 1e9, 3),
            "started": self.started,
            "answered": self.answered,
            "pending": pending,
            "failed": dict(self.failed),
            "slowed": self.slowed,
            "retransmits": self.retransmits,
            "max_connect_ms": round(self.max_connect_ms, 2),
            "mean_connect_ms": round(self.connect_ms / max(self.answered, 1), 3),
            "servers": dict(self.servers),
        }


class NewRun:
    """One run: starts attempts when they are due, and follows each to its end."""

    def __init__(self, address: Address, port: int, rate: float, requests: int) -> None:
        self._where = (str(address), port)
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._step_ns = int(1e9 / rate)
        self._requests = requests
        self._epoll = select.epoll()
        self._attempts: dict[int, Attempt] = {}
        self._phase = "start"
        self._figures = Figures(time.monotonic_ns())

    def run(self, commands: Commands, count: int, timeout_s: float) -> dict[str, Any]:
        """Make `count` connections (0: until `stop`), wait for the last, return the figures."""
        self._epoll.register(commands.fd, select.EPOLLIN)
        timeout_ns = int(timeout_s * 1e9)
        due_ns = swept_ns = time.monotonic_ns()
        made, stopped = 0, False
        while not stopped or self._attempts:
            if self._turn():
                stopped |= self._obey(commands)
            now_ns = time.monotonic_ns()
            while not stopped and due_ns <= now_ns:
                due_ns += self._step_ns
                self._start(now_ns)
                made += 1
                stopped = made == count
            if now_ns - swept_ns >= SWEEP_NS:
                swept_ns = now_ns
                self._sweep(now_ns - timeout_ns)
        return self._figures.values(self._phase, 0)

    def _obey(self, commands: Commands) -> bool:
        """Carry out what has come in; True for `stop`, after which nothing is listened to."""
        for command in commands.read():
            verb, _, name = command.partition(" ")
            if verb in ("phase", "report"):
                emit(verb, **self._figures.values(self._phase, len(self._attempts)))
            if verb == "phase":
                self._phase, self._figures = name, Figures(time.monotonic_ns())
            if verb == "stop":
                self._epoll.unregister(commands.fd)
                return True
        return False

    def _start(self, now_ns: int) -> None:
        self._figures.started += 1
        if len(self._attempts) >= MAX_PENDING:
            self._figures.failed["too many pending"] += 1
            return
        sock = socket.socket(self._family)
        sock.setblocking(False)
        code = sock.connect_ex(self._where)
        if code not in (0, errno.EINPROGRESS):
            self._figures.failed[errno.errorcode.get(code, str(code))] += 1
            sock.close()
            return
        self._attempts[sock.fileno()] = Attempt(sock, now_ns)
        self._epoll.register(sock, select.EPOLLOUT)

    def _turn(self) -> bool:
        """Handle what has come in; True when a command has."""
        commanded = False
        for fd, _ in self._epoll.poll(TURN_S):
            attempt = self._attempts.get(fd)
            if attempt is None:
                commanded = True
                continue
            try:
                self._advance(attempt)
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(attempt, errno.errorcode.get(error.errno or 0, "error"))
        return commanded

    def _advance(self, attempt: Attempt) -> None:
        if not attempt.connected:
            self._connected(attempt)
            return
        data = attempt.sock.recv(MAX_NAME)
        attempt.inbox += data
        if not data or len(attempt.inbox) > MAX_NAME:
            self._end(attempt, "wrong answer" if data else "closed")
        elif attempt.inbox.endswith(b"\n"):
            attempt.answers += 1
            if attempt.answers < self._requests:
                attempt.inbox = b""
                attempt.sock.send(WHO)
            else:
                self._figures.servers[attempt.inbox.decode(errors="replace").strip()] += 1
                self._end(attempt, None)

    def _connected(self, attempt: Attempt) -> None:
        code = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        connect_ms = (time.monotonic_ns() - attempt.started_ns) / NS_PER_MS
        info = attempt.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (retransmits,) = _RETRANSMITS.unpack(info)
        self._figures.connected(connect_ms, retransmits)
        attempt.connected = True
        attempt.sock.send(WHO)
        self._epoll.modify(attempt.sock, select.EPOLLIN)

    def _sweep(self, before_ns: int) -> None:
        for attempt in [a for a in self._attempts.values() if a.started_ns < before_ns]:
            self._end(attempt, "no answer" if attempt.connected else "no connection")

    def _end(self, attempt: Attempt, failure: str | None) -> None:
        if failure is None:
            self._figures.answered += 1
        else:
            self._figures.failed[failure] += 1
        del self._attempts[attempt.sock.fileno()]
        attempt.sock.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit status 1 when a connection failed."""
    parser = argparse.ArgumentParser(prog="dvipad.lab.new_connections", description=__doc__)
    parser.add_argument("address", type=parse)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=500.0, help="connections per second")
    parser.add_argument("--count", type=int, default=0, help="0: until stopped")
    parser.add_argument("--requests", type=int, default=1, help="per connection")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="of one connection")
    arguments = parser.parse_args(argv)
    if arguments.rate <= 0 or arguments.requests < 1 or arguments.count < 0:
        parser.error("rate and requests are above 0, count is not below")
    prepare_process()
    run = NewRun(arguments.address, arguments.port, arguments.rate, arguments.requests)
    emit("open")
    figures = run.run(Commands(), arguments.count, arguments.timeout_s)
    emit("result", **figures)
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
