"""Distribution methods: from targets and weights to a ring of turns (D6).

A ring is nearly the whole method: the kernel's own choice and the queue worker take turns from it
with one cursor, so both distribute alike. Methods that are `BALANCED` look at active connections
first, by a rule that both know (`lightest`, ``weigh_nth`` of ``bpf/choose.h``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final, TypeAlias, TypeVar

from dvipad.address import Address
from dvipad.config.model import DistMethod

Ring: TypeAlias = tuple[Address, ...]
"""XCF addresses in the order of their turns."""
RING_MAX: Final = 256
"""Turns in a ring, at the most (the value of one service in the data plane)."""
BALANCED: Final = frozenset({DistMethod.WEIGHTEDACTIVE, DistMethod.LEASTCONN})
"""Methods by which the active connections of the targets count, not their turns."""
BALANCED_MAX: Final = RING_MAX // 2
"""So many targets are balanced, at the most; behind their turns there must be room for as many
shares. More take turns."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """A target that may get connections.

    `weight` 0: none, while another one has more. `standby_rank`: for HOTSTANDBY, as is `fit`:
    False for one that is not well.
    """

    xcf: Address
    weight: int = 1
    standby_rank: int | None = None
    fit: bool = True


def ring(method: DistMethod, choices: Sequence[Choice], stay: Address | None = None) -> Ring:
    """The turns of `choices`, at most `RING_MAX`; empty when there is no choice.

    HOTSTANDBY gives every turn to one choice: of those that are fit, else of all, `stay` if it is
    one of them, else the one of highest standby rank (ties: lowest address). Every other method
    takes turns by weight; equal weights are plain round robin, also when all are 0. LEASTCONN
    does not look at weights but for 0.
    """
    ordered = sorted(choices, key=lambda choice: (choice.xcf.version, choice.xcf))
    if not ordered:
        return ()
    if method is DistMethod.HOTSTANDBY:
        able = [choice for choice in ordered if choice.fit] or ordered
        best = max(able, key=lambda choice: (choice.xcf == stay, choice.standby_rank or 0))
        return (best.xcf,)
    willing = [choice for choice in ordered if choice.weight > 0]
    weights = [choice.weight for choice in willing] or [1] * len(ordered)
    if method is DistMethod.LEASTCONN:
        weights = [1] * len(weights)
    balanced = method in BALANCED and len(weights) <= BALANCED_MAX
    room = BALANCED_MAX if balanced else RING_MAX
    return _interleave(willing or ordered, _turns(weights, room))


def lightest(
    shares: Sequence[tuple[T, int]], active: Callable[[T], int], turn: T, position: int
) -> T:
    """Who gets the next connection: of `shares`, targets and their weights, the one with the fewest
    `active` connections for its weight.

    Of equals it is the one whose `turn` it is, else the first from `position` on.
    """
    best, best_active, best_weight = turn, 1, 0  # heavier than any
    for n in range(len(shares)):
        target, weight = shares[(position + n) % len(shares)]
        own = active(target)
        if own * best_weight < best_active * weight + (target == turn):
            best, best_active, best_weight = target, own, weight
    return best


def comparable(figures: Sequence[tuple[int, int] | None]) -> list[int]:
    """Weights in the proportion of what nodes have to spare, of (weight, capacity) of each.

    The same weight of half the capacity is half the weight; a weight that is not 0 does not
    become 0. One of which nothing is known (None) gets what the others have on average.
    """
    largest = max((capacity for figure in figures if figure for capacity in figure[1:]), default=1)
    scaled = [
        None if figure is None else max(min(figure[0], 1), round(figure[0] * figure[1] / largest))
        for figure in figures
    ]
    known = [weight for weight in scaled if weight is not None]
    average = max(1, round(sum(known) / len(known))) if known else 1
    return [average if weight is None else weight for weight in scaled]


def _turns(weights: Sequence[int], room: int) -> list[int]:
    """Turns per cycle in the proportions of `weights`, their sum at most `room`."""
    divisor = gcd(*weights)
    turns = [weight // divisor for weight in weights]
    total = sum(turns)
    if total <= room:
        return turns
    return [max(1, turn * (room - len(turns)) // total) for turn in turns]


def _interleave(choices: Sequence[Choice], turns: Sequence[int]) -> Ring:
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
