"""What must hold at every step, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from dvipad.address import Address
from dvipad.core.dpt import target_spec
from dvipad.core.effects import (
    Announce,
    Decision,
    Effect,
    PlaceAddress,
    Refusal,
    Role,
    SetDvipa,
)
from dvipad.core.inputs import ConnectionsEnded, EffectDone, EffectFailed, Input
from dvipad.core.vipa import OWNING, TABLE, Ownership, State, Trigger
from dvipad.wire.events import MessageReceived
from dvipad.wire.messages import TermConn

from .exclusive import Exclusive
from .scenario import TIMERS, Fault, Kind

if TYPE_CHECKING:
    from .daemon import Daemon
    from .kernel import KernelEffect
    from .traffic import Connection
    from .world import Host, World

SPREAD_MS: Final = 300
"""What a node says of its listeners is distributed by then."""
REFUSED_MS = 250
"""A connection made by an owner that cannot stay one, because its kernel refuses, goes with it."""
SETTLE_MS: Final = 1_200
"""A daemon that started, or was disturbed, is not held to much for so long."""
DETECT_MS: Final = 700
"""A host without power is known to be dead by then."""
COLLECT_MS: Final = 1_500
"""A CRT is complete by then, when nothing disturbs those that owe it."""
MOST_RELAYS: Final = 2
"""By who gave the DVIPA up to the distributor, by that to the target; more is a loop."""
EXPIRE_EVERY: Final = 8
"""Every so many steps the core is asked whether time alone would change anything."""

Memory: TypeAlias = list[tuple[Ownership, State, int, bool, str]]


class Violation(Exception):
    """A rule does not hold."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Checks:
    """The rules; each names itself in its violation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epochs: dict[tuple[str, Address], int] = {}
        self._all_disturbed_ms = 0
        self._pairs_ms: dict[frozenset[str], int] = {}
        self._refused_ms: list[int] = []
        self._faults: list[tuple[int, Fault]] = []
        self._steps = 0
        self._exclusive = Exclusive(world, self)
        self.counted = 0
        self.most_relays = 0
        self.refusals: list[tuple[str, Refusal]] = []

    def fail(self, rule: str, text: str) -> None:
        """Report a violation."""
        self._world.trace("RULE", f"{rule}: {text}")
        raise Violation(rule, f"at {self._world.loop.now_ms} ms: {text}")

    # -- steps of the core ---------------------------------------------------------------------

    def started(self, daemon: Daemon) -> None:
        """A new daemon remembers no epoch but those in its kernel."""
        for key in [key for key in self._epochs if key[0] == daemon.host.name]:
            del self._epochs[key]

    def before(self, daemon: Daemon) -> Memory:
        """What `after` compares with."""
        return [
            (vipa, vipa.state, vipa.effect_id, vipa.done, vipa.failed)
            for vipa in daemon.node.owners
        ]

    def after(
        self, daemon: Daemon, event: Input | None, memory: Memory, effects: list[Effect]
    ) -> None:
        """After one step of a node."""
        self.counted += 1
        name, adopting = daemon.host.name, daemon.adopting
        states = {vipa.dvipa: state for vipa, state, *_ in memory}
        for effect in effects:
            if isinstance(effect, Decision):
                self._world.trace_decision(name, effect)
                self._decided(name, states, effect, adopting)
        for vipa in daemon.node.owners:
            if vipa.state is not states.get(vipa.dvipa, State.BACKUP) and not adopting:
                self.fail("table", f"{name}: {vipa.dvipa} came to {vipa.state} without a row")
        if isinstance(event, EffectDone | EffectFailed):
            self._superseded(name, event.effect_id, memory)
        ends = isinstance(event, ConnectionsEnded) or (
            isinstance(event, MessageReceived) and isinstance(event.message, TermConn)
        )
        if not ends:  # those come often, and leave what is due to the timer
            self._deadline(daemon)

    def _decided(
        self, name: str, states: dict[Address, State], decision: Decision, adopting: bool
    ) -> None:
        before, after = State(decision.before), State(decision.after)
        known = states.get(decision.dvipa, State.BACKUP)
        row = TABLE.get((before, Trigger(decision.trigger)))
        if (before is not known and not adopting) or row is None or row[1] is not after:
            self.fail("table", f"{name}: {known} then {decision}")
        states[decision.dvipa] = after
        key = name, decision.dvipa
        if State.PROBING in (after, before) and after is not State.TAKEOVER:
            return  # it claims nothing yet
        if decision.trigger == Trigger.RELEASED.value:
            self._released(name, decision.dvipa)
        if decision.epoch < self._epochs.get(key, 0):
            self.fail("epoch", f"{name}: {self._epochs[key]} then {decision}")
        self._epochs[key] = decision.epoch

    def _released(self, name: str, dvipa: Address) -> None:
        """Who takes over what was released finds that nobody whom it hears has it any more."""
        world = self._world
        refused = [at for at in self._refused_ms if world.loop.now_ms - at < REFUSED_MS]
        for other in world.hosts.values():
            heard = self.undisturbed_ms(world.hosts[name], other) > 0 and other.name != name
            if heard and not refused and other.kernel.owns(dvipa):
                self.fail("takeback", f"{name} assumes {dvipa} that {other.name} still has")

    def _superseded(self, name: str, effect_id: int, memory: Memory) -> None:
        for vipa, state, awaited, done, failed in memory:
            if awaited == effect_id or vipa.effect_id != awaited:
                continue
            if (vipa.done, vipa.failed, vipa.state) != (done, failed, state) and state in OWNING:
                self.fail("superseded", f"{name}: {effect_id} changed {vipa}")

    def _deadline(self, daemon: Daemon) -> None:
        now_ms = daemon.host.clock_ms()
        due_ms = daemon.due_ms
        if due_ms is not None and due_ms <= now_ms:
            self.fail("deadline", f"{daemon.host.name}: {due_ms} at {now_ms}")
        self._steps += 1
        if self._steps % EXPIRE_EVERY == 0:
            effects = daemon.node.expire(now_ms)
            if effects:
                self.fail("settled", f"{daemon.host.name}: another look gave {effects}")

    # -- effects -------------------------------------------------------------------------------

    def carrying_out(self, host: Host, effect: KernelEffect) -> None:
        """Before an effect is carried out."""
        kernel = host.kernel
        if isinstance(effect, Announce) and not kernel.owns(effect.dvipa):
            self.fail("announce", f"{host.name} announces {effect.dvipa}, which it does not serve")
        if isinstance(effect, PlaceAddress) and effect.owned:
            rules = kernel.dvipas.get(effect.dvipa)
            if rules is None or rules.role is not Role.OWNER or rules.quiet:
                self.fail("order", f"{host.name} places {effect.dvipa} before its rules")
        if isinstance(effect, SetDvipa) and effect.role is Role.OWNER:
            rules = kernel.dvipas.get(effect.dvipa)
            if rules is not None and rules.epoch > effect.epoch:
                self.fail("epoch", f"{host.name}: {rules} then {effect}")

    def carried_out(self, host: Host, effect: KernelEffect) -> None:
        """After an effect was carried out."""
        if isinstance(effect, SetDvipa | PlaceAddress):
            self._exclusive.check(effect.dvipa)

    def periodic(self) -> None:
        """What must hold at any time."""
        for dvipa in (*self._world.scenario.dvipas, *self._world.scenario.ranged):
            self._exclusive.check(dvipa)
        self._collections()

    def _collections(self) -> None:
        """Nobody waits long for nodes that it hears."""
        for host in self._world.hosts.values():
            if host.daemon is None or host.daemon.stalled:
                continue
            for dvipa, collection in host.daemon.node.owners.collections.items():
                waited_ms = host.clock_ms() - collection.started_ms
                for name in collection.awaiting:
                    calm_ms = self.undisturbed_ms(host, self._world.hosts[name])
                    if min(waited_ms, calm_ms) > COLLECT_MS:
                        text = f"{host.name} waits for {name}'s connections of {dvipa}"
                        self.fail("collection", f"{text} for {waited_ms} ms")

    # -- disturbance ---------------------------------------------------------------------------

    def disturbed(self, fault: Fault) -> None:
        """A fault begins or ends."""
        now_ms = self._world.loop.now_ms
        self._faults.append((now_ms, fault))
        match fault.kind:
            case Kind.PARTITION | Kind.SLOW | Kind.RELOAD:
                self._all_disturbed_ms = now_ms
            case Kind.CUT | Kind.FIREWALL:
                self._pairs_ms[frozenset(fault.hosts)] = now_ms

    def disturbed_pair_ms(self, one: Host, other: Host) -> int:
        """When a fault touched one of them, or what is between them, last."""
        pair_ms = self._pairs_ms.get(frozenset((one.name, other.name)), 0)
        return max(one.disturbed_ms, other.disturbed_ms, self._all_disturbed_ms, pair_ms)

    def undisturbed_ms(self, one: Host, other: Host) -> int:
        """How long both have heard each other and nothing was wrong; 0 or less when it is."""
        world = self._world
        now_ms = world.loop.now_ms
        if one.daemon is None or other.daemon is None:
            return 0
        if one.daemon.stalled or other.daemon.stalled or now_ms < world.lan.slow_until_ms:
            return 0
        since_ms = self.disturbed_pair_ms(one, other)
        if one is not other:
            if not world.lan.meshed(one.name, other.name):
                return 0
            here = one.daemon.sessions.get(other.name)
            there = other.daemon.sessions.get(one.name)
            if here is None or there is None:
                return 0
            since_ms = max(since_ms, here, there)
        return now_ms - since_ms

    def declined(self, name: str, refusal: Refusal) -> None:
        """A node does not do what it was asked for, and says why."""
        self._world.trace(name, f"   {refusal}")
        self.refusals.append((name, refusal))

    # -- connections ---------------------------------------------------------------------------

    def chosen(self, host: Host, connection: Connection, xcf: Address) -> None:
        """The distributor gives a new connection to a target."""
        world = self._world
        name = world.by_xcf(xcf)
        if name is None:
            self.fail("target", f"{host.name} chose {xcf}")
            return
        rows = [row for row in host.plan.profile.distributes if row.dvipa == connection.dvipa]
        if not rows:
            rows = [
                row
                for other in world.hosts.values()
                for row in (*other.plan.profile.distributes, *other.first.distributes)
                if row.dvipa == connection.dvipa
            ]
        # A dead daemon's kernel distributes by the profile that it knew.
        told_ms = max(self._all_disturbed_ms, host.disturbed_ms)
        calm = world.loop.now_ms - told_ms > SPREAD_MS and host.daemon is not None
        if calm and not any(target_spec(row, xcf) for row in rows):
            self.fail("target", f"{host.name} gave {connection} to {name}, no candidate")
        target = world.hosts[name]
        now_ms = world.loop.now_ms
        if name not in world.lan.up:
            dead_ms = now_ms - max(target.disturbed_ms, host.disturbed_ms, self._all_disturbed_ms)
            if dead_ms > DETECT_MS + SETTLE_MS and host.daemon is not None:
                self.fail("target", f"{host.name} gave {connection} to {name}, dead {dead_ms} ms")
        elif target.orders.refuses(connection.port):
            quiet_ms = now_ms - target.ordered_ms
            if quiet_ms > SPREAD_MS and self.undisturbed_ms(host, target) > SETTLE_MS:
                self.fail("target", f"{host.name} gave {connection} to {name}, which is quiesced")
        elif not target.kernel.listens(connection.dvipa, connection.port):
            closed_ms = now_ms - target.listeners_ms.get(connection.port, 0)
            calm_ms = self.undisturbed_ms(host, target)
            if closed_ms > SPREAD_MS and calm_ms > SETTLE_MS:
                self.fail("target", f"{host.name} gave {connection} to {name}, no listener")

    def relayed(self, connection: Connection, relays: tuple[str, ...], name: str) -> None:
        """A packet arrives at host `name` through the tunnels of `relays`."""
        self.most_relays = max(self.most_relays, len(relays))
        if len(relays) > MOST_RELAYS:
            self.fail("relays", f"{connection} goes {' → '.join((*relays, name))}")

    def strayed(self, host: Host, connection: Connection) -> None:
        """A hidden address drops what a stale neighbour cache sends there."""
        vipa = None
        if host.daemon is not None:
            vipa = host.daemon.node.owners.get(connection.dvipa)
        if vipa is not None and vipa.state in (State.GIVING, State.MOVING):
            self.fail("relay", f"{host.name} gave {connection.dvipa} up and drops {connection}")

    def refused(self, connection: Connection, name: str, why: str) -> None:
        """A SYN was answered with a RST."""
        world = self._world
        host = world.hosts[name]
        world.trace("client", f"{connection} is refused by {name}: {why}")
        if why.endswith("no DVIPA"):
            self.fail("refused", f"{connection} by {name}: an address without rules")
        if not why.endswith("no service"):
            return  # the listener closed while the SYN was on its way: `chosen` looks at that
        rows = [row for row in host.plan.profile.distributes if row.dvipa == connection.dvipa]
        for target in world.hosts.values():
            opened_ms = world.loop.now_ms - target.listeners_ms.get(connection.port, 0)
            ready = target.kernel.ready(rows, connection.dvipa, connection.port)
            ready = ready and not target.orders.refuses(connection.port)
            opened_ms = min(opened_ms, world.loop.now_ms - target.ordered_ms)
            # Targets of a backup's own statement say what they have once it distributes by it.
            opened_ms = min(opened_ms, self._owned_ms(host, connection.dvipa))
            calm_ms = self.undisturbed_ms(host, target)
            if ready and opened_ms > SPREAD_MS and calm_ms > SETTLE_MS:
                self.fail("refused", f"{connection} by {name}, but {target.name} is ready")

    def _owned_ms(self, host: Host, dvipa: Address) -> int:
        """For how long the daemon of `host` is what it is to `dvipa`."""
        vipa = host.daemon.node.owners.get(dvipa) if host.daemon is not None else None
        return self._world.loop.now_ms if vipa is None else host.clock_ms() - vipa.since_ms

    def reset(self, connection: Connection, name: str, why: str) -> None:
        """An established connection was answered with a RST."""
        world = self._world
        world.trace("client", f"{connection} is reset by {name}: {why}")
        target = world.hosts[connection.target]
        socket = target.kernel.sockets.get(connection.key)
        if socket is None or socket.nonce != connection.nonce:
            return
        excuse = self.excuse(connection)
        if not excuse:
            self.fail("reset", f"{connection} by {name}: {why}")
        connection.excuse = excuse

    def refused_by_kernel(self) -> None:
        """A kernel refuses a step of a takeover or takeback; one that is well never does."""
        self._refused_ms.append(self._world.loop.now_ms)

    def excuse(self, connection: Connection) -> str:
        """Why a living connection may have been lost: its target could not say that it has it.

        A node that takes over learns of connections from their targets alone. So a target that
        was cut off from a candidate, or whose daemon was dead or silent for longer than the
        grace, may lose them; nothing else may.
        """
        since_ms = connection.born_ms - SETTLE_MS
        for at_ms in self._refused_ms:
            if abs(at_ms - connection.opened_ms) <= REFUSED_MS:
                return f"an owner's kernel refused a step at {at_ms}, when it was opened"
        target = connection.target
        first = self._world.scenario.hosts[0].name
        dark = {
            name for _, fault in self._faults if fault.kind is Kind.POWER for name in fault.hosts
        }
        if self._world.scenario.one_seed and first in dark and len(dark) > 1:
            return f"{first}, the seed of all, was without power, too"
        for at_ms, fault in self._faults:
            ends_ms = fault.at_ms + fault.lasts_ms
            if ends_ms < since_ms:
                continue
            touched = target in fault.hosts
            match fault.kind:
                case Kind.CUT if fault.at_ms == 0:
                    return "two owners from the start, both announced"
                case Kind.CUT | Kind.FIREWALL if touched:
                    return f"{target} was cut off at {at_ms}"
                case Kind.PARTITION:
                    return f"partition at {at_ms}"
                case Kind.STALL if touched and fault.lasts_ms >= TIMERS.dead_ms - 100:
                    return f"{target} was silent at {at_ms}"
                case Kind.STOP if touched:
                    return f"{target} left at {at_ms}"
                case Kind.POWER if touched and ends_ms + SETTLE_MS > connection.opened_ms > at_ms:
                    return f"{target} booted while it was being opened"
                case Kind.KILL if touched and fault.lasts_ms >= TIMERS.restart_grace_ms - 100:
                    return f"{target}'s daemon was dead at {at_ms}"
        return ""
