"""What befalls the cluster, and how it is healed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, assert_never

from dvipad.core.orders import Verb

from .scenario import Fault, Kind

if TYPE_CHECKING:
    from .world import World


class Faults:
    """The scenario's faults, as they happen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over: dict[Fault, bool] = {}

    def plan(self) -> None:
        """Everything happens in its time."""
        for fault in self._world.scenario.faults:
            self._world.loop.at(fault.at_ms, partial(self._begin, fault))

    def heal(self) -> None:
        """Every fault is over, every host is up and has its daemon."""
        for fault in list(self._over):
            self._end(fault)
        for host in self._world.hosts.values():
            host.slow_until_ms = host.missing_until_ms = 0
            host.boot()
            for listener in host.plan.listeners:
                if (listener.address, listener.port) not in host.kernel.listeners:
                    host.set_listener(listener, True)
            if host.daemon is None:
                host.start_daemon()
        self._world.lan.slow_until_ms = 0

    def _begin(self, fault: Fault) -> None:
        world, name = self._world, fault.hosts[0]
        world.trace("fault", f"{fault.kind.value} {', '.join(fault.hosts)} for {fault.lasts_ms} ms")
        self._over[fault] = False
        world.loop.after(fault.lasts_ms, lambda: self._end(fault))
        world.checks.disturbed(fault)
        host = world.hosts.get(name)
        match fault.kind:
            case Kind.CUT:
                world.lan.cut(*fault.hosts)
            case Kind.FIREWALL:
                world.lan.filter(*fault.hosts)
            case Kind.PARTITION:
                world.lan.split(frozenset(fault.hosts))
            case Kind.STOP:
                world.stop(name)
            case Kind.STRANGER if fault.dvipa is not None:
                world.strange.add(fault.dvipa)
            case _ if host is None:
                pass
            case Kind.POWER:
                host.cut_power()
            case Kind.KILL:
                host.end_daemon()
            case Kind.STALL:
                host.disturb()
                if host.daemon is not None:
                    host.daemon.stall(world.loop.now_ms + fault.lasts_ms)
            case Kind.LISTENER:
                for listener in [each for each in host.plan.listeners if each.port == fault.port]:
                    host.set_listener(listener, False)
            case Kind.SLOW:
                host.slow_until_ms = world.loop.now_ms + fault.lasts_ms
                world.lan.slow_until_ms = world.loop.now_ms + fault.lasts_ms
            case Kind.MISS:
                host.miss_events(fault.lasts_ms)
            case Kind.DEACTIVATE:
                host.order(host.orders.with_order(Verb.DEACTIVATE, fault.dvipa, 0))
            case Kind.QUIESCE:
                host.order(host.orders.with_order(Verb.QUIESCE, None, fault.port))
            case Kind.OUTSIDE:
                host.order(host.orders.with_order(Verb.LEAVEGROUP, None, 0))
            case Kind.TROUBLE:
                host.trouble("storage full")
            case Kind.RELOAD:
                for each in fault.hosts:
                    world.hosts[each].reload()
            case Kind.BIND if fault.dvipa is not None:
                host.bind(fault.dvipa, 1)
            case Kind.ACTIVATE if fault.dvipa is not None:
                host.order(host.orders.activate(fault.dvipa))
            case Kind.BIND | Kind.ACTIVATE | Kind.STRANGER:
                raise AssertionError(f"{fault.kind} has no address")
            case _:
                assert_never(fault.kind)

    def _end(self, fault: Fault) -> None:
        if self._over.pop(fault, None) is None:
            return
        world, name = self._world, fault.hosts[0]
        world.trace("fault", f"{fault.kind.value} {', '.join(fault.hosts)} is over")
        world.checks.disturbed(fault)
        match fault.kind:
            case Kind.CUT:
                world.lan.join(*fault.hosts)
            case Kind.FIREWALL:
                world.lan.unfilter(*fault.hosts)
            case Kind.PARTITION:
                world.lan.heal(frozenset(fault.hosts))
            case Kind.POWER:
                world.hosts[name].boot()
            case Kind.KILL | Kind.STOP:
                world.hosts[name].start_daemon()
            case Kind.LISTENER:
                host = world.hosts[name]
                for listener in [each for each in host.plan.listeners if each.port == fault.port]:
                    host.set_listener(listener, True)
            case Kind.STALL:
                world.hosts[name].disturb()
            case Kind.MISS:
                world.hosts[name].notice_missed()
            case Kind.STRANGER if fault.dvipa is not None:
                world.strange.discard(fault.dvipa)
            case Kind.SLOW | Kind.RELOAD:
                pass
            case _:
                self._end_order(fault)

    def _end_order(self, fault: Fault) -> None:
        host = self._world.hosts[fault.hosts[0]]
        match fault.kind:
            case Kind.DEACTIVATE:
                host.order(host.orders.with_order(Verb.REACTIVATE, fault.dvipa, 0))
            case Kind.QUIESCE:
                host.order(host.orders.with_order(Verb.RESUME, None, fault.port))
            case Kind.OUTSIDE:
                host.order(host.orders.with_order(Verb.JOINGROUP, None, 0))
            case Kind.TROUBLE:
                host.trouble(None)
            case Kind.BIND if fault.dvipa is not None:
                host.bind(fault.dvipa, -1)
            case Kind.ACTIVATE if fault.dvipa is not None:
                host.order(host.orders.delete(fault.dvipa))
            case _:
                raise AssertionError(f"{fault.kind} has no end")
