"""What waits while a DVIPA is probed, and what need not (docs/decisions/0009).

Effects are carried out one after another, in the order in which the core wanted them. A probe
takes long, so the sequence that waits for one leaves that row, and with it all later effects of
the same DVIPA: its *lane*. Other effects go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from dvipad.address import Address
from dvipad.core.effects import (
    Broadcast,
    Decision,
    Effect,
    EndConnections,
    InsertConnections,
    Leave,
    PlaceAddress,
    ProbeAddress,
    PurgeTarget,
    RemoveAddress,
    RemoveDvipa,
    RetainConnections,
    Role,
    Send,
    Sequence,
    SetDvipa,
    SetMembers,
    Step,
    WatchDvipas,
    WatchRanges,
)
from dvipad.wire.messages import Dvipa, VipaList


@dataclass(frozen=True, slots=True)
class Turn:
    """An effect and its place in the order of all."""

    number: int
    effect: Effect


@dataclass(slots=True, eq=False)
class Lane:
    """A DVIPA that is probed. `turn`: the sequence that waits, as far as it is not done yet;
    `waiting`: later effects of the same DVIPA."""

    turn: Turn
    probe: asyncio.Task[None]
    waiting: deque[Turn] = field(default_factory=deque)


def concerns(effect: Effect) -> Address | None:
    """The DVIPA whose effects must keep their order with `effect`; None: that of none.

    Changes of the CRT keep theirs with each other, and one batch may have entries of several
    DVIPAs: they never wait.
    """
    match effect:
        case Sequence():
            return next((found for step in effect.steps if (found := concerns(step))), None)
        case Send() | Broadcast():
            return effect.message.dvipa if isinstance(effect.message, Dvipa) else None
        case InsertConnections() | EndConnections() | RetainConnections() | PurgeTarget():
            return None
        case SetMembers() | WatchDvipas() | WatchRanges() | Leave() | Decision():
            return None
        case _:
            return effect.dvipa


def gives_up(effect: Effect) -> bool:
    """Whether `effect` undoes what a sequence with a probe would do: the core changed its mind."""
    steps: tuple[Effect | Step, ...] = effect.steps if isinstance(effect, Sequence) else (effect,)
    return any(
        isinstance(step, RemoveDvipa | RemoveAddress | ProbeAddress)
        or (isinstance(step, SetDvipa) and step.role is not Role.OWNER)
        or (isinstance(step, PlaceAddress) and not step.owned)
        for step in steps
    )


class NewestList:
    """A VIPA list says everything, so none may follow one that is newer than itself.

    Of a sequence that waited for a probe it would: others have been sent meanwhile.
    """

    def __init__(self) -> None:
        self._number = 0
        self._list: VipaList | None = None

    def instead_of(self, number: int, message: VipaList) -> VipaList:
        """What to send for the `message` of turn `number`: itself, or the newest that was sent."""
        if self._list is None or number >= self._number:
            self._number, self._list = number, message
        return self._list
