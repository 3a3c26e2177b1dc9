"""What the mesh tells the core: in order, and in short turns.

A peer that begins a session, or a thousand DVIPAs that move, are thousands of messages in one
read. Taken in one go they would hold up heartbeats and the lease until peers believe that this
node is dead; so after each turn everything else has its chance.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from dvipad.wire.events import MeshEvent

TURN_S: Final = 0.010
"""A turn takes so long, and what one event takes."""
INBOX_MAX: Final = 20_000
"""Events that wait, at the most: with more, nothing is read from peers."""


class Inbox:
    """Feeds `feed` with events; `hold(True)` stops the reading of more, `hold(False)` resumes."""

    def __init__(self, feed: Callable[[MeshEvent], None], hold: Callable[[bool], None]) -> None:
        self._feed = feed
        self._hold = hold
        self._waiting: deque[MeshEvent] = deque()
        self._scheduled = False
        self._held = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, events: Iterable[MeshEvent]) -> None:
        """Take `events` in; what does not fit in a turn waits for the next."""
        self._waiting.extend(events)
        if len(self._waiting) > INBOX_MAX and not self._held:
            self._held = True
            self._hold(True)
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN_S
        self._scheduled = True  # what `feed` leads to may call `put`
        try:
            while self._waiting:
                self._feed(self._waiting.popleft())
                if loop.time() >= until:
                    break
        finally:
            self._scheduled = bool(self._waiting)
            if self._scheduled:
                loop.call_soon(self._turn)
        if self._held and not self._waiting:
            self._held = False
            self._hold(False)
