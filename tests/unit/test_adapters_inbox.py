"""The inbox: in order, in turns, and with an end to what waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from dvipad.adapters.inbox import INBOX_MAX, TURN_S, Inbox
from dvipad.wire.events import MeshEvent


def events(*numbers: int) -> list[MeshEvent]:
    return cast("list[MeshEvent]", list(numbers))


def busy(duration_s: float) -> None:
    until = time.monotonic() + duration_s
    while time.monotonic() < until:
        pass


def test_what_takes_long_lets_others_run_in_between() -> None:
    async def story() -> list[Any]:
        seen: list[Any] = []

        def feed(event: MeshEvent) -> None:
            busy(TURN_S)
            seen.append(event)

        inbox = Inbox(feed, lambda held: None)
        asyncio.get_running_loop().call_soon(seen.append, "heartbeat")
        inbox.put(events(1, 2, 3))
        inbox.put(events(4))
        assert seen == [1]
        while len(inbox):
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(story()) == [1, "heartbeat", 2, 3, 4]


def test_what_an_event_leads_to_comes_behind_it() -> None:
    async def story() -> list[Any]:
        seen: list[Any] = []

        def feed(event: MeshEvent) -> None:
            if event == 1:  # type: ignore[comparison-overlap]
                inbox.put(events(3))
            seen.append(event)

        inbox = Inbox(feed, lambda held: None)
        inbox.put(events(1, 2))
        while len(inbox):
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(story()) == [1, 2, 3]


def test_with_too_many_waiting_nothing_is_read_until_they_are_done() -> None:
    async def story() -> list[bool]:
        held: list[bool] = []
        slow = True

        def feed(event: MeshEvent) -> None:
            if slow:
                busy(TURN_S)

        inbox = Inbox(feed, held.append)
        inbox.put(events(*range(INBOX_MAX + 1)))
        assert held == [True]
        slow = False
        while len(inbox):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return held

    assert asyncio.run(story()) == [True, False]


def test_an_event_that_fails_does_not_stop_the_others() -> None:
    async def story() -> list[Any]:
        seen: list[Any] = []

        def feed(event: MeshEvent) -> None:
            if event == 1:  # type: ignore[comparison-overlap]
                raise ValueError(event)
            seen.append(event)

        inbox = Inbox(feed, lambda held: None)
        try:
            inbox.put(events(1, 2))
        except ValueError:
            seen.append("failed")
        while len(inbox):
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(story()) == ["failed", 2]
