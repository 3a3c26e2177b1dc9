"""Log lines for the journal and for terminals."""

from __future__ import annotations

import logging

from dvipad.logs import JournalFormatter


def test_the_journal_gets_a_priority_on_every_line() -> None:
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "one\n%s", ("two",), None)
    assert JournalFormatter("%(message)s").format(record) == "<3>one\n<3>two"
