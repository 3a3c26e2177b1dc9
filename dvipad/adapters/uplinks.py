"""Whether uplinks work, whether a route leads over them, and who their neighbours are.

Read from the kernel (netdevice(7), rtnetlink(7)) when it says that something changed. A host may
have a million routes: the kernel is asked until the first that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6, AF_NETLINK, SOCK_NONBLOCK, SOCK_RAW
from typing import Final

from dvipad.adapters.bpf.rtnetlink import DUMP, attributes, messages, open_netlink, request
from dvipad.address import Address

_BUFFER_BYTES: Final = 1 << 16
_MAX_READ: Final = 1024
_NETLINK_ROUTE: Final = 0
_GROUPS: Final = 0x1 | 0x40 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE."""
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_RTM_NEWNEIGH: Final = 28
_RTM_GETNEIGH: Final = 30
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP_RUNNING: Final = 0x41
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")
_NEXT_HOP: Final = struct.Struct("=HBBi")
_DESTINATION, _INTERFACE, _MULTIPATH, _NEXT_HOP_ID = 1, 4, 9, 30
_NEIGHBOUR_ADDRESS, _NEIGHBOUR_MAC = 1, 2
_UNICAST: Final = 1
_TABLE_LOCAL: Final = 255
_UNUSABLE: Final = 0x1 | 0x10
"""RTNH_F_DEAD, RTNH_F_LINKDOWN."""
_LINK_LOCAL: Final = (
    ip_network("169.254.0.0/16"),
    ip_network("fe80::/10"),
    ip_network("ff00::/8"),
)


def works(uplink: str) -> bool:
    """Whether the interface exists, is up, and its operational state is up (or unknown)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16sH22x", uplink.encode(), 0))
        except OSError:
            return False
    (flags,) = struct.unpack_from("H", answer, 16)
    return bool(flags & _IFF_UP_RUNNING == _IFF_UP_RUNNING)


def routed(uplinks: Collection[str]) -> bool:
    """Whether a unicast route beyond link-local ones leads over one of `uplinks`."""
    indexes = set()
    for name in uplinks:
        try:
            indexes.add(socket.if_nametoindex(name))
        except OSError:
            continue
    return any(
        leads_over(body, indexes)
        for family in (AF_INET, AF_INET6)
        for body in _dump(_RTM_GETROUTE, _RTM_NEWROUTE, _ROUTE.pack(family, *[0] * 8))
    )


def neighbour_macs(addresses: Collection[Address]) -> dict[bytes, Address]:
    """Link-layer addresses of those of `addresses` that are neighbours."""
    wanted = {address.packed: address for address in addresses}
    found = {}
    for body in _dump(_RTM_GETNEIGH, _RTM_NEWNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0)):
        said = attributes(body[_NEIGHBOUR.size :])
        address = wanted.get(said.get(_NEIGHBOUR_ADDRESS, b""))
        if address is not None and _NEIGHBOUR_MAC in said:
            found[said[_NEIGHBOUR_MAC]] = address
    return found


def leads_over(body: bytes, indexes: Collection[int]) -> bool:
    """Whether a route (the body of RTM_NEWROUTE) counts, and leads over one of the interfaces.

    One whose next hop is an object that the kernel does not spell out is believed to.
    """
    if len(body) < _ROUTE.size:
        return False
    family, length, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(body)
    if kind != _UNICAST or table == _TABLE_LOCAL or flags & _UNUSABLE:
        return False
    said = attributes(body[_ROUTE.size :])
    destination = said.get(_DESTINATION)
    if destination is not None and length > 0 and family in (AF_INET, AF_INET6):
        address = ip_address(destination)
        if any(address in network for network in _LINK_LOCAL):
            return False
    if _INTERFACE in said:
        return int.from_bytes(said[_INTERFACE], sys.byteorder) in indexes
    hops = list(_next_hops(said.get(_MULTIPATH, b"")))
    return any(hop in indexes for hop in hops) or (not hops and _NEXT_HOP_ID in said)


def _next_hops(data: bytes) -> Iterator[int]:
    """Interfaces of the usable next hops of a route with several."""
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, flags, _, index = _NEXT_HOP.unpack_from(data, offset)
        if not flags & _UNUSABLE:
            yield index
        offset += max(_NEXT_HOP.size, (length + 3) & ~3)


def _dump(ask: int, answer: int, question: bytes) -> Iterator[bytes]:
    """Bodies of the kernel's answers; who stops early costs the kernel no more."""
    # A family that the kernel lacks has no routes and no neighbours.
    with open_netlink() as asking, contextlib.suppress(OSError):
        for kind, body in messages(asking, request(ask, DUMP, question)):
            if kind == answer:
                yield body


class Changes:
    """Says when a link or a route changes; what it is now must be asked for."""

    def __init__(self) -> None:
        self._socket = socket.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, _NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._socket.fileno()

    def drain(self, more: Callable[[], None]) -> None:
        """Forget what has come, and call `more` once if there was something."""
        came = False
        for _ in range(_MAX_READ):
            try:
                self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                break
            except OSError:
                came = True  # events were lost: something changed, too
                break
            came = True
        if came:
            more()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
