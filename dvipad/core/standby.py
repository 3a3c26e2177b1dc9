"""Who is active of targets that stand by for each other, and stays so under another distributor."""

from __future__ import annotations

from collections.abc import Iterable

from dvipad.address import Address
from dvipad.wire.messages import Active


class Standby:
    """The active target of (DVIPA, port): as the distributor says, or as this node, being that,
    has chosen."""

    def __init__(self) -> None:
        self._active: dict[Address, dict[int, Address]] = {}
        self._news: dict[Address, None] = {}

    def heard(self, dvipa: Address, active: Iterable[Active]) -> None:
        """The distributor of `dvipa` says so."""
        self._active[dvipa] = {each.port: each.xcf for each in active}

    def chosen(self, dvipa: Address, active: dict[int, Address]) -> None:
        """This node distributes `dvipa` so, by port. A port without a target keeps its last one: it
        goes on if it is the first that is back."""
        known = self._active.setdefault(dvipa, {})
        if known | active != known:
            self._news[dvipa] = None
        known.update(active)

    def of(self, dvipa: Address) -> dict[int, Address]:
        """Who is active, by port."""
        return self._active.get(dvipa, {})

    def told(self, dvipa: Address) -> tuple[Active, ...]:
        """The same for others."""
        return tuple(Active(port, xcf) for port, xcf in sorted(self.of(dvipa).items()))

    def take_news(self) -> Iterable[Address]:
        """DVIPAs of which others do not know yet what this node chose."""
        news, self._news = self._news, {}
        return news
