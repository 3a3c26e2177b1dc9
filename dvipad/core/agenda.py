"""When something is due for each of many keys, found without a look at all of them."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Agenda(Generic[K]):
    """Times in milliseconds by key. A time that was replaced stays in the heap until it passes;
    it is no entry any more, so neither `due` nor `next` tells it."""

    def __init__(self) -> None:
        self._times: dict[K, tuple[int, ...]] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._pushed = 0

    def __contains__(self, key: K) -> bool:
        return key in self._times

    def set(self, key: K, *times: int) -> None:
        """`key` is due at these times, and at no others."""
        known = self._times.get(key, ())
        if not times:
            self._times.pop(key, None)
            return
        self._times[key] = times
        for time in times:
            if time not in known:
                self._pushed += 1  # keys need no order of their own
                heappush(self._heap, (time, self._pushed, key))

    def discard(self, key: K) -> None:
        """`key` is not due any more."""
        self._times.pop(key, None)

    def due(self, now_ms: int) -> list[K]:
        """Keys whose time has come, in the order of their times; each time is told once."""
        found: dict[K, None] = {}
        while self._heap and self._heap[0][0] <= now_ms:
            time, _, key = heappop(self._heap)
            known = self._times.get(key, ())
            if time in known:
                found[key] = None
                self.set(key, *(each for each in known if each != time))
        return list(found)

    def next(self) -> int | None:
        """When `due` has something to tell."""
        while self._heap:
            time, _, key = self._heap[0]
            if time in self._times.get(key, ()):
                return time
            heappop(self._heap)
        return None
