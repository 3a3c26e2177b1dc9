"""A cluster of nodes without a wire between them, for tests of the core."""

from __future__ import annotations

from collections import defaultdict, deque
from ipaddress import IPv4Address

from dvipad.config.model import (
    Backup,
    Define,
    DistMethod,
    Distribute,
    Label,
    Moveable,
    PortRange,
    Profile,
)
from dvipad.core.context import NodeSettings, Timers
from dvipad.core.effects import (
    Announce,
    Broadcast,
    CountConnections,
    DumpCrt,
    DumpSockets,
    Effect,
    Send,
    Sequence,
)
from dvipad.core.inputs import (
    Adopted,
    ConnectionsCounted,
    CrtDumped,
    EffectDone,
    EffectFailed,
    Input,
    Listener,
    ListenersChanged,
    ProfileChanged,
    SocketsDumped,
    Started,
)
from dvipad.core.node import Node
from dvipad.core.vipa import State
from dvipad.wire.events import DownReason, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import Member, Message

DVIPA = IPv4Address("203.0.113.1")
XCF = {name: IPv4Address(f"192.0.2.{n}") for n, name in enumerate(("lb1", "lb2", "t1", "t2"), 1)}
ROWS = (Distribute(DVIPA, (PortRange(80, 80),), None, DistMethod.ROUNDROBIN),)
PROFILES = {
    "lb1": Profile(defines=(Define(DVIPA, 24),), distributes=ROWS),
    "lb2": Profile(backups=(Backup(DVIPA, 10, Moveable.IMMEDIATE, 24),), distributes=ROWS),
}
LABELS = {"t1": (Label("rack", "a"),), "t2": (Label("rack", "b"),)}
KEYS = {name: bytes([n]) * 36 for n, name in enumerate(XCF)}
TIMERS = Timers()


class Cluster:
    """Nodes without a wire between them; every target has one connection of its own."""

    def __init__(self, *names: str, profiles: dict[str, Profile] | None = None) -> None:
        self.profiles = PROFILES if profiles is None else profiles
        self.count = 0
        self.now_ms = 0
        self.nodes: dict[str, Node] = {}
        self.done: dict[str, list[Effect]] = defaultdict(list)
        self.met: set[frozenset[str]] = set()
        self.fail_next: set[tuple[str, type]] = set()
        self.busy: dict[str, list[Effect]] = {}
        self._queue: deque[tuple[str, Input]] = deque()
        for name in names:
            self.start(name)

    def start(self, name: str, *adopted: Adopted) -> None:
        seeds = len(XCF) - 1
        node = Node(NodeSettings(name, XCF[name], seeds, TIMERS, labels=LABELS.get(name, ())))
        self.done.pop(name, None)
        node_inputs: list[Input] = [
            ProfileChanged(self.profiles.get(name, Profile())),
            Started(adopted),
        ]
        if name.startswith("t"):
            node_inputs.append(ListenersChanged((Listener(None, 80, 1),)))
        others = list(self.nodes)
        self.nodes[name] = node
        for event in node_inputs:
            self.feed(name, event)
        for other in others:
            self.met.add(frozenset((name, other)))
            self._queue.append((name, PeerUp(Member(other, XCF[other], 1), 1)))
            self._queue.append((other, PeerUp(Member(name, XCF[name], 1), 1)))
        self.settle()

    def end(self, name: str, reason: DownReason) -> None:
        del self.nodes[name]
        self.met = {pair for pair in self.met if name not in pair}
        for other in self.nodes:
            self.feed(other, PeerDown(name, reason))
        self.settle()

    def feed(self, name: str, event: Input) -> None:
        if name in self.nodes:
            self._carry_out(name, self.nodes[name].step(event, self.now_ms))

    def settle(self) -> None:
        while self._queue:
            self.feed(*self._queue.popleft())

    def catch_up(self, name: str) -> None:
        """A busy host announces at last what it had to."""
        self._carry_out(name, self.busy.pop(name))
        self.settle()

    def pass_time(self, until_ms: int) -> None:
        while self.now_ms < until_ms:
            due = [node.deadline() for node in self.nodes.values()]
            self.now_ms = min([until_ms, *(at for at in due if at is not None)])
            for name, node in list(self.nodes.items()):
                self._carry_out(name, node.expire(self.now_ms))
            self.settle()

    def _carry_out(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Sequence):
                self._one(name, effect)
                continue
            if name in self.busy and any(isinstance(step, Announce) for step in effect.steps):
                self.busy[name].append(effect)
                continue
            failed = False
            for step in effect.steps:
                if (name, type(step)) in self.fail_next:
                    self.fail_next.discard((name, type(step)))
                    self._queue.append((name, EffectFailed(effect.effect_id, "no luck")))
                    failed = True
                    break
                self._one(name, step)
            if not failed:
                self._queue.append((name, EffectDone(effect.effect_id)))

    def _one(self, name: str, effect: Effect) -> None:
        self.done[name].append(effect)
        match effect:
            case Send(peer, message):
                self._send(name, peer, message)
            case Broadcast(message):
                for peer in self.nodes:
                    if peer != name:
                        self._send(name, peer, message)
            case DumpSockets(effect_id):
                keys = KEYS[name] if name.startswith("t") else b""
                self._queue.append((name, SocketsDumped(effect_id, keys, b"")))
            case DumpCrt(effect_id):
                entries = tuple((XCF[t], KEYS[t], b"") for t in ("t1", "t2"))
                self._queue.append((name, CrtDumped(effect_id, entries)))
            case CountConnections(effect_id):
                self._queue.append((name, ConnectionsCounted(effect_id, self.count)))
            case _:
                pass

    def _send(self, name: str, peer: str, message: Message) -> None:
        if frozenset((name, peer)) in self.met:
            self._queue.append((peer, MessageReceived(name, message)))

    def state(self, name: str, dvipa: IPv4Address = DVIPA) -> State:
        vipa = self.nodes[name].owners.get(dvipa)
        assert vipa is not None
        return vipa.state

    def of(self, name: str, *kinds: type[Effect]) -> list[Effect]:
        return [effect for effect in self.done[name] if isinstance(effect, kinds)]


def cluster() -> Cluster:
    made = Cluster("lb1", "lb2", "t1", "t2")
    made.pass_time(5_000)
    assert (made.state("lb1"), made.state("lb2")) == (State.ACTIVE, State.BACKUP)
    return made
