"""After everything is healed the cluster must converge, and say so everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from dvipad.address import Address, pack
from dvipad.config.model import DistMethod, Moveable
from dvipad.core.dpt import covering, target_spec
from dvipad.core.effects import Role
from dvipad.core.vipa import State
from dvipad.wire.codec import SINCE
from dvipad.wire.messages import Status

from .scenario import Kind
from .traffic import Connection, Phase

if TYPE_CHECKING:
    from .daemon import Daemon
    from .world import Host, World

CONVERGE_MS: Final = 12_000
"""A failed effect keeps a node away for 5 s; everything else is much shorter."""
LOOK_MS: Final = 150
MOVED_MS: Final = 1_500
"""What waits for the end of the last connection, and looks once a second, has moved by then."""
PROBE_MS: Final = 1_800
"""Probes are opened and closed, and old connections go on, within this time."""
STATUS_SINCE: Final = SINCE[Status, ""]
ENDED_MS: Final = 1_200
"""So long after its end a connection may still be in the CRT."""


class Liveness:
    """The second phase."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._problems: list[str] = []
        self._look_ms = 0

    def run(self) -> None:
        """Wait for convergence, then use the cluster, then look again."""
        world = self._world
        self._wait(CONVERGE_MS)
        probes = [
            world.traffic.open(dvipa, port, 2, 100)
            for dvipa in world.scenario.dvipas
            for port in world.scenario.ports
            if self._served(dvipa, port)
        ]
        healed_ms = world.loop.now_ms
        world.loop.run(healed_ms + PROBE_MS)
        self._wait(MOVED_MS)
        for probe in probes:
            if probe.phase is not Phase.DONE:
                world.checks.fail("probe", f"{probe} is {probe.phase.value}")
        for connection in world.traffic.connections:
            ranged = connection.dvipa in world.scenario.ranged
            if ranged and world.checks.excuse(connection):
                continue  # an address that nothing wants any more does not come back
            if not self._expected(connection.dvipa)[1]:
                continue  # no profile creates it again
            if self._lives(connection) and connection.progress_ms < healed_ms:
                stuck_ms = world.loop.now_ms - connection.progress_ms
                world.checks.fail("lost", f"{connection} is stuck for {stuck_ms} ms")

    def _wait(self, limit_ms: int) -> None:
        world = self._world
        until_ms = world.loop.now_ms + limit_ms
        self._look_ms = 0
        world.loop.run(until_ms, self._converged)
        self._problems = list(self._find())
        if self._problems:
            world.checks.fail("convergence", "; ".join(self._problems))

    def _converged(self) -> bool:
        now_ms = self._world.loop.now_ms
        if now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + LOOK_MS
        return next(self._find(), None) is None

    # -- what is not as it should be -----------------------------------------------------------

    def _find(self) -> Iterator[str]:
        hosts = self._world.hosts
        daemons = [host.daemon for host in hosts.values() if host.daemon is not None]
        if len(daemons) < len(hosts):
            yield "a daemon does not run"
            return
        for daemon in daemons:
            if daemon.stalled:
                yield f"{daemon.host.name} does not run yet"
            missing = set(hosts) - set(daemon.sessions) - {daemon.host.name}
            if missing:
                yield f"{daemon.host.name} has no session with {missing}"
            yield from self._links(daemon)
        scenario = self._world.scenario
        for dvipa in (*scenario.dvipas, *scenario.ranged):
            yield from self._dvipa(dvipa, daemons)

    def _links(self, daemon: Daemon) -> Iterator[str]:
        """Each pair speaks the newest version of both, and knows each other's troubles by it."""
        for link in daemon.mesh.links(daemon.host.clock_ms()):
            peer = self._world.hosts[link.peer]
            if peer.daemon is None:
                continue
            newest = min(daemon.newest, peer.daemon.newest)
            if link.version != newest:
                yield f"{daemon.host.name} speaks {link.version} with {link.peer}, not {newest}"
            status = Status("", tuple(peer.troubles)) if newest >= STATUS_SINCE else None
            if link.status != status:
                yield f"{daemon.host.name} knows {link.status} of {link.peer}, not {status}"

    def _dvipa(self, dvipa: Address, daemons: list[Daemon]) -> Iterator[str]:
        owners = []
        for daemon in daemons:
            vipa = daemon.node.owners.get(dvipa)
            if vipa is not None and vipa.state not in (State.BACKUP, State.ACTIVE):
                yield f"{daemon.host.name} is {vipa.state.value} of {dvipa}"
            if vipa is not None and vipa.owning:
                owners.append(daemon)
            if dvipa in daemon.node.owners.collections:
                yield f"{daemon.host.name} collects for {dvipa}"
        may, must = self._expected(dvipa)
        names = {daemon.host.name for daemon in owners}
        if len(owners) > 1 or (must and not owners) or not names <= may:
            yield f"owners of {dvipa} are {names}, not one of {may}"
        if len(owners) != 1:
            return
        yield from self._agreement(dvipa, owners[0], daemons)
        yield from self._roles(dvipa, owners[0], daemons)
        yield from self._services(dvipa, owners[0])
        yield from self._crt(dvipa, owners[0].host)

    def _expected(self, dvipa: Address) -> tuple[set[str], bool]:
        """Who may have it, and whether somebody must."""
        if dvipa in self._world.scenario.ranged:
            world = self._world
            lives = any(
                self._lives(connection) and not world.checks.excuse(connection)
                for connection in world.traffic.connections
                if connection.dvipa == dvipa
            )
            return set(world.hosts), lives  # until its last connection ends
        may: set[str] = set()
        definers: set[str] = set()
        immediate = must = False
        for plan in (host.plan for host in self._world.hosts.values()):
            for define in plan.profile.defines:
                if define.dvipa == dvipa:
                    definers.add(plan.name)
                    immediate = immediate or define.moveable is Moveable.IMMEDIATE
            for backup in plan.profile.backups:
                if backup.dvipa == dvipa:
                    may.add(plan.name)
                    must = must or backup.moveable is not None
        # Of two that define it none takes it from the other.
        return definers if immediate else may | definers, must or bool(definers)

    def _agreement(self, dvipa: Address, owner: Daemon, daemons: list[Daemon]) -> Iterator[str]:
        vipa = owner.node.owners.get(dvipa)
        assert vipa is not None
        said = (owner.host.name, vipa.epoch)
        for daemon in daemons:
            claim = daemon.node.context.membership.claim(dvipa)
            heard = None if claim is None else (claim.name, claim.epoch)
            if heard != (None if daemon is owner else said):
                yield f"{daemon.host.name} believes {heard} has {dvipa}, not {said}"
        for client in self._world.traffic.clients.values():
            if client.cache.get(dvipa, owner.host.name) != owner.host.name:
                yield f"{client.name} sends {dvipa} to {client.cache[dvipa]}"

    def _roles(self, dvipa: Address, owner: Daemon, daemons: list[Daemon]) -> Iterator[str]:
        rows = owner.node.owners.effective(dvipa)
        for daemon in daemons:
            kernel = daemon.host.kernel
            rules = kernel.dvipas.get(dvipa)
            placed = kernel.addresses.get(dvipa)
            if daemon is owner:
                if not kernel.answers(dvipa, daemon.host.clock_ms()):
                    yield f"{daemon.host.name} does not serve {dvipa}"
                if rules is not None and rules.collecting:
                    yield f"{daemon.host.name} still drops what it does not know of {dvipa}"
                continue
            shown = rules is not None and rules.role is Role.HIDDEN and placed is False
            absent = rules is None and placed is None
            candidate = any(target_spec(row, kernel.xcf) for row in rows)
            busy = any(socket.dvipa == dvipa for socket in kernel.sockets.values())
            if not (shown if candidate or busy else shown or absent):
                yield f"{daemon.host.name} has {dvipa} as {rules}, {placed}"
            if not candidate and not busy and shown:
                yield f"{daemon.host.name} still hides {dvipa}"
            if any(known == dvipa for known, _ in kernel.services):
                yield f"{daemon.host.name} still distributes {dvipa}"

    def _ring(self, dvipa: Address, port: int, owner: Daemon) -> set[Address]:
        rows = owner.node.owners.effective(dvipa)
        row = covering(rows, port)
        if row is None:
            return set()
        return {
            host.kernel.xcf
            for host in self._world.hosts.values()
            if target_spec(row, host.kernel.xcf) and host.kernel.ready(rows, dvipa, port)
        }

    def _services(self, dvipa: Address, owner: Daemon) -> Iterator[str]:
        for port in self._world.scenario.ports:
            wanted = self._ring(dvipa, port, owner)
            service = owner.host.kernel.services.get((dvipa, port))
            found = set(service.ring) if service is not None else set()
            row = covering(owner.node.owners.effective(dvipa), port)
            one = row is not None and row.method is DistMethod.HOTSTANDBY and len(wanted) > 0
            if not (found <= wanted and len(found) == 1) if one else found != wanted:
                yield f"{owner.host.name} gives {dvipa}:{port} to {found}, not to {wanted}"

    def _crt(self, dvipa: Address, owner: Host) -> Iterator[str]:
        kernel = owner.kernel
        for connection in self._world.traffic.connections:
            if connection.dvipa != dvipa or not self._lives(connection):
                continue
            route = kernel.established.get(connection.key) or kernel.embryonic.get(connection.key)
            target = self._world.hosts[connection.target]
            if route is None and target is owner:
                continue  # the owner's own stack has it
            if route is None or route.target != target.plan.xcf:
                yield f"{owner.name} has {connection} as {route}"
        packed = pack(dvipa)
        now_ms = self._world.loop.now_ms
        ended = {
            connection.key
            for connection in self._world.traffic.connections
            if connection.phase is Phase.DONE and now_ms - connection.progress_ms > ENDED_MS
        }
        # A client goes on sending to a target that lost its power: late packets make entries.
        faults = self._world.scenario.faults
        cut = {name for fault in faults if fault.kind is Kind.POWER for name in fault.hosts}
        for key, route in kernel.established.items():
            name = self._world.by_xcf(route.target) or ""
            if name in cut:
                continue
            gone = key not in self._world.hosts[name].kernel.sockets
            if key[16:32] == packed and key in ended and gone:
                yield f"{owner.name} still has {key[32:34].hex()} → {name}"

    def _lives(self, connection: Connection) -> bool:
        """Whether both ends of a connection are there."""
        if connection.phase is not Phase.OPEN:
            return False
        socket = self._world.hosts[connection.target].kernel.sockets.get(connection.key)
        return socket is not None and socket.nonce == connection.nonce

    def _served(self, dvipa: Address, port: int) -> bool:
        for host in self._world.hosts.values():
            daemon = host.daemon
            vipa = daemon.node.owners.get(dvipa) if daemon is not None else None
            if daemon is not None and vipa is not None and vipa.owning:
                return bool(self._ring(dvipa, port, daemon))
        return False
