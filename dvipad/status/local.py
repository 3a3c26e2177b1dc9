"""Status objects that read what a process or a cgroup of this host uses."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from dvipad.agents.cgroups import Cgroups, find_root

_MIB: Final = 1 << 20
_STATE_FIELDS: Final = 2
"""Fields of /proc/PID/stat before the state: the number and the name, which may have blanks."""


class Rate:
    """How much of a second is used, of a sum that grows: in percent, None at first."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def percent(self, used_s: float) -> float | None:
        """`used_s`: up to now."""
        now_s = time.monotonic()
        before, self._before = self._before, (now_s, used_s)
        if before is None or used_s < before[1] or now_s <= before[0]:
            return None
        return 100 * (used_s - before[1]) / (now_s - before[0])


class Process:
    """A process, by `pid_file`, or all those whose name is `name`; down when there is none."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._options = options
        self._cpu = Rate()
        self._seen: frozenset[int] = frozenset()

    def read(self) -> Mapping[str, float]:
        """``cpu_percent`` (100: one CPU), ``memory_mb``, ``threads``."""
        used_s, pages, threads, found = 0.0, 0, 0, set()
        for pid in self._pids():
            fields = _stat(pid)
            if fields is not None:
                found.add(pid)
                used_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                threads += int(fields[17])
                pages += int(fields[21])
        if not found:
            raise ProcessLookupError("there is no such process")
        if self._seen != found:
            self._cpu, self._seen = Rate(), frozenset(found)
        percent = self._cpu.percent(used_s)
        figures = {"memory_mb": pages * os.sysconf("SC_PAGE_SIZE") / _MIB, "threads": threads}
        return figures if percent is None else figures | {"cpu_percent": percent}

    def _pids(self) -> list[int]:
        if "pid_file" in self._options:
            return [int(Path(self._options["pid_file"]).read_text().split()[0])]
        wanted = self._options["name"][:15]
        found = []
        for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of them
            if name.isdecimal() and _read(f"/proc/{name}/comm").rstrip("\n") == wanted:
                found.append(int(name))
        return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; None: it has ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields or None


class Cgroup:
    """A cgroup (version 2), by its `path` below the root; down when there is none."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._cgroups = Cgroups(find_root(_read("/proc/self/mountinfo")))
        self._group = PurePosixPath("/") / options["path"].lstrip("/")
        self._cpu, self._wait = Rate(), Rate()

    def read(self) -> Mapping[str, float]:
        """``cpu_percent`` (100: one CPU), ``cpu_wait_percent`` (of time in which some task waited
        for a CPU), ``memory_left_percent``."""
        used_s = self._cgroups.used_s(self._group)
        if used_s is None:
            raise FileNotFoundError(f"there is no cgroup {self._group}")
        figures = {"memory_left_percent": max(0.0, 100 * self._cgroups.available(self._group))}
        waited_s = self._cgroups.stalled_s(self._group).get("cpu", 0.0)
        for name, percent in (
            ("cpu_percent", self._cpu.percent(used_s)),
            ("cpu_wait_percent", self._wait.percent(waited_s)),
        ):
            if percent is not None:
                figures[name] = percent
        return figures
