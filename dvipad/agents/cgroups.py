"""Cgroups (version 2) as far as a node measures itself by them: limits, time, memory, pressure."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Final

from dvipad.adapters.bpf.cgroup import mounts
from dvipad.agents import proc
from dvipad.agents.snapshot import Used

TOP: Final = PurePosixPath("/")
GROUPS_MAX: Final = 20_000
"""Cgroups that are looked at for one id, at the most."""
KINDS: Final = ("cpu", "memory", "io")
WHO: Final = {"cpu": "some", "memory": "full", "io": "full"}
"""Whose waiting counts, in files of PSI."""


def read(path: Path) -> str:
    """The text of `path`; empty when there is none, or it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def find_root(mountinfo: str) -> Path | None:
    """Where the hierarchy is mounted, by ``/proc/self/mountinfo``."""
    with contextlib.suppress(ValueError, IndexError):
        for place in map(Path, mounts(mountinfo)):
            if (place / "cgroup.controllers").exists():
                return place
    return None


class Cgroups:
    """The hierarchy at `root`; None: this host has none, and every cgroup is empty.

    Cgroups are named by their path below `root`, as in ``/proc/PID/cgroup``.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._names: dict[int, PurePosixPath | None] = {}

    def _file(self, group: PurePosixPath, name: str) -> str:
        return "" if self._root is None else read(self._root / group.relative_to(TOP) / name)

    def name_of(self, number: int) -> PurePosixPath | None:
        """The cgroup with that id (the inode of its folder); None: there is none, or it is the
        top, where the processes are that nobody put anywhere."""
        known = self._names.get(number)
        if known is not None and self._number(known) == number:
            return known
        if number not in self._names or known is not None:
            self._names[number] = self._search(number)
        return self._names[number]

    def forget_strangers(self) -> None:
        """Ids that were not found may be looked for again: their cgroups may be in sight now."""
        self._names = {number: name for number, name in self._names.items() if name is not None}

    def _number(self, group: PurePosixPath) -> int | None:
        if self._root is None:
            return None
        with contextlib.suppress(OSError):
            return (self._root / group.relative_to(TOP)).stat().st_ino
        return None

    def _search(self, number: int) -> PurePosixPath | None:
        if self._root is None or self._number(TOP) == number:
            return None
        waiting, seen = [self._root], 0
        while waiting and seen < GROUPS_MAX:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    seen += 1
                    if entry.inode() == number:
                        return TOP / Path(entry.path).relative_to(self._root)
                    waiting.append(Path(entry.path))
        return None

    def used_s(self, group: PurePosixPath) -> float | None:
        """CPU time that the cgroup used so far, in seconds."""
        used_us = proc.fields(self._file(group, "cpu.stat")).get("usage_usec")
        return None if used_us is None else used_us / 1e6

    def low_s(self, group: PurePosixPath) -> float:
        """Part of it at low priority (Linux 6.12 and later tell)."""
        return proc.fields(self._file(group, "cpu.stat")).get("nice_usec", 0) / 1e6

    def levels(self, group: PurePosixPath) -> tuple[Used, ...]:
        """Limits of the cgroup, and of those around it, as far as there are any."""
        found = []
        for each in (group, *group.parents):
            limit = proc.cpu_limit(self._file(each, "cpu.max"))
            used_s = self.used_s(each)
            if limit is not None and used_s is not None:
                found.append(Used(str(each), limit, used_s))
        return tuple(found)

    def stalled_s(self, group: PurePosixPath) -> dict[str, float]:
        """Seconds that its tasks waited so far, by kind (PSI)."""
        return {
            kind: waited_s
            for kind in KINDS
            if (waited_s := proc.stalled_s(self._file(group, f"{kind}.pressure"), WHO[kind]))
            is not None
        }

    def available(self, group: PurePosixPath) -> float:
        """Share of its memory that is left, or of that of a cgroup around it, if that is less.

        What only caches files, and was not used lately, is left.
        """
        shares = [1.0]
        for each in (group, *group.parents):
            limit = proc.number(self._file(each, "memory.max").strip())
            used = proc.number(self._file(each, "memory.current").strip())
            if limit and used is not None:
                cache = proc.fields(self._file(each, "memory.stat")).get("inactive_file", 0)
                shares.append(1 - max(0, used - cache) / limit)
        return min(shares)
