"""Hosts of a lab with less CPU than the machine: cgroups with a limit.

The limit is cpu.max of version 2. Where the machine has the CPU controller in version 1, it is
there, and a cgroup of version 2 beside it has the counters.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.cgroup import mounts
from dvipad.lab.spec import LabError

PERIOD_US: Final = 20_000
"""A host that has spent its share waits for the next period: short, as if it had a slower CPU."""
MAX_WEIGHT: Final = 10_000
MAX_SHARES: Final = 262_144
END_S: Final = 5.0
_ENTER: Final = 'for group in $GROUPS_OF_LAB; do echo $$ >"$group/cgroup.procs"; done; exec "$@"'


def _hierarchies() -> tuple[Path, Path | None]:
    """Of version 2, and that of version 1 with the CPU controller, if it is not in version 2."""
    table = Path("/proc/self/mountinfo").read_text()
    roots = [path for place in mounts(table) if (path := Path(place)).is_dir()]
    if not roots:
        raise LabError("no cgroups (version 2) on this machine")
    if "cpu" in (roots[0] / "cgroup.controllers").read_text().split():
        return roots[0], None
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup" and "cpu" in after.split()[2].split(","):
            return roots[0], Path(before.split()[4])
    raise LabError("no CPU controller of cgroups on this machine")


class Capacity:
    """A cgroup that may use `cpus` CPUs (None: as much as that around it); processes are put into
    one that has no other inside. `with` removes it, and kills what is left in it."""

    def __init__(self, name: str, cpus: float | None, around: Capacity | None = None) -> None:
        root, limits = _hierarchies()
        self.name: str = f"{around.name if around else ''}/{name}"
        """As in ``/proc/PID/cgroup``, and in the node file."""
        self._folders = [base / self.name[1:] for base in (root, limits) if base is not None]
        for folder in self._folders:
            folder.mkdir(exist_ok=True)
        if limits is None:
            with suppress(OSError):  # it may be so already
                (self._folders[0].parent / "cgroup.subtree_control").write_text("+cpu")
        if around is None:
            self._prefer(limits is None)
        if cpus is not None:
            self._limit(round(cpus * PERIOD_US), limits is None)

    def _prefer(self, unified: bool) -> None:
        """What is in it has what it may use, whatever else runs on this machine."""
        if unified:
            (self._folders[0] / "cpu.weight").write_text(str(MAX_WEIGHT))
        else:
            (self._folders[1] / "cpu.shares").write_text(str(MAX_SHARES))

    def _limit(self, quota_us: int, unified: bool) -> None:
        if unified:
            (self._folders[0] / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (self._folders[1] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._folders[1] / "cpu.cfs_quota_us").write_text(str(quota_us))

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in it."""
        groups = " ".join(map(str, self._folders))
        return ["env", f"GROUPS_OF_LAB={groups}", "sh", "-c", _ENTER, "sh", *argv]

    def __enter__(self) -> Capacity:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill what is in it, and remove it."""
        deadline = time.monotonic() + END_S
        while True:
            for folder in self._folders:
                for pid in (folder / "cgroup.procs").read_text().split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            try:
                for folder in tuple(self._folders):
                    folder.rmdir()
                    self._folders.remove(folder)
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"{self.name} cannot be removed: {error}") from None
            time.sleep(0.01)
