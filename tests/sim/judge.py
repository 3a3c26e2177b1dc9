"""Runs scenario files: looks at what they expect when it is time, besides all other rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from dvipad.address import Address

from .expect import (
    Even,
    Expectation,
    Lasting,
    Lost,
    Opened,
    Owner,
    Owners,
    Refused,
    Relays,
    Targets,
    Warned,
)
from .files import Opening, ScenarioFile
from .traffic import Phase
from .world import World

if TYPE_CHECKING:
    from .canaries import Canary

LOOK_EVERY_MS: Final = 1
"""What is expected for a while is looked at so often."""


def run(
    file: ScenarioFile, canary: Canary | None = None, sink: Callable[[str], None] | None = None
) -> World:
    """Run what the file says; raises `Violation`, by the rule `expected` for what it expects."""
    world = World(file.scenario, canary, sink)
    for expected in file.expectations:
        if isinstance(expected, Warned):
            warnings = [str(problem) for name, problem in file.warnings if name == expected.name]
            if not any(expected.text in warning for warning in warnings):
                world.checks.fail("expected", f"{expected}, but the check says {warnings}")
    for at_ms, name, listener in file.late:
        host = world.hosts[name]
        del host.kernel.listeners[listener.address, listener.port]
        world.loop.at(at_ms, partial(host.set_listener, listener, True))
    for one in file.openings:
        world.loop.at(one.at_ms, partial(_open, world, one))
    judge = Judge(world, file.expectations)
    judge.plan()
    world.run()
    judge.conclude()
    return world


def _open(world: World, one: Opening) -> None:
    world.traffic.open(one.dvipa, one.port, one.messages, one.pause_ms)


class Judge:
    """Looks at a world when it is time, and reports to its checks, by the rule `expected`."""

    def __init__(self, world: World, expectations: tuple[Expectation, ...]) -> None:
        self._world = world
        self._expectations = expectations

    def plan(self) -> None:
        """Look at everything in its time; before the world runs."""
        for expected in self._expectations:
            if isinstance(expected, Owner | Owners | Targets):
                during = expected.during
                times = range(during.from_ms, during.until_ms + 1, LOOK_EVERY_MS)
                for at_ms in {*times, during.until_ms}:
                    self._world.loop.at(at_ms, partial(self._look, expected))
        self._world.loop.at(self._world.scenario.safety_ms, self._sum_up)

    def conclude(self) -> None:
        """Look once more; after the world ran."""
        for expected in self._expectations:
            if isinstance(expected, Lost):
                phases = Counter(one.phase for one in self._world.traffic.connections)
                lost = phases[Phase.RESET] + phases[Phase.REFUSED] + phases[Phase.OPENING]
                self._demand(lost == expected.count, expected, f"{lost} are lost")

    def _demand(self, holds: bool, expected: Expectation, found: str) -> None:
        if not holds:
            self._world.checks.fail("expected", f"{expected}, but {found}")

    def _look(self, expected: Lasting) -> None:
        answering = self._answering(expected.dvipa)
        found = f"{', '.join(answering) or 'nobody'} answers"
        match expected:
            case Owner():
                wanted = [] if expected.name is None else [expected.name]
                self._demand(answering == wanted, expected, found)
            case Owners():
                self._demand(len(answering) <= expected.most, expected, found)
            case Targets():
                names = self._targets(answering, expected.dvipa, expected.port)
                text = f"{', '.join(sorted(names)) or 'nobody'} gets them"
                self._demand(names == expected.names, expected, text)
            case _:
                assert_never(expected)

    def _answering(self, dvipa: Address) -> list[str]:
        return [
            host.name
            for host in self._world.hosts.values()
            if host.name in self._world.lan.up and host.kernel.answers(dvipa, host.clock_ms())
        ]

    def _targets(self, answering: list[str], dvipa: Address, port: int) -> set[str]:
        kernels = [self._world.hosts[name].kernel for name in answering]
        services = [kernel.services.get((dvipa, port)) for kernel in kernels]
        rings = [service.ring for service in services if service is not None]
        return {self._world.by_xcf(xcf) or str(xcf) for ring in rings for xcf in ring}

    def _sum_up(self) -> None:
        checks = self._world.checks
        for expected in self._expectations:
            match expected:
                case Refused():
                    texts = [
                        refusal.reason
                        for name, refusal in checks.refusals
                        if (name, refusal.dvipa) == (expected.name, expected.dvipa)
                    ]
                    holds = any(expected.text in text for text in texts)
                    self._demand(holds, expected, f"it refuses {texts or 'nothing'}")
                case Opened():
                    opened = sum(bool(one.opened_ms) for one in self._world.traffic.connections)
                    self._demand(opened == expected.count, expected, f"{opened} were opened")
                case Even():
                    given = self._given(expected.names)
                    holds = 0 < max(given.values()) <= min(given.values()) + expected.within
                    self._demand(holds, expected, f"they got {given}")
                case Relays():
                    found = checks.most_relays
                    self._demand(found == expected.count, expected, f"{found} times")
                case Owner() | Owners() | Targets() | Warned() | Lost():
                    pass  # looked at elsewhere
                case _:
                    assert_never(expected)

    def _given(self, names: frozenset[str]) -> dict[str, int]:
        given = Counter(connection.target for connection in self._world.traffic.connections)
        return {name: given[name] for name in sorted(names)}
