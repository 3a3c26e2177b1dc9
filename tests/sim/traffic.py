"""Clients and their connections; packets on their way through hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from dvipad.address import Address, pack
from dvipad.core.effects import Role

from .kernel import Route, Socket

if TYPE_CHECKING:
    from .world import Host, World

RETRY_MS: Final = (200, 800)
"""First and longest time until a client sends again."""
EMBRYO_MS: Final = 3_000
"""A server's half-open connection is given up after this time."""


class Packet(Enum):
    """What a client sends."""

    SYN = "SYN"
    ACK = "ACK"
    DATA = "DATA"
    FIN = "FIN"


class Phase(Enum):
    """Where a client's connection is."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    DONE = "done"
    REFUSED = "refused"
    RESET = "reset"


@dataclass(slots=True, eq=False)
class Connection:
    """A client's end. `nonce`: of the server's socket that it is connected with."""

    number: int
    client: str
    dvipa: Address
    port: int
    key: bytes
    born_ms: int
    messages: int
    pause_ms: int
    phase: Phase = Phase.OPENING
    nonce: int = 0
    target: str = ""
    sent: int = 0
    acknowledged: int = 0
    opened_ms: int = 0
    progress_ms: int = 0
    tries: int = 0
    timer: int = 0
    probe: bool = False
    excuse: str = ""

    def __str__(self) -> str:
        return f"c{self.number} {self.client}→{self.dvipa}:{self.port} @{self.target}"


@dataclass(slots=True)
class Client:
    """A host on the LAN with a neighbour cache: DVIPA → host."""

    name: str
    address: Address
    cache: dict[Address, str] = field(default_factory=dict)


class Traffic:
    """All clients, and what becomes of their packets."""

    def __init__(self, world: World, clients: list[Client]) -> None:
        self._world = world
        self._loop = world.loop
        self._random = world.random
        self.clients = {client.name: client for client in clients}
        self.connections: list[Connection] = []
        self._nonces = 0

    # -- clients -------------------------------------------------------------------------------

    def announced(self, host: str, dvipa: Address) -> None:
        """Gratuitous ARP, unsolicited NA: every cache that hears it follows."""
        for client in self.clients.values():
            if self._world.lan.reach(host, client.name):
                client.cache[dvipa] = host

    def open(self, dvipa: Address, port: int, messages: int, pause_ms: int) -> Connection:
        """A client connects."""
        name = self._random.choice(sorted(self.clients))
        number = len(self.connections) + 1
        ports = (20_000 + number).to_bytes(2, "big") + port.to_bytes(2, "big")
        key = pack(self.clients[name].address) + pack(dvipa) + ports
        now_ms = self._loop.now_ms
        connection = Connection(
            number, name, dvipa, port, key, now_ms, messages, pause_ms, progress_ms=now_ms
        )
        self.connections.append(connection)
        self._send(connection, Packet.SYN)
        self._arm(connection)
        return connection

    def _resolve(self, connection: Connection) -> str | None:
        """The host that the client's neighbour cache names; asked for when it does not answer."""
        client = self.clients[connection.client]
        cached = client.cache.get(connection.dvipa)
        if cached is not None and connection.tries < 2:
            return cached
        answering = [
            host.name
            for host in self._world.hosts.values()
            if self._world.lan.reach(client.name, host.name)
            and host.kernel.answers(connection.dvipa, host.clock_ms())
        ]
        if cached in answering or not answering:
            return cached
        client.cache[connection.dvipa] = self._random.choice(answering)
        return client.cache[connection.dvipa]

    def _send(self, connection: Connection, packet: Packet) -> None:
        name = self._resolve(connection)
        if name is not None:
            arrive = partial(self._ingress, name, connection, packet, connection.nonce, ())
            self._travel(connection.client, name, arrive)

    def _travel(self, source: str, to: str, arrive: Callable[[], None]) -> None:
        lan = self._world.lan
        if not lan.reach(source, to):
            return

        def end() -> None:
            if to in lan.up:
                arrive()

        self._loop.after(lan.hop_ms() if source != to else 0, end)

    def _arm(self, connection: Connection) -> None:
        connection.timer += 1
        wait_ms = min(RETRY_MS[0] << min(connection.tries, 4), RETRY_MS[1])
        self._loop.after(wait_ms, partial(self._again, connection, connection.timer))

    def _again(self, connection: Connection, timer: int) -> None:
        if timer != connection.timer:
            return
        connection.tries += 1
        match connection.phase:
            case Phase.OPENING:
                self._send(connection, Packet.SYN)
            case Phase.OPEN:
                self._send(connection, Packet.DATA)
            case Phase.CLOSING:
                self._send(connection, Packet.FIN)
            case _:
                return
        self._arm(connection)

    def _next(self, connection: Connection) -> None:
        """The client has something to say, or is done."""
        if connection.phase is not Phase.OPEN or connection.sent > connection.acknowledged:
            return
        if connection.acknowledged >= connection.messages:
            connection.phase = Phase.CLOSING
            self._send(connection, Packet.FIN)
        else:
            connection.sent += 1
            self._send(connection, Packet.DATA)
        self._arm(connection)

    def _progress(self, connection: Connection) -> None:
        connection.tries = 0
        connection.timer += 1
        connection.progress_ms = self._loop.now_ms

    # -- what comes back -----------------------------------------------------------------------

    def _accepted(self, connection: Connection, target: str, nonce: int) -> None:
        """SYN-ACK."""
        if connection.phase is Phase.OPENING:
            connection.phase, connection.nonce, connection.target = Phase.OPEN, nonce, target
            connection.opened_ms = self._loop.now_ms
            self._progress(connection)
            self._world.trace("client", f"{connection} is open")
            self._send(connection, Packet.ACK)
            self._pause(connection)
        elif connection.phase is Phase.OPEN:
            self._send(connection, Packet.ACK)

    def _acknowledged(self, connection: Connection, sent: int) -> None:
        if connection.phase is Phase.OPEN and sent == connection.sent > connection.acknowledged:
            connection.acknowledged = sent
            self._progress(connection)
            self._pause(connection)

    def _pause(self, connection: Connection) -> None:
        pause_ms = self._random.randint(1, connection.pause_ms)
        self._loop.after(pause_ms, partial(self._next, connection))

    def _closed(self, connection: Connection) -> None:
        if connection.phase is Phase.CLOSING:
            connection.phase = Phase.DONE
            self._progress(connection)

    def _reset(self, connection: Connection, host: str, why: str, nonce: int) -> None:
        """RST; one that is meant for an older state of the connection is not taken."""
        match connection.phase:
            case Phase.OPENING:
                connection.phase = Phase.REFUSED
                self._progress(connection)
                self._world.checks.refused(connection, host, why)
            case Phase.OPEN:
                if nonce == connection.nonce:
                    connection.phase = Phase.RESET
                    self._progress(connection)
                    self._world.checks.reset(connection, host, why)
            case Phase.CLOSING:
                connection.phase = Phase.DONE
                self._progress(connection)

    # -- hosts ---------------------------------------------------------------------------------

    def _ingress(
        self,
        name: str,
        connection: Connection,
        packet: Packet,
        nonce: int,
        relays: tuple[str, ...],
    ) -> None:
        """The ingress program of a host. `relays`: hosts that tunnelled the packet, in order."""
        host = self._world.hosts[name]
        kernel = host.kernel
        relay = relays[-1] if relays else None
        self._world.checks.relayed(connection, relays, name)
        if relay is not None and self._world.hosts[relay].plan.xcf not in kernel.members:
            return
        rules = kernel.dvipas.get(connection.dvipa)
        if rules is None:
            if relay is None:
                self._stack(host, connection, packet, nonce, "no DVIPA")
            return
        if rules.role is Role.HIDDEN:
            if relay is not None:
                self._stack(host, connection, packet, nonce, "hidden")
            else:
                self._world.checks.strayed(host, connection)
            return
        by = None if relay is None else self._world.hosts[relay].plan.xcf
        target, why = self._decide(host, connection, packet, by)
        if target is None:
            if why:
                self._stack(host, connection, packet, nonce, why)
        elif target == by:
            if packet is Packet.SYN:
                kernel.embryonic[connection.key] = Route(kernel.xcf, host.clock_ms())
            if packet is Packet.SYN or connection.key in kernel.sockets:
                self._stack(host, connection, packet, nonce, "relayed back")
        elif target == kernel.xcf:
            self._stack(host, connection, packet, nonce, "CRT")
        else:
            other = self._world.by_xcf(target)
            if other is not None:
                path = (*relays, name)
                arrive = partial(self._ingress, other, connection, packet, nonce, path)
                self._travel(name, other, arrive)

    def _decide(
        self, host: Host, connection: Connection, packet: Packet, by: Address | None
    ) -> tuple[Address | None, str]:
        """Target of a packet; without one: why it goes to the stack, empty: it is dropped.

        `by`: the member that relayed it.
        """
        kernel, rules = host.kernel, host.kernel.dvipas[connection.dvipa]
        syn = packet is Packet.SYN
        if syn and rules.role is Role.OWNER and kernel.lapsed(host.clock_ms()):
            return None, ""
        known = kernel.lookup(connection.key, syn, packet is Packet.FIN, host.clock_ms())
        if known is not None:
            return known, ""
        if rules.role is Role.MOVING:
            if (by or not syn) and connection.key in kernel.sockets:
                return kernel.xcf, ""  # it ends here, and only the successor's CRT has it
            if (
                syn
                and by
                and by == rules.successor
                and kernel.listens(connection.dvipa, connection.port)
            ):
                return kernel.xcf, ""  # the successor decides, and chose this node
            if by or rules.successor is None:
                return None, ""
            return rules.successor, ""
        if kernel.lapsed(host.clock_ms()):
            return None, ""
        if not syn:
            return None, "" if rules.collecting else "no entry"
        chosen = kernel.choose(connection.dvipa, connection.port, connection.key, host.clock_ms())
        if chosen is not None:
            self._world.checks.chosen(host, connection, chosen)
            return chosen, ""
        return None, "" if rules.collecting else "no service"

    def _stack(
        self, host: Host, connection: Connection, packet: Packet, nonce: int, why: str
    ) -> None:
        """The host's TCP."""
        kernel = host.kernel
        if connection.dvipa not in kernel.addresses:
            return
        socket = kernel.sockets.get(connection.key)
        if packet is Packet.SYN:
            self._syn(host, connection, socket, why)
            return
        if socket is None or socket.nonce != nonce:
            reason = f"{packet.value}, {'no socket' if socket is None else 'other socket'}, {why}"
            self._answer(host, connection, self._reset, host.name, reason, nonce)
            return
        socket.established = True
        if packet is Packet.DATA:
            self._answer(host, connection, self._acknowledged, connection.sent)
        elif packet is Packet.FIN:
            del kernel.sockets[connection.key]
            host.connection_ended(connection.dvipa, connection.key)
            self._answer(host, connection, self._closed)

    def _syn(self, host: Host, connection: Connection, socket: Socket | None, why: str) -> None:
        kernel = host.kernel
        if socket is None:
            if not kernel.listens(connection.dvipa, connection.port):
                self._answer(host, connection, self._reset, host.name, f"SYN, {why}", 0)
                return
            self._nonces += 1
            now_ms = self._loop.now_ms
            socket = Socket(connection.dvipa, connection.port, self._nonces, False, now_ms)
            kernel.sockets[connection.key] = socket
            self._loop.after(EMBRYO_MS, partial(_give_up, kernel.sockets, connection.key, socket))
        if not socket.established:
            self._answer(host, connection, self._accepted, host.name, socket.nonce)

    def _answer(
        self, host: Host, connection: Connection, act: Callable[..., None], *what: object
    ) -> None:
        """Straight from the host to the client."""
        self._travel(host.name, connection.client, partial(act, connection, *what))


def _give_up(sockets: dict[bytes, Socket], key: bytes, socket: Socket) -> None:
    if sockets.get(key) is socket and not socket.established:
        del sockets[key]
