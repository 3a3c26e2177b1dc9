"""The mesh over TCP and UDP: an asyncio transport around `dvipad.wire.mesh.Mesh`.

It decides nothing. One timer is armed from the mesh's deadline. In each turn of the loop asyncio
runs what its sockets have to say, at most one portion of each, before the timers that are due:
what peers have sent is drained, and bounded, before anybody is found silent. Datagrams wake nobody:
the timer, which sends this node's own heartbeats as often, reads all that have come.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import count
from typing import Any, Final, assert_never

from dvipad.adapters.datagrams import Datagrams
from dvipad.adapters.tcp_options import Measured, measure, tune
from dvipad.address import Address
from dvipad.wire.actions import (
    Close,
    Datagram,
    DatagramsMissing,
    Dial,
    Ending,
    MeshAction,
    Misfit,
    Write,
)
from dvipad.wire.events import HostAnswered, MeshEvent, MessageReceived, PeerDown, PeerUp
from dvipad.wire.links import Link
from dvipad.wire.mesh import Mesh, MeshSettings
from dvipad.wire.messages import Message
from dvipad.wire.redial import MAX_ENDPOINTS, Endpoint

MAX_BUFFERED: Final = 32 * 1024 * 1024
"""Bytes that wait for one peer; a snapshot of a full CRT (262,144 connections) is 9 MB."""
BACKLOG: Final = 128
READ_BYTES: Final = 1 << 15
"""Read in one go: some hundred small messages. All that has come may be a thousand, and heartbeats
are sent in between."""
_LINGER_RESET: Final = struct.pack("ii", 1, 0)

log = logging.getLogger(__name__)

OnEvents = Callable[[list[MeshEvent]], None]


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """`mesh` names the address and port to listen on, in what the node says of itself."""

    mesh: MeshSettings
    max_buffered: int = MAX_BUFFERED


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection; `endpoint` when this node dialled it."""

    def __init__(self, owner: MeshTransport, endpoint: Endpoint | None) -> None:
        self._owner = owner
        self.endpoint = endpoint
        self.id = 0
        self.transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._owner.made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._owner.received(self, bytes(self._buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self, exc)


class MeshTransport:
    """Listens, dials, carries bytes; `on_events` gets what the mesh tells, in order.

    `on_events` may call `send` and `broadcast`. `counters` is the mesh's. Times are those of the
    running loop's clock, in ms.
    """

    def __init__(self, settings: TransportSettings, on_events: OnEvents) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._on_events = on_events
        self._local = settings.mesh.local.member
        self._dead_ms = settings.mesh.session.dead_ms
        self.mesh = Mesh(settings.mesh, self._now_ms())
        self.counters = self.mesh.counters
        self._datagrams = Datagrams(self._local, self._beat, self.counters)
        self._ids = count(1)
        self._connections: dict[int, _Connection] = {}
        self._closing: set[_Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self.unanswered: set[Endpoint] = set()
        """Endpoints whose latest dial got neither a connection nor a refusal in its time."""
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._held = False
        self._idle = asyncio.Event()

    # --- what the daemon calls ----------------------------------------------------------------

    async def start(self) -> None:
        """Listens and begins to dial. Raises ``OSError`` when it cannot listen."""
        self._datagrams.open()
        try:
            self._server = await self._loop.create_server(
                partial(_Connection, self, None),
                str(self._local.xcf),
                self._local.port,
                reuse_address=True,
                backlog=BACKLOG,
            )
        except OSError:
            self._datagrams.close()
            raise
        self._pump()

    async def stop(self, reason: str) -> None:
        """Says Goodbye to all, waits for at most `dead_ms` until it is sent, and lets go."""
        if self._server is not None:
            self._server.close()
        for dial in self._dials:
            dial.cancel()
        self.mesh.leave(reason, self._now_ms())
        self._pump()
        if self._timer is not None:
            self._timer.cancel()
        try:
            await asyncio.wait_for(self._closed(), self._dead_ms / 1000)
        except TimeoutError:
            for connection in tuple(self._closing):
                self._abort(connection)
        await asyncio.gather(*self._dials, return_exceptions=True)
        self._datagrams.close()

    def send(self, peer: str, message: Message) -> bool:
        """Sends `message` to node `peer`; False, and counted, when it is not up."""
        sent = self.mesh.send(peer, message, self._now_ms())
        self._pump()
        return sent

    def broadcast(self, message: Message) -> None:
        """Sends `message` to all nodes that are up."""
        self.mesh.broadcast(message, self._now_ms())
        self._pump()

    def tell_troubles(self, troubles: Iterable[str]) -> None:
        """Operators at other nodes see these troubles of this node from now on."""
        self.mesh.tell_troubles(tuple(sorted(troubles)), self._now_ms())
        self._pump()

    def hold(self, held: bool) -> None:
        """Reads nothing from peers while `held`: the events that wait are many."""
        self._held = held
        for connection in self._connections.values():
            _read(connection, not held)

    def links(self) -> list[tuple[Link, Measured]]:
        """The sessions that are open, and what the kernel measured on their connections."""
        return [
            (link, measure(_transport(connection).get_extra_info("socket")))
            for link in self.mesh.links(self._now_ms())
            if (connection := self._connections.get(link.connection_id)) is not None
        ]

    def misfits(self) -> dict[Address, str]:
        """Hosts whose daemon is refused, and why."""
        return self.mesh.misfits.reasons(self._now_ms())

    # --- what connections report --------------------------------------------------------------

    def made(self, connection: _Connection) -> None:
        """A connection is there, dialled or accepted."""
        connection.id = next(self._ids)
        self._connections[connection.id] = connection
        transport = _transport(connection)
        transport.set_write_buffer_limits(high=self._settings.max_buffered)
        tune(transport.get_extra_info("socket"), self._settings.mesh.session.stuck_ms)
        _read(connection, not self._held)
        if connection.endpoint is not None:
            self._note(connection.endpoint, False)
            self.mesh.dialled(connection.id, connection.endpoint, self._now_ms())
        else:
            remote = _remote(transport.get_extra_info("peername"))
            self.mesh.accepted(connection.id, remote, self._now_ms())
        self._pump()

    def received(self, connection: _Connection, data: bytes) -> None:
        """Bytes came on a connection."""
        self.mesh.receive(connection.id, data, self._now_ms())
        self._pump()

    def _beat(self, data: bytes) -> None:
        """A datagram came. It moves deadlines away only: the timer need not be armed again."""
        self.mesh.receive_datagram(data, self._now_ms())

    def lost(self, connection: _Connection, error: Exception | None) -> None:
        """A connection has ended, by either end."""
        self._closing.discard(connection)
        self._wake_stop()
        if self._connections.pop(connection.id, None) is not None:
            self.mesh.closed(connection.id, _ending(error), self._now_ms())
            self._pump()

    # --- turns --------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _pump(self) -> None:
        """Carries out and delivers what the mesh has, until it has no more; then arms the timer.

        What `on_events` sends is carried out by the pump that called it.
        """
        if self._pumping:
            return
        self._pumping = True
        moved = self._timer is None
        try:
            while outputs := self.mesh.poll():
                moved = True
                events: list[MeshEvent] = []
                for output in outputs:
                    if isinstance(output, PeerUp | PeerDown | HostAnswered | MessageReceived):
                        events.append(output)
                    else:
                        self._carry_out(output)
                if events:
                    self._on_events(events)
        finally:
            self._pumping = False
        if moved:  # what only arrives makes nothing due sooner
            self._arm()

    def _arm(self) -> None:
        """One timer; it is moved only when it would be late, else it re-arms itself."""
        due_ms = self.mesh.deadline()
        if due_ms is None:
            return
        # A clock that is cut to ms must have reached the deadline when the timer fires.
        due_s = due_ms / 1000 + 0.0001
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._datagrams.drain()
        self.mesh.handle_deadline(self._now_ms())
        self._pump()

    def _carry_out(self, action: MeshAction) -> None:
        match action:
            case Dial():
                task = self._loop.create_task(self._dial(action))
                self._dials.add(task)
                task.add_done_callback(self._dials.discard)
            case Write(connection_id, data):
                self._write(connection_id, data)
            case Close(connection_id, abort):
                self._close(connection_id, abort)
            case Datagram(endpoint, data):
                self._datagrams.send(endpoint, data)
            case DatagramsMissing() | Misfit():
                _report(action)
            case _:
                assert_never(action)

    # --- sockets ------------------------------------------------------------------------------

    async def _dial(self, dial: Dial) -> None:
        endpoint = dial.endpoint
        connection = _Connection(self, endpoint)
        same_family = endpoint.address.version == self._local.xcf.version
        connecting = self._loop.create_connection(
            lambda: connection,
            str(endpoint.address),
            endpoint.port,
            # The peer knows this node by its XCF address.
            local_addr=(str(self._local.xcf), 0) if same_family else None,
        )
        try:
            await asyncio.wait_for(connecting, dial.timeout_ms / 1000)
        except (OSError, TimeoutError) as error:
            if connection.transport is not None:
                return  # it came at the last moment, and is reported lost
            refused = isinstance(error, ConnectionRefusedError)
            self._note(endpoint, isinstance(error, TimeoutError))
            self.mesh.dial_failed(endpoint, refused, self._now_ms())
            self._pump()

    def _note(self, endpoint: Endpoint, unanswered: bool) -> None:
        self.unanswered.discard(endpoint)
        if unanswered and len(self.unanswered) < MAX_ENDPOINTS:
            self.unanswered.add(endpoint)

    def _write(self, connection_id: int, data: bytes) -> None:
        connection = self._connections.get(connection_id)
        if connection is None:
            return
        transport = _transport(connection)
        if transport.get_write_buffer_size() + len(data) > self._settings.max_buffered:
            self.mesh.closed(connection_id, Ending.OVERFLOW, self._now_ms())
        else:
            transport.write(data)

    def _close(self, connection_id: int, abort: bool) -> None:
        connection = self._connections.pop(connection_id, None)
        if connection is None:
            return
        self._closing.add(connection)
        if abort:
            self._abort(connection)
            return
        _transport(connection).close()
        # A peer that does not read what is left must not keep the connection.
        self._loop.call_later(self._dead_ms / 1000, self._abort_if_left, connection)

    def _abort_if_left(self, connection: _Connection) -> None:
        if connection in self._closing:
            self._abort(connection)

    @staticmethod
    def _abort(connection: _Connection) -> None:
        transport = _transport(connection)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        transport.abort()

    async def _closed(self) -> None:
        while self._closing:
            self._idle.clear()
            await self._idle.wait()

    def _wake_stop(self) -> None:
        if not self._closing:
            self._idle.set()


def _transport(connection: _Connection) -> asyncio.Transport:
    assert connection.transport is not None
    return connection.transport


def _read(connection: _Connection, reads: bool) -> None:
    transport = _transport(connection)
    (transport.resume_reading if reads else transport.pause_reading)()


def _remote(peername: Any) -> Address:
    """The address in what getpeername gave, without the scope of a link-local one."""
    return ip_address(str(peername[0]).partition("%")[0])


def _report(report: DatagramsMissing | Misfit) -> None:
    if isinstance(report, Misfit):
        log.error("the node at %s is refused: %s", report.address, report.reason)
    elif report.missing:
        log.warning(
            "heartbeats by UDP from node %s do not arrive: does a firewall drop them? Without them "
            "a moment of loss may look like the death of a host",
            report.name,
        )
    else:
        log.info("heartbeats by UDP from node %s arrive again", report.name)


def _ending(error: Exception | None) -> Ending:
    if error is None:
        return Ending.EOF
    if isinstance(error, ConnectionError):
        return Ending.RESET
    return Ending.TIMEOUT
