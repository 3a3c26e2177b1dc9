"""`dvipactl top`: the cluster as this node sees it, live on a terminal, or once as text."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from dvipad.cli.ask import Refused, ask
from dvipad.cli.screen import SORTS, Row, Sight, screen

EVENTS_SHOWN: Final = 20
_EPILOG: Final = """\
keys: q quit, s sort targets by another column, / filter by a word (Enter ends it, empty: all)
When the daemon is away it is waited for. When standard output is no terminal, or with --once, the
picture is printed once, with rates over one interval; --json: the same for scripts.

  dvipactl top --once | grep ACTIVE
  dvipactl top --sort rate --filter 192.0.2.100

exit status: 0 done, 1 the daemon does not answer (once), 2 wrong usage, 130 interrupted
"""


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``top`` to the commands; `finish` adds what all commands have."""
    text = "live view: nodes, DVIPAs, targets with rates, counters, last events"
    parser = commands.add_parser(
        "top",
        help=text,
        description=text,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="print it once, as plain text")
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds between looks (1)"
    )
    parser.add_argument("--sort", choices=SORTS, default=SORTS[0], help="of targets")
    parser.add_argument("--filter", default="", metavar="WORD", help="rows that have this word")
    parser.set_defaults(run=_run)
    finish(parser)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError("say a number of seconds from 0.1 to 3600")
    return value


@dataclass(slots=True)
class _Keys:
    """What the keys have chosen."""

    sort: str
    word: str
    typing: bool = False
    quit: bool = False

    def press(self, key: str) -> None:
        """Follow a key."""
        if self.typing:
            if key in "\r\n\x1b":
                self.typing = False
            elif key in "\x7f\b":
                self.word = self.word[:-1]
            elif key.isprintable():
                self.word += key
        elif key in "qQ":
            self.quit = True
        elif key == "/":
            self.typing, self.word = True, ""
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]


def look(path: Path, before: Sight | None) -> Sight:
    """Asks the daemon at the control socket `path`; raises ``Refused``."""
    view = ask(path, {"command": "view"})["view"]
    counters = ask(path, {"command": "counters"})
    counters.pop("ok")
    return Sight(
        time.monotonic(), view, counters, _last_events(path, before), before and before.alone()
    )


def _last_events(path: Path, before: Sight | None) -> list[Row]:
    """The newest ones; of the thousand that a daemon keeps, only what may be shown is asked for."""
    seen = before.events[-1]["number"] if before and before.events else 0
    answer = ask(path, {"command": "events", "after": max(0, seen - EVENTS_SHOWN)})
    if answer["newest"] < seen:  # another daemon, which counts anew
        answer = ask(path, {"command": "events", "after": 0})
    rows: list[Row] = answer["events"]
    return rows[-EVENTS_SHOWN:]


def _run(arguments: argparse.Namespace) -> None:
    if arguments.once or arguments.json or not sys.stdout.isatty() or not sys.stdin.isatty():
        first = look(arguments.socket, None)
        time.sleep(arguments.interval)
        sight = look(arguments.socket, first)
        if arguments.json:
            print(json.dumps(sight.as_json(), indent=2))
            return
        width = max((len(row["text"]) for row in sight.events), default=0) + 40
        console = Console(width=max(100, width), color_system=None)
        shown = screen(sight, arguments.sort, arguments.filter, None)
        with console.capture() as text:
            console.print(shown)
        print("\n".join(each.rstrip() for each in text.get().splitlines()))
        return
    _live(arguments)


def _live(arguments: argparse.Namespace) -> None:
    keys = _Keys(arguments.sort, arguments.filter)
    sight: Sight | None = None
    console = Console()
    with _raw_keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not keys.quit:
            trouble = ""
            try:
                sight = look(arguments.socket, sight)
            except Refused as error:
                trouble = f"waiting for the daemon: {error}"
            until = time.monotonic() + arguments.interval
            while not keys.quit:
                rest = f"  filter: {keys.word}{'_' if keys.typing else ''}"
                status = trouble or f"q quit  s sort: {keys.sort}  /{rest}"
                live.update(
                    screen(sight, keys.sort, keys.word, console.size.height, status), refresh=True
                )
                if not _press(keys, pressed, until - time.monotonic()):
                    break


def _press(keys: _Keys, descriptor: int, wait_s: float) -> bool:
    """Follow the next keys; False when there was none in time."""
    ready, _, _ = select.select([descriptor], [], [], max(0.0, wait_s))
    if not ready:
        return False
    data = os.read(descriptor, 64)
    keys.quit = not data  # the terminal is gone
    for key in data.decode(errors="replace"):
        keys.press(key)
    return True


@contextlib.contextmanager
def _raw_keys() -> Iterator[int]:
    """Keys come at once and are not shown; Ctrl-C is what it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
