"""What the kernel knows of the daemon's processes, and of its queue, from /proc."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_UTIME, _STIME, _START, _SIZE, _RSS = 11, 12, 19, 20, 21
"""Places in /proc/PID/stat behind the name of the command (proc(5))."""
_QUEUE: Final = "net/netfilter/nfnetlink_queue"
_WAITING, _DROPPED, _USER_DROPPED = 2, 5, 6


@dataclass(frozen=True, slots=True)
class Process:
    """CPU time, user and system; memory; when it started, in seconds since 1970; open files, None
    where they may not be seen."""

    cpu_s: float
    resident_bytes: int
    virtual_bytes: int
    started_s: float
    open_files: int | None


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """The process `pid`; None when there is none."""
    folder = proc / str(pid)
    try:
        words = (folder / "stat").read_text().rpartition(")")[2].split()
        booted = _booted_s(proc)
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        cpu_s = (int(words[_UTIME]) + int(words[_STIME])) / ticks
        started_s = booted + int(words[_START]) / ticks
        resident, virtual = int(words[_RSS]) * page, int(words[_SIZE])
    except (OSError, ValueError, IndexError):
        return None
    files = None
    with contextlib.suppress(OSError):
        files = sum(1 for _ in (folder / "fd").iterdir())
    return Process(cpu_s, resident, virtual, started_s, files)


@cache
def _booted_s(proc: Path) -> int:
    """When the host started, in seconds since 1970."""
    return int((proc / "stat").read_text().partition("btime ")[2].split()[0])


@dataclass(frozen=True, slots=True)
class Queue:
    """An NFQUEUE: packets that wait for a verdict, and those dropped because it was full, or
    because its reader's socket was."""

    waiting: int = 0
    dropped: int = 0
    user_dropped: int = 0


def read_queue(number: int, proc: Path = PROC) -> Queue:
    """The queue `number` of this process's network namespace; all 0 when nobody bound it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (proc / "self" / _QUEUE).read_text().splitlines():
            words = line.split()
            if int(words[0]) == number:
                return Queue(int(words[_WAITING]), int(words[_DROPPED]), int(words[_USER_DROPPED]))
    return Queue()
