"""Deadlines survive inputs that decide nothing."""

from __future__ import annotations

from ipaddress import ip_address

from dvipad.core.context import NodeSettings, Timers
from dvipad.core.inputs import ConnectionsEnded, Started
from dvipad.core.node import Node


def test_an_ended_connection_at_the_deadline_does_not_hide_it() -> None:
    """It came in the same millisecond as the deadline, and the node slept on."""
    node = Node(NodeSettings("n", ip_address("192.0.2.1"), 1, Timers(join_ms=500)))
    node.step(Started(), 1_000)
    deadline = node.deadline()
    assert deadline is not None
    node.step(ConnectionsEnded(ip_address("192.0.2.100"), bytes(36)), deadline)
    assert node.deadline() == deadline
    node.expire(deadline)
    following = node.deadline()
    assert following is None or following > deadline
