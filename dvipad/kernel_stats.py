"""Metrics that the kernel knows: read in its thread, when somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dvipad.adapters.bpf.tally import EMBRYONIC, ESTABLISHED, Connections, Row
from dvipad.adapters.process import Process, read_process, read_queue
from dvipad.address import Address
from dvipad.node_stats import Samples, counted

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

_REASONS: Final = ("stale", "dead", "window", "budget")
"""Why the worker was not asked; the counters are these behind `worker_`."""
_VERDICTS: Final = ("sent", "local", "malformed", "truncated", "no_service", "no_target", "errors")
_WAYS: Final = {
    "fast": "tunnel",
    "fast_xdp": "tunnel",
    "tunnel": "tunnel",
    "fast_direct": "direct",
    "direct": "direct",
    "relayed": "relayed",
}
"""Ways of the programs, and what they are called in the metrics."""
_TABLES: Final = ("dvipas", "services", "targets")
_NO_BINDS: Final = {"binds": 0, "releases": 0, "lost_binds": 0}
"""Of a node without ranges."""
_NS: Final = 1e-9


class KernelStats:
    """Reads for one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def read(
        self, rows: Sequence[Row], dvipas: int, names: Mapping[Address, str]
    ) -> tuple[Connections, Samples]:
        """Connections of `rows`, and all else; so many `dvipas`, nodes' `names` by XCF address."""
        daemon, plane = self._daemon, self._daemon.kernel.plane
        counters = plane.counters()
        queue = daemon.queue.counters() if daemon.queue else {}
        return plane.tally.rows(rows), {
            "dvipad_packets_total": counted(counters.items()),
            "dvipad_syn_choices_total": _choices(counters, queue),
            "dvipad_syn_budget_spent": [(int(plane.budget_spent()),)],
            **self._policies(),
            **self._queue(queue),
            **self._traffic(names),
            **self._crt(),
            **self._tables(dvipas),
            "dvipad_tunnel_mtu_bytes": [
                (names.get(xcf, str(xcf)), mtu.inner_mtu)
                for xcf, mtu in daemon.kernel.tunnels.items()
            ],
            "dvipad_socket_events_lost_total": [
                (name.removeprefix("lost_"), count)
                for name, count in daemon.kernel.sockets.counters().items()
            ],
            "dvipad_range_binds_total": list((_NO_BINDS | daemon.kernel.ranges.counters()).items()),
            **self._processes(),
        }

    def _policies(self) -> Samples:
        uses = self._daemon.kernel.plane.distribution.uses()
        rows = [((str(use.dvipa), use.port, use.policy), use) for use in uses]
        return {
            "dvipad_policy_connections_total": [
                (*labels, sum(use.chosen.values())) for labels, use in rows
            ],
            "dvipad_policy_refused_total": [(*labels, use.refused) for labels, use in rows],
        }

    def _queue(self, counters: Mapping[str, int]) -> Samples:
        waiting = read_queue(self._daemon.config.queue.number)
        return {
            "dvipad_queue_verdicts_total": [(name, counters.get(name, 0)) for name in _VERDICTS],
            "dvipad_queue_undecided": [(self._daemon.kernel.plane.undecided(),)],
            "dvipad_queue_waiting": [(waiting.waiting,)],
            "dvipad_queue_dropped_total": [
                ("queue", waiting.dropped),
                ("socket", waiting.user_dropped),
            ],
            "dvipad_queue_restarts_total": [
                ("worker", counters.get("restarts", 0)),
                ("hung worker", counters.get("hung", 0)),
                ("supervisor", counters.get("supervisor_restarts", 0)),
            ],
            "dvipad_queue_reclaimed_total": [(counters.get("reclaimed", 0),)],
        }

    def _traffic(self, names: Mapping[Address, str]) -> Samples:
        packets: list[tuple[str, str, int]] = []
        sizes: list[tuple[str, str, int]] = []
        for xcf, ways in self._daemon.kernel.plane.traffic().items():
            name = names.get(xcf, str(xcf))
            for way in sorted(set(_WAYS.values())):
                alike = [traffic for one, traffic in ways.items() if _WAYS[one] == way]
                packets.append((name, way, sum(traffic.packets for traffic in alike)))
                sizes.append((name, way, sum(traffic.bytes for traffic in alike)))
        return {"dvipad_target_packets_total": packets, "dvipad_target_bytes_total": sizes}

    def _crt(self) -> Samples:
        plane = self._daemon.kernel.plane
        census, limits = plane.tally.census, plane.limits()
        labels = {name: (name[:-1], name[-1]) for name in (*ESTABLISHED, *EMBRYONIC)}
        found: Samples = {
            "dvipad_crt_entries_max": [(*labels[name], limits[name]) for name in labels]
        }
        if census is not None:
            age_s = (time.monotonic_ns() - census.at_ns) * _NS
            found |= {
                "dvipad_crt_entries": [(*labels[name], census.entries[name]) for name in labels],
                "dvipad_crt_count_age_seconds": [(age_s,)],
            }
        return found

    def _tables(self, dvipas: int) -> Samples:
        plane = self._daemon.kernel.plane
        used, limits = {**plane.used(), "dvipas": dvipas}, plane.limits()
        return {
            "dvipad_table_entries": [(name, used[name]) for name in _TABLES],
            "dvipad_table_entries_max": [(name, limits[name]) for name in _TABLES],
        }

    def _processes(self) -> Samples:
        daemon = self._daemon
        pids = {"daemon": os.getpid(), **(daemon.queue.pids() if daemon.queue else {})}
        found = {name: read_process(pid) for name, pid in pids.items() if pid}
        there = {name: process for name, process in found.items() if process is not None}
        return {
            "dvipad_process_start_time_seconds": _each(there, "started_s"),
            "dvipad_process_cpu_seconds_total": _each(there, "cpu_s"),
            "dvipad_process_resident_memory_bytes": _each(there, "resident_bytes"),
            "dvipad_process_virtual_memory_bytes": _each(there, "virtual_bytes"),
            "dvipad_process_open_fds": _each(there, "open_files"),
        }


def _each(processes: Mapping[str, Process], field: str) -> list[tuple[str, int | float]]:
    values = ((name, getattr(process, field)) for name, process in processes.items())
    return [(name, value) for name, value in values if value is not None]


def _choices(plane: Mapping[str, int], queue: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Who decided SYNs, and why it was not the worker."""
    reasons = [(reason, plane[f"worker_{reason}"]) for reason in _REASONS]
    offload = max(0, plane["chosen"] - sum(count for _reason, count in reasons))
    return [
        ("worker", "asked", plane["queued"]),
        *(("kernel", reason, count) for reason, count in reasons),
        ("kernel", "offload", offload),
        ("none", "no service", plane["no_service"] + queue.get("no_service", 0)),
        ("none", "no target", queue.get("no_target", 0)),
        ("none", "refused", plane["refused"] + queue.get("refused", 0)),
        ("none", "policy unseen", plane["policy_unseen"]),
    ]
