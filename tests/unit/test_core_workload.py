"""Weights of nodes in the core: rings follow them, what lapsed counts as unknown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.address import Address
from dvipad.config.model import (
    OWNER_RANK,
    Backup,
    Define,
    DistMethod,
    Distribute,
    Moveable,
    PortRange,
    Profile,
    TargetSpec,
)
from dvipad.core.distributor import REWEIGH_MS
from dvipad.core.effects import (
    Broadcast,
    EndConnections,
    PurgeTarget,
    RemoveService,
    RetainConnections,
    SetService,
)
from dvipad.core.inputs import Adopted, AdoptedService, Listener, ListenersChanged, Measured
from dvipad.core.methods import RING_MAX, Choice, comparable, ring
from dvipad.core.source import Source
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason
from dvipad.wire.messages import ServerWeight, Weights
from tests.unit_core_cluster import DVIPA, XCF, Cluster

HOLDS_MS = 6_000
T1, T2 = XCF["t1"], XCF["t2"]
LISTED = (TargetSpec(T1), TargetSpec(T2))
STANDBY = (TargetSpec(T1, standby_rank=OWNER_RANK), TargetSpec(T2, standby_rank=10))


def weights(host: int | None, millicpus: int = 2000, **more: object) -> Measured:
    return Measured(Weights(HOLDS_MS, host, millicpus, **more))  # type: ignore[arg-type]


def cluster(method: DistMethod, **options: bool) -> Cluster:
    targets = STANDBY if method is DistMethod.HOTSTANDBY else LISTED
    plain = Distribute(DVIPA, (PortRange(80, 80),), targets, method)
    row = replace(plain, **options)  # type: ignore[arg-type]
    made = Cluster(
        "lb1",
        "lb2",
        "t1",
        "t2",
        profiles={
            "lb1": Profile(defines=(Define(DVIPA, 24),), distributes=(row,)),
            "lb2": Profile(backups=(Backup(DVIPA, 10, Moveable.IMMEDIATE, 24),)),
        },
    )
    made.pass_time(5_000)
    return made


def told(made: Cluster, name: str, event: Measured) -> None:
    made.feed(name, event)
    made.settle()


def turns(made: Cluster, distributor: str = "lb1") -> Counter[Address]:
    """How many turns each target has of port 80."""
    return Counter(made.nodes[distributor].distributor.services_of(DVIPA)[80].ring)


def sources(made: Cluster) -> list[Source]:
    return [row.source for row in made.nodes["lb1"].distributor.services_of(DVIPA)[80].rows]


def test_equal_turns_while_nothing_is_known() -> None:
    made = cluster(DistMethod.BASEWLM)
    assert turns(made) == {T1: 1, T2: 1}
    assert sources(made) == [Source.DEFAULT] * 2


def test_turns_are_in_the_proportion_of_weights_also_on_a_backup_that_takes_over() -> None:
    made = cluster(DistMethod.BASEWLM)
    told(made, "t1", weights(60))
    told(made, "t2", weights(20))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 3, T2: 1}
    assert sources(made) == [Source.BASE] * 2
    made.end("lb1", DownReason.SILENT)
    made.pass_time(made.now_ms + 3_000)
    assert turns(made, "lb2") == {T1: 3, T2: 1}


def test_a_bigger_node_with_the_same_weight_gets_more() -> None:
    made = cluster(DistMethod.BASEWLM)
    told(made, "t1", weights(32, 8000))
    told(made, "t2", weights(32, 2000))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 4, T2: 1}


def test_all_zero_is_all_the_same_and_one_zero_gets_nothing() -> None:
    made = cluster(DistMethod.BASEWLM)
    for host, expected in ((0, {T1: 1, T2: 1}), (5, {T1: 1})):
        told(made, "t1", weights(host))
        told(made, "t2", weights(0))
        made.pass_time(made.now_ms + REWEIGH_MS)
        assert turns(made) == expected


def test_a_server_weighs_for_serverwlm_and_its_node_when_nothing_is_known_of_it() -> None:
    made = cluster(DistMethod.SERVERWLM)
    told(made, "t1", weights(10, servers=(ServerWeight(DVIPA, 80, 40), ServerWeight(None, 80, 1))))
    told(made, "t2", weights(20, servers=(ServerWeight(None, 443, 1),)))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 2, T2: 1}
    assert sources(made) == [Source.SERVER, Source.BASE]
    told(made, "t1", weights(10, servers=(ServerWeight(IPv4Address("0.0.0.0"), 80, 60),)))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 3, T2: 1}


def test_targets_control_themselves() -> None:
    made = cluster(DistMethod.TARGCONTROLLED)
    told(made, "t1", weights(1, 9000, announced=40))
    told(made, "t2", weights(64, 100, announced=10))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 4, T2: 1}
    told(made, "t1", weights(1, 9000))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 1, T2: 1}, "one that says nothing gets what others have on average"


@pytest.mark.parametrize("method", [DistMethod.ROUNDROBIN, DistMethod.WEIGHTEDACTIVE])
def test_other_methods_do_not_look_at_measured_weights(method: DistMethod) -> None:
    made = cluster(method)
    before = len(made.of("lb1", SetService))
    told(made, "t1", weights(60))
    told(made, "t2", weights(20))
    made.pass_time(made.now_ms + 2 * REWEIGH_MS)
    assert turns(made) == {T1: 1, T2: 1} and len(made.of("lb1", SetService)) == before


def test_a_node_that_falls_silent_about_itself_is_unknown_again() -> None:
    made = cluster(DistMethod.BASEWLM)
    told(made, "t1", weights(60))
    for _ in range(4):
        told(made, "t2", weights(20))
        made.pass_time(made.now_ms + HOLDS_MS // 3)
    workloads = made.nodes["lb1"].workloads
    assert workloads.lapsed == 1 and set(workloads.known()) == {"t2"}
    assert turns(made) == {T1: 1, T2: 1}
    assert sources(made) == [Source.DEFAULT, Source.BASE]


def test_what_does_not_change_is_said_again_before_it_lapses() -> None:
    made = cluster(DistMethod.BASEWLM)
    for _ in range(9):
        told(made, "t1", weights(60))
        made.pass_time(made.now_ms + HOLDS_MS // 3)
        assert set(made.nodes["lb1"].workloads.known()) == {"t1"}
    said = [
        effect
        for effect in made.done["t1"]
        if isinstance(effect, Broadcast) and isinstance(effect.message, Weights)
    ]
    assert 4 <= len(said) <= 6


def test_a_node_that_joins_hears_what_was_said() -> None:
    made = cluster(DistMethod.BASEWLM)
    told(made, "t1", weights(60))
    told(made, "t2", weights(20))
    made.end("lb2", DownReason.SILENT)
    made.start("lb2")
    assert set(made.nodes["lb2"].workloads.known()) == {"t1", "t2"}
    made.end("t2", DownReason.SILENT)
    assert set(made.nodes["lb1"].workloads.known()) == {"t1"}


def test_many_changes_are_few_rings_and_no_connection_is_touched() -> None:
    made = cluster(DistMethod.BASEWLM)
    made.pass_time(20_000)  # what follows the start is over
    told(made, "t2", weights(20))
    before = len(made.done["lb1"])
    for step in range(100):
        told(made, "t1", weights(20 + step % 40))
        made.pass_time(made.now_ms + REWEIGH_MS // 50)
    effects = made.done["lb1"][before:]
    rings = [effect for effect in effects if isinstance(effect, SetService)]
    assert 1 <= len(rings) <= 4
    touching = EndConnections | PurgeTarget | RetainConnections | RemoveService
    assert not [effect for effect in effects if isinstance(effect, touching)]


def test_a_change_of_weights_that_changes_no_ring_does_nothing() -> None:
    made = cluster(DistMethod.BASEWLM)
    told(made, "t1", weights(20))
    told(made, "t2", weights(20))
    made.pass_time(made.now_ms + REWEIGH_MS)
    before = len(made.of("lb1", SetService))
    told(made, "t1", weights(40))
    told(made, "t2", weights(40))
    made.pass_time(made.now_ms + 2 * REWEIGH_MS)
    assert turns(made) == {T1: 1, T2: 1} and len(made.of("lb1", SetService)) == before


# -- HOTSTANDBY -------------------------------------------------------------------------------


def listen(made: Cluster, name: str, ready: int) -> None:
    made.feed(name, ListenersChanged((Listener(None, 80, ready),) if ready else ()))
    made.settle()


@pytest.mark.parametrize("back", [True, False])
def test_hot_standby_switches_back_only_if_it_may(back: bool) -> None:
    made = cluster(DistMethod.HOTSTANDBY, auto_switch_back=back)
    assert turns(made) == {T1: 1}
    listen(made, "t1", 0)
    assert turns(made) == {T2: 1}
    listen(made, "t1", 1)
    assert turns(made) == ({T1: 1} if back else {T2: 1})
    listen(made, "t2", 0)
    assert turns(made) == {T1: 1}


def test_who_is_active_stays_so_under_another_distributor() -> None:
    made = cluster(DistMethod.HOTSTANDBY, auto_switch_back=False)
    listen(made, "t1", 0)
    listen(made, "t1", 1)
    made.end("lb1", DownReason.GOODBYE)
    made.pass_time(made.now_ms + 10_000)
    assert made.state("lb2") is State.ACTIVE
    assert turns(made, "lb2") == {T2: 1}, "a takeover"
    made.start("lb1")
    made.pass_time(made.now_ms + 10_000)
    assert made.state("lb1") is State.ACTIVE
    assert turns(made, "lb1") == {T2: 1}, "a takeback"
    listen(made, "t2", 0)
    assert turns(made, "lb1") == {T1: 1}
    listen(made, "t2", 1)
    made.end("lb1", DownReason.LOST)
    made.pass_time(made.now_ms + 10_000)
    assert turns(made, "lb2") == {T1: 1}, "the last word of the former one"


def test_who_is_active_stays_so_when_its_distributor_is_restarted() -> None:
    made = cluster(DistMethod.HOTSTANDBY, auto_switch_back=False)
    made.end("lb1", DownReason.LOST)
    adopted = Adopted(DVIPA, True, 1, False, (AdoptedService(80, (T2,)),))
    made.start("lb1", adopted)
    made.pass_time(made.now_ms + 2_000)
    assert made.state("lb1") is State.ACTIVE
    assert turns(made, "lb1") == {T2: 1}


def test_a_new_distributor_begins_with_the_preferred_one_if_it_may() -> None:
    made = cluster(DistMethod.HOTSTANDBY)
    listen(made, "t1", 0)
    assert turns(made) == {T2: 1}
    listen(made, "t1", 1)
    made.end("lb1", DownReason.GOODBYE)
    made.pass_time(made.now_ms + 10_000)
    assert turns(made, "lb2") == {T1: 1}


@pytest.mark.parametrize("looks", [True, False])
def test_hot_standby_leaves_one_that_is_not_well(looks: bool) -> None:
    made = cluster(DistMethod.HOTSTANDBY, health_switch=looks)
    told(made, "t1", weights(0))
    told(made, "t2", weights(30))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == ({T2: 1} if looks else {T1: 1})
    told(made, "t2", weights(0))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == {T1: 1}, "when none is well, as if all were"


# -- rings ------------------------------------------------------------------------------------

figures = st.none() | st.tuples(st.integers(0, 64), st.integers(1, 10**6))


@given(st.lists(figures, min_size=1, max_size=32))
def test_comparable_weights(given_figures: list[tuple[int, int] | None]) -> None:
    found = comparable(given_figures)
    assert all(0 <= weight <= 64 for weight in found)
    for figure, weight in zip(given_figures, found, strict=True):
        if figure is not None:
            assert (weight == 0) == (figure[0] == 0)
    known = [weight for figure, weight in zip(given_figures, found, strict=True) if figure]
    for figure, weight in zip(given_figures, found, strict=True):
        if figure is None:
            assert weight >= 1 and (not known or weight <= max(1, *known))


@given(st.lists(st.integers(0, 64), min_size=1, max_size=32))
def test_rings_are_in_the_proportion_of_weights(numbers: list[int]) -> None:
    choices = [
        Choice(IPv4Address(0xC0000201 + index), weight) for index, weight in enumerate(numbers)
    ]
    got = Counter(ring(DistMethod.BASEWLM, choices))
    total = sum(got.values())
    assert 0 < total <= RING_MAX
    if not any(numbers):
        assert len(got) == len(numbers) and len(set(got.values())) == 1
        return
    for choice in choices:
        share = choice.weight / sum(numbers)
        assert abs(got[choice.xcf] - share * total) <= 1 + 2 * len(numbers) * share
        assert (got[choice.xcf] == 0) == (choice.weight == 0)
