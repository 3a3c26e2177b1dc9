"""Messages of the mesh, as frozen values (requirements D2, D3, D7-D9).

The codec derives the wire form from these types: a field that a receiver does not know is
ignored, and so is a message type that it does not know. Connections travel as packed CRT keys
(`dvipad.adapters.bpf.layout.CONNECTION`, 36 bytes each), in the layout of the eBPF maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from dvipad.address import Address
from dvipad.config.model import Distribute, Label, Moveable, Policy
from dvipad.versions import GREETING, Versions

MAX_CONNECTIONS: Final = 16_384
"""Connections in one NEWCONN or TERMCONN message, at the most."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as others know it."""

    name: str
    xcf: Address
    port: int


@dataclass(frozen=True, slots=True)
class Hello:
    """First message in each direction: who speaks. `incarnation` grows with each start.

    `token`: what UDP heartbeats to the sender carry in this session; 0: it takes none. `oldest`,
    `newest`: the mesh versions that the sender speaks; one that says nothing speaks the first.
    `version` is that of the greeting itself, which never changes.
    """

    cluster: str
    member: Member
    incarnation: int
    version: int = GREETING
    token: int = 0
    oldest: int = 1
    newest: int = 1

    @property
    def versions(self) -> Versions:
        """What the sender speaks."""
        return Versions(self.oldest, self.newest)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing to say, still alive."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender leaves on purpose; what it owned has been given up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Members:
    """Nodes that the sender has a session with; how a node learns those that it was not told."""

    members: tuple[Member, ...]


class Origin(Enum):
    """Why a node has a part in a DVIPA; the values are the words of z/OS."""

    DEFINE = "VIPADEFINE"
    BACKUP = "VIPABACKUP"
    BIND = "VIPARANGE BIND"
    IOCTL = "VIPARANGE IOCTL"


@dataclass(frozen=True, slots=True)
class Active:
    """All connections of `port` go to `xcf`: others stand by for it (HOTSTANDBY)."""

    port: int
    xcf: Address


@dataclass(frozen=True, slots=True)
class VipaEntry:
    """What the sender is to one DVIPA.

    `rank`: 255 VIPADEFINE, 1-254 VIPABACKUP, 0 none of them any more or not fit now.
    `creates`: may activate it when nobody has (VIPADEFINE, or VIPABACKUP MOVEABLE).
    `owner`: the sender has it now, with `epoch`; then `distributes` is how it is distributed.
    `origin`, `moveable`: how it came to its part, and when the DVIPA may leave it.
    `successor`: the node that the sender gave it to, while it relays to that one; empty: none.
    `active`: who is, of the ports of HOTSTANDBY that the owner distributes.
    """

    dvipa: Address
    rank: int
    creates: bool
    owner: bool
    epoch: int
    distributes: tuple[Distribute, ...] = ()
    origin: Origin = Origin.DEFINE
    moveable: Moveable = Moveable.IMMEDIATE
    successor: str = ""
    active: tuple[Active, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The sender distributes these DVIPAs by the `policies`, in their order (P6)."""

    dvipas: tuple[Address, ...]
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class VipaList:
    """What the sender is to DVIPAs (D2). Of a `whole` list, what it does not name is gone; one that
    is not says what changed.

    `joined`: the sender knows the cluster; one that starts does not yet, and its word is not
    enough for others that start. `policies`: of the DVIPAs that it owns; one that no set names has
    none. `labels`: of the sender.
    """

    entries: tuple[VipaEntry, ...]
    joined: bool = True
    whole: bool = True
    policies: tuple[PolicySet, ...] = ()
    labels: tuple[Label, ...] = ()

    def rules(self) -> dict[Address, tuple[Policy, ...]]:
        """Policies by DVIPA."""
        return {dvipa: each.policies for each in self.policies for dvipa in each.dvipas}


def policy_sets(rules: Mapping[Address, tuple[Policy, ...]]) -> tuple[PolicySet, ...]:
    """`rules` as they travel: each list once, however many DVIPAs it governs."""
    alike: dict[tuple[Policy, ...], list[Address]] = {}
    for dvipa, policies in rules.items():
        if policies:
            alike.setdefault(policies, []).append(dvipa)
    return tuple(PolicySet(tuple(dvipas), policies) for policies, dvipas in alike.items())


@dataclass(frozen=True, slots=True)
class PortStatus:
    """`ready` listeners wait on `port` of the DVIPA; 0: the last one closed."""

    port: int
    ready: int


@dataclass(frozen=True, slots=True)
class SrvStat:
    """Listeners of the sender for a DVIPA (D3). `full`: ports not named have none."""

    dvipa: Address
    full: bool
    ports: tuple[PortStatus, ...]


@dataclass(frozen=True, slots=True)
class NewConn:
    """Connections of the DVIPA that end at node `target` (its XCF address) (D7-D9).

    `snapshot`: part of the whole list that the receiver's claim of `epoch` asked for; `last`
    closes that list. `embryonic` are those whose handshake is not over.
    """

    dvipa: Address
    epoch: int
    target: Address
    established: bytes
    embryonic: bytes = b""
    snapshot: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class TermConn:
    """Connections of the DVIPA that ended at the sender (D7)."""

    dvipa: Address
    connections: bytes


class Move(Enum):
    """What a DVIPA message says of the ownership of an address (D8, D9)."""

    TAKEOVER = "takeover"
    """I own it from now on (nobody alive did)."""
    PREPARE = "prepare"
    """I am going to own it: send me SRVSTAT and NEWCONN; the present owner stays."""
    TAKEBACK = "takeback"
    """To the present owner: my CRT is complete, give the address to me."""
    RELEASE = "release"
    """To the one that asked: I no longer announce it; all my connections were sent before this."""
    OFFER = "offer"
    """To the best backup: I am leaving, take it (PREPARE, TAKEBACK, RELEASE follow)."""
    COMPLETE = "complete"
    """I announce it and my CRT is complete: a moving owner may forget its own."""


@dataclass(frozen=True, slots=True)
class Dvipa:
    """A DVIPA message: takeover and takeback (D8, D9)."""

    move: Move
    dvipa: Address
    epoch: int


@dataclass(frozen=True, slots=True)
class Witness:
    """Whose claim of a DVIPA the sender hears now; `owner` empty: nobody's.

    An owner that was cut off from the new one learns of it through others.
    """

    dvipa: Address
    epoch: int
    rank: int
    owner: str


MAX_WEIGHT: Final = 64
"""The workload weight of a node or a server that has everything to spare."""


@dataclass(frozen=True, slots=True)
class ServerWeight:
    """What the servers behind the listeners on (`address`, `port`) have to spare, 0-64.

    `address`: what they are bound to, as in `Listener`; None: the wildcard of both families.
    """

    address: Address | None
    port: int
    weight: int


@dataclass(frozen=True, slots=True)
class Weights:
    """What the sender has to spare (P4, P5), 0-64 each; what was said before holds no more.

    `host`: of its capacity, which is `millicpus` thousandths of a CPU; None: not measured.
    `announced`: by its operator, for TARGCONTROLLED. All of it holds for `valid_ms`, then it is as
    if nothing had been said.
    """

    valid_ms: int
    host: int | None
    millicpus: int
    servers: tuple[ServerWeight, ...] = ()
    announced: int | None = None


MAX_FIGURES: Final = 512
"""Figures of one node, at the most."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What status objects of `node` read (S1).

    `names`: each as ``object.figure``; empty: those that the sender said last of that node.
    `values`: thousandths, one for each name; null: not known now. Both empty: there are none.
    """

    node: str
    names: tuple[str, ...]
    values: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What status objects read (S2): the sender's own, and those of its farm for which it reports.

    It holds until something else is said of that node, or the node is gone.
    """

    nodes: tuple[NodeFigures, ...]


@dataclass(frozen=True, slots=True)
class ServiceQuality:
    """How connections of (`dvipa`, `port`) do on their target, in its last interval (P4).

    `left`: percent of a weight that ratios leave. `cer`: percent of the requests that reached it
    whose handshake was completed; `sef`: percent of the connections that its server had to accept
    that it did. Ratios: `loss` and `timeouts` per mille of the segments sent; `use`: percent of the
    connections that it is built for; `queue`: percent of its listeners' queue that is full;
    `round_trip_us`: median. None: not known.
    """

    dvipa: Address
    port: int
    left: int = 100
    cer: int = 100
    sef: int = 100
    loss: int = 0
    timeouts: int = 0
    queue: int = 0
    use: int | None = None
    round_trip_us: int | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of service, and responsiveness, of the sender's services; what was said before holds
    no more, and this for `valid_ms`. All is well with those that it does not name."""

    valid_ms: int
    services: tuple[ServiceQuality, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """What operators want to know of the sender: its release, and its troubles.

    Troubles are texts to be shown, none of which a receiver has to know.
    """

    release: str
    troubles: tuple[str, ...] = ()


Message: TypeAlias = (
    Hello
    | Heartbeat
    | Goodbye
    | Members
    | VipaList
    | SrvStat
    | NewConn
    | TermConn
    | Dvipa
    | Witness
    | Weights
    | Status
    | Figures
    | Quality
)
