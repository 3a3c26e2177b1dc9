"""From figures to weights: how a preference compares targets, and farms (S3, S4).

    smallest is best:   goodness = 1 / (1 + figure)
    best-throughput:    goodness = figure
    weight = 64 · goodness / greatest goodness           at least 1
    formula:            weight = its value, 0 to 64

A target of which the figure is not known gets what the others have on average: if nothing is known
of any, all are equal. With farms, those are compared by the mean goodness of their members; a
farm's share is then parted among its members by their own weights.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from simpleeval import InvalidExpression, SimpleEval

from dvipad.config.model import By, Preference, Score
from dvipad.wire.messages import MAX_WEIGHT

_FUNCTIONS: Final = {"abs": abs, "max": max, "min": min, "round": round}
_OPERATORS: Final = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd, ast.Not,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rated:
    """A target that is ready. `farm` empty: it is in none, and counts as one of its own."""

    name: str
    farm: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Weighed:
    """`weights`: 0-64 of each target, in their order; `known`: whether it comes from figures.
    `farms`: how good each is, the greatest is the best."""

    weights: tuple[int, ...]
    known: tuple[bool, ...]
    farms: Mapping[str, float | None]


def good(score: Score, target: Rated) -> float | None:
    """How good `target` is; None: what `score` looks at is not known."""
    if score.by is By.FORMULA:
        return _formula(score.of)(target.figures)
    figure = target.figures.get(score.of)
    if figure is None:
        return None
    return figure if score.by is By.BEST_THROUGHPUT else 1 / (1 + figure)


def weigh(
    preference: Preference,
    targets: Sequence[Rated],
    judge: Callable[[Score, Rated], float | None] = good,
) -> Weighed:
    """The weights of `targets` by `preference`; `judge` is `good`, or knows what it said before."""
    goodness = [judge(preference.score, target) for target in targets]
    farms = _farms(targets, goodness)
    known = tuple(each is not None for each in goodness)
    if not preference.farms:
        shares = _filled([_share(preference.score, each, goodness) for each in goodness])
        return Weighed(tuple(map(_weight, shares)), known, farms)
    local = {each.farm: each.score for each in preference.farms}
    among = _filled_farms(farms, preference.score)
    parts = [0.0] * len(targets)
    for farm, members in _members(targets).items():
        score = local.get(farm, preference.score)
        found = [judge(score, targets[index]) for index in members]
        within = _filled([_share(score, each, found) for each in found])
        whole = sum(within) or 1.0
        for index, share in zip(members, within, strict=True):
            parts[index] = among[farm] * share / whole
    scale = MAX_WEIGHT / max(max(parts, default=0.0), 1e-9)
    weights = tuple(_weight(part * scale) for part in parts)
    return Weighed(weights, known, farms)


def _share(score: Score, goodness: float | None, all_of: Sequence[float | None]) -> float | None:
    if goodness is None or score.by is By.FORMULA:
        return goodness
    best = max(each for each in all_of if each is not None)
    return MAX_WEIGHT if best == 0 else max(1.0, MAX_WEIGHT * goodness / best)


def _filled(shares: Sequence[float | None]) -> list[float]:
    known = [share for share in shares if share is not None]
    average = max(1.0, sum(known) / len(known)) if known else 1.0
    return [average if share is None else share for share in shares]


def _weight(share: float) -> int:
    """A whole number; what is more than nothing does not become nothing."""
    return min(MAX_WEIGHT, max(1, round(share))) if share > 0 else 0


def _entity(target: Rated) -> str:
    """A target of no farm is compared with farms by itself."""
    return target.farm or f"/{target.name}"


def _members(targets: Sequence[Rated]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, target in enumerate(targets):
        found.setdefault(_entity(target), []).append(index)
    return found


def _farms(targets: Sequence[Rated], goodness: Sequence[float | None]) -> dict[str, float | None]:
    """The mean goodness of the members of each of which something is known."""
    found: dict[str, float | None] = {}
    for farm, members in _members(targets).items():
        known = [each for index in members if (each := goodness[index]) is not None]
        found[farm] = sum(known) / len(known) if known else None
    return found


def _filled_farms(farms: Mapping[str, float | None], score: Score) -> dict[str, float]:
    values = list(farms.values())
    shares = _filled([_share(score, each, values) for each in values])
    return dict(zip(farms, shares, strict=True))


# -- formulas --------------------------------------------------------------------------------------


class _Names(ast.NodeTransformer):
    """``object.figure`` is one name."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(ast.unparse(node), ast.Load())


@cache
def _formula(text: str) -> Callable[[Mapping[str, float]], float | None]:
    """The expression `text` as a function of figures: 0 to 64, None when it has no value."""
    evaluator: Any = SimpleEval(functions=_FUNCTIONS)
    evaluator.operators = {
        kind: found for kind, found in evaluator.operators.items() if kind in _OPERATORS
    }
    tree = _Names().visit(evaluator.parse(text))

    def value_of(figures: Mapping[str, float]) -> float | None:
        evaluator.names = figures
        try:
            value = evaluator.eval(text, previously_parsed=tree)
        except (InvalidExpression, ArithmeticError, ValueError, TypeError, RecursionError):
            return None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return min(float(MAX_WEIGHT), max(0.0, float(value)))

    return value_of
