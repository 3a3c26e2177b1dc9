"""Commands of the host that change or list its rules."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

COMMAND_TIMEOUT_S: Final = 10
"""A command that takes longer counts as failed (xtables waits this long for its lock)."""
_SYS_ADMIN: Final = 21


def capabilities(status: str) -> int:
    """The effective capabilities, a bit each, by ``/proc/self/status``."""
    (effective,) = (
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")
    )
    return effective


def _elsewhere(status: str) -> tuple[str, ...]:
    """By ``/proc/self/status``: without CAP_SYS_ADMIN it takes a user namespace, too."""
    user = () if capabilities(status) >> _SYS_ADMIN & 1 else ("--user", "--keep-caps")
    return ("unshare", *user, "--net")


ELSEWHERE: Final = _elsewhere(Path("/proc/self/status").read_text())
"""What follows runs in a network namespace of its own, which goes with it: a trial."""


class RuleError(OSError):
    """A command that changes the rules failed; the text is its own words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command said. `code` 127: there is no such command."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[[Sequence[str], str], Outcome]
"""Runs a command (arguments, standard input); never raises for a command that fails."""


def run_command(command: Sequence[str], stdin: str = "") -> Outcome:
    """Runs `command` with `stdin` and gives back what it said."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return Outcome(127, "", f"{command[0]}: not installed")
    except subprocess.TimeoutExpired:
        return Outcome(124, "", f"{command[0]}: no answer within {COMMAND_TIMEOUT_S} s")
    return Outcome(done.returncode, done.stdout, done.stderr)


def must(run: Run, command: Sequence[str], stdin: str = "") -> None:
    """Runs `command`; raises :class:`RuleError` when it fails."""
    done = run(command, stdin)
    if done.code != 0:
        raise RuleError(f"{' '.join(command)}: {done.err.strip() or done.out.strip()}")
