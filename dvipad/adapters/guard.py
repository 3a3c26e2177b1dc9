"""Two netfilter rules that keep the local stack from resetting connections that it does not know.

Somebody who takes the eBPF program off an uplink (``tc filter del``, a network manager that sets a
link up anew) leaves the distributor's stack alone with the packets of connections that live on
targets. The first rule drops what the program should have seen and has not; the program for its
match, pinned with the maps, asks the map of DVIPAs. The second takes the mark away, by which the
program lets packets pass, before anybody else can stumble over it.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from dvipad.adapters.commands import Run, run_command
from dvipad.adapters.rule_keeper import keep_rules
from dvipad.adapters.xtables import Rule, Xtables, XtablesRules

COMMENT: Final = "dvipad-guard"
_ANY: Final = ("--bytecode", "1,6 0 0 1")
"""A program for a trial, which matches all."""

log = logging.getLogger(__name__)


def guard_rules(xtables: Xtables, mark: int, program: Path, run: Run = run_command) -> XtablesRules:
    """The guard: `mark` is of what the eBPF program has seen, `program` the pinned match."""
    return _rules(xtables, mark, ("--object-pinned", str(program)), run)


def probe_guard(run: Run = run_command) -> Xtables | None:
    """The first iptables that can do it here, or None."""
    return next((each for each in Xtables if _rules(each, 1, _ANY, run).works()), None)


async def keep_guard(rules: XtablesRules, thread: Executor) -> None:
    """Puts the guard in and keeps it there, until cancelled; `thread` runs the commands."""
    loop = asyncio.get_running_loop()
    try:
        # What a former daemon left asks the program of that daemon, perhaps of other maps.
        await loop.run_in_executor(thread, rules.remove)
        await loop.run_in_executor(thread, rules.ensure)
    except OSError as error:
        log.error("no guard: %s", error)
    await keep_rules(rules, "the guard", thread)


async def drop_guard(rules: XtablesRules, thread: Executor) -> None:
    """Takes the guard out; `thread` is the one that keeps it, so nothing puts it back."""
    try:
        await asyncio.get_running_loop().run_in_executor(thread, rules.remove)
    except OSError as error:
        log.error("the guard stays: %s", error)


def _rules(xtables: Xtables, mark: int, match: tuple[str, ...], run: Run) -> XtablesRules:
    marked = ("--mark", f"{mark:#x}/{mark:#x}")
    unseen = ("-p", "tcp", "-m", "mark", "!", *marked, "-m", "bpf", *match)
    rules = (
        Rule(unseen, ("-j", "DROP")),
        Rule(("-m", "mark", *marked), ("-j", "MARK", "--set-xmark", "0x0/0xffffffff")),
    )
    return XtablesRules(xtables, "mangle", COMMENT, rules, run)
