"""How well a target serves a service, and what that makes of its weight."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.core.methods import RING_MAX, Ring

PROBED: Final = 128
"""Of so many turns at the most a target that is probed has one."""

_BY_QUALITY: Final = frozenset(
    {DistMethod.BASEWLM, DistMethod.SERVERWLM, DistMethod.TARGCONTROLLED}
)
"""Methods whose weights are cut by what connections lose."""
SCALED: Final = _BY_QUALITY | {DistMethod.WEIGHTEDACTIVE}
"""Methods whose weights are scaled by TSR; for all others it only matters whether it is 0."""


@dataclass(frozen=True, slots=True)
class Fitness:
    """Percentages. `left`: of a weight, after the cuts for lost packets and timeouts. `tcsr`: of
    the connections sent to the target those that were completed, `cer`, `sef`: see
    `ServiceQuality`."""

    left: int = 100
    tcsr: int = 100
    cer: int = 100
    sef: int = 100

    @property
    def tsr(self) -> int:
        """Target server responsiveness; 0 only if one of its parts is."""
        product = self.tcsr * self.cer * self.sef
        return max(min(1, product), round(product / 10_000))

    @property
    def is_probed(self) -> bool:
        """Whether nobody but a new connection can tell that the target is well again. A server
        that accepts nothing is not probed: its node sees when it does."""
        return self.tsr == 0 and self.sef > 0


WELL: Final = Fitness()


def scaled(method: DistMethod, weight: int, fitness: Fitness) -> int:
    """What turns of `method` go by: `weight` in hundredths, as far as the target deserves it.

    Nothing for a target that does not answer (TSR 0), or of whose weight nothing is left.
    """
    if method not in SCALED:
        return 100 * weight if fitness.tsr > 0 else 0
    part = fitness.tsr * (fitness.left if method in _BY_QUALITY else 100)
    return weight * max(min(1, part), part // 100)


def with_probes(turns: Ring, probed: Collection[Address]) -> Ring:
    """`turns`, repeated, with a single one now and then for each of `probed` that has none."""
    probes = [xcf for xcf in probed if xcf not in turns][: PROBED // 2]
    if not probes or not turns:
        return turns
    rest = max(PROBED - len(probes), min(len(turns), RING_MAX - len(probes)))
    whole = max(1, rest // len(turns)) * len(turns)
    others = list(islice(chain.from_iterable(repeat(turns)), min(whole, rest)))
    step = -(-len(others) // len(probes))
    found: list[Address] = []
    for number, probe in enumerate(probes):
        found += [*others[number * step : (number + 1) * step], probe]
    return tuple(found)
