"""Ownership of a DVIPA: the table of (state, trigger) -> (action, next state) (D8, D9).

No other module sets the state of an `Ownership`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dvipad.address import Address
from dvipad.config.model import Moveable
from dvipad.core.ranges import RANGED
from dvipad.wire.messages import Origin


class State(Enum):
    """What this node is to a DVIPA. Operators see TAKEOVER and GIVING as ACTIVE and MOVING."""

    BACKUP = "BACKUP"
    """In the chain, not the distributor."""
    PROBING = "PROBING"
    """Nobody is known to have it; asks the network before it claims it."""
    TAKEBACK = "TAKEBACK"
    """Collects the CRT while another node still distributes."""
    AWAITING = "AWAITING"
    """CRT complete; asked the distributor for the address."""
    TAKEOVER = "TAKEOVER"
    """Distributor, announced; the CRT is being collected."""
    ACTIVE = "ACTIVE"
    """Distributor."""
    GIVING = "GIVING"
    """No longer announces; hands its CRT to the successor."""
    MOVING = "MOVING"
    """Gave it up; relays to the successor what still arrives."""


class Trigger(Enum):
    """Why something has to happen."""

    UNOWNED = "nobody ever owned it"
    UNUSED = "no other host has it"
    OWNER_LOST = "owner lost"
    TAKEBACK_DUE = "takeback due"
    OFFERED = "offered by the distributor"
    SUMMONED = "asked for here"
    CRT_COMPLETE = "CRT complete"
    RELEASED = "released by the distributor"
    NO_ANSWER = "no answer"
    ABANDONED = "no longer entitled"
    FAILED = "effect failed"
    TAKEBACK_ASKED = "takeback asked"
    HIGHER_CLAIM = "higher claim"
    RIVAL_RELEASED = "rival released"
    NO_QUORUM = "no quorum"
    LEAVING = "leaving"
    IDLE = "idle, and its primary waits"
    ALONE = "leaving, and nobody takes it"
    HANDED_OVER = "CRT handed over"
    LINGER_OVER = "linger over"


class Action(Enum):
    """What the node does about it; the effects are built in `takeover.py`."""

    PROBE = "probe"
    TAKE_OVER = "take over"
    PREPARE = "prepare takeback"
    ASK = "ask for the address"
    ASSUME = "assume"
    COMPLETE = "complete"
    GIVE_UP = "give up"
    RELEASE = "release"
    OFFER = "offer to the backup"
    ANNOUNCE_AGAIN = "announce again"
    WITHDRAW = "withdraw"
    DROP = "drop"


_S, _T, _A = State, Trigger, Action

TABLE: Final[dict[tuple[State, Trigger], tuple[Action, State]]] = {
    (_S.BACKUP, _T.UNOWNED): (_A.PROBE, _S.PROBING),
    (_S.BACKUP, _T.OWNER_LOST): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.PROBING, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.PROBING, _T.ABANDONED): (_A.DROP, _S.BACKUP),
    (_S.PROBING, _T.UNUSED): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.BACKUP, _T.TAKEBACK_DUE): (_A.PREPARE, _S.TAKEBACK),
    (_S.BACKUP, _T.OFFERED): (_A.PREPARE, _S.TAKEBACK),
    (_S.BACKUP, _T.SUMMONED): (_A.PREPARE, _S.TAKEBACK),
    (_S.TAKEBACK, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.TAKEBACK, _T.OWNER_LOST): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.TAKEBACK, _T.ABANDONED): (_A.DROP, _S.BACKUP),
    (_S.TAKEBACK, _T.CRT_COMPLETE): (_A.ASK, _S.AWAITING),
    (_S.AWAITING, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.AWAITING, _T.RELEASED): (_A.ASSUME, _S.ACTIVE),
    (_S.AWAITING, _T.OWNER_LOST): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.AWAITING, _T.ABANDONED): (_A.DROP, _S.BACKUP),
    (_S.AWAITING, _T.NO_ANSWER): (_A.DROP, _S.BACKUP),
    (_S.TAKEOVER, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.TAKEOVER, _T.HIGHER_CLAIM): (_A.GIVE_UP, _S.GIVING),
    (_S.TAKEOVER, _T.ALONE): (_A.WITHDRAW, _S.BACKUP),
    (_S.TAKEOVER, _T.CRT_COMPLETE): (_A.COMPLETE, _S.ACTIVE),
    (_S.TAKEOVER, _T.NO_QUORUM): (_A.WITHDRAW, _S.BACKUP),
    (_S.ACTIVE, _T.NO_QUORUM): (_A.WITHDRAW, _S.BACKUP),
    (_S.ACTIVE, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.ACTIVE, _T.HIGHER_CLAIM): (_A.GIVE_UP, _S.GIVING),
    (_S.ACTIVE, _T.TAKEBACK_ASKED): (_A.GIVE_UP, _S.GIVING),
    (_S.ACTIVE, _T.RIVAL_RELEASED): (_A.ANNOUNCE_AGAIN, _S.ACTIVE),
    (_S.ACTIVE, _T.LEAVING): (_A.OFFER, _S.ACTIVE),
    (_S.ACTIVE, _T.IDLE): (_A.OFFER, _S.ACTIVE),
    (_S.ACTIVE, _T.ALONE): (_A.WITHDRAW, _S.BACKUP),
    (_S.GIVING, _T.FAILED): (_A.WITHDRAW, _S.BACKUP),
    (_S.GIVING, _T.OWNER_LOST): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.GIVING, _T.HANDED_OVER): (_A.RELEASE, _S.MOVING),
    (_S.MOVING, _T.OFFERED): (_A.PREPARE, _S.TAKEBACK),
    (_S.MOVING, _T.SUMMONED): (_A.PREPARE, _S.TAKEBACK),
    (_S.MOVING, _T.OWNER_LOST): (_A.TAKE_OVER, _S.TAKEOVER),
    (_S.MOVING, _T.LINGER_OVER): (_A.DROP, _S.BACKUP),
}

OWNING: Final = frozenset({State.TAKEOVER, State.ACTIVE})
"""States in which this node is the distributor."""
PREPARING: Final = frozenset({State.TAKEBACK, State.AWAITING})
"""States in which it is about to be."""


@dataclass(slots=True)
class Ownership:
    """One DVIPA on this node.

    `rank`: 255 VIPADEFINE, 1-254 VIPABACKUP, 0 the profile does not name it any more.
    `epoch`: of the own claim in OWNING and PREPARING states, else the last one known.
    `held_epoch`: of the claim that is being given up. `unheard`: targets that were dead to this
    node when it took over and may live: until they are heard of, what the CRT does not know
    waits (`withholding`), and so it does until `hushed_until_ms` while a former owner may still
    act as one. `effect_id`: the sequence whose completion is awaited; others are
    superseded. `crt_dump`, `socket_dump`: what is handed over. `summoned`: an application or a
    command wants it here now; `unwanted`: none does any more. `idle`: it has no connection.
    `settled_ms`: when the successor said that it has announced itself.
    `announcing`: the effect of an announcement that is repeated; if it failed, it is made again
    at `announce_ms`.
    """

    dvipa: Address
    rank: int = 0
    creates: bool = False
    origin: Origin = Origin.DEFINE
    moveable: Moveable = Moveable.IMMEDIATE
    prefix_length: int | None = None
    state: State = State.BACKUP
    since_ms: int = 0
    announcing: int = 0
    announce_ms: int | None = None
    epoch: int = 0
    held_epoch: int = 0
    effect_id: int = 0
    done: bool = False
    failed: str = ""
    retry_ms: int = 0
    successor: str | None = None
    settled_ms: int | None = None
    asked_by: str | None = None
    asked_epoch: int = 0
    offered_by: str | None = None
    offered_to: str | None = None
    released: bool = False
    rival_released: bool = False
    unheard: set[str] = field(default_factory=set)
    withholding: bool = False
    hushed_until_ms: int = 0
    summoned: bool = False
    unwanted: bool = False
    idle: bool = False
    crt_dump: tuple[tuple[Address, bytes, bytes], ...] | None = None
    socket_dump: tuple[bytes, bytes] = (b"", b"")

    def take(self, trigger: Trigger, now_ms: int) -> tuple[Action, State, State] | None:
        """Take the table's row for `trigger`: (action, state before, state after).

        None when the table has no such row: the trigger means nothing in this state.
        """
        row = TABLE.get((self.state, trigger))
        if row is None:
            return None
        before = self.state
        action, self.state = row
        if before is not self.state:
            self.since_ms = now_ms
        return action, before, self.state

    def adopt(self, epoch: int, collecting: bool, now_ms: int) -> None:
        """Go on as the distributor that a former daemon of this node was."""
        self.state = State.TAKEOVER if collecting else State.ACTIVE
        self.epoch = epoch
        self.done = True
        self.since_ms = now_ms

    def settled(self, epoch: int, now_ms: int) -> None:
        """Somebody announced the DVIPA with `epoch`: the successor of one who gave it up."""
        if self.state in (State.GIVING, State.MOVING) and epoch >= self.epoch:
            self.settled_ms = now_ms

    @property
    def ranged(self) -> bool:
        """Whether it is an address of a VIPARANGE."""
        return self.origin in RANGED

    @property
    def owning(self) -> bool:
        """Whether this node is the distributor."""
        return self.state in OWNING

    @property
    def moving_to(self) -> str:
        """The node that this one gave it to, and relays to; empty: none."""
        return self.successor or "" if self.state is State.MOVING else ""

    @property
    def preparing(self) -> bool:
        """Whether this node is about to be the distributor."""
        return self.state in PREPARING

    @property
    def wants_crt(self) -> bool:
        """Whether this node keeps a CRT for the DVIPA."""
        return self.owning or self.preparing
