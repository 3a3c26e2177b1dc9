"""How often something took how long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

HistogramRow: TypeAlias = tuple[list[tuple[str, int]], float]
"""(upper bound, how many up to it) of each bucket, the last one without a bound; and the sum."""


class Histogram:
    """Buckets with the upper bounds `bounds`, ascending, and one for all above."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """It happened, and took `value`."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def row(self) -> HistogramRow:
        """Counts as Prometheus has them: each bucket includes those below it."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        sums, total = [], 0
        for name, count in zip(names, self._counts, strict=True):
            total += count
            sums.append((name, total))
        return sums, self._sum
