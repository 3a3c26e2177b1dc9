"""A weight that follows its readings without fluttering."""

from __future__ import annotations

import math
from typing import Final

from dvipad.wire.messages import MAX_WEIGHT

SMOOTHING: Final = 0.5
"""Part of the smoothed value that each new reading makes (EWMA): after three intervals seven
eighths of a step are in it."""
STEP: Final = 2.0
"""A smoothed value that is nearer than this to the weight that was told does not change it, …"""
STEP_SHARE: Final = 0.08
"""… nor one that is nearer than this share of it."""


class Steady:
    """Smooths one weight, and holds it until it has really changed."""

    def __init__(self) -> None:
        self._smooth: float | None = None
        self._told: int | None = None

    def step(self, weight: float) -> int:
        """The next reading, 0 to 64, of one interval; returns the weight to tell, rounded.

        What is no number, or out of range, is taken for the nearest that is not (NaN: 0). A
        reading of 0 is told at once, and so is the end of zeros: they mean that nothing works.
        """
        value = 0.0 if math.isnan(weight) else min(float(MAX_WEIGHT), max(0.0, weight))
        if self._smooth is None or value == 0.0 or self._told == 0:
            self._smooth = value
        else:
            self._smooth += SMOOTHING * (value - self._smooth)
        if self._told is None or self._has_moved(self._told, self._smooth):
            least = 1 if self._smooth > 0 else 0
            self._told = max(least, round(self._smooth))
        return self._told

    @staticmethod
    def _has_moved(told: int, smooth: float) -> bool:
        return smooth == 0 or told == 0 or abs(smooth - told) >= max(STEP, STEP_SHARE * told)
