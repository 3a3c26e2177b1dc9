"""Which DVIPAs have no connection left: those of MOVEABLE WHENIDLE and of a VIPARANGE wait for
that."""

from __future__ import annotations

from typing import Final

from dvipad.address import Address, order
from dvipad.core.agenda import Agenda
from dvipad.core.context import Context
from dvipad.core.effects import CountConnections
from dvipad.core.inputs import ConnectionsCounted

CHECK_MS: Final = 1_000
"""A DVIPA that waits until it is idle is looked at so often."""


class Idle:
    """Counts the connections of DVIPAs that wait."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: dict[Address, int] = {}
        self._waiting: set[Address] = set()
        self._new: set[Address] = set()
        self._due: Agenda[Address] = Agenda()

    def follow(self, dvipa: Address, waits: bool) -> None:
        """Whether `dvipa` waits until it is idle."""
        if waits and dvipa not in self._waiting:
            self._waiting.add(dvipa)
            self._new.add(dvipa)
        elif not waits and dvipa in self._waiting:
            self._waiting.discard(dvipa)
            self._new.discard(dvipa)
            self._due.discard(dvipa)

    def count(self) -> None:
        """Count the connections of those that wait, where it is due."""
        now_ms = self._context.now_ms
        due, self._new = self._new.union(self._due.due(now_ms)), set()
        for dvipa in sorted(due, key=order):
            self._due.set(dvipa, now_ms + CHECK_MS)
            self._asked[dvipa] = self._context.new_id()
            self._context.emit(CountConnections(self._asked[dvipa], dvipa))

    def counted(self, event: ConnectionsCounted) -> Address | None:
        """The DVIPA that has no connection left, if `event` says so of one that waits."""
        for dvipa, effect_id in self._asked.items():
            if effect_id == event.effect_id:
                del self._asked[dvipa]
                return dvipa if event.count == 0 and dvipa in self._waiting else None
        return None

    def deadline(self) -> int | None:
        """When the next count is due."""
        return self._due.next()
