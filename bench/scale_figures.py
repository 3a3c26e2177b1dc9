"""Figures of `scale`: names that end in the size that they were measured at."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figures import Figure, summary


def sized(name: str, size: int, values: Sequence[float], unit: str) -> list[Figure]:
    """`scale.NAME.SIZE`: the median of `values`, the smallest and the largest."""
    return [
        Figure(f"scale.{each.name}.{size}", each.value, each.unit)
        for each in summary(name, values, unit)
    ]
