"""Counts the CRT, page by page: for the metrics when they are asked for; for balanced services, and
policies that look at active connections, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dvipad.adapters.bpf.tally import Row
from dvipad.core.inputs import ActiveCounted

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

COUNT_AGAIN_S: Final = 5.0
"""A count of the CRT that is older is made anew for the metrics."""
BALANCE_S: Final = 1.0
"""Between two counts for balanced services and for policies."""
BALANCE_SHARE: Final = 50
"""The pause is so many times what the count took: a large CRT costs no more than 2 % of a CPU."""


class Counting:
    """Runs the census of the data plane; :meth:`start` within the loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._counting: asyncio.Task[None] | None = None
        self._balancing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Count for balanced services, until :meth:`stop`."""
        self._balancing = asyncio.get_running_loop().create_task(self._balance())

    def stop(self) -> None:
        """Count no more."""
        for task in (self._balancing, self._counting):
            if task is not None:
                task.cancel()

    def again(self) -> None:
        """Begin to count, unless that is under way, or was done a moment ago."""
        census = self._daemon.kernel.plane.tally.census
        old_ns = time.monotonic_ns() - COUNT_AGAIN_S * 1e9
        if self._counting is None and (census is None or census.at_ns < old_ns):
            self._begin()

    def _begin(self) -> asyncio.Task[None]:
        self._counting = asyncio.get_running_loop().create_task(self._count())
        return self._counting

    async def _balance(self) -> None:
        pause_s = BALANCE_S
        while True:
            await asyncio.sleep(pause_s)
            wanted = self._daemon.node.distributor.to_count()
            if wanted or self._daemon.kernel.plane.distribution.balance:
                began = time.monotonic()
                await (self._counting or self._begin())
                pause_s = max(BALANCE_S, BALANCE_SHARE * (time.monotonic() - began))
            if wanted:
                await self._tell(wanted)

    async def _tell(self, rows: Sequence[Row]) -> None:
        """Tell the core what was counted."""
        loop, tally = asyncio.get_running_loop(), self._daemon.kernel.plane.tally
        found = await loop.run_in_executor(self._daemon.thread, tally.rows, rows)
        self._daemon.feed(ActiveCounted(tuple(zip(rows, found.active, strict=True))))

    async def _count(self) -> None:
        """Page by page: what the core wants done is done in between."""
        loop, tally = asyncio.get_running_loop(), self._daemon.kernel.plane.tally
        try:
            with contextlib.suppress(OSError, RuntimeError):  # the daemon leaves
                while await loop.run_in_executor(self._daemon.thread, tally.count_on):
                    pass
        finally:
            self._counting = None
