"""Numbers, addresses and masks as users write them; every reader answers None for nonsense."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final

from dvipad.address import Address, parse

_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_NAME: Final = re.compile(r"[A-Z@#$_][A-Z0-9@#$_.-]{0,15}")

_FORBIDDEN: Final = tuple(
    (ip_network(text), what)
    for text, what in (
        ("0.0.0.0/8", "an unspecified address"),
        ("127.0.0.0/8", "a loopback address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a broadcast or reserved address"),
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
    )
)


def read_number(text: str, low: int, high: int) -> int | None:
    """The decimal number `text` when it lies in `low` to `high`."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text)
    return value if low <= value <= high else None


def is_number(text: str) -> bool:
    """Whether `text` consists of decimal digits."""
    return text.isascii() and text.isdigit()


def read_address(text: str) -> Address | None:
    """The IPv4 or IPv6 address that `text` spells, without a scope."""
    if "%" in text:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def read_ipv6_with_length(text: str) -> tuple[IPv6Address, int | None] | None:
    """``addr`` or ``addr/len`` of IPv6; the length is None when not given."""
    base, slash, tail = text.partition("/")
    address = read_address(base)
    if not isinstance(address, IPv6Address):
        return None
    if not slash:
        return address, None
    length = read_number(tail, 1, 128)
    return None if length is None else (address, length)


def read_mask(address: Address | None) -> int | None:
    """The prefix length (1-32) of an IPv4 mask; None when its ones are not in one row."""
    if not isinstance(address, IPv4Address):
        return None
    inverted = ~int(address) & 0xFFFFFFFF
    if inverted & (inverted + 1) or inverted == 0xFFFFFFFF:
        return None
    return 32 - inverted.bit_length()


def mask_text(prefix_length: int) -> str:
    """The IPv4 mask of a prefix length, as dotted decimal."""
    return str(IPv4Network((0, prefix_length)).netmask)


def network_of(address: Address, prefix_length: int) -> IPv4Network | IPv6Network:
    """The subnet with this prefix length that holds `address`."""
    if isinstance(address, IPv4Address):
        return IPv4Network((address, prefix_length), strict=False)
    return IPv6Network((address, prefix_length), strict=False)


def why_not_unicast(address: Address) -> str | None:
    """What `address` is when it cannot be the address of a host on a network; else None."""
    for network, what in _FORBIDDEN:
        if address.version == network.version and address in network:
            return what
    return None


def why_not_routable(network: IPv4Network | IPv6Network) -> str | None:
    """What `network` covers that can be no DVIPA; None when every address of it may be one."""
    for forbidden, what in _FORBIDDEN:
        if network.version == forbidden.version and _overlap(network, forbidden):
            return what
    return None


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.network_address in other or other.network_address in one


def why_not_host(address: Address, prefix_length: int) -> str | None:
    """What `address` is in its IPv4 subnet when no host can have it; else None."""
    if not isinstance(address, IPv4Address) or prefix_length > 30:
        return None
    subnet = IPv4Network((address, prefix_length), strict=False)
    if address == subnet.network_address:
        return f"the network address of {subnet}"
    if address == subnet.broadcast_address:
        return f"the broadcast address of {subnet}"
    return None


def read_name(text: str) -> str | None:
    """An IPv6 interface name (`intfname`, at most 16 characters), folded to upper case."""
    folded = text.upper()
    return folded if text.isascii() and _NAME.fullmatch(folded) else None


def looks_like_address(text: str) -> bool:
    """Whether `text` was meant as an address or a mask rather than as a word."""
    return ":" in text or "/" in text or (text[:1].isdigit() and "." in text)
