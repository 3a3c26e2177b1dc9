"""The maps `members` and `peers`: whose packets are accepted, by XCF and MAC address."""

from __future__ import annotations

from dvipad.adapters.bpf.device import Routes, RouteTo
from dvipad.adapters.bpf.layout import link_address
from dvipad.adapters.bpf.maps import Map
from dvipad.address import Address, pack, unpack


class MemberTable:
    """Members of the cluster; `peers` has the MAC addresses of those on a link of this node's."""

    def __init__(self, members: Map, peers: Map, routes: Routes, version: int) -> None:
        """`version`: of this node's XCF address."""
        self._version = version
        self._members = members
        self._peers = peers
        self._routes = routes
        self.mtus: dict[Address, int] = {unpack(key): 0 for key, _value in members.items()}
        """MTU of the route to each member of this node's family; 0: unknown."""

    def update(self, members: frozenset[Address]) -> None:
        """Sets whose tunnel packets are accepted."""
        _replace(self._members, {pack(member) for member in members})
        own = (member for member in members if member.version == self._version)
        self.mtus = {member: self.mtus.get(member, 0) for member in own}
        self.refresh_routes()

    def refresh_routes(self) -> None:
        """To be called after links, addresses, routes or neighbours changed."""
        macs: set[bytes] = set()
        for member in self.mtus:
            route = self._routes.to(member)
            self.mtus[member] = route.mtu if route else 0
            macs |= self._macs(member, route)
        _replace(self._peers, {link_address(mac) for mac in macs})

    def _macs(self, member: Address, route: RouteTo | None) -> set[bytes]:
        if route is None or route.next_hop != member:
            return set()
        macs = self._routes.macs(route)
        return set() if macs is None else {macs[0]}


def _replace(table: Map, wanted: set[bytes]) -> None:
    missing = set(wanted)
    for key, _value in list(table.items()):
        if key in missing:
            missing.remove(key)
        else:
            table.delete(key)
    for key in missing:
        table.update(key, bytes(4))
