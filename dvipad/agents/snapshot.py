"""Counters at one moment; two of them make a reading. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.agents.formula import Level, Reading, Stalls

SHORTEST_S: Final = 0.2
"""Over a shorter time counters say nothing: those of /proc/stat have steps of 10 ms."""


@dataclass(frozen=True, slots=True)
class Used:
    """A limit in CPUs, and the CPU time that was used of it so far, in seconds."""

    name: str
    limit: float
    used_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Of a node or a server at `at_s` (a clock that never goes back).

    `stalled_s`: seconds that tasks waited so far, by cpu, memory, io; those that the host does not
    count are missing. `own_s`: CPU time of servers of DVIPAs, by cgroup. Rest: see `Reading`.
    """

    at_s: float
    levels: tuple[Used, ...]
    own_s: dict[str, float]
    low_s: float = 0.0
    runnable: float | None = None
    stalled_s: dict[str, float] | None = None
    available: float = 1.0


def between(before: Snapshot, after: Snapshot) -> Reading | None:
    """What happened from `before` to `after`; None: too little time, or nothing to compare."""
    passed_s = after.at_s - before.at_s
    if passed_s < SHORTEST_S:
        return None
    known = {used.name: used.used_s for used in before.levels}
    levels = tuple(
        Level(used.limit, max(0.0, used.used_s - known[used.name]) / passed_s)
        for used in after.levels
        if used.name in known
    )
    if not levels:
        return None
    own_s = sum(
        max(0.0, used_s - before.own_s[name])
        for name, used_s in after.own_s.items()
        if name in before.own_s
    )
    low_s = max(0.0, after.low_s - before.low_s)
    return Reading(
        levels,
        own_s / passed_s,
        low_s / passed_s,
        after.runnable,
        _stalls(before.stalled_s or {}, after.stalled_s or {}, passed_s),
        after.available,
    )


def _stalls(before: dict[str, float], after: dict[str, float], passed_s: float) -> Stalls:
    shares = {
        kind: min(1.0, max(0.0, waited_s - before[kind]) / passed_s)
        for kind, waited_s in after.items()
        if kind in before
    }
    return Stalls(shares.get("cpu", 0.0), shares.get("memory", 0.0), shares.get("io", 0.0))
