"""How much of a node a step has to look at, by the kind of its input."""

from __future__ import annotations

from dvipad.core.inputs import (
    ActiveCounted,
    ConnectionsCounted,
    ConnectionsEnded,
    ConnectionsOriginated,
    CrtDumped,
    EffectDone,
    EffectFailed,
    EventsMissed,
    Input,
    ListenersChanged,
    Measured,
    MinuteCame,
    OfStatus,
    SocketsDumped,
    Stalled,
)
from dvipad.wire.events import HostAnswered, MessageReceived
from dvipad.wire.messages import TermConn


def touches_itself(event: Input) -> bool:
    """Whether the parts tell which DVIPAs `event` is about; any other one is about all."""
    return isinstance(
        event,
        ActiveCounted
        | MessageReceived
        | HostAnswered
        | EffectDone
        | EffectFailed
        | CrtDumped
        | SocketsDumped
        | ConnectionsCounted
        | ConnectionsEnded
        | ConnectionsOriginated
        | EventsMissed
        | ListenersChanged
        | Measured
        | MinuteCame
        | OfStatus
        | Stalled,
    )


def ends_only(event: Input) -> bool:
    """Whether `event` is of the kind that comes with every connection, and decides nothing."""
    if isinstance(event, MessageReceived):
        return isinstance(event.message, TermConn)
    return isinstance(event, ConnectionsEnded)
