"""VIPARANGE, MOVEABLE WHENIDLE and self-care, between nodes that talk to each other directly."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dvipad.config.model import Backup, Define, Moveable, Profile, Range
from dvipad.core.effects import Decision, ProbeAddress, Refusal, RetainConnections, WatchRanges
from dvipad.core.inputs import (
    AddressesBound,
    Adopted,
    DeleteAsked,
    Ordered,
    ProfileChanged,
    TroublesChanged,
)
from dvipad.core.orders import Orders
from dvipad.core.ranges import Code, covering, second
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason
from dvipad.wire.messages import Origin
from tests.unit_core_cluster import DVIPA, PROFILES, ROWS, Cluster, cluster

HERE = IPv4Address("203.0.113.201")
RANGE = Range(IPv4Address("203.0.113.200"), 29)


def ranges(moveable: Moveable = Moveable.NONDISRUPTIVE) -> Cluster:
    row = replace(RANGE, moveable=moveable)
    made = Cluster(
        "lb1", "lb2", "t1", profiles={name: Profile(ranges=(row,)) for name in ("lb1", "lb2", "t1")}
    )
    made.pass_time(5_000)
    return made


def bind(made: Cluster, name: str, number: int = 1) -> None:
    made.feed(name, AddressesBound(((HERE, number),) if number else ()))
    made.settle()
    made.pass_time(made.now_ms + 400)


def activate(made: Cluster, name: str, orders: Orders) -> None:
    made.feed(name, Ordered(orders))
    made.settle()
    made.pass_time(made.now_ms + 400)


def refusals(made: Cluster, name: str) -> list[str]:
    return [effect.reason for effect in made.of(name, Refusal) if isinstance(effect, Refusal)]


def test_the_most_specific_range_counts() -> None:
    wide = Range(IPv4Address("203.0.113.0"), 24, Moveable.DISRUPTIVE)
    assert covering((wide, RANGE), HERE) is RANGE
    assert covering((wide, RANGE), IPv4Address("203.0.113.9")) is wide
    assert covering((wide, RANGE), IPv4Address("192.0.2.9")) is None


def test_a_bind_activates_the_address_after_a_probe() -> None:
    made = ranges()
    assert made.of("lb1", WatchRanges) == [WatchRanges(frozenset({(RANGE.network, 29)}))]
    bind(made, "lb1")
    assert made.state("lb1", HERE) is State.ACTIVE
    assert made.of("lb1", ProbeAddress) == [ProbeAddress(HERE)]
    view = next(row for row in made.nodes["lb1"].view().dvipas if row.dvipa == HERE)
    assert (view.status, view.origin, view.moveable) == (
        "ACTIVE",
        "VIPARANGE BIND",
        "NONDISRUPTIVE",
    )


def test_another_host_that_has_the_address_keeps_it() -> None:
    made = ranges()
    made.fail_next.add(("lb1", ProbeAddress))
    bind(made, "lb1")
    assert made.state("lb1", HERE) is State.BACKUP
    assert not [step for step in made.done["lb1"] if getattr(step, "owned", False)]


def test_the_address_moves_along_a_chain_and_the_last_one_that_wants_it_keeps_it() -> None:
    made = ranges()
    for name in ("lb1", "lb2", "t1"):
        bind(made, name)
        assert made.state(name, HERE) is State.ACTIVE
    assert {made.state(name, HERE) for name in ("lb1", "lb2")} <= {State.MOVING, State.BACKUP}
    made.end("t1", DownReason.SILENT)
    made.pass_time(made.now_ms + 2_000)
    owners = {name for name in ("lb1", "lb2") if made.state(name, HERE) is State.ACTIVE}
    assert len(owners) == 1, "an application is still bound to it there"


def test_a_second_bind_here_takes_it_back() -> None:
    made = ranges()
    bind(made, "lb1")
    bind(made, "lb2")
    assert made.state("lb2", HERE) is State.ACTIVE
    made.pass_time(made.now_ms + 5_000)
    bind(made, "lb1", number=2)
    assert made.state("lb1", HERE) is State.ACTIVE
    assert made.state("lb2", HERE) in (State.MOVING, State.BACKUP)


def test_it_stays_until_its_last_connection_ends() -> None:
    made = ranges()
    bind(made, "lb1")
    made.count = 3
    bind(made, "lb1", number=0)
    made.pass_time(made.now_ms + 5_000)
    assert made.state("lb1", HERE) is State.ACTIVE
    made.count = 0
    made.pass_time(made.now_ms + 5_000)
    assert made.nodes["lb1"].owners.get(HERE) is None


def test_a_command_deletes_it_at_once_until_somebody_binds_again() -> None:
    made = ranges()
    bind(made, "lb1")
    made.count = 3
    assert made.nodes["lb1"].owners.parts.deletable(HERE).code is Code.DONE
    made.feed("lb1", DeleteAsked(HERE))
    made.settle()
    assert made.nodes["lb1"].owners.get(HERE) is None
    bind(made, "lb1", number=2)
    assert made.state("lb1", HERE) is State.ACTIVE


@pytest.mark.parametrize(
    ("first", "moveable", "origin", "code"),
    [
        (Origin.BIND, Moveable.NONDISRUPTIVE, Origin.BIND, Code.DONE),
        (Origin.BIND, Moveable.DISRUPTIVE, Origin.BIND, Code.REFUSED),
        (Origin.BIND, Moveable.NONDISRUPTIVE, Origin.IOCTL, Code.DONE),
        (Origin.IOCTL, Moveable.NONDISRUPTIVE, Origin.BIND, Code.REFUSED),
        (Origin.IOCTL, Moveable.DISRUPTIVE, Origin.IOCTL, Code.DONE),
        (Origin.DEFINE, Moveable.IMMEDIATE, Origin.BIND, Code.REFUSED),
    ],
)
def test_the_table_of_conflicts(
    first: Origin, moveable: Moveable, origin: Origin, code: Code
) -> None:
    verdict = second(first, moveable, "lb9", origin)
    assert verdict.code is code
    assert ("lb9" in verdict.reason) == (code is Code.REFUSED)


def test_a_bind_does_not_take_what_a_command_activated() -> None:
    made = ranges()
    activate(made, "lb1", Orders().activate(HERE))
    assert made.state("lb1", HERE) is State.ACTIVE
    bind(made, "lb2")
    assert made.nodes["lb2"].owners.get(HERE) is None
    assert "lb1 has it by VIPARANGE IOCTL" in refusals(made, "lb2")[0]
    activate(made, "lb2", Orders().activate(HERE))
    assert made.state("lb2", HERE) is State.ACTIVE


def test_a_disruptive_move_breaks_connections_that_end_elsewhere() -> None:
    made = ranges(Moveable.DISRUPTIVE)
    activate(made, "lb1", Orders().activate(HERE))
    activate(made, "lb2", Orders().activate(HERE))
    assert made.state("lb2", HERE) is State.ACTIVE
    broken = [step for step in made.of("lb2", RetainConnections) if not step.keys]
    assert broken


def test_codes_of_an_activation() -> None:
    made = ranges()
    parts = made.nodes["lb1"].owners.parts
    assert parts.verdict(IPv4Address("192.0.2.99"), Origin.IOCTL).code is Code.REFUSED
    assert parts.verdict(HERE, Origin.IOCTL).code is Code.DONE
    bind(made, "lb1")
    assert parts.verdict(HERE, Origin.IOCTL).code is Code.USABLE
    assert parts.deletable(DVIPA).code is Code.REFUSED


def test_a_statement_does_not_take_an_address_of_a_range() -> None:
    made = ranges()
    bind(made, "lb1")
    define = Profile(ranges=(RANGE,), defines=(Define(HERE, 29),))
    for name in ("lb1", "lb2"):
        made.feed(name, ProfileChanged(define))
    made.settle()
    made.pass_time(made.now_ms + 5_000)
    assert made.state("lb1", HERE) is State.ACTIVE
    assert "VIPADEFINE fails" in refusals(made, "lb1")[0]
    assert "VIPADEFINE waits" in refusals(made, "lb2")[0]


def test_a_daemon_that_restarts_keeps_the_connections_of_an_address_of_a_range() -> None:
    made = ranges()
    made.count = 1
    made.end("lb1", DownReason.LOST)
    made.start("lb1", Adopted(HERE, True, 3))
    made.pass_time(made.now_ms + 3_000)
    assert made.state("lb1", HERE) is State.ACTIVE
    made.count = 0
    made.pass_time(made.now_ms + 3_000)
    assert made.nodes["lb1"].owners.get(HERE) is None


def test_when_idle_waits_for_the_last_connection() -> None:
    backup = Backup(DVIPA, 10, Moveable.IMMEDIATE, 24)
    made = Cluster(
        "lb2",
        "t1",
        profiles={
            "lb1": Profile(defines=(Define(DVIPA, 24, Moveable.WHENIDLE),), distributes=ROWS),
            "lb2": Profile(backups=(backup,), distributes=ROWS),
        },
    )
    made.pass_time(5_000)
    made.count = 1
    made.start("lb1")
    made.pass_time(made.now_ms + 10_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.BACKUP, State.ACTIVE)
    made.count = 0
    made.pass_time(made.now_ms + 10_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)
    triggers = [step.trigger for step in made.of("lb2", Decision) if isinstance(step, Decision)]
    assert "idle, and its primary waits" in triggers


def test_a_node_in_trouble_gives_to_its_backup_and_takes_back_when_well() -> None:
    made = cluster()
    made.feed("lb1", TroublesChanged(frozenset({"storage full"})))
    made.settle()
    made.pass_time(made.now_ms + 5_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.BACKUP, State.ACTIVE)
    assert made.nodes["lb1"].view().troubles == ("storage full",)
    made.feed("lb1", TroublesChanged(frozenset()))
    made.settle()
    made.pass_time(made.now_ms + 5_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)


def test_a_node_in_trouble_that_is_alone_keeps_what_it_has() -> None:
    made = Cluster("lb1", "t1", "t2", profiles=PROFILES)
    made.pass_time(5_000)
    made.feed("lb1", TroublesChanged(frozenset({"storage full"})))
    made.settle()
    made.pass_time(made.now_ms + 5_000)
    assert made.state("lb1") is State.ACTIVE


def test_what_was_just_given_up_is_taken_when_it_is_offered() -> None:
    made = ranges()
    bind(made, "lb1")
    bind(made, "lb2")
    assert made.state("lb1", HERE) is State.MOVING
    made.feed("lb2", TroublesChanged(frozenset({"no uplink"})))
    made.settle()
    made.pass_time(made.now_ms + 200)
    assert made.state("lb1", HERE) is State.ACTIVE
