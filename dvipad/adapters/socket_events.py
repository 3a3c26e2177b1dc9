"""What both ways of watching sockets share: what they report, and when they look again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from dvipad.adapters.inet_diag import ListenerKey
from dvipad.address import Address, unpack
from dvipad.core.inputs import (
    ConnectionsEnded,
    ConnectionsOriginated,
    Listener,
    ListenersChanged,
)

KEY_BYTES: Final = 36
LINGERING_MAX: Final = 65_536
"""Connections whose end waits to be reported; beyond it the oldest are reported early."""
LISTENER_DELAYS_MS: Final = (0, 1, 10, 100, 1000)
"""A socket says that it listens shortly before the kernel lists it, so look more than once."""
ORIGIN_DELAYS_MS: Final = (0, 1, 10, 100)
"""The same for a connection that gets its port after it says that it opens."""
REST_FACTOR: Final = 4
"""After a listing, rest at least this many times as long as it took."""


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How to watch the sockets of the network namespace of the calling thread.

    `pin_dir`: a folder of this node on a bpffs. `object_path`: the compiled sockets.bpf.c.
    `connections_max`: entries of the table of connections. `linger_ms`: how long the end of a
    connection whose last FIN may be repeated is held back, so that its CRT entry still serves.
    `poll_ms`: how often to look where the kernel reports nothing by itself.
    """

    pin_dir: Path
    object_path: Path
    connections_max: int = 262_144
    linger_ms: int = 1000
    poll_ms: int = 50


@dataclass(frozen=True, slots=True)
class EventsLost:
    """More happened than was read in time; ends of connections of `dvipas` may be missing.

    The table of connections is right again: what :meth:`Watcher.connections` says now replaces
    all that was reported before. Listeners are reported anew, if they changed.
    """

    dvipas: frozenset[Address]


Service: TypeAlias = tuple[Address, int]
"""A DVIPA, and a port of it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Connections to a port of a DVIPA that were established here, so far, those that `ended`, and
    what these sent: see ``tcp_info.Flow``. Of those that ended some began before the count."""

    established: int
    ended: int
    segments: int
    retransmits: int
    timeouts: int


SocketEvent: TypeAlias = ListenersChanged | ConnectionsOriginated | ConnectionsEnded | EventsLost


class Watcher(Protocol):
    """Listeners and connections of this node. Made and used in one thread."""

    def watch(self, dvipas: frozenset[Address]) -> None:
        """These DVIPAs are of interest from now on, and no others."""

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""

    def read_events(self) -> list[SocketEvent]:
        """What happened since the last call. The first call always reports the listeners."""

    def listeners(self) -> dict[ListenerKey, int]:
        """Listeners on watched DVIPAs and wildcard addresses, from the kernel, now."""

    def connections(self, dvipa: Address) -> tuple[bytes, bytes]:
        """CRT keys of the DVIPA's connections that end here: established, embryonic."""

    def tallies(self) -> dict[Service, Tally] | None:
        """What was counted since the program was loaded; None: nothing is."""

    def counters(self) -> dict[str, int]:
        """What was lost, by name."""

    def close(self) -> None:
        """Stops reading; a program in the kernel goes on. Idempotent."""

    def destroy(self) -> None:
        """Stops reading, and takes everything out of the kernel. Before the data plane does the
        same, whose folder of pins goes only when it is empty."""


class Schedule:
    """When to look: several times after each trigger, never more often than looking allows.

    Pure; times in ns.
    """

    def __init__(self, delays_ms: tuple[int, ...]) -> None:
        self._delays_ns = tuple(delay * 1_000_000 for delay in delays_ms)
        self._due: list[int] = []
        self._rest_until_ns = 0

    def trigger(self, now_ns: int) -> None:
        """Something happened: look now, and again after each delay."""
        self._due = [now_ns + delay for delay in self._delays_ns]

    def deadline_ns(self) -> int | None:
        """When to look next."""
        return max(self._due[0], self._rest_until_ns) if self._due else None

    def take(self, now_ns: int) -> bool:
        """Whether it is time to look; all times that have passed count as one."""
        deadline = self.deadline_ns()
        if deadline is None or deadline > now_ns:
            return False
        self._due = [due for due in self._due if due > now_ns]
        return True

    def looked(self, began_ns: int, ended_ns: int) -> None:
        """How long looking took."""
        self._rest_until_ns = ended_ns + (ended_ns - began_ns) * REST_FACTOR


class Lingering:
    """Ended connections that are not reported yet. Pure; times in ns."""

    def __init__(self, linger_ms: int) -> None:
        self._linger_ns = linger_ms * 1_000_000
        self._waiting: deque[tuple[int, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: bytes, now_ns: int) -> None:
        """The connection `key` ended."""
        self._waiting.append((now_ns + self._linger_ns, key))

    def take(self, now_ns: int, lives: Callable[[bytes], bool]) -> list[bytes]:
        """Those to report now; one that was opened anew in the meantime (`lives`) is not."""
        taken = []
        while self._waiting and (
            self._waiting[0][0] <= now_ns or len(self._waiting) > LINGERING_MAX
        ):
            _due, key = self._waiting.popleft()
            if not lives(key):
                taken.append(key)
        return taken


def listeners_changed(listeners: Mapping[ListenerKey, int]) -> ListenersChanged:
    """The input for the core; in a total order, so that equal listeners make equal inputs.

    An address of None serves both families; ``0.0.0.0`` and ``::`` one family alone.
    """
    rows = sorted(listeners.items(), key=lambda row: (str(row[0][0]), row[0][1]))
    return ListenersChanged(tuple(Listener(key[0], key[1], ready) for key, ready in rows))


def relevant(
    listeners: Mapping[ListenerKey, int], dvipas: frozenset[Address]
) -> dict[ListenerKey, int]:
    """Those listeners that could serve a DVIPA."""
    return {
        key: ready
        for key, ready in listeners.items()
        if key[0] is None or key[0].is_unspecified or key[0] in dvipas
    }


def by_dvipa(keys: Iterable[bytes]) -> dict[Address, bytes]:
    """CRT keys, in their order, joined for each DVIPA."""
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        found.setdefault(key[16:32], []).append(key)
    return {unpack(packed): b"".join(some) for packed, some in found.items()}
