"""What browsers are shown, as it changes: one poller for all of them, none while nobody looks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

from dvipad.web.source import NoAnswer, Source

CLIENTS_MAX: Final = 50
"""Browsers at once; further ones are told so."""
QUEUE_MAX: Final = 16
"""Messages that wait for one browser; one that is slower is dropped, and connects again."""
INTERVAL_S: Final = 1.0
"""Between two views while nothing happens."""
ROWS_PER_S: Final = 1_000
"""A large view is sent more rarely: so many rows lengthen the interval by a second."""
INTERVAL_MAX_S: Final = 4.0
"""A page that hears nothing for five seconds says so."""
RETRY_S: Final = 0.5
"""Between two questions to a daemon that does not answer."""
ANSWER_S: Final = 5.0

Message = tuple[str, Any]
"""Name and content of a server-sent event: ``view``, ``events``, or ``down``."""


class TooMany(Exception):
    """There are `CLIENTS_MAX` browsers already."""


class Live:
    """Tells its subscribers the view and the events; all hear the same."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queues: set[asyncio.Queue[Message | None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._events: list[Any] = []
        self._newest = 0
        self._rows = 0

    async def subscribe(self) -> AsyncGenerator[Message, None]:
        """Messages from now on, the events that are kept first; ends for who is too slow."""
        if len(self._queues) >= CLIENTS_MAX:
            raise TooMany
        queue: asyncio.Queue[Message | None] = asyncio.Queue(QUEUE_MAX)
        if self._events:
            queue.put_nowait(("events", self._events))
        self._queues.add(queue)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        try:
            with contextlib.suppress(NoAnswer):  # the poller tells
                yield "view", (await self._source.ask("view"))["view"]
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._queues.discard(queue)

    async def _poll(self) -> None:
        while self._queues:
            try:
                await self._turn()
            except NoAnswer as error:
                self._publish("down", {"reason": str(error)})
                await asyncio.sleep(RETRY_S)
            except (LookupError, TypeError) as error:  # a daemon of another version
                self._publish("down", {"reason": f"an answer that makes no sense: {error}"})
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> None:
        """The next events, or none within the interval; and the view after them."""
        wait_s = min(INTERVAL_S + self._rows / ROWS_PER_S, INTERVAL_MAX_S)
        answer = await self._source.ask(
            "events", timeout_s=wait_s + ANSWER_S, after=self._newest, wait_s=wait_s
        )
        self._newest = answer["newest"]
        view = (await self._source.ask("view", timeout_s=ANSWER_S))["view"]
        self._rows = len(view["dvipas"]) + len(view["targets"])
        self._publish("view", view)
        if answer["events"]:
            self._events = [*self._events, *answer["events"]][-100:]
            self._publish("events", answer["events"])

    def _publish(self, name: str, content: Any) -> None:
        for queue in tuple(self._queues):
            try:
                queue.put_nowait((name, content))
            except asyncio.QueueFull:
                while not queue.empty():  # its place is free when its connection has ended
                    queue.get_nowait()
                queue.put_nowait(None)
