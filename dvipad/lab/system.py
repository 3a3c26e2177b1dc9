"""Commands, namespaces and processes of the machine that the lab runs on."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from dvipad.lab.spec import LabError, slowness

NETNS: Final = Path("/run/netns")
COMMAND_TIMEOUT_S: Final = 30.0
KILL_TIMEOUT_S: Final = 10.0


def require_root() -> None:
    """Raises :class:`LabError` when the lab cannot run here: not root, or a command is missing."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces: run it as root")
    missing = [name for name in ("ip", "nsenter", "nft", "mount") if shutil.which(name) is None]
    if missing:
        raise LabError(f"missing commands: {', '.join(missing)} (make install)")


def run(argv: Sequence[str], text: str | None = None) -> str:
    """Run a command with `text` on its standard input, and return what it printed.

    Raises :class:`LabError` with the command's own words when it fails.
    """
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {words}")
    return done.stdout


def enter(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in `namespace`.

    Only the network is another one: mounts stay shared, so that all nodes see the same bpffs.
    """
    return ["nsenter", f"--net={NETNS / namespace}", "--", *argv]


def ip_batch(lines: Iterable[str], namespace: str | None = None) -> None:
    """Run the `ip` commands of `lines` in one process, in `namespace` or here."""
    where = [] if namespace is None else ["-n", namespace]
    run(["ip", *where, "-batch", "-"], "\n".join(lines) + "\n")


def namespaces() -> list[str]:
    """The names of all named network namespaces."""
    return sorted(path.name for path in NETNS.iterdir()) if NETNS.is_dir() else []


def processes(wanted: Iterable[str]) -> list[int]:
    """The processes that live in one of the namespaces `wanted`."""
    inodes = set()
    for name in wanted:
        try:
            inodes.add((NETNS / name).stat().st_ino)
        except FileNotFoundError:
            continue
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _net(pid) in inodes]


def _net(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def alive(pid: int) -> bool:
    """Whether `pid` runs: not gone, and not waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def session(pid: int) -> int | None:
    """The session of `pid`, None when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def kill_all(wanted: Sequence[str]) -> None:
    """SIGKILL every process of the namespaces `wanted`, and wait until they are gone.

    Raises :class:`LabError` for what has not gone after `KILL_TIMEOUT_S` (times the slowness).
    """
    deadline = time.monotonic() + KILL_TIMEOUT_S * slowness()
    while pids := processes(wanted):
        watched = select.poll()
        descriptors = []
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            descriptors.append(descriptor)
            watched.register(descriptor, select.POLLIN)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        try:
            _await_exits(watched, len(descriptors), deadline)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if time.monotonic() >= deadline:
            raise LabError(f"processes that do not die: {pids}")


def _await_exits(watched: select.poll, count: int, deadline: float) -> None:
    while count and (left_s := deadline - time.monotonic()) > 0:
        for descriptor, _ in watched.poll(left_s * 1000):
            watched.unregister(descriptor)
            count -= 1
