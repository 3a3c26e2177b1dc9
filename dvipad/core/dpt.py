"""The destination port table: which nodes have a listener for (DVIPA, port) (D4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dvipad.address import Address
from dvipad.config.model import DistMethod, Distribute, Label, Policy, TargetSpec
from dvipad.core.policy import DptRow, PolicyRow, ring_of, rows_of
from dvipad.wire.messages import SrvStat


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may get connections now."""

    name: str
    xcf: Address
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """(DVIPA, port): its targets, the turns they take, and the policies that come before these."""

    method: DistMethod
    offload: bool
    rows: tuple[DptRow, ...]
    ring: tuple[Address, ...]
    policies: tuple[PolicyRow, ...] = ()


class Dpt:
    """SRVSTAT of every node, kept on all nodes: a backup knows the targets before it needs them."""

    def __init__(self) -> None:
        self._ready: dict[str, dict[Address, dict[int, int]]] = {}
        self._changes: dict[Address, int] = {}
        self._forgotten = 0

    def update(self, name: str, message: SrvStat) -> None:
        """What node `name` says of its listeners."""
        self._changes[message.dvipa] = self._changes.get(message.dvipa, 0) + 1
        ports = self._ready.setdefault(name, {}).setdefault(message.dvipa, {})
        if message.full:
            ports.clear()
        for status in message.ports:
            if status.ready > 0:
                ports[status.port] = status.ready
            else:
                ports.pop(status.port, None)

    def forget(self, name: str) -> None:
        """Node `name` is gone: it has no listeners."""
        self._forgotten += self._ready.pop(name, None) is not None

    def edition(self, dvipa: Address) -> tuple[int, int]:
        """Another one whenever something is said of `dvipa`."""
        return self._forgotten, self._changes.get(dvipa, 0)

    def ready(self, name: str, dvipa: Address) -> dict[int, int]:
        """Listeners of node `name` for `dvipa`, by port."""
        return self._ready.get(name, {}).get(dvipa, {})

    def services(
        self,
        dvipa: Address,
        distributes: tuple[Distribute, ...],
        candidates: Iterable[Candidate],
        policies: tuple[Policy, ...] = (),
    ) -> dict[int, Service]:
        """The distribution of every port that is listed or that a candidate listens on.

        `policies` concern the DVIPA, and are open now.
        """
        known = sorted(candidates, key=lambda candidate: candidate.name)
        ports = {port for node in known for port in self.ready(node.name, dvipa)}
        listed = {
            port
            for row in distributes
            for span in row.ports
            if span.first == span.last
            for port in (span.first,)
        }
        services: dict[int, Service] = {}
        for port in sorted(ports | listed):
            row = covering(distributes, port)
            if row is not None:
                targets = self._targets(row, port, known)
                rules = rows_of(policies, port, row.method, targets)
                turns = ring_of(row.method, targets)
                services[port] = Service(row.method, row.offload, targets, turns, rules)
        return services

    def _targets(self, row: Distribute, port: int, nodes: list[Candidate]) -> tuple[DptRow, ...]:
        rows: list[DptRow] = []
        for node in nodes:
            spec = target_spec(row, node.xcf)
            if spec is None:
                continue
            ready = self.ready(node.name, row.dvipa).get(port, 0)
            facts = (ready, spec.weight, spec.standby_rank, node.labels)
            rows.append(DptRow(node.name, node.xcf, *facts))
        return tuple(rows)


def covering(distributes: tuple[Distribute, ...], port: int) -> Distribute | None:
    """The statement that governs `port`.

    One that lists it, else one for every port, else the first: a listener bound to the DVIPA
    itself makes its port distributed although nobody lists it (C1).
    """
    for row in distributes:
        if any(port in span for span in row.ports):
            return row
    for row in distributes:
        if not row.ports:
            return row
    return distributes[0] if distributes else None


def target_spec(row: Distribute, xcf: Address) -> TargetSpec | None:
    """What DESTIP says of the node with that XCF address; None: it is no candidate."""
    if row.targets is None:
        return TargetSpec(xcf)
    return next((spec for spec in row.targets if spec.xcf == xcf), None)
