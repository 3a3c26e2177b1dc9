"""`dvipactl top` asks for the newest events only, whichever daemon answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvipad.cli import top

PATH = Path("/run/dvipad/control.sock")


class Daemon:
    """Keeps `count` events, and remembers after which number it was asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[int] = []

    def ask(self, _path: Path, request: dict[str, Any]) -> dict[str, Any]:
        """Its answers to what `top` asks."""
        if request["command"] != "events":
            return {"ok": True, "view": {}}
        self.asked.append(request["after"])
        rows = [{"number": n} for n in range(request["after"] + 1, self.count + 1)]
        return {"ok": True, "events": rows, "newest": self.count, "lost": 0}


def numbers(sight: top.Sight) -> list[int]:
    return [row["number"] for row in sight.events]


def test_the_newest_events_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(1000)
    monkeypatch.setattr(top, "ask", daemon.ask)
    first = top.look(PATH, None)
    assert numbers(first) == [*range(981, 1001)]
    daemon.count = 1003
    second = top.look(PATH, first)
    assert numbers(second) == [*range(984, 1004)]
    assert daemon.asked == [0, 980]


def test_a_daemon_that_started_again_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(1000)
    monkeypatch.setattr(top, "ask", daemon.ask)
    first = top.look(PATH, None)
    daemon.count = 2
    assert numbers(top.look(PATH, first)) == [1, 2]
