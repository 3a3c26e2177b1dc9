"""A status object that is a program: it prints figures as JSON (S1).

A number is the figure ``value``; an object has figures by name. An exit status other than 0 means
that the instance is down, and so does a program that does not end in time: it is killed, with all
that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import IO, Any, Final

from dvipad.status.trouble import Missing, Unusable

RUNNING: Final[set[int]] = set()
"""Programs that run now: each leads a process group."""
OUTPUT_MAX: Final = 65_536
"""Bytes that a program may print."""


class Program:
    """Runs `command`, words as in a shell, without one."""

    def __init__(self, options: Mapping[str, str], timeout_s: float) -> None:
        self._words = shlex.split(options["command"])
        if not self._words:
            raise ValueError("command is empty")
        self._timeout_s = timeout_s

    def read(self) -> Mapping[str, float]:
        """What it prints."""
        printed, complaint, status = self._run()
        if status != 0:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ChildProcessError(f"{how}: {complaint}" if complaint else how)
        try:
            value: Any = json.loads(printed)
        except (ValueError, RecursionError):
            raise Unusable(f"it printed no JSON: {printed[:60]!r}") from None
        if isinstance(value, dict):
            return value
        return {"value": value}

    def _run(self) -> tuple[str, str, int]:
        """What it printed, its complaints, its exit status."""
        pipe = subprocess.PIPE
        try:
            program = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Missing(f"{self._words[0]}: {error}") from None
        RUNNING.add(program.pid)
        try:
            assert program.stdout and program.stderr
            printed, complaint = self._collect(program.stdout, program.stderr)
            status = program.wait(max(0.01, self._ends_s - time.monotonic()))
            return printed, complaint, status
        except subprocess.TimeoutExpired:
            raise TimeoutError("it does not end") from None
        finally:
            end(program.pid)
            RUNNING.discard(program.pid)
            for stream in (program.stdout, program.stderr):
                if stream is not None:
                    stream.close()
            program.wait()

    def _collect(self, stdout: IO[bytes], stderr: IO[bytes]) -> tuple[str, str]:
        self._ends_s = time.monotonic() + self._timeout_s
        found: dict[Any, bytearray] = {stdout: bytearray(), stderr: bytearray()}
        with selectors.DefaultSelector() as selector:
            for stream in found:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left_s = self._ends_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("it does not end")
                for key, _ in selector.select(left_s):
                    data = os.read(key.fd, OUTPUT_MAX)
                    found[key.fileobj] += data
                    if not data:
                        selector.unregister(key.fileobj)
                    if len(found[key.fileobj]) > OUTPUT_MAX:
                        raise Unusable(f"it printed more than {OUTPUT_MAX} bytes")
        texts = [bytes(each).decode(errors="replace").strip() for each in found.values()]
        return texts[0], texts[1].splitlines()[-1] if texts[1] else ""


def end(group: int) -> None:
    """Kill a program and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
