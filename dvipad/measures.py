"""What the daemon notes of itself for the metrics: moves, their times, delays, reloads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from dvipad.adapters.histogram import Histogram
from dvipad.address import Address
from dvipad.core.effects import Decision, Refusal
from dvipad.core.vipa import State, Trigger

MOVES: Final = {
    Trigger.UNOWNED: "first",
    Trigger.OWNER_LOST: "owner lost",
    Trigger.TAKEBACK_DUE: "takeback",
    Trigger.OFFERED: "offered",
    Trigger.SUMMONED: "asked for",
}
"""Why a DVIPA comes to this node: triggers that begin a move, and its name in the metrics."""
_BEGINS: Final = {trigger.value: name for trigger, name in MOVES.items()}
_UNDER_WAY: Final = frozenset(
    state.value for state in (State.PROBING, State.TAKEOVER, State.TAKEBACK, State.AWAITING)
)
MOVE_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LATE_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Measures:
    """Counts since this daemon started. `clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[Address, tuple[str, float]] = {}
        self.decisions: Counter[tuple[str, str]] = Counter()
        """Rows of the ownership table that were taken, by trigger and action."""
        self.refusals = 0
        self.moves = {name: Histogram(MOVE_BOUNDS_S) for name in MOVES.values()}
        """DVIPAs that came here, from the trigger until ACTIVE with the complete CRT."""
        self.abandoned = Counter(dict.fromkeys(MOVES.values(), 0))
        """Moves to this node that did not end so."""
        self.late = Histogram(LATE_BOUNDS_S)
        """How late the loop came to what was due."""
        self.generation = 0
        """Profiles that were accepted."""
        self.reload_failed = False
        self.reloaded_s = time.time()
        """When the last profile was accepted, since 1970."""

    def heard(self, effect: Decision | Refusal) -> None:
        """The core decided something, or refused it."""
        if isinstance(effect, Refusal):
            self.refusals += 1
            return
        self.decisions[effect.trigger, effect.action] += 1
        if effect.trigger in _BEGINS and effect.after in _UNDER_WAY:
            self._begun[effect.dvipa] = (_BEGINS[effect.trigger], self._clock())
        elif effect.after not in _UNDER_WAY and effect.dvipa in self._begun:
            name, since_s = self._begun.pop(effect.dvipa)
            if effect.after == State.ACTIVE.value:
                self.moves[name].observe(self._clock() - since_s)
            else:
                self.abandoned[name] += 1

    def followed(self) -> None:
        """Another profile is in force."""
        self.generation += 1
        self.reload_failed, self.reloaded_s = False, time.time()

    def refused(self) -> None:
        """The profile file was read again, and has a defect."""
        self.reload_failed = True
