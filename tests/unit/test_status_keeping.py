"""What the daemon makes of readings, and of the preferred one: inputs for the core, names."""

from __future__ import annotations

import argparse
from ipaddress import ip_address
from typing import Any

import pytest

from dvipad.address import Address
from dvipad.cli import status as cli
from dvipad.config.dns import Give, NameConfig
from dvipad.config.status import ObjectConfig
from dvipad.core.effects import Preferred
from dvipad.core.inputs import FiguresRead
from dvipad.status.names import Names
from dvipad.status.readings import SILENT_S, Readings

WEB = ObjectConfig("web", "http", 80)
QUEUE = ObjectConfig("queue", "exec")
DVIPA = ip_address("192.0.2.100")


class Clock:
    """Seconds, as they are set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def said(name: str, result: str = "ok", **figures: float) -> dict[str, Any]:
    return {"object": name, "result": result, "figures": figures, "detail": "x"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readings(clock: Clock) -> Readings:
    made = Readings(clock)
    made.follow((WEB, QUEUE))
    return made


def test_figures_are_told_in_thousandths_and_times_are_smoothed(readings: Readings) -> None:
    assert readings.event() == FiguresRead((), (), frozenset())
    readings.told(said("web", time_ms=10, status=200))
    readings.told(said("queue", value=0.5))
    names = ("queue.value", "web.status", "web.time_ms")
    assert readings.event() == FiguresRead(names, (500, 200_000, 10_000), frozenset())
    readings.told(said("web", time_ms=20, status=500))
    assert readings.event().values == (500, 500_000, 15_000)


@pytest.mark.parametrize("result", ["down", "timeout"])
def test_one_that_fails_is_an_instance_that_is_down(readings: Readings, result: str) -> None:
    readings.told(said("web", time_ms=10))
    readings.told(said("web", result))
    readings.told(said("queue", result))  # has no port: it takes nothing out
    assert readings.event() == FiguresRead(("web.time_ms",), (None,), frozenset({(None, 80)}))
    readings.told(said("web", time_ms=30))
    assert readings.event() == FiguresRead(("web.time_ms",), (30_000,), frozenset())


@pytest.mark.parametrize("result", ["rubbish", "out_of_range", "unavailable"])
def test_one_that_says_rubbish_takes_nothing_out(readings: Readings, result: str) -> None:
    readings.told(said("web", time_ms=10))
    readings.told(said("web", result))
    assert readings.event() == FiguresRead(("web.time_ms",), (None,), frozenset())
    assert readings.rows()[0]["results"] == {"ok": 1, result: 1}


def test_of_a_silent_one_nothing_is_known(readings: Readings, clock: Clock) -> None:
    readings.told(said("web", "down"))
    clock.now_s += (3 * WEB.interval_ms + WEB.timeout_ms) / 1000 + SILENT_S
    assert readings.event().failing == frozenset()
    assert readings.rows()[0]["result"] == "silent"


def test_those_that_stay_go_on_and_those_that_go_leave_nothing(readings: Readings) -> None:
    readings.told(said("web", "down"))
    readings.told(said("queue", value=1))
    readings.follow((WEB,))
    assert readings.event() == FiguresRead((), (), frozenset({(None, 80)}))
    readings.follow((ObjectConfig("web", "http", 81),))
    assert readings.event().failing == frozenset()


@pytest.mark.parametrize(
    "message", [{"object": "web"}, said("web", "what"), {"object": "web", "figures": {"a": "b"}}]
)
def test_what_is_no_reading_is_refused(readings: Readings, message: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        readings.told(message)
    readings.told(said("stranger", value=1))
    assert readings.event().names == ()


# -- names -----------------------------------------------------------------------------------------

XCF = {"t1": ip_address("192.0.2.11"), "t2": ip_address("2001:db8::12")}
SERVER = NameConfig("www.example.org", "example.org", DVIPA, 80, ip_address("192.0.2.53"))
FARM = NameConfig(
    "app.example.org",
    "example.org",
    DVIPA,
    80,
    ip_address("192.0.2.53"),
    Give.FARM,
    (("east", ip_address("192.0.2.101")),),
)


def names(*configs: NameConfig) -> Names:
    made = Names(XCF.get)
    made.follow(configs)
    return made


def here(dvipa: Address) -> bool:
    return True


def addresses(orders: Any) -> dict[str, str]:
    return {order["name"]: order["address"] for order in orders}


def test_a_name_has_the_address_of_the_preferred_server_or_farm() -> None:
    made = names(SERVER, FARM)
    assert not [*made.news(here)]
    made.preferred(Preferred(DVIPA, 80, "t1", "east"))
    made.preferred(Preferred(DVIPA, 81, "t2", "west"))
    assert addresses(made.news(here)) == {
        "www.example.org": "192.0.2.11",
        "app.example.org": "192.0.2.101",
    }
    assert not [*made.news(here)]
    made.preferred(Preferred(DVIPA, 80, "t2", "west"))
    assert addresses(made.news(here)) == {"www.example.org": "2001:db8::12"}
    rows = {row["name"]: row for row in made.rows()}
    assert rows["app.example.org"]["error"] == "no address for farm west"
    assert addresses(made.wanted()) == {
        "www.example.org": "2001:db8::12",
        "app.example.org": "192.0.2.101",
    }


def test_only_who_distributes_keeps_a_name() -> None:
    made = names(SERVER)
    made.preferred(Preferred(DVIPA, 80, "t1", ""))
    assert not [*made.news(lambda dvipa: False)]
    assert addresses(made.news(here)) == {"www.example.org": "192.0.2.11"}
    assert [*made.news(lambda dvipa: False)] == [{"forget": "www.example.org"}]
    assert made.wanted() == []
    assert addresses(made.news(here)) == {"www.example.org": "192.0.2.11"}


def test_what_became_of_an_update_is_known() -> None:
    made = names(SERVER)
    made.preferred(Preferred(DVIPA, 80, "t1", ""))
    assert [*made.news(here)]
    made.told({"name": "www.example.org", "address": "192.0.2.11", "error": "no answer"})
    made.told({"name": "stranger", "address": "192.0.2.11", "error": ""})
    (row,) = made.rows()
    assert (row["has"], row["error"], row["results"]) == ("", "no answer", {"done": 0, "failed": 1})
    made.told({"name": "www.example.org", "address": "192.0.2.11", "error": ""})
    (row,) = made.rows()
    assert (row["has"], row["error"], row["results"]) == (
        "192.0.2.11",
        "",
        {"done": 1, "failed": 1},
    )


# -- dvipactl --------------------------------------------------------------------------------------


def test_the_display(readings: Readings, monkeypatch: pytest.MonkeyPatch) -> None:
    readings.told(said("web", "down"))
    made = names(SERVER, FARM)
    made.preferred(Preferred(DVIPA, 80, "t1", ""))
    assert [*made.news(here)]
    targets = [
        {"name": "t1", "ready": 1, "weight": 64, "from": "figures"},
        {"name": "t2", "ready": 0, "weight": 0, "from": "default"},
    ]
    service = {"dvipa": "192.0.2.100", "port": 80, "preference": "web", "server": "t1",
               "farm": "", "targets": targets}  # fmt: skip
    answer = {
        "ok": True,
        "objects": readings.rows(),
        "figures": {"t1": {"web.time_ms": 1.5}, "t2": {}},
        "preferences": [],
        "services": [service],
        "names": made.rows(),
    }
    monkeypatch.setattr(cli, "ask", lambda socket, request: dict(answer))
    value, lines = cli._status(argparse.Namespace(socket=None))
    assert "ok" not in value
    assert "Object: web  Kind: http  Port: *..80  Result: down" in lines
    assert "Object: queue  Kind: exec  Result: not read yet" in lines
    assert "Node: t1  web.time_ms: 1.5" in lines and "Node: t2  nothing" in lines
    assert "  Weights: t1: 64" in lines
    assert "Name: www.example.org  Address: 192.0.2.11  Of: t1  Zone: waits" in lines
    assert "  no address for farm (none)" in lines
    assert lines[-1] == "2 status objects, 2 names"
