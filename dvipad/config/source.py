"""Bytes of a configuration file to text; what cannot be read is a problem, not an exception."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.config.errors import Problem
from dvipad.config.model import Position

MAX_FILE_BYTES: Final = 1 << 20
"""A larger file is refused: 1,024 DVIPAs with their statements need a fifth of it."""

_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Source:
    """A file's name as the user gave it, its text, and what is wrong with its bytes.

    `text` None: the file could not be read. Bytes that are not UTF-8 stay in `text` as lone
    surrogates (``surrogateescape``), so that every position after them is right.
    """

    file: str
    text: str | None
    problems: tuple[Problem, ...] = ()


def read_source(path: Path) -> Source:
    """The contents of `path`; never raises for anything that a file can do."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Source(file, None, (_unreadable(file, f"cannot be read: {reason}"),))
    if len(data) > MAX_FILE_BYTES:
        return Source(file, None, (_unreadable(file, f"larger than {MAX_FILE_BYTES} bytes"),))
    return decode(data, file)


def _unreadable(file: str, message: str) -> Problem:
    remedy = "Name a configuration file that this user may read."
    return Problem(Position(file, 1, 1), "", message, remedy)


def decode(data: bytes, file: str) -> Source:
    """`data` as UTF-8 text, with one problem for each line that holds other bytes."""
    text = data.decode("utf-8", "surrogateescape").removeprefix(_BOM)
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        wrong = next((i for i, char in enumerate(line) if "\udc80" <= char <= "\udcff"), None)
        if wrong is not None:
            position = Position(file, number, wrong + 1)
            remedy = "Save the file as UTF-8; what keywords and addresses need is plain ASCII."
            problems.append(Problem(position, line[wrong], "not UTF-8", remedy))
    return Source(file, text, tuple(problems))
