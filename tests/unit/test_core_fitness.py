"""Who answers badly gets less, who does not answer gets nothing; in rings, at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.core.distributor import REWEIGH_MS
from dvipad.core.fitness import PROBED, SCALED, WELL, Fitness, scaled, with_probes
from dvipad.core.inputs import Measured, Reach, Reached
from dvipad.core.methods import RING_MAX
from dvipad.wire.events import DownReason
from dvipad.wire.messages import Quality, ServiceQuality
from tests.unit.test_core_workload import T1, T2, cluster, told, turns, weights
from tests.unit_core_cluster import DVIPA, Cluster

HOLDS_MS = 6_000
percentages = st.integers(0, 100)
fitnesses = st.builds(Fitness, percentages, percentages, percentages, percentages)
addresses = st.lists(st.ip_addresses(v=4), min_size=1, max_size=RING_MAX)


def quality(**parts: int) -> Measured:
    return Measured(Quality(HOLDS_MS, (ServiceQuality(DVIPA, 80, **parts),)))


def reached(name: str, tcsr: int) -> Measured:
    return Measured(Reached((Reach(name, DVIPA, 80, tcsr),)))


@given(fitnesses)
def test_tsr_is_nothing_only_if_one_of_its_parts_is(fitness: Fitness) -> None:
    assert 0 <= fitness.tsr <= 100
    assert (fitness.tsr == 0) is (min(fitness.tcsr, fitness.cer, fitness.sef) == 0)


@given(st.sampled_from(DistMethod), st.integers(0, 99), fitnesses)
def test_weights_are_never_more_and_nothing_only_for_a_reason(
    method: DistMethod, weight: int, fitness: Fitness
) -> None:
    found = scaled(method, weight, fitness)
    assert 0 <= found <= scaled(method, weight, WELL) == 100 * weight
    if fitness.tsr > 0 and fitness.left > 0 and weight > 0:
        assert found > 0
    if fitness.tsr == 0:
        assert found == 0


@given(addresses, st.lists(st.ip_addresses(v=4), max_size=4, unique=True))
def test_probes_are_single(ring: list[Address], probed: list[Address]) -> None:
    found = Counter(with_probes(tuple(ring), probed))
    probes = set(probed) - set(ring)
    assert sum(found.values()) <= RING_MAX
    assert all(found[probe] == 1 for probe in probes)
    assert sum(found.values()) >= PROBED // 2 or not probes
    assert set(found) - probes <= set(ring)


def test_rings_without_a_probe_stay_as_they_are() -> None:
    assert with_probes((T1, T2), [T2]) == (T1, T2)
    assert with_probes((), [T2]) == ()
    ring = with_probes((T1,), [T2])
    assert ring == (*[T1] * (PROBED - 1), T2)


@pytest.mark.parametrize("method", list(DistMethod))
def test_who_accepts_nothing_gets_nothing_at_once_and_gets_it_back(method: DistMethod) -> None:
    made = cluster(method)
    before = turns(made)
    now_ms = made.now_ms
    told(made, "t1", quality(sef=0))
    assert turns(made) == {T2: 1} and made.now_ms < now_ms + REWEIGH_MS
    told(made, "t1", quality(sef=100))
    assert turns(made) == before


def test_hot_standby_that_does_not_switch_for_health_stays() -> None:
    made = cluster(DistMethod.HOTSTANDBY, health_switch=False)
    told(made, "t1", quality(sef=0))
    assert turns(made) == {T1: 1}


def test_what_a_node_said_lapses() -> None:
    made = cluster(DistMethod.ROUNDROBIN)
    told(made, "t1", quality(sef=0))
    assert turns(made) == {T2: 1}
    made.pass_time(made.now_ms + HOLDS_MS)
    assert turns(made) == {T1: 1, T2: 1}


def test_what_a_node_said_goes_with_it() -> None:
    made = cluster(DistMethod.ROUNDROBIN)
    told(made, "t1", quality(sef=0))
    made.end("t1", DownReason.SILENT)
    made.pass_time(made.now_ms + HOLDS_MS // 2)
    assert fitness(made, "lb1") == WELL


def test_nobody_answers_is_nobody_in_particular() -> None:
    made = cluster(DistMethod.ROUNDROBIN)
    for name in ("t1", "t2"):
        told(made, name, quality(sef=0))
    assert turns(made) == {T1: 1, T2: 1}


@pytest.mark.parametrize("method", [DistMethod.ROUNDROBIN, DistMethod.BASEWLM])
def test_a_target_that_is_not_reached_is_probed(method: DistMethod) -> None:
    made = cluster(method)
    told(made, "lb1", reached("t1", 0))
    assert turns(made) == {T1: 1, T2: PROBED - 1}
    told(made, "lb1", Measured(Reached(())))
    assert turns(made) == {T1: 1, T2: 1}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (DistMethod.BASEWLM, {T1: 1, T2: 4}),
        (DistMethod.WEIGHTEDACTIVE, {T1: 1, T2: 2}),
        (DistMethod.ROUNDROBIN, {T1: 1, T2: 1}),
    ],
)
def test_loss_and_slow_answers_scale_weights(
    method: DistMethod, expected: dict[Address, int]
) -> None:
    made = cluster(method)
    for name in ("t1", "t2"):
        told(made, name, weights(40))
    told(made, "t1", quality(left=50, cer=50))
    made.pass_time(made.now_ms + REWEIGH_MS)
    assert turns(made) == expected
    assert (method in SCALED) is (expected != {T1: 1, T2: 1})


def test_a_backup_knows_it_ahead_and_counts_its_own_way_to_targets() -> None:
    made = cluster(DistMethod.ROUNDROBIN)
    told(made, "t1", quality(sef=0, loss=7))
    assert fitness(made, "lb2") == Fitness(sef=0)
    told(made, "lb2", reached("t1", 60))
    assert fitness(made, "lb2") == Fitness(sef=0, tcsr=60)
    assert fitness(made, "lb1") == replace(WELL, sef=0)


def fitness(made: Cluster, name: str) -> Fitness:
    return made.nodes[name].distributor.fitness("t1", DVIPA, 80)
