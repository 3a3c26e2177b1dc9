"""Watches how services of this node do, and as a distributor how it reaches those of others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from dvipad.adapters.events import about
from dvipad.adapters.inet_diag import CONNECTED, InetDiag, State, sample
from dvipad.adapters.socket_events import Service
from dvipad.agents.quality import Cuts, Steps
from dvipad.agents.responsiveness import LOOKS, Reaching, compared
from dvipad.agents.services import Connections, ServicesAgent, Sight
from dvipad.config.quality import QualityConfig
from dvipad.core.inputs import Measured, Reach, Reached
from dvipad.wire.messages import Quality

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

CONNECTIONS_MAX: Final = 4_096
"""Connections that are looked at in an interval. What all others lost is known when they are
over."""
HALF_OPEN_MAX: Final = 4_096
FILTERED_MAX: Final = 64
"""DVIPAs that the kernel is asked for by their addresses; with more it lists all sockets."""

log = logging.getLogger(__name__)


class QualityWatch:
    """`agent` has what was seen last. It works in a thread of its own, but for maps of eBPF."""

    def __init__(self, daemon: Daemon) -> None:
        config = daemon.config.quality
        self._daemon = daemon
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quality")
        self._rest_s = config.interval_ms / 1000 / LOOKS
        self._reaching: dict[tuple[str, Service], Reaching] = {}
        self._reached = Reached(())
        self._told: Quality | None = None
        self.agent = ServicesAgent(config.interval_ms, cuts_of(config))

    async def run(self) -> None:
        """Look, until cancelled."""
        loop = asyncio.get_running_loop()
        diag = InetDiag()
        due_s, looks = loop.time(), 0
        try:
            while True:
                looks += 1
                try:
                    await self._look(diag, ends_interval=looks % LOOKS == 0)
                except OSError:  # the kernel has no time now; it is tried again
                    self.agent.counters["unreadable"] += 1
                await self._count()
                due_s = max(due_s + self._rest_s, loop.time())
                await asyncio.sleep(due_s - loop.time())
        finally:
            diag.close()

    async def _look(self, diag: InetDiag, *, ends_interval: bool) -> None:
        """At the services of this node. Others hear of it at the end of an interval, and at once
        when one does not answer any more, or does again."""
        services = self._services()
        if not services and (self._told is None or not self._told.services):
            return
        loop, kernel = asyncio.get_running_loop(), self._daemon.thread
        tallies = self._daemon.kernel.sockets.tallies
        before = await loop.run_in_executor(kernel, tallies)
        ports = frozenset(port for _, port in services)
        listeners = await loop.run_in_executor(self._thread, diag.listening, ports)
        after = await loop.run_in_executor(kernel, tallies)
        found = None
        if ends_interval:
            found = await loop.run_in_executor(self._thread, _connections, services)
        sight = Sight(before, listeners, after, found)
        said = await loop.run_in_executor(self._thread, self.agent.look, services, sight)
        mute = _mute(said)
        if ends_interval or mute != _mute(self._told):
            _log_mute(_mute(self._told), mute)
            self._told = said
            self._daemon.feed(Measured(said))

    def _services(self) -> Collection[Service]:
        """Ports on which this node serves a DVIPA now."""
        node, own = self._daemon.node, self._daemon.config.name
        return [
            (dvipa, port) for dvipa in node.target.hidden for port in node.dpt.ready(own, dvipa)
        ]

    async def _count(self) -> None:
        """How many of the connections sent to each target were completed.

        Of a server that does not accept anything it says nothing: what its full queue refused is
        forgotten when it accepts again.
        """
        node, plane = self._daemon.node, self._daemon.kernel.plane
        rows = [
            (row, service)
            for service, known in node.distributor.services().items()
            for row in known.rows
            if row.ready > 0
        ]
        if not rows and not self._reaching and not self._reached.rows:
            return  # no distributor, as most nodes at most times
        asked = [(*service, row.xcf) for row, service in rows]
        counts = await asyncio.get_running_loop().run_in_executor(
            self._daemon.thread, plane.distribution.reached, asked
        )
        reaching: dict[tuple[str, Service], Reaching] = {}
        found: dict[Service, dict[str, int]] = {}
        for (row, service), (sent, completed) in zip(rows, counts, strict=True):
            if node.distributor.fitness(row.name, *service).sef > 0:
                one = self._reaching.get((row.name, service)) or Reaching()
                reaching[row.name, service] = one
                found.setdefault(service, {})[row.name] = one.step(sent, completed)
        self._reaching = reaching
        reached = Reached(
            tuple(
                Reach(name, *service, tcsr)
                for service, targets in found.items()
                for name, tcsr in compared(targets).items()
                if tcsr < 100
            )
        )
        if reached != self._reached:
            _log_mute(_unreached(self._reached), _unreached(reached))
            self._reached = reached
            self._daemon.feed(Measured(reached))

    def close(self) -> None:
        """After `run` has ended."""
        self._thread.shutdown(wait=False)


def cuts_of(config: QualityConfig) -> Cuts:
    """What the node file says of cuts."""
    return Cuts(
        Steps(config.loss_per_mille, config.loss_cut_percent, config.loss_most_percent),
        Steps(config.timeout_per_mille, config.timeout_cut_percent, config.timeout_most_percent),
        config.connections or None,
    )


def _connections(services: Collection[Service]) -> Connections:
    dvipas = frozenset(dvipa for dvipa, _ in services)
    local = dvipas if len(dvipas) <= FILTERED_MAX else ()
    rows, whole = sample(CONNECTED, local, CONNECTIONS_MAX, info=True)
    half_open, _ = sample(frozenset({State.SYN_RECV}), local, HALF_OPEN_MAX)
    return Connections(rows, whole, half_open)


def _unreached(reached: Reached) -> frozenset[tuple[object, ...]]:
    """Targets that complete no connection."""
    return frozenset((each.dvipa, each.port, each.name) for each in reached.rows if not each.tcsr)


def _log_mute(before: frozenset[tuple[object, ...]], now: frozenset[tuple[object, ...]]) -> None:
    """One line for each that ceases to answer (TSR 0), and for each that answers again."""
    for dvipa, port, *name in sorted(now ^ before, key=str):
        what = f"{name[0]}, as a target of" if name else "the server of"
        told = about("responsiveness", dvipa=dvipa, port=port)
        if (dvipa, port, *name) in now:
            log.warning("%s %s..%s does not answer", what, dvipa, port, extra=told)
        else:
            log.info("%s %s..%s answers again", what, dvipa, port, extra=told)


def _mute(said: Quality | None) -> frozenset[tuple[object, ...]]:
    """Services that do not answer."""
    services = () if said is None else said.services
    return frozenset((each.dvipa, each.port) for each in services if min(each.sef, each.cer) == 0)
