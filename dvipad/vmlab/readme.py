"""The commands of the README's section on three virtual machines, for each machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

SECTION: Final = "## Three virtual machines\n"
_BLOCK: Final = re.compile(r"^```sh (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MACHINE: Final = re.compile(r"^On `(vm[0-9])`", re.MULTILINE)
_EACH: Final = re.compile(r"^On each\b", re.MULTILINE)
_ELSEWHERE: Final = "client"
"""Kind of the blocks for a machine that is none of them."""


def commands(readme: str, machine: str) -> list[str]:
    """What somebody types on `machine`, in turn; a command with a here-document is one."""
    section = readme.split(SECTION, 1)[1].split("\n## ", 1)[0]
    found: list[str] = []
    at = 0
    for block in _BLOCK.finditer(section):
        prose, at = section[at : block.start()], block.end()
        named = _MACHINE.findall(prose)
        mine = bool(_EACH.search(prose)) or machine in named
        if mine and block[1] != _ELSEWHERE:
            found += _split(block[2])
    return found


def _split(block: str) -> Iterator[str]:
    command = ""
    for line in block.splitlines():
        command += f"{command and chr(10)}{line}"
        if "<<END" not in command or line == "END":
            if command.strip():
                yield command
            command = ""
