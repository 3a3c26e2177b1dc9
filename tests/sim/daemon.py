"""A daemon in virtual time: a `Node`, a `Mesh`, and a runner that carries effects out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dvipad.address import Address
from dvipad.core.context import NodeSettings
from dvipad.core.effects import (
    Announce,
    Broadcast,
    CountConnections,
    Decision,
    DumpCrt,
    DumpSockets,
    Effect,
    Leave,
    Preferred,
    ProbeAddress,
    Refusal,
    Send,
    Sequence,
    Step,
)
from dvipad.core.inputs import (
    EffectDone,
    EffectFailed,
    Input,
    ProfileChanged,
    Stalled,
    Started,
    TroublesChanged,
)
from dvipad.core.node import Node
from dvipad.versions import OLDEST
from dvipad.wire.actions import Close, Datagram, DatagramsMissing, Dial, Ending, Misfit, Write
from dvipad.wire.events import HostAnswered, MessageReceived, PeerDown, PeerUp
from dvipad.wire.mesh import Mesh, MeshSettings
from dvipad.wire.messages import Hello, Member
from dvipad.wire.redial import Endpoint

from .lan import MeshPort
from .scenario import BEATS_MS, REDIAL_MS, SESSION, TIMERS, newest_version

if TYPE_CHECKING:
    from .kernel import KernelEffect
    from .world import Host, World

PORT = 4780
PROBE_MS = 20
"""How long a node waits for another host that has the address."""
AGAIN_MS = (100, 1_000)
"""An announcement is repeated after these times."""
Work = tuple[Step | Effect, int, bool]
"""A step of a sequence with the id of its sequence (0: none); whether it is the last one."""


DUMP_AGE_MAX_MS = 50
"""Reading 100,000 connections takes less; a new distributor has its lease's margin, 100 ms."""


class Daemon:
    """One life of the daemon of `host`."""

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.host = host
        self.alive = True
        self.adopting = False
        self.stalled_until_ms = 0
        self.started_ms = world.loop.now_ms
        self.sessions: dict[str, int] = {}
        self.completed: deque[int] = deque(maxlen=8)
        self._inbox: list[Callable[[], None]] = []
        self._queue: deque[Work] = deque()
        self._skip = 0
        self._running = False
        self._waiting = False
        self._timer_ms: int | None = None
        self.due_ms: int | None = None
        self._mesh_due_ms: int | None = None
        self._answers_until_ms = 0
        plan = host.plan
        seeds = world.seeds_of(host.name)
        self.node = Node(NodeSettings(plan.name, plan.xcf, len(seeds), TIMERS))
        incarnation = host.next_incarnation()
        self.newest = newest_version(world.scenario.seed, plan.name, incarnation)
        member = Member(plan.name, plan.xcf, PORT)
        hello = Hello("sim", member, incarnation, oldest=OLDEST, newest=self.newest)
        endpoints = tuple(Endpoint(seed, PORT) for seed in seeds)
        session = replace(SESSION, beat_ms=BEATS_MS[world.scenario.seed % len(BEATS_MS)])
        settings = MeshSettings(hello, endpoints, session, *REDIAL_MS)
        self.mesh = Mesh(settings, host.clock_ms())
        ends = (self._dialled, self._accepted, self._receive, self._closed, self._failed)
        self.port = MeshPort(host.name, *ends, self._datagram)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Adopt what the kernel has, listen and dial."""
        adopted = self.host.kernel.adopted()
        gone = self.host.clock_ms() > self.host.kernel.grace_until_ms
        if gone and any(row.owned for row in adopted):
            self.feed(Stalled())
        self.feed(ProfileChanged(self.host.plan.profile))
        for event in self.host.told():
            self.feed(event)
        self.feed(Started(adopted))
        self.feed(self.host.listeners_changed())
        self.world.mesh_lan.open(self.port)
        self._tick()

    def end(self, silent: bool) -> None:
        """The daemon is gone; `silent`: the host, too."""
        self.alive = False
        self.world.mesh_lan.gone(self.port, silent)

    def stall(self, until_ms: int) -> None:
        """It does nothing until then."""
        self.stalled_until_ms = max(self.stalled_until_ms, until_ms)
        self.world.loop.at(until_ms, self._resume)

    @property
    def stalled(self) -> bool:
        """Whether it does nothing now."""
        return self.world.loop.now_ms < self.stalled_until_ms

    def _resume(self) -> None:
        if not self.alive or self.stalled:
            return
        if self.host.clock_ms() > self.host.kernel.lease_until_ms:
            self.feed(Stalled())
        self.host.renew_lease()
        inbox, self._inbox = self._inbox, []
        for happening in inbox:
            happening()
        self._timer_ms = None
        self._tick()

    def do(self, happening: Callable[[], None]) -> None:
        """`happening` concerns this daemon: later when it is stalled, never when it is dead."""
        if not self.alive:
            return
        if self.stalled:
            self._inbox.append(happening)
        else:
            happening()

    # -- inputs --------------------------------------------------------------------------------

    def feed(self, event: Input) -> None:
        """One step of the core."""
        if not self.alive:
            return
        now_ms = self.host.clock_ms()
        self.world.trace_input(self.host.name, event)
        self._taken(event, partial(self.node.step, event, now_ms))
        if isinstance(event, TroublesChanged):
            self._mesh(self.mesh.tell_troubles, tuple(event.troubles))

    def _taken(self, event: Input | None, step: Callable[[], list[Effect]]) -> None:
        checks = self.world.checks
        memory = checks.before(self)
        effects = step()
        self.due_ms = self.node.deadline()
        self.adopting = isinstance(event, Started)
        checks.after(self, event, memory, effects)
        self._submit(effects)
        self._arm()

    def later(self, delay_ms: int, event: Callable[[], Input]) -> None:
        """A kernel event, which its thread reads after what it does now."""
        at_ms = max(self.world.loop.now_ms + delay_ms, self._answers_until_ms)
        self.world.loop.at(at_ms, lambda: self.do(lambda: self.feed(event())))

    # -- time ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.stalled or not self.alive:
            return
        self._timer_ms = None
        now_ms = self.host.clock_ms()
        due_ms = self.mesh.deadline()
        if due_ms is not None and due_ms <= now_ms:
            self.mesh.handle_deadline(now_ms)
        self.pump()
        if not self.alive:
            return
        if self.due_ms is not None and self.due_ms <= now_ms:
            self.world.trace_input(self.host.name, None)
            self._taken(None, partial(self.node.expire, now_ms))
        self._arm()

    def _arm(self) -> None:
        if self._running:
            return
        due = [at for at in (self._mesh_due_ms, self.due_ms) if at is not None]
        if not due:
            return
        at_ms = max(min(due) - self.host.offset_ms, self.world.loop.now_ms)
        if self._timer_ms is None or at_ms < self._timer_ms:
            self._timer_ms = at_ms
            self.world.loop.at(at_ms, partial(self._alarm, at_ms))

    def _alarm(self, at_ms: int) -> None:
        if self._timer_ms == at_ms:
            self._tick()

    # -- the mesh ------------------------------------------------------------------------------

    def _dialled(self, connection_id: int, dial: Dial) -> None:
        self.do(lambda: self._mesh(self.mesh.dialled, connection_id, dial.endpoint))

    def _accepted(self, connection_id: int, name: str) -> None:
        remote = self.world.hosts[name].plan.xcf
        self.do(lambda: self._mesh(self.mesh.accepted, connection_id, remote))

    def _receive(self, connection_id: int, data: bytes) -> None:
        self.do(lambda: self._mesh(self.mesh.receive, connection_id, data))

    def _closed(self, connection_id: int, ending: Ending) -> None:
        self.do(lambda: self._mesh(self.mesh.closed, connection_id, ending))

    def _failed(self, dial: Dial, refused: bool) -> None:
        self.do(lambda: self._mesh(self.mesh.dial_failed, dial.endpoint, refused))

    def _datagram(self, data: bytes) -> None:
        # It only moves deadlines away: there is nothing to carry out.
        self.do(lambda: self.mesh.receive_datagram(data, self.host.clock_ms()))

    def _mesh(self, verb: Callable[..., None], *arguments: object) -> None:
        verb(*arguments, self.host.clock_ms())
        self.pump()

    def pump(self) -> None:
        """Carry out and deliver what the mesh has."""
        moved = False
        while self.alive and (outputs := self.mesh.poll()):
            events: list[PeerUp | PeerDown | HostAnswered | MessageReceived] = []
            for output in outputs:
                match output:
                    case Dial():
                        name = self.world.by_xcf(output.endpoint.address)
                        self.world.mesh_lan.dial(self.port, name, output)
                    case Write(connection_id, data):
                        self.world.mesh_lan.write(self.port, connection_id, data)
                    case Close(connection_id, abort):
                        self.world.mesh_lan.close(self.port, connection_id, abort)
                    case Datagram(endpoint, data):
                        name = self.world.by_xcf(endpoint.address)
                        self.world.mesh_lan.send_datagram(self.port, name, data)
                    case DatagramsMissing() | Misfit():
                        pass  # a line of the log
                    case MessageReceived() | HostAnswered():
                        events.append(output)
                        continue  # what only arrives makes nothing due sooner
                    case _:
                        events.append(output)
                moved = True
            for event in events:
                self._note(event)
                self.feed(event)
        if self.alive:
            due_ms = self._mesh_due_ms
            if moved or due_ms is None or due_ms <= self.host.clock_ms():
                self._mesh_due_ms = self.mesh.deadline()
            self._arm()

    def _note(self, event: PeerUp | PeerDown | HostAnswered | MessageReceived) -> None:
        if isinstance(event, PeerUp):
            self.sessions[event.member.name] = self.world.loop.now_ms
        elif isinstance(event, PeerDown):
            self.sessions.pop(event.name, None)

    # -- the runner ----------------------------------------------------------------------------

    def _submit(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Sequence):
                last = len(effect.steps) - 1
                self._queue.extend(
                    (step, effect.effect_id, index == last)
                    for index, step in enumerate(effect.steps)
                )
            elif isinstance(effect, Refusal):
                self.world.checks.declined(self.host.name, effect)
            elif not isinstance(effect, Decision | Preferred):
                self._queue.append((effect, 0, False))
        self._run()

    def _run(self) -> None:
        """Carry out what waits, up to the first effect that takes time."""
        if self._running or self._waiting:
            return
        self._running = True
        while self.alive and self._queue and not self._waiting:
            effect, sequence, last = self._queue.popleft()
            if sequence and sequence == self._skip:
                continue
            match effect:
                case Send(peer, message):
                    self.mesh.send(peer, message, self.host.clock_ms())
                    self.pump()
                    self._finish(sequence, last)
                case Broadcast(message):
                    self.mesh.broadcast(message, self.host.clock_ms())
                    self.pump()
                    self._finish(sequence, last)
                case Leave():
                    self.world.left(self)
                case Decision() | Refusal() | Preferred() | Sequence():
                    raise AssertionError("never queued")
                case _:
                    self._in_kernel(effect, sequence, last)
        self._running = False
        if self.alive:
            self._arm()

    def _in_kernel(self, effect: KernelEffect, sequence: int, last: bool) -> None:
        probing = isinstance(effect, ProbeAddress)
        delay_ms = PROBE_MS if probing else self.world.effect_ms(self.host)
        if delay_ms == 0:
            self._carried_out(effect, sequence, last)
            return
        self._waiting = True

        def end() -> None:
            self._waiting = False
            self._carried_out(effect, sequence, last)
            self._run()

        self.world.loop.after(delay_ms, lambda: self.do(end))

    def _carried_out(self, effect: KernelEffect, sequence: int, last: bool) -> None:
        if sequence and (self.world.fails(effect) or self.world.duplicate(self.host, effect)):
            self._skip = sequence
            self.feed(EffectFailed(sequence, f"{type(effect).__name__}: no luck"))
            return
        self.world.trace_effect(self.host.name, effect)
        self.world.checks.carrying_out(self.host, effect)
        answer = self.host.kernel.carry_out(effect, self.host.clock_ms())
        if isinstance(effect, Announce):
            self._announce(effect)
        self.world.checks.carried_out(self.host, effect)
        asks = isinstance(effect, DumpSockets | DumpCrt | CountConnections)
        if asks and answer is not None:
            self._answer(answer, sequence, last)
        else:
            self._finish(sequence, last)

    def _answer(self, answer: Input, sequence: int, last: bool) -> None:
        """A list takes time to read, and is old when it comes."""
        delay_ms = min(self.world.effect_ms(self.host), DUMP_AGE_MAX_MS)
        if delay_ms == 0:
            self.feed(answer)
            self._finish(sequence, last)
            return
        self._waiting = True
        self._answers_until_ms = self.world.loop.now_ms + delay_ms

        def end() -> None:
            self._waiting = False
            self.feed(answer)
            self._finish(sequence, last)
            self._run()

        self.world.loop.after(delay_ms, lambda: self.do(end))

    def _finish(self, sequence: int, last: bool) -> None:
        if sequence and last:
            self.completed.append(sequence)
            self.feed(EffectDone(sequence))
            self._repeat_old()

    def _repeat_old(self) -> None:
        """Completions of sequences that nobody awaits any more must change nothing."""
        awaited = {vipa.effect_id for vipa in self.node.owners}
        old = self.completed[0]
        if old not in awaited and self.world.random.random() < 0.2:
            self.feed(EffectFailed(old, "old"))

    def _announce(self, effect: Announce) -> None:
        self._heard_of(effect.dvipa)
        for delay_ms in AGAIN_MS:
            self.world.loop.after(delay_ms, partial(self._announce_again, effect))

    def _announce_again(self, effect: Announce) -> None:
        if self.alive and self.host.kernel.addresses.get(effect.dvipa, False):
            self._heard_of(effect.dvipa)

    def _heard_of(self, dvipa: Address) -> None:
        self.world.traffic.announced(self.host.name, dvipa)
        self.world.sights.announced(self.host.name, dvipa)
