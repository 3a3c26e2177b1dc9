"""Policies as the kernel's own choice can follow them: by the client's address alone.

A longest-prefix look-up replaces the walk through the rows. Subnets are nested or apart, never
half: so to each subnet that some row names belongs the first row that contains it, and the longest
subnet that holds an address answers what the walk would (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from dvipad.config.model import Prefix
from dvipad.core.policy import PolicyRow

BITS: Final = 128
MAPPED: Final = 0xFFFF << 32
"""IPv4 addresses lie behind ``::ffff:0:0/96`` (RFC 4291, 2.5.5.2)."""
UNSEEN: Final = -1
"""In place of a row: the first row that may fit looks at more, and is strict."""

Subnet: TypeAlias = tuple[int, int]
"""Bits of an address of 128 bits, from the left, and how many of them count."""


def subnet(prefix: Prefix) -> Subnet:
    """`prefix` among addresses of 128 bits."""
    value, length = int(prefix.network), prefix.length
    if prefix.network.version == 4:
        value, length = value | MAPPED, length + BITS - 32
    length = min(length, BITS)
    return _cut(value, length), length


def _cut(value: int, length: int) -> int:
    free = BITS - length
    return value >> free << free


def compile_prefixes(rows: Sequence[PolicyRow]) -> dict[Subnet, int]:
    """For each subnet the place of its row among `rows`, or `UNSEEN`.

    An address in none of the subnets belongs to no policy.
    """
    places: dict[Subnet, int] = {}
    for place, row in enumerate(rows):
        if row.unseen and not row.strict:
            continue
        for each in _subnets(row):
            places.setdefault(each, place)
    lengths = sorted({length for _, length in places})
    found: dict[Subnet, int] = {}
    for value, length in places:
        wider = ((_cut(value, shorter), shorter) for shorter in lengths if shorter <= length)
        place = min(places[each] for each in wider if each in places)
        found[value, length] = UNSEEN if rows[place].unseen else place
    return found


def _subnets(row: PolicyRow) -> Iterable[Subnet]:
    return map(subnet, row.clients) if row.clients else ((0, 0),)
