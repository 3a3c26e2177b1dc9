"""Virtual time: a queue of what happens when, in ms; equal times in order of entry."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeAlias

Happening: TypeAlias = Callable[[], None]


class Loop:
    """The only clock of a simulation."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._queue: list[tuple[int, int, Happening]] = []
        self._number = 0

    def at(self, at_ms: int, happening: Happening) -> None:
        """`happening` comes to pass at `at_ms`; the past is now."""
        self._number += 1
        heapq.heappush(self._queue, (max(at_ms, self.now_ms), self._number, happening))

    def after(self, delay_ms: int, happening: Happening) -> None:
        """`happening` comes to pass `delay_ms` from now."""
        self.at(self.now_ms + delay_ms, happening)

    def run(self, until_ms: int, done: Callable[[], bool] = bool) -> None:
        """Let time pass up to `until_ms`, or until `done`, which is asked after each happening."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            at_ms, _, happening = heapq.heappop(queue)
            self.now_ms = at_ms
            happening()
            if done():
                return
        self.now_ms = max(self.now_ms, until_ms)
