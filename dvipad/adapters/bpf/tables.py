"""Targets of the data plane: XCF addresses become small indexes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf import device
from dvipad.adapters.bpf.layout import (
    TARGETS_MAX,
    THIS_NODE,
    Role,
    Target,
    Tunnel,
    index_key,
)
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.bpf.xdp import XdpMode
from dvipad.address import Address, pack, unpack

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
