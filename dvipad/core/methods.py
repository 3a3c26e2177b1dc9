"""Distribution methods: from targets and weights to a ring of turns (D6).

A ring is the whole method: the kernel's own choice and the queue worker take turns from it with
one cursor, so both distribute alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod

RING_MAX: Final = 256
"""Turns in a ring, at the most (the value of one service in the data plane)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A target that may get connections: `weight` from 1; `standby_rank` for HOTSTANDBY."""

    xcf: Address
    weight: int = 1
    standby_rank: int | None = None


def ring(method: DistMethod, choices: Sequence[Choice]) -> tuple[Address, ...]:
    """The turns of `choices`, at most `RING_MAX`; empty when there is no choice.

    HOTSTANDBY gives every turn to the choice of highest standby rank (ties: lowest address).
    Every other method takes turns by weight; equal weights are plain round robin. Methods that
    follow a measured workload weigh by what `weight` says.
    """
    ordered = sorted(choices, key=lambda choice: (choice.xcf.version, choice.xcf))
    if not ordered:
        return ()
    if method is DistMethod.HOTSTANDBY:
        best = max(ordered, key=lambda choice: choice.standby_rank or 0)
        return (best.xcf,)
    return _interleave(ordered, _turns([choice.weight for choice in ordered]))


def _turns(weights: Sequence[int]) -> list[int]:
    """Turns per cycle in the proportions of `weights`, their sum at most `RING_MAX`."""
    divisor = gcd(*weights)
    turns = [weight // divisor for weight in weights]
    total = sum(turns)
    if total <= RING_MAX:
        return turns
    return [max(1, turn * (RING_MAX - len(turns)) // total) for turn in turns]


def _interleave(choices: Sequence[Choice], turns: Sequence[int]) -> tuple[Address, ...]:
    """Smooth weighted round robin: each step the one that is furthest behind has its turn."""
    total = sum(turns)
    credit = [0] * len(turns)
    result: list[Address] = []
    for _ in range(total):
        credit = [have + turn for have, turn in zip(credit, turns, strict=True)]
        chosen = max(range(len(credit)), key=credit.__getitem__)
        credit[chosen] -= total
        result.append(choices[chosen].xcf)
    return tuple(result)
