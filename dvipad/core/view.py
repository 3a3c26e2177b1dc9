"""What a node knows, frozen: what the operator's displays and the metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

from dvipad.address import Address
from dvipad.core.fitness import WELL, Fitness


@dataclass(frozen=True, slots=True)
class MemberView:
    """A node of the cluster; `life`: self, up, lost or dead."""

    name: str
    xcf: Address
    life: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class DvipaView:
    """A DVIPA on this node, in the words of NETSTAT VIPADYN.

    `status`: ACTIVE, BACKUP, MOVING, QUIESCING, DEACTIVATED; `state`: the table's own word, or
    TARGET. `origin`: VIPADEFINE, VIPABACKUP, VIPARANGE BIND, VIPARANGE IOCTL or TARGET.
    `dist_status`: none, distributor, target, both.
    """

    dvipa: Address
    prefix_length: int | None
    status: str
    state: str
    origin: str
    dist_status: str
    rank: int
    epoch: int
    owner: str | None
    moveable: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target of (DVIPA, port), in the words of NETSTAT VDPT.

    `weight`: its share of the turns; `source` says where that comes from: configured, base,
    server, announced, figures, default. `standby_rank`: of HOTSTANDBY; `active`: it has turns now.
    `fitness`: how well it serves.
    """

    dvipa: Address
    port: int
    name: str
    xcf: Address
    ready: int
    weight: int
    source: str
    standby_rank: int | None
    active: bool
    method: str
    offload: bool
    fitness: Fitness = WELL


@dataclass(frozen=True, slots=True)
class NodeView:
    """Everything. `troubles`: what is wrong with the node, as far as it sees."""

    name: str
    xcf: Address
    now_ms: int
    joined: bool
    members: tuple[MemberView, ...]
    dvipas: tuple[DvipaView, ...]
    targets: tuple[TargetView, ...]
    troubles: tuple[str, ...] = ()
