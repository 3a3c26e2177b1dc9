"""Pins of a watcher: a table and programs that go on while no daemon runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from dvipad.adapters.bpf.libbpf import Link
from dvipad.adapters.bpf.maps import Map


def drop_other_shape(path: Path, shape: tuple[int, int, int, int, int]) -> None:
    """A table of another version or size cannot be adopted; inet_diag fills a new one."""
    if path.exists():
        pinned = Map.open(path)
        differs = pinned.shape != shape
        pinned.close()
        if differs:
            path.unlink()


def pin_instead(link: Link, path: Path) -> None:
    """Keep `link` at `path`, and let go of the former program there; `link` itself is used up."""
    new = _new(path)
    new.unlink(missing_ok=True)
    link.pin(new)
    new.rename(path)
    link.destroy()


def unpin(pin_dir: Path, links: Iterable[str], maps: Iterable[str]) -> None:
    """Takes programs and tables out of the kernel, and the folder away. Idempotent."""
    for name in links:
        (pin_dir / name).unlink(missing_ok=True)
        _new(pin_dir / name).unlink(missing_ok=True)
    for name in maps:
        (pin_dir / name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        pin_dir.rmdir()


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}_new")
