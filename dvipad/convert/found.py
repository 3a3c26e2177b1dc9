"""What the files of other programs say, in words that all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod

PORT_MAX: Final = 65_535


class Level(Enum):
    """`LEFT`: a line has no counterpart, somebody has to decide. `NOT_NEEDED`: nothing is lost."""

    LEFT = "not converted"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """What became of a line that is not in the result."""

    file: str
    line: int
    text: str
    reason: str
    level: Level = field(default=Level.LEFT, compare=False)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else ""
        return f"{where}{self.level.value}: {self.text!a}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Floating:
    """A virtual address of a node. `rank` None: the node is its primary."""

    address: Address
    prefix_length: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class Real:
    """A server behind a port."""

    address: Address
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A port of a virtual address, None: of all of them, and who serves it."""

    address: Address | None
    port: int
    method: DistMethod
    servers: tuple[Real, ...]
    affinity_s: int = 0


@dataclass(slots=True)
class Found:
    """Everything in one file, or in several."""

    file: str
    name: str | None = None
    xcf: Address | None = None
    interfaces: list[str] = field(default_factory=list)
    peers: list[Address] = field(default_factory=list)
    floating: list[Floating] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def left(self, line: int, text: str, reason: str) -> None:
        """A line is not converted."""
        self.notes.append(Note(self.file, line, text, reason))

    def not_needed(self, line: int, text: str, reason: str) -> None:
        """A line is not converted, and need not be."""
        self.notes.append(Note(self.file, line, text, reason, Level.NOT_NEEDED))

    def add(self, other: Found) -> None:
        """What another file says, too; what was said first stays."""
        self.name = self.name or other.name
        self.xcf = self.xcf or other.xcf
        self.interfaces += other.interfaces
        self.peers += other.peers
        self.floating += other.floating
        self.services += other.services
        self.notes += other.notes


def read_address(text: str) -> Address | None:
    """An address, None for anything else."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def read_port(text: str) -> int | None:
    """A port from 1 to 65535, None for anything else."""
    port = int(text) if text.isascii() and text.isdecimal() and len(text) <= len("65535") else 0
    return port if 1 <= port <= PORT_MAX else None


def read_endpoint(text: str) -> tuple[Address | None, int] | None:
    """``address:port``, ``[address]:port``, ``*:port``, ``:port``; None for anything else."""
    host, colon, tail = text.rpartition(":")
    port = read_port(tail)
    if not colon or port is None:
        return None
    if host in ("", "*"):
        return None, port
    address = read_address(host.removeprefix("[").removesuffix("]"))
    return None if address is None else (address, port)


def read_weight(text: str) -> int | None:
    """A weight that a target can have, 1-99; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= 99 else None
