"""How long an address answers nobody: bare SYNs at a steady pace, and the time between answers.

    python -m dvipad.lab.gap_probe ADDRESS PORT --interval-ms 5

A connection's own gap ends with a retransmission, up to seconds after the address answers again.
A probe is one SYN from a raw socket that nothing repeats; the kernel, which knows of no connection,
resets what a SYN-ACK offers. A gap is the time between two SYN-ACKs that reach this process.
Prints `open` when the first probe is answered; then obeys the commands of :mod:`dvipad.lab.tool`.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import secrets
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from dvipad.address import Address, parse
from dvipad.lab.tool import Commands, emit, prepare_process

DEFAULT_PORTS: Final = 1024
MAX_PORTS: Final = 16384
NS_PER_MS: Final = 1_000_000
READ_BYTES: Final = 256
READS_PER_TURN: Final = 256

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_TCP: Final = struct.Struct("!HHIIBBHHH")
"""RFC 9293, 3.1: ports, sequence, acknowledgment, offset, flags, window, checksum, urgent."""

_CHECKSUM_OFFSET: Final = 16
_WINDOW_BYTES: Final = 65535
_SEQUENCE_MASK: Final = 0xFFFFFFFF
_SO_ATTACH_FILTER: Final = 26
_IPV6_CHECKSUM: Final = 7

# Classic BPF: only SYNs and RSTs come up, not the data of other connections to this address.
_IP4_FILTER: Final = (
    (0xB1, 0, 0, 0),  # ldx 4*([0]&0xf): a raw IPv4 socket sees the IP header too
    (0x50, 0, 0, 13),  # ldb [x+13]
    (0x45, 0, 1, SYN | RST),  # jset
    (0x06, 0, 0, READ_BYTES),
    (0x06, 0, 0, 0),
)
_IP6_FILTER: Final = ((0x30, 0, 0, 13), *_IP4_FILTER[2:])  # ldb [13]


@dataclass(frozen=True, slots=True)
class Segment:
    """The fields of a TCP header that tell what a probe was answered."""

    source_port: int
    destination_port: int
    acknowledgment: int
    flags: int


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(source: Address, destination: Address, ports: tuple[int, int], sequence: int) -> bytes:
    """A SYN without options from `ports[0]` to `ports[1]`.

    The checksum is complete for IPv4; for IPv6 the kernel writes it (IPV6_CHECKSUM, RFC 3542).
    """
    fields = (*ports, sequence, 0, _TCP.size // 4 << 4, SYN, _WINDOW_BYTES)
    header = _TCP.pack(*fields, 0, 0)
    if source.version == 6:
        return header
    pseudo = source.packed + destination.packed + struct.pack("!HH", socket.IPPROTO_TCP, _TCP.size)
    return _TCP.pack(*fields, checksum(pseudo + header), 0)


def read_segment(packet: bytes, version: int) -> Segment | None:
    """What a raw socket received: IPv4 with its IP header, IPv6 without; None if it is cut off."""
    start = (packet[0] & 0x0F) * 4 if version == 4 and packet else 0
    if len(packet) < start + _TCP.size:
        return None
    source, destination, _, acknowledgment, _, flags, _, _, _ = _TCP.unpack_from(packet, start)
    return Segment(source, destination, acknowledgment, flags)


class Probes:
    """The account of probes and answers: what is an answer, and how long there was none."""

    __slots__ = (
        "_base",
        "_ports",
        "_server_port",
        "answered",
        "gap_ns",
        "last_ns",
        "refused",
        "sent",
    )

    def __init__(self, ports: Sequence[int], server_port: int, base: int) -> None:
        """Probes go from `ports` in turn; `base` is the first one's sequence number."""
        self._ports = ports
        self._server_port = server_port
        self._base = base
        self.sent = 0
        self.last_ns = 0
        self.begin()

    def begin(self) -> None:
        """Begin a phase: a gap that is on goes on, from its beginning."""
        self.answered = 0
        self.refused = 0
        self.gap_ns = 0

    def next(self) -> tuple[int, int]:
        """Source port and sequence number of the next probe, which counts as sent."""
        number = self.sent
        self.sent += 1
        return self._ports[number % len(self._ports)], (self._base + number) & _SEQUENCE_MASK

    def received(self, segment: Segment, now_ns: int) -> None:
        """Count a segment; whatever does not answer a probe of ours is passed over."""
        number = (segment.acknowledgment - 1 - self._base) & _SEQUENCE_MASK
        asked = number < self.sent and segment.source_port == self._server_port
        if not asked or self._ports[number % len(self._ports)] != segment.destination_port:
            return
        if segment.flags & RST:
            self.refused += 1
        elif segment.flags & (SYN | ACK) == SYN | ACK:
            self.answered += 1
            if self.last_ns:
                self.gap_ns = max(self.gap_ns, now_ns - self.last_ns)
            self.last_ns = now_ns

    def quiet_ns(self, now_ns: int) -> int:
        """How long no probe has been answered, until now."""
        return now_ns - self.last_ns


class ProbeRun:
    """The sockets of one run, and its loop."""

    def __init__(self, address: Address, port: int, interval_ms: float, ports: int) -> None:
        """Raises :class:`OSError` when there is no route, or no privilege for raw sockets."""
        self._address = address
        self._port = port
        self._interval_ns = int(interval_ms * NS_PER_MS)
        self._raw = _raw_socket(address)
        self._source = parse(self._raw.getsockname()[0])
        self._held = [_held_port(self._raw.family) for _ in range(ports)]
        numbers = [held.getsockname()[1] for held in self._held]
        self._probes = Probes(numbers, port, secrets.randbits(32))
        self._epoll = select.epoll()
        self._epoll.register(self._raw, select.EPOLLIN)
        self._due_ns = self._turn_ns = self._phase_ns = time.monotonic_ns()
        self._stall_ns = 0
        self._sent_before = 0
        self._phase = "start"

    def first_answer(self, timeout_s: float) -> bool:
        """Probe until the first answer; False when there is none in time."""
        end_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while not self._probes.answered and time.monotonic_ns() < end_ns:
            self._turn()
        self._begin("start")
        return self._probes.last_ns > 0

    def run(self, commands: Commands) -> None:
        """Probe until the `stop` command."""
        self._epoll.register(commands.fd, select.EPOLLIN)
        while True:
            if not self._turn():
                continue
            for command in commands.read():
                verb, _, name = command.partition(" ")
                if verb == "stop":
                    return
                if verb in ("phase", "report"):
                    emit(verb, **self.report())
                if verb == "phase":
                    self._begin(name)

    def report(self) -> dict[str, Any]:
        """The figures of this phase."""
        now_ns = time.monotonic_ns()
        quiet_ns = self._probes.quiet_ns(now_ns)
        return {
            "phase": self._phase,
            "seconds": round((now_ns - self._phase_ns) / 1e9, 3),
            "sent": self._probes.sent - self._sent_before,
            "answered": self._probes.answered,
            "refused": self._probes.refused,
            "max_gap_ms": round(max(self._probes.gap_ns, quiet_ns) / NS_PER_MS, 1),
            "quiet_ms": round(quiet_ns / NS_PER_MS, 1),
            "own_stall_ms": round(self._stall_ns / NS_PER_MS, 1),
        }

    def _begin(self, phase: str) -> None:
        self._phase, self._phase_ns = phase, time.monotonic_ns()
        self._stall_ns = 0
        self._sent_before = self._probes.sent
        self._probes.begin()

    def _turn(self) -> bool:
        """Wait for answers until a probe is due, and send it; True when a command has come in."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._due_ns:
            self._stall_ns = max(self._stall_ns, now_ns - self._due_ns)
            self._due_ns = max(self._due_ns + self._interval_ns, now_ns)
            self._send()
        wait_s = max(self._due_ns - time.monotonic_ns(), 0) / 1e9
        ready = [fd for fd, _ in self._epoll.poll(wait_s)]
        raw = self._raw.fileno()
        if raw in ready:
            self._receive()
        return any(fd != raw for fd in ready)

    def _send(self) -> None:
        source_port, sequence = self._probes.next()
        segment = syn(self._source, self._address, (source_port, self._port), sequence)
        try:
            self._raw.send(segment)
        except OSError as error:  # the neighbour has not been found: such a probe is lost
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN, errno.ENOBUFS):
                raise

    def _receive(self) -> None:
        for _ in range(READS_PER_TURN):
            try:
                packet = self._raw.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                continue
            segment = read_segment(packet, self._address.version)
            if segment is not None:
                self._probes.received(segment, time.monotonic_ns())


def _raw_socket(address: Address) -> socket.socket:
    """A socket for TCP segments to and from `address`."""
    is_ip4 = isinstance(address, IPv4Address)
    family = socket.AF_INET if is_ip4 else socket.AF_INET6
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    code = b"".join(struct.pack("=HBBI", *row) for row in (_IP4_FILTER if is_ip4 else _IP6_FILTER))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    raw.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    if not is_ip4:
        raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _CHECKSUM_OFFSET)
    raw.setblocking(False)
    raw.connect((str(address), 0))
    return raw


def _held_port(family: socket.AddressFamily) -> socket.socket:
    """A port that no connection of this host gets: a probe's reset would hit it."""
    held = socket.socket(family, socket.SOCK_STREAM)
    held.bind(("", 0))
    return held


def main(argv: Sequence[str] | None = None) -> int:
    """Probe until `stop`; exit status 1 when the address does not answer at the beginning."""
    parser = argparse.ArgumentParser(prog="dvipad.lab.gap_probe", description=__doc__)
    parser.add_argument("address", type=parse)
    parser.add_argument("port", type=int)
    parser.add_argument("--interval-ms", type=float, default=5.0)
    parser.add_argument("--ports", type=int, default=DEFAULT_PORTS, help="probes use them in turn")
    parser.add_argument("--open-timeout-s", type=float, default=10.0, help="for the first answer")
    arguments = parser.parse_args(argv)
    if arguments.interval_ms <= 0 or not 1 <= arguments.ports <= MAX_PORTS:
        parser.error(f"the interval is above 0, ports are 1 to {MAX_PORTS}")
    prepare_process()
    run = ProbeRun(arguments.address, arguments.port, arguments.interval_ms, arguments.ports)
    answered = run.first_answer(arguments.open_timeout_s)
    emit("open" if answered else "failed", **run.report())
    if not answered:
        return 1
    run.run(Commands())
    emit("result", **run.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
