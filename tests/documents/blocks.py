"""Blocks of code in Markdown files. The words after the fence say what becomes of each:

``sh lab``: run on lb1 of a lab; ``sh client``: on its client; ``sh host``: in the repository;
``sh make``: targets of the Makefile, which are resolved and not run; ``sh vm``: commands for real
machines (packages, services): checked for syntax, and those of dvipad by its parsers; ``usage``: a
command and, after three blanks, what it does: its parser must take it; ``profile``: goes through
``dvipad --check``, and so does ``policies``; ``yaml``, ``json``, ``ini``, ``text``: to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "ansible").rglob("*.md")]
)
RUN: Final = ("sh lab", "sh client", "sh host", "sh make", "sh vm", "usage", "profile", "policies")
READ: Final = ("yaml", "json", "ini", "text", "c", "python")
FENCE: Final = "```"


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `line` of its first line in the file."""

    path: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    def lines(self) -> list[str]:
        """Its lines that are not empty; those that a backslash goes on are one."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in joined if line.strip()]


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a file."""
    start, kind, inside = 0, "", []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word = line.strip()
        if not word.startswith(FENCE):
            inside.append(line)
        elif start:
            yield Block(path, start, kind, "\n".join(inside))
            start = 0
        else:
            start, kind, inside = number + 1, word.removeprefix(FENCE).strip(), []


def indented(path: Path) -> list[int]:
    """Lines where code begins that has no fence: nobody would know what becomes of it."""
    found, fenced, before = [], False, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fenced ^= line.strip().startswith(FENCE)
        is_item = line.lstrip().startswith(("- ", "* ", "1."))
        if not fenced and line.startswith("    ") and not before.strip() and not is_item:
            found.append(number)
        before = line
    return found


ALL: Final = [block for path in FILES for block in blocks(path)]


def of(*kinds: str) -> list[Block]:
    """The blocks of these kinds."""
    return [block for block in ALL if block.kind in kinds]
