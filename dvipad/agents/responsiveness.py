"""How well servers answer, 0 to 100: TCSR, CER and SEF of z/OS from counters. No I/O here.

    TCSR  of the connections that the distributor sent to a target, those whose client answered
    CER   of the requests that reached the target, those whose handshake was completed
    SEF   of the connections that its listeners had to accept, those that they accepted

All are of an interval, looked at `LOOKS` times in it. Three parts of what is new and one of what
was are told; but nothing (0), and that it is over, at once. Who was not asked keeps what he had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias, TypeVar

LOOKS: Final = 4
"""Looks in an interval: what hangs is known after one and a quarter of it."""
FEW: Final = 4
"""So many that failed are no proof of anything: a client may have gone away. To a ratio so many are
added that did not fail."""


def share(done: int, failed: int, before: int) -> int:
    """Percent that were `done`, of those and the ones that `failed`; `before`: the same earlier.

    0 only if none was done: of enough, or after a 0.
    """
    if done <= 0 and failed <= 0:
        return before
    if done <= 0 and (before == 0 or failed >= FEW):
        return 0
    good = max(0, done) + FEW
    return max(1, round(100 * good / (good + max(0, failed))))


class Percent:
    """A figure that is told smoothed; `looks` in an interval."""

    def __init__(self, looks: int) -> None:
        self.told = 100
        self._of = looks
        self._looks = 0

    def step(self, value: int) -> int:
        """What was found at the next look."""
        self._looks += 1
        if value == 0 or self.told == 0:
            self.told = value
        elif self._looks % self._of == 0:
            self.told = max(1, round((3 * value + self.told) / 4))
        return self.told


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket: its id, connections that it has not accepted, and how many may wait."""

    cookie: bytes
    waiting: int
    room: int


Span: TypeAlias = tuple[int, int]
"""Connections that were established so far, read before the queues of listeners, and after."""


@dataclass(frozen=True, slots=True)
class _Seen:
    established: Span | None
    waiting: dict[bytes, int]


class Accepting:
    """SEF of the listeners that serve one address and port."""

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque(maxlen=LOOKS + 1)
        self._percent = Percent(LOOKS)

    def step(self, established: Span | None, waiting: Mapping[bytes, int]) -> int:
        """The next look. `waiting`: connections in the queue of each listener, by its cookie;
        `established`: None where nobody counts.

        Failed is what waited at every look of an interval. What else there was to accept is known
        by what was established meanwhile; where nobody counts, by the queues that got shorter.
        """
        self._seen.append(_Seen(established, dict(waiting)))
        if len(self._seen) <= LOOKS:
            return self._percent.told
        stayed = [key for key in waiting if all(key in seen.waiting for seen in self._seen)]
        failed = sum(min(seen.waiting[key] for seen in self._seen) for key in stayed)
        accepted = self._accepted(stayed)
        if failed == 0:
            return self._percent.step(100)
        if accepted == 0:
            return self._percent.step(0)
        return self._percent.step(max(1, round(100 * accepted / (accepted + failed))))

    def _accepted(self, keys: Iterable[bytes]) -> int:
        """Connections that left the queues in the interval, at the least."""
        left = grown = 0
        for key in keys:
            queue = [seen.waiting[key] for seen in self._seen]
            left += sum(max(0, one - other) for one, other in pairwise(queue))
            grown += queue[-1] - queue[0]
        first, last = self._seen[0].established, self._seen[-1].established
        if first is None or last is None:
            return left
        return max(left, last[0] - first[1] - grown)


class Completing:
    """CER of one service."""

    def __init__(self) -> None:
        self._percent = Percent(1)
        self._open: frozenset[bytes] = frozenset()
        self._established: int | None = None

    def step(self, established: int | None, half_open: frozenset[bytes]) -> int:
        """The next look, an interval after the last one. Failed is what was half-open then, and is.

        When nobody counts what is `established`, what is not half-open any more was completed.
        """
        failed = len(self._open & half_open)
        before, done = self._established, len(self._open) - failed
        if established is not None and before is not None:
            done = established - before
        self._open, self._established = half_open, established
        return self._percent.step(share(done, failed, self._percent.told))


class Reaching:
    """TCSR of one target of a service, as its distributor counts."""

    def __init__(self) -> None:
        self._sent: deque[int] = deque(maxlen=LOOKS + 2)
        self._lost: deque[int] = deque(maxlen=LOOKS + 1)
        self._percent = Percent(LOOKS)

    def step(self, sent: int, completed: int) -> int:
        """The next look: connections so far.

        Those sent since the last look may still be under way. Of those before so many were lost as
        are missing, or were missing once, for later ones may have taken their place; but not more
        than are missing of all: late ones may have come. Counters that run backwards belong to
        another target: it begins anew.
        """
        if self._sent and sent < self._sent[-1]:
            self._sent.clear()
            self._lost.clear()
        missing = (self._sent[-1] if self._sent else sent) - completed
        lost = max(missing, self._lost[-1]) if self._lost else missing
        self._lost.append(min(lost, sent - completed))
        self._sent.append(sent)
        if len(self._sent) < LOOKS + 2:
            return self._percent.told
        failed = max(0, self._lost[-1] - self._lost[0])
        done = self._sent[-2] - self._sent[0] - failed
        return self._percent.step(share(done, failed, self._percent.told))


Target = TypeVar("Target")


def compared(found: Mapping[Target, int]) -> dict[Target, int]:
    """Percentages of the targets of a service, in relation to the best of them: what clients do
    not answer, as those of a flood, is nobody's fault."""
    best = max(found.values(), default=0)
    if best == 0:
        return dict.fromkeys(found, 100)
    return {target: -(-100 * value // best) for target, value in found.items()}
