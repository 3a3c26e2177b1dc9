"""Figures in a cluster: who tells whom, what distributors make of it, instances that are down."""

from __future__ import annotations

import pytest

from dvipad.config.model import By, Label, Preference, Score
from dvipad.core.effects import Preferred, Send
from dvipad.core.inputs import FiguresRead, PreferencesChanged
from dvipad.wire.events import DownReason
from dvipad.wire.messages import Figures
from tests import unit_core_cluster
from tests.unit_core_cluster import DVIPA, XCF, Cluster, cluster

NAMES = ("web.time_ms",)
FASTEST = PreferencesChanged((Preference("web", Score(By.FASTEST, "web.time_ms")),))
FARMS = {name: (Label("farm", "east"),) for name in ("t1", "t2")}


@pytest.fixture
def farms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_core_cluster, "LABELS", FARMS)


def tell(made: Cluster, name: str, time_ms: int | None, *failing: int) -> None:
    """Status objects of `name` read that."""
    values = (None if time_ms is None else 1000 * time_ms,)
    made.feed(name, FiguresRead(NAMES, values, frozenset((None, port) for port in failing)))
    made.settle()
    made.pass_time(made.now_ms + 200)


def told(made: Cluster, name: str) -> list[tuple[str, Figures]]:
    """Figures that `name` sent, and to whom."""
    return [
        (effect.peer, effect.message)
        for effect in made.done[name]
        if isinstance(effect, Send) and isinstance(effect.message, Figures)
    ]


def weights(made: Cluster, name: str = "lb1") -> dict[str, int]:
    service = made.nodes[name].distributor.services()[DVIPA, 80]
    return {row.name: row.weight for row in service.rows if row.ready}


def test_a_target_tells_its_distributor_and_nobody_else() -> None:
    made = cluster()
    made.feed("lb1", FASTEST)
    tell(made, "t1", 9)
    tell(made, "t2", 19)
    assert {peer for peer, _ in told(made, "t1")} == {"lb1"}
    assert weights(made) == {"t1": 64, "t2": 32}
    service = made.nodes["lb1"].distributor.services()[DVIPA, 80]
    assert service.ring.count(XCF["t1"]) == 2 * service.ring.count(XCF["t2"])


def test_names_are_said_once_and_what_did_not_change_not_at_all() -> None:
    made = cluster()
    for time_ms in (9, 10, 10, 11):
        tell(made, "t1", time_ms)
    said = [message.nodes[0] for _, message in told(made, "t1")]
    assert [each.names for each in said] == [NAMES, (), ()]
    assert [each.values for each in said] == [(9000,), (10000,), (11000,)]
    assert made.nodes["lb1"].workloads.figures.of("t1") == {"web.time_ms": 11}


def test_who_takes_over_is_told_everything() -> None:
    made = cluster()
    made.feed("lb2", FASTEST)
    tell(made, "t1", 9)
    tell(made, "t2", 19)
    made.end("lb1", DownReason.SILENT)
    made.pass_time(made.now_ms + 3000)
    assert weights(made, "lb2") == {"t1": 64, "t2": 32}
    assert made.nodes["lb2"].workloads.figures.ignored == 0


def test_without_a_preference_figures_change_no_weight() -> None:
    made = cluster()
    before = weights(made)
    tell(made, "t1", 9)
    assert weights(made) == before
    made.feed("lb1", FASTEST)
    made.settle()
    assert weights(made) == {"t1": 64, "t2": 64}
    made.feed("lb1", PreferencesChanged(()))
    made.settle()
    assert weights(made) == before


def test_an_instance_that_is_down_gets_no_new_connections_and_comes_back() -> None:
    made = cluster()
    tell(made, "t1", None, 80)
    assert made.nodes["lb1"].distributor.services()[DVIPA, 80].ring == (XCF["t2"],)
    tell(made, "t1", 9)
    assert set(made.nodes["lb1"].distributor.services()[DVIPA, 80].ring) == {XCF["t1"], XCF["t2"]}
    tell(made, "t1", None, 443)
    assert len(made.nodes["lb1"].distributor.services()[DVIPA, 80].ring) == 2


@pytest.mark.usefixtures("farms")
def test_one_node_of_a_farm_reports_for_all() -> None:
    made = cluster()
    made.feed("lb1", FASTEST)
    tell(made, "t1", 9)
    tell(made, "t2", 19)
    assert {peer for peer, _ in told(made, "t2")} == {"t1"}
    assert {peer for peer, _ in told(made, "t1")} == {"lb1"}
    assert weights(made) == {"t1": 64, "t2": 32}
    made.end("t1", DownReason.SILENT)
    tell(made, "t2", 20)
    assert told(made, "t2")[-1][0] == "lb1"
    assert made.nodes["lb1"].workloads.figures.of("t2") == {"web.time_ms": 20}
    assert made.nodes["lb1"].workloads.figures.of("t1") == {}
    assert made.nodes["lb1"].workloads.figures.ignored == 0


@pytest.mark.usefixtures("farms")
def test_the_preferred_server_and_farm_are_told_when_they_change() -> None:
    made = cluster()
    made.feed("lb1", FASTEST)
    tell(made, "t1", 9)
    tell(made, "t2", 19)
    tell(made, "t2", 1)
    tell(made, "t2", 2)
    found = [effect for effect in made.of("lb1", Preferred) if isinstance(effect, Preferred)]
    assert [(each.server, each.farm) for each in found[-2:]] == [("t1", "east"), ("t2", "east")]
    tell(made, "t2", None, 80)
    last = made.of("lb1", Preferred)[-1]
    assert last == Preferred(DVIPA, 80, "t1", "east")
