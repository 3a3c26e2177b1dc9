"""The last things that happened: what the log says, kept for whoever asks the daemon.

Each log record is an event. A line that stands for a fact says which one by
``extra=about("decision", dvipa=…)``; readers need not take its text apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from dvipad.adapters.jsonable import jsonable

EVENTS_MAX: Final = 1_000
"""Events that are kept; older ones are forgotten, and readers are told how many they missed."""
_ABOUT: Final = "about"
LOG: Final = "log"
"""Kind of an event that is just a line of the log."""


def about(kind: str, **fields: object) -> dict[str, Any]:
    """For `extra` of a log call: `kind` of the fact, and what it is about, as JSON allows it."""
    return {_ABOUT: {"kind": kind, **{key: jsonable(value) for key, value in fields.items()}}}


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 1; `wall_ms`: milliseconds since 1970; `level` as in the log."""

    number: int
    wall_ms: int
    level: str
    text: str
    about: dict[str, Any]


class EventRing(logging.Handler):
    """Keeps events, and wakes those that wait for the next one; records may come in any thread."""

    def __init__(self, limit: int = EVENTS_MAX) -> None:
        super().__init__(logging.INFO)
        self._events: deque[Event] = deque(maxlen=limit)
        self._number = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep `record`."""
        self._number += 1
        told = {"kind": LOG, **getattr(record, _ABOUT, {})}
        wall_ms = time.time_ns() // 1_000_000
        level = record.levelname.lower()
        self._events.append(Event(self._number, wall_ms, level, record.getMessage(), told))
        for loop, arrived in tuple(self._waiting):
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(arrived.set)

    @property
    def newest(self) -> int:
        """Number of the newest event, 0 if there is none."""
        return self._number

    def after(self, number: int) -> tuple[tuple[Event, ...], int]:
        """The events after `number` that are left, and how many of them are forgotten.

        A `number` that is not reached yet, from a daemon before this one, counts as 0.
        """
        with self.lock or contextlib.nullcontext():
            missing = self._number - (number if number <= self._number else 0)
            kept = min(missing, len(self._events))
            first = len(self._events) - kept
            return tuple(islice(self._events, first, None)), missing - kept

    async def wait(self, number: int, timeout_s: float) -> None:
        """Until there is an event after `number`, at most `timeout_s`."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        self._waiting.add(waiter)
        try:
            if self._number == number:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(waiter[1].wait(), timeout_s)
        finally:
            self._waiting.discard(waiter)
