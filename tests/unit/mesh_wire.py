"""Pure meshes on a small wire; time is a number."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count

from dvipad.versions import Versions
from dvipad.wire.actions import Close, Datagram, DatagramsMissing, Dial, Ending, Misfit, Write
from dvipad.wire.events import MeshEvent, MessageReceived, PeerDown, PeerUp
from dvipad.wire.mesh import Mesh, MeshSettings
from dvipad.wire.messages import Hello, Member
from dvipad.wire.redial import Endpoint


def member(name: str) -> Member:
    return Member(name, ip_address(f"192.0.2.{sum(name.encode()) % 250}"), 4780)


def endpoint(name: str) -> Endpoint:
    return Endpoint(member(name).xcf, member(name).port)


def hello(name: str, incarnation: int = 1, versions: Versions = Versions()) -> Hello:  # noqa: B008
    span = {"oldest": versions.oldest, "newest": versions.newest}
    return Hello("lab", member(name), incarnation, **span)


RETRY_MS = 10
"""Bytes that are held try again after this time."""


@dataclass
class Wire:
    """Hosts with a daemon each, or none; dark hosts answer nothing. `latency_ms` of each packet.

    `loses`: whether a datagram from the first to the second name is lost; `holds`: whether bytes
    on a connection do not arrive, and hold up what comes after them, as long as it says so.
    """

    latency_ms: Callable[[], int] = lambda: 1
    loses: Callable[[str, str], bool] = lambda source, to: False
    holds: Callable[[str, str], bool] = lambda source, to: False
    now_ms: int = 0
    nodes: dict[str, Mesh] = field(default_factory=dict)
    dark: set[str] = field(default_factory=set)
    events: dict[str, list[tuple[int, MeshEvent]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    reports: list[tuple[int, str, DatagramsMissing | Misfit]] = field(default_factory=list)
    ends: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    arrives_ms: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    held: dict[tuple[str, int], deque[Callable[[Mesh], None]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    queue: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    def start(
        self, name: str, *seeds: str, incarnation: int = 1, versions: Versions | None = None
    ) -> Mesh:
        self.events.pop(name, None)
        known = tuple(endpoint(seed) for seed in seeds)
        local = hello(name, incarnation, versions or Versions())
        self.nodes[name] = Mesh(MeshSettings(local, known, release=f"of {name}"), self.now_ms)
        return self.nodes[name]

    def kill(self, name: str) -> None:
        """The daemon dies; its host resets the connections."""
        del self.nodes[name]
        for key in [key for key in self.ends if key[0] == name]:
            self.end(key, Ending.RESET)

    def end(self, key: tuple[str, int], ending: Ending) -> None:
        """The end `key` of a connection is gone; the other one is told, unless it is dark."""
        other = self.ends.pop(key, None)
        if other is not None:
            self.deliver(key, other, lambda mesh: mesh.closed(other[1], ending, self.now_ms))

    def deliver(
        self, source: tuple[str, int], to: tuple[str, int], act: Callable[[Mesh], None]
    ) -> None:
        """`act` happens at end `to`, after all that was sent there before."""
        at_ms = max(self.arrives_ms[to], self.now_ms + self.latency_ms())
        self.arrives_ms[to] = at_ms

        line = self.held[to]

        def happen(act: Callable[[Mesh], None]) -> None:
            if to[0] in self.nodes and not {source[0], to[0]} & self.dark:
                act(self.nodes[to[0]])

        def retry() -> None:
            if self.holds(source[0], to[0]):
                self.later(self.now_ms + RETRY_MS, retry)
            while line and not self.holds(source[0], to[0]):
                happen(line.popleft())

        def arrive() -> None:
            if not line and not self.holds(source[0], to[0]):
                happen(act)
                return
            line.append(act)
            if len(line) == 1:
                self.later(self.now_ms + RETRY_MS, retry)

        self.later(at_ms, arrive)

    def later(self, at_ms: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (at_ms, next(self.numbers), act))

    def dial(self, name: str, dial: Dial) -> None:
        def arrive() -> None:
            other = next((n for n in "abcdefgh" if endpoint(n) == dial.endpoint), "")
            mesh = self.nodes.get(name)
            if mesh is None or name in self.dark:
                return
            if other in self.dark or not other:
                self.later(started_ms + dial.timeout_ms, lambda: self.fail(name, mesh, dial, False))
            elif other not in self.nodes:
                self.fail(name, mesh, dial, True)
            else:
                here, there = (name, next(self.numbers)), (other, next(self.numbers))
                self.ends |= {here: there, there: here}
                mesh.dialled(here[1], dial.endpoint, self.now_ms)
                self.nodes[other].accepted(there[1], member(name).xcf, self.now_ms)

        started_ms = self.now_ms
        self.later(self.now_ms + self.latency_ms(), arrive)

    def fail(self, name: str, mesh: Mesh, dial: Dial, refused: bool) -> None:
        if self.nodes.get(name) is mesh:
            mesh.dial_failed(dial.endpoint, refused, self.now_ms)

    def pump(self) -> None:
        for name, mesh in list(self.nodes.items()):
            for output in mesh.poll():
                match output:
                    case Dial():
                        self.dial(name, output)
                    case Write(connection_id, data):
                        self.write((name, connection_id), data)
                    case Close(connection_id, abort):
                        ending = Ending.RESET if abort else Ending.EOF
                        self.end((name, connection_id), ending)
                    case Datagram(to, beat):
                        self.send_datagram(name, to, beat)
                    case DatagramsMissing() | Misfit():
                        self.reports.append((self.now_ms, name, output))
                    case _:
                        self.events[name].append((self.now_ms, output))

    def write(self, key: tuple[str, int], data: bytes) -> None:
        to = self.ends.get(key)
        if to is not None:
            self.deliver(key, to, lambda mesh: mesh.receive(to[1], data, self.now_ms))

    def send_datagram(self, name: str, to: Endpoint, data: bytes) -> None:
        other = next((n for n in "abcdefgh" if endpoint(n) == to), "")

        def arrive() -> None:
            if other in self.nodes and not {name, other} & self.dark:
                self.nodes[other].receive_datagram(data, self.now_ms)

        if not self.loses(name, other):
            self.later(self.now_ms + self.latency_ms(), arrive)

    def run(self, until_ms: int) -> None:
        self.pump()
        while (at_ms := self.next_ms()) <= until_ms:
            self.now_ms = max(self.now_ms, at_ms)
            while self.queue and self.queue[0][0] <= self.now_ms:
                heapq.heappop(self.queue)[2]()
            for name, mesh in self.nodes.items():
                due_ms = mesh.deadline()
                if due_ms is not None and due_ms <= self.now_ms and name not in self.dark:
                    mesh.handle_deadline(self.now_ms)
            self.pump()
        self.now_ms = until_ms

    def next_ms(self) -> int:
        due = [mesh.deadline() for name, mesh in self.nodes.items() if name not in self.dark]
        queued = [self.queue[0][0]] if self.queue else []
        return min([at_ms for at_ms in due if at_ms is not None] + queued, default=1 << 60)

    def up(self, name: str) -> str:
        return "".join(peer.name for peer in self.nodes[name].peers())

    def told(self, name: str, kind: type[MeshEvent]) -> list[MeshEvent]:
        return [event for _, event in self.events[name] if isinstance(event, kind)]


def check_order(wire: Wire) -> None:
    """Up and down alternate for each peer, and messages come from peers that are up."""
    for events in wire.events.values():
        up: set[str] = set()
        for _, event in events:
            match event:
                case PeerUp(peer, _):
                    assert peer.name not in up
                    up.add(peer.name)
                case PeerDown(name, _):
                    up.remove(name)
                case MessageReceived(name, _):
                    assert name in up


def full_mesh(names: str) -> Wire:
    wire = Wire()
    for name in names:
        wire.start(name, *names)
    wire.run(1000)
    return wire
