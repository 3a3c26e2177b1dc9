"""Whether a folder can be written to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

NAME: Final = ".health"
SAMPLE: Final = bytes(4096)


def why_not_writable(folder: Path) -> str | None:
    """Why nothing can be written in `folder`; None when it can, or would be when it is made.

    Writes a small file and removes it. A folder that does not exist is looked for above.
    """
    path = folder / NAME
    try:
        if not folder.is_dir():
            return _why_full(next(parent for parent in folder.parents if parent.is_dir()))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, SAMPLE)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return None if written == len(SAMPLE) else f"{folder}: only {written} bytes could be written"


def _why_full(folder: Path) -> str | None:
    """A folder that is not this program's is not written to."""
    found = os.statvfs(folder)
    if found.f_flag & os.ST_RDONLY:
        return f"{folder}: read-only"
    return f"{folder}: no space left" if found.f_blocks and not found.f_bavail else None
