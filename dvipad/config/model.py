"""The model of a profile: what VIPADYNAMIC statements say, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dvipad.address import Address

OWNER_RANK: Final = 255
"""A VIPADEFINE counts as this rank, above every VIPABACKUP (1-254)."""


class Moveable(Enum):
    """When a DVIPA may move back to its VIPADEFINE node, or out of a VIPARANGE node."""

    IMMEDIATE = "IMMEDIATE"
    WHENIDLE = "WHENIDLE"
    NONDISRUPTIVE = "NONDISRUPTIVE"
    DISRUPTIVE = "DISRUPTIVE"


class DistMethod(Enum):
    """DISTMETHOD of a VIPADISTRIBUTE."""

    ROUNDROBIN = "ROUNDROBIN"
    BASEWLM = "BASEWLM"
    SERVERWLM = "SERVERWLM"
    WEIGHTEDACTIVE = "WEIGHTEDACTIVE"
    TARGCONTROLLED = "TARGCONTROLLED"
    HOTSTANDBY = "HOTSTANDBY"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a statement starts: file as given, line and column from 1."""

    file: str
    line: int
    column: int


NOWHERE: Final = Position("", 0, 0)


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One entry of a DESTIP list.

    `weight`: 1-99, WEIGHTEDACTIVE. `standby_rank`: HOTSTANDBY only; 255 = PREFERRED,
    1-254 = BACKUP rank, None elsewhere.
    """

    xcf: Address
    weight: int = 10
    standby_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Distribute:
    """One VIPADISTRIBUTE: how connections to a DVIPA's ports reach targets (D1, C1, C2, A4).

    `ports` empty: every port. `targets` None: DESTIP ALL, nodes that join later included.
    `timed_affinity_s` 0: off. `optlocal` None: NOOPTLOCAL.
    """

    dvipa: Address
    ports: tuple[PortRange, ...] = ()
    targets: tuple[TargetSpec, ...] | None = None
    method: DistMethod = DistMethod.BASEWLM
    cluster_ports: bool = False
    timed_affinity_s: int = 0
    auto_affinity: bool = False
    optlocal: int | None = None
    auto_switch_back: bool = True
    health_switch: bool = True
    paused: bool = False
    offload: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Define:
    """One address of a VIPADEFINE: this node is its primary.

    `interface` is the name of the IPv6 form (`intfname`), None for IPv4.
    """

    dvipa: Address
    prefix_length: int
    moveable: Moveable = Moveable.IMMEDIATE
    interface: str | None = None
    cluster_ports: bool = False
    tier: int | None = None
    cpc_scope: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Backup:
    """One address of a VIPABACKUP.

    `moveable` None: without MOVEABLE this node takes over an address that somebody
    activated before, and never creates it; `prefix_length` is then None too.
    """

    dvipa: Address
    rank: int = 1
    moveable: Moveable | None = None
    prefix_length: int | None = None
    interface: str | None = None
    cluster_ports: bool = False
    tier: int | None = None
    cpc_scope: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """One VIPARANGE: the subnet in which applications and operators may activate DVIPAs."""

    network: Address
    prefix_length: int
    moveable: Moveable = Moveable.NONDISRUPTIVE
    interface: str | None = None
    cluster_ports: bool = False
    saf: str | None = None
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """One VIPAROUTE: the address at which the target with this XCF address is reached."""

    xcf: Address
    target: Address
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that one profile says, VIPADELETE and DELETE forms already applied."""

    defines: tuple[Define, ...] = ()
    backups: tuple[Backup, ...] = ()
    ranges: tuple[Range, ...] = ()
    distributes: tuple[Distribute, ...] = ()
    routes: tuple[Route, ...] = ()
