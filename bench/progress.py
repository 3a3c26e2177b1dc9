"""Progress: standard error, so that standard output has nothing but figures."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """One line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
