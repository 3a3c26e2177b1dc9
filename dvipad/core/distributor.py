"""The distributor's part: services from the DPT, CRT entries from NEWCONN and TERMCONN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod, Distribute, Policy
from dvipad.core.context import FORGET_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.dpt import Candidate, Dpt, Service, covering, target_spec
from dvipad.core.effects import (
    EndConnections,
    InsertConnections,
    Preferred,
    PurgeTarget,
    RemoveService,
    RetainConnections,
    SetService,
)
from dvipad.core.fitness import Fitness
from dvipad.core.following import compares, counts, follow, measured
from dvipad.core.inputs import Adopted, SocketsDumped
from dvipad.core.membership import Life
from dvipad.core.methods import BALANCED, Ring
from dvipad.core.policy_rows import PolicyRow
from dvipad.core.standby import Standby
from dvipad.core.vipa import Ownership
from dvipad.core.workload import Workloads
from dvipad.wire.messages import NewConn

SNAPSHOT_MARGIN_MS = 5_000
"""CRT entries younger than a snapshot by no more than this are left alone: the packets that
made them may not have reached the target yet."""

REWEIGH_MS = 1_000
"""Rings follow measured weights at most so often: those of many nodes change at many times."""
PREFER_MS: Final = 200
"""With preferences, rings follow figures so often for each DVIPA that there is, if that is more
often."""

ISOLATED_MS = 4_000
"""For so long services stay as they are when no peer is heard of any more: a node that is cut off
sees within three seconds that another one has its DVIPA, and yields."""
KEEP_MS = 1_000
"""A service keeps its last targets for so long after one of them fell silent or came back: the
others fall silent moments later when it is this node that is cut off, and who came back says what
it serves moments later. A refusal would reach the clients' applications; a packet in vain does
not."""


class Distributor:
    """This node as the (coming) distributor of DVIPAs; `effective` gives their distribution,
    `policies` those that are open now, `standby` who is active."""

    def __init__(
        self,
        context: Context,
        dpt: Dpt,
        workloads: Workloads,
        effective: Callable[[Address], tuple[Distribute, ...]],
        policies: Callable[[Address], tuple[Policy, ...]],
        standby: Standby,
    ) -> None:
        self._context = context
        self._dpt = dpt
        self._workloads = workloads
        self._preferences = workloads.preferences
        self._weighed = workloads.edition
        self._weighed_ms = -REWEIGH_MS
        self._alarmed = workloads.alarms
        self._effective = effective
        self._policies = policies
        self._standby = standby
        self._services: dict[Address, dict[int, Service]] = {}
        self._snapshots: dict[tuple[Address, str], Collection] = {}
        self._purged: set[str] = set()
        self._adopted: dict[tuple[Address, int], Ring] = {}
        self._hold_until_ms = 0
        self._keep_until_ms = 0
        self._grounds: dict[Address, tuple[object, ...]] = {}
        """What the services of a DVIPA were made of; without a change they are the same."""
        self._waiting: dict[Address, None] = {}
        self._alive: tuple[Candidate, ...] = ()
        self._isolated_until_ms = 0
        self._seen = -1  # edition of the membership

    def services(self) -> dict[tuple[Address, int], Service]:
        """The DPT as it is distributed now."""
        return {
            (dvipa, port): service
            for dvipa, services in self._services.items()
            for port, service in services.items()
        }

    def services_of(self, dvipa: Address) -> Mapping[int, Service]:
        """The same for one DVIPA, by port."""
        return self._services.get(dvipa, {})

    def fitness(self, name: str, dvipa: Address, port: int) -> Fitness:
        """How well node `name` serves (`dvipa`, `port`), as it is known now."""
        return self._workloads.fitness(name, dvipa, port)

    def policies(self) -> Iterator[tuple[Address, int, PolicyRow]]:
        """Policies of (DVIPA, port) that are in force, in their order."""
        for dvipa, services in self._services.items():
            for port, service in services.items():
                yield from ((dvipa, port, row) for row in service.policies)

    def to_count(self) -> list[tuple[Address, int, Address]]:
        """Targets whose active connections some policy looks at."""
        return [
            (dvipa, port, row.xcf)
            for dvipa, services in self._services.items()
            if any(counts(policy) for policy in self._policies(dvipa))
            for port, service in services.items()
            for row in service.rows
        ]

    def adopt(self, adopted: Adopted, hold_ms: int) -> None:
        """Services that a former daemon left in the data plane.

        They stay as they are for `hold_ms`: the targets need that time to say what they have. But
        a target that the profile does not list any more gets nothing from the first moment.
        """
        for service in adopted.services:
            self._adopted[adopted.dvipa, service.port] = service.ring
            if len(service.ring) == 1:
                self._standby.chosen(adopted.dvipa, {service.port: service.ring[0]})
        self._hold_until_ms = max(self._hold_until_ms, self._context.now_ms + hold_ms)

    def refresh(self, look: Iterable[Address], owned: Callable[[Address], bool]) -> None:
        """Bring the data plane's services of the DVIPAs `look` to what DPT and profile say;
        `owned`: whether this node distributes one, or is about to."""
        self._waiting.update(dict.fromkeys(look))
        self._see_members()
        if self._context.now_ms < self._hold_until_ms:
            self._unlist()
            return
        if self._context.now_ms < self._isolated_until_ms:
            return
        self._reweigh()
        waiting, self._waiting = self._waiting, {}
        for dvipa in waiting:
            self._follow(dvipa, self._effective(dvipa) if owned(dvipa) else None)
        if self._adopted:
            for dvipa, port in sorted(self._adopted.keys() - self.services().keys(), key=str):
                self._context.emit(RemoveService(dvipa, port))
            self._adopted.clear()

    def _follow(self, dvipa: Address, rows: tuple[Distribute, ...] | None) -> None:
        """Services of `dvipa`, which this node distributes by `rows`; None: it does not."""
        if rows is None:
            if self._grounds.pop(dvipa, None) is not None:
                self._change(dvipa, {})
            return
        policies = self._policies(dvipa)
        follows = measured(rows) or compares(policies) or self._preferences.concern(dvipa)
        weighed = self._weighed if follows else None
        said = (self._dpt.edition(dvipa), weighed, self._alarmed)
        grounds = (rows, self._alive, *said, policies)
        if self._grounds.get(dvipa) != grounds:
            active = self._standby.of(dvipa)
            wanted = self._dpt.services(dvipa, rows, self._alive, active, policies)
            self._standby.chosen(dvipa, self._chosen(dvipa, active, wanted))
            kept = self._last_targets(dvipa, rows, wanted)
            self._grounds[dvipa] = () if kept else grounds  # what is kept is looked at again
            self._change(dvipa, wanted | kept)

    def _chosen(
        self, dvipa: Address, active: Mapping[int, Address], services: Mapping[int, Service]
    ) -> dict[int, Address]:
        """Who is active now of targets that stand by for each other, by port.

        A new distributor hears of some before others: nobody takes the place of one that lives,
        and did not say yet what it serves.
        """
        own = self._context.settings.name
        awaited = {
            node.xcf
            for node in self._alive
            if node.name != own and not self._dpt.told(node.name, dvipa)
        }
        return {
            port: service.ring[0]
            for port, service in services.items()
            if service.method is DistMethod.HOTSTANDBY and service.ring
            if active.get(port) not in awaited
        }

    def _last_targets(
        self, dvipa: Address, rows: tuple[Distribute, ...], wanted: Mapping[int, Service]
    ) -> dict[int, Service]:
        """Services that would have no target any more, and keep those that they have for now."""
        peers = {peer.member.xcf: peer for peer in self._context.membership if not peer.left}
        kept: dict[int, Service] = {}
        for port, known in self.services_of(dvipa).items():
            empty = port not in wanted or not wanted[port].ring
            if not (
                empty and known.ring and covering(rows, port) and peers.keys() >= {*known.ring}
            ):
                continue
            until_ms = max(peers[xcf].since_ms for xcf in known.ring) + KEEP_MS
            if self._context.now_ms < until_ms:
                kept[port] = known
                self._keep_until_ms = max(self._keep_until_ms, until_ms)
        return kept

    # -- measured weights ---------------------------------------------------------------------

    def _reweigh(self) -> None:
        """Services that follow measured weights are looked at when these changed; all, and at
        once, when a target ceased to answer or answers again."""
        alarmed = self._alarmed != self._workloads.alarms
        early = self._context.now_ms < self._reweigh_due()
        if not alarmed and (early or self._weighed == self._workloads.edition):
            return
        self._alarmed = self._workloads.alarms
        self._weighed, self._weighed_ms = self._workloads.edition, self._context.now_ms
        self._waiting.update(
            (dvipa, None)
            for dvipa, services in self._services.items()
            if alarmed
            or follow(services.values())
            or compares(self._policies(dvipa))
            or self._preferences.concern(dvipa)
        )

    def _reweigh_due(self) -> int:
        soon_ms = PREFER_MS * len(self._services) if self._preferences else REWEIGH_MS
        return self._weighed_ms + min(REWEIGH_MS, soon_ms)

    def turn_ms(self) -> int | None:
        """When rings are to follow weights that came too early."""
        changed = self._weighed != self._workloads.edition
        return self._reweigh_due() if changed else None

    # -- services -----------------------------------------------------------------------------

    def _change(self, dvipa: Address, wanted: dict[int, Service]) -> None:
        """The services of `dvipa` are those `wanted` from now on."""
        self._context.note((dvipa,))
        services = self._services.get(dvipa, {})
        for port in sorted(services.keys() - wanted.keys()):
            self._context.emit(RemoveService(dvipa, port))
        for port, service in wanted.items():
            known = services.get(port)
            if known is None or _does(known) != _does(service):
                self._context.emit(SetService(dvipa, port, *_does(service)))
            best = service.best
            if best.server and (known is None or known.best != best):
                self._context.emit(Preferred(dvipa, port, best.server, best.farm))
        if wanted:
            self._services[dvipa] = wanted
        else:
            self._services.pop(dvipa, None)

    def _unlist(self) -> None:
        """Adopted services lose the targets that the statements do not name."""
        for (dvipa, port), ring in self._adopted.items():
            row = covering(self._effective(dvipa), port)
            if row is None:
                continue  # another node may say how it is distributed, and did not yet
            listed = tuple(xcf for xcf in ring if target_spec(row, xcf))
            if listed != ring:
                self._adopted[dvipa, port] = listed
                balanced = row.method in BALANCED
                self._context.emit(SetService(dvipa, port, listed, row.offload, None, balanced))

    def _see_members(self) -> None:
        """Who may get connections now; if that changed, every service is looked at.

        A node that hears nobody any more leaves its services as they are for a while: all peers at
        once are not dead, this node is cut off. Another one takes over, and clients go there within
        moments; a refusal would reach their applications.
        """
        settings, membership = self._context.settings, self._context.membership
        if self._seen == membership.edition:
            return
        self._seen = membership.edition
        staying = [peer for peer in membership if not peer.left]
        cut_off = all(peer.life is Life.DEAD for peer in staying)
        ends = (peer.since_ms + ISOLATED_MS for peer in staying) if cut_off else ()
        self._isolated_until_ms = max(ends, default=0)
        alive = [
            Candidate(peer.member.name, peer.member.xcf, peer.labels)
            for peer in membership
            if peer.life is not Life.DEAD
        ]
        candidates = (Candidate(settings.name, settings.xcf, settings.labels), *alive)
        if candidates != self._alive:
            self._alive = candidates
            self._waiting.update(dict.fromkeys(self._grounds))

    # -- NEWCONN ------------------------------------------------------------------------------

    def new_connections(
        self, name: str, message: NewConn, vipa: Ownership, collection: Collection | None
    ) -> None:
        """NEWCONN from peer `name` for a DVIPA whose CRT this node keeps."""
        if message.epoch != vipa.epoch:
            return
        if message.target != self._context.xcf_of(name):
            # Hearsay of the former owner; the connection may be over. As embryonic it never hides
            # what the target itself said, its next packet promotes it, and else it is washed out.
            keys = message.established + message.embryonic
            if keys:
                self._context.emit(InsertConnections(message.target, b"", keys, hearsay=True))
            return
        self._insert(message.target, message.established, message.embryonic)
        if not message.snapshot:
            return
        gathering = collection or self._snapshot(name, message)
        whole = gathering.received(name, message, self._context.now_ms)
        if whole is not None:
            self._snapshots.pop((message.dvipa, name), None)
            vipa.unheard.discard(name)
            self._retain(message.dvipa, message.target, *whole)

    def _snapshot(self, name: str, message: NewConn) -> Collection:
        """A snapshot that nobody waits for: a session began anew while this node distributes."""
        key = (message.dvipa, name)
        if key not in self._snapshots:
            started = self._context.now_ms
            self._snapshots[key] = Collection(message.epoch, started, {name}, 0)
        return self._snapshots[key]

    def own_connections(
        self, vipa: Ownership, result: SocketsDumped, gathering: Collection
    ) -> None:
        """This node's own sockets, as part of a collection."""
        settings = self._context.settings
        message = NewConn(
            vipa.dvipa, vipa.epoch, settings.xcf, result.established, result.embryonic, True, True
        )
        self._insert(settings.xcf, result.established, result.embryonic)
        whole = gathering.received(settings.name, message, self._context.now_ms)
        if whole is not None:
            self._retain(vipa.dvipa, settings.xcf, *whole)

    def _insert(self, target: Address, established: bytes, embryonic: bytes) -> None:
        if established or embryonic:
            self._context.emit(InsertConnections(target, established, embryonic))

    def _retain(self, dvipa: Address, target: Address, keys: bytes, first_ms: int) -> None:
        """Entries that the target does not know are left-overs of a time without a session."""
        before_ms = first_ms - SNAPSHOT_MARGIN_MS
        self._context.emit(RetainConnections(dvipa, target, keys, before_ms))

    def ended(self, name: str, keys: bytes) -> None:
        """Connections that node `name` says are over."""
        target = self._context.xcf_of(name)
        if target is not None:
            self._context.emit(EndConnections(target, keys))

    # -- members that come and go -------------------------------------------------------------

    def peer_up(self, name: str) -> None:
        """Peer `name` is back: its entries are its snapshot's business again."""
        self._purged.discard(name)

    def peer_dead(self, name: str) -> None:
        """Peer `name` is dead: its listeners are, its connections may come back with it."""
        self._dpt.forget(name)
        self._workloads.forget(name)
        for key in [key for key in self._snapshots if key[1] == name]:
            del self._snapshots[key]

    def expire(self) -> None:
        """Entries of targets that are dead for long end."""
        for peer in self._context.membership:
            name = peer.member.name
            due = peer.life is Life.DEAD and self._context.now_ms >= peer.since_ms + FORGET_MS
            if due and name not in self._purged:
                self._purged.add(name)
                self._context.membership.forget(name)
                self._context.touched.everything()
                self._context.emit(PurgeTarget(peer.member.xcf))

    def deadlines(self) -> list[int]:
        """When `expire` has something to do."""
        return [self._hold_until_ms, self._keep_until_ms, self._isolated_until_ms] + [
            peer.since_ms + FORGET_MS
            for peer in self._context.membership
            if peer.life is Life.DEAD and peer.member.name not in self._purged
        ]


def _does(service: Service) -> tuple[Ring, bool, tuple[PolicyRow, ...], bool]:
    """What the data plane has to know of a service."""
    return service.ring, service.offload, service.policies, service.balanced
