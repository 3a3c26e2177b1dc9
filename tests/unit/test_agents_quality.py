"""What loss makes of a weight: the formula, whatever the kernel says."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.tcp_info import Flow, counts_timeouts, flow_of
from dvipad.agents.quality import SEGMENTS_MIN, Cuts, Figures, Look, Quality, Steps, left, total

NOTHING = Flow(0, 0, 0)
counts = st.integers(0, 2**32)
flows = st.builds(Flow, counts, counts, st.integers(0, 2**16), counts)
looks = st.builds(
    Look,
    st.dictionaries(st.sampled_from([bytes([number]) for number in range(4)]), flows),
    st.booleans(),
    st.none() | flows,
    st.integers(-9, 9),
)
ratios = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("loss", "timeouts", "expected"),
    [
        (0.0, 0.0, 100),
        (0.019, 0.049, 100),
        (0.02, 0.0, 75),
        (0.04, 0.0, 50),
        (0.06, 0.0, 25),
        (0.9, 0.0, 5),
        (0.0, 0.05, 50),
        (0.0, 0.1, 0),
        (0.04, 0.05, 25),
    ],
)
def test_cuts_are_those_of_zos(loss: float, timeouts: float, expected: int) -> None:
    assert left(Figures(loss, timeouts), Cuts()) == expected


@pytest.mark.parametrize(
    ("use", "expected"),
    [(None, 100), (0.8, 100), (0.9, 50), (1.0, 0), (7.0, 0), (float("nan"), 100)],
)
def test_a_service_gets_no_more_connections_than_it_is_built_for(
    use: float | None, expected: int
) -> None:
    assert left(Figures(use=use), Cuts()) == expected


@given(ratios, ratios, st.none() | ratios)
def test_whatever_is_read_a_part_is_left(loss: float, timeouts: float, use: float | None) -> None:
    assert 0 <= left(Figures(loss, timeouts, use), Cuts()) <= 100


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_loss_never_leaves_more(one: float, other: float, timeouts: float) -> None:
    least, most = (left(Figures(loss, timeouts), Cuts()) for loss in sorted((one, other)))
    assert most <= least


@given(st.lists(looks, min_size=1, max_size=8))
def test_figures_are_ratios_whatever_counters_do(seen: list[Look]) -> None:
    quality = Quality(Cuts(connections=3))
    for look in seen:
        figures = quality.step(look)
        assert 0 <= figures.loss <= 1 and 0 <= figures.timeouts <= 1
        assert figures.use is None or figures.use >= 0
        assert figures.use is not None or not look.whole


def of(*found: Flow, whole: bool = True, ended: Flow | None = NOTHING) -> Look:
    return Look({bytes([number]): flow for number, flow in enumerate(found)}, whole, ended)


def test_a_connection_counts_what_it_did_in_the_interval() -> None:
    quality = Quality(Cuts())
    assert quality.step(of(Flow(10_000, 5_000, 9))) == Figures()
    figures = quality.step(of(Flow(11_000, 5_050, 19, 700)))
    assert figures == Figures(0.05, 0.01, None, 700)


def test_connections_between_two_looks_count_when_they_are_over() -> None:
    quality = Quality(Cuts())
    quality.step(of(Flow(100, 50, 0), ended=Flow(7_000, 0, 0)))
    figures = quality.step(of(ended=Flow(8_100, 150, 0)))  # the one we saw had lost 50 before
    assert figures.loss == 0.1


def test_of_some_connections_only_those_count_that_were_seen_twice() -> None:
    quality = Quality(Cuts())
    quality.step(Look({b"a": Flow(0, 0, 0)}, False, NOTHING))
    seen = {b"a": Flow(1_000, 20, 0), b"b": Flow(9_000, 9_000, 0)}
    assert quality.step(Look(seen, False, Flow(500, 500, 0))).loss == 0.02


def test_few_segments_are_no_proof() -> None:
    quality = Quality(Cuts())
    quality.step(of())
    assert quality.step(of(Flow(3, 1, 0))).loss == 1 / SEGMENTS_MIN


def test_who_gets_nothing_is_forgiven() -> None:
    quality = Quality(Cuts())
    quality.step(of())
    lost = [quality.step(of(ended=Flow(1_000, 200, 120)))]
    lost += [quality.step(of(ended=Flow(1_000, 200, 120))) for _ in range(4)]
    assert [figures.loss for figures in lost] == [0.2, 0.1, 0.05, 0.025, 0.0125]
    assert [left(figures, Cuts()) for figures in lost] == [0, 3, 50, 75, 100]


def test_a_lossy_time_is_over_after_some_intervals() -> None:
    quality = Quality(Cuts())
    sent, seen = NOTHING, []
    for lost in (0, 0, 0, 80, 80, 80, 0, 0):
        sent = total((sent, Flow(1_000, lost, 0)))
        seen.append(left(quality.step(of(ended=sent)), Cuts()))
    assert seen == [100, 100, 100, 25, 25, 25, 100, 100]


def test_connections_are_counted_on_when_they_are_too_many_to_list() -> None:
    quality = Quality(Cuts(connections=10))
    assert quality.step(Look({}, False, NOTHING, 5)).use is None
    assert quality.step(Look({b"a": NOTHING}, True, NOTHING, 5)).use == 0.1
    assert quality.step(Look({b"a": NOTHING}, False, NOTHING, 12)).use == 0.8
    assert quality.step(Look({b"a": NOTHING}, False, None, 0)).use is None


def test_counters_that_run_backwards_say_nothing_and_are_counted() -> None:
    quality = Quality(Cuts())
    quality.step(of(Flow(1_000, 900, 0), ended=Flow(9_000, 900, 0)))
    assert quality.step(of(Flow(10, 9, 0), ended=Flow(5, 4, 0))).loss == 0
    assert quality.backwards == 2


@given(st.integers(1, 1000), st.integers(0, 100), st.integers(0, 100), ratios)
def test_steps_stay_within_their_limit(per: int, percent: int, most: int, ratio: float) -> None:
    assert 0 <= Steps(per, percent, most).cut(ratio) <= most


def info(length: int = 248) -> bytes:
    found = bytearray(length)
    for form, at, value in (
        ("B", 4, 3),
        ("I", 68, 1_500),
        ("I", 100, 7),
        ("I", 156, 90),
        ("H", 240, 5),
    ):
        if at + struct.calcsize(form) <= length:
            struct.pack_into(f"={form}", found, at, value)
    return bytes(found)


def test_what_a_kernel_lacks_has_a_substitute() -> None:
    assert flow_of(info()) == Flow(91, 7, 5, 1_500)
    old = flow_of(info(232))
    assert old == replace(Flow(91, 7, 5, 1_500), timeouts=3) and not counts_timeouts(info(232))
    assert flow_of(info(159)) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_flow_or_none(data: bytes) -> None:
    found = flow_of(data)
    assert (found is None) is (len(data) < 160)
