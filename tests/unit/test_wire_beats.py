"""Heartbeats by UDP: what they keep alive, what they do not, and what is dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mesh_wire import Wire, check_order, full_mesh, hello

from dvipad.versions import MAX_VERSION, NEWEST, OLDEST
from dvipad.wire.actions import Datagram, DatagramsMissing
from dvipad.wire.beats import MAX_MISSING, Beats
from dvipad.wire.codec import encode
from dvipad.wire.datagram import (
    BEAT_SIZE,
    MAX_DATAGRAM,
    Beat,
    decode_beat,
    encode_beat,
)
from dvipad.wire.events import DownReason, MessageReceived, PeerDown
from dvipad.wire.messages import Dvipa, Heartbeat, Move
from dvipad.wire.session import Session, SessionSettings, State
from dvipad.wire.session_events import Closed, CloseReason

SETTINGS = SessionSettings()
MOVE = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)
numbers = st.integers(0, 2**64 - 1)


# --- the datagram -----------------------------------------------------------------------------


@given(numbers, numbers, st.integers(0, MAX_VERSION), st.binary(max_size=MAX_DATAGRAM - BEAT_SIZE))
def test_a_heartbeat_is_read_back_whatever_a_later_version_adds(
    token: int, sequence: int, version: int, more: bytes
) -> None:
    beat = Beat(token, sequence, version)
    assert decode_beat(encode_beat(beat) + more) == beat


@given(st.binary(max_size=2 * MAX_DATAGRAM))
def test_anything_else_is_no_heartbeat(data: bytes) -> None:
    assert (decode_beat(data) is None) == (
        not BEAT_SIZE <= len(data) <= MAX_DATAGRAM or not data.startswith(b"DH")
    )


@given(st.integers(0, BEAT_SIZE - 1))
def test_a_heartbeat_that_was_cut_off_is_none(length: int) -> None:
    assert decode_beat(encode_beat(Beat(1, 1))[:length]) is None


# --- one session ------------------------------------------------------------------------------


def open_session(token: int = 5) -> Session:
    """A leader's session that is open at 0 ms; its peer takes datagrams with `token`."""
    session = Session(hello("a"), SETTINGS, 0)
    session.receive_data(encode(replace(hello("b"), token=token)), 0)
    session.confirm(0)
    while session.next_event() is not None:
        pass
    return session


def serve(session: Session, now_ms: int, until_ms: int) -> int:
    """Steps a session that is served in time, until `until_ms` or its end; returns when."""
    while (due_ms := session.deadline()) is not None and due_ms <= until_ms:
        now_ms = max(now_ms, due_ms)
        session.handle_deadline(now_ms)
    return now_ms


def end_of(session: Session) -> Closed:
    """Why it is over."""
    event = session.next_event()
    assert isinstance(event, Closed)
    return event


def beaten(session: Session, from_ms: int, until_ms: int, every_ms: int = 30) -> None:
    """Heartbeats come by UDP, and nothing else, until the session is over."""
    for number, now_ms in enumerate(range(from_ms, until_ms, every_ms), 1):
        serve(session, now_ms - every_ms, now_ms)
        session.receive_beat(number, now_ms)


def test_datagrams_alone_keep_a_session_for_a_while() -> None:
    session = open_session()
    beaten(session, 30, SETTINGS.stuck_ms)
    assert session.state is State.OPEN


def test_datagrams_alone_do_not_keep_a_session_whose_connection_is_broken() -> None:
    session = open_session()
    beaten(session, 30, 2 * SETTINGS.stuck_ms)
    event = end_of(session)
    assert (event.reason, event.keyword) == (CloseReason.STUCK, "stuck")
    assert event.detail == "the connection brought nothing for 3000 ms"


def test_bytes_alone_keep_a_session() -> None:
    session = open_session()
    for now_ms in range(100, 3 * SETTINGS.stuck_ms, 100):
        serve(session, now_ms - 100, now_ms)
        session.receive_data(encode(Heartbeat()), now_ms)
    assert session.state is State.OPEN
    assert session.beats_unheard == 0


@given(st.integers(1, 100), st.integers(0, 99), st.integers(0, 29))
def test_a_host_that_dies_is_found_no_later_than_by_tcp_alone(
    at: int, since_bytes_ms: int, since_beat_ms: int
) -> None:
    """And no sooner than `dead_ms` - `heartbeat_ms` after its last moment: its lease is over."""
    session = open_session()
    died_ms = 1000 + at
    beaten(session, 30, 990)
    session.receive_data(encode(Heartbeat()), died_ms - since_bytes_ms)
    session.receive_beat(1000, died_ms - since_beat_ms)
    found_ms = serve(session, died_ms, 5000)
    assert end_of(session).reason is CloseReason.SILENT
    assert found_ms - died_ms <= SETTINGS.dead_ms
    assert found_ms - died_ms >= SETTINGS.dead_ms - SETTINGS.heartbeat_ms


def test_only_a_newer_heartbeat_says_something() -> None:
    session = open_session()
    assert session.receive_beat(5, 90)
    assert session.receive_beat(6, 100)
    assert not session.receive_beat(6, 150)
    assert not session.receive_beat(5, 190)
    assert serve(session, 190, 1000) == 100 + SETTINGS.beat_worth_ms


def test_a_heartbeat_after_the_end_says_nothing() -> None:
    session = open_session()
    session.close("over")
    assert not session.receive_beat(9, 10)
    assert session.next_beat() is None


def test_a_peer_that_asked_for_none_gets_none() -> None:
    assert open_session(token=0).next_beat() is None
    assert open_session(token=7).next_beat() == Beat(7, 1, NEWEST)


def test_who_was_late_itself_gives_the_connection_time_too() -> None:
    session = open_session()
    assert session.receive_beat(1, 60_000)
    assert session.state is State.OPEN
    session.receive_data(encode(Heartbeat()), 60_090)
    assert serve(session, 60_090, 61_000) == 60_390


# --- the datagrams of a node ------------------------------------------------------------------


def make_beats(secret: bytes = b"secret", incarnation: int = 1) -> tuple[Beats, Counter[str]]:
    counters: Counter[str] = Counter()
    return Beats(hello("a", incarnation), secret, SETTINGS, counters), counters


def test_tokens_are_never_the_same() -> None:
    lives = [(b"one", 1), (b"other", 1), (b"one", 2)]
    tokens = [make_beats(*life)[0].hello().token for life in lives]
    beats, _ = make_beats(b"third")
    tokens += [beats.hello().token for _ in range(100)]
    assert len(set(tokens)) == len(tokens)
    assert 0 not in tokens


anybodys = st.builds(encode_beat, st.builds(Beat, numbers, numbers))


@given(st.binary(max_size=MAX_DATAGRAM + 10) | anybodys)
def test_strangers_are_counted_and_dropped(data: bytes) -> None:
    beats, counters = make_beats()
    session = Session(beats.hello(), SETTINGS, 0)
    beats.add(session)
    beats.receive(data, 10)
    assert counters.total() == 1
    assert counters["udp_malformed"] + counters["udp_stranger"] == 1


@pytest.mark.parametrize("version", [0, *range(OLDEST, NEWEST + 2), MAX_VERSION])
def test_a_datagram_of_a_version_that_is_not_spoken_is_counted_and_dropped(version: int) -> None:
    beats, counters = make_beats()
    session = Session(beats.hello(), SETTINGS, 0)
    beats.add(session)
    beats.receive(encode_beat(Beat(session.token, 1, version)), 10)
    spoken = OLDEST <= version <= NEWEST
    assert counters == {"udp_received" if spoken else "udp_version": 1}


def test_heartbeats_have_the_version_of_their_session() -> None:
    beats, _ = make_beats(incarnation=3)
    old = replace(hello("X"), token=7, newest=OLDEST)
    session = Session(beats.hello(), SETTINGS, 0)
    session.receive_data(encode(old), 0)
    beats.add(session)
    beats.add(greeted(beats, "Z"))
    sent = [each.data for each in beats.due(0) if isinstance(each, Datagram)]
    versions = [beat.version for data in sent if (beat := decode_beat(data)) is not None]
    assert versions == [OLDEST, NEWEST]


def test_a_datagram_of_an_ended_session_is_a_strangers() -> None:
    beats, counters = make_beats()
    session = Session(beats.hello(), SETTINGS, 0)
    beats.add(session)
    beats.receive(encode_beat(Beat(session.token, 1)), 10)
    beats.receive(encode_beat(Beat(session.token, 1)), 10)
    beats.remove(session)
    beats.receive(encode_beat(Beat(session.token, 2)), 20)
    assert counters == {"udp_received": 1, "udp_old": 1, "udp_stranger": 1}


def greeted(beats: Beats, name: str) -> Session:
    """A session with node `name`, which takes datagrams."""
    session = Session(beats.hello(), SETTINGS, 0)
    session.receive_data(encode(replace(hello(name), token=1)), 0)
    beats.add(session)
    return session


def missing(outputs: list[Datagram | DatagramsMissing]) -> list[DatagramsMissing]:
    return [each for each in outputs if isinstance(each, DatagramsMissing)]


def test_missing_datagrams_are_told_once_and_when_they_come_again() -> None:
    beats, counters = make_beats(incarnation=3)
    session = greeted(beats, "Z")
    assert session.state is State.FOLLOWING
    reports = [each for now in range(0, 9000, 30) for each in missing(beats.due(now))]
    assert reports == [DatagramsMissing("Z", True)]
    beats.receive(encode_beat(Beat(session.token, 1)), 9000)
    assert missing(beats.due(9001)) == [DatagramsMissing("Z", False)]
    assert counters["udp_missing"] == 1


def test_what_is_remembered_of_missing_datagrams_is_bounded() -> None:
    beats, counters = make_beats()
    for number in range(MAX_MISSING + 10):
        session = greeted(beats, f"A{number}")
        for now in range(0, 3030, 30):
            beats.due(number * 10_000 + now)
        beats.remove(session)
    assert counters["udp_missing"] == MAX_MISSING + 10
    assert len(beats._missing) == MAX_MISSING


# --- many nodes -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
@example(657)  # seven in a row, once
def test_loss_and_stalled_connections_kill_nobody(seed: int) -> None:
    """A fifth of the datagrams is lost, and each connection stands still half of the time.

    Not more than six in a row: seven, and a connection that stands still, are what a death looks
    like.
    """
    random = Random(seed)
    in_a_row: Counter[tuple[str, str]] = Counter()
    wire = full_mesh("abc")
    started_ms = wire.now_ms
    stalled_until: dict[tuple[str, str], int] = {}

    def holds(source: str, to: str) -> bool:
        until_ms = stalled_until.setdefault((source, to), started_ms + random.randint(0, 500))
        if wire.now_ms > until_ms + 500:
            stalled_until[source, to] = wire.now_ms + random.randint(200, 900)
        return wire.now_ms < stalled_until[source, to]

    def loses(source: str, to: str) -> bool:
        lost = random.random() < 0.2 and in_a_row[source, to] < 6
        in_a_row[source, to] = in_a_row[source, to] + 1 if lost else 0
        return lost

    wire.loses = loses
    wire.holds = holds
    assert wire.nodes["a"].send("b", MOVE, wire.now_ms)
    wire.run(11_000)
    assert not any(wire.told(name, PeerDown) for name in "abc")
    assert MessageReceived("a", MOVE) in wire.told("b", MessageReceived)
    check_order(wire)


def test_without_datagrams_everything_is_as_with_tcp_alone() -> None:
    wire = Wire(loses=lambda source, to: True)
    for name in "abc":
        wire.start(name, *"abc")
    wire.run(10_000)
    assert [wire.up(name) for name in "abc"] == ["bc", "ac", "ab"]
    assert not any(wire.told(name, PeerDown) for name in "abc")
    told = [(name, report.name, report.missing) for _, name, report in wire.reports]
    assert sorted(told) == [(a, b, True) for a in "abc" for b in "abc" if a != b]
    wire.dark.add("c")
    wire.run(10_400)
    assert wire.told("a", PeerDown) == [PeerDown("c", DownReason.SILENT)]


@pytest.mark.parametrize("one_way", [True, False])
def test_a_connection_that_brings_nothing_ends_in_bounded_time(one_way: bool) -> None:
    wire = full_mesh("abc")
    wire.holds = lambda source, to: (
        (source, to) == ("a", "b") or (not one_way and (source, to) == ("b", "a"))
    )
    wire.run(1000 + SETTINGS.stuck_ms - 200)
    assert not any(wire.told(name, PeerDown) for name in "abc")
    wire.run(1000 + SETTINGS.stuck_ms + SETTINGS.dead_ms + 100)
    assert wire.told("b", PeerDown) == [PeerDown("a", DownReason.SILENT)]
    assert PeerDown("b", DownReason.LOST if one_way else DownReason.SILENT) in wire.told(
        "a", PeerDown
    )
    assert wire.nodes["b"].counters["stuck"] == 1
    assert not wire.told("c", PeerDown)


def test_a_daemon_that_starts_again_is_not_kept_alive_by_its_former_life() -> None:
    wire = full_mesh("ab")
    wire.kill("b")
    wire.start("b", incarnation=2)
    former = encode_beat(Beat(1, 1 << 40))
    wire.nodes["b"].receive_datagram(former, wire.now_ms)
    wire.run(2000)
    assert wire.nodes["b"].counters["udp_stranger"] >= 1
    assert wire.up("a") == "b"
