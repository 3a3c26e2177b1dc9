"""What the demo shows: lines that stay, and below them a table that is drawn anew all the time."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

PLAIN_INTERVAL_S: Final = 3.0
_HEADINGS: Final = ("target", "curl", "wrk", "new*", "long open", "longest gap*")
_UP_AND_CLEAR: Final = "\x1b[{}F\x1b[J"


@dataclass(slots=True)
class Scene:
    """Everything that the table shows: counts per target, and who has the DVIPA."""

    targets: Sequence[str]
    dvipa: str
    step: str = ""
    holder: str = "-"
    curl: Counter[str] = field(default_factory=Counter)
    wrk: Counter[str] = field(default_factory=Counter)
    new: Mapping[str, int] = field(default_factory=dict)
    long: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def table(self, seconds: float) -> list[str]:
        """The table as lines."""
        rows = [self._row(target) for target in self.targets]
        lines = [
            f"{self.step}  [{seconds:.1f} s]",
            f"packets for {self.dvipa} go to {self.holder}",
            "  {:<10}{:>8}{:>9}{:>8}{:>12}{:>14}".format(*_HEADINGS),
        ]
        lines += ["  {:<10}{:>8}{:>9}{:>8}{:>12}{:>14}".format(*row) for row in rows]
        return [*lines, "  * in this step"]

    def _row(self, target: str) -> tuple[str, ...]:
        own = self.long.get(target, {})
        name = f"{target} (dead)" if target in self.dead else target
        shown = f"{own['open']:.0f}/{own['connections']:.0f}" if own else "-"
        gap = f"{own['max_gap_ms']:.0f} ms" if own else "-"
        counts = (self.curl[target], self.wrk[target], self.new.get(target, 0))
        return (name, *map(str, counts), shown, gap)

    def line(self, seconds: float) -> str:
        """The same for a terminal that cannot redraw, or a file."""
        cells = [
            f"{name}: {curl} curl, {wrk} wrk, {new} new, {shown} long, gap {gap}"
            for name, curl, wrk, new, shown, gap in map(self._row, self.targets)
        ]
        return f"  {seconds:5.1f} s  at {self.holder}  | " + " | ".join(cells)


class Screen:
    """Draws a scene: in place on a terminal, as a line now and then elsewhere."""

    def __init__(self, scene: Scene, out: TextIO | None = None) -> None:
        self.scene = scene
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty()
        self._start_s = time.monotonic()
        self._height = 0
        self._printed_s = 0.0

    @property
    def seconds(self) -> float:
        """Since the screen was made."""
        return time.monotonic() - self._start_s

    def say(self, text: str) -> None:
        """Print a line that stays, above the table."""
        self._wipe()
        print(text, file=self._out)
        self.draw()

    def step(self, text: str) -> None:
        """Begin a new step of the demo."""
        if not self._live and self.scene.step:
            print(self.scene.line(self.seconds), file=self._out)
        self.scene.step = text
        self._wipe()
        print(f"== {text}", file=self._out)
        self._printed_s = self.seconds
        self.draw()

    def draw(self) -> None:
        """Show the scene as it is now."""
        if self._live:
            self._wipe()
            lines = self.scene.table(self.seconds)
            print("\n".join(lines), file=self._out)
            self._height = len(lines)
        elif self.seconds - self._printed_s >= PLAIN_INTERVAL_S:
            self._printed_s = self.seconds
            print(self.scene.line(self.seconds), file=self._out)
        self._out.flush()

    def close(self) -> None:
        """Leave the last table where it is; nothing is drawn over it any more."""
        if not self._live:
            print(self.scene.line(self.seconds), file=self._out, flush=True)
        self._height = 0

    def _wipe(self) -> None:
        if self._live and self._height:
            self._out.write(_UP_AND_CLEAR.format(self._height))
        self._height = 0
