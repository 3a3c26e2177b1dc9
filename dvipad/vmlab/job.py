"""Python that runs in the virtual machine: this very tree, with what it needs in memory."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dvipad.vmlab.machine import Job

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build" / "vm"
"""Where the kernel is unpacked."""
NOT_COPIED: Final = (
    *("test", "idlelib", "lib2to3", "ensurepip", "tkinter", "config-3.*", "*.opt-?.pyc"),
    *("*mypy*", "ruff*", "pip", "setuptools", "pkg_resources", "pygments", "contrib"),
)
"""Large, and not needed by tests; what is looked for all the same is shared."""


def python_job(
    argv: Sequence[str],
    variables: Mapping[str, str],
    timeout_s: float,
    copied: Sequence[str],
    *,
    counted: bool = False,
) -> Job:
    """Run `argv` there; `copied`: parts of this tree that it reads; the rest as in :class:`Job`."""
    settings = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/root"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    library = Path(sysconfig.get_path("stdlib")).resolve()
    packages = Path(sysconfig.get_path("purelib")).resolve()
    folders = [library, packages, *(ROOT / name for name in copied)]
    others = str(library / "site-packages").lstrip("/")  # of the Python that the venv was made of
    return Job(argv, ROOT, settings, timeout_s, folders, (*NOT_COPIED, others), counted)


def places() -> list[Path]:
    """Folders of this machine that Python must see there."""
    return [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
