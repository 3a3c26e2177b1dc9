"""The simulated kernel of a host: the data plane's maps, addresses, sockets.

It outlives the daemon, and is lost with the host's power.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from dvipad.address import Address, pack
from dvipad.config.model import Distribute
from dvipad.core.crt import KEY_SIZE
from dvipad.core.dpt import target_spec
from dvipad.core.effects import (
    Announce,
    CountConnections,
    DumpCrt,
    DumpSockets,
    EndConnections,
    InsertConnections,
    PlaceAddress,
    ProbeAddress,
    PurgeTarget,
    RemoveAddress,
    RemoveDvipa,
    RemoveService,
    RetainConnections,
    Role,
    SetDvipa,
    SetMembers,
    SetService,
    WatchDvipas,
    WatchRanges,
)
from dvipad.core.inputs import (
    Adopted,
    AdoptedService,
    ConnectionsCounted,
    CrtDumped,
    Input,
    Listener,
    SocketsDumped,
)
from dvipad.core.methods import lightest

KernelEffect = (
    SetDvipa
    | RemoveDvipa
    | PlaceAddress
    | RemoveAddress
    | Announce
    | SetService
    | RemoveService
    | SetMembers
    | WatchDvipas
    | WatchRanges
    | ProbeAddress
    | CountConnections
    | InsertConnections
    | EndConnections
    | RetainConnections
    | PurgeTarget
    | DumpSockets
    | DumpCrt
)


CHOSEN_MS = 5_000
"""A younger embryonic entry stays, whatever another node says that it heard."""


@dataclass(slots=True)
class Socket:
    """A server's end of a connection; `nonce` stands for its sequence numbers."""

    dvipa: Address
    port: int
    nonce: int
    established: bool
    born_ms: int


@dataclass(slots=True)
class Route:
    """A CRT entry."""

    target: Address
    created_ms: int
    closing: bool = False


def split(keys: bytes) -> Iterator[bytes]:
    """The single keys."""
    return (keys[at : at + KEY_SIZE] for at in range(0, len(keys), KEY_SIZE))


class Kernel:
    """`now_ms` of every method is the host's own clock."""

    def __init__(self, xcf: Address) -> None:
        self.xcf = xcf
        self.dvipas: dict[Address, SetDvipa] = {}
        self.addresses: dict[Address, bool] = {}
        self.services: dict[tuple[Address, int], SetService] = {}
        self.cursors: dict[tuple[Address, int], int] = {}
        self.established: dict[bytes, Route] = {}
        self.embryonic: dict[bytes, Route] = {}
        self.members: frozenset[Address] = frozenset()
        self.watched: frozenset[Address] = frozenset()
        self.sockets: dict[bytes, Socket] = {}
        self.listeners: dict[tuple[Address | None, int], Listener] = {}
        self.lease_until_ms = 0
        self.grace_until_ms = 0
        self.daemon_exists = False

    # -- what the daemon asks ------------------------------------------------------------------

    def owns(self, dvipa: Address) -> bool:
        """Whether rules and address make this node the distributor, known to neighbours."""
        rules = self.dvipas.get(dvipa)
        placed = self.addresses.get(dvipa, False)
        return placed and rules is not None and rules.role is Role.OWNER and not rules.quiet

    def lapsed(self, now_ms: int) -> bool:
        """Whether an owner may not act as one: its daemon hangs, or is dead for long."""
        expired = now_ms > self.lease_until_ms
        return expired and (now_ms > self.grace_until_ms or self.daemon_exists)

    def answers(self, dvipa: Address, now_ms: int) -> bool:
        """Whether it answers ARP requests and neighbour solicitations."""
        return self.owns(dvipa) and not self.lapsed(now_ms)

    def adopted(self) -> tuple[Adopted, ...]:
        """What a daemon that starts finds."""
        for dvipa in [dvipa for dvipa in self.addresses if dvipa not in self.dvipas]:
            del self.addresses[dvipa]
        return tuple(
            Adopted(
                dvipa,
                rules.role is Role.OWNER and self.addresses.get(dvipa, False),
                rules.epoch,
                rules.collecting,
                self._adopted_services(dvipa),
            )
            for dvipa, rules in self.dvipas.items()
        )

    def _adopted_services(self, dvipa: Address) -> tuple[AdoptedService, ...]:
        known = sorted((port, row.ring) for (of, port), row in self.services.items() if of == dvipa)
        return tuple(AdoptedService(port, ring) for port, ring in known)

    def carry_out(self, effect: KernelEffect, now_ms: int) -> Input | None:
        """Carry `effect` out; returns the answer of those that ask for one."""
        match effect:
            case SetDvipa():
                self.dvipas[effect.dvipa] = effect
            case RemoveDvipa():
                self._forget(effect.dvipa)
            case PlaceAddress():
                self.addresses[effect.dvipa] = effect.owned
            case RemoveAddress():
                self.addresses.pop(effect.dvipa, None)
            case SetService():
                self.services[effect.dvipa, effect.port] = effect
            case RemoveService():
                self.services.pop((effect.dvipa, effect.port), None)
            case SetMembers():
                self.members = effect.members
            case WatchDvipas():
                self.watched = effect.dvipas
            case DumpSockets():
                return SocketsDumped(effect.effect_id, *self.dump(effect.dvipa))
            case DumpCrt():
                return CrtDumped(effect.effect_id, self._crt(effect.dvipa))
            case CountConnections():
                return ConnectionsCounted(effect.effect_id, self._count(effect.dvipa))
            case Announce() | ProbeAddress() | WatchRanges():
                pass  # the world's affair
            case _:
                self._connections(effect, now_ms)
        return None

    def _connections(
        self,
        effect: InsertConnections | EndConnections | RetainConnections | PurgeTarget,
        now_ms: int,
    ) -> None:
        match effect:
            case InsertConnections():
                for key in split(effect.established):
                    self.established[key] = Route(effect.target, now_ms)
                for key in split(effect.embryonic):
                    route = self.embryonic.get(key)
                    young = route is not None and route.created_ms > now_ms - CHOSEN_MS
                    stays = (young and route and not route.closing) or key in self.sockets
                    if not (effect.hearsay and stays):
                        self.embryonic[key] = Route(effect.target, now_ms)
            case EndConnections():
                for key in split(effect.keys):
                    for table in (self.embryonic, self.established):
                        if key in table and table[key].target == effect.target:
                            del table[key]
            case RetainConnections():
                self._retain(effect)
            case PurgeTarget():
                for table in (self.embryonic, self.established):
                    for key in [k for k, row in table.items() if row.target == effect.target]:
                        del table[key]
            case _:
                assert_never(effect)

    def _retain(self, effect: RetainConnections) -> None:
        keep = set(split(effect.keys))
        packed = pack(effect.dvipa)
        for table in (self.embryonic, self.established):
            ended = [
                key
                for key, row in table.items()
                if row.target == effect.target
                and row.created_ms < effect.before_ms
                and key[16:32] == packed
                and key not in keep
            ]
            for key in ended:
                del table[key]

    def _forget(self, dvipa: Address) -> None:
        self.dvipas.pop(dvipa, None)
        for key in [key for key in self.services if key[0] == dvipa]:
            del self.services[key]
        packed = pack(dvipa)
        for table in (self.embryonic, self.established):
            for entry in [key for key in table if key[16:32] == packed]:
                del table[entry]

    def dump(self, dvipa: Address) -> tuple[bytes, bytes]:
        """This host's sockets of `dvipa`: established and embryonic keys."""
        mine = [(key, row.established) for key, row in self.sockets.items() if row.dvipa == dvipa]
        established = b"".join(key for key, is_established in mine if is_established)
        return established, b"".join(key for key, is_established in mine if not is_established)

    def _count(self, dvipa: Address) -> int:
        packed = pack(dvipa)
        known = self.established.keys() | self.embryonic.keys() | self.sockets.keys()
        return sum(key[16:32] == packed for key in known)

    def _crt(self, dvipa: Address) -> tuple[tuple[Address, bytes, bytes], ...]:
        packed = pack(dvipa)
        found: dict[Address, tuple[list[bytes], list[bytes]]] = {}
        for key, route in self.established.items():
            if key[16:32] == packed:
                found.setdefault(route.target, ([], []))[0].append(key)
        for key, route in self.embryonic.items():
            if key[16:32] == packed and not route.closing and key not in self.established:
                found.setdefault(route.target, ([], []))[1].append(key)
        return tuple((target, b"".join(old), b"".join(new)) for target, (old, new) in found.items())

    # -- packets -------------------------------------------------------------------------------

    def listens(self, dvipa: Address, port: int) -> bool:
        """Whether a SYN to (dvipa, port) is accepted."""
        return (None, port) in self.listeners or (dvipa, port) in self.listeners

    def ready(
        self, rows: tuple[Distribute, ...] | list[Distribute], dvipa: Address, port: int
    ) -> bool:
        """Whether this host is a ready target for (dvipa, port), as C1 says."""
        mine = [row for row in rows if target_spec(row, self.xcf)]
        listed = any(port in span for row in mine for span in row.ports)
        return bool(mine) and (
            (dvipa, port) in self.listeners or (listed and (None, port) in self.listeners)
        )

    def lookup(self, key: bytes, syn: bool, fin: bool, now_ms: int) -> Address | None:
        """The CRT: the target of a connection."""
        route = self.established.get(key)
        if route is not None:
            if syn and route.closing:
                del self.established[key]
                return None
            route.closing = route.closing or fin
            return route.target
        route = self.embryonic.get(key)
        if route is None or (syn and route.closing):
            return None
        if syn:
            route.created_ms = now_ms
        elif not route.closing:
            self.established[key] = Route(route.target, now_ms, fin)
        route.closing = route.closing or fin
        return route.target

    def choose(self, dvipa: Address, port: int, key: bytes, now_ms: int) -> Address | None:
        """The target for a new connection; None: nobody distributes it."""
        service = self.services.get((dvipa, port))
        if service is None or not service.ring:
            return None
        turn = self.cursors.get((dvipa, port), 0)
        self.cursors[dvipa, port] = turn + 1
        target = service.ring[turn % len(service.ring)]
        if service.balanced:
            counts = Counter(
                route.target
                for known, route in (self.embryonic | self.established).items()
                if known[16:32] == key[16:32] and known[34:] == key[34:] and not route.closing
            )
            shares = list(Counter(service.ring).items())
            target = lightest(shares, counts.__getitem__, target, turn)
        self.embryonic[key] = Route(target, now_ms)
        return target
