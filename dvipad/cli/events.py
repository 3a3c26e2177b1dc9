"""`dvipactl events`: the last things that happened on this node, and what happens next."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from dvipad.cli.ask import Refused, ask

Row: TypeAlias = dict[str, Any]
WAIT_S: Final = 20.0
"""The daemon is asked to wait so long for the next event."""
RETRY_S: Final = 0.2
KINDS: Final = ("log", "decision", "refusal", "repair", "trouble", "peer", "profile", "start")
_EPILOG: Final = """\
Each event is a line: time (of this host's time zone), level, text. The daemon keeps the last
1,000; when it forgot some before they were read, a line on standard error says how many. With
--follow a restart of the daemon is waited for, and what its successor says is read from the start.
With --json an event is a line of JSON: number, wall_ms (milliseconds since 1970), level, text,
kind, and what that kind is about.

  dvipactl events --kind decision            who took and gave which DVIPA, and why
  dvipactl events --follow --json | jq .text
  dvipactl events --since 120                those after number 120

exit status: 0 done, 1 the daemon does not answer, 2 wrong usage, 130 interrupted
"""


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``events`` to the commands; `finish` adds what all commands have."""
    text = "the last events of this node; --follow: and those to come"
    parser = commands.add_parser(
        "events",
        help=text,
        description=text,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--follow", action="store_true", help="go on until interrupted")
    parser.add_argument(
        "--since", type=_number, default=0, metavar="NUMBER", help="only events after this number"
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=KINDS,
        metavar="KIND",
        help=f"only this kind, may be repeated: {', '.join(KINDS)}",
    )
    parser.set_defaults(run=_run)
    finish(parser)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("say the number of an event, or 0")
    return int(text)


def _run(arguments: argparse.Namespace) -> None:
    for rows, lost in batches(arguments.socket, arguments.since, arguments.follow):
        if lost:
            print(f"dvipactl: {lost} events were lost", file=sys.stderr, flush=True)
        for row in rows:
            if arguments.kind is None or row["kind"] in arguments.kind:
                print(json.dumps(row) if arguments.json else line(row), flush=True)


def line(row: Row) -> str:
    """An event as text."""
    at = datetime.fromtimestamp(row["wall_ms"] / 1000).astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S}.{row['wall_ms'] % 1000:03} {row['level']:<8} {row['text']}"


def batches(path: Path, after: int, follow: bool) -> Iterator[tuple[list[Row], int]]:
    """Events after number `after`, and how many of them are lost; without `follow` once.

    Raises `Refused` when the daemon does not answer the first request; a daemon that goes away
    later is waited for.
    """
    answer = ask(path, {"command": "events", "after": after})
    yield answer["events"], answer["lost"]
    last = Last(answer["newest"], answer["events"])
    while follow:
        request = {"command": "events", "after": last.number, "wait_s": WAIT_S}
        try:
            answer = ask(path, request, timeout_s=2 * WAIT_S)
        except Refused:
            last.asked_again = True
            time.sleep(RETRY_S)
            continue
        rows, lost = last.take(answer)
        if rows or lost:
            yield rows, lost


class Last:
    """What was read last: events of a daemon are numbered from 1, and a new one starts again."""

    def __init__(self, newest: int, rows: list[Row]) -> None:
        self._newest = newest
        self._wall_ms: int = rows[-1]["wall_ms"] if rows else 0
        self.asked_again = False
        """The connection broke: the next answer may be a new daemon's, and is asked for whole."""

    @property
    def number(self) -> int:
        """After which number to ask."""
        return 0 if self.asked_again else self._newest

    def take(self, answer: dict[str, Any]) -> tuple[list[Row], int]:
        """The rows of `answer` that are new, and how many were lost."""
        rows, lost = answer["events"], answer["lost"]
        if self.asked_again:
            seen = [row for row in rows if self._seen(row)]
            rows = [row for row in rows if not self._seen(row)]
            lost = 0 if seen else lost
        self.asked_again = False
        self._newest = answer["newest"]
        self._wall_ms = rows[-1]["wall_ms"] if rows else self._wall_ms
        return rows, lost

    def _seen(self, row: Row) -> bool:
        return bool(row["number"] <= self._newest and row["wall_ms"] <= self._wall_ms)
