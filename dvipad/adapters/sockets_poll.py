"""Watches listeners and connections by listing the sockets again and again.

For kernels without tp_btf programs. It sees less: a connection that comes and goes between two
listings is never reported, and one that an application opens is reported late.
"""

from __future__ import annotations

import contextlib
import time

from dvipad.adapters.inet_diag import CONNECTED, InetDiag, ListenerKey, State
from dvipad.adapters.socket_events import (
    Lingering,
    SocketEvent,
    SocketSettings,
    by_dvipa,
    listeners_changed,
    relevant,
)
from dvipad.adapters.timer import Timer
from dvipad.address import Address
from dvipad.core.inputs import ConnectionsEnded, ConnectionsOriginated

_OPENING = frozenset({State.SYN_SENT})


class PollingWatcher:
    """The :class:`~dvipad.adapters.socket_events.Watcher` that needs only inet_diag."""

    def __init__(self, settings: SocketSettings) -> None:
        self._poll_ns = settings.poll_ms * 1_000_000
        self._lingering = Lingering(settings.linger_ms)
        self._reported: dict[ListenerKey, int] | None = None
        self._living: dict[Address, frozenset[bytes]] = {}
        self._opening: frozenset[bytes] = frozenset()
        with contextlib.ExitStack() as stack:
            self._diag = InetDiag()
            stack.callback(self._diag.close)
            self._timer = Timer()
            stack.callback(self._timer.close)
            self._next_ns = time.monotonic_ns()
            self._timer.set(self._next_ns)
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

    def watch(self, dvipas: frozenset[Address]) -> None:
        """See ``Watcher.watch``."""
        self._living = {
            dvipa: self._living[dvipa] if dvipa in self._living else self._list(dvipa)
            for dvipa in sorted(dvipas, key=str)
        }

    def listeners(self) -> dict[ListenerKey, int]:
        """See ``Watcher.listeners``."""
        return relevant(self._diag.listeners(), frozenset(self._living))

    def connections(self, dvipa: Address) -> tuple[bytes, bytes]:
        """See ``Watcher.connections``."""
        embryonic = self._diag.connections(dvipa, frozenset({State.SYN_RECV}))
        return b"".join(sorted(self._list(dvipa))), b"".join(embryonic)

    def counters(self) -> dict[str, int]:
        """Nothing is lost that could be counted."""
        return {"lost_events": 0, "lost_connections": 0}

    def tallies(self) -> None:
        """Nobody counts."""

    def read_events(self) -> list[SocketEvent]:
        """See ``Watcher.read_events``."""
        now_ns = time.monotonic_ns()
        events: list[SocketEvent] = []
        if now_ns >= self._next_ns:
            events += self._look(now_ns)
            self._next_ns = time.monotonic_ns() + self._poll_ns
        self._timer.set(self._next_ns)
        return events

    def _look(self, now_ns: int) -> list[SocketEvent]:
        events: list[SocketEvent] = []
        opening: list[bytes] = []
        for dvipa, before in self._living.items():
            opening += self._diag.connections(dvipa, _OPENING)
            self._living[dvipa] = self._list(dvipa)
            for key in sorted(before - self._living[dvipa]):
                self._lingering.add(key, now_ns)
        new = [key for key in opening if key not in self._opening]
        self._opening = frozenset(opening)
        events += [ConnectionsOriginated(dvipa, keys) for dvipa, keys in by_dvipa(new).items()]
        ended = self._lingering.take(now_ns, self._lives)
        events += [ConnectionsEnded(dvipa, keys) for dvipa, keys in by_dvipa(ended).items()]
        found = self.listeners()
        if found != self._reported:
            self._reported = found
            events.append(listeners_changed(found))
        return events

    def _list(self, dvipa: Address) -> frozenset[bytes]:
        return frozenset(self._diag.connections(dvipa, CONNECTED))

    def _lives(self, key: bytes) -> bool:
        return any(key in living for living in self._living.values())
