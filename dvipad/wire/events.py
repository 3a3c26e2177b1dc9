"""What the mesh tells the core: peers that come and go, and their messages (D2, D8, D9)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dvipad.wire.messages import Member, Message


class DownReason(Enum):
    """Why a peer is no longer there; what it says of the peer's host."""

    LOST = "lost"
    """Its end of the connection closed or reset: the daemon died, the host lives."""
    SILENT = "silent"
    """Heartbeats stopped: the host, its link or the daemon hangs or is gone."""
    GOODBYE = "goodbye"
    """It left on purpose, and gave up what it owned before it said so."""
    PROTOCOL = "protocol"
    """It was dropped: what it sent was malformed, or it did not read what it was sent."""


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A session with `member` is open; both ends are. Until `PeerDown` no other one is.

    `incarnation` grows with each start of the peer's daemon: the same as before means that
    only the connection was lost.
    """

    member: Member
    incarnation: int


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The session with node `name` is over; messages not yet received are lost."""

    name: str
    reason: DownReason


@dataclass(frozen=True, slots=True)
class HostAnswered:
    """The host of node `name`, lost before, answered: it lives, its daemon is not up yet."""

    name: str


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """`message` came from node `name`, in the order of sending.

    Never Hello, Heartbeat, Goodbye or Status. Members is used by the mesh itself and passed on
    too: it says whom the sender still has a session with.
    """

    name: str
    message: Message


MeshEvent: TypeAlias = PeerUp | PeerDown | HostAnswered | MessageReceived
