"""Planted bugs: the checks must find each of them within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from dvipad.core import owners as owners_module
from dvipad.core.candidates import Candidates
from dvipad.core.crt import Collection
from dvipad.core.effects import Announce, Broadcast, Effect, PlaceAddress, Role, Sequence, SetDvipa
from dvipad.core.inputs import Input
from dvipad.core.owners import Owners
from dvipad.core.triggers import Facts, due
from dvipad.core.vipa import Ownership, State, Trigger
from dvipad.wire.events import MessageReceived
from dvipad.wire.messages import Dvipa, NewConn, SrvStat, VipaList

if TYPE_CHECKING:
    from .daemon import Daemon

ENOUGH: Final = 200
"""A canary that lives for so many seeds was not found."""


@dataclass(frozen=True, slots=True)
class Canary:
    """`plant` puts the bug into a daemon before it starts; `poison` into the code for a while.

    `hint`: a seed that once found it, of the stressed scenarios where `stress` says so.
    """

    name: str
    plant: Callable[[Daemon], None] = lambda daemon: None
    poison: Callable[[], Iterator[None]] | None = None
    hint: int = 0
    stress: bool = False

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The code has the bug inside."""
        if self.poison is None:
            yield
        else:
            with contextmanager(self.poison)():
                yield


def _effects(change: Callable[[Effect], list[Effect]]) -> Callable[[Daemon], None]:
    """A node whose effects are changed."""

    def plant(daemon: Daemon) -> None:
        step, expire = daemon.node.step, daemon.node.expire

        def bad(effects: list[Effect]) -> list[Effect]:
            return [changed for effect in effects for changed in change(effect)]

        node: Any = daemon.node
        node.step = lambda event, now_ms: bad(step(event, now_ms))
        node.expire = lambda now_ms: bad(expire(now_ms))

    return plant


def _inputs(change: Callable[[Input], Input]) -> Callable[[Daemon], None]:
    """A node whose inputs are changed."""

    def plant(daemon: Daemon) -> None:
        step = daemon.node.step
        node: Any = daemon.node
        node.step = lambda event, now_ms: step(change(event), now_ms)

    return plant


def _swap(owner: Any, name: str, bad: Callable[[Any], Any]) -> Callable[[], Iterator[None]]:
    """`bad(good)` instead of the attribute `name` of `owner`."""

    def poison() -> Iterator[None]:
        good = getattr(owner, name)
        setattr(owner, name, bad(good))
        try:
            yield
        finally:
            setattr(owner, name, good)

    return poison


def _announce_first(effect: Effect) -> list[Effect]:
    if isinstance(effect, Sequence):
        first = [step for step in effect.steps if isinstance(step, Announce)]
        rest = [step for step in effect.steps if not isinstance(step, Announce)]
        return [replace(effect, steps=(*first, *rest))]
    return [effect]


def _address_first(effect: Effect) -> list[Effect]:
    if isinstance(effect, Sequence):
        order = sorted(effect.steps, key=lambda step: not isinstance(step, PlaceAddress))
        return [replace(effect, steps=tuple(order))]
    return [effect]


def _no_relay(effect: Effect) -> list[Effect]:
    if isinstance(effect, Sequence):
        steps = tuple(
            replace(step, role=Role.HIDDEN)
            if isinstance(step, SetDvipa) and step.role is Role.MOVING
            else step
            for step in effect.steps
        )
        return [replace(effect, steps=steps)]
    return [effect]


def _answers_at_once(effect: Effect) -> list[Effect]:
    """Never collects: what the CRT does not know is reset."""
    if isinstance(effect, Sequence):
        steps = tuple(
            replace(step, collecting=False) if isinstance(step, SetDvipa) else step
            for step in effect.steps
        )
        return [replace(effect, steps=steps)]
    return [effect]


def _silent_close(effect: Effect) -> list[Effect]:
    if isinstance(effect, Broadcast) and isinstance(effect.message, SrvStat):
        ports = tuple(port for port in effect.message.ports if port.ready)
        return [Broadcast(replace(effect.message, ports=ports))]
    return [effect]


def _empty_snapshot(event: Input) -> Input:
    if isinstance(event, MessageReceived) and isinstance(event.message, NewConn):
        message = replace(event.message, established=b"", embryonic=b"")
        return replace(event, message=message) if event.message.snapshot else event
    return event


def _deaf_to_snapshots(event: Input) -> Input:
    if isinstance(event, MessageReceived) and isinstance(event.message, NewConn):
        return replace(event, message=replace(event.message, last=False))
    return event


def _old_epoch(event: Input) -> Input:
    """Whatever epoch a message has, it is taken for the first."""
    if not isinstance(event, MessageReceived):
        return event
    message = event.message
    if isinstance(message, VipaList):
        entries = tuple(replace(entry, epoch=min(entry.epoch, 1)) for entry in message.entries)
        return replace(event, message=replace(message, entries=entries))
    if isinstance(message, Dvipa):
        return replace(event, message=replace(message, epoch=min(message.epoch, 1)))
    return event


def _impatient(complete: Any) -> Any:
    def bad(collection: Collection, now_ms: int, collect_ms: int) -> bool:
        return True

    return bad


def _greedy(entitled: Any) -> Any:
    def bad(candidates: Candidates, vipa: Ownership) -> bool:
        return vipa.rank > 0

    return bad


def _stubborn(decide: Any) -> Any:
    def bad(vipa: Ownership, facts: Facts) -> Trigger | None:
        trigger = due(vipa, facts)
        return None if trigger is Trigger.HIGHER_CLAIM else trigger

    return bad


def _unconfirmed(decide: Any) -> Any:
    """Takes the address back without waiting for the present owner."""

    def bad(vipa: Ownership, facts: Facts) -> Trigger | None:
        if vipa.state is State.AWAITING and facts.rival is not None:
            return Trigger.RELEASED
        return due(vipa, facts)

    return bad


def _believe(failed: Any) -> Any:
    def bad(owners: Owners, effect_id: int, reason: str) -> None:
        for vipa in owners:
            vipa.failed = reason

    return bad


def _tie(decide: Any) -> Any:
    """Of two equal claims neither yields."""

    def bad(vipa: Ownership, facts: Facts) -> Trigger | None:
        trigger, rival, own = due(vipa, facts), facts.rival, facts.own
        equal = rival is not None and (rival.epoch, rival.rank) == (own.epoch, own.rank)
        return None if trigger is Trigger.HIGHER_CLAIM and equal else trigger

    return bad


_OWNERS: Any = owners_module

CANARIES: Final = (
    Canary("announces before its rules are there", _effects(_announce_first)),
    Canary("places the address before its rules", _effects(_address_first)),
    Canary("a node that gave up does not relay", _effects(_no_relay), hint=3, stress=True),
    Canary("resets while it collects", _effects(_answers_at_once), hint=8, stress=True),
    Canary("does not tell that a listener closed", _effects(_silent_close), hint=14, stress=True),
    Canary("takes snapshots for empty", _inputs(_empty_snapshot), hint=2),
    Canary("overhears the end of a snapshot", _inputs(_deaf_to_snapshots)),
    Canary("takes every epoch for the first", _inputs(_old_epoch), hint=4),
    Canary(
        "a CRT is complete at once",
        poison=_swap(Collection, "complete", _impatient),
        hint=32,
        stress=True,
    ),
    Canary(
        "no better candidate counts",
        poison=_swap(Candidates, "entitled", _greedy),
        hint=3,
        stress=True,
    ),
    Canary(
        "never yields to a higher claim",
        poison=_swap(_OWNERS, "due", _stubborn),
        hint=1,
        stress=True,
    ),
    Canary("takes back what nobody released", poison=_swap(_OWNERS, "due", _unconfirmed), hint=3),
    Canary(
        "believes old failures",
        poison=_swap(Owners, "effect_failed", _believe),
        hint=4,
        stress=True,
    ),
    Canary("equal claims stay equal", poison=_swap(_OWNERS, "due", _tie), hint=150),
)
"""Each is a mistake that somebody could make."""


def finds(canary: Canary, seed: int) -> str:
    """The rule by which `seed` finds the canary; empty: it does not, or fails without it too."""
    from .checks import Violation
    from .scenario import make_scenario, stressed
    from .world import World

    scenario = stressed(seed) if canary.stress else make_scenario(seed)
    try:
        with canary.planted():
            World(scenario, canary).run()
    except Violation as violation:
        rule = violation.rule
    else:
        return ""
    try:
        World(scenario).run()
    except Violation:
        return ""
    return rule
