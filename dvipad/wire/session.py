"""One connection to a peer, either end, without I/O and without a clock.

The verbs: `receive_data`, `data_to_send`, `next_event`, `deadline`, `handle_deadline`; and `send`,
`confirm`, `close`, `connection_lost`; and `receive_beat`, `next_beat` for the heartbeats beside the
connection. Time is a parameter, in ms, and never goes back.

Both ends say Hello at once. The one with the smaller name leads: it alone decides whether this
connection is the one to use, and says so with its first Heartbeat (`confirm`). Therefore two
connections made at the same time never leave the ends with different ones, and no message is lost
on the one that is given up.

An end that was itself served late accuses nobody: a verb that comes more than a heartbeat interval
after the session's deadline gives the peer one more interval before it counts as silent. The
caller feeds what its sockets hold before it steps deadlines.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from dvipad.versions import GREETING
from dvipad.wire.codec import decode, encode
from dvipad.wire.datagram import Beat
from dvipad.wire.errors import Fault, RemoteProtocolError
from dvipad.wire.framing import MAX_FRAME, Frame, FrameDecoder
from dvipad.wire.hearing import Hearing
from dvipad.wire.messages import Goodbye, Heartbeat, Hello, Message
from dvipad.wire.session_events import (
    Closed,
    CloseReason,
    Greeted,
    Opened,
    Received,
    SessionEvent,
)

MAX_GREETING: Final = 4096
"""Bytes of a frame from a peer that has not said Hello."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """`heartbeat_ms`: something is sent on the connection at least that often; `dead_ms`: silence
    that means death; `handshake_ms`: from the connection to the confirmed session; `beat_ms`: a
    heartbeat is sent by UDP that often; `stuck_ms`: a connection that brings nothing for so long
    is broken, whatever comes by UDP."""

    heartbeat_ms: int = 100
    dead_ms: int = 300
    handshake_ms: int = 1000
    beat_ms: int = 30
    stuck_ms: int = 3000

    @property
    def early_ms(self) -> int:
        """A heartbeat that is due so soon goes with those that are due now: a node with many peers
        wakes up for all of them at once, and not for each by itself."""
        return self.heartbeat_ms // 4

    @property
    def beat_worth_ms(self) -> int:
        """How long a heartbeat by UDP shows life.

        A peer that stops right before its next heartbeat is due has a moment of `dead_ms -
        heartbeat_ms` left, by either way: the lease of a distributor ends before that. And
        datagrams that come more often never make the death of a host known later.
        """
        return self.dead_ms - self.heartbeat_ms + min(self.beat_ms, self.heartbeat_ms)


class State(Enum):
    """Where a session is."""

    GREETING = auto()
    """The peer has not said Hello."""
    LEADING = auto()
    """It has; this end has to confirm."""
    FOLLOWING = auto()
    """It has; the peer has to confirm."""
    OPEN = auto()
    CLOSED = auto()


class Trigger(Enum):
    """What happens to a session: received (R), at this end (L), or time (T)."""

    R_HELLO_LEAD = auto()
    """Hello from a peer with the greater name."""
    R_HELLO_FOLLOW = auto()
    """Hello from a peer with the smaller name."""
    R_HEARTBEAT = auto()
    R_GOODBYE = auto()
    R_MESSAGE = auto()
    L_CONFIRM = auto()
    L_SEND = auto()
    L_CLOSE = auto()
    LOST = auto()
    T_DEADLINE = auto()
    FAULT = auto()


TRANSITIONS: Final[dict[tuple[State, Trigger], State]] = {
    (State.GREETING, Trigger.R_HELLO_LEAD): State.LEADING,
    (State.GREETING, Trigger.R_HELLO_FOLLOW): State.FOLLOWING,
    (State.GREETING, Trigger.R_GOODBYE): State.CLOSED,
    (State.LEADING, Trigger.R_GOODBYE): State.CLOSED,
    (State.FOLLOWING, Trigger.R_GOODBYE): State.CLOSED,
    (State.FOLLOWING, Trigger.R_HEARTBEAT): State.OPEN,
    (State.LEADING, Trigger.L_CONFIRM): State.OPEN,
    (State.OPEN, Trigger.R_HEARTBEAT): State.OPEN,
    (State.OPEN, Trigger.R_MESSAGE): State.OPEN,
    (State.OPEN, Trigger.R_GOODBYE): State.CLOSED,
    (State.OPEN, Trigger.L_SEND): State.OPEN,
    **{
        (state, trigger): State.CLOSED
        for state in (State.GREETING, State.LEADING, State.FOLLOWING, State.OPEN)
        for trigger in (Trigger.L_CLOSE, Trigger.LOST, Trigger.T_DEADLINE, Trigger.FAULT)
    },
}
"""Every change of a session's state; what is not here is a fault of the peer (R) or a bug (L)."""


class Session:
    """One connection to a peer; `local` is what this node says of itself.

    `version` of the protocol is that of the greeting, and then the one that both ends agree on.
    `counters` counts what was ignored of what the peer sent.
    """

    __slots__ = (
        "_counters",
        "_decoder",
        "_events",
        "_handshake_until_ms",
        "_hearing",
        "_local",
        "_out",
        "_sent_ms",
        "_settings",
        "_state",
        "beats_sent",
        "beats_unheard",
        "peer",
        "version",
    )

    def __init__(
        self,
        local: Hello,
        settings: SessionSettings,
        now_ms: int,
        counters: Counter[str] | None = None,
    ) -> None:
        self.peer: Hello | None = None
        self.version = GREETING
        self._counters = Counter() if counters is None else counters
        self._local = local
        self._settings = settings
        self._state = State.GREETING
        self._decoder = FrameDecoder(MAX_GREETING)
        self._events: deque[SessionEvent] = deque()
        self._hearing = Hearing(settings.dead_ms, settings.beat_worth_ms, settings.stuck_ms, now_ms)
        self.beats_sent = self.beats_unheard = 0
        self._sent_ms = now_ms
        self._handshake_until_ms = now_ms + settings.handshake_ms
        self._out: list[bytes] = [encode(local)]

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._state

    @property
    def token(self) -> int:
        """What the peer's heartbeats by UDP carry."""
        return self._local.token

    def longest_silence_ms(self, now_ms: int) -> int:
        """How long nothing was heard of the peer, at the longest, in the last minute or two."""
        return self._hearing.longest_silence_ms(now_ms)

    @property
    def beats(self) -> bool:
        """Whether this end sends heartbeats by UDP now."""
        return (
            self.peer is not None
            and self.peer.token != 0
            and self._state in (State.OPEN, State.FOLLOWING)
        )

    # --- the five verbs -----------------------------------------------------------------------

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Bytes from the peer, any portion; what they mean comes from `next_event`."""
        if self._state is State.CLOSED:
            return
        self._forgive_own_delay(now_ms)
        self._hearing.bytes_came(now_ms)
        self._decoder.feed(data)
        try:
            while (frame := self._next_frame()) is not None:
                message = decode(frame, self.version, self._counters)
                if message is not None:
                    self._receive(message)
        except RemoteProtocolError as error:
            self._refuse(error)

    def data_to_send(self) -> bytes:
        """What to write now; once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> SessionEvent | None:
        """The oldest event not yet taken, None when there is none."""
        return self._events.popleft() if self._events else None

    def deadline(self) -> int | None:
        """When (ms) `handle_deadline` has to be called at the latest; None: never."""
        if self._state is State.OPEN:  # it is asked for with every packet
            due_ms = self._sent_ms + self._settings.heartbeat_ms
            hearing = self._hearing
            due_ms = hearing.silent_ms if hearing.silent_ms < due_ms else due_ms
            return hearing.stuck_ms if hearing.stuck_ms < due_ms else due_ms
        return None if self._state is State.CLOSED else self._handshake_until_ms

    def handle_deadline(self, now_ms: int) -> None:
        """Time has come: a heartbeat is due, or the peer is silent, or too slow to say Hello."""
        if self._state is State.CLOSED:
            return
        self._forgive_own_delay(now_ms)
        if self._state is not State.OPEN:
            if now_ms >= self._handshake_until_ms:
                where = self._state.name.lower()
                self._end(Trigger.T_DEADLINE, Closed(CloseReason.HANDSHAKE, "handshake", where))
            return
        hearing = self._hearing
        if now_ms >= hearing.silent_ms:
            detail = f"nothing heard for {now_ms - hearing.heard_ms} ms"
            self._end(Trigger.T_DEADLINE, Closed(CloseReason.SILENT, "silent", detail))
        elif now_ms >= hearing.stuck_ms:
            detail = f"the connection brought nothing for {now_ms - hearing.bytes_heard_ms} ms"
            self._end(Trigger.T_DEADLINE, Closed(CloseReason.STUCK, "stuck", detail))
        elif now_ms >= self._sent_ms + self._settings.heartbeat_ms - self._settings.early_ms:
            self.send(Heartbeat(), now_ms)

    # --- heartbeats beside the connection -----------------------------------------------------

    def receive_beat(self, sequence: int, now_ms: int) -> bool:
        """A heartbeat of this session came by UDP; False for one that says nothing new."""
        if self._state is State.CLOSED:
            return False
        self._forgive_own_delay(now_ms)
        self.beats_unheard = 0
        return self._hearing.beat_came(sequence, now_ms)

    def next_beat(self) -> Beat | None:
        """The heartbeat to send by UDP now; None when the peer takes none, or is not greeted."""
        if self.peer is None or not self.beats:
            return None
        self.beats_sent += 1
        self.beats_unheard += 1
        return Beat(self.peer.token, self.beats_sent, self.version)

    # --- this end acts ------------------------------------------------------------------------

    def confirm(self, now_ms: int) -> None:
        """The leader takes this connection; allowed once, after `Greeted` with `leads`."""
        assert self.peer is not None
        self._move(Trigger.L_CONFIRM)
        self._out.append(encode(Heartbeat(), self.version))
        self._hearing.bytes_came(now_ms)
        self._sent_ms = now_ms
        self._events.append(Opened(self.peer))

    def send(self, message: Message, now_ms: int) -> None:
        """Sends `message` in an open session, if its version knows it."""
        self.send_frame(encode(message, self.version), now_ms)

    def send_frame(self, frame: bytes, now_ms: int) -> None:
        """Sends what `codec.encode` made for `version`; for a message that goes to many peers."""
        if not frame:
            return
        self._forgive_own_delay(now_ms)
        self._move(Trigger.L_SEND)
        self._out.append(frame)
        self._sent_ms = now_ms

    def close(self, reason: str) -> None:
        """Says Goodbye with `reason` (a text for the peer's log) and ends the session."""
        if self._state is not State.CLOSED:
            self._out.append(encode(Goodbye(reason)))
            self._end(Trigger.L_CLOSE, Closed(CloseReason.LOCAL, "local", reason))

    def refuse(self, error: RemoteProtocolError) -> None:
        """Ends the session because the peer may not take part; the peer is told."""
        if self._state is not State.CLOSED:
            self._refuse(error)

    def connection_lost(self, reason: CloseReason, keyword: str) -> None:
        """The connection under the session is gone."""
        if self._state is not State.CLOSED:
            self._out.clear()
            self._end(Trigger.LOST, Closed(reason, keyword))

    # --- inside -------------------------------------------------------------------------------

    def _next_frame(self) -> Frame | None:
        return None if self._state is State.CLOSED else self._decoder.next_frame()

    def _receive(self, message: Message) -> None:
        match message:
            case Hello():
                self._agree(message)
                leads = self._local.member.name < message.member.name
                self._move(Trigger.R_HELLO_LEAD if leads else Trigger.R_HELLO_FOLLOW)
                self.peer = message
                self._decoder.limit = MAX_FRAME
                self._events.append(Greeted(message, leads))
            case Heartbeat():
                opens = self._state is State.FOLLOWING
                self._move(Trigger.R_HEARTBEAT)
                if opens and self.peer is not None:
                    self._sent_ms = self._hearing.bytes_heard_ms
                    self._events.append(Opened(self.peer))
            case Goodbye(reason):
                is_open = self._state is State.OPEN
                why = CloseReason.GOODBYE if is_open else CloseReason.REFUSED
                self._end(Trigger.R_GOODBYE, Closed(why, why.value, reason))
            case _:
                self._move(Trigger.R_MESSAGE)
                self._events.append(Received(message))

    def _agree(self, hello: Hello) -> None:
        """Checks who the peer is, and from now on speaks the version that both ends know."""
        local = self._local
        if hello.version != GREETING:
            raise RemoteProtocolError(
                Fault.VERSION, f"a greeting of version {hello.version}, not {GREETING}"
            )
        if hello.cluster != local.cluster:
            raise RemoteProtocolError(
                Fault.CLUSTER, f"cluster {hello.cluster!r}, this node is in {local.cluster!r}"
            )
        if not hello.member.name:
            raise RemoteProtocolError(Fault.WRONG_VALUE, "a node without a name")
        if hello.member.name == local.member.name:
            raise RemoteProtocolError(Fault.OWN_NAME, f"the peer is {local.member.name!r} too")
        version = local.versions.agreed(hello.versions)
        if version is None:
            raise RemoteProtocolError(
                Fault.VERSION,
                f"node {hello.member.name!r} speaks mesh versions {hello.versions}, this node "
                f"{local.versions}: upgrade node by node, one release at a time",
            )
        self.version = self._decoder.version = version

    def _move(self, trigger: Trigger) -> None:
        """The only place where the state changes."""
        key = (self._state, trigger)
        if key not in TRANSITIONS:
            where = f"{trigger.name} in state {self._state.name}"
            if trigger.name.startswith("R_"):
                raise RemoteProtocolError(Fault.UNEXPECTED, where)
            raise RuntimeError(where)
        self._state = TRANSITIONS[key]

    def _end(self, trigger: Trigger, event: Closed) -> None:
        self._move(trigger)
        self._events.append(event)

    def _refuse(self, error: RemoteProtocolError) -> None:
        self._out.append(encode(Goodbye(error.reason)))
        self._end(Trigger.FAULT, Closed(CloseReason.PROTOCOL, error.reason, error.detail))

    def _forgive_own_delay(self, now_ms: int) -> None:
        """This end was served late: what it did not hear may be its own fault."""
        due_ms = self.deadline()
        heartbeat_ms = self._settings.heartbeat_ms
        if due_ms is None or now_ms <= due_ms + heartbeat_ms:
            return
        if self._state is State.OPEN:
            self._hearing.forgive(now_ms, heartbeat_ms)
            # From now on the heartbeat that is overdue says nothing about the next verb.
            self._sent_ms = max(self._sent_ms, now_ms - heartbeat_ms)
        else:
            self._handshake_until_ms = now_ms + heartbeat_ms
