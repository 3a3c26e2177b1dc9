"""What runs found: values, the table, and the JSON document."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

HEADINGS: Final = (
    "fault", "family", "runs", "lost", "resets", "new failed", "new slowed", "gap p50", "p99",
    "back p50", "p99", "full s", "stall", "odd", "verdict",
)  # fmt: skip
WIDTHS: Final = (28, 6, 4, 6, 6, 10, 10, 8, 6, 8, 6, 6, 5, 3, 7)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one fault.

    `lost`, `resets`: connections whose target lives. `gap_ms`: the DVIPA answered nobody for so
    long while the fault lasted; `back_gap_ms`: afterwards. `full_s`: until full redundancy, from
    the end of the fault, or from its beginning if it ends by itself; None: never. `own_stall_ms`:
    how late the traffic programs themselves were; `late_ms`: node → how late its daemon was.
    `facts`: what the harness saw; `notes`: what is odd; `broken`: broken rules.
    """

    fault: str
    family: int = 4
    seed: int = 0
    lost: int = 0
    resets: int = 0
    new_started: int = 0
    new_failed: Mapping[str, int] = field(default_factory=dict)
    new_slowed: int = 0
    gap_ms: float = 0.0
    back_gap_ms: float = 0.0
    longest_gap_ms: float = 0.0
    full_s: float | None = None
    moves: int = 0
    own_stall_ms: float = 0.0
    late_ms: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def line(self) -> str:
        """One line of progress."""
        failed = f"{sum(self.new_failed.values())} {dict(self.new_failed) or ''}".strip()
        full = "never" if self.full_s is None else f"{self.full_s:.1f} s"
        late = " ".join(f"{name}={ms}" for name, ms in self.late_ms.items())
        words = [
            f"lost={self.lost} resets={self.resets} new_failed={failed} slowed={self.new_slowed}",
            f"gap={self.gap_ms:.0f}/{self.back_gap_ms:.0f} ms full={full} moves={self.moves}",
            f"own_stall={self.own_stall_ms:.0f} ms",
            *([f"daemons late by ms: {late}"] if late else []),
            *(f"[{fact}]" for fact in self.facts),
            *(f"({note})" for note in self.notes),
            *(f"BROKEN: {what}" for what in self.broken),
        ]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of a fault in one family, as a row of the table.

    `odd`: runs that were not as foreseen, such as a takeover that nothing but a stall of the
    machine explains; `own_stall_ms` (column `stall`) is the longest that the clients saw.
    """

    fault: str
    family: int
    runs: int
    lost: int
    resets: int
    new_failed: Mapping[str, int]
    new_slowed: int
    gap_p50_ms: float
    gap_p99_ms: float
    back_gap_p50_ms: float
    back_gap_p99_ms: float
    full_p50_s: float | None
    odd: int
    broken: int
    own_stall_ms: float

    def text(self) -> str:
        """The row of the table."""
        cells = (
            self.fault,
            f"IPv{self.family}",
            self.runs,
            self.lost,
            self.resets,
            sum(self.new_failed.values()),
            self.new_slowed,
            f"{self.gap_p50_ms:.0f}",
            f"{self.gap_p99_ms:.0f}",
            f"{self.back_gap_p50_ms:.0f}",
            f"{self.back_gap_p99_ms:.0f}",
            "never" if self.full_p50_s is None else f"{self.full_p50_s:.1f}",
            f"{self.own_stall_ms:.0f}",
            self.odd,
            f"BROKEN {self.broken}" if self.broken else "ok",
        )
        return line_of(cells)


def line_of(cells: Sequence[object]) -> str:
    """Cells in columns: the first one to the left, numbers to the right."""
    first, *rest = zip(cells, WIDTHS, strict=True)
    texts = [f"{first[0]!s:<{first[1]}}", *(f"{cell!s:>{width}}" for cell, width in rest)]
    return "  ".join(texts)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def row_of(runs: Sequence[Run]) -> Row:
    """The row of runs of the same fault and family."""
    gaps = [run.gap_ms for run in runs]
    backs = [run.back_gap_ms for run in runs]
    full = [math.inf if run.full_s is None else run.full_s for run in runs]
    middle = percentile(full, 50)
    failed: Counter[str] = Counter()
    for run in runs:
        failed.update(run.new_failed)
    return Row(
        fault=runs[0].fault,
        family=runs[0].family,
        runs=len(runs),
        lost=sum(run.lost for run in runs),
        resets=sum(run.resets for run in runs),
        new_failed=dict(failed),
        new_slowed=sum(run.new_slowed for run in runs),
        gap_p50_ms=percentile(gaps, 50),
        gap_p99_ms=percentile(gaps, 99),
        back_gap_p50_ms=percentile(backs, 50),
        back_gap_p99_ms=percentile(backs, 99),
        full_p50_s=None if math.isinf(middle) else middle,
        odd=sum(bool(run.notes) for run in runs),
        broken=sum(bool(run.broken) for run in runs),
        own_stall_ms=max((run.own_stall_ms for run in runs), default=0.0),
    )


def write(path: Path, rows: Sequence[Row], runs: Sequence[Run]) -> None:
    """Write everything as JSON; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"rows": [asdict(row) for row in rows], "runs": [asdict(run) for run in runs]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.replace(path)
