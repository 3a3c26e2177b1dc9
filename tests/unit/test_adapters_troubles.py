"""What lasts is reported, what is gone for a while is over, and nothing in between."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.troubles import Patience, Persistence, Stalls, Trouble

PATIENCE = Patience(persist_ms=10, uplink_ms=3, clear_ms=20)
LOST, FULL = Trouble.NO_UPLINK, Trouble.STORAGE
MOMENTS = st.lists(
    st.tuples(st.integers(1, 30), st.frozensets(st.sampled_from([LOST, FULL]))), max_size=12
)


def history(moments: list[tuple[int, frozenset[Trouble]]]) -> list[frozenset[Trouble]]:
    """What is there in each millisecond."""
    return [present for length_ms, present in moments for _ in range(length_ms)]


def lasted(present: list[frozenset[Trouble]], trouble: Trouble, there: bool, ms: int) -> bool:
    """Whether it has been there, or not, for the last `ms` before the end."""
    tail = present[-ms - 1 :]
    return len(tail) == ms + 1 and all((trouble in each) is there for each in tail)


@given(MOMENTS)
def test_looking_every_millisecond_reports_exactly_what_lasts(
    moments: list[tuple[int, frozenset[Trouble]]],
) -> None:
    present = history(moments)
    persistence = Persistence(PATIENCE)
    for now_ms, now_there in enumerate(present):
        before = persistence.reported
        persistence.see(now_there, now_ms)
        for trouble in (LOST, FULL):
            so_far = present[: now_ms + 1]
            begins = lasted(so_far, trouble, True, PATIENCE.before_report_ms(trouble))
            ends = lasted(so_far, trouble, False, PATIENCE.clear_ms)
            expected = begins or (trouble in before and not ends)
            assert (trouble in persistence.reported) is expected


@given(MOMENTS)
def test_looking_at_changes_and_deadlines_is_enough(
    moments: list[tuple[int, frozenset[Trouble]]],
) -> None:
    present = history(moments)
    always, seldom = Persistence(PATIENCE), Persistence(PATIENCE)
    for now_ms, (last, now_there) in enumerate(pairwise([frozenset[Trouble](), *present])):
        always.see(now_there, now_ms)
        due_ms = seldom.deadline()
        if last != now_there or now_ms == 0:
            seldom.see(now_there, now_ms)
        elif due_ms is not None and due_ms <= now_ms:
            seldom.expire(now_ms)
        assert always.reported == seldom.reported


def test_what_is_wrong_at_the_start_is_reported_at_once() -> None:
    persistence = Persistence(PATIENCE)
    persistence.see({FULL}, 0, at_once=True)
    assert persistence.reported == {FULL}
    persistence.see(set(), 5)
    assert (persistence.reported, persistence.deadline()) == (frozenset({FULL}), 25)
    persistence.expire(25)
    assert (persistence.reported, persistence.deadline()) == (frozenset(), None)


def test_without_rejoin_it_is_over_when_it_is_forgiven() -> None:
    persistence = Persistence(Patience(10, 3, 20, rejoin=False))
    persistence.see({FULL}, 0)
    persistence.expire(10)
    persistence.see(set(), 20)
    persistence.expire(1000)
    assert (persistence.reported, persistence.deadline()) == (frozenset({FULL}), None)
    persistence.forgive(1000)
    assert persistence.reported == frozenset()
    persistence.see({FULL}, 2000)
    persistence.expire(2010)
    assert persistence.reported == {FULL}
    persistence.forgive(3000)
    persistence.expire(3009)
    assert persistence.reported == frozenset()
    persistence.expire(3010)
    assert persistence.reported == {FULL}


def test_a_loop_that_is_late_again_and_again_starves() -> None:
    stalls = Stalls(late_ms=300)
    assert not any(stalls.ran(300, now_ms) for now_ms in range(0, 5000, 100))
    assert not stalls.ran(301, 5000)
    assert not stalls.ran(9000, 5100)
    assert stalls.ran(301, 14_999)
    assert stalls.ran(0, 14_999)
    assert not stalls.ran(0, 15_000)
