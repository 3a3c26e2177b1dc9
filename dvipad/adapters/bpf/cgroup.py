"""The root of the cgroup hierarchy (version 2), where programs see the sockets of all processes.

It is opened where this host has mounted the hierarchy, which takes no privilege; if it has not, by
a mount of its own that is attached nowhere. In a container it is the container's root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.libbpf import BpfError

_FSOPEN: Final = 430  # the same number on all architectures
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CMD_CREATE: Final = 6
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def root_cgroup() -> Iterator[int]:
    """A descriptor of the root; raises ``BpfError`` when the kernel has no cgroups."""
    with contextlib.ExitStack() as stack:
        for place in mounts(Path("/proc/self/mountinfo").read_text()):
            with contextlib.suppress(OSError):  # hidden by another mount, or not for us
                root = os.open(place, _FLAGS)
                stack.callback(os.close, root)
                if (Path(f"/proc/self/fd/{root}") / "cgroup.controllers").exists():
                    yield root
                    return
        context = _call(_FSOPEN, b"cgroup2", 0)
        stack.callback(os.close, context)
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, 0, 0)
        stack.callback(os.close, mount)
        root = os.open(".", _FLAGS, dir_fd=mount)
        stack.callback(os.close, root)
        yield root


def mounts(table: str) -> list[str]:
    """Where the root of the hierarchy is mounted, by ``/proc/self/mountinfo``."""
    rows = (line.partition(" - ") for line in table.splitlines())
    return [
        before.split()[4].encode().decode("unicode_escape")
        for before, _, after in rows
        if after.split()[:1] == ["cgroup2"] and before.split()[3] == "/"
    ]


def _call(number: int, *arguments: int | bytes | None) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(syscall(ctypes.c_long(number), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise BpfError(code, f"open the root of the cgroups: {os.strerror(code)}")
    return result
