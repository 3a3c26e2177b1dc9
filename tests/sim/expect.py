"""What a scenario file may expect of the cluster, as values; `judge.py` looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dvipad.address import Address


@dataclass(frozen=True, slots=True)
class During:
    """From `from_ms` until `until_ms`, both included."""

    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Owner:
    """`name` alone answers for `dvipa`; None: nobody does."""

    dvipa: Address
    name: str | None
    during: During


@dataclass(frozen=True, slots=True)
class Owners:
    """At most `most` hosts answer for `dvipa`."""

    dvipa: Address
    most: int
    during: During


@dataclass(frozen=True, slots=True)
class Targets:
    """New connections to (`dvipa`, `port`) are given to these hosts, and no others."""

    dvipa: Address
    port: int
    names: frozenset[str]
    during: During


@dataclass(frozen=True, slots=True)
class Refused:
    """Host `name` refuses something about `dvipa`, and its reason has the words `text`."""

    dvipa: Address
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """The check of host `name`'s profile warns, in these words."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    """So many connections were opened before everything was healed."""

    count: int


@dataclass(frozen=True, slots=True)
class Lost:
    """So many connections were refused, reset, or made no progress, until the end."""

    count: int


@dataclass(frozen=True, slots=True)
class Even:
    """Of these targets none got more connections than another by more than `within`."""

    names: frozenset[str]
    within: int


@dataclass(frozen=True, slots=True)
class Relays:
    """The packet that was relayed most often was relayed so many times."""

    count: int


Lasting: TypeAlias = Owner | Owners | Targets
Expectation: TypeAlias = Lasting | Refused | Warned | Opened | Lost | Even | Relays
