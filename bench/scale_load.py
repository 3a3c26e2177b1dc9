"""New connections at a fixed rate, to one address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.figures import Figure
from bench.loads import SPARE_S, latency_argv, parse_latency
from bench.rivals import CLIENT
from dvipad.address import Address
from dvipad.lab.cluster import Cluster

OWNER: Final = "lb1"
RATE: Final = 1_500
"""Per second; less than the worker's budget, and a small part of what two cores can do."""
QUEUE: Final = {"window": 256, "stale_ms": 3_000, "hung_ms": 1_500}
"""The worker decides every connection, whatever else the machine does: it costs several times what
the kernel's own decision costs, and a round with more of those would look cheap."""


class Load:
    """Requests of the client to `address`, a connection each, and how many in all runs: `started`,
    `failed`, and `queued` ones that the distributor's worker decided."""

    def __init__(self, cluster: Cluster, address: Address, port: int) -> None:
        self._cluster = cluster
        self._where = address, port
        self.started = self.failed = self.queued = 0

    def run(self, seconds: int) -> int:
        """One load; returns how many connections it made."""
        before = self._queued()
        argv = latency_argv(*self._where, RATE, seconds)
        done = self._cluster.run(CLIENT, argv, timeout_s=seconds + SPARE_S)
        found = parse_latency(done.stdout)
        started = int(found["started"])
        self.started += started
        self.failed += int(found["failed"])
        self.queued += self._queued() - before
        return started

    def _queued(self) -> int:
        return int(self._cluster.ask(OWNER, "counters")["plane"]["queued"])


def totals(part: str, loads: Sequence[tuple[int, int, int]]) -> list[Figure]:
    """`loads`: started, failed and queued requests of each; `scale.failed.PART` of all, and
    `scale.queued.PART`, the least part that a worker decided."""
    queued = min(queued / started for started, _, queued in loads)
    failed = sum(failed for _, failed, _ in loads)
    return [
        Figure(f"scale.failed.{part}", failed, "requests"),
        Figure(f"scale.queued.{part}", queued, "ratio"),
    ]
