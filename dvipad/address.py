"""IP addresses as values: IPv4 and IPv6 alike, in one 16-byte form where bytes are needed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_MAPPED = bytes(10) + b"\xff\xff"


def pack(address: Address) -> bytes:
    """The 16 bytes of an address; IPv4 in its mapped form ``::ffff:a.b.c.d`` (RFC 4291, 2.5.5.2).

    This is the form of every address in the eBPF maps and in NEWCONN and TERMCONN batches.
    """
    return _MAPPED + address.packed if address.version == 4 else address.packed


def unpack(data: bytes) -> Address:
    """The address that :func:`pack` made `data` (16 bytes) of.

    Raises ``ValueError`` when `data` is not 16 bytes long.
    """
    if len(data) != 16:
        raise ValueError(f"an address has 16 bytes, not {len(data)}")
    if data[:12] == _MAPPED:
        return IPv4Address(data[12:])
    return IPv6Address(data)


def parse(text: str) -> Address:
    """The address that `text` spells; raises ``ValueError`` for anything else."""
    return ip_address(text)


def order(address: Address) -> tuple[int, bytes]:
    """Sorts addresses of both families: IPv4 before IPv6, by value."""
    return address.version, address.packed
