"""The destination port table: which nodes have a listener for (DVIPA, port) (D4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dvipad.address import Address
from dvipad.config.model import DistMethod, Distribute, Label, Policy, TargetSpec
from dvipad.core.fitness import scaled, with_probes
from dvipad.core.methods import BALANCED, Choice, Ring, comparable, ring
from dvipad.core.policy import rows_of
from dvipad.core.policy_rows import PolicyRow
from dvipad.core.preferring import NOBODY, Best
from dvipad.core.source import Source
from dvipad.core.targets import DptRow
from dvipad.core.workload import MEASURED, Spare, Workloads
from dvipad.wire.messages import SrvStat


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may get connections now."""

    name: str
    xcf: Address
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """(DVIPA, port): its targets, the turns they take, the policies that come before these, and
    the best of the targets."""

    method: DistMethod
    offload: bool
    rows: tuple[DptRow, ...]
    ring: Ring
    policies: tuple[PolicyRow, ...] = ()
    best: Best = NOBODY

    @property
    def balanced(self) -> bool:
        """Whether active connections count."""
        return self.method in BALANCED


class Dpt:
    """SRVSTAT of every node, kept on all nodes: a backup knows the targets before it needs them."""

    def __init__(self, workloads: Workloads) -> None:
        self._workloads = workloads
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

    def told(self, name: str, dvipa: Address) -> bool:
        """Whether node `name` said anything of its listeners for `dvipa`."""
        return dvipa in self._ready.get(name, {})

    def services(
        self,
        dvipa: Address,
        distributes: tuple[Distribute, ...],
        candidates: Iterable[Candidate],
        active: Mapping[int, Address],
        policies: Sequence[Policy] = (),
    ) -> dict[int, Service]:
        """The distribution of every port that is listed or that a candidate listens on.

        `active`: who was so far, of HOTSTANDBY. `policies` concern the DVIPA, and are open now.
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
                services[port] = self._service(row, port, known, active.get(port), policies)
        return services

    def _service(
        self,
        row: Distribute,
        port: int,
        nodes: list[Candidate],
        active: Address | None,
        policies: Sequence[Policy],
    ) -> Service:
        targets = self._preferred(row.dvipa, port, self._targets(row, port, nodes))

        def turns(chosen: Iterable[DptRow], stay: Address | None = None) -> Ring:
            ready = [each for each in chosen if each.ready > 0]
            choices = [_choice(each, row) for each in ready]
            probed = [each.xcf for each in ready if each.fitness.is_probed]
            return with_probes(ring(row.method, choices, stay), probed)

        stay = None if row.auto_switch_back else active
        rules = rows_of(policies, port, turns, targets)
        best = self._workloads.preferences.best(row.dvipa, port, targets)
        return Service(row.method, row.offload, targets, turns(targets, stay), rules, best)

    def _preferred(self, dvipa: Address, port: int, rows: tuple[DptRow, ...]) -> tuple[DptRow, ...]:
        """The targets `rows` with weights by the preference for the service, if there is one."""
        weights = self._workloads.preferences.weigh(dvipa, port, rows)
        if weights is None:
            return rows
        found = [weights.get(row.name, (0, Source.DEFAULT)) for row in rows]
        return tuple(
            replace(row, weight=weight, source=source, metric=_known(weight, source))
            for row, (weight, source) in zip(rows, found, strict=True)
        )

    def _targets(self, row: Distribute, port: int, nodes: list[Candidate]) -> tuple[DptRow, ...]:
        named = [(node, spec) for node in nodes if (spec := target_spec(row, node.xcf))]
        ready = [self.ready(node.name, row.dvipa).get(port, 0) for node, _ in named]
        weighed = self._weigh(row, port, named, ready)
        return tuple(
            DptRow(
                node.name,
                node.xcf,
                listeners,
                weight,
                source,
                spec.standby_rank,
                node.labels,
                self._metric(row, port, node, weight, source),
                self._workloads.active(row.dvipa, port, node.xcf),
                self._workloads.fitness(node.name, row.dvipa, port),
            )
            for (node, spec), listeners, (weight, source) in zip(named, ready, weighed, strict=True)
        )

    def _metric(
        self, row: Distribute, port: int, node: Candidate, weight: int, source: Source
    ) -> int | None:
        """The weight that turns go by; what the node has to spare, if they go by none."""
        if row.method in MEASURED:
            return _known(weight, source)
        if row.method is DistMethod.WEIGHTEDACTIVE:
            return weight
        spare = self._workloads.spare(DistMethod.BASEWLM, node.name, row.dvipa, port)
        return None if spare is None else spare.weight

    def _weigh(
        self,
        row: Distribute,
        port: int,
        named: Sequence[tuple[Candidate, TargetSpec]],
        ready: Sequence[int],
    ) -> list[tuple[int, Source]]:
        """Weight and its source of each target; those without a listener do not count for others'
        weights."""
        if row.method not in MEASURED:
            return [(spec.weight, Source.CONFIGURED) for _, spec in named]
        known = [self._workloads.spare(row.method, node.name, row.dvipa, port) for node, _ in named]
        serving = [spare for spare, count in zip(known, ready, strict=True) if count > 0]
        weights = iter(comparable([_figure(spare) for spare in serving]))
        return [
            (
                next(weights) if count > 0 else spare.weight if spare else 0,
                spare.source if spare else Source.DEFAULT,
            )
            for spare, count in zip(known, ready, strict=True)
        ]


def _known(weight: int, source: Source) -> int | None:
    return None if source is Source.DEFAULT else weight


def _figure(spare: Spare | None) -> tuple[int, int] | None:
    return None if spare is None else (spare.weight, spare.millicpus)


def _choice(target: DptRow, row: Distribute) -> Choice:
    fit = (target.weight > 0 and target.fitness.tsr > 0) or not row.health_switch
    weight = scaled(row.method, target.weight, target.fitness)
    return Choice(target.xcf, weight, target.standby_rank, fit)


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
