"""Runs the agent that measures this node, and tells the core what it found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dvipad.adapters.inet_diag import InetDiag
from dvipad.agents.sampler import Sampler, SamplerSettings
from dvipad.agents.workload import Listeners, WorkloadAgent
from dvipad.core.inputs import Measured
from dvipad.quality import QualityWatch

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

log = logging.getLogger(__name__)


class Workload:
    """`agent` has what was read last, `quality` watches services. It works in a thread of its own:
    a slow /proc must hold up neither heartbeats nor the data plane."""

    def __init__(self, daemon: Daemon) -> None:
        config = daemon.config.workload
        cpus = None if config.cpu_percent is None else config.cpu_percent / 100
        self._daemon = daemon
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="workload")
        self._now = asyncio.Event()
        self._readable = True
        sampler = Sampler(SamplerSettings(config.cgroup, cpus))
        self.agent = WorkloadAgent(sampler, config.interval_ms)
        self.quality = QualityWatch(daemon)

    def counters(self) -> dict[str, int]:
        """Looks, and what went wrong; nodes whose weights lapsed."""
        return {**self.agent.counters, "lapsed": self._daemon.node.workloads.lapsed}

    def hurry(self) -> None:
        """The operator announced another weight: it is told at once."""
        self._now.set()

    async def run(self) -> None:
        """Look at node and services, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure())
            group.create_task(self.quality.run())

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = self._daemon.config.workload.interval_ms / 1000
        diag = InetDiag()
        listeners: Listeners = {}
        try:
            while True:
                self._now.clear()
                ports, announced = self._ports(), self._announced()
                with contextlib.suppress(OSError):  # not now: they are what they were
                    listeners = await loop.run_in_executor(
                        self._thread, diag.listener_cgroups, ports
                    )
                weights = await loop.run_in_executor(
                    self._thread, self.agent.look, listeners, announced
                )
                self._note(self.agent.reading is not None)
                if weights is not None:
                    self._daemon.feed(Measured(weights))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._now.wait(), interval_s)
        finally:
            diag.close()

    def _note(self, readable: bool) -> None:
        """One line when readings go, and when they are back."""
        if readable is not self._readable and self.agent.counters["looks"] > 1:
            self._readable = readable
            if readable:
                log.info("the workload of this node can be measured again")
            else:
                log.warning("the workload of this node cannot be measured: /proc/stat or cgroup")

    def _announced(self) -> int | None:
        ordered = self._daemon.orders.weight
        return self._daemon.config.workload.weight if ordered is None else ordered

    def _ports(self) -> frozenset[int]:
        """Ports on which this node serves a DVIPA now."""
        node, own = self._daemon.node, self._daemon.config.name
        return frozenset(
            port for dvipa in node.target.hidden for port in node.dpt.ready(own, dvipa)
        )

    def close(self) -> None:
        """After `run` has ended."""
        self.quality.close()
        self._thread.shutdown(wait=False)
