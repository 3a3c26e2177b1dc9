"""Versions of the mesh protocol, and which of them two nodes speak with each other.

A release speaks its own version and the one before, so that a cluster can be upgraded node by node.
Hello and Goodbye travel in frames of version `GREETING` for ever: nodes that have no version in
common can still tell each other so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GREETING: Final = 1
"""Version of the frames of Hello and Goodbye, whatever the ends agree on."""
OLDEST: Final = 1
"""The oldest version that this release speaks."""
NEWEST: Final = 2
"""The newest one, which it speaks with its like."""
MAX_VERSION: Final = 255
"""A version is one byte of a frame."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What a node speaks: `oldest` to `newest`."""

    oldest: int = OLDEST
    newest: int = NEWEST

    def agreed(self, other: Versions) -> int | None:
        """The newest version that both speak, the same at either end; None: there is none."""
        version = min(self.newest, other.newest)
        return version if version >= max(self.oldest, other.oldest) else None

    def __contains__(self, version: int) -> bool:
        return self.oldest <= version <= self.newest

    def __str__(self) -> str:
        return f"{self.oldest} to {self.newest}"
