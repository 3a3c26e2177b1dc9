"""What the daemon notes of moves: by why they began, and only those that ended well take time."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dvipad.adapters.process import read_process, read_queue
from dvipad.core.effects import Decision, Refusal
from dvipad.core.vipa import TABLE, Action, State, Trigger
from dvipad.measures import MOVES, Measures

DVIPA = ip_address("192.0.2.100")


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        now += 1.0
        yield now


@pytest.fixture
def measures() -> Measures:
    clock = ticking()
    return Measures(lambda: next(clock))


def take(measures: Measures, *steps: tuple[State, Trigger]) -> None:
    for before, trigger in steps:
        action, after = TABLE[before, trigger]
        words = (trigger.value, action.value, before.value, after.value)
        measures.heard(Decision(DVIPA, *words, 1, "lb1"))


def told(measures: Measures) -> dict[str, tuple[int, float]]:
    rows = {name: each.row() for name, each in measures.moves.items()}
    return {name: (buckets[-1][1], total) for name, (buckets, total) in rows.items() if total}


def test_a_takeover_takes_from_the_trigger_until_the_crt_is_complete(measures: Measures) -> None:
    take(measures, (State.BACKUP, Trigger.OWNER_LOST), (State.TAKEOVER, Trigger.CRT_COMPLETE))
    assert told(measures) == {"owner lost": (1, 1.0)}
    assert measures.decisions[Trigger.OWNER_LOST.value, Action.TAKE_OVER.value] == 1


def test_a_probe_belongs_to_the_first_activation(measures: Measures) -> None:
    take(
        measures,
        (State.BACKUP, Trigger.UNOWNED),
        (State.PROBING, Trigger.UNUSED),
        (State.TAKEOVER, Trigger.CRT_COMPLETE),
    )
    assert told(measures) == {"first": (1, 1.0)}


def test_a_takeback_whose_owner_dies_is_a_takeover(measures: Measures) -> None:
    take(
        measures,
        (State.BACKUP, Trigger.TAKEBACK_DUE),
        (State.TAKEBACK, Trigger.CRT_COMPLETE),
        (State.AWAITING, Trigger.OWNER_LOST),
        (State.TAKEOVER, Trigger.CRT_COMPLETE),
    )
    assert told(measures) == {"owner lost": (1, 1.0)}


def test_a_move_that_fails_is_counted_apart(measures: Measures) -> None:
    take(measures, (State.BACKUP, Trigger.OFFERED), (State.TAKEBACK, Trigger.ABANDONED))
    take(measures, (State.BACKUP, Trigger.SUMMONED), (State.TAKEBACK, Trigger.FAILED))
    assert told(measures) == {}
    assert {name: n for name, n in measures.abandoned.items() if n} == {
        "offered": 1,
        "asked for": 1,
    }


def test_what_happens_to_an_owner_is_no_move_to_this_node(measures: Measures) -> None:
    take(measures, (State.ACTIVE, Trigger.RIVAL_RELEASED), (State.ACTIVE, Trigger.HIGHER_CLAIM))
    measures.heard(Refusal(DVIPA, "no"))
    assert told(measures) == {}
    assert sum(measures.abandoned.values()) == 0
    assert measures.refusals == 1


def test_every_way_to_become_the_owner_begins_with_a_move() -> None:
    """A trigger that is new to the table must get a name here."""
    begins = {
        trigger
        for (before, trigger), (_, after) in TABLE.items()
        if before in (State.BACKUP, State.GIVING, State.MOVING)
        and after in (State.PROBING, State.TAKEOVER, State.TAKEBACK)
    }
    assert begins == set(MOVES)


def test_profiles_that_are_accepted_and_refused(measures: Measures) -> None:
    measures.followed()
    measures.refused()
    assert (measures.generation, measures.reload_failed) == (1, True)
    measures.followed()
    assert (measures.generation, measures.reload_failed) == (2, False)


def test_processes_and_queues_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = ["S", *["1"] * 10, "300", "200", *["1"] * 6, "5000", "8192", "3", "0"]
    (tmp_path / "7" / "stat").write_text(f"7 (a ) b) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu 1\nbtime 1000\nprocesses 3\n")
    found = read_process(7, tmp_path)
    assert found is not None
    assert (found.cpu_s, found.virtual_bytes, found.started_s) == (5.0, 8192, 1050.0)
    assert found.resident_bytes == 3 * 4096
    assert found.open_files is None
    assert read_process(8, tmp_path) is None
    assert read_queue(4780, tmp_path).waiting == 0
    (tmp_path / "self" / "net" / "netfilter").mkdir(parents=True)
    queue = tmp_path / "self" / "net" / "netfilter" / "nfnetlink_queue"
    queue.write_text(" 4779 1 9 2 65531 9 9 0 1\n 4780  123  5 2 65531  6  7  99  1\n")
    assert read_queue(4780, tmp_path) == type(read_queue(1, tmp_path))(5, 6, 7)
