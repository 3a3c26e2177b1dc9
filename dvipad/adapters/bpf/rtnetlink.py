"""Messages of rtnetlink(7).

Raw sockets: a handful of one-shot questions and changes. pyroute2 has an object for every
attribute of all of rtnetlink, which costs a sixth of a second of a daemon's start, during which a
distributor that is restarted decides nothing.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

ACK: Final = 4
REPLACE: Final = 0x100
CREATE: Final = 0x400
EXCLUSIVE: Final = 0x200
DUMP: Final = 0x300
_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")


def open_netlink() -> socket.socket:
    """A socket for questions about, and changes of, this network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, payload) of each message in what was received at once."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, _sequence, _pid = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def messages(netlink: socket.socket, question: bytes) -> Iterator[tuple[int, bytes]]:
    """Sends one request and yields the answers: message type and payload.

    Raises ``OSError`` with what the kernel objects to.
    """
    netlink.send(question)
    dump = struct.unpack_from("=H", question, 6)[0] & DUMP == DUMP
    while True:
        for kind, _flags, payload in split(netlink.recv(1 << 17)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", payload)
                if number == 0:
                    return  # it is done, as asked for by ACK
                raise OSError(-number, os.strerror(-number))
            yield kind, payload
        if not dump:
            return


def change(netlink: socket.socket, kind: int, flags: int, payload: bytes) -> None:
    """Has the kernel do something, waits until it is done, and raises ``OSError`` if it is not."""
    for _answer in messages(netlink, request(kind, ACK | flags, payload)):
        pass


def request(kind: int, flags: int, payload: bytes) -> bytes:
    """A message to the kernel."""
    header = _HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | flags, 1, 0)
    return header + payload


def attribute(kind: int, data: bytes) -> bytes:
    """An attribute of a message, padded."""
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(-length % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes at the end of a message, by kind."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found
