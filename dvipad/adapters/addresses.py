"""Places DVIPAs on this node's interfaces, and lists the ones that it placed (D3, D8, D9).

An IPv4 DVIPA is a /32 on ``lo``, owned or hidden: the eBPF program decides about ARP. An IPv6
DVIPA is a /128 on ``lo`` while hidden, where nothing answers neighbour solicitations for it, and
a /128 on the first uplink while owned. Ours carry an address protocol (``IFA_PROTO``, Linux 5.18)
that says which of both they are, so a restarted daemon adopts them and a repair compares.
"""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_NOPREFIXROUTE

from dvipad.adapters import address_list
from dvipad.adapters.local_route import LocalRoute
from dvipad.address import Address

PROTOCOL_HIDDEN: Final = 218
"""``IFA_PROTO`` of a DVIPA that is hidden on this node; ``ip address`` prints it as ``proto``."""
PROTOCOL_OWNED: Final = 219
"""``IFA_PROTO`` of a DVIPA that this node owns."""
ROUTE_S: Final = 0.1
"""A new IPv6 address is waited for so long until packets for it are delivered: far more than it
takes. One that another placed without our protocol has its route already, and none comes."""

_OURS: Final = frozenset({PROTOCOL_HIDDEN, PROTOCOL_OWNED})
_SCOPE_HOST: Final = 254
_FLAGS: Final = IFA_F_NODAD | IFA_F_NOPREFIXROUTE
_FOREVER: Final = 0xFFFF_FFFF
_IFF_UP: Final = 1


class Addresses:
    """The DVIPAs on this node's interfaces, through one netlink socket.

    Synchronous, to be made and used in one thread that runs no event loop. `uplink`: the
    interface that carries owned IPv6 DVIPAs. Raises ``OSError`` when there is no such interface,
    and ``NetlinkError`` when the kernel refuses.
    """

    def __init__(self, uplink: str) -> None:
        self._route: Any = IPRoute()
        try:
            self._loopback = self._index("lo")
            self._uplink = self._index(uplink)
            self._bring_up_loopback()
            self._mine = self._list_ours()
        except BaseException:
            self._route.close()
            raise

    def __enter__(self) -> Addresses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the netlink socket; the addresses stay."""
        self._route.close()

    def place(self, dvipa: Address, owned: bool) -> None:
        """Makes `dvipa` an address of this node, owned or hidden.

        Idempotent. A change from one to the other adds before it removes, so that connections
        never lose their address.
        """
        home = self._home(dvipa, owned)
        if dvipa.version == 6 and (dvipa, home) not in self._mine:
            with LocalRoute(dvipa, home) as route:
                self._replace(dvipa, owned, home)
                route.wait(ROUTE_S)
        else:
            self._replace(dvipa, owned, home)
        self._mine[dvipa, home] = owned
        for index in {self._loopback, self._uplink} - {home}:
            if dvipa.version == 6:
                self._delete(index, dvipa)

    def _replace(self, dvipa: Address, owned: bool, home: int) -> None:
        self._route.addr(
            "replace",
            index=home,
            address=str(dvipa),
            prefixlen=dvipa.max_prefixlen,
            proto=PROTOCOL_OWNED if owned else PROTOCOL_HIDDEN,
            **self._attributes(dvipa),
        )

    def remove(self, dvipa: Address) -> None:
        """Takes `dvipa` off this node's interfaces, wherever :meth:`place` put it. Idempotent."""
        for index in sorted({self._loopback, self._uplink}):
            self._delete(index, dvipa)

    def listed(self) -> dict[Address, bool]:
        """The DVIPAs that the kernel has now because of :meth:`place`, and whether owned.

        One that sits on both interfaces (a change of owner was interrupted) counts as owned;
        placing it again puts that right. One that is on a wrong interface is not listed.
        """
        self._mine = self._list_ours()
        found: dict[Address, bool] = {}
        for (dvipa, index), owned in self._mine.items():
            if index == self._home(dvipa, owned):
                found[dvipa] = found.get(dvipa, False) or owned
        return found

    def _list_ours(self) -> dict[tuple[Address, int], bool]:
        """(DVIPA, interface) that the kernel has with a protocol of ours, and whether owned."""
        return {
            (row.address, row.index): row.protocol == PROTOCOL_OWNED
            for row in address_list.addresses(_OURS)
        }

    def _home(self, dvipa: Address, owned: bool) -> int:
        return self._uplink if owned and dvipa.version == 6 else self._loopback

    def _attributes(self, dvipa: Address) -> dict[str, Any]:
        """Deprecated (IPv6) or of host scope (IPv4): the kernel never chooses a DVIPA by itself
        as the source of a connection."""
        if dvipa.version == 4:
            return {"family": AF_INET, "local": str(dvipa), "scope": _SCOPE_HOST}
        return {
            "family": AF_INET6,
            "flags": _FLAGS,
            "preferred_lft": 0,
            "valid_lft": _FOREVER,
        }

    def _delete(self, index: int, dvipa: Address) -> None:
        """What is not known to be ours stays: another may have placed it. Listing the kernel's
        addresses for each would take seconds where hundreds move at once."""
        if self._mine.pop((dvipa, index), None) is None:
            return
        family = AF_INET if dvipa.version == 4 else AF_INET6
        try:
            self._route.addr(
                "del",
                index=index,
                family=family,
                address=str(dvipa),
                prefixlen=dvipa.max_prefixlen,
            )
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise

    def _index(self, name: str) -> int:
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise OSError(errno.ENODEV, f"there is no interface {name}")
        return int(found[0])

    def _bring_up_loopback(self) -> None:
        (link,) = self._route.get_links(self._loopback)
        if not link["flags"] & _IFF_UP:
            self._route.link("set", index=self._loopback, state="up")
