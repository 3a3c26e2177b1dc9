"""The commands of the README's section on three virtual machines, for each machine."""

from __future__ import annotations

import re
import textwrap
from typing import Final

SECTION: Final = "## Three virtual machines\n"
_INDENT: Final = " " * 7
_MACHINE: Final = re.compile(r"\bOn `(vm[0-9])`")
_EACH: Final = re.compile(r"\bOn each\b")


def commands(readme: str, machine: str) -> list[str]:
    """What somebody types on `machine`, in turn; a command with a here-document is one."""
    section = readme.split(SECTION, 1)[1].split("\n## ", 1)[0]
    mine = False
    found: list[str] = []
    for prose, block in _parts(section):
        named = _MACHINE.findall(prose)
        if _EACH.search(prose):
            mine = True
        elif named:
            mine = machine == named[-1]
        elif "From any other machine" in prose:
            mine = False
        if mine:
            found += _split(block)
    return found


def _parts(section: str) -> list[tuple[str, str]]:
    """Each block of commands, with the prose between it and the one before."""
    parts: list[tuple[str, str]] = []
    prose: list[str] = []
    block: list[str] = []
    for line in [*section.splitlines(), "end"]:
        if line.startswith(_INDENT):
            block.append(line)
        elif line.strip():
            if block:
                parts.append(("\n".join(prose), textwrap.dedent("\n".join(block))))
                prose, block = [], []
            prose.append(line)
        elif block:
            block.append("")
    return parts


def _split(block: str) -> list[str]:
    found: list[str] = []
    inside = False
    for line in block.splitlines():
        if inside:
            found[-1] += "\n" + line
            inside = line != "END"
        elif line.strip():
            found.append(line)
            inside = line.endswith("<<END")
    return found
