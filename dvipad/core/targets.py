"""A target of a service, as the distributor sees it."""

from __future__ import annotations

from dataclasses import dataclass

from dvipad.address import Address
from dvipad.config.model import Label
from dvipad.core.source import Source


@dataclass(frozen=True, slots=True)
class DptRow:
    """A target of (DVIPA, port): `ready` listeners; 0 is a candidate that gets nothing.

    Turns are in the proportion of `weight`, which comes from `source`. `standby_rank`: HOTSTANDBY.
    `metric`: what policies compare, 0-64 of what is measured; None: nothing is known.
    """

    name: str
    xcf: Address
    ready: int
    weight: int
    source: Source = Source.CONFIGURED
    standby_rank: int | None = None
    labels: tuple[Label, ...] = ()
    metric: int | None = None

    def figures(self) -> dict[str, int]:
        """What conditions of policies may look at."""
        return {} if self.metric is None else {"weight": self.metric}
