"""A handful of rows of the fault matrix, one run each; `make chaos` runs all of them."""

from __future__ import annotations

import os

import pytest

from tests.chaos.matrix import MATRIX
from tests.chaos.run import Load, run_once

pytestmark = pytest.mark.e2e

LOAD = Load(connections=200, interval_ms=200.0, new_per_s=100.0)
ROWS = (
    ("clean-stop", 6),
    ("owner-power-cut", 4),
    ("owner-target-power-cut", 6),
    ("target-daemon-kill-restart", 4),
    ("address-deleted", 6),
    ("takeback", 4),
)


@pytest.mark.parametrize(("name", "family"), ROWS)
def test_no_connection_is_lost(name: str, family: int) -> None:
    fault = next(fault for fault in MATRIX if fault.name == name)
    run = run_once(fault, family, 1, LOAD, f"c{os.getpid()}")
    print(run.line())
    assert not run.broken, run.line()
