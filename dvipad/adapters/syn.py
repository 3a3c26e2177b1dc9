"""A connection request as bytes: which connection it opens, and what policies see of it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.fingerprint import device_of
from dvipad.address import unpack
from dvipad.core.policy_rows import Request

_MAPPED: Final = bytes(10) + b"\xff\xff"
_IPV4: Final = struct.Struct("!BxH2xHxB2x4s4s")
_IPV6: Final = struct.Struct("!IHBx16s16s")
_TCP: Final = struct.Struct("!2s2s8xBB")
_TCP_BYTES: Final = 20
_FRAGMENT: Final = 0x3FFF
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_HOPS_LEFT: Final = {4: 8, 6: 7}
"""Where an IP header has them, by version."""


@dataclass(frozen=True, slots=True)
class Syn:
    """A connection request: its CRT key, DVIPA (16 bytes), port, IP version, whether all of
    the packet was copied, where its TCP header and its data start."""

    key: bytes
    dvipa: bytes
    port: int
    version: int
    whole: bool
    start: int
    data: int


def parse_syn(packet: bytes) -> Syn | None:
    """The connection request in an IPv4 or IPv6 `packet`; None when it is none, or malformed."""
    if len(packet) < _TCP_BYTES:
        return None
    version = packet[0] >> 4
    if version == 4:
        first, total, fragment, protocol, source, destination = _IPV4.unpack_from(packet)
        start = (first & 0x0F) * 4
        if start < 20 or fragment & _FRAGMENT:
            return None
        client, dvipa = _MAPPED + source, _MAPPED + destination
    elif version == 6 and len(packet) >= 40:
        _first, length, protocol, client, dvipa = _IPV6.unpack_from(packet)
        start, total = 40, 40 + length
    else:
        return None
    if protocol != socket.IPPROTO_TCP or len(packet) < start + _TCP_BYTES:
        return None
    client_port, dvipa_port, offset, flags = _TCP.unpack_from(packet, start)
    header = (offset >> 4) * 4
    if header < _TCP_BYTES or total < start + header:
        return None
    if flags & (_SYN | _ACK | _RST | _FIN) != _SYN:
        return None
    key = client + dvipa + client_port + dvipa_port
    port = int.from_bytes(dvipa_port, "big")
    return Syn(key, dvipa, port, version, len(packet) >= total, start, start + header)


def request_of(packet: bytes, syn: Syn, interface: Callable[[], str] | None) -> Request:
    """What policies see of the SYN in `packet`; `interface` names the one that it came in by. None:
    nobody looks closely."""
    traffic_class = packet[1] if syn.version == 4 else packet[0] << 4 & 0xF0 | packet[1] >> 4
    client = unpack(syn.key[:16])
    if interface is None:
        return Request(client, traffic_class >> 2)
    window = int.from_bytes(packet[syn.start + 14 : syn.start + 16], "big")
    options = packet[syn.start + _TCP_BYTES : syn.data]
    hops_left = packet[_HOPS_LEFT[syn.version]]
    device = device_of(hops_left, window, options)
    return Request(client, traffic_class >> 2, interface(), device)
