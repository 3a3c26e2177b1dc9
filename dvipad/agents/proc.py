"""Files of /proc and of a cgroup, as text, to numbers. What makes no sense is None or left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USER_HZ: Final = 100
"""Ticks per second in ``/proc/stat`` (``proc(5)``): it is 100 on all that Debian runs on."""
_CPU_FIELDS: Final = 8


@dataclass(frozen=True, slots=True)
class MachineTime:
    """Since the start, over all CPUs, in seconds. `low`: at low priority, part of `busy`.

    `runnable`: tasks that run or could, now, the reader among them.
    """

    cpus: int
    busy: float
    low: float
    runnable: int


def number(text: str) -> int | None:
    """A whole number of 0 or more; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def machine_time(text: str) -> MachineTime | None:
    """``/proc/stat``. Waiting for I/O is not being busy; what a hypervisor stole is."""
    cpus, runnable = 0, 1
    total: list[int] | None = None
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "cpu":
            values = [number(word) for word in words[1 : 1 + _CPU_FIELDS]]
            total = [value for value in values if value is not None]
        elif words[0].startswith("cpu"):
            cpus += 1
        elif words[0] == "procs_running" and len(words) > 1:
            runnable = number(words[1]) or 1
    if total is None or len(total) < _CPU_FIELDS or not cpus:
        return None
    user, low, system, _idle, _wait, irq, softirq, stolen = total
    busy = user + low + system + irq + softirq + stolen
    return MachineTime(cpus, busy / USER_HZ, low / USER_HZ, runnable)


def stalled_s(text: str, who: str) -> float | None:
    """Seconds that `who` (some, full) waited, since the start, by a PSI file."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] != [who]:
            continue
        for word in words[1:]:
            name, _, value = word.partition("=")
            if name == "total":
                stalled_us = number(value)
                return None if stalled_us is None else stalled_us / 1e6
    return None


def fields(text: str) -> dict[str, int]:
    """Lines of a name and a number: ``cpu.stat``, ``memory.stat``, ``/proc/meminfo``."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        value = number(words[1]) if len(words) > 1 else None
        if value is not None:
            found[words[0].rstrip(":")] = value
    return found


def cpu_limit(text: str) -> float | None:
    """``cpu.max``, in CPUs; None: there is no limit."""
    words = text.split()
    values = [number(word) for word in words[:2]]
    if len(values) != len(words) or len(values) != 2:
        return None
    quota, period = values
    return quota / period if quota and period else None
