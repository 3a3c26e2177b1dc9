"""The table of the matrix: percentiles, sums, what counts as broken, and that rows are sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.matrix import MATRIX, SKIPPED
from tests.chaos.results import HEADINGS, WIDTHS, Run, percentile, row_of, write


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 5.0), (99, 10.0), (100, 10.0), (0, 1.0), (10, 1.0)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(10, 0, -1)], percent) == expected


def test_no_values_have_no_percentile() -> None:
    assert percentile([], 50) == 0.0


def test_a_row_adds_up_and_keeps_what_is_odd_apart_from_what_is_broken() -> None:
    runs = [
        Run("f", 6, new_failed={"ECONNRESET": 1}, gap_ms=10, full_s=1.0),
        Run("f", 6, lost=2, gap_ms=30, full_s=None, broken=("2 lost",)),
        Run("f", 6, new_failed={"ECONNRESET": 2}, gap_ms=20, full_s=2.0, notes=("moved",)),
    ]
    row = row_of(runs)
    assert (row.runs, row.lost, row.odd, row.broken) == (3, 2, 1, 1)
    assert row.new_failed == {"ECONNRESET": 3}
    assert (row.gap_p50_ms, row.gap_p99_ms, row.full_p50_s) == (20, 30, 2.0)
    assert "BROKEN 1" in row.text()


def test_a_cluster_that_mostly_never_recovers_says_so() -> None:
    row = row_of([Run("f", full_s=None), Run("f", full_s=None), Run("f", full_s=1.0)])
    assert row.full_p50_s is None
    assert "never" in row.text()


def test_results_are_json(tmp_path: Path) -> None:
    run = Run("f", notes=("odd",), states={"open": 3})
    write(tmp_path / "new" / "chaos.json", [row_of([run])], [run])
    content = json.loads((tmp_path / "new" / "chaos.json").read_text())
    assert content["rows"][0]["odd"] == 1
    assert content["runs"][0]["states"] == {"open": 3}


def test_the_matrix_is_sound() -> None:
    names = [row.name for row in (*MATRIX, *SKIPPED)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= WIDTHS[0]
    assert len(HEADINGS) == len(WIDTHS)
    for fault in MATRIX:
        assert fault.owner in (None, *(f"lb{number + 1}" for number in range(fault.lbs)))
