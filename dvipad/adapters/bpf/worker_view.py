"""What the queue worker, a process of its own, needs of the data plane's pinned maps.

The hot path of one SYN is one or two map look-ups, one update and a few stores into shared
memory, all on buffers that are allocated once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import time
from ctypes import byref
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.atomic import Numbers
from dvipad.adapters.bpf.crt_map import is_short, shorten
from dvipad.adapters.bpf.layout import (
    RING_MAX,
    SERVICES_MAX,
    TARGETS_MAX,
    Refused,
    Route,
    Service,
    Settings,
    Shared,
    Target,
    Tunnel,
    index_key,
    shares,
)
from dvipad.adapters.bpf.libbpf import BpfError, check, library
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.policy_text import Rows, read_set
from dvipad.adapters.queue_worker import REFUSED, Ask, Chosen
from dvipad.address import Address, unpack
from dvipad.core.methods import lightest
from dvipad.core.policy_rows import fits

_MAPS: Final = (
    "established4",
    "established6",
    "embryonic4",
    "embryonic6",
    "services",
    "policy_rings",
    "policy_texts",
)
_MEMORY: Final = (
    "settings",
    "shared",
    "targets",
    "cursors",
    "totals",
    "active",
    "refused",
    "sent",
)
_SETS_MAX: Final = 1024
"""Sets of policies that are remembered."""
_CHANGES_MAX: Final = 3
"""A set may be replaced while it is looked at, but not again and again."""


class WorkerView:
    """The maps under one pin directory; one instance per process, not shared by threads.

    Ring positions, totals and active connections are shared with the eBPF program; both add
    atomically.
    """

    def __init__(self, maps: dict[str, Map], memory: dict[str, mmap.mmap]) -> None:
        self._maps = maps
        self._memory = memory
        self._four = (maps["established4"].fd, maps["embryonic4"].fd)
        self._six = (maps["established6"].fd, maps["embryonic6"].fd)
        self._services = maps["services"].fd
        self._rings = maps["policy_rings"].fd
        self._sets: dict[int, tuple[Rows, bool]] = {}
        self._settings = Settings.from_buffer(memory["settings"])
        self._shared = Shared.from_buffer(memory["shared"])
        self._targets = (Target * TARGETS_MAX).from_buffer(memory["targets"])
        self._cursors, self._totals, self._active = (
            Numbers(memory[name]) for name in ("cursors", "totals", "active")
        )
        self._refused = (Refused * SERVICES_MAX).from_buffer(memory["refused"])
        self._sent = ctypes.c_uint64.from_buffer(memory["sent"])
        self._route = Route()
        self._service = Service()
        self._ring = Service()
        self._new_route = Route()
        self._route_pointer = byref(self._route)
        self._service_pointer = byref(self._service)
        self._ring_pointer = byref(self._ring)
        self._new_route_pointer = byref(self._new_route)
        self._lookup = library().bpf_map_lookup_elem
        self._update = library().bpf_map_update_elem
        self._addresses: dict[bytes, Address] = {}

    @classmethod
    def open(cls, pin_dir: Path) -> WorkerView:
        """The maps that a `DataPlane` pinned; raises `BpfError` when they are not there."""
        maps = {name: Map.open(pin_dir / name) for name in _MAPS}
        memory: dict[str, mmap.mmap] = {}
        for name in _MEMORY:
            shared = Map.open(pin_dir / name)
            memory[name] = shared.memory()
            shared.close()  # the mapping keeps the map
        return cls(maps, memory)

    @property
    def xcf(self) -> Address:
        """This node's XCF address: source of what the worker encapsulates."""
        return unpack(bytes(self._settings.xcf))

    @property
    def tunnel(self) -> Tunnel:
        """How to encapsulate."""
        return Tunnel(self._settings.tunnel)

    @property
    def vxlan_port(self) -> int:
        """UDP port of VXLAN."""
        return int.from_bytes(bytes(self._settings.vxlan_port), "big")

    @property
    def liveness_port(self) -> int:
        """UDP port on 127.0.0.1 that the worker must hold to be asked."""
        return int.from_bytes(bytes(self._settings.liveness_port), "big")

    @property
    def queue_mark(self) -> int:
        """Mark of what comes to the worker, and of RSTs that it sends."""
        return self._settings.queue_mark

    @property
    def seen_mark(self) -> int:
        """Mark of what goes up the local stack."""
        return self._settings.seen_mark

    def lookup_route(self, key: bytes) -> tuple[int, bool] | None:
        """Target index and closing of a connection that the CRT knows (a repeated SYN).

        `key`: 36 bytes, as `layout.CONNECTION` packs them. A closing entry does not bind a SYN.
        """
        tables, own = self._place(key)
        for table in tables:
            result = self._lookup(table, own, self._route_pointer)
            if result == 0:
                return self._route.target, self._route.closing != 0
            if result != -errno.ENOENT:
                check(result, "look into the CRT")
        return None

    def _place(self, key: bytes) -> tuple[tuple[int, int], bytes]:
        """Descriptors of the maps (established, embryonic) that have `key`, and its form there."""
        return (self._four, shorten(key)) if is_short(key) else (self._six, key)

    def choose(self, dvipa: bytes, port: int, request: Ask) -> Chosen | None:
        """The next target of the service, counted, by the first policy that is for the `request`,
        or else by the service's own ring; None when nobody serves it.

        `dvipa`: 16 bytes.
        """
        key = dvipa + port.to_bytes(2, "big") + b"\0\0"
        service = self._service
        for _ in range(_CHANGES_MAX):
            result = self._lookup(self._services, key, self._service_pointer)
            if result == -errno.ENOENT:
                return None
            check(result, "look into the services")
            if not 0 < service.ring_len <= RING_MAX:
                return None
            if not service.policies:
                return self._turn(service)
            found = self._rows(service.policies)
            if found is None:
                continue
            rows, closely = found
            seen = request(closely)
            slot = next((slot for row, slot in rows if fits(row, seen)), None)
            if slot is None:
                return self._turn(service)
            result = self._lookup(self._rings, index_key(slot), self._ring_pointer)
            if result == 0:
                return self._turn(self._ring) if self._ring.ring_len else self._refuse(slot)
        raise BpfError(errno.EAGAIN, "policies change faster than they can be read")

    def _rows(self, number: int) -> tuple[Rows, bool] | None:
        """The policies of a set, each with its slot, and whether one of them looks closely; None:
        another set has taken its place."""
        known = self._sets.get(number)
        if known is None:
            if len(self._sets) >= _SETS_MAX:
                self._sets.clear()
            rows = read_set(self._maps["policy_texts"], number)
            if rows is None:
                return None
            known = self._sets[number] = (rows, any(row.looks_closely for row, _ in rows))
        return known

    def _refuse(self, slot: int) -> Chosen:
        self._refused[slot].by_worker += 1
        return Chosen(REFUSED, slot + 1)

    def _turn(self, ring: Service) -> Chosen:
        """The next of a ring, or who has the fewest connections for its share."""
        slot = ring.slot
        position = self._cursors.add(slot, 1)
        target: int = ring.ring[position % ring.ring_len]
        if ring.shares:
            row, counts = ring.service * TARGETS_MAX, self._active.view
            target = lightest(shares(ring), lambda each: counts[row + each], target, position)
            self._active.add(row + target, 1)
        self._totals.add(slot * TARGETS_MAX + target, 1)
        return Chosen(target, slot + 1)

    def insert_embryonic(self, key: bytes, target: int, chooser: int = 0) -> None:
        """Enters a connection that waits for the client's ACK."""
        self._new_route.target = target
        self._new_route.chooser = chooser
        self._new_route.created_ns = time.monotonic_ns()
        (_established, embryonic), own = self._place(key)
        result = self._update(embryonic, own, self._new_route_pointer, 0)
        check(result, "enter a connection into the CRT")

    def target(self, index: int) -> Address | None:
        """The XCF address of a target index, None when it is free."""
        entry = self._targets[index]
        if not entry.family:
            return None
        packed = bytes(entry.xcf)
        address = self._addresses.get(packed)
        if address is None:
            if len(self._addresses) >= TARGETS_MAX:
                self._addresses.clear()
            address = self._addresses[packed] = unpack(packed)
        return address

    def beat(self, now_ns: int) -> None:
        """Tells the program that the worker is alive; `now_ns` is of CLOCK_MONOTONIC."""
        self._shared.beat_ns = now_ns

    def done(self, count: int) -> None:
        """`count` more SYNs are decided: the window moves on."""
        self._shared.done += count

    def settle(self) -> None:
        """Nothing is undecided: for a worker that starts, or one that finds its queue empty.

        SYNs that a dead worker or a full queue lost would otherwise narrow the window for good.
        """
        self._shared.done = self._sent.value

    def undecided(self) -> int:
        """SYNs that were handed over and are not decided yet, as far as the counters know."""
        return max(0, self._sent.value - self._shared.done)

    def close(self) -> None:
        """Closes the descriptors; the shared memory goes when the process does."""
        for opened in self._maps.values():
            opened.close()
