"""The frames that the box in the middle gets: of a connection that exists, and first packets."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

from dvipad.address import pack

CLIENT: Final = IPv4Address("192.0.2.2")
BOX: Final = IPv4Address("192.0.2.1")
BOX_INSIDE: Final = IPv4Address("198.18.0.1")
SERVER: Final = IPv4Address("198.18.0.2")
DVIPA: Final = IPv4Address("203.0.113.1")
PORT: Final = 80
CLIENT_PORT: Final = 40_000
MACS: Final = {"a0": 0x0A, "d0": 0x0D, "d1": 0x1D, "b0": 0x0B}
"""Device → last byte of its link-layer address."""

ACK: Final = 0x10
PSH: Final = 0x08
SYN: Final = 0x02
FIN: Final = 0x01
_ETHERNET: Final = 14
_HEADERS: Final = _ETHERNET + 40
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_TCP: Final = struct.Struct("!HHIIBBHHH")


def mac(device: str) -> bytes:
    """Link-layer address of a device."""
    return bytes([2, 0, 0, 0, 0, MACS[device]])


def key(port: int = CLIENT_PORT) -> bytes:
    """The CRT key of a connection."""
    return pack(CLIENT) + pack(DVIPA) + struct.pack("!HH", port, PORT)


def frame(flags: int, size: int, port: int = CLIENT_PORT) -> bytes:
    """A frame of `size` bytes from the client to the DVIPA, with right checksums."""
    payload = bytes(size - _HEADERS)
    tcp = _TCP.pack(port, PORT, 1, 0 if flags & SYN else 1, 5 << 4, flags, 0xFFFF, 0, 0)
    pseudo = CLIENT.packed + DVIPA.packed + struct.pack("!BBH", 0, 6, len(tcp) + len(payload))
    check = _checksum(pseudo + tcp + payload)
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    header = _IPV4.pack(0x45, 0, size - _ETHERNET, 1, 0x4000, 64, 6, 0, CLIENT.packed, DVIPA.packed)
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return mac("d0") + mac("a0") + b"\x08\x00" + header + tcp + payload


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return int(~(total + (total >> 16)) & 0xFFFF)


def file_of(frames: list[bytes]) -> bytes:
    """As `sender` reads them."""
    return b"".join(struct.pack("=H", len(each)) + each for each in frames)
