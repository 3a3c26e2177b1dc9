"""Everything of one simulation, and its two phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Final

from dvipad.address import Address
from dvipad.core import distributor, rechecks, target
from dvipad.core.effects import Decision, ProbeAddress
from dvipad.core.inputs import (
    AddressesBound,
    ConnectionsEnded,
    EventsMissed,
    Input,
    Listener,
    ListenersChanged,
    Ordered,
    ProfileChanged,
    StopRequested,
    TroublesChanged,
)
from dvipad.core.orders import Orders

from .checks import Checks
from .daemon import Daemon
from .faults import Faults
from .kernel import Kernel, KernelEffect
from .lan import Lan, MeshLan
from .liveness import Liveness
from .loop import Loop
from .scenario import BIND_PORT, SESSION, TIMERS, HostPlan, Scenario, make_scenario
from .sights import Sights
from .traffic import Client, Phase, Traffic
from .workloads import Workloads

if TYPE_CHECKING:
    from .canaries import Canary

distributor.SNAPSHOT_MARGIN_MS = 250  # as short as all other times of a simulation
rechecks.REPORT_AGAIN_MS = target.REPORT_AGAIN_MS = 600  # type: ignore[attr-defined]
LEASE_MS: Final = 50
"""The daemon renews the lease of its DVIPAs so often."""


class Host:
    """A machine: a kernel while it has power, a daemon while that runs."""

    def __init__(self, world: World, plan: HostPlan) -> None:
        self.world = world
        self.plan = plan
        self.first = plan.profile
        self.name = plan.name
        self.kernel = Kernel(plan.xcf)
        self.daemon: Daemon | None = None
        self.offset_ms = plan.offset_ms
        self.disturbed_ms = 0
        self.missing_until_ms = 0
        self.slow_until_ms = 0
        self.booted_ms = 0
        self.listeners_ms: dict[int, int] = {}
        self.orders = Orders()
        self.ordered_ms = 0
        self.troubles: frozenset[str] = frozenset()
        self._binds: dict[Address, list[int]] = {}
        self._bind_number = 0
        self._incarnation = 0
        self._ended: dict[Address, bytes] = {}
        self._listen()

    def clock_ms(self) -> int:
        """The host's own clock."""
        return self.world.loop.now_ms + self.offset_ms

    def next_incarnation(self) -> int:
        """Grows with each start of the daemon."""
        self._incarnation += 1
        return self._incarnation

    def _listen(self) -> None:
        self.kernel.listeners = {(each.address, each.port): each for each in self.plan.listeners}
        for listener in self.plan.listeners:
            self.listeners_ms[listener.port] = self.world.loop.now_ms

    # -- life ----------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """The daemon starts, unless it runs already."""
        if self.daemon is None and self.name in self.world.lan.up:
            self.disturb()
            self.daemon = Daemon(self.world, self)
            self.world.checks.started(self.daemon)
            if self.world.canary is not None:
                self.world.canary.plant(self.daemon)
            self.kernel.daemon_exists = True
            self.daemon.start()
            self.renew_lease()

    def end_daemon(self, silent: bool = False) -> None:
        """The daemon ends at once."""
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            self.disturb()
            self._ended.clear()
            self.kernel.daemon_exists = False
            daemon.end(silent)

    def cut_power(self) -> None:
        """Everything that is not on disk is gone."""
        self.disturb()
        self.end_daemon(silent=True)
        self.world.lan.up.discard(self.name)
        self.kernel = Kernel(self.plan.xcf)
        self.orders, self.troubles = Orders(), frozenset()
        self._binds.clear()

    def boot(self) -> None:
        """Power is back, and the daemon is started."""
        if self.name in self.world.lan.up:
            return
        self.offset_ms = self.world.random.randint(0, 5_000) - self.world.loop.now_ms
        self.world.lan.up.add(self.name)
        self.booted_ms = self.world.loop.now_ms
        self._listen()
        self.start_daemon()

    def renew_lease(self) -> None:
        """The daemon lives: its node may answer for what it owns."""
        daemon = self.daemon
        if daemon is not None and not daemon.stalled and daemon.node.sure():
            now_ms = self.clock_ms()
            self.kernel.lease_until_ms = now_ms + SESSION.dead_ms - SESSION.heartbeat_ms
            self.kernel.grace_until_ms = now_ms + TIMERS.restart_grace_ms

    def disturb(self) -> None:
        """A fault touches this host now."""
        self.disturbed_ms = self.world.loop.now_ms

    # -- what the operator and applications do -------------------------------------------------

    def told(self) -> tuple[Input, ...]:
        """What a daemon that starts is told first."""
        return Ordered(self.orders), TroublesChanged(self.troubles), self._bound()

    def order(self, orders: Orders) -> None:
        """These are the operator's orders from now on; they outlive the daemon."""
        self.orders = orders
        self.ordered_ms = self.world.loop.now_ms
        self._tell(Ordered(self.orders))

    def reload(self) -> None:
        """The daemon follows the other profile from now on."""
        self.plan = replace(self.plan, profile=self.plan.other)
        self._tell(ProfileChanged(self.plan.profile))

    def trouble(self, what: str | None) -> None:
        """The host is in trouble, or well again."""
        self.troubles = frozenset() if what is None else frozenset({what})
        self._tell(TroublesChanged(self.troubles))

    def bind(self, dvipa: Address, change: int) -> None:
        """An application binds an address of a range and listens, or ends."""
        if self.name not in self.world.lan.up:
            return
        numbers = self._binds.setdefault(dvipa, [])
        if change > 0:
            self._bind_number += 1
            numbers.append(self._bind_number)
        elif numbers:
            numbers.pop()
        if not numbers:
            del self._binds[dvipa]
        self.set_listener(Listener(dvipa, BIND_PORT, 1), bool(numbers))
        if self.daemon is not None:
            self.daemon.later(self.world.random.randint(1, 20), self._bound)

    def _bound(self) -> AddressesBound:
        return AddressesBound(tuple((dvipa, max(row)) for dvipa, row in self._binds.items()))

    def _tell(self, event: Input) -> None:
        if self.daemon is not None:
            self.daemon.later(0, lambda: event)

    # -- what sockets do -----------------------------------------------------------------------

    def listeners_changed(self) -> ListenersChanged:
        """What the daemon is told of the listeners."""
        return ListenersChanged(tuple(self.kernel.listeners.values()))

    def set_listener(self, listener: Listener, is_open: bool) -> None:
        """A listener opens or closes."""
        key = listener.address, listener.port
        if is_open:
            self.kernel.listeners[key] = listener
        else:
            self.kernel.listeners.pop(key, None)
        self.listeners_ms[listener.port] = self.world.loop.now_ms
        if self.daemon is not None:
            self.daemon.later(self.world.random.randint(1, 10), self.listeners_changed)

    def connection_ended(self, dvipa: Address, key: bytes) -> None:
        """A connection ended here; the daemon is told of a batch."""
        if self.daemon is None or dvipa not in self.kernel.watched:
            return
        if self.world.loop.now_ms < self.missing_until_ms:
            return
        waiting = dvipa in self._ended
        self._ended[dvipa] = self._ended.get(dvipa, b"") + key
        if not waiting:
            daemon = self.daemon

            def ended() -> Input:
                return ConnectionsEnded(dvipa, self._ended.pop(dvipa, b""))

            daemon.later(self.world.random.randint(1, 10), ended)

    def miss_events(self, lasts_ms: int) -> None:
        """Events are lost for a while."""
        self.missing_until_ms = self.world.loop.now_ms + lasts_ms

    def notice_missed(self) -> None:
        """The watcher notices that events were lost, at the end of it."""
        if self.daemon is not None:
            self.daemon.later(0, lambda: EventsMissed(self.kernel.watched))


class World:
    """The simulation of one scenario; `run` raises `Violation`."""

    def __init__(
        self,
        scenario: Scenario,
        canary: Canary | None = None,
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.canary = canary
        self.random = Random(scenario.seed ^ 0x5EED)
        self.loop = Loop()
        self.lan = Lan(self.loop, self.random)
        self.mesh_lan = MeshLan(self.lan)
        self.checks = Checks(self)
        self.healing = False
        self.strange: set[Address] = set()
        self._sink = sink
        self.hosts = {plan.name: Host(self, plan) for plan in scenario.hosts}
        prefix = "198.51.100." if scenario.dvipas[0].version == 4 else "2001:db8:2::"
        clients = [Client(f"c{index}", ip_address(f"{prefix}{index}")) for index in (1, 2)]
        self.traffic = Traffic(self, clients)
        self.lan.up |= set(self.hosts) | set(self.traffic.clients)
        self.faults = Faults(self)
        self.sights, self.workloads = Sights(self), Workloads(self)
        self._xcf = {plan.xcf: plan.name for plan in scenario.hosts}

    # -- what the parts ask --------------------------------------------------------------------

    def by_xcf(self, xcf: Address) -> str | None:
        """The host with that XCF address."""
        return self._xcf.get(xcf)

    def seeds_of(self, name: str) -> tuple[Address, ...]:
        """The peers that the node file of `name` names."""
        others = [plan.xcf for plan in self.scenario.hosts if plan.name != name]
        if not self.scenario.one_seed:
            return tuple(others)
        first = self.scenario.hosts[0]
        return (first.xcf,) if first.name != name else ()

    def effect_ms(self, host: Host) -> int:
        """How long the kernel takes for an effect."""
        if self.loop.now_ms < host.slow_until_ms:
            return self.random.randint(5, 60)
        return 0 if self.random.random() < 0.7 else self.random.randint(1, 3)

    def fails(self, effect: KernelEffect) -> bool:
        """Whether a step of a sequence fails."""
        percent = self.scenario.fail_percent
        failed = not self.healing and percent > 0 and self.random.randrange(100) < percent
        if failed:
            self.checks.refused_by_kernel()
        return failed

    def duplicate(self, host: Host, effect: KernelEffect) -> bool:
        """Whether another host has the address that `host` probes for."""
        if not isinstance(effect, ProbeAddress):
            return False
        return effect.dvipa in self.strange or any(
            other is not host
            and self.lan.reach(host.name, other.name)
            and other.kernel.answers(effect.dvipa, other.clock_ms())
            for other in self.hosts.values()
        )

    def left(self, daemon: Daemon) -> None:
        """The daemon was stopped, and gave everything up."""
        daemon.mesh.leave("stopped", daemon.host.clock_ms())
        daemon.pump()
        hidden = set(daemon.node.target.hidden)
        daemon.host.end_daemon()
        if not hidden:
            kernel = daemon.host.kernel
            kernel.dvipas.clear()
            kernel.addresses.clear()
            kernel.services.clear()
            kernel.established.clear()
            kernel.embryonic.clear()
            kernel.sockets.clear()
        self.trace(daemon.host.name, "has left")
        if self.healing:
            daemon.host.start_daemon()

    # -- phases --------------------------------------------------------------------------------

    def run(self) -> None:
        """Faults and traffic; then heal, and demand convergence."""
        scenario = self.scenario
        for host in self.hosts.values():
            self.loop.at(host.plan.start_ms, host.start_daemon)
        for _ in range(scenario.connections):
            at_ms = self.random.randint(600, scenario.safety_ms)
            self.loop.at(at_ms, self._connect)
        self.faults.plan()
        self._periodic()
        self.loop.run(scenario.safety_ms)
        self.healing = True
        self.trace("world", "heals")
        self.faults.heal()
        Liveness(self).run()

    def _connect(self) -> None:
        dvipa = self.random.choice((*self.scenario.dvipas, *self.scenario.ranged))
        ranged = dvipa in self.scenario.ranged
        port = BIND_PORT if ranged else self.random.choice(self.scenario.ports)
        messages = self.random.choice((1, 3, 10_000))
        self.traffic.open(dvipa, port, messages, self.random.choice((50, 200, 500)))

    def _periodic(self) -> None:
        for host in self.hosts.values():
            host.renew_lease()
        for part in (self.sights, self.workloads, self.checks):
            part.periodic()
        self.loop.after(LEASE_MS, self._periodic)

    def stop(self, name: str) -> None:
        """A clean stop is asked for."""
        daemon = self.hosts[name].daemon
        if daemon is not None:
            self.hosts[name].disturb()
            daemon.do(lambda: daemon.feed(StopRequested()))

    # -- trace ---------------------------------------------------------------------------------

    def trace(self, who: str, text: str) -> None:
        """One line, when somebody reads."""
        if self._sink is not None:
            self._sink(f"{self.loop.now_ms:6} {who:6} {text}")

    @property
    def traced(self) -> bool:
        """Whether somebody reads."""
        return self._sink is not None

    def trace_input(self, who: str, event: Input | None) -> None:
        """An input of the core."""
        if self._sink is not None:
            self.trace(who, f"<- {'time' if event is None else short(event)}")

    def trace_effect(self, who: str, effect: KernelEffect) -> None:
        """An effect that is carried out."""
        if self._sink is not None:
            self.trace(who, f"   {short(effect)}")

    def trace_decision(self, who: str, decision: Decision) -> None:
        """A row of the table."""
        if self._sink is not None:
            self.trace(who, f"== {short(decision)}")


def short(value: object) -> str:
    """A value without what nobody wants to read."""
    text = str(value)
    for noise in ("IPv4Address", "IPv6Address", "dvipad.core.effects."):
        text = text.replace(noise, "")
    return text if len(text) < 400 else text[:400] + "…"


def simulate(
    seed: int, canary: Canary | None = None, sink: Callable[[str], None] | None = None
) -> World:
    """Run `seed`; raises `Violation`, or what a bug raises."""
    world = World(make_scenario(seed), canary, sink)
    world.run()
    return world


__all__ = ["Host", "Phase", "World", "simulate"]
