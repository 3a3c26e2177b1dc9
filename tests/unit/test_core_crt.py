"""Batches of connections for the wire, and collections."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from dvipad.core.crt import COLLECT_ATTEMPTS, KEY_SIZE, Collection, batches
from dvipad.wire.messages import MAX_CONNECTIONS, NewConn

DVIPA, XCF = IPv4Address("203.0.113.1"), IPv4Address("192.0.2.3")
sizes = st.sampled_from([0, 1, 2, MAX_CONNECTIONS - 1, MAX_CONNECTIONS, MAX_CONNECTIONS + 1])


def keys(count: int, mark: int) -> bytes:
    return bytes([mark]) * (count * KEY_SIZE)


@given(sizes, sizes, st.booleans())
def test_batches_carry_every_key_once(old: int, new: int, snapshot: bool) -> None:
    established, embryonic = keys(old, 1), keys(new, 2)
    messages = list(batches(DVIPA, 7, XCF, established, embryonic, snapshot=snapshot))
    assert b"".join(message.established for message in messages) == established
    assert b"".join(message.embryonic for message in messages) == embryonic
    assert [message.last for message in messages] == [False] * (len(messages) - 1) + [snapshot]
    for message in messages:
        assert (message.dvipa, message.epoch, message.target) == (DVIPA, 7, XCF)
        assert len(message.established + message.embryonic) <= MAX_CONNECTIONS * KEY_SIZE


def part(key: int, last: bool) -> NewConn:
    return NewConn(DVIPA, 7, XCF, keys(1, key), b"", True, last)


def test_a_collection_is_complete_when_everybody_has_answered() -> None:
    collection = Collection(7, 100, {"a", "b"}, 1)
    assert collection.received("a", part(1, False), 110) is None
    assert collection.received("b", part(2, True), 115) == (keys(1, 2), 115)
    assert not collection.complete(120, 1_000)
    assert collection.received("a", part(3, True), 130) == (keys(1, 1) + keys(1, 3), 110)
    assert collection.complete(130, 1_000)


def test_a_collection_does_not_wait_for_ever() -> None:
    collection = Collection(7, 100, {"a"}, 1)
    assert not collection.complete(99 + COLLECT_ATTEMPTS * 1_000, 1_000)
    assert collection.complete(100 + COLLECT_ATTEMPTS * 1_000, 1_000)
