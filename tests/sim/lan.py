"""The network: who reaches whom, neighbour caches, and TCP connections of the mesh."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from dvipad.wire.actions import Dial, Ending

from .loop import Loop

Deliver: TypeAlias = Callable[[], None]


LOST_PERCENT = 5
"""Datagrams that are lost by chance."""


class Lan:
    """One shared LAN; `up` are hosts and clients that have power."""

    def __init__(self, loop: Loop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.up: set[str] = set()
        self.slow_until_ms = 0
        self._cuts: list[frozenset[str]] = []
        self._filtered: list[frozenset[str]] = []
        self._sides: list[frozenset[str]] = []
        self.blocked: list[Deliver] = []

    def cut(self, one: str, other: str) -> None:
        """These two do not hear each other."""
        self._cuts.append(frozenset((one, other)))

    def join(self, one: str, other: str) -> None:
        """The end of one cut."""
        self._cuts.remove(frozenset((one, other)))
        self._flush()

    def filter(self, one: str, other: str) -> None:
        """Nothing of the mesh gets through between these two; everything else does."""
        self._filtered.append(frozenset((one, other)))

    def unfilter(self, one: str, other: str) -> None:
        """The end of one filter."""
        self._filtered.remove(frozenset((one, other)))
        self._flush()

    def meshed(self, one: str, other: str) -> bool:
        """Whether a packet of the mesh gets through."""
        return self.reach(one, other) and frozenset((one, other)) not in self._filtered

    def split(self, side: frozenset[str]) -> None:
        """`side` and all others do not hear each other."""
        self._sides.append(side)

    def heal(self, side: frozenset[str]) -> None:
        """The end of one split."""
        self._sides.remove(side)
        self._flush()

    def intact(self, one: str, other: str) -> bool:
        """Whether no cut and no split is between these two."""
        if one == other:
            return True
        if self._cuts and frozenset((one, other)) in self._cuts:
            return False
        return all((one in side) == (other in side) for side in self._sides)

    def reach(self, one: str, other: str) -> bool:
        """Whether a packet gets through."""
        return one in self.up and other in self.up and self.intact(one, other)

    def hop_ms(self) -> int:
        """Latency of one packet."""
        return 1 if self.random.random() < 0.9 else 3

    def _flush(self) -> None:
        """TCP sends again what was lost."""
        blocked, self.blocked = self.blocked, []
        for deliver in blocked:
            self.loop.after(self.random.randint(20, 300), deliver)


@dataclass(slots=True)
class MeshPort:
    """A daemon at the network: what the ends of its connections tell it."""

    host: str
    dialled: Callable[[int, Dial], None]
    accepted: Callable[[int, str], None]
    receive: Callable[[int, bytes], None]
    closed: Callable[[int, Ending], None]
    failed: Callable[[Dial, bool], None]
    datagram: Callable[[bytes], None]
    ends: dict[int, End] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class End:
    """One end of a TCP connection; `inbox`: what is on its way, each with its time."""

    port: MeshPort
    id: int
    remote: str
    other: End | None = None
    inbox: deque[tuple[int, Deliver]] = field(default_factory=deque)
    waiting: bool = False


class MeshLan:
    """TCP between the daemons. What is cut off waits, and comes in order when the path is back."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._loop = lan.loop
        self._ids = 0
        # Of their own: what happens to datagrams does not change what else happens by chance.
        self._dice = Random(f"datagrams {lan.random.getstate()[1]}")
        self.ports: dict[str, MeshPort] = {}

    def open(self, port: MeshPort) -> None:
        """A daemon listens."""
        self.ports[port.host] = port

    def gone(self, port: MeshPort, silent: bool) -> None:
        """A daemon ended; `silent`: with its host, which says nothing."""
        if self.ports.get(port.host) is port:
            del self.ports[port.host]
        for end in list(port.ends.values()):
            if silent:
                del port.ends[end.id]
                end.inbox.clear()
            else:
                ending = Ending.RESET if self._lan.random.random() < 0.5 else Ending.EOF
                self._end(end, ending)

    def dial(self, port: MeshPort, name: str | None, dial: Dial) -> None:
        """`port` connects to the daemon of host `name`."""
        delay_ms = 2 * self._latency_ms()
        started_ms = self._loop.now_ms

        def arrive() -> None:
            if self.ports.get(port.host) is not port:
                return
            if name is None or not self._lan.meshed(port.host, name):
                late_ms = started_ms + dial.timeout_ms
                self._loop.at(late_ms, lambda: port.failed(dial, False))
                return
            there = self.ports.get(name)
            if there is None:
                port.failed(dial, True)
                return
            self._ids += 2
            here = End(port, self._ids, there.host)
            far = End(there, self._ids + 1, port.host)
            here.other, far.other = far, here
            port.ends[here.id], there.ends[far.id] = here, far
            there.accepted(far.id, port.host)
            port.dialled(here.id, dial)

        self._loop.after(delay_ms, arrive)

    def write(self, port: MeshPort, connection_id: int, data: bytes) -> None:
        """Bytes to the other end."""
        end = port.ends.get(connection_id)
        if end is None:
            return
        if end.other is None or end.other.port.ends.get(end.other.id) is not end.other:
            self._answer_reset(end)
            return
        other = end.other
        self._deliver(other, lambda: other.port.receive(other.id, data))

    def send_datagram(self, port: MeshPort, name: str | None, data: bytes) -> None:
        """UDP to the daemon of host `name`: it arrives soon, or never."""
        if name is None or self._dice.randrange(100) < LOST_PERCENT:
            return
        slow = self._loop.now_ms < self._lan.slow_until_ms

        def arrive() -> None:
            there = self.ports.get(name)
            if there is not None and self._lan.meshed(port.host, name):
                there.datagram(data)

        if slow:
            self._loop.after(self._dice.randint(5, 60), arrive)
        else:
            arrive()  # half of all that happens are heartbeats: none waits in the queue

    def close(self, port: MeshPort, connection_id: int, abort: bool) -> None:
        """This end closes."""
        end = port.ends.get(connection_id)
        if end is not None:
            self._end(end, Ending.RESET if abort else Ending.EOF)

    def _end(self, end: End, ending: Ending) -> None:
        del end.port.ends[end.id]
        end.inbox.clear()
        other, end.other = end.other, None
        if other is None or other.port.ends.get(other.id) is not other:
            return
        other.other = None
        if ending is Ending.RESET and not self._lan.meshed(end.port.host, other.port.host):
            return  # a reset is sent once

        def tell() -> None:
            if other.port.ends.pop(other.id, None) is not None:
                other.inbox.clear()
                other.port.closed(other.id, ending)

        self._deliver(other, tell)

    def _answer_reset(self, end: End) -> None:
        """The other host has no such connection any more."""

        def tell() -> None:
            if end.port.ends.pop(end.id, None) is not None:
                end.port.closed(end.id, Ending.RESET)

        if self._lan.meshed(end.port.host, end.remote):
            self._loop.after(2 * self._latency_ms(), tell)

    def _latency_ms(self) -> int:
        slow = self._loop.now_ms < self._lan.slow_until_ms
        return self._lan.random.randint(5, 60) if slow else 1

    def _deliver(self, to: End, deliver: Deliver) -> None:
        at_ms = self._loop.now_ms + self._latency_ms()
        if to.inbox:
            at_ms = max(at_ms, to.inbox[-1][0])
        to.inbox.append((at_ms, deliver))
        if not to.waiting:
            to.waiting = True
            self._loop.at(at_ms, lambda: self._arrive(to))

    def _arrive(self, to: End) -> None:
        """The first of the inbox arrives, and with it what came by then."""
        if not self._lan.meshed(to.remote, to.port.host):
            if self._lan.up >= {to.remote, to.port.host}:
                self._lan.blocked.append(lambda: self._arrive(to))
            else:
                to.inbox.clear()
                to.waiting = False
            return
        while to.inbox and to.inbox[0][0] <= self._loop.now_ms:
            to.inbox.popleft()[1]()
        to.waiting = bool(to.inbox)
        if to.inbox:
            self._loop.at(to.inbox[0][0], lambda: self._arrive(to))
