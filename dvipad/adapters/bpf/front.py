"""The map `front4`: what the short way (``bpf/fast.h``) knows of IPv4 destinations."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from dvipad.adapters.bpf.layout import FRONT_MAX, Front, FrontKind, Role, Tunnel
from dvipad.adapters.bpf.maps import Map
from dvipad.address import Address

KINDS: Final = {
    Role.OWNER: FrontKind.FORWARDS,
    Role.MOVING: FrontKind.FORWARDS,
    Role.HIDDEN: FrontKind.HIDDEN,
}
"""In these roles what the CRT knows is forwarded, whoever sent it; or ends here."""
_KINDS_BY_DEVICE: Final = {**KINDS, Role.HIDDEN: FrontKind.LONG_WAY}


class FrontTable:
    """A row for all addresses that end in the same bits."""

    def __init__(self, table: Map, tunnel: Tunnel) -> None:
        # The short way would take what is the device's.
        self._kinds = KINDS if tunnel is not Tunnel.IPIP_DEVICE else _KINDS_BY_DEVICE
        self._memory = table.memory()
        self._rows = (Front * FRONT_MAX).from_buffer(self._memory)
        self._roles: dict[int, dict[IPv4Address, Role]] = {}

    def set(self, dvipa: Address, role: Role | None) -> None:
        """What this node is to `dvipa`; None: nothing any more."""
        if not isinstance(dvipa, IPv4Address):
            return
        index = int(dvipa) % FRONT_MAX
        roles = self._roles.setdefault(index, {})
        roles.pop(dvipa, None)
        if role is not None:
            roles[dvipa] = role
        self._write(index, roles)

    def _write(self, index: int, roles: dict[IPv4Address, Role]) -> None:
        row = self._rows[index]
        (dvipa,) = roles if len(roles) == 1 else (IPv4Address(0),)
        # A program that looks in between must take the long way, which is always right.
        row.kind = FrontKind.LONG_WAY
        row.dvipa[:] = list(dvipa.packed)
        if not roles:
            row.kind = FrontKind.NONE
        elif len(roles) == 1:
            row.kind = self._kinds.get(roles[dvipa], FrontKind.LONG_WAY)
