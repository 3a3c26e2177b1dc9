"""From readings to a weight: the whole formula, without any I/O (P4).

    room   = max(free + own + low / 2, fair)              CPUs that connections can have
    weight = 64 · room / capacity
                · (1 - cpu / 2) · (1 - memory) · (1 - io / 2) · min(1, available / 0.1)

`free`: what is left of the CPUs, and of the CPU limit of each cgroup around, whichever is least.
`own`: what the servers behind the DVIPAs use themselves. They can have that as well, so a weight
does not fall because connections are served: else a target that gets many would lose them again
to the others, and these to it. `low`: what runs at low priority (nice) gives way, half of it
counts. `fair`: where nothing is free, one task still gets its turns of a CPU, beside as many others
as run or could: min(1, capacity) / (1 + others / capacity).

`cpu`, `memory`, `io`: shares of time in which tasks waited for them (PSI): of CPU those in which
some did (of servers of DVIPAs, where these are known), of memory and I/O those in which all did.
`available`: share of memory that is left; below a tenth it cuts the weight, and with no memory left
the weight is 0.

All of it is of one interval. A reading that a host does not have is as if nothing was wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dvipad.wire.messages import MAX_WEIGHT

MEMORY_SHORT: Final = 0.1
"""Share of memory that is left below which it counts."""
LOW_COUNTS: Final = 0.5
"""Part of what runs at low priority that gives way: `nice` may be 1 or 19."""
CPU_WAIT_CUTS: Final = 0.5
IO_WAIT_CUTS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Level:
    """A limit of CPU time, and what is used of it: the machine's, or that of a cgroup. CPUs."""

    limit: float
    used: float


@dataclass(frozen=True, slots=True)
class Stalls:
    """Shares of time, 0 to 1: `cpu` some tasks waited; `memory`, `io` all of them did."""

    cpu: float = 0.0
    memory: float = 0.0
    io: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Of a node or of a server, over one interval.

    `levels`: every limit that holds, at least one. `own`: CPUs that servers of DVIPAs used, which
    are in `used` of every level, too. `low`: CPUs used at low priority. `runnable`: tasks that ran
    or could have, None: unknown. `available`: share of memory that is left, 0 to 1.
    """

    levels: tuple[Level, ...]
    own: float = 0.0
    low: float = 0.0
    runnable: float | None = None
    stalls: Stalls = Stalls()
    available: float = 1.0

    @property
    def capacity(self) -> float:
        """CPUs that there are at the most."""
        return min((level.limit for level in self.levels), default=0.0)

    @property
    def free(self) -> float:
        """CPUs that nobody used."""
        return max(0.0, min((level.limit - level.used for level in self.levels), default=0.0))

    def figures(self) -> tuple[tuple[str, float], ...]:
        """What it is made of, by name, for those who look."""
        return (
            ("free", self.free),
            ("own", self.own),
            ("low", self.low),
            ("cpu_wait", self.stalls.cpu),
            ("memory_wait", self.stalls.memory),
            ("io_wait", self.stalls.io),
            ("memory_left", self.available),
        )


def weight_of(reading: Reading) -> float:
    """The weight, 0 to 64, not rounded. It is 0 only without memory, or without any CPU."""
    capacity = reading.capacity
    if not math.isfinite(capacity) or capacity <= 0:
        return 0.0
    room = _share(_room(reading, capacity) / capacity)
    stalls = reading.stalls
    cuts = (
        1 - CPU_WAIT_CUTS * _share(stalls.cpu),
        1 - _share(stalls.memory),
        1 - IO_WAIT_CUTS * _share(stalls.io),
        _share(reading.available / MEMORY_SHORT),
    )
    if not cuts[-1]:
        return 0.0
    return max(1.0, MAX_WEIGHT * room * math.prod(cuts))


def _room(reading: Reading, capacity: float) -> float:
    """CPUs that connections can have."""
    room = reading.free + max(0.0, reading.own) + LOW_COUNTS * max(0.0, reading.low)
    if reading.runnable is None:
        return room
    least = min(reading.levels, key=lambda level: level.limit)
    others = max(0.0, reading.runnable, least.used - reading.own)
    return max(room, min(1.0, capacity) / (1 + others / capacity))


def _share(value: float) -> float:
    """`value` within 0 to 1; what is no number is 0."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0
