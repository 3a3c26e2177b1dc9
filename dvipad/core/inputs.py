"""What the core is told: typed inputs, made by adapters of bytes and kernel events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dvipad.address import Address
from dvipad.config.model import Policy, Preference, Profile
from dvipad.core.orders import Orders
from dvipad.wire.events import HostAnswered, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Quality, Weights


@dataclass(frozen=True, slots=True)
class AdoptedService:
    """A port that a former daemon distributed over `ring` (XCF addresses)."""

    port: int
    ring: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Adopted:
    """A DVIPA that the data plane of a former daemon still serves.

    `owned`: it was the distributor, with `epoch`; `collecting`: its CRT was not complete.
    """

    dvipa: Address
    owned: bool
    epoch: int = 0
    collecting: bool = False
    services: tuple[AdoptedService, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """First input of all; `adopted` is what a former daemon left in the kernel."""

    adopted: tuple[Adopted, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileChanged:
    """The node's profile is this one from now on (D11)."""

    profile: Profile


@dataclass(frozen=True, slots=True)
class PoliciesChanged:
    """The node's own policies are these from now on (P1)."""

    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class MinuteCame:
    """It is this `minute` of the week, local time, from Monday 00:00: for policies with hours."""

    minute: int


@dataclass(frozen=True, slots=True)
class Listener:
    """`ready` listening sockets on `port`.

    `address` None: bound to the wildcard address of both families; ``0.0.0.0`` or ``::``: to
    that of one.
    """

    address: Address | None
    port: int
    ready: int


@dataclass(frozen=True, slots=True)
class ListenersChanged:
    """All listeners that this node has now."""

    listeners: tuple[Listener, ...]


@dataclass(frozen=True, slots=True)
class ConnectionsOriginated:
    """Applications here open connections with the DVIPA as source; packed CRT keys (D7)."""

    dvipa: Address
    keys: bytes


@dataclass(frozen=True, slots=True)
class ConnectionsEnded:
    """Connections of the DVIPA that ended here; packed CRT keys (D7)."""

    dvipa: Address
    keys: bytes


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """Ends of connections of these DVIPAs may not have been reported: compare whole lists."""

    dvipas: frozenset[Address]


@dataclass(frozen=True, slots=True)
class EffectDone:
    """The effect with this id was carried out."""

    effect_id: int


@dataclass(frozen=True, slots=True)
class EffectFailed:
    """The effect with this id failed; those behind it in its sequence were not tried."""

    effect_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class SocketsDumped:
    """Answer to `DumpSockets`: the connections of the DVIPA that end at this node."""

    effect_id: int
    established: bytes
    embryonic: bytes


@dataclass(frozen=True, slots=True)
class CrtDumped:
    """Answer to `DumpCrt`: (target, established, embryonic) of the DVIPA's whole CRT."""

    effect_id: int
    entries: tuple[tuple[Address, bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Ordered:
    """These are the operator's orders from now on."""

    orders: Orders


@dataclass(frozen=True, slots=True)
class Stalled:
    """This node did not run for longer than its lease: others may have found it dead."""


@dataclass(frozen=True, slots=True)
class AddressesBound:
    """Addresses of a VIPARANGE that sockets of this node are bound to now (D10).

    Each with the number of its latest bind: a greater one than before is a new bind.
    """

    bound: tuple[tuple[Address, int], ...]


@dataclass(frozen=True, slots=True)
class DeleteAsked:
    """A command deletes an address of a VIPARANGE that is active here (D10)."""

    dvipa: Address


@dataclass(frozen=True, slots=True)
class ConnectionsCounted:
    """Answer to `CountConnections`."""

    effect_id: int
    count: int


@dataclass(frozen=True, slots=True)
class TroublesChanged:
    """What is wrong with this node, as far as it sees: one line for each; empty: it is well."""

    troubles: frozenset[str]


@dataclass(frozen=True, slots=True)
class SeenElsewhere:
    """DVIPAs that members without a session are seen to have, on the link: (DVIPA, member)."""

    claims: frozenset[tuple[Address, str]]


@dataclass(frozen=True, slots=True)
class Reach:
    """A target of (`dvipa`, `port`). `tcsr`: percent of the connections sent to it that were
    completed."""

    name: str
    dvipa: Address
    port: int
    tcsr: int


@dataclass(frozen=True, slots=True)
class Reached:
    """How this node, as a distributor, reaches targets; with those that are not named all is
    well."""

    rows: tuple[Reach, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What this node measured now: what it has to spare, how its services do (P4), or how it
    reaches others'."""

    said: Weights | Quality | Reached


@dataclass(frozen=True, slots=True)
class ActiveCounted:
    """So many active connections the targets have: (DVIPA, port, XCF address), count."""

    counts: tuple[tuple[tuple[Address, int, Address], int], ...]


class OfStatus:
    """What the status file says, or its status objects do."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class PreferencesChanged(OfStatus):
    """The node's preferences are these from now on (S3)."""

    preferences: tuple[Preference, ...]


@dataclass(frozen=True, slots=True)
class FiguresRead(OfStatus):
    """What the status objects of this node read (S1).

    `names` and `values`: as in `NodeFigures`. `failing`: instances that are down, by the DVIPA
    that they serve (None: all) and the port.
    """

    names: tuple[str, ...]
    values: tuple[int | None, ...]
    failing: frozenset[tuple[Address | None, int]]


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Leave the cluster cleanly: give DVIPAs to their backups, then end."""


Input: TypeAlias = (
    Started
    | ProfileChanged
    | PoliciesChanged
    | MinuteCame
    | PeerUp
    | PeerDown
    | HostAnswered
    | MessageReceived
    | ListenersChanged
    | ConnectionsOriginated
    | ConnectionsEnded
    | EventsMissed
    | EffectDone
    | EffectFailed
    | SocketsDumped
    | CrtDumped
    | Ordered
    | Stalled
    | SeenElsewhere
    | AddressesBound
    | DeleteAsked
    | ConnectionsCounted
    | TroublesChanged
    | Measured
    | ActiveCounted
    | PreferencesChanged
    | FiguresRead
    | StopRequested
)
