"""What a session tells: who the peer is, its messages, and why the session is over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dvipad.wire.messages import Hello, Message


class CloseReason(Enum):
    """Why a session is over."""

    LOST = "lost"
    """The connection ended at the other end, or was reset by it."""
    SILENT = "silent"
    """Nothing was heard for `dead_ms`."""
    STUCK = "stuck"
    """Heartbeats came by UDP, and nothing on the connection for `stuck_ms`."""
    GOODBYE = "goodbye"
    """The peer of an open session said Goodbye."""
    REFUSED = "refused"
    """The peer said Goodbye before the session was open."""
    PROTOCOL = "protocol"
    """The peer broke the protocol, or was refused: `keyword` is the `Fault`."""
    HANDSHAKE = "handshake"
    """The session did not open in time."""
    LOCAL = "local"
    """This end closed it."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer said who it is. `leads`: this end decides, by `confirm` or `close`."""

    hello: Hello
    leads: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """The session is open: messages may go both ways."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Received:
    """A message for the node."""

    message: Message


@dataclass(frozen=True, slots=True)
class Closed:
    """Last event of a session. `keyword` is short and counted, `detail` is for the log."""

    reason: CloseReason
    keyword: str
    detail: str = ""


SessionEvent: TypeAlias = Greeted | Opened | Received | Closed
