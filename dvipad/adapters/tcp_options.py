"""Options of the mesh's TCP sockets: small messages leave at once, and are repeated soon.

The kernel waits at least 200 ms before it sends again what was lost, and twice as long each time.
That suits bulk data on the internet; messages of a move on a LAN wait for nothing. Kernels since
6.15 let a socket choose; an older one keeps its own times, and the heartbeats by UDP bridge them.
"""

from __future__ import annotations

import contextlib
import socket
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


def tune(sock: socket.socket, timeout_ms: int) -> None:
    """Set the options; the kernel ends the connection when what was sent is not acknowledged for
    `timeout_ms`."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    for option, value in _WISHES:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
