"""Which DVIPAs have no connection left: those of MOVEABLE WHENIDLE and of a VIPARANGE wait for
that."""

from __future__ import annotations

from typing import Final

from dvipad.address import Address, order
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
        self._due_ms: dict[Address, int] = {}

    def refresh(self, waiting: set[Address]) -> None:
        """Count, where it is due; `waiting` are the DVIPAs that wait now."""
        for dvipa in [dvipa for dvipa in self._due_ms if dvipa not in waiting]:
            del self._due_ms[dvipa]
        now_ms = self._context.now_ms
        for dvipa in sorted(waiting, key=order):
            if now_ms >= self._due_ms.setdefault(dvipa, now_ms):
                self._due_ms[dvipa] = now_ms + CHECK_MS
                self._asked[dvipa] = self._context.new_id()
                self._context.emit(CountConnections(self._asked[dvipa], dvipa))

    def counted(self, event: ConnectionsCounted) -> Address | None:
        """The DVIPA that has no connection left, if `event` says so of one."""
        for dvipa, effect_id in self._asked.items():
            if effect_id == event.effect_id:
                del self._asked[dvipa]
                return dvipa if event.count == 0 and dvipa in self._due_ms else None
        return None

    def deadlines(self) -> list[int]:
        """When the next count is due."""
        return list(self._due_ms.values())
