"""The sessions of one node with all others: who dials whom, which connection counts, who is up.

Pure: the asyncio transport and the simulator drive the same object. After each verb the caller
carries out and delivers what `poll` returns, in that order; it drains its sockets before it calls
`handle_deadline`. Time (ms) is a parameter.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from dvipad.address import Address
from dvipad.wire.actions import Close, Dial, Ending, MeshOutput, Write
from dvipad.wire.beats import Beats
from dvipad.wire.codec import encode
from dvipad.wire.errors import Fault, RemoteProtocolError
from dvipad.wire.events import DownReason, HostAnswered, MessageReceived, PeerDown, PeerUp
from dvipad.wire.links import Link, Misfits
from dvipad.wire.messages import Hello, Member, Members, Message, Status
from dvipad.wire.redial import Endpoint, Redial
from dvipad.wire.session import Session, SessionSettings, State
from dvipad.wire.session_events import Closed, CloseReason, Greeted, Opened, Received

MAX_PEERS: Final = 128
"""Nodes with an open session; more are refused."""
MAX_UNGREETED: Final = 64
"""Inbound connections that are not open sessions yet; more are aborted."""
MAX_UNGREETED_EACH: Final = 8
"""The same from one address, so that one host cannot keep the others out."""

_ENDINGS: Final = {
    Ending.EOF: CloseReason.LOST,
    Ending.RESET: CloseReason.LOST,
    Ending.TIMEOUT: CloseReason.SILENT,
    Ending.OVERFLOW: CloseReason.PROTOCOL,
}
_DOWN: Final = {
    CloseReason.LOST: DownReason.LOST,
    CloseReason.SILENT: DownReason.SILENT,
    CloseReason.STUCK: DownReason.SILENT,
    CloseReason.GOODBYE: DownReason.GOODBYE,
    CloseReason.PROTOCOL: DownReason.PROTOCOL,
    CloseReason.LOCAL: DownReason.GOODBYE,
}
_ABORTED: Final = (
    CloseReason.SILENT,
    CloseReason.STUCK,
    CloseReason.LOST,
    CloseReason.HANDSHAKE,
)


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """`local`: what this node says of itself; `seeds`: the peers that it was told of, one is
    enough; intervals between attempts to dial a peer grow from `redial_min_ms` to
    `redial_max_ms`; `secret`: bytes that nobody else knows, others in each life of the daemon;
    `release`: the version of the program, for the operators of other nodes."""

    local: Hello
    seeds: tuple[Endpoint, ...] = ()
    session: SessionSettings = field(default_factory=SessionSettings)
    redial_min_ms: int = 50
    redial_max_ms: int = 2000
    secret: bytes = b""
    release: str = ""


@dataclass(slots=True)
class _Connection:
    """`endpoint` when this node dialled it, else `remote`; `attached` until it is closed; `status`
    is what the peer said last."""

    id: int
    session: Session
    endpoint: Endpoint | None = None
    remote: Address | None = None
    attached: bool = True
    status: Status | None = None


class Mesh:
    """All sessions of one node.

    `counters` counts, by keyword, why connections and sessions ended or were refused, what came by
    UDP, and what was ignored. `misfits`: who is refused until somebody sets it right.
    """

    def __init__(self, settings: MeshSettings, now_ms: int) -> None:
        self.counters: Counter[str] = Counter()
        self.misfits = Misfits()
        self._status = Status(settings.release)
        self._local = settings.local
        self._own = _endpoint(settings.local.member)
        self._session_settings = settings.session
        self._redial = Redial(
            settings.local.member.name,
            tuple(seed for seed in settings.seeds if seed != self._own),
            settings.redial_min_ms,
            settings.redial_max_ms,
            now_ms,
        )
        self._beats = Beats(settings.local, settings.secret, settings.session, self.counters)
        self._connections: dict[int, _Connection] = {}
        self._peers: dict[str, _Connection] = {}
        self._written: dict[int, _Connection] = {}
        self._outputs: list[MeshOutput] = []
        self._leaving = False

    # --- what the transport reports -----------------------------------------------------------

    def dialled(self, connection_id: int, endpoint: Endpoint, now_ms: int) -> None:
        """A dial has succeeded; the connection has `connection_id` from now on."""
        self._answered(endpoint)
        self._attach(connection_id, endpoint, None, now_ms)

    def dial_failed(self, endpoint: Endpoint, refused: bool, now_ms: int) -> None:
        """A dial has failed. `refused`: the host answered with a reset, nobody listens there."""
        self.counters["dial_refused" if refused else "dial_failed"] += 1
        if refused:
            self._answered(endpoint)
        self._redial.failed(endpoint, now_ms)

    def accepted(self, connection_id: int, remote: Address, now_ms: int) -> None:
        """A peer has dialled this node, from address `remote`."""
        open_ids = {connection.id for connection in self._peers.values()}
        ungreeted = [
            connection.remote
            for connection in self._connections.values()
            if connection.endpoint is None and connection.id not in open_ids
        ]
        if len(ungreeted) >= MAX_UNGREETED or ungreeted.count(remote) >= MAX_UNGREETED_EACH:
            self.counters[Fault.TOO_MANY] += 1
            self._outputs.append(Close(connection_id, abort=True))
            return
        self._attach(connection_id, None, remote, now_ms)

    def receive(self, connection_id: int, data: bytes, now_ms: int) -> None:
        """Bytes came on a connection."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            connection.session.receive_data(data, now_ms)
            self._drain(connection, now_ms)

    def receive_datagram(self, data: bytes, now_ms: int) -> None:
        """A datagram came on the mesh's port, from anybody; deadlines only move away by it."""
        self._beats.receive(data, now_ms)

    def closed(self, connection_id: int, ending: Ending, now_ms: int) -> None:
        """A connection has ended, not by a `Close` of this mesh."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            # What overflowed is still a connection, which has to be aborted.
            connection.attached = ending is Ending.OVERFLOW
            connection.session.connection_lost(_ENDINGS[ending], ending.value)
            self._drain(connection, now_ms)

    # --- what the node does -------------------------------------------------------------------

    def send(self, peer: str, message: Message, now_ms: int) -> bool:
        """Sends `message` to node `peer`; False, and counted, when it is not up."""
        connection = self._peers.get(peer)
        if connection is None:
            self.counters["not_up"] += 1
            return False
        self._send_frame(connection, encode(message, connection.session.version), now_ms)
        return True

    def broadcast(self, message: Message, now_ms: int) -> None:
        """Sends `message` to all nodes that are up and whose version knows it."""
        frames: dict[int, bytes] = {}
        for connection in self._peers.values():
            version = connection.session.version
            if version not in frames:
                frames[version] = encode(message, version)
            self._send_frame(connection, frames[version], now_ms)

    def tell_troubles(self, troubles: tuple[str, ...], now_ms: int) -> None:
        """Operators at other nodes see these troubles of this node from now on."""
        self._status = replace(self._status, troubles=troubles)
        self.broadcast(self._status, now_ms)

    def leave(self, reason: str, now_ms: int) -> None:
        """Says Goodbye to all and dials no more."""
        self._leaving = True
        for connection in list(self._connections.values()):
            connection.session.close(reason)
            self._drain(connection, now_ms)

    def peers(self) -> tuple[Member, ...]:
        """The nodes that are up, by name."""
        return tuple(self._hello(self._peers[name]).member for name in sorted(self._peers))

    def links(self, now_ms: int) -> list[Link]:
        """The sessions that are open."""
        missing = self._beats.missing()
        return [
            Link(
                name,
                connection.id,
                connection.session.longest_silence_ms(now_ms),
                name in missing,
                connection.session.version,
                connection.status,
            )
            for name, connection in self._peers.items()
        ]

    # --- time and output ----------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When (ms) `handle_deadline` has to be called at the latest; None: never."""
        due = [connection.session.deadline() for connection in self._connections.values()]
        due.append(self._beats.deadline())
        if not self._leaving:
            due.append(self._redial.deadline())
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def handle_deadline(self, now_ms: int) -> None:
        """Sends heartbeats, gives up silent peers, dials whoever is due."""
        soon_ms = now_ms + self._session_settings.early_ms
        for connection in list(self._connections.values()):
            due_ms = connection.session.deadline()
            if due_ms is not None and due_ms <= soon_ms:
                connection.session.handle_deadline(now_ms)
                self._drain(connection, now_ms)
        self._outputs.extend(self._beats.due(now_ms))
        if not self._leaving:
            dials = [Dial(*due) for due in self._redial.due(now_ms)]
            self._outputs.extend(dials)

    def poll(self) -> list[MeshOutput]:
        """What to carry out and deliver, in this order; once."""
        for connection in self._written.values():
            self._write(connection)
        self._written.clear()
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- connections --------------------------------------------------------------------------

    def _attach(
        self, connection_id: int, endpoint: Endpoint | None, remote: Address | None, now_ms: int
    ) -> None:
        if self._leaving:
            self._outputs.append(Close(connection_id, abort=True))
            return
        session = Session(self._beats.hello(), self._session_settings, now_ms, self.counters)
        self._beats.add(session)
        connection = _Connection(connection_id, session, endpoint, remote)
        self._connections[connection_id] = connection
        self._written[connection_id] = connection

    def _answered(self, endpoint: Endpoint) -> None:
        name = self._redial.awaited(endpoint)
        if name is not None:
            self._outputs.append(HostAnswered(name))

    def _send_frame(self, connection: _Connection, frame: bytes, now_ms: int) -> None:
        if connection.session.state is State.CLOSED:
            return  # it opened and ended in one portion of bytes; PeerDown is about to follow
        connection.session.send_frame(frame, now_ms)
        self._written[connection.id] = connection

    def _write(self, connection: _Connection) -> None:
        data = connection.session.data_to_send()
        if data and connection.attached:
            self._outputs.append(Write(connection.id, data))

    # --- sessions -----------------------------------------------------------------------------

    def _drain(self, connection: _Connection, now_ms: int) -> None:
        session = connection.session
        while (event := session.next_event()) is not None:
            match event:
                case Greeted(hello, leads):
                    self._greeted(connection, hello, leads, now_ms)
                case Opened(hello):
                    self._opened(connection, hello, now_ms)
                case Received(message):
                    self._received(connection, message, now_ms)
                case Closed():
                    self._ended(connection, event, now_ms)
                case _:
                    assert_never(event)
        if connection.id in self._connections:
            self._written[connection.id] = connection

    def _greeted(self, connection: _Connection, hello: Hello, leads: bool, now_ms: int) -> None:
        name = hello.member.name
        if connection.session.state is State.CLOSED:
            return  # the bytes after its Hello were a fault
        if connection.endpoint is not None:
            self._redial.identify(connection.endpoint, name)
        fault = self._objection(hello, leads)
        if fault is not None:
            connection.session.refuse(RemoteProtocolError(fault, f"node {name!r}"))
        elif leads:
            connection.session.confirm(now_ms)

    def _objection(self, hello: Hello, leads: bool) -> Fault | None:
        """Why a second session of a node is refused, or a first one.

        A newer incarnation always replaces the session that is up. The same one means that two
        connections were made at once, or that the peer has given up the other one: the leader
        keeps what it has until that is found silent, the other end waits for the leader.
        """
        connection = self._peers.get(hello.member.name)
        if connection is None:
            return Fault.TOO_MANY if len(self._peers) >= MAX_PEERS else None
        present = self._hello(connection)
        if hello.member != present.member:
            return Fault.NAME_TAKEN
        if hello.incarnation < present.incarnation:
            return Fault.STALE
        if leads and hello.incarnation == present.incarnation:
            return Fault.DUPLICATE
        return None

    def _opened(self, connection: _Connection, hello: Hello, now_ms: int) -> None:
        member = hello.member
        former = self._peers.get(member.name)
        if former is not None:
            former.session.connection_lost(CloseReason.LOST, "replaced")
            self._drain(former, now_ms)
        self._peers[member.name] = connection
        self._redial.up(member.name, _endpoint(member), now_ms)
        if connection.endpoint is not None:
            self._redial.done(connection.endpoint)
        self.misfits.fits(member.xcf)
        self._outputs.append(PeerUp(member, hello.incarnation))
        self._tell_members(now_ms)
        self.send(member.name, self._status, now_ms)

    def _received(self, connection: _Connection, message: Message, now_ms: int) -> None:
        if isinstance(message, Status):
            connection.status = message
            return  # it is for operators, nothing depends on it
        if isinstance(message, Members):
            for member in message.members:
                self._learn(member, now_ms)
        name = self._hello(connection).member.name
        self._outputs.append(MessageReceived(name, message))

    def _learn(self, member: Member, now_ms: int) -> None:
        endpoint = _endpoint(member)
        if member.name == self._local.member.name or endpoint == self._own:
            return
        if not self._redial.learn(member.name, endpoint, now_ms):
            self.counters["endpoints_full"] += 1

    def _ended(self, connection: _Connection, event: Closed, now_ms: int) -> None:
        self.counters[event.keyword] += 1
        there = connection.endpoint.address if connection.endpoint else connection.remote
        if there is not None:
            self._outputs += self.misfits.refused(there, event.keyword, event.detail, now_ms)
        self._write(connection)
        self._written.pop(connection.id, None)
        del self._connections[connection.id]
        self._beats.remove(connection.session)
        if connection.attached:
            self._outputs.append(Close(connection.id, abort=self._aborts(connection, event)))
        hello = connection.session.peer
        if hello is not None and self._peers.get(hello.member.name) is connection:
            self._down(hello.member, event.reason, now_ms)
        elif connection.endpoint is not None:
            self._redial.failed(connection.endpoint, now_ms)

    def _down(self, member: Member, reason: CloseReason, now_ms: int) -> None:
        del self._peers[member.name]
        lost = reason is CloseReason.LOST
        self._redial.down(member.name, _endpoint(member), lost, now_ms)
        self._outputs.append(PeerDown(member.name, _DOWN[reason]))
        self._tell_members(now_ms)

    @staticmethod
    def _aborts(connection: _Connection, event: Closed) -> bool:
        return event.reason in _ABORTED or event.keyword == Ending.OVERFLOW.value

    def _tell_members(self, now_ms: int) -> None:
        if not self._leaving:
            self.broadcast(Members(self.peers()), now_ms)

    @staticmethod
    def _hello(connection: _Connection) -> Hello:
        """What the peer of a greeted connection said."""
        assert connection.session.peer is not None
        return connection.session.peer


def _endpoint(member: Member) -> Endpoint:
    return Endpoint(member.xcf, member.port)
