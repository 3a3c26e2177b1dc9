"""Blocks of code in Markdown files. The words after the fence say what becomes of each:

``sh lab``: run on lb1 of a lab, ``sh lab HOST``: on another node; ``sh client``: on its client;
``sh host``: in the repository; ``sh make``: targets of the Makefile, resolved and not run;
``sh vm``: commands for real machines (packages, services): those of the README set the machines of
`make machines` up, the others run there afterwards; ``sh ansible``: run on a control host, for a
lab; ``usage``: a command and, after three blanks, what it does: its parser must take it;
``profile``, ``yaml node``, ``policies``, ``status``: go through ``dvipad --check``, and so do files
that commands write;
``yaml inventory``: what the role makes of it does; ``yaml tasks``: are carried out by Ansible;
``convert``: a file of another program, which `dvipad convert` makes the profile of that follows;
``text``: to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "ansible").rglob("*.md")]
)
_DOCUMENTS: Final = "tests/documents/test_documents.py"
_ANSIBLE: Final = "tests/daily/test_ansible_documents.py"
RUN: Final = {
    "sh lab": _DOCUMENTS,
    "sh lab lb2": _DOCUMENTS,
    "sh lab t1": _DOCUMENTS,
    "sh client": _DOCUMENTS,
    "sh host": _DOCUMENTS,
    "sh make": _DOCUMENTS,
    "sh vm": "tests/machines/test_readme.py",
    "sh ansible": _ANSIBLE,
    "usage": _DOCUMENTS,
    "profile": _DOCUMENTS,
    "policies": _DOCUMENTS,
    "status": _DOCUMENTS,
    "convert": _DOCUMENTS,
    "yaml node": _DOCUMENTS,
    "yaml inventory": _ANSIBLE,
    "yaml tasks": _ANSIBLE,
}
"""Kinds that are more than words, and the file with the test that runs them."""
READ: Final = ("text",)
FENCE: Final = "```"
_HERE: Final = re.compile(r"^cat >(\S+) <<END\n(.*?)^END$", re.MULTILINE | re.DOTALL)


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

    def files(self) -> dict[str, str]:
        """The files that its commands write, by name."""
        return dict(_HERE.findall(self.text))


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


def later_on_machines() -> list[Block]:
    """Blocks for machines that are set up: all those that the README does not have."""
    return [block for block in of("sh vm") if block.path != ROOT / "README.md"]
