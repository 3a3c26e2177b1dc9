"""Targets and services of the data plane: XCF addresses become small indexes, rings of them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add, itemgetter
from typing import Final

from dvipad.adapters.bpf import device
from dvipad.adapters.bpf.layout import (
    RING_MAX,
    SERVICE_HELD,
    SERVICE_OFFLOAD,
    SERVICES_MAX,
    TARGETS_MAX,
    THIS_NODE,
    Role,
    Service,
    Target,
    Tunnel,
    index_key,
    service_key,
    service_of,
)
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.bpf.xdp import XdpMode
from dvipad.address import Address, pack, unpack

_TOTAL_SIZE: Final = 8
_OUTER4: Final = bytes.fromhex("0000 4000 4004 0000")
"""IPv4 header of a tunnel packet from its second word on, without checksum and addresses."""


class TargetTable:
    """The `targets` map: index ↔ XCF address. Indexes are local to this node.

    For XDP it keeps the MAC addresses of next hops, which that program writes itself.

    An index is not given out again soon after it was freed, so that what still carries it (a SYN
    in the worker's hands) cannot end up at somebody else.
    """

    def __init__(self, targets: Map, settings: PlaneSettings, routes: device.Routes) -> None:
        self._map = targets
        self._macs = settings.xdp is not XdpMode.OFF
        self.own = xcf = settings.xcf
        self._tunnel = settings.tunnel
        self._direct = settings.direct
        self._memory = targets.memory()
        self._entries = (Target * TARGETS_MAX).from_buffer(self._memory)
        self._family = xcf.version
        self._routes = routes
        self.mtus: dict[Address, int] = {}
        """MTU of the route to each target but this node; 0: unknown."""
        self.edition = 0
        """Another one whenever an index is given out or taken back."""
        self._by_index: dict[int, Address] = {}
        for index, entry in enumerate(self._entries):
            if entry.family:
                self._by_index[index] = unpack(bytes(entry.xcf))
        self._write(THIS_NODE, xcf)
        self._by_address = {address: index for index, address in self._by_index.items()}
        self._last = max(self._by_index)

    def _write(self, index: int, xcf: Address) -> None:
        route = self._routes.to(xcf) if index != THIS_NODE else None
        if index != THIS_NODE:
            self.mtus[xcf] = route.mtu if route else 0
        next_hop = route.next_hop if route else None
        macs = self._routes.macs(route) if self._macs and route else None
        mac, own_mac = macs or (bytes(6), bytes(6))
        value = Target(
            xcf=(ctypes.c_ubyte * 16).from_buffer_copy(pack(xcf)),
            family=xcf.version,
            ifindex=route.ifindex if route else 0,
            mtu=route.mtu if route else 0,
            next_hop_known=next_hop is not None,
            next_hop=(ctypes.c_ubyte * 16)(*(pack(next_hop) if next_hop else b"")),
            header_sum=self._header_sum(xcf) if next_hop is not None else 0,
            source4=(ctypes.c_ubyte * 4)(*pack(self.own)[12:]),
            mac=(ctypes.c_ubyte * 6)(*mac),
            own_mac=(ctypes.c_ubyte * 6)(*own_mac),
            mac_known=macs is not None,
            direct=self._direct and next_hop == xcf,
        )
        self._map.update(index_key(index), bytes(value))
        self._by_index[index] = xcf

    def _header_sum(self, xcf: Address) -> int:
        """The sum for ``bpf/fast.h``: the words of the outer header but the first two."""
        if self._tunnel is not Tunnel.IPIP or xcf.version != 4:
            return 0
        header = _OUTER4 + self.own.packed + xcf.packed
        return sum(memoryview(header).cast("H"))

    def index(self, xcf: Address) -> int:
        """The index of a target; a new one gets one.

        Raises ``ValueError`` for an XCF address of the other family than this node's own: a tunnel
        cannot start at one and end at the other. Raises :class:`BpfError` beyond TARGETS_MAX.
        """
        known = self._by_address.get(xcf)
        if known is not None:
            return known
        if xcf.version != self._family:
            raise ValueError(f"target {xcf} is not IPv{self._family} like this node's XCF address")
        for step in range(1, TARGETS_MAX + 1):
            index = (self._last + step) % TARGETS_MAX
            if index not in self._by_index:
                self._write(index, xcf)
                self._by_address[xcf] = self._last = index
                self.edition += 1
                return index
        raise BpfError(f"target {xcf} is one too many: {TARGETS_MAX} is the limit")

    def find(self, xcf: Address) -> int | None:
        """The index of a target, None when it has none."""
        return self._by_address.get(xcf)

    def indexes(self) -> dict[Address, int]:
        """The index of each target but this node."""
        return {xcf: index for xcf, index in self._by_address.items() if index != THIS_NODE}

    def address(self, index: int) -> Address | None:
        """The XCF address with this index."""
        return self._by_index.get(index)

    def free(self, xcf: Address) -> None:
        """Forgets a target that nothing refers to any more."""
        index = self._by_address[xcf]
        if index == THIS_NODE:
            return
        self._map.update(index_key(index), bytes(ctypes.sizeof(Target)))
        del self._by_index[index], self._by_address[xcf], self.mtus[xcf]
        self.edition += 1

    def refresh_routes(self) -> None:
        """Looks the devices and MTUs up again, after links or routes changed."""
        for index, xcf in list(self._by_index.items()):
            self._write(index, xcf)


@dataclass(frozen=True, slots=True)
class AdoptedDvipa:
    """What the maps say this node is to a DVIPA."""

    dvipa: Address
    role: Role
    epoch: int
    collecting: bool


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A distributed port. `ring`: targets in the order in which they get connections."""

    dvipa: Address
    port: int
    ring: tuple[Address, ...]
    offload: bool


class ServiceTable:
    """The `services` map with its slots, and the totals of each slot.

    `held`: what the local stack refuses is held back on egress, of every service.
    """

    def __init__(self, maps: dict[str, Map], targets: TargetTable, held: bool) -> None:
        self._held = held
        self._map = maps["services"]
        self._targets = targets
        self._memory = {
            name: maps[name].memory() for name in ("cursors", "totals", "worker_totals")
        }
        self._cursors = (ctypes.c_uint64 * SERVICES_MAX).from_buffer(self._memory["cursors"])
        by_both = (self._memory["totals"], self._memory["worker_totals"])
        self._by_program, self._by_worker = (memoryview(each).cast("Q") for each in by_both)
        self.edition = 0
        """Another one whenever a slot is given out or taken back."""
        self._rows: Sequence[tuple[Address, int, Address]] = ()
        self._cells_of = (-1, -1)
        self._cells: list[int] = []
        self._slots: dict[tuple[Address, int], int] = {}
        for key, value in self._map.items():
            self._slots[service_of(key)] = Service.from_buffer_copy(value).slot
        self._free = sorted(set(range(SERVICES_MAX)) - set(self._slots.values()), reverse=True)

    def set(self, dvipa: Address, port: int, ring: tuple[Address, ...], offload: bool) -> None:
        """Distributes a port over `ring`, up to RING_MAX long; empty: nobody serves it now.

        The position in the ring and the totals of a port that was distributed before go on.
        """
        if len(ring) > RING_MAX:
            raise ValueError(f"a ring of {len(ring)} targets; {RING_MAX} is the limit")
        indexes = [self._targets.index(xcf) for xcf in ring]
        slot = self._slots.get((dvipa, port))
        if slot is None:
            slot = self._free_slot(dvipa, port)
        held = self._held or THIS_NODE in indexes
        flags = (SERVICE_OFFLOAD if offload else 0) | (SERVICE_HELD if held else 0)
        value = Service(slot=slot, flags=flags, ring_len=len(ring))
        value.ring = (ctypes.c_uint16 * RING_MAX)(*indexes)
        self._map.update(service_key(dvipa, port), bytes(value))
        if (dvipa, port) not in self._slots:
            self._slots[dvipa, port] = slot
            self.edition += 1

    @property
    def count(self) -> int:
        """How many ports are distributed."""
        return len(self._slots)

    def forget_target(self, index: int) -> None:
        """Clears the totals of a target whose index may become another's."""
        for slot in range(SERVICES_MAX):
            self._clear_totals(slot * TARGETS_MAX + index, 1)

    def _free_slot(self, dvipa: Address, port: int) -> int:
        if not self._free:
            raise BpfError(f"port {port} of {dvipa} is one too many: {SERVICES_MAX} is the limit")
        slot = self._free.pop()
        self._cursors[slot] = 0
        self._clear_totals(slot * TARGETS_MAX, TARGETS_MAX)
        return slot

    def _clear_totals(self, cell: int, count: int) -> None:
        at, size = cell * _TOTAL_SIZE, count * _TOTAL_SIZE
        for name in ("totals", "worker_totals"):
            self._memory[name][at : at + size] = bytes(size)

    def remove(self, dvipa: Address, port: int) -> None:
        """Ends the distribution of a port; its connections stay in the CRT."""
        self._map.delete(service_key(dvipa, port))
        slot = self._slots.pop((dvipa, port), None)
        if slot is not None:
            self._free.append(slot)
            self.edition += 1

    def rows(self) -> tuple[ServiceRow, ...]:
        """All distributed ports."""
        found = []
        for key, value in self._map.items():
            dvipa, port = service_of(key)
            service = Service.from_buffer_copy(value)
            addresses = map(self._targets.address, service.ring[: service.ring_len])
            ring = tuple(address for address in addresses if address is not None)
            found.append(ServiceRow(dvipa, port, ring, bool(service.flags & SERVICE_OFFLOAD)))
        return tuple(found)

    def totals(self) -> dict[tuple[Address, int, Address], int]:
        """Connections chosen for (DVIPA, port, target), by program and worker together."""
        targets = {**self._targets.indexes(), self._targets.own: THIS_NODE}.items()
        found: dict[tuple[Address, int, Address], int] = {}
        for (dvipa, port), slot in self._slots.items():
            row = slot * TARGETS_MAX
            for address, index in targets:
                if count := self._total(row + index):
                    found[dvipa, port, address] = count
        return found

    def chosen(self, rows: Sequence[tuple[Address, int, Address]]) -> Sequence[int]:
        """The totals of `rows`; 0 for one that is not distributed."""
        edition = (self.edition, self._targets.edition)
        if rows is not self._rows or edition != self._cells_of:
            self._rows, self._cells_of = rows, edition
            self._cells = [self._cell(*row) for row in rows]
        if min(self._cells, default=-1) < 0:
            return [0 if cell < 0 else self._total(cell) for cell in self._cells]
        pick = itemgetter(*self._cells, self._cells[0])  # of one cell alone it gives no tuple
        both = map(add, pick(self._by_program), pick(self._by_worker))
        return list(both)[:-1]

    def _total(self, cell: int) -> int:
        return self._by_program[cell] + self._by_worker[cell]

    def _cell(self, dvipa: Address, port: int, xcf: Address) -> int:
        slot, index = self._slots.get((dvipa, port)), self._targets.find(xcf)
        return -1 if slot is None or index is None else slot * TARGETS_MAX + index
