"""What daemons take: CPU time, memory, maps, and the time of their eBPF programs."""

from __future__ import annotations

import ctypes
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import UPLINK, LabError

TAIL_S: Final = 0.5
"""Ends of connections are told in batches, ten times a second: those of a load belong to it."""
RUN_TIME: Final = 0
"""BPF_STATS_RUN_TIME of <linux/bpf.h>."""
_PROCESS_CLOCK: Final = 2
"""CPUCLOCK_SCHED of a process, see clock_getcpuclockid(3): user and system, in ns."""
_RESIDENT: Final = re.compile(r"^(?:RssAnon|RssFile):\s+(\d+) kB$", re.MULTILINE)
_MAP: Final = re.compile(r"^(memlock|map_id):\s*(\d+)$", re.MULTILINE)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that the processes have taken so far, all their threads, user and system, in s.

    Raises :class:`LabError` when one has ended: what it took is not known any more.
    """
    try:
        return sum(time.clock_gettime_ns(~pid << 3 | _PROCESS_CLOCK) for pid in pids) / 1e9
    except OSError as error:
        raise LabError(f"a daemon or its worker has ended meanwhile: {error}") from None


def resident_kb(status: str) -> int:
    """RssAnon and RssFile of the text of /proc/PID/status, in KiB."""
    return sum(int(found) for found in _RESIDENT.findall(status))


def map_memory(fdinfo: str) -> tuple[int, int] | None:
    """(map's id, bytes) of the text of /proc/PID/fdinfo/FD; None: it is no map."""
    found = {key: int(value) for key, value in _MAP.findall(fdinfo)}
    return (found["map_id"], found["memlock"]) if len(found) == 2 else None


def cost_us(spent_s: float, idle_cores: float, elapsed_s: float, connections: int) -> float:
    """CPU time for one connection, in us, of `spent_s` in `elapsed_s` without the idle share."""
    if connections <= 0:
        raise LabError("no connection was made")
    return (spent_s - idle_cores * elapsed_s) / connections * 1e6


class Meter:
    """The daemon of the host `name` and its workers; each look finds out who they are."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    def pids(self) -> list[int]:
        """They who are there now."""
        return self._cluster.daemon_processes(self._name)

    def cost_us(self, idle_cores: float, load: Callable[[], int]) -> float:
        """CPU time for each connection of `load`, which returns how many it made."""
        pids = self.pids()
        before_s, began_s = cpu_s(pids), time.monotonic()
        connections = load()
        time.sleep(TAIL_S)
        elapsed_s = time.monotonic() - began_s
        return cost_us(cpu_s(pids) - before_s, idle_cores, elapsed_s, connections)

    def program_ns(self, load: Callable[[], int]) -> float:
        """Time of the ingress program for each packet of `load`, within `program_statistics`."""
        runs, spent_ns = self.program()
        load()
        runs_after, spent_after_ns = self.program()
        if runs_after <= runs:
            raise LabError(f"{self._name}: the kernel does not count what its programs do")
        return (spent_after_ns - spent_ns) / (runs_after - runs)

    def program(self) -> tuple[int, int]:
        """Runs of the program on the uplink's ingress, and their time in ns; (0, 0) when nobody
        counts (:func:`program_statistics`)."""
        filters = ["tc", "-j", "filter", "show", "dev", UPLINK, "ingress"]
        found = program_ids(self._cluster.run(self._name, filters).stdout)
        if len(found) != 1:
            raise LabError(f"{self._name}: programs {found} on {UPLINK}, not one")
        shown = self._cluster.run(self._name, ["bpftool", "-j", "prog", "show", "id", str(*found)])
        row = json.loads(shown.stdout)
        return row.get("run_cnt", 0), row.get("run_time_ns", 0)

    def resident_kb(self) -> int:
        """Resident memory of all of them: RssAnon and RssFile."""
        return sum(resident_kb(Path(f"/proc/{pid}/status").read_text()) for pid in self.pids())

    def maps(self) -> dict[int, int]:
        """Every eBPF map that one of them holds, and its memory in bytes."""
        found: dict[int, int] = {}
        for pid in self.pids():
            for path in Path(f"/proc/{pid}/fdinfo").iterdir():
                row = map_memory(_text(path))
                if row is not None:
                    found[row[0]] = row[1]
        return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""  # closed since


def program_ids(text: str) -> list[int]:
    """The ids of the programs in the JSON of `tc filter show`."""
    rows = json.loads(text or "[]")
    return [row["options"]["prog"]["id"] for row in rows if "prog" in row.get("options", {})]


@contextmanager
def program_statistics() -> Iterator[None]:
    """The kernel counts runs and time of eBPF programs meanwhile, and stops when this ends, however
    it ends: that hangs on a descriptor."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    descriptor = libbpf.bpf_enable_stats(RUN_TIME)
    if descriptor < 0:
        raise LabError(f"bpf_enable_stats: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(descriptor)


def idle_cores(meters: Sequence[Meter], seconds: float) -> list[float]:
    """The share of a core that each of them takes, looked at for `seconds` at the same time."""
    pids = [meter.pids() for meter in meters]
    before_s, began_s = [cpu_s(each) for each in pids], time.monotonic()
    time.sleep(seconds)
    elapsed_s = time.monotonic() - began_s
    pairs = zip(pids, before_s, strict=True)
    return [(cpu_s(each) - old_s) / elapsed_s for each, old_s in pairs]
