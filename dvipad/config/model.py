"""The model of a profile: what VIPADYNAMIC statements say, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dvipad.address import Address

DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES
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
    LEASTCONN = "LEASTCONN"
    """Not of z/OS."""


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


class Device(Enum):
    """What a client is, as far as its SYN shows."""

    LINUX = "linux"
    WINDOWS = "windows"
    APPLE = "apple"
    OTHER = "other"


class Use(Enum):
    """How a policy binds. PREFER: the kernel's own choice may pass it over when it cannot see what
    the policy looks at. RESTRICT: it never does."""

    PREFER = "prefer"
    RESTRICT = "restrict"


class Otherwise(Enum):
    """Who gets a request when no target of the subset meets the criterion (P3)."""

    ANY = "any"
    BEST_OUTSIDE = "best-outside"
    REFUSE = "refuse"


class Comparison(Enum):
    """How a figure of a target is compared."""

    LESS = "<"
    AT_MOST = "<="
    EQUAL = "="
    AT_LEAST = ">="
    MORE = ">"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A subnet: addresses that share the first `length` bits of `network`."""

    network: Address
    length: int

    def __contains__(self, address: Address) -> bool:
        if address.version != self.network.version:
            return False
        free = max(0, address.max_prefixlen - self.length)
        return int(address) >> free == int(self.network) >> free

    def __str__(self) -> str:
        return f"{self.network}/{self.length}"


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """A property of a node, as its node file says."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value}"


FARM: Final = "farm"
"""The label that says to which farm a node belongs (S4)."""


def farm_of(labels: tuple[Label, ...]) -> str:
    """The farm of a node with these labels; empty: it is in none."""
    return next((label.value for label in labels if label.key == FARM), "")


@dataclass(frozen=True, slots=True)
class Condition:
    """A figure of a target, compared with `value`."""

    figure: str
    comparison: Comparison
    value: int

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison.value} {self.value}"


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of the day from `start` to `end`, which is not included; past midnight when `end`
    is not later than `start`: they belong to the day on which they start."""

    start: int
    end: int

    def __str__(self) -> str:
        (a, b), (c, d) = divmod(self.start, 60), divmod(self.end, 60)
        return f"{a:02}:{b:02}-{c:02}:{d:02}"


@dataclass(frozen=True, slots=True)
class Match:
    """Which connection requests a policy is for (P1); what is empty does not matter.

    `days`: 0 Monday to 6 Sunday. `interfaces`: of the distributor.
    """

    dvipas: tuple[Address, ...] = ()
    ports: tuple[PortRange, ...] = ()
    clients: tuple[Prefix, ...] = ()
    dscps: tuple[int, ...] = ()
    interfaces: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    hours: tuple[Hours, ...] = ()
    days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Subset:
    """Which targets: by name, by all of the labels, by all of the conditions; what is empty does
    not matter."""

    nodes: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Requests that `match` go to the targets of `subset` whose weight is at least `threshold`
    (None: to any ready one of it); if there is none, `otherwise` says who gets them (P2, P3)."""

    name: str
    match: Match
    subset: Subset
    threshold: int | None = None
    use: Use = Use.PREFER
    otherwise: Otherwise = Otherwise.ANY
    position: Position = field(default=NOWHERE, compare=False)


class By(Enum):
    """What a preference goes by: of BEST_THROUGHPUT the greatest figure is the best, of FORMULA
    the expression is the weight, of all others the smallest is the best."""

    LEAST_LOADED = "least-loaded"
    FASTEST = "fastest"
    FEWEST_CLIENTS = "fewest-clients"
    BEST_THROUGHPUT = "best-throughput"
    CLOSEST = "closest"
    FORMULA = "formula"


@dataclass(frozen=True, slots=True)
class Score:
    """How targets compare. `of`: a figure, as ``object.figure``; for FORMULA an expression."""

    by: By
    of: str


@dataclass(frozen=True, slots=True)
class FarmScore:
    """How the targets of `farm` compare with each other."""

    farm: str
    score: Score


@dataclass(frozen=True, slots=True)
class Preference:
    """Weights of the targets of `dvipas` on `ports` follow figures of status objects (S3); what is
    empty does not matter.

    With `farms`, `score` compares farms, each as one; within a farm the targets compare as it says
    there, or by `score` if it says nothing (S4).
    """

    name: str
    score: Score
    dvipas: tuple[Address, ...] = ()
    ports: tuple[PortRange, ...] = ()
    farms: tuple[FarmScore, ...] = ()
    position: Position = field(default=NOWHERE, compare=False)

    def concerns(self, dvipa: Address, port: int) -> bool:
        """Whether it is for (`dvipa`, `port`)."""
        return (not self.dvipas or dvipa in self.dvipas) and (
            not self.ports or any(port in span for span in self.ports)
        )
