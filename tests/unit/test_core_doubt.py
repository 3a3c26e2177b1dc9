"""A node that stalled listens before it believes what it knew."""

from __future__ import annotations

from ipaddress import ip_address

from dvipad.core.context import NodeSettings, Timers
from dvipad.core.inputs import Stalled, Started
from dvipad.core.node import ALONE_FACTOR, Node
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Member, VipaList

TIMERS = Timers(dead_ms=300, join_ms=500)
OTHER = Member("other", ip_address("192.0.2.2"), 4780)


def stalled_node() -> Node:
    """A node with one peer, that has just woken at 5 s."""
    node = Node(NodeSettings("n", ip_address("192.0.2.1"), 1, TIMERS))
    node.step(Started(), 0)
    node.step(PeerUp(OTHER, 1), 10)
    node.step(MessageReceived("other", VipaList(())), 10)
    assert node.sure()
    node.step(Stalled(), 5_000)
    assert not node.sure()
    return node


def test_the_doubt_ends_when_the_peer_has_said_what_it_owns() -> None:
    node = stalled_node()
    node.step(PeerDown("other", DownReason.LOST), 5_001)
    node.step(PeerUp(OTHER, 1), 5_060)
    node.expire(5_300)
    assert not node.sure()
    node.step(MessageReceived("other", VipaList(())), 5_310)
    assert node.sure()


def test_a_session_that_outlived_the_stall_ends_the_doubt_by_itself() -> None:
    node = stalled_node()
    assert node.deadline() == 5_000 + TIMERS.dead_ms
    node.expire(5_000 + TIMERS.dead_ms)
    assert node.sure()


def test_alone_the_doubt_lasts_longer() -> None:
    node = stalled_node()
    node.step(PeerDown("other", DownReason.SILENT), 5_001)
    end_ms = 5_000 + ALONE_FACTOR * TIMERS.join_ms
    node.expire(end_ms - 1)
    assert not node.sure()
    node.expire(end_ms)
    assert node.sure()
