"""UDP sockets of the mesh: one on the mesh's own address and port, others only to send.

Nothing here may fail: a datagram that cannot be sent or read is counted and forgotten, TCP's
heartbeats go on.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from dvipad.wire.datagram import MAX_DATAGRAM
from dvipad.wire.messages import Member
from dvipad.wire.redial import Endpoint

MAX_DRAINED: Final = 1024
"""Datagrams that are read at once; the rest waits for the next turn of the loop."""
BUFFER_BYTES: Final = 1 << 20
"""Of the kernel's queue: what 128 peers send while this node is late for a quarter second."""
MAX_PLACES: Final = 256
"""Peers' addresses that are kept as the socket wants them."""
_SO_RCVBUFFORCE: Final = 33
"""`asm-generic/socket.h`; needs CAP_NET_ADMIN, and is not bounded by `net.core.rmem_max`."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class Datagrams:
    """`receive` gets each datagram; `counters` counts what could not be sent (`udp_failed`)."""

    def __init__(
        self, local: Member, receive: Callable[[bytes], None], counters: Counter[str]
    ) -> None:
        self._local = local
        self._receive = receive
        self._counters = counters
        self._sockets: dict[int, socket.socket] = {}

    def open(self) -> None:
        """Bind the mesh's port. Raises ``OSError`` when that cannot be."""
        version = self._local.xcf.version
        sock = _open(version)
        try:
            sock.bind((str(self._local.xcf), self._local.port))
        except OSError:
            sock.close()
            raise
        for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._sockets[version] = sock

    def drain(self) -> None:
        """Read what has come, at most `MAX_DRAINED`; nothing when closed."""
        sock = self._sockets.get(self._local.xcf.version)
        if sock is None:
            return
        for _ in range(MAX_DRAINED):
            try:
                # One byte more than a valid one may have: a longer one shows.
                data = sock.recv(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:
                self._counters["udp_failed"] += 1
                return
            self._receive(data)

    def send(self, endpoint: Endpoint, data: bytes) -> None:
        """Send, or count that it could not be: no route, a local firewall, a full queue."""
        version = endpoint.address.version
        if version not in self._sockets:
            # A peer of the other family: the kernel chooses the address, the token tells who.
            self._sockets[version] = _open(version)
        try:
            self._sockets[version].sendto(data, _place(endpoint))
        except OSError:
            self._counters["udp_failed"] += 1

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()


@lru_cache(MAX_PLACES)
def _place(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


def _open(version: int) -> socket.socket:
    return socket.socket(
        _FAMILIES[version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
