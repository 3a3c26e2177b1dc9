"""Shell completion from the commands' parsers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import shtab

SHELLS: Final = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
"""Shell, and the name of its file for a command."""
_LIST: Final = (
    "dvipactl netstat vipadyn 2>/dev/null | sed -n 's|^ *IpAddr/PrefixLen: \\([^/]*\\).*|\\1|p'"
)
_PREAMBLE: Final = {
    "bash": f'_dvipactl_dvipas() {{ compgen -W "$({_LIST})" -- "$1"; }}\n',
    "zsh": f'_dvipactl_dvipas() {{ compadd -- ${{(f)"$({_LIST})"}} }}\n',
}
_DVIPA: Final = {"bash": "_dvipactl_dvipas", "zsh": "_dvipactl_dvipas", "fish": f"({_LIST})"}


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """What `shell` reads to complete the command of `parser`."""
    _mark(parser)
    return shtab.complete(parser, shell, preamble=_PREAMBLE)  # type: ignore[arg-type]


def _mark(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are files and which are DVIPAs."""
    for action in parser._actions:
        marked: Any = action
        if action.type is Path:
            marked.complete = shtab.FILE
        elif action.dest in ("dvipa", "address"):
            marked.complete = _DVIPA
        elif isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _mark(sub)
