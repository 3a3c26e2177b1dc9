"""Nodes of different releases: what they agree on, what they do not send, and who is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_wire import Wire, check_order, hello, member

from dvipad.config.model import DistMethod, Distribute
from dvipad.versions import GREETING, MAX_VERSION, NEWEST, OLDEST, Versions
from dvipad.wire import codec
from dvipad.wire.actions import Misfit
from dvipad.wire.codec import SINCE, TYPES, WORDS_SINCE, decode, encode
from dvipad.wire.errors import Fault
from dvipad.wire.events import MessageReceived, PeerDown, PeerUp
from dvipad.wire.framing import GREETINGS, Frame, FrameDecoder, encode_frame
from dvipad.wire.links import FORGET_MS, MAX_MISFITS, Misfits
from dvipad.wire.messages import (
    Dvipa,
    Goodbye,
    Heartbeat,
    Hello,
    Members,
    Move,
    Status,
    VipaEntry,
    VipaList,
)
from dvipad.wire.session import Session, SessionSettings, State
from dvipad.wire.session_events import Closed, CloseReason, Received

SPAN = 5
RANGES = [Versions(low, high) for low in range(1, SPAN + 1) for high in range(low, SPAN + 1)]
SETTINGS = SessionSettings()
MOVE = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)
STATUS = Status("9.9", ("no uplink",))
STATUS_NUMBER = next(number for number, kind in TYPES.items() if kind is Status)
V1 = Versions(1, 1)
ranges = st.tuples(st.integers(1, MAX_VERSION), st.integers(1, MAX_VERSION)).map(
    lambda pair: Versions(min(pair), max(pair))
)


def last_event(session: Session) -> object:
    event = None
    while (following := session.next_event()) is not None:
        event = following
    return event


def meet(one: Versions, other: Versions) -> tuple[Session, Session]:
    """Both ends of a connection after the greeting, the leader first."""
    leader = Session(hello("a", versions=one), SETTINGS, 0)
    follower = Session(hello("b", versions=other), SETTINGS, 0)
    to_follower, to_leader = leader.data_to_send(), follower.data_to_send()
    follower.receive_data(to_follower, 0)
    leader.receive_data(to_leader, 0)
    if leader.state is State.LEADING:
        leader.confirm(0)
    follower.receive_data(leader.data_to_send(), 0)
    return leader, follower


def frames(data: bytes, version: int) -> Iterator[Frame]:
    decoder = FrameDecoder()
    decoder.version = version
    decoder.feed(data)
    while (frame := decoder.next_frame()) is not None:
        yield frame


@given(ranges, ranges)
def test_two_ranges_agree_on_the_newest_that_is_in_both(one: Versions, other: Versions) -> None:
    both = set(range(one.oldest, one.newest + 1)) & set(range(other.oldest, other.newest + 1))
    assert one.agreed(other) == other.agreed(one) == max(both, default=None)


@pytest.mark.parametrize("one", RANGES, ids=str)
def test_both_ends_speak_the_same_version_or_refuse(one: Versions) -> None:
    for other in RANGES:
        leader, follower = meet(one, other)
        agreed = one.agreed(other)
        if agreed is None:
            for end, own, theirs in ((leader, one, other), (follower, other, one)):
                event = last_event(end)
                assert isinstance(event, Closed)
                assert (event.reason, event.keyword) == (CloseReason.PROTOCOL, Fault.VERSION)
                assert f"speaks mesh versions {theirs}, this node {own}: " in event.detail
                assert "upgrade node by node, one release at a time" in event.detail
            continue
        assert leader.version == follower.version == agreed
        assert leader.state is follower.state is State.OPEN
        follower.send(MOVE, 1)
        data = follower.data_to_send()
        assert data[2] == agreed
        leader.receive_data(data, 1)
        assert last_event(leader) == Received(MOVE)


@pytest.mark.parametrize("other", [Versions(2, 1), Versions(4, 3), Versions(MAX_VERSION, 1)])
def test_a_range_that_is_none_is_refused(other: Versions) -> None:
    assert all(each.agreed(other) is None for each in RANGES)


def test_the_greeting_is_of_the_first_version_for_ever() -> None:
    assert {TYPES[number] for number in GREETINGS} == {Hello, Goodbye}
    assert GREETING == 1
    for version in range(1, SPAN):
        assert encode(hello("a"), version)[2] == encode(Goodbye("x"), version)[2] == GREETING
        assert encode(Heartbeat(), version)[2] == version


def test_a_release_that_knows_no_versions_speaks_the_first() -> None:
    """What version 1 sent before there was another one, byte for byte."""
    header = b'{"cluster":"lab","member":{"name":"a","xcf":"192.0.2.1","port":4780}'
    header += b',"incarnation":1,"version":1,"token":0}'
    old = b"DV\x01\x00\x00\x01" + len(header).to_bytes(4, "big") + bytes(4) + header
    beat = b"DV\x01\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00{}"
    end = Session(hello("b"), SETTINGS, 0)
    ours = end.data_to_send()
    assert ours.startswith(b"DV\x01\x00\x00\x01")
    assert json.loads(ours[14:])["version"] == 1  # it refuses every other one
    end.receive_data(old + beat, 0)
    assert (end.state, end.version) == (State.OPEN, 1)
    end.send(Heartbeat(), 1)
    assert end.data_to_send() == beat
    end.send(STATUS, 2)
    assert end.data_to_send() == b""


@pytest.mark.parametrize("version", [0, 1, 3, MAX_VERSION])
def test_frames_of_another_version_than_the_agreed_one_are_a_fault(version: int) -> None:
    leader, _ = meet(Versions(1, 2), Versions(1, 2))
    leader.receive_data(encode(MOVE, max(1, version))[:2] + bytes([version]), 1)
    if leader.state is State.OPEN:  # it might be a greeting
        leader.receive_data(encode(MOVE)[3:14], 1)
    event = last_event(leader)
    assert isinstance(event, Closed) and event.keyword == Fault.VERSION


@pytest.mark.parametrize("message", [hello("b"), Goodbye("x")])
def test_a_greeting_in_a_frame_of_another_version_is_a_fault(message: Hello | Goodbye) -> None:
    leader, _ = meet(Versions(1, 2), Versions(1, 2))
    data = bytearray(encode(message))
    data[2] = 2
    leader.receive_data(bytes(data), 1)
    event = last_event(leader)
    assert isinstance(event, Closed) and event.keyword == Fault.VERSION


def test_what_a_version_brought_is_in_its_sessions_only() -> None:
    assert encode(STATUS, 1) == b""
    (frame,) = frames(encode(STATUS, 2), 2)
    ignored: Counter[str] = Counter()
    assert decode(frame, 2, ignored) == STATUS
    assert not ignored
    assert decode(frame, 1, ignored) is None
    assert ignored == {"unknown_message": 1}
    assert set(SINCE.values()) <= set(range(OLDEST + 1, NEWEST + 1))


def test_a_field_of_a_later_version_is_not_written_and_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget() -> None:
        codec._encoder.cache_clear()
        codec._decoder.cache_clear()

    monkeypatch.setitem(SINCE, (Status, "troubles"), 3)
    forget()
    try:
        (old,) = frames(encode(STATUS, 2), 2)
        assert json.loads(old.header) == {"release": "9.9"}
        (new,) = frames(encode(STATUS, 3), 3)
        assert decode(new, 3) == STATUS
        ignored: Counter[str] = Counter()
        assert decode(new, 2, ignored) == replace(STATUS, troubles=())
        assert ignored == {"unknown_field": 1}
    finally:
        forget()


@pytest.mark.parametrize(("version", "said"), [(1, "WEIGHTEDACTIVE"), (2, "LEASTCONN")])
def test_a_word_of_a_later_version_is_said_in_other_words(version: int, said: str) -> None:
    dvipa = IPv4Address("203.0.113.1")
    row = Distribute(dvipa, method=DistMethod.LEASTCONN)
    entry = VipaEntry(dvipa, 255, True, True, 1, (row,))
    (frame,) = frames(encode(VipaList((entry,)), version), version)
    ((told,),) = [each["distributes"] for each in json.loads(frame.header)["entries"]]
    assert told["method"] == said
    assert isinstance(decode(frame, version), VipaList)
    assert {since for since, _ in WORDS_SINCE.values()} <= set(range(OLDEST + 1, NEWEST + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
news = st.dictionaries(st.text(min_size=1, max_size=8), json_values, min_size=1, max_size=4)


@given(news, st.integers(0, 65_535), st.binary(max_size=20))
def test_news_of_a_newer_peer_is_ignored_and_counted(
    news: dict[str, object], number: int, rest: bytes
) -> None:
    ignored: Counter[str] = Counter()
    end = Session(hello("b"), SETTINGS, 0, ignored)
    peer = Session(hello("a", versions=Versions(1, 9)), SETTINGS, 0)
    end.receive_data(peer.data_to_send(), 0)
    end.receive_data(encode(Heartbeat(), 2), 0)
    added = {name: value for name, value in news.items() if name not in ("release", "troubles")}
    header = {"release": "9.9", "troubles": ["no uplink"], **added}
    end.receive_data(encode_frame(Frame(STATUS_NUMBER, json.dumps(header).encode()), 2), 1)
    assert last_event(end) == Received(STATUS)
    assert ignored["unknown_field"] == len(added)
    if number not in TYPES:
        end.receive_data(encode_frame(Frame(number, rest, rest), 2), 2)
        assert (end.state, last_event(end)) == (State.OPEN, None)
        assert ignored["unknown_message"] == 1


# --- whole meshes -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(RANGES), min_size=2, max_size=6))
def test_a_cluster_of_many_releases(random: object, spans: list[Versions]) -> None:
    names = "abcdef"[: len(spans)]
    wire = Wire()
    for name, versions in zip(names, spans, strict=True):
        wire.start(name, *names, versions=versions)
    wire.run(2000)
    for name, own in zip(names, spans, strict=True):
        links = {link.peer: link for link in wire.nodes[name].links(2000)}
        for peer, theirs in zip(names, spans, strict=True):
            agreed = own.agreed(theirs)
            if peer == name:
                continue
            assert (peer in links) == (agreed is not None)
            if agreed is not None:
                assert links[peer].version == agreed
                status = Status(f"of {peer}") if agreed >= 2 else None
                assert links[peer].status == status
            else:
                assert member(peer).xcf in wire.nodes[name].misfits.reasons(2000)
    check_order(wire)


def test_a_broadcast_reaches_each_in_its_version() -> None:
    wire = Wire()
    wire.start("a", "b", "c")
    wire.start("b", "a", versions=V1)
    wire.start("c", "a")
    wire.run(1000)
    wire.nodes["a"].broadcast(MOVE, wire.now_ms)
    wire.nodes["a"].tell_troubles(("no uplink",), wire.now_ms)
    wire.run(1100)
    for name, status in (("b", None), ("c", Status("of a", ("no uplink",)))):
        told = [e for e in wire.told(name, MessageReceived) if isinstance(e, MessageReceived)]
        assert MessageReceived("a", MOVE) in told
        assert all(isinstance(event.message, Dvipa | Members) for event in told)
        links = {link.peer: link for link in wire.nodes[name].links(wire.now_ms)}
        assert links["a"].status == status
    assert not any(wire.nodes[name].counters["unknown_message"] for name in "abc")


def test_who_has_no_version_in_common_is_told_once_until_it_fits() -> None:
    wire = Wire()
    wire.start("a", "b", versions=Versions(1, 1))
    wire.start("b", "a", versions=Versions(2, 3))
    wire.run(10_000)
    reason = (
        "node 'b' speaks mesh versions 2 to 3, this node 1 to 1: upgrade node by node, "
        "one release at a time"
    )
    mine = [report for _, name, report in wire.reports if name == "a"]
    assert mine == [Misfit(member("b").xcf, reason)]
    assert wire.nodes["a"].counters["version"] > 2
    assert wire.nodes["a"].misfits.reasons(wire.now_ms) == {member("b").xcf: reason}
    wire.kill("a")
    wire.run(10_100)
    wire.start("a", "b", versions=Versions(1, 2), incarnation=2)
    wire.run(13_000)
    assert wire.up("a") == "b"
    assert wire.nodes["b"].misfits.reasons(wire.now_ms) == {}


def test_what_is_remembered_of_refused_nodes_is_bounded_and_forgotten() -> None:
    misfits = Misfits()
    addresses = [IPv4Address(number) for number in range(MAX_MISFITS + 1)]
    for address in addresses:
        assert misfits.refused(address, Fault.CLUSTER, "other", 0) == [Misfit(address, "other")]
    assert list(misfits.reasons(0)) == addresses[1:]
    assert misfits.refused(addresses[7], Fault.VERSION, "later", 50_000) == []
    assert misfits.reasons(FORGET_MS) == {addresses[7]: "later"}
    assert misfits.refused(addresses[8], Fault.VERSION, "x", FORGET_MS) != []
    assert misfits.refused(addresses[9], Fault.STALE, "no business of an operator", 0) == []
    misfits.fits(addresses[7])
    assert list(misfits.reasons(FORGET_MS)) == [addresses[8]]


def test_an_upgrade_node_by_node_keeps_every_other_session() -> None:
    wire = Wire()
    for name in "abc":
        wire.start(name, *"abc", versions=V1)
    wire.run(1000)
    for step, name in enumerate("abc", 1):
        wire.nodes[name].leave("upgrade", wire.now_ms)
        wire.run(wire.now_ms + 50)
        wire.kill(name)
        wire.start(name, *"abc", incarnation=2)
        wire.run(1000 + 2000 * step)
        assert [wire.up(each) for each in "abc"] == ["bc", "ac", "ab"]
    for name in "abc":
        assert {link.version for link in wire.nodes[name].links(wire.now_ms)} == {NEWEST}
    assert not wire.told("c", PeerDown)  # the last one was not there when the others left
    assert len(wire.told("a", PeerUp)) == 2 + 2  # since its start: two peers, each upgraded
    check_order(wire)
