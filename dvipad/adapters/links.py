"""What happens to the uplinks that cannot wait for the next look at them.

Linux forgets the neighbours of a link that loses its carrier. Whatever is sent meanwhile asks for
them into a dead link, and asks again a second later, however soon the link is back: a hundred
milliseconds without a cable are a second without heartbeats and tunnels. So questions that are
open are withdrawn when the carrier returns (rtnetlink(7)); the next packet asks again.

A TC filter or its qdisc that is taken off an uplink may be ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from socket import AF_NETLINK, SOCK_NONBLOCK, SOCK_RAW, if_nametoindex, socket
from typing import Final

from dvipad.adapters.bpf.rtnetlink import split

AGAIN_S: Final = (0.0, 0.04, 0.1, 0.2, 0.4)
"""Times after the carrier's return: the other end of the cable may need a moment, too."""
_MAX_READ: Final = 1024
"""Messages that are read at once."""
_BUFFER_BYTES: Final = 1 << 16
_NETLINK_ROUTE: Final = 0
_RTMGRP_LINK: Final = 1
_RTMGRP_TC: Final = 8
_RTM_NEWLINK: Final = 16
_RTM_NEWNEIGH: Final = 28
_RTM_DELNEIGH: Final = 29
_RTM_GETNEIGH: Final = 30
_RTM_DELQDISC: Final = 37
_RTM_DELTFILTER: Final = 45
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_IFF_LOWER_UP: Final = 0x10000
_NUD_INCOMPLETE: Final = 0x01
_NDA_DST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_TRAFFIC: Final = struct.Struct("=Bxxxi")
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")
_ATTRIBUTE: Final = struct.Struct("=HH")


class LinkWatcher:
    """Watches the carrier of `uplinks`; needs CAP_NET_ADMIN to do more than watch.

    `counters` counts `carrier_back`, `neighbours_asked_again` and `filters_removed`;
    `filters_removed` is called when a TC filter was taken off one of them.
    """

    def __init__(
        self,
        uplinks: Iterable[str],
        counters: Counter[str],
        filters_removed: Callable[[], object],
    ) -> None:
        self._filters_removed = filters_removed
        self._uplinks = tuple(uplinks)
        self._counters = counters
        self._carrier: dict[int, bool] = {}
        self._loop = asyncio.get_running_loop()
        self._events = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, _NETLINK_ROUTE)
        self._events.bind((0, _RTMGRP_LINK | _RTMGRP_TC))
        self._loop.add_reader(self._events.fileno(), self._readable)

    def close(self) -> None:
        """Watch no more."""
        self._loop.remove_reader(self._events.fileno())
        self._events.close()

    def _readable(self) -> None:
        indexes = self._indexes()
        for _ in range(_MAX_READ):
            try:
                data = self._events.recv(_BUFFER_BYTES)
            except OSError:
                return  # nothing is left, or events were lost: the next one says what is now
            for index, carrier in links(data):
                if index in indexes and carrier != self._carrier.get(index, True):
                    self._carrier[index] = carrier
                    if carrier:
                        self._back(index)
            if indexes.intersection(filters_removed(data)):
                self._counters["filters_removed"] += 1
                self._filters_removed()

    def _indexes(self) -> set[int]:
        found = set()
        for name in self._uplinks:
            with contextlib.suppress(OSError):
                found.add(if_nametoindex(name))
        self._carrier = {index: up for index, up in self._carrier.items() if index in found}
        return found

    def _back(self, index: int) -> None:
        self._counters["carrier_back"] += 1
        for delay_s in AGAIN_S:
            self._loop.call_later(delay_s, self._ask_again, index)

    def _ask_again(self, index: int) -> None:
        with contextlib.suppress(OSError), socket(AF_NETLINK, SOCK_RAW, _NETLINK_ROUTE) as sock:
            for family, address in tuple(_unanswered(sock, index)):
                self._counters["neighbours_asked_again"] += 1
                sock.send(withdrawal(family, index, address))


def links(data: bytes) -> Iterator[tuple[int, bool]]:
    """(index, whether it has a carrier) of each interface that a message of the kernel names."""
    for kind, _flags, body in split(data):
        if kind == _RTM_NEWLINK and len(body) >= _LINK.size:
            _, _, index, flags, _ = _LINK.unpack_from(body)
            yield index, bool(flags & _IFF_LOWER_UP)


def filters_removed(data: bytes) -> Iterator[int]:
    """Index of each interface that lost a TC filter or a queueing discipline."""
    for kind, _flags, body in split(data):
        if kind in (_RTM_DELTFILTER, _RTM_DELQDISC) and len(body) >= _TRAFFIC.size:
            yield _TRAFFIC.unpack_from(body)[1]


def withdrawal(family: int, index: int, address: bytes) -> bytes:
    """The message that makes the kernel forget a neighbour."""
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address), _NDA_DST) + address
    body = _NEIGHBOUR.pack(family, index, 0, 0, 0) + attribute
    return _HEADER.pack(_HEADER.size + len(body), _RTM_DELNEIGH, _NLM_F_REQUEST, 0, 0) + body


def neighbours_asked(data: bytes, index: int) -> Iterator[tuple[int, bytes]]:
    """(family, address) of the neighbours of an interface that have not answered yet."""
    for kind, _flags, body in split(data):
        if kind != _RTM_NEWNEIGH or len(body) < _NEIGHBOUR.size:
            continue
        family, at_index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        if at_index != index or not state & _NUD_INCOMPLETE:
            continue
        offset = _NEIGHBOUR.size
        while offset + _ATTRIBUTE.size <= len(body):
            length, kind_of = _ATTRIBUTE.unpack_from(body, offset)
            if kind_of == _NDA_DST:
                yield family, body[offset + _ATTRIBUTE.size : offset + length]
            offset += max(_ATTRIBUTE.size, (length + 3) & ~3)


def _unanswered(sock: socket, index: int) -> Iterator[tuple[int, bytes]]:
    body = _NEIGHBOUR.pack(0, 0, 0, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    sock.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETNEIGH, flags, 1, 0) + body)
    while True:
        data = sock.recv(_BUFFER_BYTES)
        yield from neighbours_asked(data, index)
        if any(kind in (_NLMSG_DONE, _NLMSG_ERROR) for kind, _flags, _body in split(data)):
            return
