"""The daemon: joins core and adapters, and owns the loop.

Inputs come from the mesh, the sockets' events, finished effects, signals and the clock; each
takes the core one step, and the effects go to the runner. Decisions about SYNs are made in
another process, work in the kernel is done in another thread, so the mesh's heartbeat waits for
neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from dvipad import logs
from dvipad.adapters.events import EventRing, about
from dvipad.adapters.features import Features, detect
from dvipad.adapters.guard import drop_guard, keep_guard
from dvipad.adapters.inbox import Inbox
from dvipad.adapters.kernel import Kernel
from dvipad.adapters.links import LinkWatcher
from dvipad.adapters.mesh import MeshTransport, TransportSettings
from dvipad.adapters.notify import notify
from dvipad.adapters.orders_file import OrdersFile
from dvipad.adapters.queue_keeper import QueueKeeper
from dvipad.adapters.rules import queue_rules
from dvipad.adapters.runner import Runner
from dvipad.care import Care
from dvipad.config.check import Configuration, load
from dvipad.config.errors import ConfigError
from dvipad.config.model import Profile
from dvipad.core.effects import Decision, Preferred, Refusal, WatchRanges
from dvipad.core.inputs import Input, Ordered, ProfileChanged, Stalled, Started, StopRequested
from dvipad.core.node import Node
from dvipad.core.orders import Orders
from dvipad.measures import Measures
from dvipad.operator import Operator
from dvipad.policing import Policing
from dvipad.setup import (
    core_settings,
    distributes,
    kernel_settings,
    mesh_settings,
    node_guard,
    queue_settings,
)
from dvipad.status.keeper import StatusKeeper
from dvipad.wire.events import MeshEvent, PeerDown, PeerUp
from dvipad.workload import Workload

RENEWALS: Final = 4
"""Renewals of a lease within its time."""
REPAIR_INTERVAL_S: Final = 1.0
EVENTS_REST_S: Final = 0.015
"""Socket events are read this long after the last reading at the earliest, so that they batch."""
LISTEN_S: Final = 10.0
LISTEN_RETRY_S: Final = 0.1
NICE: Final = -15
SWITCH_INTERVAL_S: Final = 0.0005
"""How long the kernel thread may keep the loop from running Python code."""
_NS_PER_MS: Final = 1_000_000
LATE_S: Final = 0.25

log = logging.getLogger("dvipad")


def now_ms() -> int:
    """Milliseconds of CLOCK_MONOTONIC, the clock of the eBPF programs too."""
    return time.monotonic_ns() // 1_000_000


class Daemon:
    """One node. `run` ends when the node left the cluster."""

    def __init__(
        self, configuration: Configuration, path: Path, features: Features, events: EventRing
    ) -> None:
        self.config = configuration.node
        self.profile = configuration.profile
        self.policing = Policing(self, configuration.policies)
        self.status = StatusKeeper(self, configuration.status)
        self.events = events
        self.measures = Measures()
        self._features = features
        self.node = Node(core_settings(self.config))
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._commands = ThreadPoolExecutor(1, thread_name_prefix="commands")
        self._path = path
        self._timer: asyncio.TimerHandle | None = None
        self._repair_now = asyncio.Event()
        self._left = asyncio.Event()
        self._renewed_ms = now_ms()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start everything, serve until the node is told to leave, and leave."""
        loop = asyncio.get_running_loop()
        settings = kernel_settings(self.config, self._features)
        self.kernel = await loop.run_in_executor(self.thread, Kernel, settings)
        inbox = Inbox(self._mesh_event, lambda held: self.mesh.hold(held))
        self.mesh = MeshTransport(TransportSettings(mesh_settings(self.config)), inbox.put)
        self.queue = self._queue_keeper(settings.plane.queue_mark)
        self.operator = Operator(self)
        self.care, self.workload = Care(self), Workload(self)
        ends = (self.feed, self._left.set, self._heard, self.care.prober.probe)
        self.runner = Runner(self.kernel, self.thread, self.mesh, *ends)
        self._orders_file = OrdersFile(self.config.paths.run, self.config.paths.state)
        self.orders = self._orders_file.load()
        self._guard = node_guard(self._features, settings.plane)
        if not distributes(self.config):
            await self._drop_rules(settings.plane.queue_mark)
        adopted = await loop.run_in_executor(self.thread, self.kernel.adopted)
        if self.kernel.plane.grace_over() and any(row.owned for row in adopted):
            self.feed(Stalled())  # others may have taken over what it owned
        self._renewed_ms = now_ms()
        self._renew_lease()
        self.follow(self.profile)
        self.policing.start()
        self.feed(Ordered(self.orders))
        await self._watch_ranges()
        await self._read_sockets_once()
        if self.queue is not None:
            await self.queue.start()
        self.feed(Started(adopted))
        await self._listen()
        await self.operator.start()
        self._signals(loop)
        self._serve(loop)
        name, xcf = self.config.name, self.config.xcf
        log.info("node %s is up, XCF address %s", name, xcf, extra=about("start", node=name))
        notify("READY=1")
        await self._left.wait()
        await self._shut_down()

    async def _watch_ranges(self) -> None:
        """Before the start: what applications bound long ago is not wanted anew (D10)."""
        ranges = frozenset((row.network, row.prefix_length) for row in self.profile.ranges)
        failure = await self.runner.attempt(WatchRanges(ranges))
        if failure is not None:
            log.error("VIPARANGE does not work: %s", failure)

    async def _listen(self) -> None:
        """An IPv6 XCF address cannot be used while the kernel checks it for duplicates."""
        give_up = time.monotonic() + LISTEN_S
        while True:
            # From the moment in which it listens, a daemon without a lease counts as hung.
            self._renewed_ms = now_ms()
            self._renew_lease()
            try:
                return await self.mesh.start()
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > give_up:
                    raise
            await asyncio.sleep(LISTEN_RETRY_S)

    def _queue_keeper(self, mark: int) -> QueueKeeper | None:
        """Without NFQUEUE the kernel makes every choice itself."""
        if self._features.queue is None or not distributes(self.config):
            return None
        rules = queue_rules(self._features.queue, mark, self.config.queue.number)
        return QueueKeeper(queue_settings(self.config), rules, self._commands)

    async def _drop_rules(self, mark: int) -> None:
        """A pure target has none; it may have been more than that before."""
        if self._guard is not None:
            await drop_guard(self._guard, self._commands)
            self._guard = None
        if self._features.queue is not None:
            rules = queue_rules(self._features.queue, mark, self.config.queue.number)
            await asyncio.get_running_loop().run_in_executor(self._commands, rules.remove)

    def _signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.feed, StopRequested())
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._renewed_ms = now_ms()
        self.links = LinkWatcher(self.config.uplinks, self.mesh.counters, self._repair_now.set)
        self._spawn(self.runner.run())
        self._spawn(self._keep_lease())
        self._spawn(self._repair())
        for part in (self.care.run, self.policing.keep_time, self.workload.run, self.status.run):
            self._spawn(part())
        if self._guard is not None:
            self._spawn(keep_guard(self._guard, self._commands))
        if self.queue is not None:
            self._spawn(self.queue.keep())
            self._spawn(self.queue.repair())
        loop.add_reader(self.kernel.fileno(), self._sockets_readable)

    async def _shut_down(self) -> None:
        notify("STOPPING=1")
        loop = asyncio.get_running_loop()
        self.links.close()
        await self.mesh.stop("stopped")
        for task in self._tasks:
            task.cancel()
        loop.remove_reader(self.kernel.fileno())
        if self.queue is not None:
            await self.queue.stop()
        hidden = frozenset(self.node.target.hidden)
        idle = not await loop.run_in_executor(self.thread, self.kernel.ending, hidden)
        if idle and self._guard is not None:
            # Before the programs go, or the packets that they do not see would be dropped.
            await drop_guard(self._guard, self._commands)
        await loop.run_in_executor(self.thread, self.kernel.destroy if idle else self.kernel.close)
        await self.operator.stop()
        self.thread.shutdown()
        self.care.close()
        self.workload.close()
        self._commands.shutdown()
        log.info("left%s", "" if idle else ", hidden addresses stay for their connections")

    # -- inputs and effects -------------------------------------------------------------------

    def feed(self, event: Input) -> None:
        """One step of the core."""
        self.runner.submit(self.node.step(event, now_ms()))
        self.operator.activation.stepped()
        self._arm()

    def _heard(self, effect: Decision | Refusal | Preferred) -> None:
        if isinstance(effect, Preferred):
            self.status.preferred(effect)
        else:
            self.measures.heard(effect)
            self.operator.activation.heard(effect)

    def _mesh_event(self, event: MeshEvent) -> None:
        if isinstance(event, PeerUp | PeerDown):
            logs.log_peer(event)
        self.feed(event)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.node.deadline()
        if deadline is not None:
            delay_s = max(0, deadline - now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.runner.submit(self.node.expire(now_ms()))
        self.operator.activation.stepped()
        self._arm()

    def order(self, orders: Orders) -> None:
        """Follow the operator; raises ``OSError``, and follows not, when it cannot be kept."""
        self._orders_file.save(orders)
        self.orders = orders
        self.feed(Ordered(orders))

    def follow(self, profile: Profile) -> None:
        """Follow another profile: what did not change is not disturbed (D11)."""
        self.profile = profile
        self.measures.followed()
        self.feed(ProfileChanged(profile))

    def reload(self) -> None:
        """Follow all files as they are now; with a defect in one nothing changes (D11)."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}")
        self._read_again()
        notify("READY=1")

    def _read_again(self) -> None:
        try:
            configuration = load(self._path)
        except ConfigError as error:
            self.measures.refused()
            log.error("configuration not changed:\n%s", error)
            return
        if configuration.node != self.config:
            log.warning("changes of %s itself need a restart", self._path)
        self.follow(configuration.profile)
        self.policing.follow(configuration.policies)
        self.status.follow(configuration.status)
        log.info("configuration read again", extra=about("profile"))

    # -- sockets ------------------------------------------------------------------------------

    def _sockets_readable(self) -> None:
        asyncio.get_running_loop().remove_reader(self.kernel.fileno())
        self._spawn(self._read_sockets())

    async def _read_sockets(self) -> None:
        await self._read_sockets_once()
        await asyncio.sleep(EVENTS_REST_S)
        asyncio.get_running_loop().add_reader(self.kernel.fileno(), self._sockets_readable)

    async def _read_sockets_once(self) -> None:
        loop = asyncio.get_running_loop()
        for event in await loop.run_in_executor(self.thread, self.kernel.read_events):
            self.feed(event)

    # -- periodic work ------------------------------------------------------------------------

    def _renew_lease(self) -> None:
        """A node whose lease lapsed does not believe itself at once: others may find it dead."""
        now, timers = now_ms(), self.config.timers
        if now - self._renewed_ms > timers.lease_ms:
            log.warning("this node did not run for %d ms", now - self._renewed_ms)
            self.feed(Stalled())
        self._renewed_ms = now
        if self.node.sure():
            times = (timers.lease_ms, timers.restart_grace_ms)
            self.kernel.plane.renew_lease(*(time.monotonic_ns() + ms * _NS_PER_MS for ms in times))

    async def _keep_lease(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = self.config.timers.lease_ms / RENEWALS / 1000
        while True:
            self._renew_lease()
            due = loop.time() + interval_s
            await asyncio.sleep(interval_s)
            late_s = loop.time() - due
            self.measures.late.observe(late_s)
            self.care.ran(int(late_s * 1000))
            if late_s > LATE_S:
                log.warning("the loop was %.0f ms late", late_s * 1000)

    async def _repair(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._repair_now.wait(), REPAIR_INTERVAL_S)
            self._repair_now.clear()
            notify("WATCHDOG=1")  # both the loop and the thread of the kernel got here
            try:
                missing = await loop.run_in_executor(self.thread, self.kernel.repair)
            except OSError as error:
                log.error("repair failed: %s", error)
                continue
            for dvipa in missing:
                told = about("repair", dvipa=dvipa)
                log.warning("somebody removed %s; it is back", dvipa, extra=told)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """A task that ends with an error is a bug: stop, the service manager restarts."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("stopping after a defect", exc_info=task.exception())
            with contextlib.suppress(Exception):
                notify("STATUS=stopping after a defect")
            # Not a clean stop: nobody is told, the next daemon adopts what this one leaves.
            sys.stderr.flush()
            signal.raise_signal(signal.SIGKILL)


def _hurry() -> None:
    """Heartbeats must leave in time, whatever else this host does: a late one is a takeover."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if os.getpriority(os.PRIO_PROCESS, 0) <= NICE:
        return  # the service manager did it
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        log.warning("no right to raise the priority (CAP_SYS_NICE); heartbeats may be late")


def main(path: Path) -> int:
    """Run the node that `path` (YAML) describes; returns the exit status."""
    events = logs.set_up()
    try:
        configuration = load(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in configuration.warnings:
        log.warning("%s", warning)
    _hurry()
    features = detect()
    for missing in features.missing:
        log.log(logging.CRITICAL if missing.fatal else logging.WARNING, "%s", missing.text())
    if features.fatal():
        return 1
    try:
        asyncio.run(Daemon(configuration, path, features, events).run())
    except OSError as error:
        log.critical("cannot start: %s", error)
        return 1
    return 0
