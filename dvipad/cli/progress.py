"""What a long operation waits for: one line on standard error, when that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType


class Progress:
    """Shows the last thing that was said, and takes it away at the end."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._said = ""

    def say(self, text: str) -> None:
        """Show `text` in place of what was said before."""
        if self._shown and text != self._said:
            self._said = text
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
