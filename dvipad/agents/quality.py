"""From what TCP counts to the part of a weight that is left: the whole formula, no I/O (P4).

    loss     = retransmits / segments
    timeouts = times that the retransmission timer ran out / segments
    use      = connections / those that the service is built for
    left     = (1 - cut(loss)) · (1 - cut(timeouts)) · (1 - cut(use))

`cut` grows by steps: each whole multiple of a ratio cuts so much, up to a limit. Counts are of the
last interval, and of each interval before a quarter as much as of the next. Below `SEGMENTS_MIN` of
them a ratio is of so many: one segment of ten that was lost says nothing. A service that sent
nothing in an interval, because it gets nothing, is forgiven half of what it lost.

What is no number, negative, or runs backwards counts as nothing; it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.tcp_info import Flow

MEMORY: Final = 0.25
"""Part of what was counted until an interval ago that still counts."""
SEGMENTS_MIN: Final = 100
"""Segments of which a ratio is, at least."""
FULL_FROM: Final = 0.8
"""Part of the connections that a service is built for from which they cut its weight; at all of
them nothing is left."""
_NOTHING: Final = Flow(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Steps:
    """Each whole multiple of `per_mille` cuts `percent`, up to `most` percent."""

    per_mille: int
    percent: int
    most: int

    def cut(self, ratio: float) -> int:
        """Percent that `ratio` (0 to 1) cuts."""
        if not ratio > 0:  # also what is no number
            return 0
        multiples = math.floor(min(ratio, 1.0) * 1000 / self.per_mille + 1e-9)
        return min(self.most, multiples * self.percent)


@dataclass(frozen=True, slots=True)
class Cuts:
    """What ratios cut, as z/OS does by default. `connections`: what a service is built for."""

    loss: Steps = Steps(20, 25, 95)
    timeouts: Steps = Steps(50, 50, 100)
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a service in the last interval. Ratios; `round_trip_us`: median, None: not measured."""

    loss: float = 0.0
    timeouts: float = 0.0
    use: float | None = None
    round_trip_us: int | None = None


def left(figures: Figures, cuts: Cuts) -> int:
    """Percent of a weight that is left."""
    use = figures.use if figures.use is not None and math.isfinite(figures.use) else 0.0
    full = min(1.0, max(0.0, (use - FULL_FROM) / (1 - FULL_FROM)))
    parts = (cuts.loss.cut(figures.loss), cuts.timeouts.cut(figures.timeouts))
    return round(100 * math.prod(1 - part / 100 for part in parts) * (1 - full))


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a service. `flows`: connections that there are, by cookie; `whole`: all of
    them. `ended`: all that are over, since somebody counts, and `more`: how many more began than
    ended since then; None: nobody does."""

    flows: Mapping[bytes, Flow]
    whole: bool
    ended: Flow | None
    more: int = 0


class Quality:
    """Of one service. `backwards`: counters that were less than before."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._last: Look | None = None
        self._segments = self._retransmits = self._timeouts = 0.0
        self._round_trip_us: int | None = None
        self._uncounted: int | None = None
        self.backwards = 0

    def step(self, now: Look) -> Figures:
        """The next look, an interval after the last one."""
        grown = self._grown(self._last, now) if self._last else _NOTHING
        self._last = now
        if grown.segments:
            self._segments = MEMORY * self._segments + grown.segments
            self._retransmits = MEMORY * self._retransmits + grown.retransmits
            self._timeouts = MEMORY * self._timeouts + grown.timeouts
        else:
            self._retransmits /= 2
            self._timeouts /= 2
        trips = sorted(flow.round_trip_us for flow in now.flows.values() if flow.round_trip_us > 0)
        self._round_trip_us = trips[len(trips) // 2] if trips else self._round_trip_us
        of = max(self._segments, SEGMENTS_MIN)
        return Figures(
            min(1.0, self._retransmits / of),
            min(1.0, self._timeouts / of),
            self._use(now),
            self._round_trip_us,
        )

    def _use(self, now: Look) -> float | None:
        """Connections that cannot all be listed are known since a look at which they could."""
        if now.whole:
            self._uncounted = len(now.flows) - now.more
        known = now.whole or (self._uncounted is not None and now.ended is not None)
        if self._cuts.connections is None or self._uncounted is None or not known:
            return None
        return max(0, self._uncounted + now.more) / self._cuts.connections

    def _grown(self, last: Look, now: Look) -> Flow:
        """What was counted between two looks.

        A connection that only one of them saw began or ended in between, if both saw all there
        were. What those that ended had at the last look is not new.
        """
        stayed = last.flows.keys() & now.flows.keys()
        found = [self._more(now.flows[key], last.flows[key]) for key in stayed]
        if last.whole and now.whole:
            found += [flow for key, flow in now.flows.items() if key not in stayed]
            if last.ended is not None and now.ended is not None:
                gone = total(flow for key, flow in last.flows.items() if key not in stayed)
                found.append(_less(self._more(now.ended, last.ended), gone))
        return total(found)

    def _more(self, now: Flow, before: Flow) -> Flow:
        back = now.segments < before.segments or now.retransmits < before.retransmits
        self.backwards += back
        return _NOTHING if back else _less(now, before)


def _less(one: Flow, other: Flow) -> Flow:
    return Flow(
        max(0, one.segments - other.segments),
        max(0, one.retransmits - other.retransmits),
        max(0, one.timeouts - other.timeouts),
    )


def total(flows: Iterable[Flow]) -> Flow:
    """All of them together."""
    segments = retransmits = timeouts = 0
    for flow in flows:
        segments += flow.segments
        retransmits += flow.retransmits
        timeouts += flow.timeouts
    return Flow(segments, retransmits, timeouts)
