"""The agent: looks at node and servers once in an interval, and says what they have to spare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final, TypeAlias

from dvipad.address import Address
from dvipad.agents.formula import Reading, weight_of
from dvipad.agents.sampler import Sampler, Sighting
from dvipad.agents.snapshot import SHORTEST_S, between
from dvipad.agents.steady import Steady
from dvipad.wire.messages import ServerWeight, Weights

HOLDS: Final = 3
"""Intervals for which what is told holds."""
SERVERS_MAX: Final = 1_024
"""Servers that are told of; for further ones the node's weight stands."""
STRANGERS_AGAIN: Final = 30
"""Intervals after which a cgroup that was not found is looked for again."""

Listeners: TypeAlias = Mapping[tuple[Address | None, int], Collection[int]]
"""By (address, port) of listening sockets: the ids of their cgroups."""


class WorkloadAgent:
    """Keeps what it saw last. `interval_ms`: how often `look` is called. `counters`: looks,
    and those at which nothing could be read."""

    def __init__(self, sampler: Sampler, interval_ms: int) -> None:
        self._sampler = sampler
        self._interval_ms = interval_ms
        self._last: Sighting | None = None
        self._said: Weights | None = None
        self._host = Steady()
        self._steady: dict[PurePosixPath, Steady] = {}
        self.counters: Counter[str] = Counter(looks=0, unreadable=0)
        self.reading: Reading | None = None
        """Of the node, in the last interval."""

    def look(self, listeners: Listeners, announced: int | None) -> Weights | None:
        """One look; None while nothing can be said: at the first, and when nothing is readable.

        `announced`: what the operator says the weight is.
        """
        self.counters["looks"] += 1
        if self.counters["looks"] % STRANGERS_AGAIN == 0:
            self._sampler.cgroups.forget_strangers()
        groups = {key: self._named(numbers) for key, numbers in listeners.items()}
        before, now = self._last, self._sampler.look(frozenset().union(*groups.values()))
        if before and now and now.node.at_s - before.node.at_s < SHORTEST_S:
            return self._announced_alone(announced)
        self._last, self._said = now, None
        if now is None:
            self.counters["unreadable"] += 1
        node = between(before.node, now.node) if before and now else None
        servers = _servers(before, now) if before and now else {}
        self.reading = None if node is None else _served(node, servers)
        if self.reading is None:
            return self._announced_alone(announced)
        weights = self._weights(servers, self.reading.capacity)
        told = [
            ServerWeight(address, port, round(sum(found) / len(found)))
            for (address, port), names in groups.items()
            if (found := [weights[name] for name in names if name in weights])
        ]
        told.sort(key=lambda server: (server.port, str(server.address)))
        self._said = Weights(
            HOLDS * self._interval_ms,
            self._host.step(weight_of(self.reading)),
            max(1, round(1000 * self.reading.capacity)),
            tuple(told[:SERVERS_MAX]),
            announced,
        )
        return self._said

    def _announced_alone(self, announced: int | None) -> Weights | None:
        """An operator's word needs no reading; what was measured just before still holds."""
        if self._said is not None:
            return replace(self._said, announced=announced)
        if announced is None:
            return None
        return Weights(HOLDS * self._interval_ms, None, 1, (), announced)

    def _named(self, numbers: Collection[int]) -> frozenset[PurePosixPath]:
        names = (self._sampler.cgroups.name_of(number) for number in numbers)
        return frozenset(name for name in names if name is not None)

    def _weights(
        self, servers: Mapping[PurePosixPath, Reading], capacity: float
    ) -> dict[PurePosixPath, int]:
        """Weights of servers, by cgroup; like the node's, they are of the node's `capacity`."""
        self._steady = {name: self._steady.get(name) or Steady() for name in servers}
        return {
            name: self._steady[name].step(weight_of(reading) * reading.capacity / capacity)
            for name, reading in servers.items()
        }


def _servers(before: Sighting, now: Sighting) -> dict[PurePosixPath, Reading]:
    """Of each cgroup with servers in it that was there before."""
    readings = {
        name: between(before.servers[name], snapshot)
        for name, snapshot in now.servers.items()
        if name in before.servers
    }
    return {name: reading for name, reading in readings.items() if reading is not None}


def _served(node: Reading, servers: Mapping[PurePosixPath, Reading]) -> Reading:
    """The node's reading; of waiting for CPU what its servers had to, if they are known: a job
    beside them that waits for its own limit is in nobody's way."""
    if not servers:
        return node
    waited = max(reading.stalls.cpu for reading in servers.values())
    return replace(node, stalls=replace(node.stalls, cpu=waited))
