"""The RST that refuses a connection request (RFC 9293, 3.10.7.1), as the eBPF program sends it."""

from __future__ import annotations

import socket
import struct
from typing import Final

from dvipad.adapters.syn import Syn
from dvipad.address import unpack

_HOPS: Final = 64
_RST_ACK: Final = 0x14
_SO_MARK: Final = 36
_TCP: Final = struct.Struct("!2s2sIIBBHHH")
_PSEUDO: Final = struct.Struct("!II")
_DONT_FRAGMENT: Final = 0x4000
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_WORD: Final = 0xFFFF_FFFF


def reset_of(packet: bytes, syn: Syn) -> bytes:
    """The IP packet that answers the SYN in `packet`."""
    client, dvipa = unpack(syn.key[:16]).packed, unpack(syn.dvipa).packed
    (sequence,) = struct.unpack_from("!I", packet, syn.start + 4)
    acknowledged = (sequence + 1 + len(packet) - syn.data) & _WORD
    ports = (syn.key[34:36], syn.key[32:34])
    fields = (0, acknowledged, _TCP.size << 2, _RST_ACK, 0)
    pseudo = dvipa + client + _PSEUDO.pack(_TCP.size, socket.IPPROTO_TCP)
    check = _checksum(pseudo + _TCP.pack(*ports, *fields, 0, 0))
    segment = _TCP.pack(*ports, *fields, check, 0)
    if syn.version == 6:
        start = struct.pack("!IHBB", 6 << 28, len(segment), socket.IPPROTO_TCP, _HOPS)
        return start + dvipa + client + segment
    facts = (0x45, 0, 20 + len(segment), 0, _DONT_FRAGMENT, _HOPS, socket.IPPROTO_TCP)
    header = struct.pack("!BBHHHBBH4s4s", *facts, 0, dvipa, client)
    check = _checksum(header)
    return struct.pack("!BBHHHBBH4s4s", *facts, check, dvipa, client) + segment


def _checksum(data: bytes) -> int:
    """Of the Internet (RFC 1071); `data` is even."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Refuser:
    """Sends RSTs with the mark `mark`, by which our programs know that a policy wants them."""

    def __init__(self, mark: int) -> None:
        self._sockets = {version: _raw(family, mark) for version, family in _FAMILIES.items()}

    def refuse(self, packet: bytes, syn: Syn) -> None:
        """Answers the SYN in `packet`; raises ``OSError``."""
        address = str(unpack(syn.key[:16]))
        self._sockets[syn.version].sendto(reset_of(packet, syn), (address, 0))


def _raw(family: socket.AddressFamily, mark: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
    return made
