"""Which DVIPAs a step has to look at: those that something was heard of, or done about.

What a node does about one DVIPA depends on that DVIPA, on time, and on what concerns all of them
(peers, profile, orders). So a node of a thousand DVIPAs looks at the one that a message names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from dvipad.address import Address


class Touched:
    """Collects them during a step, and for the next one."""

    def __init__(self) -> None:
        self._dvipas: dict[Address, None] = {}  # in the order in which they were touched
        self._all = True

    def add(self, dvipa: Address) -> None:
        """Something about `dvipa` changed."""
        self._dvipas[dvipa] = None

    def everything(self) -> None:
        """Something that concerns every DVIPA changed."""
        self._all = True

    def take(self, known: Callable[[], Iterable[Address]]) -> Collection[Address]:
        """What was touched since the last call; `known` gives all DVIPAs that there are."""
        taken = dict.fromkeys(known()) | self._dvipas if self._all else self._dvipas
        self._dvipas, self._all = {}, False
        return taken.keys()
