"""The section `paths` of the node file: where a node keeps what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.config.yamldoc import Mapping

_MAX_PATH: Final = 90
"""A socket's whole path may have 107 bytes (unix(7))."""


@dataclass(frozen=True, slots=True)
class PathsConfig:
    """`run`: the control socket's directory. `bpffs`: pinned programs and maps. `state`: what
    must outlive a restart of the host."""

    run: Path = Path("/run/dvipad")
    bpffs: Path = Path("/sys/fs/bpf/dvipad")
    state: Path = Path("/var/lib/dvipad")


def read_paths(top: Mapping) -> PathsConfig:
    """The section `paths`; what is wrong with it is noted, and is as by default then."""
    paths = Mapping(top.document, top.node("paths"), ("run", "bpffs", "state"), "paths")
    remedy = f"Give an absolute path of at most {_MAX_PATH} bytes."
    default = PathsConfig()
    run = paths.text("run", _read_absolute, remedy)
    bpffs = paths.text("bpffs", _read_absolute, remedy)
    state = paths.text("state", _read_absolute, remedy)
    return PathsConfig(run or default.run, bpffs or default.bpffs, state or default.state)


def _read_absolute(text: str) -> Path | None:
    fits = text.startswith("/") and len(text.encode("utf-8", "replace")) <= _MAX_PATH
    return Path(text) if fits and text.isprintable() else None
