"""Network namespaces of a test's own, and ways to be in them and to wait."""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from dvipad.lab.spec import slowness

SLOW: Final = slowness()
"""What limits of time are multiplied by, and amounts of traffic divided."""
CLONE_NEWNET = 0x40000000
_numbers = itertools.count()
T = TypeVar("T")


def run(*command: str) -> str:
    """Runs a command, and raises with its words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


@contextmanager
def namespace() -> Iterator[str]:
    """A new network namespace with ``lo`` up; gone at the end."""
    name = f"dvs-{os.getpid()}-{next(_numbers)}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "del", name)


@contextmanager
def pair(a: str, b: str) -> Iterator[None]:
    """Joins namespaces `a` and `b` by a cable, ``eth0`` on both ends."""
    run(*f"ip -n {a} link add eth0 type veth peer name eth0 netns {b}".split())
    for each in (a, b):
        run("ip", "-n", each, "link", "set", "eth0", "up")
    yield


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread is in the namespace `name`; sockets made here stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert libc.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        assert libc.setns(here, CLONE_NEWNET) == 0
        os.close(here)
        os.close(there)


@contextmanager
def bpffs(folder: Path) -> Iterator[Path]:
    """A BPF file system at `folder`."""
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "bpf", "bpf", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def wait_readable(fd: int, timeout_s: float) -> bool:
    """Whether `fd` becomes readable in time."""
    return bool(select.select([fd], [], [], timeout_s)[0])


def eventually(look: Callable[[], T | None], timeout_s: float = 5.0) -> T:
    """What `look` returns once it is not None or False; fails after `timeout_s` (times SLOW)."""
    until = time.monotonic() + timeout_s * SLOW
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"nothing from {look} within {timeout_s} s"
        select.select([], [], [], 0.005)
