"""A profile's text to its model: the VIPADYNAMIC block and the statements in it (D1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.config import keywords as k
from dvipad.config.build import Statement, build
from dvipad.config.cursor import Cursor
from dvipad.config.distribute import parse_distribute
from dvipad.config.errors import ConfigError, Problem, errors, in_order
from dvipad.config.keywords import Keyword
from dvipad.config.model import Profile
from dvipad.config.source import read_source
from dvipad.config.statements import (
    Change,
    parse_backup,
    parse_define,
    parse_delete,
    parse_range,
    parse_route,
)
from dvipad.config.tokens import Token, tokenize


@dataclass(frozen=True, slots=True)
class ParsedProfile:
    """What a text says, and everything that is wrong with it, in the order of the text.

    `profile` is complete only when no problem is an error.
    """

    profile: Profile
    problems: tuple[Problem, ...]


PARSERS: Final[dict[Keyword, Callable[[Cursor, Token], list[Change]]]] = {
    k.VIPADEFINE: parse_define,
    k.VIPABACKUP: parse_backup,
    k.VIPARANGE: parse_range,
    k.VIPADELETE: parse_delete,
    k.VIPAROUTE: parse_route,
}
"""Readers of all statements but VIPADISTRIBUTE; each has the syntax in its docstring."""


def parse_profile(text: str, file: str) -> ParsedProfile:
    """The profile in `text`; all problems, each with its place in `file`. Never raises."""
    cursor = Cursor(tokenize(text, file))
    statements: list[Statement] = []
    blocks = 0
    while cursor.token.text:
        token = cursor.advance()
        if k.VIPADYNAMIC.matches(token.text):
            blocks += 1
            _parse_block(cursor, token, statements)
        else:
            _refuse_outside(cursor, token)
    if not blocks:
        remedy = "Write VIPADYNAMIC, the statements, and ENDVIPADYNAMIC."
        cursor.error(cursor.token, "no VIPADYNAMIC block in this file", remedy)
    profile = build(cursor, statements)
    return ParsedProfile(profile, in_order(cursor.problems))


def load_profile(path: Path) -> Profile:
    """The profile in the file `path`; raises ``ConfigError`` with all problems of it."""
    parsed = check_profile(path)
    if errors(parsed.problems):
        raise ConfigError(parsed.problems)
    return parsed.profile


def check_profile(path: Path) -> ParsedProfile:
    """Like :func:`parse_profile`, for a file; one that cannot be read is a problem too."""
    source = read_source(path)
    if source.text is None:
        return ParsedProfile(Profile(), source.problems)
    parsed = parse_profile(source.text, source.file)
    return ParsedProfile(parsed.profile, in_order((*source.problems, *parsed.problems)))


def _parse_block(cursor: Cursor, start: Token, statements: list[Statement]) -> None:
    while cursor.token.text:
        token = cursor.token
        if k.ENDVIPADYNAMIC.matches(token.text):
            cursor.advance()
            return
        if k.VIPADYNAMIC.matches(token.text):
            remedy = "End the block before it with ENDVIPADYNAMIC."
            cursor.error(token, "a block within a block", remedy)
        cursor.advance()
        _parse_statement(cursor, token, statements)
    remedy = "Write ENDVIPADYNAMIC behind the last statement."
    cursor.error(start, "this block is never ended", remedy)


def _parse_statement(cursor: Cursor, token: Token, statements: list[Statement]) -> None:
    keyword = k.find(token.text, k.STATEMENTS)
    if keyword is k.VIPADISTRIBUTE:
        distribution = parse_distribute(cursor, token)
        if distribution is not None:
            statements.append(distribution)
    elif keyword is not None:
        statements.extend(PARSERS[keyword](cursor, token))
        cursor.expect_end()
    elif k.VIPASMPARMS.matches(token.text):
        remedy = "Remove it: the Cisco service manager is gone; VIPADISTRIBUTE does without it."
        cursor.error(token, "VIPASMPARMS is not part of dvipad", remedy)
        cursor.skip_statement()
    elif not k.VIPADYNAMIC.matches(token.text):
        otherwise = f"Statements are {k.names(k.STATEMENTS)}; ENDVIPADYNAMIC ends the block."
        candidates = (keyword.name for keyword in (*k.STATEMENTS, k.ENDVIPADYNAMIC))
        remedy = k.did_you_mean(token.text, candidates, otherwise)
        cursor.error(token, "not a statement", remedy)
        cursor.skip_statement()


def _refuse_outside(cursor: Cursor, token: Token) -> None:
    """Reports one statement outside the block, and goes past its words."""
    foreign = k.FOREIGN_STATEMENTS.get(token.upper)
    if k.find(token.text, k.BOUNDARIES) is not None:
        remedy = "Write it between VIPADYNAMIC and ENDVIPADYNAMIC."
        cursor.error(token, "outside of a VIPADYNAMIC block", remedy)
    elif foreign is not None:
        cursor.error(token, f"{token.upper} is not part of a dvipad profile", foreign)
    else:
        otherwise = "A profile consists of VIPADYNAMIC ... ENDVIPADYNAMIC and comments."
        candidates = (k.VIPADYNAMIC.name, *k.FOREIGN_STATEMENTS)
        remedy = k.did_you_mean(token.text, candidates, otherwise)
        cursor.error(token, "not expected outside of a VIPADYNAMIC block", remedy)
    while cursor.token.text and k.find(cursor.token.text, k.BOUNDARIES) is None:
        if cursor.token.upper in k.FOREIGN_STATEMENTS:
            return
        cursor.advance()
