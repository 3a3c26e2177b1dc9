"""Preferences of this node: weights of the targets that it distributes to, and the best of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dvipad.address import Address
from dvipad.config.model import Preference, Score, farm_of
from dvipad.core.figures import FigureTable
from dvipad.core.preference import Rated, good, weigh
from dvipad.core.source import Source
from dvipad.core.targets import DptRow

STEP: Final = 2
"""A weight that is nearer than this to the one before does not change, …"""
STEP_SHARE: Final = 0.08
"""… nor one that is nearer than this share of it."""
Service: TypeAlias = tuple[Address, int]


@dataclass(frozen=True, slots=True)
class Best:
    """The preferred target and farm of a service; empty: none is ready, or in a farm."""

    server: str = ""
    farm: str = ""


NOBODY: Final = Best()


class Preferences:
    """The first one that is for a service governs its weights."""

    def __init__(self, figures: FigureTable) -> None:
        self._figures = figures
        self._rules: tuple[Preference, ...] = ()
        self._changes = 0
        self._weights: dict[Service, dict[str, int]] = {}
        self._farms: dict[Service, Mapping[str, float | None]] = {}
        self._best: dict[Service, Best] = {}
        self._judged: dict[tuple[Score, str], tuple[Mapping[str, float], float | None]] = {}

    @property
    def edition(self) -> int:
        """A greater one whenever weights may be others."""
        return self._changes + self._figures.edition

    def follow(self, rules: tuple[Preference, ...]) -> None:
        """These are the preferences from now on."""
        if rules != self._rules:
            self._rules = rules
            self._changes += 1
            self._weights.clear()
            self._farms.clear()
            self._judged.clear()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._rules)

    def of(self, dvipa: Address, port: int) -> Preference | None:
        """The one that governs (`dvipa`, `port`)."""
        return next((rule for rule in self._rules if rule.concerns(dvipa, port)), None)

    def concern(self, dvipa: Address) -> bool:
        """Whether weights of some port of `dvipa` may follow figures."""
        return any(not rule.dvipas or dvipa in rule.dvipas for rule in self._rules)

    def weigh(
        self, dvipa: Address, port: int, targets: Iterable[DptRow]
    ) -> dict[str, tuple[int, Source]] | None:
        """Weights of those `targets` that are ready, and where each comes from, by node; None: no
        preference is for the service."""
        rule = self.of(dvipa, port)
        if rule is None:
            return None
        rated = [
            Rated(row.name, farm_of(row.labels), self._figures.of(row.name))
            for row in targets
            if row.ready > 0
        ]
        found = weigh(rule, rated, self._judge)
        before = self._weights.get((dvipa, port), {})
        names = [each.name for each in rated]
        weights = {
            name: _held(before.get(name), weight)
            for name, weight in zip(names, found.weights, strict=True)
        }
        self._weights[dvipa, port], self._farms[dvipa, port] = weights, found.farms
        sources = [Source.FIGURES if known else Source.DEFAULT for known in found.known]
        return {name: (weights[name], each) for name, each in zip(names, sources, strict=True)}

    def _judge(self, score: Score, target: Rated) -> float | None:
        """How good a target is: formulas are evaluated when figures changed, and not before."""
        known = self._judged.get((score, target.name))
        if known is None or known[0] is not target.figures:
            known = self._judged[score, target.name] = (target.figures, good(score, target))
        return known[1]

    def best(self, dvipa: Address, port: int, rows: Sequence[DptRow]) -> Best:
        """The best of the targets `rows` and of their farms; of equals the one that it was."""
        before = self._best.get((dvipa, port), NOBODY)
        ready = [row for row in rows if row.ready > 0]
        servers = {row.name: float(row.weight) for row in ready}
        found = self._farms.get((dvipa, port)) if self.of(dvipa, port) else None
        farms = _farms(ready, found)
        now = Best(_greatest(servers, before.server), _greatest(farms, before.farm))
        self._best[dvipa, port] = now
        return now


def _held(before: int | None, now: int) -> int:
    """A weight that has hardly changed stays."""
    if before and now and abs(now - before) < max(STEP, STEP_SHARE * before):
        return before
    return now


def _farms(rows: Iterable[DptRow], goodness: Mapping[str, float | None] | None) -> dict[str, float]:
    """How good each farm is: as compared by a preference, else the mean weight of its targets."""
    weights: dict[str, list[int]] = {}
    for row in rows:
        farm = farm_of(row.labels)
        if farm:
            weights.setdefault(farm, []).append(row.weight)
    if goodness is None:
        return {farm: sum(each) / len(each) for farm, each in weights.items()}
    return {farm: goodness.get(farm) or 0.0 for farm in weights}


def _greatest(values: Mapping[str, float], before: str) -> str:
    return max(sorted(values), key=lambda name: (values[name], name == before), default="")
