"""What the parts of a node share during one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dvipad.address import Address
from dvipad.config.model import Distribute, Label, Policy, Profile
from dvipad.core.effects import Effect, Sequence, Step
from dvipad.core.membership import Membership
from dvipad.core.orders import Orders
from dvipad.core.touched import Touched

FORGET_MS: Final = 60_000
"""A dead target's CRT entries, and a dead peer's words, are kept this long."""
STOP_MS: Final = 2_000
"""A node that leaves waits this long for its backups to take what it offers."""
STOP_LINGER_MS: Final = 200
"""A node that leaves relays this long what still arrives after its successor announced itself."""
REPORT_AGAIN_MS = 6_000
"""A target lists its connections once more so long after it had to list them: entries that were
too young for a comparison then (`distributor.SNAPSHOT_MARGIN_MS`) are not any more."""
HUSH_MS: Final = 1_000
"""A former owner that the new one does not hear may act as one for a while: cut off, until it is
told by witnesses; with a dead daemon, until the lease ends. What it forwarded until the clients
had learnt the new place is heard of from the targets within this time."""
REPORT_SOON_MS: Final = 500
"""After a move a target lists its connections once more so soon: a former owner may have forwarded
SYNs after the first list. Within `HUSH_MS`, so that the client's next packet finds its entry."""
SHOW_AGAIN_MS: Final = 20
"""What this node is to a DVIPA as a target is tried again so soon after it failed: until then it
may look like the owner that it was."""
IDLE_AGAIN_MS: Final = 100
"""A DVIPA without connections is looked at once more after so long, before it is removed."""
ANNOUNCE_AGAIN_MS: Final = 1_000
"""Between an announcement that failed and the next."""
CHANGED_MAX: Final = 4_096
"""DVIPAs that are remembered as changed until somebody shows them; with more, all count as changed.
"""
RETRY_MS: Final = 5_000
"""After an effect failed this node is no candidate for that DVIPA for so long."""


@dataclass(frozen=True, slots=True)
class Timers:
    """Times of the node file, in milliseconds."""

    dead_ms: int = 300
    restart_grace_ms: int = 4_000
    join_ms: int = 500
    collect_ms: int = 1_000
    moving_ms: int = 3_000


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who this node is. `seeds`: how many peers its node file names. `majority`: it owns DVIPAs
    only while it sees more than half of the cluster. `labels`: what policies may select it by."""

    name: str
    xcf: Address
    seeds: int = 0
    timers: Timers = field(default_factory=Timers)
    majority: bool = False
    labels: tuple[Label, ...] = ()


@dataclass(slots=True)
class Context:
    """State that every part of the node may read; effects go to `emit`."""

    settings: NodeSettings
    membership: Membership
    profile: Profile = field(default_factory=Profile)
    policies: tuple[Policy, ...] = ()
    minute: int | None = None
    """Of the week, local time, from Monday 00:00; None: nobody said."""
    orders: Orders = field(default_factory=Orders)
    troubles: frozenset[str] = frozenset()
    distributors: set[str] = field(default_factory=set)
    """Peers that distribute to this node, or are about to."""
    failing: frozenset[tuple[Address | None, int]] = frozenset()
    """Instances of applications that are down here: (DVIPA that they serve, None for all; port)."""
    now_ms: int = 0
    started: bool = False
    joined: bool = False
    doubting_since_ms: int | None = None
    stopping_since_ms: int | None = None
    effects: list[Effect] = field(default_factory=list)
    touched: Touched = field(default_factory=Touched)
    changed: set[Address] | None = None
    """DVIPAs of which a display may be out of date (`note`); None: of all."""
    last_id: int = 0
    indexed: Profile | None = None
    statements: dict[Address, tuple[Distribute, ...]] = field(default_factory=dict)
    """VIPADISTRIBUTE of the profile `indexed`, by DVIPA."""

    @property
    def stopping(self) -> bool:
        """Whether the node is leaving."""
        return self.stopping_since_ms is not None

    def note(self, dvipas: Iterable[Address]) -> None:
        """Something about `dvipas` may have changed for those who show them."""
        if self.changed is not None:
            self.changed.update(dvipas)
            if len(self.changed) > CHANGED_MAX:
                self.changed = None

    def emit(self, *effects: Effect) -> None:
        """Queue effects of this step, in order."""
        self.effects.extend(effects)

    def new_id(self) -> int:
        """An id that no effect had before."""
        self.last_id += 1
        return self.last_id

    def sequence(self, *steps: Step) -> int:
        """Queue `steps` as one sequence; returns its id."""
        effect_id = self.new_id()
        self.emit(Sequence(effect_id, steps))
        return effect_id

    def xcf_of(self, name: str) -> Address | None:
        """XCF address of the node with that name, this one included."""
        if name == self.settings.name:
            return self.settings.xcf
        peer = self.membership.get(name)
        return None if peer is None else peer.member.xcf

    def own_distributes(self, dvipa: Address) -> tuple[Distribute, ...]:
        """VIPADISTRIBUTE statements of the own profile for `dvipa`."""
        if self.indexed is not self.profile:
            self.indexed, self.statements = self.profile, {}
            for row in self.profile.distributes:
                self.statements[row.dvipa] = (*self.statements.get(row.dvipa, ()), row)
        return self.statements.get(dvipa, ())
