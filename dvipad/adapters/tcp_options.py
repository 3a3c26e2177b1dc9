"""Options of the mesh's TCP sockets: small messages leave at once, and are repeated soon.

The kernel waits at least 200 ms before it sends again what was lost, and twice as long each time.
That suits bulk data on the internet; messages of a move on a LAN wait for nothing. Kernels since
6.15 let a socket choose; an older one keeps its own times, and the heartbeats by UDP bridge them.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final

_TCP_THIN_LINEAR_TIMEOUTS: Final = 16
_TCP_RTO_MAX_MS: Final = 44
_TCP_RTO_MIN_US: Final = 45
_TCP_DELACK_MAX_US: Final = 46
_RTO_MIN_US: Final = 20_000
"""Added to the round-trip time; the peer's acknowledgement must not be later than that."""
_DELACK_MAX_US: Final = 8_000
_RTO_MAX_MS: Final = 1_000
"""The least that the kernel takes."""

_WISHES: Final = (
    (_TCP_THIN_LINEAR_TIMEOUTS, 1),
    (_TCP_RTO_MIN_US, _RTO_MIN_US),
    (_TCP_RTO_MAX_MS, _RTO_MAX_MS),
    (_TCP_DELACK_MAX_US, _DELACK_MAX_US),
)
"""Options (`linux/tcp.h`) that help where the kernel has them."""


_TCP_INFO_BYTES: Final = 152
_NO_RTT: Final = 0xFFFF_FFFF
_TOTAL_RETRANS: Final = 100
_MIN_RTT: Final = 148
"""Offsets in ``struct tcp_info`` (`linux/tcp.h`); 32 bits, a time in microseconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the kernel knows of a connection: the shortest round trip of the last five minutes,
    None before there was one, and the segments that were sent again."""

    round_trip_us: int | None
    retransmits: int


def measure(sock: socket.socket) -> Measured:
    """Ask the kernel about a connection; of one that has ended nothing is known."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (retransmits,) = struct.unpack_from("=I", info, _TOTAL_RETRANS)
        (round_trip_us,) = struct.unpack_from("=I", info, _MIN_RTT)
    except (OSError, struct.error):
        return Measured(None, 0)
    return Measured(None if round_trip_us >= _NO_RTT else round_trip_us, retransmits)


def tune(sock: socket.socket, timeout_ms: int) -> None:
    """Set the options; the kernel ends the connection when what was sent is not acknowledged for
    `timeout_ms`."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    for option, value in _WISHES:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
