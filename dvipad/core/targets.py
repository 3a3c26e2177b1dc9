"""A target of a service, as the distributor sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.address import Address
from dvipad.config.model import Label
from dvipad.core.fitness import WELL, Fitness
from dvipad.core.source import Source

CONNECTIONS: Final = "connections"
"""The figure of targets that is counted only if somebody looks at it."""


@dataclass(frozen=True, slots=True)
class DptRow:
    """A target of (DVIPA, port): `ready` listeners; 0 is a candidate that gets nothing.

    Turns are in the proportion of `weight`, which comes from `source`. `standby_rank`: HOTSTANDBY.
    `metric`: what policies compare, 0-64 of what is measured; `connections`: active ones; None:
    nothing is known. `fitness`: how well it serves.
    """

    name: str
    xcf: Address
    ready: int
    weight: int
    source: Source = Source.CONFIGURED
    standby_rank: int | None = None
    labels: tuple[Label, ...] = ()
    metric: int | None = None
    connections: int | None = None
    fitness: Fitness = WELL

    def figures(self) -> dict[str, int]:
        """What conditions of policies may look at."""
        figures = {
            "ready": self.ready,
            "tsr": self.fitness.tsr,
            "quality": self.fitness.left,
            "weight": self.metric,
            CONNECTIONS: self.connections,
        }
        return {name: figure for name, figure in figures.items() if figure is not None}
