"""Makes what the emulated machine needs, runs it, and turns what it prints into figures."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.build import FOLDER, c_program, ebpf_object
from bench.figures import Figure, compare
from bench.insn.frames import SYN, file_of, frame
from bench.insn.kinds import KINDS, OPENING, SMALL
from bench.progress import say
from dvipad.lab.spec import LabError
from dvipad.vmlab.guest_kernel import VmError, fetch
from dvipad.vmlab.job import FOLDER as KERNELS
from dvipad.vmlab.job import places, python_job
from dvipad.vmlab.machine import started

TIMEOUT_S: Final = 900.0
COPIED: Final = ("dvipad", "bench", "build/bpf", "build/bench")
BASE: Final = "drop"
PAIRS: Final = (("dvipad", "ipvs"), ("dvipad", "route"), ("dvipad", "ipip"), ("route", "ipvs"))

Samples = Mapping[tuple[str, str], Sequence[float]]
"""(path, kind) → instructions per packet of each round, the base line included."""


def run(rounds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Instructions per packet of every path above the base line, and their ratios."""
    prepare(rounds)
    found = measured("bench.insn.guest", "insn", rounds)
    samples = {_split(name): values for name, values in found.items()}
    rows = [
        {"path": path, "kind": kind, "instructions": value}
        for (path, kind), values in samples.items()
        for value in values
    ]
    return figures(samples), rows


def prepare(rounds: int) -> None:
    """Programs, and files of frames, for the machine."""
    c_program(Path("insn/sender.c"))
    ebpf_object(Path("insn/ends.bpf.c"))
    (FOLDER / f"{OPENING}.frames").write_bytes(file_of([frame(SYN, SMALL)]))
    for kind in KINDS:
        for turn in range(rounds):
            (FOLDER / kind.file(turn)).write_bytes(kind.frames(turn))


def measured(module: str, word: str, rounds: int) -> dict[str, list[float]]:
    """Runs `module` in the machine; gives what its lines `WORD NAME... VALUE` say, by name.

    Raises :class:`LabError` when it does not work.
    """
    kernel = fetch(KERNELS)
    argv = (sys.executable, "-m", module, str(rounds))
    job = python_job(argv, {}, TIMEOUT_S, COPIED, counted=True)
    samples: dict[str, list[float]] = defaultdict(list)
    say(f"{word}: booting Linux {kernel.version}; one of its nanoseconds is one instruction")
    try:
        with started(kernel, job, places()) as machine:
            for line in machine.lines():
                words = line.decode(errors="replace").split()
                if words[:1] == [word]:
                    samples[" ".join(words[1:-1])].append(float(words[-1]))
                say(" ".join(words))
        if machine.status != 0:
            raise VmError(f"the measurement ended with status {machine.status}")
    except VmError as error:
        raise LabError(f"{word}: {error}") from error
    return dict(samples)


def _split(name: str) -> tuple[str, str]:
    path, kind = name.split()
    return path, kind


def figures(samples: Samples) -> list[Figure]:
    """Per kind and path the least of all rounds (a timer's tick only adds), above the base line."""
    found: list[Figure] = []
    worst: dict[str, float] = {}
    for kind in KINDS:
        above = _above(samples, kind.name)
        found += [
            Figure(f"insn.{kind.name}.{path}", value, "instructions")
            for path, value in above.items()
        ]
        ratios = compare(f"insn.{kind.name}.", above, PAIRS)
        found += ratios
        if kind.headroom and not kind.flags & SYN:
            for ratio in ratios:
                name = ratio.name.rpartition(".")[2]
                worst[name] = max(ratio.value, worst.get(name, 0.0))
    spread = max(sorted(values)[len(values) // 2] / min(values) - 1 for values in samples.values())
    found.append(Figure("insn.spread", spread, "ratio"))
    return found + [Figure(f"insn.{name}", value, "ratio") for name, value in worst.items()]


def _above(samples: Samples, kind: str) -> dict[str, float]:
    base = min(samples[BASE, kind])
    return {
        path: min(values) - base
        for (path, of), values in samples.items()
        if of == kind and path != BASE
    }
