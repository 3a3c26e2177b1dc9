"""What the traffic programs have in common: commands come in, JSON lines go out.

Commands, lines on standard input: `phase NAME` (print the figures since the last phase, and start a
new one), `report` (print them, go on), `stop`. The end of the input is a `stop`, so that no program
outlives its user.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from contextlib import suppress
from typing import Any, Final

READ_BYTES: Final = 65536
MAX_OPEN_FILES: Final = 65536


def emit(event: str, **values: Any) -> None:
    """Print one JSON line."""
    print(json.dumps({"event": event, **values}), flush=True)


def prepare_process() -> None:
    """Room for many sockets, and no pauses by the garbage collector: nothing here makes cycles."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < MAX_OPEN_FILES:  # negative: unlimited
        with suppress(ValueError, PermissionError):  # who may not raise it has to do with less
            resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
            hard = MAX_OPEN_FILES
    wanted = min(hard, MAX_OPEN_FILES) if hard >= 0 else MAX_OPEN_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    gc.freeze()
    gc.disable()


class Commands:
    """Standard input as a stream of commands, for an epoll loop."""

    def __init__(self) -> None:
        self.fd = sys.stdin.fileno()
        self._buffer = b""
        os.set_blocking(self.fd, False)

    def read(self) -> list[str]:
        """The commands that have come in; `stop` at the end of the input."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return ["stop"]
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode(errors="replace").strip() for line in lines]
