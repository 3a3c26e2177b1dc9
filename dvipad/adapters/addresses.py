"""Places DVIPAs on this node's interfaces, and lists the ones that it placed (D3, D8, D9).

An IPv4 DVIPA is a /32 on ``lo``, owned or hidden: the eBPF program decides about ARP. An IPv6
DVIPA is a /128 on ``lo`` while hidden, where nothing answers neighbour solicitations for it, and
a /128 on the first uplink while owned. Ours carry an address protocol (``IFA_PROTO``, Linux 5.18),
and an owned IPv4 one has a metric: the kernel takes another metric for an address that is there,
another protocol only since Linux 6.4. So a restarted daemon adopts them and a repair compares.
"""

from __future__ import annotations

import errno
import struct
from socket import AF_INET, AF_INET6, if_nametoindex
from types import TracebackType
from typing import Final

from dvipad.adapters import address_list
from dvipad.adapters.address_list import Listed
from dvipad.adapters.bpf.rtnetlink import CREATE, REPLACE, attribute, change, open_netlink
from dvipad.adapters.local_route import LocalRoute
from dvipad.address import Address

PROTOCOL: Final = 218
"""``IFA_PROTO`` of a DVIPA; ``ip address`` prints it as ``proto``."""
OWNED_METRIC: Final = 218
"""``IFA_RT_PRIORITY`` of an IPv4 DVIPA that this node owns, for us to read: a /32 has no route
that it could count for. ``ip address`` prints it as ``metric``."""
ROUTE_S: Final = 0.1
"""A new IPv6 address is waited for so long until packets for it are delivered: far more than it
takes. One that another placed without our protocol has its route already, and none comes."""

_NEWLINK, _NEWADDR, _DELADDR = 16, 20, 21
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_RT_PRIORITY, _IFA_PROTO = 9, 11
_SCOPE_HOST: Final = 254
_FLAGS: Final = struct.pack("=I", 0x02 | 0x200)  # IFA_F_NODAD, IFA_F_NOPREFIXROUTE
_DEPRECATED: Final = struct.pack("=IIII", 0, 0xFFFF_FFFF, 0, 0)
"""``struct ifa_cacheinfo``: never preferred, valid for ever."""
_IFF_UP: Final = 1


class Addresses:
    """The DVIPAs on this node's interfaces, through one netlink socket.

    Synchronous. `uplink`: the interface that carries owned IPv6 DVIPAs. Raises ``OSError`` when
    there is no such interface, and when the kernel refuses something.
    """

    def __init__(self, uplink: str) -> None:
        self._netlink = open_netlink()
        try:
            self._loopback = if_nametoindex("lo")
            self._uplink = _index(uplink)
            up = _LINK.pack(0, 0, self._loopback, _IFF_UP, _IFF_UP)
            change(self._netlink, _NEWLINK, 0, up)
            self._mine = self._list_ours()
        except BaseException:
            self._netlink.close()
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
        self._netlink.close()

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
        """Deprecated (IPv6) or of host scope (IPv4): the kernel never chooses a DVIPA by itself
        as the source of a connection."""
        body = attribute(_IFA_ADDRESS, dvipa.packed)
        if dvipa.version == 4:
            head = _ADDRESS.pack(AF_INET, dvipa.max_prefixlen, 0, _SCOPE_HOST, home)
            body += attribute(_IFA_LOCAL, dvipa.packed)
            if owned:
                body += attribute(_IFA_RT_PRIORITY, struct.pack("=I", OWNED_METRIC))
        else:
            head = _ADDRESS.pack(AF_INET6, dvipa.max_prefixlen, 0, 0, home)
            body += attribute(_IFA_FLAGS, _FLAGS) + attribute(_IFA_CACHEINFO, _DEPRECATED)
        body += attribute(_IFA_PROTO, bytes((PROTOCOL,)))
        change(self._netlink, _NEWADDR, CREATE | REPLACE, head + body)

    def remove(self, dvipa: Address) -> None:
        """Takes `dvipa` off this node's interfaces, wherever :meth:`place` put it. Idempotent."""
        for index in sorted({self._loopback, self._uplink}):
            self._delete(index, dvipa)

    def listed(self) -> dict[Address, bool]:
        """The DVIPAs that the kernel has now because of :meth:`place`, and whether owned.

        An IPv6 one that is on both interfaces (a change of owner was interrupted) counts as owned;
        placing it again puts that right. One that is elsewhere is not listed.
        """
        self._mine = self._list_ours()
        found: dict[Address, bool] = {}
        for (dvipa, index), owned in self._mine.items():
            if index == self._home(dvipa, owned):
                found[dvipa] = found.get(dvipa, False) or owned
        return found

    def _list_ours(self) -> dict[tuple[Address, int], bool]:
        """(DVIPA, interface) that the kernel has with our protocol, and whether owned."""
        return {
            (row.address, row.index): self._is_owned(row)
            for row in address_list.addresses(PROTOCOL)
        }

    def _is_owned(self, row: Listed) -> bool:
        if row.address.version == 4:
            return row.metric == OWNED_METRIC
        return row.index == self._uplink

    def _home(self, dvipa: Address, owned: bool) -> int:
        return self._uplink if owned and dvipa.version == 6 else self._loopback

    def _delete(self, index: int, dvipa: Address) -> None:
        """What is not known to be ours stays: another may have placed it. Listing the kernel's
        addresses for each would take seconds where hundreds move at once."""
        if self._mine.pop((dvipa, index), None) is None:
            return
        family = AF_INET if dvipa.version == 4 else AF_INET6
        head = _ADDRESS.pack(family, dvipa.max_prefixlen, 0, 0, index)
        body = attribute(_IFA_ADDRESS, dvipa.packed) + attribute(_IFA_LOCAL, dvipa.packed)
        try:
            change(self._netlink, _DELADDR, 0, head + body)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise


def _index(name: str) -> int:
    try:
        return if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {name}") from None
