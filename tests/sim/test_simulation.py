"""Short form of `make simulate`: some seeds without a violation, and every canary found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .canaries import CANARIES, ENOUGH, Canary, finds
from .world import simulate

SEEDS = 100
FOUND = (
    *(2465, 11946, 14908, 15173, 19739, 20041),
    *(20178, 21153, 28093, 29776, 29990, 30960, 38836, 47077, 71915, 86827),
)
"""Seeds that found something that is mended."""


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_mended(seed: int) -> None:
    simulate(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_nothing_is_violated(first: int) -> None:
    for seed in range(first, first + 10):
        simulate(seed)


def test_a_seed_is_always_the_same_simulation() -> None:
    lines: list[list[str]] = [[], []]
    for sink in lines:
        simulate(7, sink=sink.append)
    assert lines[0] == lines[1]
    assert len(lines[0]) > 100


TRACE = """
from tests.sim.world import simulate
lines = []
simulate(22811, sink=lines.append)
print(*("".join(sorted(line)) for line in lines), sep="\\n")
"""
"""Sets have their members in any order, so each line is printed with its letters sorted."""


def test_a_seed_is_the_same_simulation_in_every_process() -> None:
    traces = []
    for salt in ("1", "2"):
        command = (sys.executable, "-c", TRACE)
        salted = os.environ | {"PYTHONHASHSEED": salt}
        done = subprocess.run(command, env=salted, capture_output=True, text=True, check=True)
        traces.append(done.stdout)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 10_000


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_a_planted_bug_is_found(canary: Canary) -> None:
    seeds = (canary.hint, *range(ENOUGH))
    assert any(finds(canary, seed) for seed in seeds)
