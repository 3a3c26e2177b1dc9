"""Keeps the queue supervisor and its netfilter rule in place while the daemon runs.

The queue is bound first, the rule is added after. A supervisor that dies is replaced; until then
the data plane sees that nobody holds the liveness socket, and chooses by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from dvipad.adapters.queue import QueueSettings, QueueSupervisor
from dvipad.adapters.rule_keeper import KernelRules, keep_rules

READY_S: Final = 60.0
"""Two interpreters have to start for it, on a host that may be busy with all else that boots;
systemd waits for 90 s."""
RESTART_S: Final = 1.0
"""Between two attempts to start a supervisor."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class QueueKeeper:
    """`thread` runs the commands that look after the rule; they may take a while."""

    def __init__(self, settings: QueueSettings, rules: KernelRules, thread: Executor) -> None:
        self._settings = settings
        self._rules = rules
        self._thread = thread
        self._supervisor: QueueSupervisor | None = None
        self.restarts = 0

    async def start(self) -> None:
        """Bind the queue, then add the rule. Raises ``OSError`` when one of them fails."""
        self._supervisor = QueueSupervisor.start(self._settings)
        await self._supervisor.ready(READY_S)
        await self._off_loop(self._rules.ensure)

    async def keep(self) -> None:
        """Replace supervisors that end, until cancelled."""
        while True:
            await self._ended()
            self.restarts += 1
            log.error("the queue supervisor ended; the kernel chooses until another runs")
            try:
                await self.start()
            except OSError as error:
                log.error("no queue supervisor: %s", error)
                await asyncio.sleep(RESTART_S)

    async def repair(self) -> None:
        """Put the rule back when somebody removed it, until cancelled."""
        await keep_rules(self._rules, "the rule for NFQUEUE", self._thread)

    async def stop(self) -> None:
        """The worker goes first: without it nothing is marked; without the rule, what is marked
        would reach the local stack, which answers with a reset."""
        if self._supervisor is not None:
            await self._off_loop(self._supervisor.stop)
            self._supervisor = None
        try:
            await self._off_loop(self._rules.remove)
        except OSError as error:
            log.error("the rule for NFQUEUE stays: %s", error)

    def counters(self) -> dict[str, int]:
        """What the worker counted, and how often the supervisor was replaced."""
        counted = self._supervisor.counters() if self._supervisor is not None else {}
        return {**counted, "supervisor_restarts": self.restarts}

    def pids(self) -> dict[str, int]:
        """Process ids of supervisor and worker; 0: there is none."""
        if self._supervisor is None:
            return {"supervisor": 0, "worker": 0}
        return {"supervisor": self._supervisor.pid, "worker": self._supervisor.worker_pid()}

    async def _ended(self) -> None:
        supervisor = self._supervisor
        if supervisor is None:
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(supervisor.pidfd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(supervisor.pidfd)
        await self._off_loop(supervisor.stop)
        self._supervisor = None

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
