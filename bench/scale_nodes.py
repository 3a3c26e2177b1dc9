"""What a cluster of many nodes says to each other, counted in simulated clusters.

The simulator of the tests runs the real core and the real wire protocol in virtual time, and is
exact where a machine with 64 daemons on two cores would tell of the machine. One DVIPA: `lb1`
defines it, `lb2` backs it up, all other nodes are its targets (DESTIP ALL). No faults but the one
that is measured; of datagrams one in twenty is lost, as always in the simulator.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from bench.figures import Figure
from bench.progress import say
from bench.scale_figures import sized
from dvipad.config.model import Backup, Define, DistMethod, Distribute, Moveable, PortRange, Profile
from dvipad.core.effects import Role
from dvipad.core.inputs import Listener
from dvipad.lab.spec import LabError
from dvipad.versions import GREETING, NEWEST
from dvipad.wire.codec import TYPES
from dvipad.wire.errors import RemoteProtocolError
from dvipad.wire.framing import PREFIX_SIZE, Frame, FrameDecoder
from dvipad.wire.messages import Heartbeat, Quality, Weights
from tests.sim.lan import Lan, MeshLan, MeshPort
from tests.sim.scenario import HostPlan, Scenario
from tests.sim.traffic import Connection, Phase
from tests.sim.world import World

NODES: Final = (3, 16, 64)
FEWEST, MOST = NODES[0], NODES[-1]
ROUNDS_OF_MOST: Final = 1
"""One takes minutes, and chances make little difference."""
DVIPA: Final = IPv4Address("203.0.113.1")
PORT: Final = 80
OWNER, BACKUP = "lb1", "lb2"
HELD: Final = 20
"""Connections that live through everything once they are open."""
SHORT: Final = 25
"""Connections that are opened, used and closed, one after the other."""
EACH_MS: Final = 40
"""A connection is over before the next one begins: none shares a message with another one."""
CALM_MS: Final = 1_000
"""What an event leaves to do is done by then; it counts as part of the event."""
CONVERGE_MS: Final = 10_000
SEED_STEP: Final = 3
"""Seeds that are multiples of this have heartbeats by UDP every 30 ms, as a daemon has."""
CLOCK_STEP_MS: Final = 777
"""No two hosts have the same clock."""
HEARTBEAT: Final = Heartbeat.__name__
BY_THE_CLOCK: Final = (Weights.__name__, Quality.__name__)
LOOK_MS: Final = 1


@dataclass(frozen=True, slots=True)
class Count:
    """What was sent meanwhile on connections of the mesh: `messages` and their `bytes`, without
    `heartbeats`, and `kinds` of messages; `datagrams`: heartbeats by UDP; `ms`: how long it was."""

    messages: int = 0
    bytes: int = 0
    heartbeats: int = 0
    datagrams: int = 0
    datagram_bytes: int = 0
    ms: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)

    def since(self, other: Count) -> Count:
        """What was sent after `other` was counted."""
        kinds = {kind: n - other.kinds.get(kind, 0) for kind, n in self.kinds.items()}
        return Count(
            self.messages - other.messages,
            self.bytes - other.bytes,
            self.heartbeats - other.heartbeats,
            self.datagrams - other.datagrams,
            self.datagram_bytes - other.datagram_bytes,
            self.ms - other.ms,
            {kind: n for kind, n in kinds.items() if n},
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One cluster. `start_ms` (of all but one node at once), `join_ms`, `takeover_ms`: until all
    agree; `counts`: what was sent in each event and in the calm after it; `took_s`: what
    simulating it took."""

    nodes: int
    seed: int
    start_ms: int
    join_ms: int
    takeover_ms: int
    counts: Mapping[str, Count]
    took_s: float

    def per_connection(self, what: str) -> float:
        """`messages` or `bytes` for a connection's beginning and end."""
        return float(getattr(self.counts["short"], what)) / SHORT

    def per_opening(self) -> float:
        """Messages for the beginning of a connection alone."""
        return self.counts["opened"].messages / HELD

    def heartbeats_per_s(self) -> float:
        """Datagrams of all nodes together when nothing else happens."""
        idle = self.counts["idle"]
        return idle.datagrams * 1000 / idle.ms


def _next_frame(decoder: FrameDecoder) -> Frame | None:
    """Before an end has the other's Hello, its frames have the greeting's version."""
    try:
        decoder.version = NEWEST
        return decoder.next_frame()
    except RemoteProtocolError:
        decoder.version = GREETING
        return decoder.next_frame()


class CountedMesh(MeshLan):
    """The mesh of a simulation, and what was sent on it."""

    def __init__(self, lan: Lan) -> None:
        super().__init__(lan)
        self._decoders: dict[int, FrameDecoder] = {}
        self._kinds: Counter[str] = Counter()
        self._bytes = self._datagrams = self._datagram_bytes = 0

    def write(self, port: MeshPort, connection_id: int, data: bytes) -> None:
        """Count, and send."""
        decoder = self._decoders.setdefault(connection_id, FrameDecoder())
        decoder.feed(data)
        while (frame := _next_frame(decoder)) is not None:
            kind = TYPES[frame.kind].__name__
            if kind in BY_THE_CLOCK:  # not by what happens
                continue
            self._kinds[kind] += 1
            if kind != HEARTBEAT:
                self._bytes += PREFIX_SIZE + len(frame.header) + len(frame.blob)
        super().write(port, connection_id, data)

    def send_datagram(self, port: MeshPort, name: str | None, data: bytes) -> None:
        """Count, and send."""
        self._datagrams += 1
        self._datagram_bytes += len(data)
        super().send_datagram(port, name, data)

    def count(self) -> Count:
        """Everything up to now."""
        heartbeats = self._kinds[HEARTBEAT]
        return Count(
            self._kinds.total() - heartbeats,
            self._bytes,
            heartbeats,
            self._datagrams,
            self._datagram_bytes,
            self._loop.now_ms,
            {kind: n for kind, n in self._kinds.items() if kind != HEARTBEAT},
        )


class Cluster(World):
    """A simulated cluster whose last target is off at first; all is done by :meth:`measure`."""

    def __init__(self, nodes: int, seed: int) -> None:
        super().__init__(scenario(nodes, seed))
        self.mesh_lan = self._counted = CountedMesh(self.lan)
        *present, self._late = self.hosts.values()
        for host in present:
            self.loop.at(0, host.start_daemon)
        self._periodic()
        self._counts: dict[str, Count] = {}
        self._look_ms = 0

    def measure(self) -> Sample:
        """All events; raises :class:`LabError` when the cluster does not agree after one."""
        began_s = time.monotonic()
        start_ms = self._event("start", lambda: None, self._until_agreed)
        join_ms = self._event("join", self._late.start_daemon, self._until_agreed)
        listener = self._late.plan.listeners[0]
        self._late.set_listener(listener, False)
        self._calm()
        self._event("listener", lambda: self._late.set_listener(listener, True))
        self._event("idle", lambda: None)
        self._event("opened", lambda: self._open(HELD, messages=1_000_000))
        held = self.traffic.connections[-HELD:]
        self._expect(held, Phase.OPEN)
        self._event("short", lambda: self._open(SHORT, messages=1))
        self._expect(self.traffic.connections[-SHORT:], Phase.DONE)
        owner = self.hosts[OWNER]
        takeover_ms = self._event("takeover", owner.cut_power, self._until_agreed)
        self._expect(held, Phase.OPEN)
        took_s = time.monotonic() - began_s
        scenario = self.scenario
        times = start_ms, join_ms, takeover_ms
        return Sample(len(scenario.hosts), scenario.seed, *times, dict(self._counts), took_s)

    def _event(
        self, name: str, do: Callable[[], object], wait: Callable[[str], None] | None = None
    ) -> int:
        """`do`, `wait`, and the calm after it are counted as `name`; returns how long without the
        calm, in ms."""
        before = self._counted.count()
        do()
        if wait is not None:
            wait(name)
        lasted_ms = self.loop.now_ms - before.ms
        self._calm()
        self._counts[name] = self._counted.count().since(before)
        return lasted_ms

    def _calm(self) -> None:
        self.loop.run(self.loop.now_ms + CALM_MS)

    def _open(self, count: int, messages: int) -> None:
        """`count` connections, one each `EACH_MS`."""
        for _ in range(count):
            self.traffic.open(DVIPA, PORT, messages, EACH_MS // 4)
            self.loop.run(self.loop.now_ms + EACH_MS)

    @staticmethod
    def _expect(connections: Sequence[Connection], phase: Phase) -> None:
        strange = [str(each) for each in connections if each.phase is not phase]
        if strange:
            raise LabError(f"not {phase.value}: {', '.join(strange)}")

    # -- agreement

    def _until_agreed(self, what: str) -> None:
        self.loop.run(self.loop.now_ms + CONVERGE_MS, self._agreed_now)
        if not self._agreed():
            raise LabError(f"{len(self.hosts)} nodes do not agree after: {what}")

    def _agreed_now(self) -> bool:
        """Asked after each of the many things that happen in a millisecond, it looks once."""
        now_ms = self.loop.now_ms
        if now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + LOOK_MS
        return self._agreed()

    def _agreed(self) -> bool:
        """All that live have sessions with each other, know one owner, and it serves for all."""
        daemons = {name: host.daemon for name, host in self.hosts.items() if host.daemon}
        wanted = OWNER if OWNER in daemons else BACKUP
        owner = self.hosts[wanted]
        owners = daemons[wanted].node.owners
        if not owner.kernel.answers(DVIPA, owner.clock_ms()) or DVIPA in owners.collections:
            return False
        service = owner.kernel.services.get((DVIPA, PORT))
        if service is None or len(set(service.ring)) != sum(t.startswith("t") for t in daemons):
            return False
        for name, daemon in daemons.items():
            if len(daemon.sessions) != len(daemons) - 1:
                return False
            claim = daemon.node.context.membership.claim(DVIPA)
            hidden = self.hosts[name].kernel.dvipas.get(DVIPA)
            if name != wanted and (
                claim is None
                or claim.name != wanted
                or hidden is None
                or hidden.role is not Role.HIDDEN
            ):
                return False
        return True


def scenario(nodes: int, seed: int) -> Scenario:
    """A cluster of `nodes` (3 or more), without faults."""
    define, backup = Define(DVIPA, 24), Backup(DVIPA, 100, Moveable.IMMEDIATE, 24)
    row = Distribute(DVIPA, (PortRange(PORT, PORT),), None, DistMethod.ROUNDROBIN)
    profiles = {
        OWNER: Profile(defines=(define,), distributes=(row,)),
        BACKUP: Profile(backups=(backup,)),
    }
    names = [*profiles, *(f"t{number}" for number in range(1, nodes - 1))]
    hosts = tuple(
        HostPlan(
            name,
            IPv4Address("192.0.2.1") + index,
            profiles.get(name, Profile()),
            () if name in profiles else (Listener(None, PORT, 1),),
            CLOCK_STEP_MS * index,
            0,
        )
        for index, name in enumerate(names)
    )
    return Scenario(seed, hosts, (DVIPA,), (PORT,), (), False, 0, 0, 0)


def run(rounds: int, nodes: Sequence[int] = NODES) -> tuple[list[Figure], list[dict[str, Any]]]:
    """`rounds` clusters of each size, fewer of the largest; each with other chances."""
    samples: list[Sample] = []
    for number in nodes:
        turns = min(rounds, ROUNDS_OF_MOST) if number == MOST else rounds
        for turn in range(1, turns + 1):
            sample = Cluster(number, SEED_STEP * turn).measure()
            samples.append(sample)
            say(
                f"scale {number} nodes {turn}/{turns}: join {sample.join_ms} ms, takeover "
                f"{sample.takeover_ms} ms, {sample.counts['takeover'].messages} messages; "
                f"simulated in {sample.took_s:.1f} s"
            )
    return figures(samples), [{"part": "nodes", **asdict(sample)} for sample in samples]


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """Medians for each size, and what a connection costs in the largest against the smallest."""
    found: list[Figure] = []
    medians: dict[int, float] = {}
    for nodes in sorted({sample.nodes for sample in samples}):
        those = [sample for sample in samples if sample.nodes == nodes]
        found += _of_size(nodes, those)
        medians[nodes] = statistics.median(each.per_connection("messages") for each in those)
    if medians.keys() >= {FEWEST, MOST}:
        name = f"scale.messages_per_connection_{MOST}_vs_{FEWEST}"
        found.append(Figure(name, medians[MOST] / medians[FEWEST], "ratio"))
    return found


def _of_size(nodes: int, samples: Sequence[Sample]) -> list[Figure]:
    rows: list[tuple[str, list[float], str]] = [
        ("messages_per_connection", [s.per_connection("messages") for s in samples], "messages"),
        ("bytes_per_connection", [s.per_connection("bytes") for s in samples], "bytes"),
        ("messages_per_opening", [s.per_opening() for s in samples], "messages"),
        ("messages_per_listener", [s.counts["listener"].messages for s in samples], "messages"),
        ("idle_messages", [s.counts["idle"].messages for s in samples], "messages"),
        ("heartbeats_per_s", [s.heartbeats_per_s() for s in samples], "datagrams/s"),
        ("start_messages", [s.counts["start"].messages for s in samples], "messages"),
        ("start_bytes", [s.counts["start"].bytes for s in samples], "bytes"),
        ("start_ms", [s.start_ms for s in samples], "ms"),
        ("takeover_messages", [s.counts["takeover"].messages for s in samples], "messages"),
        ("takeover_bytes", [s.counts["takeover"].bytes for s in samples], "bytes"),
        ("takeover_ms", [s.takeover_ms for s in samples], "ms"),
        ("join_messages", [s.counts["join"].messages for s in samples], "messages"),
        ("join_bytes", [s.counts["join"].bytes for s in samples], "bytes"),
        ("join_ms", [s.join_ms for s in samples], "ms"),
    ]
    return [each for name, values, unit in rows for each in sized(name, nodes, values, unit)]
