"""Compiles what the benchmarks bring with them, when it was changed since."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from bench.results import ROOT
from dvipad.lab.spec import LabError

FOLDER: Final = ROOT / "build" / "bench"
TIMEOUT_S: Final = 60.0


def c_program(source: Path) -> Path:
    """The program made of `source`, a path in `bench`; raises :class:`LabError`."""
    program = FOLDER / source.stem
    flags = ("-O2", "-Wall", "-Wextra", "-Werror")
    return _made(source, program, ("gcc", *flags, "-o", str(program)))


def ebpf_object(source: Path) -> Path:
    """The eBPF object made of `source`, ``X.bpf.c`` in `bench`; raises :class:`LabError`."""
    made = FOLDER / f"{source.name.removesuffix('.c')}.o"
    place = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True)
    headers = ("-idirafter", f"/usr/include/{place.stdout.strip()}")  # <asm/types.h>
    flags = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", *headers)
    return _made(source, made, ("clang", *flags, "-c", "-o", str(made)))


def _made(source: Path, made: Path, command: tuple[str, ...]) -> Path:
    path = ROOT / "bench" / source
    if made.exists() and made.stat().st_mtime >= path.stat().st_mtime:
        return made
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise LabError(f"{source}: {done.stderr}")
    return made
