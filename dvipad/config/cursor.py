"""A place in the tokens of a profile, with the problems found up to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dvipad.config import keywords as k
from dvipad.config.errors import Problem, Severity
from dvipad.config.keywords import Keyword, Unsupported
from dvipad.config.tokens import Token
from dvipad.config.values import is_number


class Cursor:
    """Reads tokens one by one and never beyond the statement it is in.

    `problems` grows; a parser that finds one goes on with the next word that it understands.
    """

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._index = 0
        self.problems: list[Problem] = []

    @property
    def token(self) -> Token:
        """The token to be read next; the empty one at the end of the file."""
        return self._tokens[self._index]

    def ahead(self, distance: int = 1) -> Token:
        """The token `distance` places after :attr:`token`."""
        return self._tokens[min(self._index + distance, len(self._tokens) - 1)]

    def advance(self) -> Token:
        """Takes the next token; the last one can be taken any number of times."""
        token = self.token
        self._index = min(self._index + 1, len(self._tokens) - 1)
        return token

    def ended(self) -> bool:
        """Whether the statement is over: a new statement or the end of block or file follows."""
        return not self.token.text or k.find(self.token.text, k.BOUNDARIES) is not None

    def take(self, *choices: Keyword) -> Keyword | None:
        """Takes the next token if it is one of `choices`, and says which."""
        keyword = k.find(self.token.text, choices)
        if keyword is not None:
            self.advance()
        return keyword

    def error(self, token: Token, message: str, remedy: str) -> None:
        """Notes an error at `token`."""
        self._note(token, message, remedy, Severity.ERROR)

    def warn(self, token: Token, message: str, remedy: str) -> None:
        """Notes a warning at `token`."""
        self._note(token, message, remedy, Severity.WARNING)

    def _note(self, token: Token, message: str, remedy: str, severity: Severity) -> None:
        if token.text.find(";") > 0:
            remedy = f"A comment needs a blank before its ';'. {remedy}"
        elif "&" in token.text:
            remedy = f"System symbols are not replaced here: write the value. {remedy}"
        elif not token.text.isascii():
            remedy = f"It has characters that are not ASCII: retype it. {remedy}"
        self.problems.append(Problem(token.position, token.text, message, remedy, severity))

    def skip_statement(self) -> None:
        """Goes to the next statement boundary without a word."""
        while not self.ended():
            self.advance()

    def items(self, *stops: Keyword, names: bool = False) -> Iterator[Token]:
        """The tokens of a list, up to one of `stops` or the end of the statement.

        A misspelt statement ends the list too, unless interface `names` may be in it.

        The caller may take more tokens after each item. Single commas between items are
        tolerated, as the source documents write them; others are errors.
        """
        found, comma = False, None
        while not self.ended() and k.find(self.token.text, stops) is None:
            if not names and _is_misspelt_statement(self.token):
                break
            token = self.advance()
            if token.text != ",":
                found, comma = True, None
                yield token
                continue
            if not found or comma is not None:
                self.error(token, "a comma with nothing before it", "Remove it.")
            comma = token
        if comma is not None and found:
            self.error(comma, "a comma with nothing after it", "Remove it.")

    def refuse_unsupported(self, table: Iterable[Unsupported]) -> bool:
        """Reports an option that dvipad will not have, and goes past what belongs to it."""
        entry = k.find_unsupported(self.token.text, table)
        if entry is None:
            return False
        self.error(self.advance(), f"{entry.keyword.name} is not part of dvipad", entry.remedy)
        for _ in range(entry.arguments):
            if not self.ended():
                self.advance()
        while self.token.upper in entry.pairs and is_number(self.ahead().text):
            self.advance()
            self.advance()
        return True

    def expect_end(self, allowed_before: Iterable[Keyword] = ()) -> None:
        """Reports the first word that does not belong to the statement any more, skips the rest."""
        if self.ended():
            return
        token = self.token
        if k.find(token.text, allowed_before) is not None:
            self.error(token, "an option behind the address", "Write options before the address.")
        else:
            remedy = k.did_you_mean(
                token.text,
                (keyword.name for keyword in k.BOUNDARIES),
                "Start a new statement or remove it.",
            )
            misspelt = _is_misspelt_statement(token)
            self.error(token, "not a statement" if misspelt else "not expected here", remedy)
        self.skip_statement()


def _is_misspelt_statement(token: Token) -> bool:
    return token.upper.startswith(("VIPA", "ENDVIPA"))
