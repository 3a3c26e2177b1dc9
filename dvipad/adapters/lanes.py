"""What waits while a DVIPA is probed, and what need not (docs/decisions/0009).

Effects are carried out one after another, in the order in which the core wanted them. A probe
takes long, so the sequence that waits for one leaves that row, and with it all later effects of
the same DVIPA: its *lane*. Other effects go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

from dvipad.address import Address
from dvipad.config.model import Policy
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
from dvipad.wire.messages import Dvipa, VipaEntry, VipaList, policy_sets


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
    """What was sent of a DVIPA is newer than what a turn says that waited for a probe meanwhile.

    Only parts of lists wait: a whole one concerns no single DVIPA.
    """

    def __init__(self) -> None:
        self._number = 0
        self._joined = False
        self._entries: dict[Address, tuple[int, VipaEntry, tuple[Policy, ...]]] = {}
        self._whole_number = 0

    def instead_of(self, number: int, message: VipaList) -> VipaList:
        """What to send for the `message` of turn `number`: the newest of what it says."""
        if message.whole:
            self._entries.clear()
            self._whole_number = number
        if number >= self._number:
            self._number, self._joined = number, message.joined
        rules, newest = message.rules(), []
        for entry in message.entries:
            known = self._entries.get(entry.dvipa)
            if known is None and number < self._whole_number:
                continue  # a whole list has said meanwhile that it is gone
            if known is None or known[0] <= number:
                known = (number, entry, rules.get(entry.dvipa, ()))
                self._entries[entry.dvipa] = known
            newest.append(known)
        entries = tuple(entry for _, entry, _ in newest)
        policies = policy_sets({entry.dvipa: found for _, entry, found in newest})
        return replace(message, entries=entries, joined=self._joined, policies=policies)
