"""A wall clock that jumps changes nothing but which policies with hours apply: no running daemon
decides anything else by it.

The wall clock is the whole machine's, so the matrix cannot make it jump for one node.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
WALL_CLOCKS: Final = {"time", "time_ns", "localtime", "gmtime", "now", "utcnow", "today"}
PACKAGES: Final = ("core", "wire", "adapters")
DISPLAYS: Final = {
    "dvipad/reports.py",
    "dvipad/adapters/events.py",
    "dvipad/measures.py",
    "dvipad/stats.py",
}
"""They tell readers what time it is, or was; the last one tells lives of a daemon apart."""
ALLOWED: Final = DISPLAYS | {"dvipad/hours.py", "dvipad/setup.py"}
"""Policies with hours go by the wall clock: that is what they say. The last one numbers a daemon's
starts, for peers that still have a session with the former one: if the clock went back between, the
new session has to wait until the former one is found dead, and nothing else changes."""

PYTHON: Final = sorted(
    [path for package in PACKAGES for path in (ROOT / "dvipad" / package).rglob("*.py")]
    + list((ROOT / "dvipad").glob("*.py"))
)
C: Final = sorted(path for pattern in ("*.c", "*.h") for path in (ROOT / "bpf").rglob(pattern))
_WALL_IN_C: Final = re.compile(r"\bbpf_ktime_get_(?!ns\b)\w+|\bbpf_ktime_get_tai_ns\b")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def wall_clock_reads(text: str) -> list[str]:
    """The calls in `text` that ask for the wall clock, such as `time.time()`."""
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return [
        f"{call.lineno}: {call.value.id}.{call.attr}"
        for call in calls
        if isinstance(call, ast.Attribute)
        and isinstance(call.value, ast.Name)
        and call.value.id in ("time", "datetime", "date")
        and call.attr in WALL_CLOCKS
    ]


@pytest.mark.parametrize("path", [path for path in PYTHON if _name(path) not in ALLOWED], ids=_name)
def test_the_daemon_does_not_read_the_wall_clock(path: Path) -> None:
    text = path.read_text()
    assert wall_clock_reads(text) == []
    assert "CLOCK_REALTIME" not in text
    assert "from time import" not in text


@pytest.mark.parametrize("path", C, ids=_name)
def test_the_programs_read_the_monotonic_clock(path: Path) -> None:
    assert _WALL_IN_C.findall(path.read_text()) == []


def test_reads_of_the_wall_clock_are_found() -> None:
    assert wall_clock_reads("import time\nx = time.time()\n") == ["2: time.time"]
    assert wall_clock_reads("import time\nx = time.monotonic()\n") == []
