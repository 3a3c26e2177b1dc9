"""How DVIPAs are distributed: by the own statements, else as the distributor did (D8)."""

from __future__ import annotations

from dvipad.address import Address
from dvipad.config.model import Distribute, Profile
from dvipad.core.context import Context

Rows = tuple[Distribute, ...]


class Distribution:
    """VIPADISTRIBUTE statements of this node, and those that it inherits."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inherited: dict[Address, Rows] = {}

    def effective(self, dvipa: Address) -> Rows:
        """How this node distributes `dvipa`."""
        return self._context.own_distributes(dvipa) or self._inherited.get(dvipa, ())

    def heard(self, dvipa: Address, rows: Rows) -> bool:
        """The distributor of `dvipa` does it by `rows`; returns whether that is news."""
        news = rows != self._inherited.get(dvipa, ())
        self._inherited[dvipa] = rows
        return news

    def profile_changed(self, before: Profile) -> None:
        """What the profile does not distribute any more is not inherited instead."""
        for row in before.distributes:
            if not self._context.own_distributes(row.dvipa):
                self._inherited.pop(row.dvipa, None)
