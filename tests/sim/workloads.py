"""What nodes measure of themselves, and read of their applications: it changes all the time, and
some fall silent about it."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from dvipad.config.model import By, Preference, Score
from dvipad.core import distributor
from dvipad.core.inputs import FiguresRead, Measured, PreferencesChanged
from dvipad.wire.messages import MAX_WEIGHT, Quality, ServerWeight, ServiceQuality, Weights

if TYPE_CHECKING:
    from .world import Host, World

distributor.REWEIGH_MS = 100  # as short as all other times of a simulation
INTERVAL_MS: Final = 400
HOLDS_MS: Final = 3 * INTERVAL_MS
SILENT_PERCENT: Final = 30
"""Looks at which a node finds nothing to read; some in a row, and what it said lapses."""
FIGURE: Final = "web.time_ms"
PREFERENCES: Final = (Preference("web", Score(By.FASTEST, FIGURE)),)


class Workloads:
    """The agents of all nodes. They have a chance of their own, so that all else goes as without
    them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(world.scenario.seed ^ 0xA6E27)
        self._due_ms = INTERVAL_MS

    def periodic(self) -> None:
        """Every node looks once in an interval."""
        if self._world.loop.now_ms < self._due_ms:
            return
        self._due_ms = self._world.loop.now_ms + INTERVAL_MS
        for host in self._world.hosts.values():
            if host.daemon is not None and self._random.randrange(100) >= SILENT_PERCENT:
                for said in (self._weights(host), self._quality(host)):
                    host.daemon.later(0, partial(Measured, said))
                host.daemon.later(0, partial(PreferencesChanged, self._preferences()))
                host.daemon.later(0, partial(FiguresRead, *self._figures()))

    def _preferences(self) -> tuple[Preference, ...]:
        """Its operator changes his mind now and then; that of a scenario file has none, for the
        file says who is to get what."""
        wanted = self._world.scenario.connections > 0 and self._random.random() < 0.5
        return PREFERENCES if wanted else ()

    def _figures(self) -> tuple[tuple[str, ...], tuple[int | None, ...], frozenset[Any]]:
        """No instance is down: the rules expect that every target gets connections."""
        value = self._random.choice((None, self._random.randrange(100_000)))
        return (FIGURE,), (value,), frozenset()

    def _quality(self, host: Host) -> Quality:
        """Never 0, for the same reason."""

        def percent() -> int:
            return self._random.randint(1, 100)

        return Quality(
            HOLDS_MS,
            tuple(
                ServiceQuality(each.address, each.port, percent(), percent(), percent())
                for each in host.plan.listeners
                if each.address is not None and self._random.random() < 0.5
            ),
        )

    def _weights(self, host: Host) -> Weights:
        """Never 0: the rules expect that every target gets connections."""

        def weight() -> int:
            return self._random.randint(1, MAX_WEIGHT)

        servers = tuple(
            ServerWeight(each.address, each.port, weight())
            for each in host.plan.listeners
            if self._random.random() < 0.5
        )
        announced = self._random.choice((None, weight()))
        return Weights(HOLDS_MS, weight(), self._random.choice((500, 2000)), servers, announced)
