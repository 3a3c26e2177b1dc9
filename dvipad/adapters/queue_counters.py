"""Counters of the queue worker, in a file that worker, supervisor and daemon share as memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_COUNTERS = (
    "packets",
    "duplicates",
    "sent",
    "local",
    "malformed",
    "truncated",
    "no_service",
    "refused",
    "no_target",
    "errors",
    "restarts",
    "hung",
    "reclaimed",
)


class QueueState(ctypes.Structure):
    """What the processes around the queue tell each other.

    `beat_ns`: CLOCK_MONOTONIC, when the worker was last seen working. `worker_pid`: the process
    that decides now, 0 none; `started`: 1 once a worker was ready.

    Of the counters, `packets` is how many SYNs reached the worker; `sent`: went on to a target;
    `local`: to this node; `duplicates` of these two: went where the same connection's SYN went
    before; `malformed` and `no_service`: left to the kernel; `refused`: by a policy, with a RST;
    `truncated` (more data on the SYN than is copied), `no_target` and `errors`: dropped, the client
    sends them again. `restarts`: successors of dead workers; `hung`: those that had to be killed;
    `reclaimed`: messages that successors found unread.
    """

    beat_ns: int
    worker_pid: int
    started: int
    packets: int
    duplicates: int
    sent: int
    local: int
    malformed: int
    truncated: int
    no_service: int
    refused: int
    no_target: int
    errors: int
    restarts: int
    hung: int
    reclaimed: int
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("beat_ns", "worker_pid", "started", *_COUNTERS)
    )

    def counters(self) -> dict[str, int]:
        """The counters by name."""
        return {name: getattr(self, name) for name in _COUNTERS}


def create(path: Path) -> QueueState:
    """A new file at `path`, all zero, as shared memory. Raises ``OSError``."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, ctypes.sizeof(QueueState))
        return _map(fd)
    finally:
        os.close(fd)


def attach(path: Path) -> QueueState:
    """The shared memory of the file that :func:`create` made. Raises ``OSError``."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _map(fd)
    finally:
        os.close(fd)


def _map(fd: int) -> QueueState:
    return QueueState.from_buffer(mmap.mmap(fd, ctypes.sizeof(QueueState)))
