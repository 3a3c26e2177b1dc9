"""What is sent: packets of an established connection, small and large, and first packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.insn.frames import ACK, CLIENT_PORT, FIN, PSH, SYN, file_of, frame

SMALL: Final = 64
LARGE: Final = 1_414
"""An IP packet of 1,400 bytes."""
FIRST_PORTS: Final = 1_000
"""First packets of a round; each comes from a port that no round had before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`count` packets in a round. `opening`: the file with what must be sent before, once;
    `headroom`: the box gets them as a card's driver would deliver them."""

    name: str
    count: int
    flags: int
    size: int
    headroom: bool = True
    opening: str | None = None

    def file(self, turn: int) -> str:
        """The file with the frames of a round."""
        return f"{self.name}-{turn}.frames" if self.flags & SYN else f"{self.name}.frames"

    def frames(self, turn: int) -> bytes:
        """What is in that file."""
        if not self.flags & SYN:
            return file_of([frame(self.flags, self.size)])
        first = 1_024 + turn * self.count
        ports = [port for port in range(first, first + self.count) if port != CLIENT_PORT]
        return file_of([frame(self.flags, self.size, port) for port in ports])


CONNECTIONS: Final = 400
"""Short connections of a round."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The frames of a client for whole short connections, each from a port of its own."""

    name: str
    each: tuple[tuple[int, int], ...]

    @property
    def frames_each(self) -> int:
        """Frames of one connection."""
        return len(self.each)

    def file(self, turn: int) -> str:
        """The file with the frames of a round."""
        return f"{self.name}-{turn}.frames"

    def frames(self, turn: int) -> bytes:
        """What is in that file: `CONNECTIONS` connections, one after the other."""
        first = 1_024 + turn * CONNECTIONS
        return file_of(
            [
                frame(flags, size, port)
                for port in range(first, first + CONNECTIONS)
                for flags, size in self.each
            ]
        )


WHOLE: Final = Whole(
    "whole",
    (
        (SYN, 60),
        (ACK, 60),
        (ACK | PSH, 54 + 100),
        (ACK, 60),
        (ACK | FIN, 60),
        (ACK, 60),
    ),
)
"""Flags and size of: SYN, ACK, the request, ACK of the answer, FIN, and the last ACK."""

OPENING: Final = "opening"
KINDS: Final = (
    Kind("small", 2_000, ACK, SMALL, opening=OPENING),
    Kind("large", 2_000, ACK, LARGE, opening=OPENING),
    Kind("small_tight", 2_000, ACK, SMALL, headroom=False, opening=OPENING),
    Kind("large_tight", 2_000, ACK, LARGE, headroom=False, opening=OPENING),
    Kind("first", FIRST_PORTS, SYN, SMALL),
)
