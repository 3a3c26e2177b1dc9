"""Figures: `name value unit`, medians with their spread, and ratios of medians."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SIGNIFICANT_DIGITS: Final = 4

_WORD = re.compile(r"[a-z0-9_.%/-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the output; `name` and `unit` are words without spaces."""

    name: str
    value: float
    unit: str

    def __post_init__(self) -> None:
        if not (_WORD.fullmatch(self.name) and _WORD.fullmatch(self.unit)):
            raise ValueError(f"not a word: {self.name!r} {self.unit!r}")

    def line(self) -> str:
        """`name value unit`."""
        return f"{self.name} {number(self.value)} {self.unit}"


def number(value: float) -> str:
    """`value` with four significant digits; whole numbers in full, never an exponent."""
    if value == int(value) or abs(value) >= 10**SIGNIFICANT_DIGITS:
        return str(round(value))
    digits = f"{value:.{SIGNIFICANT_DIGITS}g}"
    return digits if "e" not in digits else f"{value:.{SIGNIFICANT_DIGITS + 4}f}".rstrip("0")


def summary(name: str, samples: Sequence[float], unit: str) -> list[Figure]:
    """The median of `samples`, then the smallest and the largest (`name_min`, `name_max`).

    A unit at the end of `name` stays at the end: `x_ms` has `x_min_ms`.
    """
    stem = name.removesuffix(f"_{unit}")
    tail = name[len(stem) :]
    return [
        Figure(name, statistics.median(samples), unit),
        Figure(f"{stem}_min{tail}", min(samples), unit),
        Figure(f"{stem}_max{tail}", max(samples), unit),
    ]


def compare(
    prefix: str, medians: Mapping[str, float], pairs: Sequence[tuple[str, str]]
) -> list[Figure]:
    """`prefix` + `one_vs_other`, the ratio of medians, for the `pairs` that were both measured."""
    return [
        Figure(f"{prefix}{one}_vs_{other}", medians[one] / medians[other], "ratio")
        for one, other in pairs
        if one in medians and medians.get(other)
    ]
