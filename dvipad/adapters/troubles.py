"""Which troubles of a node are worth a move: those that last, until they are gone for a while.

Pure: what is wrong now, and the time, are parameters.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Trouble(Enum):
    """What can be wrong; the values are the words of reports and logs."""

    NO_UPLINK = "no uplink"
    NO_ROUTE = "routing not ready"
    STARVED = "loop starved"
    STORAGE = "storage full"
    MESH = "mesh broken"


@dataclass(frozen=True, slots=True)
class Patience:
    """A trouble is reported after `persist_ms` (`uplink_ms` that no uplink works), and is over
    after `clear_ms` without it; `rejoin` False: not before it is forgiven."""

    persist_ms: int
    uplink_ms: int
    clear_ms: int
    rejoin: bool = True

    def before_report_ms(self, trouble: Trouble) -> int:
        """How long `trouble` must last to be reported."""
        return self.uplink_ms if trouble is Trouble.NO_UPLINK else self.persist_ms


class Persistence:
    """Remembers since when each trouble is there, or is gone."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._present_since: dict[Trouble, int] = {}
        self._absent_since: dict[Trouble, int] = {}
        self.reported: frozenset[Trouble] = frozenset()

    def see(self, present: AbstractSet[Trouble], now_ms: int, *, at_once: bool = False) -> None:
        """These troubles are there now. `at_once`: nobody relies on the node yet, report all."""
        for trouble in Trouble:
            here, gone = self._present_since, self._absent_since
            if trouble in present:
                gone.pop(trouble, None)
                here.setdefault(trouble, now_ms)
            else:
                here.pop(trouble, None)
                gone.setdefault(trouble, now_ms)
        if at_once:
            self.reported |= frozenset(present)
        self.expire(now_ms)

    def expire(self, now_ms: int) -> None:
        """Time has passed."""
        due = {trouble for trouble, at_ms in self._due().items() if at_ms <= now_ms}
        self.reported ^= due

    def deadline(self) -> int | None:
        """When (ms) `expire` has something to do, if nothing happens before."""
        return min(self._due().values(), default=None)

    def forgive(self, now_ms: int) -> None:
        """No trouble is reported any more; one that is still there must last once more."""
        self.reported = frozenset()
        self._present_since = dict.fromkeys(self._present_since, now_ms)

    def _due(self) -> dict[Trouble, int]:
        """When each trouble is reported, or is over, if it stays as it is."""
        begins = {
            trouble: since_ms + self._patience.before_report_ms(trouble)
            for trouble, since_ms in self._present_since.items()
            if trouble not in self.reported
        }
        if not self._patience.rejoin:
            return begins
        ends = {
            trouble: since_ms + self._patience.clear_ms
            for trouble, since_ms in self._absent_since.items()
            if trouble in self.reported
        }
        return begins | ends


class Stalls:
    """Whether a loop starved: it was too late `STALLS` times within `WINDOW_MS`."""

    STALLS: Final = 3
    WINDOW_MS: Final = 10_000

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms
        self._at_ms: list[int] = []

    def ran(self, late_ms: int, now_ms: int) -> bool:
        """The loop ran, so many milliseconds later than it should; returns whether it starves."""
        self._at_ms = [at for at in self._at_ms if now_ms - at < self.WINDOW_MS]
        if late_ms > self._late_ms:
            self._at_ms = [*self._at_ms, now_ms][-self.STALLS :]
        return len(self._at_ms) >= self.STALLS
