"""What is wrong with a configuration: every problem with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dvipad.config.model import Position

MAX_SHOWN_CHARACTERS: Final = 60
"""Longer offending texts are cut in messages."""


class Severity(Enum):
    """An error refuses the configuration, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would not show as one character."""
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = text[:MAX_SHOWN_CHARACTERS] + "..."
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, kept by surrogateescape
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong at `position`: the offending `text`, what is wrong, what to do about it."""

    position: Position
    text: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = self.position
        quoted = f": '{printable(self.text)}'" if self.text else ""
        return (
            f"{_plain(where.file)}:{where.line}:{where.column}: "
            f"{self.severity.value}: {_plain(self.message)}{quoted}\n"
            f"    {_plain(self.remedy)}"
        )


def _plain(text: str) -> str:
    return "".join(_shown(character) for character in text)


class ConfigError(Exception):
    """The configuration is refused; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Final = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def errors(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those of `problems` that refuse the configuration."""
    return tuple(problem for problem in problems if problem.severity is Severity.ERROR)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """`problems` without repetitions, in the order of their places in each file.

    Files stay in the order in which they first appear.
    """
    unique = list(dict.fromkeys(problems))
    files: dict[str, int] = {}
    for problem in unique:
        files.setdefault(problem.position.file, len(files))
    unique.sort(
        key=lambda p: (files[p.position.file], p.position.line, p.position.column, p.message)
    )
    return tuple(unique)
