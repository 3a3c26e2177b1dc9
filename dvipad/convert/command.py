"""`dvipad convert`: prints or writes the two files, and says what is not in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from dvipad.config.profile import parse_profile
from dvipad.config.source import read_source
from dvipad.convert.result import Converted, convert

DONE: Final = 0
NOTHING: Final = 2
"""Exit status when a file cannot be read, a result would overwrite one, or nothing was found."""


def main(paths: list[Path], folder: Path | None) -> int:
    """Converts the files of one host; returns the exit status."""
    texts: dict[Path, str] = {}
    for path in paths:
        source = read_source(path)
        if source.text is None:
            print(*source.problems, sep="\n", file=sys.stderr)
            return NOTHING
        texts[path] = source.text
    result = convert(texts)
    for note in (*result.notes, *parse_profile(result.profile, "profile").problems):
        print(note, file=sys.stderr)
    found = "VIPADEFINE" in result.profile or "VIPABACKUP" in result.profile
    if not found:
        print("no virtual address was found", file=sys.stderr)
        return NOTHING
    if folder is None:
        print(f"; profile\n{result.profile}\n# node.yaml\n{result.node}", end="")
        return DONE
    return _write(result, folder)


def _write(result: Converted, folder: Path) -> int:
    """Never over a file that is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("profile", result.profile), ("node.yaml", result.node)):
            with (folder / name).open("x") as file:
                file.write(text)
            print(folder / name)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; name another folder", file=sys.stderr)
        return NOTHING
    return DONE
