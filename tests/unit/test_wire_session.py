"""Both ends of a session in one test; time is a number."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.versions import GREETING, NEWEST
from dvipad.wire.codec import encode
from dvipad.wire.errors import Fault
from dvipad.wire.framing import Frame, encode_frame
from dvipad.wire.messages import Dvipa, Goodbye, Heartbeat, Hello, Member, Message, Move
from dvipad.wire.session import (
    MAX_GREETING,
    TRANSITIONS,
    Session,
    SessionSettings,
    State,
    Trigger,
)
from dvipad.wire.session_events import (
    Closed,
    CloseReason,
    Greeted,
    Opened,
    Received,
    SessionEvent,
)

SETTINGS = SessionSettings(heartbeat_ms=100, dead_ms=300, handshake_ms=1000)
MOVE = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)


def hello(name: str, cluster: str = "lab", version: int = 1) -> Hello:
    member = Member(name, IPv4Address("192.0.2.1"), 4780)
    return Hello(cluster, member, 1, version, newest=NEWEST)


def session(name: str, now_ms: int = 0) -> Session:
    return Session(hello(name), SETTINGS, now_ms)


def events(end: Session) -> list[SessionEvent]:
    taken = []
    while (event := end.next_event()) is not None:
        taken.append(event)
    return taken


def exchange(one: Session, other: Session, now_ms: int) -> None:
    """What each has to say reaches the other, once."""
    to_other, to_one = one.data_to_send(), other.data_to_send()
    other.receive_data(to_other, now_ms)
    one.receive_data(to_one, now_ms)


def opened(now_ms: int = 0) -> tuple[Session, Session]:
    """A leader and a follower with an open session, their events taken."""
    leader, follower = session("a", now_ms), session("b", now_ms)
    exchange(leader, follower, now_ms)
    assert events(leader) == [Greeted(hello("b"), leads=True)]
    assert events(follower) == [Greeted(hello("a"), leads=False)]
    leader.confirm(now_ms)
    exchange(leader, follower, now_ms)
    assert events(leader) == [Opened(hello("b"))]
    assert events(follower) == [Opened(hello("a"))]
    return leader, follower


def test_messages_go_both_ways() -> None:
    leader, follower = opened()
    leader.send(MOVE, 10)
    follower.send(MOVE, 10)
    exchange(leader, follower, 10)
    assert events(leader) == events(follower) == [Received(MOVE)]


def test_the_follower_waits_for_the_leader() -> None:
    leader, follower = session("a"), session("b")
    exchange(leader, follower, 0)
    assert (leader.state, follower.state) == (State.LEADING, State.FOLLOWING)
    leader.close("duplicate")
    exchange(leader, follower, 1)
    assert events(follower)[-1] == Closed(CloseReason.REFUSED, "refused", "duplicate")
    assert events(leader)[-1] == Closed(CloseReason.LOCAL, "local", "duplicate")


def test_only_an_open_session_sends() -> None:
    with pytest.raises(RuntimeError, match="L_SEND in state GREETING"):
        session("a").send(MOVE, 0)


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (hello("b", cluster="prod"), Fault.CLUSTER),
        (hello("b", version=2), Fault.VERSION),
        (hello("a"), Fault.OWN_NAME),
        (hello(""), Fault.WRONG_VALUE),
    ],
)
def test_who_may_not_take_part_is_told_why(other: Hello, fault: Fault) -> None:
    end = session("a")
    end.receive_data(encode(other), 5)
    (event,) = events(end)
    assert isinstance(event, Closed)
    assert (event.reason, event.keyword) == (CloseReason.PROTOCOL, fault.value)
    peer = session("b")
    peer.receive_data(end.data_to_send(), 6)
    told = events(peer)[-1]
    assert told == Closed(CloseReason.REFUSED, "refused", fault.value)


@pytest.mark.parametrize(
    "sent",
    [
        [MOVE],
        [Heartbeat()],
        [hello("b"), hello("b")],
        [hello("b"), MOVE],
        [hello("b"), Heartbeat()],
    ],
)
def test_messages_out_of_turn_are_a_fault(sent: list[Message]) -> None:
    end = session("a")
    version = NEWEST if isinstance(sent[0], Hello) else GREETING
    end.receive_data(b"".join(encode(message, version) for message in sent), 0)
    last = events(end)[-1]
    assert isinstance(last, Closed)
    assert last.keyword == Fault.UNEXPECTED
    assert end.deadline() is None


def test_who_has_not_said_hello_gets_little_room() -> None:
    end = session("a")
    frame = encode_frame(Frame(1, b" " * MAX_GREETING))
    end.receive_data(frame[:20], 0)
    (event,) = events(end)
    assert isinstance(event, Closed)
    assert event.keyword == Fault.TOO_LONG


def test_unknown_messages_are_ignored_in_every_state() -> None:
    new = encode_frame(Frame(999, b"\x00new"))
    first = encode_frame(Frame(999, b"\x00new"), GREETING)
    ignored: Counter[str] = Counter()
    end = Session(hello("b"), SETTINGS, 0, ignored)
    end.receive_data(first + encode(hello("a")) + new + encode(Heartbeat()) + new, 0)
    assert [type(event) for event in events(end)] == [Greeted, Opened]
    assert ignored == {"unknown_message": 3}


def test_no_hello_in_time_ends_the_session() -> None:
    end = session("a")
    assert end.deadline() == 1000
    end.handle_deadline(999)
    assert events(end) == []
    end.handle_deadline(1000)
    assert events(end) == [Closed(CloseReason.HANDSHAKE, "handshake", "greeting")]


def test_heartbeats_are_sent_when_nothing_else_was() -> None:
    leader, follower = opened()
    leader.send(MOVE, 60)
    leader.data_to_send()
    leader.handle_deadline(100)
    assert leader.data_to_send() == b""
    follower.handle_deadline(100)
    assert follower.data_to_send() == encode(Heartbeat())
    assert leader.deadline() == 160
    leader.handle_deadline(160)
    assert leader.data_to_send() == encode(Heartbeat())


def run_alone(end: Session, now_ms: int, until_ms: int) -> int:
    """Steps `end`, served in time, to its last event; the time (ms) of it."""
    while (due_ms := end.deadline()) is not None and due_ms <= until_ms:
        now_ms = max(now_ms, due_ms)
        end.handle_deadline(now_ms)
    return now_ms


def test_silence_is_found_after_dead_ms_exactly() -> None:
    leader, _ = opened(1000)
    assert run_alone(leader, 1000, 5000) == 1300
    assert events(leader) == [Closed(CloseReason.SILENT, "silent", "nothing heard for 300 ms")]


def test_any_byte_is_life() -> None:
    leader, _ = opened()
    beat = encode(Heartbeat())
    for count in range(len(beat)):
        now_ms = run_alone(leader, 0, 250 * (count + 1))
        leader.receive_data(beat[count : count + 1], max(now_ms, 250 * (count + 1)))
    assert events(leader) == []


def test_who_is_late_itself_accuses_nobody() -> None:
    leader, follower = opened()
    leader.handle_deadline(2000)
    assert events(leader) == []
    assert run_alone(leader, 2000, 2099) < 2100
    assert events(leader) == []
    run_alone(leader, 2099, 2100)
    assert [event.reason for event in events(leader) if isinstance(event, Closed)] == [
        CloseReason.SILENT
    ]
    follower.send(MOVE, 2000)
    follower.handle_deadline(2000)
    assert events(follower) == []


def test_a_late_node_still_says_that_it_lives() -> None:
    leader, _ = opened()
    leader.handle_deadline(2000)
    assert leader.data_to_send() == encode(Heartbeat())


def test_goodbye_of_an_open_session_is_not_a_loss() -> None:
    leader, follower = opened()
    follower.close("leaving")
    exchange(leader, follower, 5)
    assert events(leader) == [Closed(CloseReason.GOODBYE, "goodbye", "leaving")]


def test_an_end_reported_by_the_transport_is_the_last_event() -> None:
    leader, _ = opened()
    leader.send(MOVE, 1)
    leader.connection_lost(CloseReason.LOST, "eof")
    assert leader.data_to_send() == b""
    leader.connection_lost(CloseReason.LOST, "eof")
    leader.receive_data(encode(MOVE), 2)
    leader.close("late")
    assert events(leader) == [Closed(CloseReason.LOST, "eof")]


@given(st.binary(max_size=300), st.integers(0, 2))
def test_garbage_in_any_state_ends_the_session_or_waits(garbage: bytes, stage: int) -> None:
    end = opened()[0] if stage == 2 else session("a")
    if stage == 1:
        end.receive_data(encode(hello("b")), 0)
    end.receive_data(garbage, 1)
    taken = events(end)
    if end.state is State.CLOSED:
        assert isinstance(taken[-1], Closed)
        end.receive_data(encode(Goodbye("x")), 2)
        assert events(end) == []


def test_the_table_says_that_closed_is_the_end() -> None:
    assert all(state is not State.CLOSED for state, _ in TRANSITIONS)
    for state in State:
        if state is not State.CLOSED:
            for trigger in (Trigger.FAULT, Trigger.LOST, Trigger.L_CLOSE, Trigger.T_DEADLINE):
                assert TRANSITIONS[state, trigger] is State.CLOSED
