"""`make chaos`: every fault, in both families, several times; a row of the table for each.

Gaps and stalls are milliseconds. Standard output has the table, standard error the progress;
everything is written to `--out` too.
Exit status 1 when a connection whose target lives was lost or reset, wherever a distributor or a
backup remained, or a cluster did not become whole again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from dvipad.lab.spec import LabError
from dvipad.lab.system import require_root
from tests.chaos.matrix import MATRIX, SKIPPED, Fault
from tests.chaos.results import HEADINGS, Row, Run, line_of, row_of, write
from tests.chaos.run import Load, run_once

OUT: Final = Path(__file__).parents[2] / "build" / "chaos"
FIRST_SEED: Final = 1


def _say(text: str) -> None:
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    load = Load()
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="of each row")
    parser.add_argument("--family", default="4,6", help="4, 6 or 4,6")
    parser.add_argument("--only", default="", help="rows with one of these words: WORD,WORD")
    parser.add_argument("--connections", type=int, default=load.connections)
    parser.add_argument("--interval-ms", type=float, default=load.interval_ms)
    parser.add_argument("--rate", type=float, default=load.new_per_s, help="new ones per second")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first run")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON and the logs")
    parser.add_argument("--list", action="store_true", help="name the rows, and do nothing")
    return parser


def _chosen(only: str) -> list[Fault]:
    words = [word for word in only.split(",") if word]
    return [f for f in MATRIX if not words or any(word in f.name for word in words)]


def _families(text: str) -> list[int]:
    families = [int(word) for word in text.split(",") if word in ("4", "6")]
    if not families:
        raise LabError(f"family {text!r}: 4, 6 or 4,6")
    return families


def _run_row(
    fault: Fault, family: int, load: Load, arguments: argparse.Namespace, out: Path
) -> list[Run]:
    runs = []
    for number in range(arguments.runs):
        seed = arguments.seed + number
        logs = out / f"{fault.name}-v{family}-{seed}"
        run = run_once(fault, family, seed, load, f"c{os.getpid()}", logs)
        _say(f"{fault.name} IPv{family} {number + 1}/{arguments.runs}: {run.line()}")
        runs.append(run)
    return runs


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the matrix, or a part of it; returns the exit status."""
    arguments = _parser().parse_args(argv)
    faults = _chosen(arguments.only)
    if arguments.list:
        print("\n".join([fault.name for fault in faults] + [row.name for row in SKIPPED]))
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    rows: list[Row] = []
    runs: list[Run] = []
    out = arguments.out / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        require_root()
        load = Load(arguments.connections, arguments.interval_ms, arguments.rate)
        print(line_of(HEADINGS), flush=True)
        for fault in faults:
            for family in _families(arguments.family):
                runs += (found := _run_row(fault, family, load, arguments, out))
                rows.append(row_of(found))
                print(rows[-1].text(), flush=True)
                write(out / "chaos.json", rows, runs)
    except LabError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 1
    for row in SKIPPED:
        print(f"{row.name}: not run: {row.reason}")
    broken = [f"{row.fault} IPv{row.family}" for row in rows if row.broken]
    print(f"chaos: {'BROKEN: ' + ', '.join(broken) if broken else 'OK'}  ({out}/chaos.json)")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
