"""What browsers are told: one poller for all, and nobody waits for who is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from ipaddress import ip_address
from typing import Any

import pytest

from dvipad.adapters.bpf.crt import Wanted
from dvipad.adapters.bpf.layout import connection_key
from dvipad.web import live
from dvipad.web.live import Live, Message, TooMany
from dvipad.web.source import NoAnswer

VIEW = {"dvipas": [], "targets": []}


class Daemon:
    """Answers as a daemon does; `asked` counts."""

    def __init__(self) -> None:
        self.newest = 1
        self.asked = 0
        self.away = False
        self.view: Any = VIEW

    async def ask(self, command: str, **_: Any) -> dict[str, Any]:
        """A report."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise NoAnswer("away")
        if command == "view":
            return {"view": self.view}
        return {"events": [{"number": self.newest}], "newest": self.newest}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """One whose poller does not wait."""
    monkeypatch.setattr(live, "RETRY_S", 0)
    return Daemon()


async def first(messages: AsyncGenerator[Message, None], name: str) -> Any:
    """Content of the next message of that name."""
    async for told, content in messages:
        if told == name:
            return content
    raise AssertionError("it ended")


def test_all_browsers_share_one_poller_and_none_runs_without_them(daemon: Daemon) -> None:
    async def run() -> None:
        told = Live(daemon)  # type: ignore[arg-type]
        browsers = [told.subscribe() for _ in range(3)]
        for browser in browsers:
            assert await first(browser, "view") == VIEW
            assert (await first(browser, "events"))[0]["number"] == 1
        assert len(asyncio.all_tasks()) == 2
        for browser in browsers:
            await browser.aclose()
        poller = next(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
        await asyncio.wait_for(poller, 10)
        asked = daemon.asked
        await asyncio.sleep(0.01)
        assert daemon.asked == asked

    asyncio.run(run())


@pytest.mark.parametrize("view", [None, {"dvipas": []}])
def test_a_daemon_that_is_away_or_makes_no_sense_is_told_and_asked_again(
    daemon: Daemon, view: Any
) -> None:
    async def run() -> None:
        told = Live(daemon)  # type: ignore[arg-type]
        browser = told.subscribe()
        daemon.away, daemon.view = view is None, view
        assert "reason" in await first(browser, "down")
        daemon.away, daemon.view = False, VIEW
        assert await first(browser, "view") == VIEW
        await browser.aclose()

    asyncio.run(run())


def test_who_is_slow_is_dropped_and_too_many_are_refused(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CLIENTS_MAX", 2)

    async def run() -> None:
        told = Live(daemon)  # type: ignore[arg-type]
        slow, quick = told.subscribe(), told.subscribe()
        assert await first(slow, "view") == VIEW
        for _ in range(2 * live.QUEUE_MAX):
            await first(quick, "view")
        with pytest.raises(TooMany):
            await anext(told.subscribe())
        assert [message async for message in slow] == []
        await quick.aclose()

    asyncio.run(run())


def test_a_part_of_the_crt_is_found_by_its_keys() -> None:
    one, other = ip_address("198.51.100.7"), ip_address("2001:db8::7")
    dvipa = ip_address("192.0.2.100")
    key = connection_key(one, 1000, dvipa, 80)
    assert Wanted().test()(key)
    for wanted in (Wanted(client=one), Wanted(dvipa), Wanted(dvipa, one, 1000)):
        assert wanted.test()(key)
    for wanted in (
        Wanted(client=other),
        Wanted(dvipa, one, 1001),
        Wanted(one),
        Wanted(None, one, 1),
    ):
        assert not wanted.test()(key)
