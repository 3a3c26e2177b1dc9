"""What a status object is, how one is made, and what is made of what it says (S1).

A status object reads figures of one instance of an application. In Python it is whatever an entry
point of the group ``dvipad.status_objects`` makes:

    def make(options: Mapping[str, str], timeout_s: float) -> StatusObject

`options` are those of the status file. A reading that raises means that the instance is down; what
it returns must be finite numbers from 0 to `VALUE_MAX`, by names of small letters, digits and "_".
It runs in a process of its own, in a thread: it may block, and must not print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from importlib.metadata import entry_points
from typing import Final, Protocol, TypeAlias

from dvipad.status import builtin

GROUP: Final = "dvipad.status_objects"
VALUE_MAX: Final = 1e12
FIGURES_MAX: Final = 16
"""Figures of one status object."""
DETAIL_MAX: Final = 200
"""Characters of what is said about a failure."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")


class StatusObject(Protocol):
    """Reads the figures of one instance."""

    def read(self) -> Mapping[str, float]:
        """The figures of now, by name. Raises anything when the instance is down."""


Make: TypeAlias = Callable[[Mapping[str, str], float], StatusObject]


class Result(Enum):
    """What came of a reading. DOWN and TIMEOUT: the instance is down. Of the others but OK nothing
    follows for the instance; its figures are not known."""

    OK = "ok"
    DOWN = "down"
    """It failed: no connection, a wrong answer, an exit status, an exception."""
    TIMEOUT = "timeout"
    RUBBISH = "rubbish"
    """What it said is not figures."""
    OUT_OF_RANGE = "out_of_range"
    """A figure is NaN, infinite, negative, or greater than 1e12."""
    UNAVAILABLE = "unavailable"
    """There is no such status object, or what it needs is not installed."""


DOWN: Final = frozenset((Result.DOWN, Result.TIMEOUT))


class NotUsable(Exception):
    """What a status object said cannot be used; `result` says why."""

    def __init__(self, result: Result, text: str) -> None:
        super().__init__(text)
        self.result = result


def make(kind: str, options: Mapping[str, str], timeout_s: float) -> StatusObject:
    """A status object; raises `NotUsable` when it cannot be made."""
    try:
        return _maker(kind)(options, timeout_s)
    except NotUsable:
        raise
    except Exception as error:  # of somebody's code, which may raise anything
        raise NotUsable(Result.UNAVAILABLE, f"{type(error).__name__}: {error}") from None


def _maker(kind: str) -> Make:
    built_in: Make | None = builtin.KINDS.get(kind)
    if built_in is not None:
        return built_in
    for found in entry_points(group=GROUP, name=kind):
        loaded: Make = found.load()
        return loaded
    raise NotUsable(Result.UNAVAILABLE, f"no package here has the entry point {kind} in {GROUP}")


def checked(said: object) -> dict[str, float]:
    """The figures that a status object returned; raises `NotUsable` for anything else."""
    if not isinstance(said, Mapping) or len(said) > FIGURES_MAX:
        raise NotUsable(Result.RUBBISH, f"not a mapping of at most {FIGURES_MAX} figures")
    found: dict[str, float] = {}
    for name, value in said.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise NotUsable(Result.RUBBISH, f"{str(name)[:40]!r} is no name of a figure")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotUsable(Result.RUBBISH, f"{name} is no number")
        if not 0 <= value <= VALUE_MAX:  # nor is NaN
            raise NotUsable(Result.OUT_OF_RANGE, f"{name} is {str(value)[:40]}")
        found[name] = float(value)
    return found


def read(status_object: StatusObject) -> tuple[Result, dict[str, float], str]:
    """One reading: what came of it, the figures, and if there are none, why. Never raises."""
    try:
        return Result.OK, checked(status_object.read()), ""
    except NotUsable as error:
        return error.result, {}, tidy(str(error))
    except TimeoutError as error:
        return Result.TIMEOUT, {}, tidy(str(error) or "no answer in time")
    except builtin.Unusable as error:
        return Result.RUBBISH, {}, tidy(str(error))
    except builtin.Missing as error:
        return Result.UNAVAILABLE, {}, tidy(str(error))
    except Exception as error:  # of somebody's code, which may raise anything
        return Result.DOWN, {}, tidy(f"{type(error).__name__}: {error}")


def tidy(text: str) -> str:
    """`text` on one line, not too long."""
    line = " ".join(text.split())[:DETAIL_MAX]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
