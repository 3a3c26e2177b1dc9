"""Events: what the log says, kept for readers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from dvipad.adapters.events import EventRing, about

LIMIT = 5


@pytest.fixture
def ring() -> Iterator[tuple[EventRing, logging.Logger]]:
    """A ring, and a logger that nobody else listens to."""
    log = logging.getLogger("tests.events")
    log.propagate, log.level = False, logging.INFO
    events = EventRing(LIMIT)
    log.addHandler(events)
    yield events, log
    log.removeHandler(events)


def test_a_line_of_the_log_is_an_event(ring: tuple[EventRing, logging.Logger]) -> None:
    events, log = ring
    before_ms = time.time_ns() // 1_000_000
    log.warning("%s is back", "x", extra=about("repair", dvipa=ip_address("192.0.2.9")))
    log.info("plain")
    log.debug("not worth keeping")
    (first, second), lost = events.after(0)
    assert (first.number, first.level, first.text) == (1, "warning", "x is back")
    assert first.about == {"kind": "repair", "dvipa": "192.0.2.9"}
    assert before_ms <= first.wall_ms <= time.time_ns() // 1_000_000
    assert (second.number, second.about, lost) == (2, {"kind": "log"}, 0)


@pytest.mark.parametrize(
    ("after", "numbers", "lost"),
    [
        (0, [4, 5, 6, 7, 8], 3),
        (2, [4, 5, 6, 7, 8], 1),
        (3, [4, 5, 6, 7, 8], 0),
        (7, [8], 0),
        (8, [], 0),
        (99, [4, 5, 6, 7, 8], 3),
    ],
)
def test_a_reader_is_told_what_it_missed(
    ring: tuple[EventRing, logging.Logger], after: int, numbers: list[int], lost: int
) -> None:
    events, log = ring
    for number in range(1, 9):
        log.info("%d", number)
    found, missed = events.after(after)
    assert ([event.number for event in found], missed) == (numbers, lost)


def test_a_reader_that_waits_is_woken_from_another_thread(
    ring: tuple[EventRing, logging.Logger],
) -> None:
    events, log = ring

    async def wait() -> float:
        threading.Timer(0.05, log.info, ["now"]).start()
        started = time.monotonic()
        await events.wait(0, 20.0)
        return time.monotonic() - started

    assert asyncio.run(wait()) < 10
    assert [event.text for event in events.after(0)[0]] == ["now"]


def test_a_reader_waits_no_longer_than_it_said(ring: tuple[EventRing, logging.Logger]) -> None:
    events, log = ring
    log.info("before")
    asyncio.run(events.wait(1, 0.01))
    asyncio.run(events.wait(0, 20.0))  # there is one already
    assert events.newest == 1
