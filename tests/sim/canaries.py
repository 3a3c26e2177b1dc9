"""Planted bugs: each must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .daemon import Daemon


@dataclass(frozen=True, slots=True)
class Canary:
    """`plant` puts the bug into a daemon before it starts."""

    name: str
    plant: Callable[[Daemon], None]


CANARIES: tuple[Canary, ...] = ()
