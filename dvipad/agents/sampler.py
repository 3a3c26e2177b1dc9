"""Reads what a node and its servers use, and have: /proc, PSI, cgroups. It never raises."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dvipad.agents import proc
from dvipad.agents.cgroups import KINDS, TOP, WHO, Cgroups, find_root, read
from dvipad.agents.snapshot import Snapshot, Used

MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """`cgroup`: everything in it is the node, not the whole machine. `cpus`: what the node has,
    instead of what machine and cgroup say. `proc`: where /proc is."""

    cgroup: str | None = None
    cpus: float | None = None
    proc: Path = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was found at one moment: the node, and servers by cgroup."""

    node: Snapshot
    servers: dict[PurePosixPath, Snapshot]


class Sampler:
    """Looks when it is told to; `clock`: seconds that never go back."""

    def __init__(
        self,
        settings: SamplerSettings,
        cgroups: Cgroups | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        found = find_root(read(settings.proc / "self/mountinfo")) if cgroups is None else None
        self.cgroups = Cgroups(found) if cgroups is None else cgroups
        self._group = TOP / (settings.cgroup or "").lstrip("/")

    def look(self, servers: Collection[PurePosixPath]) -> Sighting | None:
        """The counters of now, with those of the cgroups `servers`; None: nothing is readable."""
        at_s = self._clock()
        machine = proc.machine_time(read(self._settings.proc / "stat"))
        levels = self._levels(machine)
        if not levels:
            return None
        inside = [group for group in servers if group.is_relative_to(self._group)]
        used = {group: self.cgroups.used_s(group) for group in inside}
        own = {
            str(group): used_s
            for group, used_s in used.items()
            if used_s is not None and not any(other in used for other in group.parents)
        }
        whole = self._group == TOP
        node = Snapshot(
            at_s,
            levels,
            own,
            self._low_s(machine),
            max(0, machine.runnable - 1) if machine and whole else None,
            self._stalled_s() if whole else self.cgroups.stalled_s(self._group),
            min(self._memory(), self.cgroups.available(self._group)),
        )
        found = {
            group: self._server(node, group, used_s)
            for group, used_s in used.items()
            if used_s is not None
        }
        return Sighting(node, found)

    def _server(self, node: Snapshot, group: PurePosixPath, used_s: float) -> Snapshot:
        around = {used.name: used for used in (*self.cgroups.levels(group), *node.levels)}
        return replace(
            node,
            levels=tuple(around.values()),
            own_s={str(group): used_s},
            stalled_s=self.cgroups.stalled_s(group),
            available=min(node.available, self.cgroups.available(group)),
        )

    def _levels(self, machine: proc.MachineTime | None) -> tuple[Used, ...]:
        """Every limit of the node; of those that it has by itself none, if it was told what it
        has."""
        whole = self._group == TOP
        cpus = self._settings.cpus
        if cpus is not None:
            used_s = machine.busy if whole and machine else self.cgroups.used_s(self._group)
            return () if used_s is None else (Used("node", cpus, used_s),)
        limits = self.cgroups.levels(self._group)  # of the top: a container has some there
        if machine is None:
            return limits
        return (*limits, Used(MACHINE, machine.cpus, machine.busy))

    def _low_s(self, machine: proc.MachineTime | None) -> float:
        if self._group == TOP:
            return machine.low if machine else 0.0
        return self.cgroups.low_s(self._group)

    def _stalled_s(self) -> dict[str, float]:
        files = {kind: read(self._settings.proc / "pressure" / kind) for kind in KINDS}
        found = {kind: proc.stalled_s(text, WHO[kind]) for kind, text in files.items()}
        return {kind: waited_s for kind, waited_s in found.items() if waited_s is not None}

    def _memory(self) -> float:
        fields = proc.fields(read(self._settings.proc / "meminfo"))
        total, left = fields.get("MemTotal", 0), fields.get("MemAvailable")
        return 1.0 if not total or left is None else left / total
