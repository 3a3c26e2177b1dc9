"""Watches which addresses of VIPARANGEs applications bind, by listing sockets again and again.

For kernels that refuse the cgroup programs. It sees less: neither sockets that are only bound, nor
those that come and go between two listings.
"""

from __future__ import annotations

import contextlib
import time

from dvipad.adapters.bind_events import BindSettings, Ranges, Reports, Subnets
from dvipad.adapters.inet_diag import InetDiag
from dvipad.adapters.timer import Timer
from dvipad.core.inputs import AddressesBound

_NOTHING: Ranges = frozenset()


class PollingBindWatcher:
    """The :class:`~dvipad.adapters.bind_events.BindWatcher` that needs only inet_diag."""

    def __init__(self, settings: BindSettings) -> None:
        self._poll_ns = settings.poll_ms * 1_000_000
        self._subnets = Subnets(_NOTHING)
        self._reports = Reports()
        self._sockets: dict[bytes, tuple[bytes, int]] = {}
        self._next_ns: int | None = None
        with contextlib.ExitStack() as stack:
            self._diag = InetDiag()
            stack.callback(self._diag.close)
            self._timer = Timer()
            stack.callback(self._timer.close)
            self._resources = stack.pop_all()

    def close(self) -> None:
        """Stops looking."""
        self._resources.close()

    def destroy(self) -> None:
        """There is nothing in the kernel."""
        self.close()

    def fileno(self) -> int:
        """Readable when it is time to look again."""
        return self._timer.fileno()

    def watch(self, ranges: Ranges) -> None:
        """See ``BindWatcher.watch``."""
        self._subnets = Subnets(ranges)
        self._reports.again()
        self._next_ns = time.monotonic_ns()
        self._timer.set(self._next_ns)

    def read_events(self) -> list[AddressesBound]:
        """See ``BindWatcher.read_events``."""
        now_ns = time.monotonic_ns()
        events: list[AddressesBound] = []
        if self._next_ns is not None and now_ns >= self._next_ns:
            events = self._look(now_ns)
            looking = bool(self._subnets.rows)
            self._next_ns = time.monotonic_ns() + self._poll_ns if looking else None
        self._timer.set(self._next_ns)
        return events

    def _look(self, now_ns: int) -> list[AddressesBound]:
        listed = self._diag.bound() if self._subnets.rows else {}
        self._sockets = {
            cookie: self._sockets.get(cookie, (packed, now_ns))
            for cookie, packed in listed.items()
            if packed in self._subnets
        }
        return self._reports.compare(self._sockets.values())

    def counters(self) -> dict[str, int]:
        """Nothing is counted."""
        return dict.fromkeys(("binds", "releases", "lost_binds"), 0)
