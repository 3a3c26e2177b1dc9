"""`python -m tests.sim --seeds N`: many seeds in two processes; `--seed K --trace`: one again.

`--file X.yaml`: a scenario file; with `--seed K` other chances, with `--trace` all that happens.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

from dvipad.config.errors import ConfigError

from .canaries import CANARIES, ENOUGH, finds
from .checks import Violation
from .files import load
from .judge import run
from .world import simulate

PROCESSES = 2


def check(seed: int) -> tuple[int, str]:
    """Run one seed: what is wrong with it, or nothing."""
    gc.collect()
    try:
        simulate(seed)
    except Violation as violation:
        return seed, str(violation)
    except Exception:
        return seed, traceback.format_exc()
    return seed, ""


def many(first: int, count: int) -> int:
    """Run `count` seeds from `first`; returns how many failed."""
    started = time.monotonic()
    failed: list[int] = []
    gc.freeze()  # what is imported need not be looked at again and again
    with Pool(PROCESSES, gc.disable) as pool:  # `check` collects, between simulations
        seeds = range(first, first + count)
        for done, (seed, problem) in enumerate(pool.imap_unordered(check, seeds, 20), 1):
            if problem:
                failed.append(seed)
                print(f"seed {seed}: {problem}\n  again: python -m tests.sim --seed {seed} --trace")
            if done % 500 == 0 or done == count:
                elapsed = time.monotonic() - started
                print(f"{done} of {count} seeds, {len(failed)} failed, {elapsed:.0f} s", flush=True)
    if failed:
        print("failed:", *sorted(failed))
    return len(failed)


def hunt(index: int) -> tuple[str, int, str]:
    """The first seed that finds a canary, and how; -1: none."""
    canary = CANARIES[index]
    for seed in (canary.hint, *range(ENOUGH)):
        rule = finds(canary, seed)
        if rule:
            return canary.name, seed, rule
    return canary.name, -1, ""


def hunt_all() -> int:
    """Look for every canary; returns how many live."""
    alive = 0
    with Pool(PROCESSES) as pool:
        for name, seed, rule in pool.imap(hunt, range(len(CANARIES))):
            alive += seed < 0
            found = f"found by seed {seed}: {rule}" if seed >= 0 else f"NOT FOUND in {ENOUGH} seeds"
            print(f"canary: {name}: {found}", flush=True)
    return alive


def one_file(path: Path, seed: int | None, sink: Callable[[str], None] | None) -> int:
    """Run a scenario file; 2 when it is wrong itself."""
    try:
        file = load(path)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(file.lesson)
    try:
        world = run(file if seed is None else file.with_seed(seed), sink=sink)
    except Violation as violation:
        print(violation)
        return 1
    print(f"{path.name} is good, {world.checks.counted} steps")
    return 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--file", type=Path, help="a scenario file, see tests/sim/scenarios")
    options = parser.parse_args()
    sink = print if options.trace else None
    if options.file is not None:
        return one_file(options.file, options.seed, sink)
    if options.seed is None:
        failed, alive = many(options.first, options.seeds), hunt_all()
        return 1 if failed or alive else 0
    try:
        world = simulate(options.seed, sink=sink)
    except Violation as violation:
        print(violation)
        return 1
    print(f"seed {options.seed} is good, {world.checks.counted} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
