"""Many pure meshes on a small wire: everybody finds everybody, whatever dies is told apart."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_wire import Wire, check_order, full_mesh, member

from dvipad.wire.events import (
    DownReason,
    HostAnswered,
    MessageReceived,
    PeerDown,
    PeerUp,
)
from dvipad.wire.messages import Dvipa, Members, Move

MOVE = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(2, 8))
def test_one_seed_is_enough(random: Random, size: int) -> None:
    names = "abcdefgh"[:size]
    wire = Wire(latency_ms=lambda: random.randint(0, 20))
    seed = random.choice(names)
    for name in random.sample(names, size):
        wire.start(name, *({seed} - {name}))
        wire.run(wire.now_ms + random.randint(0, 60))
    wire.run(wire.now_ms + 3000)
    for name in names:
        assert wire.up(name) == names.replace(name, "")
        assert not wire.told(name, PeerDown)
        assert len(wire.told(name, PeerUp)) == size - 1
    assert len(wire.ends) == size * (size - 1)
    check_order(wire)


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False))
def test_connections_made_at_once_leave_one_and_lose_no_message(random: Random) -> None:
    wire = Wire(latency_ms=lambda: random.randint(0, 30))
    wire.start("a", "b")
    wire.start("b", "a")
    while not wire.told("a", PeerUp):
        wire.run(wire.now_ms + 1)
    sent = [Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), epoch) for epoch in range(20)]
    for message in sent:
        assert wire.nodes["a"].send("b", message, wire.now_ms)
        wire.run(wire.now_ms + random.randint(0, 9))
    wire.run(wire.now_ms + 1000)
    assert len(wire.ends) == 2
    received = [
        e.message for e in wire.told("b", MessageReceived) if isinstance(e, MessageReceived)
    ]
    assert [message for message in received if isinstance(message, Dvipa)] == sent
    assert not wire.told("a", PeerDown) + wire.told("b", PeerDown)


def test_a_daemon_that_dies_on_a_living_host_is_lost_and_its_host_answers() -> None:
    wire = full_mesh("abc")
    wire.kill("c")
    wire.run(4000)
    assert wire.told("a", PeerDown) == [PeerDown("c", DownReason.LOST)]
    times = [at_ms for at_ms, event in wire.events["a"] if event == HostAnswered("c")]
    assert times[0] - 1000 <= 100
    quick = [at_ms for at_ms in times if at_ms < 1000 + 3000]
    assert max(b - a for a, b in pairwise(quick)) <= 100
    wire.run(20_000)
    late = [at_ms for at_ms, event in wire.events["a"] if at_ms > 12_000 and event]
    assert 3 <= len(late) <= 6


def test_a_daemon_that_starts_again_is_another_incarnation() -> None:
    wire = full_mesh("abc")
    wire.kill("c")
    wire.run(1100)
    wire.start("c", incarnation=2)
    wire.run(1300)
    assert wire.told("a", PeerUp)[-1] == PeerUp(member("c"), 2)
    assert wire.up("c") == "ab"
    check_order(wire)


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_newer_incarnation_replaces_the_session_at_once(name: str) -> None:
    wire = full_mesh("abc")
    for key in [key for key in wire.ends if key[0] == name]:
        del wire.ends[wire.ends.pop(key)]
    wire.start(name, "b", incarnation=2)
    wire.run(1030)
    assert wire.told("b", PeerDown) == [PeerDown(name, DownReason.LOST)]
    assert wire.told("b", PeerUp)[-1] == PeerUp(member(name), 2)
    check_order(wire)


def test_a_dark_host_is_silent_after_dead_ms_and_never_answers() -> None:
    wire = full_mesh("abc")
    wire.dark.add("c")
    wire.run(6000)
    ((at_ms, down),) = [item for item in wire.events["a"] if isinstance(item[1], PeerDown)]
    assert down == PeerDown("c", DownReason.SILENT)
    assert 200 <= at_ms - 1000 <= 301
    assert not wire.told("a", HostAnswered)
    assert wire.up("a") == "b"
    wire.dark.clear()
    wire.run(12_000)
    assert [wire.up(name) for name in "abc"] == ["bc", "ac", "ab"]
    check_order(wire)


def test_a_lost_daemon_whose_host_goes_dark_then_no_longer_answers() -> None:
    wire = full_mesh("ab")
    wire.kill("b")
    wire.run(1500)
    wire.dark.add("b")
    wire.run(4000)
    last_ms = max(at_ms for at_ms, event in wire.events["a"] if event == HostAnswered("b"))
    assert 1400 <= last_ms <= 1501


@pytest.mark.parametrize("pause_ms", [250, 1000, 60_000])
def test_nodes_that_were_late_themselves_accuse_nobody(pause_ms: int) -> None:
    wire = full_mesh("abc")
    wire.queue.clear()
    wire.now_ms += pause_ms
    wire.run(wire.now_ms + 3000)
    assert not any(wire.told(name, PeerDown) for name in "abc")


def test_a_late_node_finds_a_dark_host_a_heartbeat_later() -> None:
    wire = full_mesh("ab")
    wire.dark.add("b")
    wire.now_ms += 1000
    wire.run(4000)
    (at_ms,) = [at for at, event in wire.events["a"] if isinstance(event, PeerDown)]
    assert at_ms == 2100


def test_goodbye_is_told_from_a_loss() -> None:
    wire = full_mesh("abc")
    wire.nodes["c"].leave("stopped", wire.now_ms)
    wire.run(1010)
    assert wire.nodes["c"].deadline() is None
    assert wire.told("a", PeerDown) == [PeerDown("c", DownReason.GOODBYE)]
    assert wire.told("c", PeerDown) == [PeerDown(name, DownReason.GOODBYE) for name in "ab"]
    wire.kill("c")
    wire.run(5000)
    assert not wire.told("a", HostAnswered)


def test_a_malformed_frame_drops_that_peer_and_counts_why() -> None:
    wire = full_mesh("abc")
    key = next(key for key, other in wire.ends.items() if (key[0], other[0]) == ("c", "a"))
    wire.write(key, b"\x00garbage")
    wire.run(1004)
    assert wire.told("a", PeerDown) == [PeerDown("c", DownReason.PROTOCOL)]
    assert wire.nodes["a"].counters["magic"] == 1
    assert not wire.told("b", PeerDown)
    wire.run(3000)
    assert wire.up("a") == "bc"


def test_members_of_the_sender_are_told_on_change() -> None:
    wire = full_mesh("abc")
    wire.kill("b")
    wire.run(1100)
    assert wire.told("a", MessageReceived)[-1] == MessageReceived("c", Members((member("a"),)))
