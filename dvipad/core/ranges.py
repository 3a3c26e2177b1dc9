"""VIPARANGE: who may activate an address, and what happens when it is active already (D10).

The table is the one of z/OS ("Dynamic VIPA creation results"): the first activation against the
second, which is the same method or the other one, on the same node or elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Final

from dvipad.address import Address
from dvipad.config.model import Moveable, Range
from dvipad.wire.messages import Origin

SUMMONS_RANK: Final = 3
"""Rank of a node that asks for an address of a range now: nobody takes it in between."""
RANGE_RANK: Final = 2
"""Rank of a node where an application or a command wants an address of a range."""
LEFT_RANK: Final = 1
"""Rank of a node where none does any more, and connections to the address live."""
RANGED: Final = frozenset({Origin.BIND, Origin.IOCTL})
"""Origins that a VIPARANGE allows."""


class Code(Enum):
    """Results of MODDVIPA, which are exit codes of `dvipactl vipa`."""

    DONE = 0
    USABLE = 4
    REFUSED = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an activation, or a deletion, goes on; `reason` when it does not."""

    code: Code
    reason: str = ""


class Rule(Enum):
    """What the second activation on another node does."""

    MOVES = "moves"
    MOVES_NONDISRUPTIVE = "moves if the range is NONDISRUPTIVE"
    REFUSED = "refused"


ELSEWHERE: Final = {
    (Origin.BIND, Origin.BIND): Rule.MOVES_NONDISRUPTIVE,
    (Origin.BIND, Origin.IOCTL): Rule.MOVES,
    (Origin.IOCTL, Origin.BIND): Rule.REFUSED,
    (Origin.IOCTL, Origin.IOCTL): Rule.MOVES,
}
"""(first, second) where the first is on another node; on the same node it is usable as it is."""


def covering(ranges: Iterable[Range], dvipa: Address) -> Range | None:
    """The most specific range that has `dvipa`, or None."""
    found = [row for row in ranges if dvipa in ip_network((row.network, row.prefix_length), False)]
    return max(found, key=lambda row: row.prefix_length, default=None)


def second(first: Origin, moveable: Moveable, name: str, origin: Origin) -> Verdict:
    """Whether an address that node `name` has moves to where `origin` asks for it.

    `first`, `moveable`: how `name` came to it, and when it may leave.
    """
    match ELSEWHERE.get((first, origin)):
        case Rule.MOVES:
            return Verdict(Code.DONE)
        case Rule.MOVES_NONDISRUPTIVE if moveable is Moveable.NONDISRUPTIVE:
            return Verdict(Code.DONE)
        case Rule.MOVES_NONDISRUPTIVE:
            why = "its range is DISRUPTIVE"
        case Rule.REFUSED | None:
            why = f"a {origin.value} does not take a {first.value} away"
    return Verdict(Code.REFUSED, f"{name} has it by {first.value}, and {why}")
