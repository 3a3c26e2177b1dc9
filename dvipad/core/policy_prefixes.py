"""Policies as the kernel's own choice can follow them: by the client's address alone.

A longest-prefix look-up replaces the walk through the rows. Subnets are nested or apart, never
half: so to each subnet that some row names belongs the first row that contains it, and the longest
subnet that holds an address answers what the walk would (docs/decisions/0023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from dvipad.config.model import Prefix
from dvipad.core.policy_rows import PolicyRow

BITS: Final = 128
MAPPED_BITS: Final = 96
MAPPED: Final = 0xFFFF << 32
"""IPv4 addresses lie behind ``::ffff:0:0/96`` (RFC 4291, 2.5.5.2)."""
UNSEEN: Final = -1
"""In place of a row: the first row that may fit looks at more, and is strict."""
NONE: Final = -2
"""In place of a row: no row is for the subnet."""

Subnet: TypeAlias = tuple[int, int]
"""Bits of an address of 128 bits, from the left, and how many of them count."""

EVERYBODY: Final[Subnet] = (0, 0)
ALL_IPV4: Final[Subnet] = (MAPPED, MAPPED_BITS)


def compile_prefixes(rows: Sequence[PolicyRow]) -> dict[Subnet, int]:
    """For each subnet the place of its row among `rows`, or `UNSEEN`, or `NONE`.

    `EVERYBODY` is among them: a look-up that finds nothing met a set that is gone.
    """
    four: dict[Subnet, int] = {}
    six: dict[Subnet, int] = {}
    for place, row in enumerate(rows):
        if row.unseen and not row.strict:
            continue
        for prefix in row.clients:
            (four if prefix.network.version == 4 else six).setdefault(_subnet(prefix), place)
        if not row.clients:
            four.setdefault(ALL_IPV4, place)
            six.setdefault(EVERYBODY, place)
    found = {each: place for each, place in _first(six).items() if not _is_ipv4(each)}
    found.setdefault(EVERYBODY, NONE)
    if any(found[each] != NONE for each in found.keys() & _AROUND_IPV4):
        found[ALL_IPV4] = NONE
    found |= _first(four)
    return {
        each: UNSEEN if place >= 0 and rows[place].unseen else place
        for each, place in found.items()
    }


def _subnet(prefix: Prefix) -> Subnet:
    """`prefix` among addresses of 128 bits."""
    value, length = int(prefix.network), prefix.length
    if prefix.network.version == 4:
        value, length = value | MAPPED, length + MAPPED_BITS
    return _wider((value, BITS), min(length, BITS))


def _wider(subnet: Subnet, length: int) -> Subnet:
    free = BITS - length
    return subnet[0] >> free << free, length


_AROUND_IPV4: Final = frozenset(_wider(ALL_IPV4, length) for length in range(MAPPED_BITS))
"""Subnets of IPv6 that have all of IPv4 in them."""


def _is_ipv4(subnet: Subnet) -> bool:
    return subnet[1] >= MAPPED_BITS and _wider(subnet, MAPPED_BITS) == ALL_IPV4


def _first(places: Mapping[Subnet, int]) -> dict[Subnet, int]:
    """Of each subnet the first place that it or a wider one has."""
    lengths = sorted({length for _, length in places})
    return {
        each: min(
            places[wider]
            for length in lengths
            if length <= each[1] and (wider := _wider(each, length)) in places
        )
        for each in places
    }
