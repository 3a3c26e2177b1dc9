"""The lexer of profiles: free format, blanks and records only separate tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dvipad.config.model import Position

_PIECE: Final = re.compile(
    r"""
      (?P<blank>   [ \t\r\f\v]+ )
    | (?P<record>  \n )
    | (?P<comment> (?:(?<=[ \t\r\f\v\n])|\A) ; [^\n]* )
    | (?P<comma>   , )
    | (?P<word>    [^ \t\r\f\v\n,]+ )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a profile as written; `text` is empty for the end of the file."""

    text: str
    position: Position

    @property
    def upper(self) -> str:
        """The word folded to upper case, as keywords are compared."""
        return self.text.upper()


def tokenize(text: str, file: str) -> tuple[Token, ...]:
    """The tokens of `text`, the last of which is the empty one at the end of the file.

    ``;`` starts a comment at the beginning of a line or after a blank only: in ``80;web`` it
    belongs to the word. A comma is a token of its own. Columns count characters, from 1.
    """
    tokens = []
    line, line_start = 1, 0
    for match in _PIECE.finditer(text):
        if match.lastgroup == "record":
            line, line_start = line + 1, match.end()
        elif match.lastgroup in ("word", "comma"):
            position = Position(file, line, match.start() - line_start + 1)
            tokens.append(Token(match.group(), position))
    tokens.append(Token("", Position(file, line, len(text) - line_start + 1)))
    return tuple(tokens)
