"""The NFQUEUE and its two processes: a supervisor that keeps it, a worker that decides.

The supervisor binds the queue and holds its socket, so that packets survive the worker. A worker
that dies, or does not beat for `hung_ms`, gets a successor at once, which has the kernel queue
everything again that its predecessor left without a verdict. The daemon's end of it is
:class:`QueueSupervisor`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from netfilterqueue import NetfilterQueue, Packet

from dvipad.adapters import queue_counters
from dvipad.adapters.bpf.worker_view import WorkerView
from dvipad.adapters.queue_counters import QueueState
from dvipad.adapters.queue_worker import Loop, TunnelSender, Worker, liveness_socket, reclaim
from dvipad.adapters.tcp_reset import Refuser

COPY_BYTES: Final = 2048
"""Of each SYN; a short one costs no more than with less, and data on a SYN is not cut off."""
SOCKET_BYTES: Final = 8 << 20
QUEUE_PACKETS_MAX: Final = 4096
"""Packets without a verdict; the eBPF program's window is far below."""
BIND_RETRY_S: Final = 2.0
"""How long a former worker may take to let go of the queue."""
STOP_S: Final = 3.0
"""How long a supervisor may take to end before it is killed."""
SHORT_LIFE_S: Final = 1.0
"""A worker that lives shorter has a reason that the next one may have too."""
BACKOFF_MAX_S: Final = 1.0
_BACKOFF_MIN_S: Final = 0.02
_CHECKS_PER_HUNG: Final = 4
_NICE: Final = -10
_PR_SET_PDEATHSIG: Final = 1
_COUNTERS_FILE: Final = "queue.counters"
_READY: Final = b"R"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`pin_dir`: where the data plane pinned its maps. `run_dir`: a folder for the counters.
    `number`: of the NFQUEUE. `stale_ms`: the data plane's; `hung_ms`: without a beat for so
    long, a worker is killed."""

    pin_dir: Path
    run_dir: Path
    number: int
    stale_ms: int = 300
    hung_ms: int = 150

    @property
    def counters_path(self) -> Path:
        """The file of the counters."""
        return self.run_dir / _COUNTERS_FILE


class QueueError(OSError):
    """The queue's supervisor did not come up; it said why on standard error."""


class QueueSupervisor:
    """The daemon's handle of the supervisor process.

    :meth:`start` from the daemon's main thread: the process is told to end when that thread does.
    """

    def __init__(self, process: subprocess.Popen[bytes], ready: int, state: QueueState) -> None:
        self._process = process
        self._ready = ready
        self._state = state
        self._pidfd = os.pidfd_open(process.pid)

    @classmethod
    def start(cls, settings: QueueSettings) -> QueueSupervisor:
        """Starts the process. The queue is bound once :meth:`wait_ready` returns."""
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        state = queue_counters.create(settings.counters_path)
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, *_arguments(settings, writing)],
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return cls(process, reading, state)

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self._process.pid

    @property
    def pidfd(self) -> int:
        """Readable when the supervisor has ended: the daemon starts another."""
        return self._pidfd

    def worker_pid(self) -> int:
        """The worker, 0 when there is none at this moment."""
        return self._state.worker_pid

    def counters(self) -> dict[str, int]:
        """See :class:`~dvipad.adapters.queue_counters.QueueState`."""
        return self._state.counters()

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the queue is bound and a worker reads it. Raises :class:`QueueError`."""
        if not select.select([self._ready], [], [], timeout_s)[0]:
            raise QueueError(errno.ETIMEDOUT, f"the queue is not there after {timeout_s} s")
        self._take_ready()

    async def ready(self, timeout_s: float) -> None:
        """The same, for an event loop."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ready, readable.set)
        try:
            async with asyncio.timeout(timeout_s):
                await readable.wait()
        except TimeoutError:
            text = f"the queue is not there after {timeout_s} s"
            raise QueueError(errno.ETIMEDOUT, text) from None
        finally:
            loop.remove_reader(self._ready)
        self._take_ready()

    def _take_ready(self) -> None:
        if os.read(self._ready, 1) != _READY:
            raise QueueError(errno.ECHILD, "the queue's supervisor ended at once")

    def stop(self) -> None:
        """Ends worker and supervisor, and the queue with them. What is queued is judged first.

        Blocks until they are gone. Idempotent.
        """
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for fd in (self._ready, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._ready = self._pidfd = -1


def _arguments(settings: QueueSettings, ready: int) -> list[str]:
    return [
        f"--pins={settings.pin_dir}",
        f"--run={settings.run_dir}",
        f"--number={settings.number}",
        f"--stale-ms={settings.stale_ms}",
        f"--hung-ms={settings.hung_ms}",
        f"--ready={ready}",
        f"--parent={os.getpid()}",
    ]


class Callback:
    """What the queue calls; the worker puts its handler in after the fork."""

    def __init__(self) -> None:
        self.handle: Callable[[Packet], None] | None = None

    def __call__(self, packet: Packet) -> None:
        assert self.handle is not None, "the supervisor never reads the queue"
        self.handle(packet)


class Supervisor:
    """The supervisor's own side: runs in its process, forks workers.

    `ready`: a pipe that the first worker writes to when it decides.
    """

    def __init__(self, settings: QueueSettings, ready: int) -> None:
        self._settings = settings
        self._ready = ready
        self._state = queue_counters.attach(settings.counters_path)
        self._view = WorkerView.open(settings.pin_dir)
        self._callback = Callback()
        self._queue = _bound_queue(settings.number, self._callback)
        self._stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
        gc.freeze()  # what is there now never becomes garbage in a worker

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Keeps a worker running until SIGTERM."""
        backoff_s = 0.0
        while not self._stopping:
            began = time.monotonic()
            self._watch(self._fork())
            if time.monotonic() - began > SHORT_LIFE_S:
                backoff_s = 0.0
            elif not self._stopping:
                time.sleep(backoff_s)
                backoff_s = min(max(_BACKOFF_MIN_S, 2 * backoff_s), BACKOFF_MAX_S)
            self._state.restarts += not self._stopping
        self._queue.unbind()

    def _watch(self, worker: int) -> None:
        """Returns when the worker has ended; ends it when it hangs, or is to stop."""
        hung_ns = self._settings.hung_ms * 1_000_000
        pidfd = os.pidfd_open(worker)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        told = False
        try:
            while not poll.poll(max(1, self._settings.hung_ms // _CHECKS_PER_HUNG)):
                if self._stopping and not told:
                    told = True
                    os.kill(worker, signal.SIGTERM)
                if time.monotonic_ns() - self._state.beat_ns > hung_ns:
                    self._state.hung += 1
                    os.kill(worker, signal.SIGKILL)
                    poll.poll()
                    break
        finally:
            os.close(pidfd)
            self._state.worker_pid = 0
            os.waitpid(worker, 0)

    def _fork(self) -> int:
        self._state.beat_ns = time.monotonic_ns()
        parent = os.getpid()
        worker = os.fork()
        if worker == 0:
            self._become_worker(parent)
        self._state.worker_pid = worker
        return worker

    def _become_worker(self, parent: int) -> NoReturn:
        """Ends by ``_exit``: a regular end would tell the kernel to destroy the queue."""
        code = 1
        try:
            die_with_parent(signal.SIGTERM)
            if os.getppid() == parent:
                self._work()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)

    def _work(self) -> None:
        sender = TunnelSender(self._view.xcf, self._view.tunnel, self._view.vxlan_port)
        refuser = Refuser(self._view.queue_mark)
        worker = Worker(self._view, sender.send, refuser.refuse, self._state)
        self._callback.handle = worker.handle
        loop = Loop(self._queue, worker, self._view, lambda: self._stopping)
        liveness = liveness_socket(self._view.liveness_port)  # no beat before it is ours
        worker.beat()
        self._state.reclaimed += reclaim(self._queue.get_fd(), self._settings.number)
        if not self._state.started:
            self._state.started = 1
            os.write(self._ready, _READY)
        loop.run(liveness, self._settings.stale_ms)


def _bound_queue(number: int, callback: Callback) -> NetfilterQueue:
    until = time.monotonic() + BIND_RETRY_S
    while True:
        queue = NetfilterQueue()
        try:
            queue.bind(
                number,
                callback,
                max_len=QUEUE_PACKETS_MAX,
                range=COPY_BYTES,
                sock_len=SOCKET_BYTES,
            )
            return queue
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(_BACKOFF_MIN_S)  # the kernel has no event for a queue that becomes free


def die_with_parent(number: signal.Signals) -> None:
    """This process gets the signal when the thread that started it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def main(arguments: list[str] | None = None) -> int:
    """The supervisor process."""
    parser = argparse.ArgumentParser(prog="dvipad-queue")
    parser.add_argument("--pins", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--stale-ms", type=int, required=True)
    parser.add_argument("--hung-ms", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != given.parent:
        return 0  # the daemon ended before it could tell
    with contextlib.suppress(PermissionError):
        os.nice(_NICE)
    settings = QueueSettings(given.pins, given.run, given.number, given.stale_ms, given.hung_ms)
    try:
        Supervisor(settings, given.ready).run()
    except OSError as error:
        print(f"dvipad: the queue of SYNs cannot be served: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
