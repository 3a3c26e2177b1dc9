"""The addresses of this network namespace, as rtnetlink(7) lists them.

The daemon compares them with its DVIPAs once a second: with pyroute2, which makes an object of
every attribute, a list of 1,000 takes a tenth of a second.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, socket
from typing import Final

from dvipad.adapters.bpf.rtnetlink import DUMP, attributes, open_netlink, request, split
from dvipad.address import Address

TRIES: Final = 5
"""A list during which something changed may lack something else: it is asked for again."""
_READ_BYTES: Final = 1 << 17
_GETADDR: Final = 22
_ERROR: Final = 2
_DONE: Final = 3
_INTERRUPTED: Final = 0x10
_ADDRESS: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_RT_PRIORITY: Final = 9
_IFA_PROTO: Final = 11


@dataclass(frozen=True, slots=True)
class Listed:
    """An address of the interface `index`; `protocol`: its ``IFA_PROTO``, and `metric`: its
    ``IFA_RT_PRIORITY``, 0 without one."""

    address: Address
    index: int
    protocol: int
    metric: int


def addresses(protocol: int) -> list[Listed]:
    """All addresses of both families that have this protocol.

    Raises ``OSError``, with ``EINTR`` when they change so often that no list is whole.
    """
    return [row for family in (AF_INET, AF_INET6) for row in _whole(family, protocol)]


def _whole(family: int, protocol: int) -> list[Listed]:
    question = request(_GETADDR, DUMP, _ADDRESS.pack(family, 0, 0, 0, 0))
    for _ in range(TRIES):
        with open_netlink() as netlink:  # what is left of a list that was no good goes with it
            netlink.send(question)
            payloads = _dump(netlink)
        if payloads is not None:
            return [row for row in map(parse, payloads) if row.protocol == protocol]
    raise OSError(errno.EINTR, os.strerror(errno.EINTR))


def _dump(netlink: socket) -> list[bytes] | None:
    """The messages of a list; None: something changed while the kernel made it."""
    payloads: list[bytes] = []
    whole = True
    while True:
        for kind, flags, payload in split(netlink.recv(_READ_BYTES)):
            whole = whole and not flags & _INTERRUPTED
            if kind == _DONE:
                return payloads if whole else None
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", payload)
                raise OSError(-number, os.strerror(-number))
            payloads.append(payload)


def parse(payload: bytes) -> Listed:
    """One ``struct ifaddrmsg`` with its attributes."""
    index = _ADDRESS.unpack_from(payload)[4]
    found = attributes(payload[_ADDRESS.size :])
    address = ip_address(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS])
    protocol = found.get(_IFA_PROTO, b"\0")[0]
    metric = int.from_bytes(found.get(_IFA_RT_PRIORITY, b""), sys.byteorder)
    return Listed(address, index, protocol, metric)
