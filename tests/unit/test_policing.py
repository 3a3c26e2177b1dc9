"""The daemon's part in policies: the clock that it looks at, and what it answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, cast

import pytest

from dvipad import hours
from dvipad.adapters.control import ControlError
from dvipad.config.model import Hours, Match, Policy, Subset
from dvipad.core.inputs import Input, MinuteCame, PoliciesChanged
from dvipad.policing import Policing
from tests.unit_core_driver import DVIPA, Driver

MORNING = Policy("morning", Match(hours=(Hours(480, 720),)), Subset(("t1",)))


class Daemon:
    """As much of one as policies need."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.node = self.driver.node
        self.fed: list[Input] = []

    def feed(self, event: Input) -> None:
        self.fed.append(event)
        self.driver.feed(event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The minute of the week that the wall clock shows."""
    shown = [479]
    monkeypatch.setattr(hours, "minute_of_week", lambda: shown[0])
    return shown


def test_the_core_is_told_each_minute_once(clock: list[int]) -> None:
    daemon = Daemon()
    policing = Policing(cast(Any, daemon), (MORNING,))
    policing.start()
    assert daemon.fed == [MinuteCame(479), PoliciesChanged((MORNING,))]
    assert daemon.node.owners.policies.open(DVIPA) == ()
    policing._look()
    assert len(daemon.fed) == 2
    clock[0] = 480
    policing._look()
    assert daemon.fed[2:] == [MinuteCame(480)]
    assert daemon.node.owners.policies.open(DVIPA) == (MORNING,)
    later = replace(MORNING, name="later")
    policing.follow((later,))
    assert daemon.node.owners.policies.open(DVIPA) == (later,)
    clock[0] = 200  # somebody sets the clock
    policing._look()
    assert daemon.node.owners.policies.open(DVIPA) == ()


@pytest.mark.parametrize(
    ("moment", "minute"),
    [("2024-01-01 00:00", 0), ("2024-01-02 08:30", 1950), ("2024-01-07 23:59", 10079)],
)
def test_the_week_begins_on_monday(
    moment: str, minute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = time.strptime(moment, "%Y-%m-%d %H:%M")
    monkeypatch.setattr(time, "localtime", lambda: then)
    assert hours.minute_of_week() == minute


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({}, "client and dvipa are addresses"),
        ({"client": "x", "dvipa": str(DVIPA)}, "no IP address"),
        ({"client": "192.0.2.7", "dvipa": str(DVIPA)}, "port is a number"),
        ({"client": "192.0.2.7", "dvipa": str(DVIPA), "port": "80"}, "port is a number"),
        ({"client": "192.0.2.7", "dvipa": str(DVIPA), "port": 80}, "is not distributed by this"),
    ],
)
def test_requests_that_make_no_sense(
    request_: dict[str, Any], complaint: str, clock: list[int]
) -> None:
    answer = Policing(cast(Any, Daemon()), ()).handlers()["policy"]
    with pytest.raises(ControlError, match=complaint):
        asyncio.run(cast(Any, answer(request_)))
