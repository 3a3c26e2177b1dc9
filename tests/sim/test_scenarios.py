"""The scenario files: each holds, and each would fail if its lesson had not been learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvipad.config.errors import ConfigError
from dvipad.core.candidates import Candidates
from dvipad.core.effects import Effect, ProbeAddress, RemoveAddress, Role, Send, Sequence, SetDvipa
from dvipad.core.inputs import Input, SeenElsewhere, Stalled, TroublesChanged
from dvipad.core.parts import Parts
from dvipad.core.ranges import Code, Verdict
from dvipad.wire.messages import SrvStat
from dvipad.wire.session import SessionSettings

from . import daemon as daemon_module
from .canaries import Canary, _effects, _inputs, _swap
from .checks import Violation
from .files import FOLDER, load, parse
from .judge import run
from .traffic import Traffic

FILES = sorted(FOLDER.glob("*.yaml"))
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_file_expects_holds(path: Path) -> None:
    file = load(path)
    for seed in SEEDS:
        run(file.with_seed(seed))


# -- each of them can fail -------------------------------------------------------------------------


def _patient(settings: SessionSettings) -> SessionSettings:
    """Two seconds of silence are nothing."""
    return replace(settings, dead_ms=2_000)


def _relays_for_ever(decide: Any) -> Any:
    """A packet from a tunnel is treated as one from a client."""

    def bad(traffic: Traffic, host: Any, connection: Any, packet: Any, relayed: bool) -> Any:
        return decide(traffic, host, connection, packet, False)

    return bad


def _targets_relay_back(daemon: Any) -> None:
    """A target sends everything to a former owner, as if it were not for itself."""
    if daemon.host.name == "t1":
        former = daemon.world.hosts["lb2"].plan.xcf

        def change(effect: Effect) -> list[Effect]:
            if not isinstance(effect, Sequence):
                return [effect]
            steps = tuple(
                replace(step, role=Role.MOVING, successor=former)
                if isinstance(step, SetDvipa) and step.role is Role.HIDDEN
                else step
                for step in effect.steps
            )
            return [replace(effect, steps=steps)]

        _effects(change)(daemon)


def _loops() -> Iterator[None]:
    return _swap(Traffic, "_decide", _relays_for_ever)()


def _no_greeting(effect: Effect) -> list[Effect]:
    """A new session gets no full list of listeners, only what changes."""
    full = isinstance(effect, Send) and isinstance(effect.message, SrvStat)
    return [] if full else [effect]


def _no_probe(effect: Effect) -> list[Effect]:
    if isinstance(effect, Sequence) and isinstance(effect.steps[0], ProbeAddress):
        return [replace(effect, steps=(RemoveAddress(effect.steps[0].dvipa),))]
    return [effect]


def _never_in_doubt(event: Input) -> Input:
    """A node that stalled does not notice."""
    return TroublesChanged(frozenset()) if isinstance(event, Stalled) else event


def _always_well(event: Input) -> Input:
    return TroublesChanged(frozenset()) if isinstance(event, TroublesChanged) else event


def _leaves_in_any_case(leaving: Any) -> Any:
    def bad(self: Any, vipa: Any) -> bool:
        return bool(self._context.troubles) or bool(leaving(self, vipa))

    return bad


def _allows_all(verdict: Any) -> Any:
    def bad(parts: Parts, *asked: Any) -> Verdict:
        found: Verdict = verdict(parts, *asked)
        return replace(found, code=Code.DONE)

    return bad


def _blind(event: Input) -> Input:
    return TroublesChanged(frozenset()) if isinstance(event, SeenElsewhere) else event


BUGS = {
    "power-cut": Canary("slow", poison=_swap(daemon_module, "SESSION", _patient)),
    "no-loop": Canary("a target relays back", _targets_relay_back, poison=_loops),
    "stalled-owner": Canary("does not notice its stall", _inputs(_never_in_doubt)),
    "listeners-after-takeback": Canary("tells a new session nothing", _effects(_no_greeting)),
    "trouble-alone": Canary("leaves", poison=_swap(Candidates, "leaving", _leaves_in_any_case)),
    "trouble-with-a-backup": Canary("knows no trouble", _inputs(_always_well)),
    "mesh-filtered": Canary("is blind", _inputs(_blind)),
    "conflicts": Canary("allows everything", poison=_swap(Parts, "verdict", _allows_all)),
    "stranger": Canary("asks nobody", _effects(_no_probe)),
}
"""What the lesson forbids, planted into the simulation of its file."""

OPPOSITES = {
    "backup-alone": (
        "VIPABACKUP 100 203.0.113.1",
        "VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 203.0.113.1",
    ),
    "balance": ("DESTIP 192.0.2.1 ", "DESTIP 192.0.2.1 WEIGHT 30 "),
    "conflicts": ("MOVEABLE DISRUPTIVE", "MOVEABLE NONDISRUPTIVE"),
    "standby-stays": ("NOAUTOSWITCHBACK", "AUTOSWITCHBACK"),
    "trouble-with-a-backup": ("VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 203.0.113.1", ""),
}
"""What makes a file wrong when its profiles say that instead."""


def _fails(call: Callable[[], object]) -> str:
    with pytest.raises(Violation) as caught:
        call()
    return caught.value.rule


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_fails(name: str) -> None:
    file, bug = load(FOLDER / f"{name}.yaml"), BUGS[name]
    with bug.planted():
        rule = _fails(lambda: run(file, bug))
    assert rule == ("relays" if name == "no-loop" else "expected"), rule


@pytest.mark.parametrize("name", OPPOSITES)
def test_the_opposite_configuration_fails(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    text, (old, new) = path.read_text(), OPPOSITES[name]
    assert old in text
    assert _fails(lambda: run(parse(text.replace(old, new), path))) == "expected"


def test_every_file_can_fail() -> None:
    assert {path.stem for path in FILES} == BUGS.keys() | OPPOSITES.keys()


# -- files that are wrong --------------------------------------------------------------------------

GOOD = (FOLDER / "power-cut.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("heals_ms: 5000", "heals_sm: 5000", "x.yaml:5:1: error: unknown key: 'heals_sm'"),
        ("heals_ms: 5000", "", "the scenario has no 'heals_ms'"),
        ("xcf: 192.0.2.3", "xcf: 192.0.2", "xcf is not valid: '192.0.2'"),
        ("what: power cut", "what: powercut", "what is not valid: 'powercut'"),
        ("hosts: lb1", "hosts: lb9", "hosts is not valid: 'lb9'"),
        ("listeners: [80]", "listeners: [http]", "listener is not valid: 'http'"),
        ("VIPABACKUP 100", "VIPABACKUP 300", "x.yaml: hosts.lb2.profile:2:"),
        ("- {lost: 0}", "- {found: 0}", "it is not clear what is expected"),
        ("owner: lb2", "owner: lb9", "owner is not valid: 'lb9'"),
        ("until_ms: 1999", "until_ms: 9999", "until_ms is not such a number: '9999'"),
        ("count: 6, every_ms", "count: six, every_ms", "count is not such a number: 'six'"),
        ("connections:", "connections: 5\nx:", "connections is not a list"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new), Path("x.yaml"))
    assert complaint in str(caught.value)
