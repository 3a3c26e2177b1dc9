"""The formula of a weight: bounded, and each reading moves it the way that it should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.agents.formula import Level, Reading, Stalls, weight_of
from dvipad.agents.steady import STEP, STEP_SHARE, Steady

anything = st.floats(allow_nan=True, allow_infinity=True)
shares = st.floats(0, 1)
cpus = st.floats(0.01, 512)
levels = st.lists(
    st.tuples(cpus, shares).map(lambda pair: Level(pair[0], pair[0] * pair[1])),
    min_size=1,
    max_size=4,
).map(tuple)
readings = st.builds(
    Reading,
    levels=levels,
    own=st.floats(0, 512),
    low=st.floats(0, 512),
    runnable=st.none() | st.floats(0, 1000),
    stalls=st.builds(Stalls, shares, shares, shares),
    available=shares,
)
rubbish = st.builds(
    Reading,
    levels=st.lists(st.builds(Level, anything, anything), max_size=3).map(tuple),
    own=anything,
    low=anything,
    runnable=st.none() | anything,
    stalls=st.builds(Stalls, anything, anything, anything),
    available=anything,
)


@given(readings)
def test_a_weight_is_0_to_64_and_0_only_without_memory(reading: Reading) -> None:
    weight = weight_of(reading)
    assert weight == 0 if reading.available == 0 else 1 <= weight <= 64


@given(rubbish)
def test_rubbish_has_a_weight_too(reading: Reading) -> None:
    assert 0 <= weight_of(reading) <= 64


@pytest.mark.parametrize(
    ("reading", "weight"),
    [
        (Reading((Level(4, 0),)), 64),
        (Reading((Level(4, 1),)), 48),
        (Reading((Level(4, 1), Level(0.5, 0.25))), 32),
        (Reading((Level(2, 1.5),), own=1.0), 48),
        (Reading((Level(2, 1.5),), low=1.0), 32),
        (Reading((Level(2, 2),)), 1),
        (Reading((Level(2, 2),), runnable=2.0), 16),
        (Reading((Level(2, 0),), stalls=Stalls(cpu=0.5)), 48),
        (Reading((Level(2, 0),), stalls=Stalls(memory=0.25)), 48),
        (Reading((Level(2, 0),), stalls=Stalls(io=1.0)), 32),
        (Reading((Level(2, 0),), available=0.05), 32),
        (Reading((Level(2, 0),), available=0.0), 0),
        (Reading(()), 0),
    ],
)
def test_the_formula(reading: Reading, weight: float) -> None:
    assert weight_of(reading) == pytest.approx(weight)


@given(readings, shares)
def test_work_of_others_lowers_it_and_own_does_not(reading: Reading, part: float) -> None:
    """What a server uses itself moves from free to own: its weight does not suffer from success."""
    reading = replace(reading, own=0.0)
    free = min(level.limit - level.used for level in reading.levels)
    used = tuple(Level(each.limit, each.used + free * part) for each in reading.levels)
    others = replace(reading, levels=used)
    assert weight_of(others) <= weight_of(reading) + 1e-6
    own = replace(others, own=free * part)
    assert weight_of(own) == pytest.approx(weight_of(reading), rel=1e-6, abs=1e-6)


@given(readings, st.sampled_from(["cpu", "memory", "io"]), shares)
def test_waiting_lowers_it(reading: Reading, kind: str, more: float) -> None:
    waited = getattr(reading.stalls, kind)
    worse = replace(reading.stalls, **{kind: waited + (1 - waited) * more})
    assert weight_of(replace(reading, stalls=worse)) <= weight_of(reading) + 1e-9


@given(st.lists(st.floats(0, 64), min_size=1, max_size=60))
def test_a_steady_weight_is_near_what_was_read(weights: list[float]) -> None:
    steady = Steady()
    told = [steady.step(weight) for weight in weights]
    assert all(min(weights) - 1 <= each <= max(weights) + 1 for each in told)
    assert all((each == 0) <= (min(weights) == 0) for each in told)
    last = weights[-1]
    for _ in range(12):
        end = steady.step(last)
    assert abs(end - last) <= max(STEP, STEP_SHARE * end) + 1


@given(st.floats(5, 64), st.lists(st.floats(-1, 1), max_size=60))
def test_noise_does_not_move_it(level: float, noise: list[float]) -> None:
    """Hysteresis: readings that are never far from a level change the weight once at the most."""
    steady = Steady()
    width = max(STEP, STEP_SHARE * level) / 4
    told = {steady.step(level + each * width) for each in [0.0, *noise]}
    assert len(told) <= 2


def test_a_step_is_seen_within_three_intervals() -> None:
    steady = Steady()
    assert steady.step(64) == 64
    assert [steady.step(16) for _ in range(3)] == [40, 28, 22]
    assert [steady.step(64) for _ in range(3)] == [43, 54, 59]


def test_zero_is_told_at_once_and_so_is_its_end() -> None:
    steady = Steady()
    assert [steady.step(weight) for weight in (50, 0, 0, 40)] == [50, 0, 0, 40]


@given(st.lists(anything, min_size=1, max_size=20))
def test_rubbish_is_told_as_a_weight(weights: list[float]) -> None:
    steady = Steady()
    assert all(0 <= steady.step(weight) <= 64 for weight in weights)


def test_weights_settle_where_all_targets_are_equally_busy() -> None:
    """The loop of load and weights: half of t1 is a hog's; the load follows the weights."""
    limit, taken, load = 0.4, (0.2, 0.0, 0.0), 0.9
    steady = [Steady() for _ in taken]
    told = [64, 64, 64]
    history = []
    for _ in range(30):
        used = [
            min(limit - hog, load * weight / sum(told))
            for hog, weight in zip(taken, told, strict=True)
        ]
        told = [
            each.step(weight_of(Reading((Level(limit, hog + own),), own=own)))
            for each, hog, own in zip(steady, taken, used, strict=True)
        ]
        history.append(tuple(told))
    assert len(set(history[10:])) == 1, "it flutters"
    assert told[1] == told[2] and told[0] / told[1] == pytest.approx(0.5, abs=0.05)
    assert not math.isnan(sum(told))
