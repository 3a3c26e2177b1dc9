"""VIPARANGE in the kernel: applications may bind its addresses, and are seen to do so (D10).

Nothing of it is there while a node has no range.
"""

from __future__ import annotations

import contextlib
import select
from pathlib import Path

from dvipad.adapters.bind_events import BindSettings, BindWatcher, Ranges
from dvipad.adapters.binds import destroy, open_bind_watcher
from dvipad.adapters.nonlocal_bind import NonlocalBind
from dvipad.core.inputs import AddressesBound


class RangeWatcher:
    """Of the network namespace of the calling thread; used in one thread.

    `run`: a folder that is empty after a restart of the host.
    """

    def __init__(self, settings: BindSettings, run: Path) -> None:
        self._settings = settings
        self._nonlocal_bind = NonlocalBind(run)
        self._binds: BindWatcher | None = None
        self._epoll = select.epoll()

    def watch(self, ranges: Ranges) -> None:
        """These are the node's ranges from now on; what is bound in one is reported in any case.

        Sockets that were bound before are found, too. Raises ``OSError`` when the kernel refuses.
        """
        if ranges:
            if self._binds is None:
                self._binds = open_bind_watcher(self._settings)
                self._epoll.register(self._binds.fileno(), select.EPOLLIN)
            self._binds.watch(ranges)
        else:
            self._let_go()
            destroy(self._settings)
        self._nonlocal_bind.want(frozenset(network.version for network, _ in ranges))

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""
        return self._epoll.fileno()

    def read_events(self) -> list[AddressesBound]:
        """What is bound, if that changed since the last call: one event, or none."""
        return [] if self._binds is None else self._binds.read_events()

    def repair(self) -> None:
        """To be called about once a second: sets again what somebody took back."""
        self._nonlocal_bind.repair()

    def counters(self) -> dict[str, int]:
        """Binds and releases seen, and binds for which there was no room, by name."""
        return {} if self._binds is None else self._binds.counters()

    def close(self) -> None:
        """Stops reading; programs and settings stay. Idempotent."""
        self._let_go()
        self._epoll.close()

    def destroy(self) -> None:
        """Takes programs out of the kernel, and puts settings back; idempotent."""
        self.close()
        destroy(self._settings)
        self._nonlocal_bind.restore()

    def _let_go(self) -> None:
        if self._binds is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(self._binds.fileno())
            self._binds.close()
            self._binds = None
