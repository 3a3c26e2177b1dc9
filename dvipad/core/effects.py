"""What the core wants done: effects as values, carried out in order by the runner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dvipad.address import Address
from dvipad.core.policy_rows import PolicyRow
from dvipad.wire.messages import Message


class Role(Enum):
    """What a node's data plane does with packets for a DVIPA."""

    OWNER = "owner"
    HIDDEN = "hidden"
    MOVING = "moving"


@dataclass(frozen=True, slots=True)
class SetDvipa:
    """Rules of a DVIPA in the data plane.

    `collecting`: a packet that the CRT does not know waits, unanswered. `quiet`: distributes
    what is relayed to it, but does not answer ARP or NDP yet. `successor`: XCF address of the
    new distributor, to which a MOVING node relays what it does not know.
    """

    dvipa: Address
    role: Role
    epoch: int
    collecting: bool = False
    quiet: bool = False
    successor: Address | None = None


@dataclass(frozen=True, slots=True)
class RemoveDvipa:
    """The data plane forgets the DVIPA: rules, services and CRT."""

    dvipa: Address


@dataclass(frozen=True, slots=True)
class PlaceAddress:
    """The node's stack accepts the DVIPA; `owned`: neighbours may find it here."""

    dvipa: Address
    owned: bool


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """The node's stack does not have the DVIPA any more."""

    dvipa: Address


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the network where the DVIPA is (D12): gratuitous ARP, unsolicited NA."""

    dvipa: Address


@dataclass(frozen=True, slots=True)
class SetService:
    """Distribution of (DVIPA, port): new connections go to `ring` (XCF addresses) in turn, but for
    those that one of the `policies` is for; None: the policies stay, for targets of `ring`.
    `balanced`: active connections are kept in the proportion of the turns instead."""

    dvipa: Address
    port: int
    ring: tuple[Address, ...]
    offload: bool
    policies: tuple[PolicyRow, ...] | None = ()
    balanced: bool = False


@dataclass(frozen=True, slots=True)
class RemoveService:
    """(DVIPA, port) is not distributed any more."""

    dvipa: Address
    port: int


@dataclass(frozen=True, slots=True)
class SetMembers:
    """XCF addresses from which tunnel packets are accepted."""

    members: frozenset[Address]


@dataclass(frozen=True, slots=True)
class WatchDvipas:
    """DVIPAs whose sockets on this node are of interest."""

    dvipas: frozenset[Address]


@dataclass(frozen=True, slots=True)
class WatchRanges:
    """Subnets (first address, prefix length) in which a bind of an application counts (D10)."""

    ranges: frozenset[tuple[Address, int]]


@dataclass(frozen=True, slots=True)
class ProbeAddress:
    """Ask the network whether another host has the DVIPA; the step fails when one answers.

    ARP probes (RFC 5227, 2.1), neighbour solicitations (RFC 4862, 5.4).
    """

    dvipa: Address


@dataclass(frozen=True, slots=True)
class InsertConnections:
    """CRT entries: these packed keys lead to `target`.

    `hearsay`: it is not the target that says so. What this node chose itself a moment ago stays,
    and what ends here is not elsewhere.
    """

    target: Address
    established: bytes
    embryonic: bytes
    hearsay: bool = False


@dataclass(frozen=True, slots=True)
class EndConnections:
    """Connections that are over, says `target`: their CRT entries end.

    An entry that leads elsewhere, or that is new, belongs to a later connection of the same
    client port; it stays.
    """

    target: Address
    keys: bytes


@dataclass(frozen=True, slots=True)
class RetainConnections:
    """Of the DVIPA's CRT entries to `target` that are older than `before_ms`, only `keys` live."""

    dvipa: Address
    target: Address
    keys: bytes
    before_ms: int


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """The target is gone for good: its CRT entries end."""

    target: Address


@dataclass(frozen=True, slots=True)
class DumpSockets:
    """List this node's connections of the DVIPA; answered by `SocketsDumped`."""

    effect_id: int
    dvipa: Address


@dataclass(frozen=True, slots=True)
class DumpCrt:
    """List the DVIPA's whole CRT; answered by `CrtDumped`."""

    effect_id: int
    dvipa: Address


@dataclass(frozen=True, slots=True)
class CountConnections:
    """Count the DVIPA's connections, in the CRT and of this node; answered by
    `ConnectionsCounted`."""

    effect_id: int
    dvipa: Address


@dataclass(frozen=True, slots=True)
class Send:
    """A message to one peer; lost when there is no session with it."""

    peer: str
    message: Message


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A message to every peer that there is a session with."""

    message: Message


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the ownership table was taken: one log line."""

    dvipa: Address
    trigger: str
    action: str
    before: str
    after: str
    epoch: int
    owner: str | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was asked for is not done, and why: one log line."""

    dvipa: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Preferred:
    """Another target of (`dvipa`, `port`), which this node distributes, is the best one now, or
    another farm (S5). `server`: the node's name. `farm`: empty when no target is in one."""

    dvipa: Address
    port: int
    server: str
    farm: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Everything that was owned is given up: the daemon may end."""


Step: TypeAlias = (
    SetDvipa
    | RemoveDvipa
    | PlaceAddress
    | RemoveAddress
    | ProbeAddress
    | Announce
    | Send
    | Broadcast
    | DumpCrt
    | DumpSockets
)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Steps in an order that is part of the rules; the first that fails ends the sequence.

    Answered by `EffectDone` or `EffectFailed` with `effect_id`.
    """

    effect_id: int
    steps: tuple[Step, ...]


Effect: TypeAlias = (
    Sequence
    | Step
    | SetService
    | RemoveService
    | SetMembers
    | WatchDvipas
    | WatchRanges
    | CountConnections
    | InsertConnections
    | EndConnections
    | RetainConnections
    | PurgeTarget
    | Decision
    | Refusal
    | Preferred
    | Leave
)
