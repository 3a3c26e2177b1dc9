"""A page as blocks, and what they look like in Markdown and in man(7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Head:
    """Starts a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Para:
    """A paragraph; `code` in backticks."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that stay as they are."""

    text: str


@dataclass(frozen=True, slots=True)
class Terms:
    """Rows of a term and what it means: a table with these `heads` in Markdown."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block: TypeAlias = Head | Para | Code | Terms
_LINK: Final = re.compile(r"\[([^]]*)\]\([^)]*\)")


def markdown(blocks: list[Block]) -> str:
    """The blocks as Markdown."""
    parts = []
    for block in blocks:
        match block:
            case Head(text):
                parts.append(f"## {text}")
            case Para(text):
                parts.append(text)
            case Code(text):
                parts.append(f"```text\n{text.rstrip()}\n```")
            case Terms(heads, rows):
                table = [heads, ("---",) * len(heads), *rows]
                cells = [[cell.replace("|", r"\|") for cell in row] for row in table]
                parts.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
    return "\n\n".join(parts) + "\n"


def man(name: str, section: int, about: str, blocks: list[Block], edition: tuple[str, str]) -> str:
    """The blocks as a page of man(7); `edition`: version and date."""
    version, date = edition
    lines = [f'.TH {name.upper()} {section} "{date}" "dvipad {version}" "dvipad"', ".SH NAME"]
    lines.append(f"{_roff(name)} \\- {_roff(about)}")
    for block in blocks:
        match block:
            case Head(text):
                lines.append(f'.SH "{_roff(text.upper())}"')
            case Para(text):
                lines += [".PP", _roff(text)]
            case Code(text):
                lines += [".PP", ".RS 4", ".nf", *map(_roff, text.rstrip().splitlines())]
                lines += [".fi", ".RE"]
            case Terms(heads, rows):
                for row in rows:
                    lines += [".TP", f"\\fB{_roff(row[0])}\\fR", _meaning(heads, row)]
    kept = [line for index, line in enumerate(lines) if not _idle(lines, index)]
    return "\n".join(kept) + "\n"


def _idle(lines: list[str], index: int) -> bool:
    """A paragraph right after a section's head is one anyway."""
    return lines[index] == ".PP" and lines[index - 1].startswith(".SH")


def _meaning(heads: tuple[str, ...], row: tuple[str, ...]) -> str:
    rest = [f"{head}: {cell}" for head, cell in zip(heads[2:], row[2:], strict=True) if cell]
    return _roff(". ".join([row[1], *rest]).rstrip(".") + ".")


def _roff(text: str) -> str:
    plain = _LINK.sub(r"\1", text).replace("`", "").replace("**", "")
    escaped = plain.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
