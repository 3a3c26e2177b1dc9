"""Services of the data plane: rings of targets' indexes, and policies that come before them."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from dvipad.adapters.bpf.balance import Balance, place_of
from dvipad.adapters.bpf.layout import (
    RING_MAX,
    SERVICE_HELD,
    SERVICE_OFFLOAD,
    TARGETS_MAX,
    THIS_NODE,
    Service,
    service_key,
    service_of,
    share,
)
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.policy_table import EMPTY, PolicySet, PolicyTable
from dvipad.adapters.bpf.slots import Holder, Slots
from dvipad.adapters.bpf.tables import TargetTable
from dvipad.address import Address
from dvipad.core.policy_rows import PolicyRow


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A distributed port. `ring`: targets in the order in which they get connections; `targets`:
    all of them, those of its policies included."""

    dvipa: Address
    port: int
    ring: tuple[Address, ...]
    offload: bool
    targets: frozenset[Address] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """What a policy of (DVIPA, port) did: connections by target, and requests refused."""

    dvipa: Address
    port: int
    policy: str
    chosen: dict[Address, int]
    refused: int


class ServiceTable:
    """The `services` map with its slots, and the totals of each slot.

    `held`: what the local stack refuses is held back on egress, of every service.
    """

    def __init__(self, maps: dict[str, Map], targets: TargetTable, held: bool) -> None:
        self._held = held
        self._map = maps["services"]
        self._targets = targets
        self.slots = Slots(maps)
        self.balance = Balance(self.slots.active)
        self._policies = PolicyTable(maps, self.slots)
        self._rows: Sequence[tuple[Address, int, Address]] = ()
        self._cells_of = (-1, -1)
        self._cells: list[int] = []
        self._more: dict[int, list[int]] = {}
        self._slots: dict[tuple[Address, int], int] = {}
        self._sets: dict[tuple[Address, int], PolicySet] = {}
        for key, value in self._map.items():
            service = Service.from_buffer_copy(value)
            self._slots[service_of(key)] = service.slot
            self._sets[service_of(key)] = self._policies.adopt(service.policies)
        self._policies.keep_only(self._sets.values())
        self.slots.adopt(self._held_slots())
        for packed, value in self._map.items():
            place, service = service_of(packed), Service.from_buffer_copy(value)
            self._count(place, service.shares > 0, self._indexes(place, service))

    def _held_slots(self) -> Iterator[tuple[int, Holder]]:
        for key, slot in self._slots.items():
            yield slot, Holder(*key)
            yield from ((each, Holder(*key, row.name)) for row, each in self._sets[key].rows)

    def set(
        self,
        dvipa: Address,
        port: int,
        ring: tuple[Address, ...],
        offload: bool,
        policies: tuple[PolicyRow, ...] | None = (),
        balanced: bool = False,
    ) -> None:
        """Distributes a port over `ring`, up to RING_MAX long; empty: nobody serves it now.

        `policies` None: those there are, with the targets of `ring` only. `balanced`: as long as
        there is room for shares. The position in the ring and the totals of a port that was
        distributed before go on.
        """
        if policies is None:
            policies = self._kept((dvipa, port), ring)
        rings = (ring, *(row.ring for row in policies))
        longest = max(map(len, rings))
        if longest > RING_MAX:
            raise ValueError(f"a ring of {longest} targets; {RING_MAX} is the limit")
        indexes = {xcf: self._targets.index(xcf) for each in rings for xcf in each}
        held = self._held or THIS_NODE in indexes.values()
        flags = (SERVICE_OFFLOAD if offload else 0) | (SERVICE_HELD if held else 0)

        def entry(own: int, turns: tuple[Address, ...]) -> Service:
            places = [indexes[xcf] for xcf in turns]
            shares = [share(*each) for each in Counter(places).items()] if balanced else []
            if len(places) + len(shares) > RING_MAX:
                shares = []
            lengths = {"shares": len(shares), "ring_len": len(places)}
            value = Service(slot=own, service=slot, flags=flags, **lengths)
            value.ring = (ctypes.c_uint16 * RING_MAX)(*places, *shares)
            return value

        key, holder = (dvipa, port), Holder(dvipa, port)
        slot = self._slots.get(key)
        if slot is None:
            slot = self.slots.take(holder)
        before = now = self._sets.get(key, EMPTY)
        try:
            now = self._policies.follow(before, policies, holder, entry)
        finally:  # without room for its policies it is not to keep targets that are gone
            value = entry(slot, ring)
            value.policies = now.number
            self._map.update(service_key(dvipa, port), bytes(value))
            self._slots[key], self._sets[key] = slot, now
            self._count(key, balanced, indexes.values())
        self._policies.drop(before, now, slot)

    def _count(self, key: tuple[Address, int], balanced: bool, indexes: Iterable[int]) -> None:
        if balanced:
            self.balance.follow(place_of(*key), self._slots[key], indexes)
        else:
            self.balance.forget(place_of(*key))

    def _indexes(self, key: tuple[Address, int], service: Service) -> Iterator[int]:
        """Targets of a service and of its policies."""
        rings = (self._policies.ring(slot) for _, slot in self._sets.get(key, EMPTY).rows)
        for each in (service, *rings):
            yield from each.ring[: each.ring_len] if each is not None else ()

    def _kept(self, key: tuple[Address, int], ring: tuple[Address, ...]) -> tuple[PolicyRow, ...]:
        rows = self._sets.get(key, EMPTY).rows
        return tuple(
            replace(row, ring=tuple(xcf for xcf in self._ring(slot) if xcf in ring))
            for row, slot in rows
        )

    def _ring(self, slot: int) -> tuple[Address, ...]:
        """The ring of a policy."""
        value = self._policies.ring(slot)
        return () if value is None else self._addresses(value)

    @property
    def count(self) -> int:
        """How many ports are distributed."""
        return len(self._slots)

    def remove(self, dvipa: Address, port: int) -> None:
        """Ends the distribution of a port; its connections stay in the CRT."""
        self._map.delete(service_key(dvipa, port))
        slot = self._slots.pop((dvipa, port), None)
        if slot is not None:
            self._count((dvipa, port), False, ())
            self._policies.drop(self._sets.pop((dvipa, port), EMPTY), EMPTY, None)
            self.slots.give_back(slot)

    def _addresses(self, service: Service) -> tuple[Address, ...]:
        addresses = map(self._targets.address, service.ring[: service.ring_len])
        return tuple(address for address in addresses if address is not None)

    def rows(self) -> tuple[ServiceRow, ...]:
        """All distributed ports."""
        found = []
        for key, value in self._map.items():
            dvipa, port = service_of(key)
            service = Service.from_buffer_copy(value)
            ring = self._addresses(service)
            policies = self._sets.get((dvipa, port), EMPTY).rows
            targets = frozenset(ring).union(*(self._ring(slot) for _, slot in policies))
            offload = bool(service.flags & SERVICE_OFFLOAD)
            found.append(ServiceRow(dvipa, port, ring, offload, targets))
        return tuple(found)

    def uses(self) -> list[PolicyUse]:
        """What every policy did so far."""
        return [
            PolicyUse(*key, row.name, self._chosen_by(slot), self.slots.refused(slot))
            for key, known in self._sets.items()
            for row, slot in known.rows
        ]

    def _chosen_by(self, slot: int) -> dict[Address, int]:
        counts = {xcf: self.slots.total(slot, index) for xcf, index in self._all_targets()}
        return {xcf: count for xcf, count in counts.items() if count}

    def _all_targets(self) -> Iterable[tuple[Address, int]]:
        return {**self._targets.indexes(), self._targets.own: THIS_NODE}.items()

    def _slots_of(self, key: tuple[Address, int]) -> list[int]:
        """Those of a service and of its policies."""
        return [self._slots[key], *(slot for _, slot in self._sets.get(key, EMPTY).rows)]

    def totals(self) -> dict[tuple[Address, int, Address], int]:
        """Connections chosen for (DVIPA, port, target), by program and worker together."""
        targets = self._all_targets()
        found: dict[tuple[Address, int, Address], int] = {}
        for key in self._slots:
            slots = self._slots_of(key)
            for address, index in targets:
                if count := sum(self.slots.total(slot, index) for slot in slots):
                    found[*key, address] = count
        return found

    def active(self) -> dict[tuple[Address, int, Address], int]:
        """Active connections of (DVIPA, port, target), of services that are balanced."""
        targets = {index: xcf for xcf, index in self._all_targets()}
        return {
            (*key, targets[index]): count
            for key in self._slots
            for index, count in self.balance.active(place_of(*key)).items()
            if index in targets
        }

    def chosen(self, rows: Sequence[tuple[Address, int, Address]]) -> Sequence[int]:
        """The totals of `rows`; 0 for one that is not distributed."""
        edition = (self.slots.edition, self._targets.edition)
        if rows is not self._rows or edition != self._cells_of:
            self._rows, self._cells_of = rows, edition
            cells = [self._cells_for(*row) for row in rows]
            self._cells = [each[0] for each in cells]
            self._more = {at: each[1:] for at, each in enumerate(cells) if len(each) > 1}
        found = self._first_cells()
        for at, more in self._more.items():
            found[at] += sum(map(self._total, more))
        return found

    def reached(self, rows: Iterable[tuple[Address, int, Address]]) -> list[tuple[int, int]]:
        """Of each of `rows`: connections chosen, and those whose client answered the target."""
        cells = ([cell for cell in self._cells_for(*row) if cell >= 0] for row in rows)
        return [
            (sum(map(self._total, each)), sum(self.slots.completed.view[cell] for cell in each))
            for each in cells
        ]

    def _first_cells(self) -> list[int]:
        if min(self._cells, default=-1) < 0:
            return [0 if cell < 0 else self._total(cell) for cell in self._cells]
        pick = itemgetter(*self._cells, self._cells[0])  # of one cell alone it gives no tuple
        return list(pick(self.slots.totals.view))[:-1]

    def _total(self, cell: int) -> int:
        return self.slots.totals.view[cell]

    def _cells_for(self, dvipa: Address, port: int, xcf: Address) -> list[int]:
        """Cells of the totals: the service's first."""
        index = self._targets.find(xcf)
        if (dvipa, port) not in self._slots or index is None:
            return [-1]
        return [slot * TARGETS_MAX + index for slot in self._slots_of((dvipa, port))]
