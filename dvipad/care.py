"""What a node does lest it harm itself and others: it asks before it takes an address, and tells
when another host claims one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from dvipad.adapters.conflicts import ConflictWatcher
from dvipad.adapters.probe import Prober
from dvipad.adapters.uplinks import neighbour_macs
from dvipad.core.vipa import State

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

WATCH_INTERVAL_S: Final = 1.0
NEIGHBOURS_S: Final = 1.0
"""The kernel is asked for neighbours at most once in this time."""


class Care:
    """`prober` asks the network; `counters` are what `dvipactl counters` shows of all this."""

    def __init__(self, daemon: Daemon) -> None:
        config = daemon.config
        self._daemon = daemon
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="care")
        self.counters: Counter[str] = Counter()
        self.prober = Prober(config.uplinks, config.timers.probe_ms, self._slow, self.counters)
        self._macs: set[bytes] = set()
        self._macs_until_s = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        watcher = ConflictWatcher(self._daemon.config.uplinks, self._members, self.counters)
        try:
            while True:
                owners = self._daemon.node.owners
                watcher.watch(vipa.dvipa for vipa in owners if vipa.state is State.ACTIVE)
                await asyncio.sleep(WATCH_INTERVAL_S)
        finally:
            watcher.close()

    def close(self) -> None:
        """After `run` has ended, and no address is probed any more."""
        self._slow.shutdown()

    def _members(self) -> set[bytes]:
        """Link-layer addresses of the cluster's nodes, as far as they are neighbours."""
        if time.monotonic() >= self._macs_until_s:
            peers = self._daemon.node.context.membership
            with contextlib.suppress(OSError):
                self._macs = neighbour_macs([peer.member.xcf for peer in peers])
            self._macs_until_s = time.monotonic() + NEIGHBOURS_S
        return self._macs
