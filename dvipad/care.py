"""What a node does lest it harm itself and others: it asks before it takes an address, tells when
another host claims one, and looks for troubles of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from dvipad.adapters.conflicts import ConflictWatcher
from dvipad.adapters.health import Health, HealthSettings
from dvipad.adapters.probe import Prober
from dvipad.adapters.sights import Seen, Sights
from dvipad.adapters.troubles import Patience
from dvipad.adapters.uplinks import neighbour_macs
from dvipad.address import Address, order
from dvipad.core.inputs import SeenElsewhere, TroublesChanged
from dvipad.core.membership import Life
from dvipad.core.vipa import State

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

WATCH_INTERVAL_S: Final = 1.0
NEIGHBOURS_S: Final = 1.0
"""The kernel is asked for neighbours at most once in this time."""
ASKED: Final = 3
"""Hosts of peers that are looked for on the link when there is no session with anybody."""
ASK_MS: Final = 200


class Care:
    """`prober` asks the network; `counters` are what `dvipactl counters` shows of all this."""

    def __init__(self, daemon: Daemon) -> None:
        config = daemon.config
        self._daemon = daemon
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="care")
        self.counters: Counter[str] = Counter()
        self.prober = Prober(config.uplinks, config.timers.probe_ms, self._slow, self.counters)
        ask_ms = max(config.timers.probe_ms, ASK_MS)
        asking = (config.uplinks, ask_ms, self._slow, Counter[str]())
        self._neighbours = Prober(*asking, rivals=False)
        self._peers = KnownPeers(daemon)
        self._sights = Sights(config.uplinks, self._neighbours, self._peers, self.counters)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._health: Health | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._conflicts())
            group.create_task(self._sights.run())
            if self._daemon.config.health.enabled:
                self._health = self._make_health()
                group.create_task(self._health.run())

    def ran(self, late_ms: int) -> None:
        """The loop did what it does all the time, so much later than it should."""
        if self._health is not None:
            self._health.ran(late_ms)

    def joined(self) -> None:
        """The operator said joingroup: troubles that stuck are over."""
        if self._health is not None:
            self._health.forgive()

    def _make_health(self) -> Health:
        config = self._daemon.config
        health = config.health
        settings = HealthSettings(
            config.uplinks,
            (config.paths.run, config.paths.state),
            config.timers.dead_ms,
            Patience(health.persist_ms, health.uplink_ms, health.clear_ms, health.rejoin),
        )
        return Health(
            settings, self._slow, self._disk, self._mesh_broken, self._trouble, self.counters
        )

    def _trouble(self, troubles: frozenset[str]) -> None:
        self._daemon.feed(TroublesChanged(troubles))
        self._daemon.mesh.tell_troubles(troubles)

    async def _mesh_broken(self) -> str | None:
        """Hosts of peers are there, but their mesh does not even refuse, and there is no other.

        Only a host on the link of an uplink can be asked: one that a probe finds "in use".
        """
        if self._daemon.node.context.membership.names_up():
            return None
        asked = sorted({each.address for each in self._daemon.mesh.unanswered}, key=order)[:ASKED]
        results = await asyncio.gather(*map(self._neighbours.probe, asked), return_exceptions=True)
        there = [
            str(address)
            for address, result in zip(asked, results, strict=True)
            if isinstance(result, OSError) and result.errno == errno.EADDRINUSE
        ]
        return f"{', '.join(there)} there, but no answer from the mesh" if there else None

    async def _conflicts(self) -> None:
        uplinks = self._daemon.config.uplinks
        claimed = self._sights.claimed
        watcher = ConflictWatcher(uplinks, self._peers.members, claimed, self.counters)
        try:
            while True:
                watcher.watch(self._peers.owned())
                await asyncio.sleep(WATCH_INTERVAL_S)
        finally:
            watcher.close()

    def close(self) -> None:
        """After `run` has ended, and no address is probed any more."""
        self._slow.shutdown()
        self._disk.shutdown(wait=False)  # a disk that hangs must not keep the node from leaving


class KnownPeers:
    """What `Sights` and `ConflictWatcher` have to know of the node and its peers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._macs: dict[bytes, str] = {}
        self._macs_until_s = 0.0

    def silent(self, name: str) -> bool:
        """Whether there is no session with `name`."""
        return not self._daemon.node.context.membership.is_up(name)

    def missing(self) -> bool:
        """Whether a peer fell silent."""
        peers = self._daemon.node.context.membership
        return any(peer.life is Life.DEAD and not peer.left for peer in peers)

    def owned(self) -> list[Address]:
        """DVIPAs that this node distributes."""
        owners = self._daemon.node.owners
        return [vipa.dvipa for vipa in owners if vipa.state is State.ACTIVE]

    def patience(self, dvipa: Address, name: str) -> int:
        """How slow this node is to yield."""
        owners = self._daemon.node.owners
        vipa = owners.get(dvipa)
        return owners.patience(vipa, name) if vipa is not None else 0

    def seen(self, claims: Seen) -> None:
        """Everything that peers are seen to have."""
        self._daemon.feed(SeenElsewhere(claims))

    def members(self) -> dict[bytes, str]:
        """The cluster's nodes by link-layer address, as far as they are neighbours."""
        if time.monotonic() >= self._macs_until_s:
            peers = self._daemon.node.context.membership
            names = {peer.member.xcf: peer.member.name for peer in peers}
            with contextlib.suppress(OSError):
                macs = neighbour_macs(names)
                self._macs = {mac: names[address] for mac, address in macs.items()}
            self._macs_until_s = time.monotonic() + NEIGHBOURS_S
        return self._macs
