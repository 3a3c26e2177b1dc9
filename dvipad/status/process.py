"""The status process: runs status objects and updates zones, so that the daemon need not.

On its standard input come orders, a line each (`dvipad.status.lines`): the status objects at the
start, then names and their addresses. On its standard output go readings and what became of names.
It ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from dvipad.status import objects, program
from dvipad.status.lines import BEAT_S, LINE_MAX, line, parse
from dvipad.status.objects import NotUsable, Result, StatusObject
from dvipad.status.zones import Zones

_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION: Final = 0x20080522
_CAPABILITY_BYTES: Final = 24
"""Two times effective, permitted, inheritable, see capset(2)."""
GRACE_S: Final = 0.25
"""A status object that keeps its time limit itself is left so much more, and says more."""
AGAIN_S: Final = 10.0
"""A status object that cannot be made is tried again so much later."""


class StatusProcess:
    """`out`: where it says what it found."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._zones = Zones(self._say)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, orders: asyncio.StreamReader) -> None:
        """Follow orders until there are no more."""
        self._spawn(self._beat())
        while data := await orders.readline():
            order = parse(data)
            if "object" in order:
                self._spawn(self._watch(order))
            elif "forget" in order:
                self._zones.forget(order["forget"])
            else:
                self._zones.want(order)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(_finished)

    async def _beat(self) -> None:
        while True:
            self._say({})
            await asyncio.sleep(BEAT_S)

    def _say(self, value: Mapping[str, Any]) -> None:
        self._out.write(line(value))
        self._out.flush()

    # -- status objects -----------------------------------------------------------------------

    async def _watch(self, order: Mapping[str, Any]) -> None:
        """Read one status object again and again; of equal intervals all at the same time."""
        loop = asyncio.get_running_loop()
        name, interval_s, timeout_s = order["object"], order["interval_s"], order["timeout_s"]
        with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
            made = await self._make(order, thread)
            while True:
                reading = thread.submit(objects.read, made)
                await self._within(name, reading, timeout_s)
                now_s = loop.time()
                await asyncio.sleep(interval_s - now_s % interval_s)

    async def _make(self, order: Mapping[str, Any], thread: ThreadPoolExecutor) -> StatusObject:
        kind, options, timeout_s = order["kind"], order["options"], order["timeout_s"]
        while True:
            making = thread.submit(objects.make, kind, options, timeout_s)
            try:
                return await asyncio.wrap_future(making)
            except NotUsable as error:
                self._tell(order["object"], error.result, {}, objects.tidy(str(error)))
            await asyncio.sleep(AGAIN_S)

    async def _within(self, name: str, reading: Future[Any], timeout_s: float) -> None:
        """Tell what came of `reading`. As long as it hangs it is told so, and no other begins."""
        waiting = asyncio.wrap_future(reading)
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=timeout_s + GRACE_S)
            if done:
                break
            self._tell(name, Result.TIMEOUT, {}, f"no answer in {timeout_s:g} s")
        self._tell(name, *waiting.result())

    def _tell(self, name: str, result: Result, figures: Mapping[str, float], why: str) -> None:
        self._say({"object": name, "result": result.value, "figures": figures, "detail": why})


def _finished(task: asyncio.Task[None]) -> None:
    """A defect ends the process: the daemon starts another one."""
    if not task.cancelled() and task.exception() is not None:
        sys.excepthook(*_parts(task.exception()))
        sys.stderr.flush()
        _leave(1)


def _leave(status: int) -> None:
    """Without waiting for anything that hangs."""
    for group in list(program.RUNNING):
        program.end(group)
    os._exit(status)


def _parts(error: BaseException | None) -> Any:
    return type(error), error, error.__traceback__ if error else None


def _be_humble() -> None:
    """Neither the daemon's priority nor its rights are for programs of others."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() != 0:
        libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(_CAPABILITY_BYTES))


async def _main(out: BinaryIO) -> None:
    reader = asyncio.StreamReader(LINE_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await StatusProcess(out).run(reader)


def main() -> None:
    """Until the input ends; then at once, whatever hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon says when it is over
    signal.signal(signal.SIGTERM, lambda number, frame: _leave(0))
    _be_humble()
    # What a status object prints must not be taken for what this process says.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        asyncio.run(_run(out))


async def _run(out: BinaryIO) -> None:
    with contextlib.suppress(BrokenPipeError):
        await _main(out)
    _leave(0)


if __name__ == "__main__":
    main()
