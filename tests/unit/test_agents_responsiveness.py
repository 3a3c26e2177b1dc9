"""TCSR, CER and SEF: who hangs is known in time, who works is not accused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.agents.responsiveness import (
    FEW,
    LOOKS,
    Accepting,
    Completing,
    Reaching,
    compared,
    share,
)

small = st.integers(0, 50)
queues = st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), small, max_size=3)
A = b"a"


def watched(*queue: int, per_look: int = 0, counted: bool = True) -> list[int]:
    """SEF of one listener; `per_look` connections are established between two looks."""
    accepting, found = Accepting(), []
    for number, waiting in enumerate(queue):
        established = number * per_look
        span = (established, established) if counted else None
        found.append(accepting.step(span, {A: waiting}))
    return found


@pytest.mark.parametrize("counted", [True, False])
def test_a_server_that_stops_accepting_is_known_after_one_interval_and_a_quarter(
    counted: bool,
) -> None:
    found = watched(0, 0, 0, 0, 0, 10, 20, 30, 40, 50, 60, per_look=10, counted=counted)
    assert found.index(0) == 5 + LOOKS and set(found[: 5 + LOOKS]) == {100}


@pytest.mark.parametrize("counted", [True, False])
def test_and_that_it_accepts_again_at_the_next_look(counted: bool) -> None:
    assert watched(9, 9, 9, 9, 9, 9, 0, counted=counted)[-2:] == [0, 100]


def test_a_full_queue_that_moves_is_no_failure() -> None:
    assert watched(*[5] * 20, per_look=1000)[-1] >= 99
    assert watched(1, 0, 1, 0, 1, 0, 1, 0)[-1] == 100


def test_one_of_two_listeners_hangs() -> None:
    accepting = Accepting()
    for number in range(4 * LOOKS):
        told = accepting.step((40 * number, 40 * number), {A: 0, b"b": 10 * (number + 1)})
    assert 50 < told < 100


def test_a_listener_that_was_opened_anew_begins_well() -> None:
    accepting = Accepting()
    for _ in range(2 * LOOKS):
        told = accepting.step((0, 0), {A: 5})
    assert told == 0
    assert accepting.step((0, 0), {b"b": 5}) == 100


def test_what_is_established_while_queues_are_read_is_not_taken_for_accepted() -> None:
    accepting = Accepting()
    for number in range(3 * LOOKS):
        told = accepting.step((10 * number, 10 * number + 3), {A: 10 * number + 2})
    assert told == 0


@given(st.lists(st.tuples(st.none() | st.tuples(small, small), queues), max_size=20))
def test_sef_is_a_percentage_whatever_is_seen(
    seen: list[tuple[tuple[int, int], dict[bytes, int]]],
) -> None:
    accepting = Accepting()
    assert all(0 <= accepting.step(*look) <= 100 for look in seen)


def test_handshakes() -> None:
    completing = Completing()
    assert completing.step(0, frozenset()) == 100
    assert completing.step(100, frozenset({b"x"})) == 100
    assert completing.step(200, frozenset({b"x"})) == 99  # one client that went away
    stuck = frozenset(bytes([number]) for number in range(FEW))
    assert completing.step(200, stuck) == 99
    assert completing.step(200, stuck) == 0
    assert completing.step(200, frozenset()) == 0, "nobody asked, so nothing is better"
    assert completing.step(201, frozenset()) == 100


@given(st.lists(st.tuples(st.none() | small, st.frozensets(st.binary(max_size=1))), max_size=20))
def test_cer_is_a_percentage_whatever_is_seen(
    seen: list[tuple[int | None, frozenset[bytes]]],
) -> None:
    completing = Completing()
    assert all(0 <= completing.step(*look) <= 100 for look in seen)


def reached(sent: list[int], completed: list[int]) -> list[int]:
    reaching = Reaching()
    return [reaching.step(*pair) for pair in zip(sent, completed, strict=True)]


def test_a_path_that_breaks_is_known_within_two_intervals_and_what_comes_through_ends_it() -> None:
    sent = [10 * number for number in range(40)]
    completed = [min(each, 100) for each in sent]
    found = reached(sent, completed)
    broken = sent.index(100)
    assert found.index(0) <= broken + 2 * LOOKS and set(found[: broken + 1]) == {100}
    assert (
        reached([*sent, *[400] * LOOKS, 401, 401], [*completed, *[100] * LOOKS, 100, 101])[-1] > 0
    )


def test_a_path_that_breaks_again_is_known_as_soon_as_the_first_time() -> None:
    """What was lost is repeated by its clients meanwhile, and comes through."""
    times = []
    reaching, sent, completed = Reaching(), 0, 0
    for _ in range(2):
        for look in range(4 * LOOKS):
            sent += 10
            if reaching.step(sent, completed) == 0:
                times.append(look)
                break
        for _ in range(3 * LOOKS):
            sent = completed = sent + 10
            reaching.step(sent, completed)
    assert times[1] <= times[0] <= 2 * LOOKS


def test_probes_that_fail_do_not_end_it() -> None:
    sent = [10 * number for number in range(20)] + [190 + number // 3 for number in range(40)]
    assert set(reached(sent, [min(each, 50) for each in sent])[20:]) == {0}


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=60))
def test_who_completes_all_is_never_accused(rates: list[tuple[int, int]]) -> None:
    """The last connections of a look may still be under way."""
    reaching, sent = Reaching(), 0
    for rate, under_way in rates:
        sent += rate
        assert reaching.step(sent, sent - min(rate, under_way)) == 100


@given(st.lists(st.tuples(small, small), max_size=40))
def test_tcsr_is_a_percentage_whatever_is_counted(pairs: list[tuple[int, int]]) -> None:
    reaching = Reaching()
    assert all(0 <= reaching.step(*pair) <= 100 for pair in pairs)


@given(small, small, st.integers(0, 100))
def test_shares(done: int, failed: int, before: int) -> None:
    found = share(done, failed, before)
    assert 0 <= found <= 100
    assert found > 0 or done == 0
    assert done or failed or found == before


def test_clients_that_never_answer_are_nobodys_fault() -> None:
    assert compared({"t1": 2, "t2": 2, "t3": 0}) == {"t1": 100, "t2": 100, "t3": 0}
    assert compared({"t1": 100, "t2": 50}) == {"t1": 100, "t2": 50}
    assert compared({"t1": 0, "t2": 0}) == {"t1": 100, "t2": 100}
    assert compared({}) == {}
