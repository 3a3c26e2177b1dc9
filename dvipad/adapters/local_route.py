"""Waits until the kernel delivers packets for an IPv6 address that was just given to it.

It answers the request for the address first and makes the local route for it afterwards, in a
work queue (``addrconf_dad_work``), even when no duplicate is to be looked for. In between, packets
for the address and connections from this node are refused: "Network is unreachable".
"""

from __future__ import annotations

import select
import struct
import sys
import time
from typing import Final

from dvipad.adapters.bpf.rtnetlink import attributes, open_netlink, split
from dvipad.address import Address

_GROUP_IPV6_ROUTE: Final = 0x400
_NEWROUTE: Final = 24
_TYPE_LOCAL: Final = 2
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_DESTINATION: Final = 1
_INTERFACE: Final = 4
_READ_BYTES: Final = 1 << 16


class LocalRoute:
    """Hears of the local route for `dvipa` over the interface `index` from when it is entered."""

    def __init__(self, dvipa: Address, index: int) -> None:
        self._destination = dvipa.packed
        self._index = index
        self._netlink = open_netlink()

    def __enter__(self) -> LocalRoute:
        self._netlink.setblocking(False)
        self._netlink.bind((0, _GROUP_IPV6_ROUTE))
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def wait(self, timeout_s: float) -> bool:
        """Whether the route came within `timeout_s`; one that was there before does not come."""
        poll = select.poll()
        poll.register(self._netlink, select.POLLIN)
        ends = time.monotonic() + timeout_s
        while (left := ends - time.monotonic()) > 0 and poll.poll(left * 1000):
            try:
                data = self._netlink.recv(_READ_BYTES)
            except OSError:
                return False  # more than the socket holds: what was lost is not known
            if self._is_in(data):
                return True
        return False

    def _is_in(self, data: bytes) -> bool:
        for kind, _flags, body in split(data):
            if kind != _NEWROUTE or len(body) < _ROUTE.size:
                continue
            found = attributes(body[_ROUTE.size :])
            if (
                _ROUTE.unpack_from(body)[7] == _TYPE_LOCAL
                and found.get(_DESTINATION) == self._destination
                and int.from_bytes(found.get(_INTERFACE, b""), sys.byteorder) == self._index
            ):
                return True
        return False
