"""Watches this node's listeners and connections through the kernel's own events (D3, D7).

The program in ``bpf/sockets.bpf.c`` keeps a pinned table of the connections of watched DVIPAs
and goes on while no daemon runs; a restarted daemon adopts the table and replaces the program.
inet_diag fills the table when a DVIPA is added, counts listeners, and finds embryonic connections.
"""

from __future__ import annotations

import contextlib
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.libbpf import BpfObject, RingBuffer
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.pins import drop_other_shape, pin_instead, unpin
from dvipad.adapters.inet_diag import CONNECTED, InetDiag, ListenerKey, State, dvipa_of
from dvipad.adapters.socket_events import (
    KEY_BYTES,
    LISTENER_DELAYS_MS,
    ORIGIN_DELAYS_MS,
    EventsLost,
    Lingering,
    Schedule,
    Service,
    SocketEvent,
    SocketSettings,
    Tally,
    Watcher,
    by_dvipa,
    listeners_changed,
    relevant,
)
from dvipad.adapters.sockets_poll import PollingWatcher
from dvipad.adapters.timer import Timer
from dvipad.address import Address, pack, unpack
from dvipad.core.inputs import ConnectionsEnded, ConnectionsOriginated

ENDS_NS: Final = 100_000_000
"""Ends of connections are fetched so often; they alone do not wake the daemon."""
CALM_MAX: Final = 4
"""Each time in a row that nothing was there the next look may wait an `ENDS_NS` longer, so many
times: a host on which nothing happens sleeps."""
PROGRAM: Final = "socket_state"
NEEDS: Final = "BPF with BTF, and tp_btf programs (Linux 5.5, CONFIG_DEBUG_INFO_BTF)"

_EVENT: Final = struct.Struct(f"=I{KEY_BYTES}s")
_LISTENERS, _ORIGINATED, _ORIGINATING, _ENDED, _LINGERS = range(1, 6)
_VALUE: Final = struct.Struct("=QI4x")
_LISTED, _ORIGINATED = 1, 2
_COUNT: Final = struct.Struct("=Q")
_WATCHED: Final = struct.pack("=I", 1)
_PINNED: Final = ("watched", "connections", "events", "losses")
_TALLIES: Final = "tallies"
_TALLY: Final = struct.Struct("=5Q")
_LINK: Final = "link"
_NAMESPACE: Final = Path("/proc/thread-self/ns/net")


def open_watcher(settings: SocketSettings, polling: bool) -> Watcher:
    """The watcher that this kernel can have; `polling`: it has no tp_btf programs."""
    return PollingWatcher(settings) if polling else SocketWatcher(settings)


class SocketWatcher:
    """The :class:`Watcher` by tracepoint. Raises ``BpfError`` when the kernel refuses it."""

    def __init__(self, settings: SocketSettings) -> None:
        self._settings = settings
        self._lingering = Lingering(settings.linger_ms)
        self._listener_schedule = Schedule(LISTENER_DELAYS_MS)
        self._origin_schedule = Schedule(ORIGIN_DELAYS_MS)
        self._reported: dict[ListenerKey, int] | None = None
        self._dvipas: frozenset[Address] = frozenset()
        self._originating: set[Address] = set()
        self._read: list[bytes] = []
        self._looked_ns = time.monotonic_ns()
        self._calm = 0
        with contextlib.ExitStack() as stack:
            self._maps = _load(settings)
            for each in self._maps.values():
                stack.callback(each.close)
            self._diag = InetDiag()
            stack.callback(self._diag.close)
            self._timer = Timer()
            stack.callback(self._timer.close)
            self._ring = RingBuffer(self._maps["events"].fd, self._read.append)
            stack.callback(self._ring.close)
            self._epoll = select.epoll()
            stack.callback(self._epoll.close)
            self._epoll.register(self._ring.fileno(), select.EPOLLIN)
            self._epoll.register(self._timer.fileno(), select.EPOLLIN)
            self._losses = self._loss_counts()
            self._adopted = frozenset(unpack(key) for key, _ in self._maps["watched"].items())
            self._listener_schedule.trigger(time.monotonic_ns())
            self._set_timer()
            self._resources = stack.pop_all()

    @classmethod
    def open(cls, settings: SocketSettings) -> SocketWatcher:
        """Loads the program, or adopts the tables of a former one and replaces it."""
        return cls(settings)

    def close(self) -> None:
        """Stops reading; program and tables go on."""
        self._resources.close()

    def destroy(self) -> None:
        """See :meth:`Watcher.destroy`."""
        self.close()
        destroy(self._settings)

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""
        return self._epoll.fileno()

    def watch(self, dvipas: frozenset[Address]) -> None:
        """See :meth:`Watcher.watch`. A DVIPA that is new is filled from inet_diag."""
        gone, new = (self._adopted | self._dvipas) - dvipas, dvipas - self._dvipas
        for dvipa in gone:
            self._maps["watched"].delete(pack(dvipa))
        if gone:
            self._maps["connections"].delete_batch(b"".join(key for key, _ in self._rows(gone)))
        for dvipa in new:
            self._maps["watched"].update(pack(dvipa), _WATCHED)
        if new:
            self._fill(new)
        if dvipas != self._dvipas:
            self._listener_schedule.trigger(time.monotonic_ns())
        self._adopted, self._dvipas = frozenset(), dvipas
        self._set_timer()

    def listeners(self) -> dict[ListenerKey, int]:
        """See :meth:`Watcher.listeners`."""
        return relevant(self._diag.listeners(), self._dvipas)

    def connections(self, dvipa: Address) -> tuple[bytes, bytes]:
        """See :meth:`Watcher.connections`."""
        embryonic = self._diag.connections(dvipa, frozenset({State.SYN_RECV}))
        return b"".join(self._table(dvipa)), b"".join(embryonic)

    def counters(self) -> dict[str, int]:
        """Events that found no room, and connections that the table had no room for."""
        events, connections = self._loss_counts()
        return {"lost_events": events, "lost_connections": connections}

    def tallies(self) -> dict[Service, Tally]:
        """See :meth:`Watcher.tallies`."""
        return {
            (unpack(key[:16]), int.from_bytes(key[16:18], "big")): Tally(*_TALLY.unpack(value))
            for key, value in self._maps[_TALLIES].items()
        }

    def read_events(self) -> list[SocketEvent]:
        """See :meth:`Watcher.read_events`."""
        self._ring.consume()
        read = self._read[:]
        self._read.clear()
        self._calm = 0 if read or len(self._lingering) else min(self._calm + 1, CALM_MAX)
        now_ns = self._looked_ns = time.monotonic_ns()
        events = self._sort(read, now_ns)
        events += self._resync_if_lost()
        if self._origin_schedule.take(now_ns):
            events += self._find_originating()
        events += self._report_lingering(now_ns)
        if self._listener_schedule.take(now_ns):
            events += self._count_listeners()
        self._set_timer()
        return events

    def _sort(self, read: list[bytes], now_ns: int) -> list[SocketEvent]:
        originated, ended = [], []
        for data in read:
            kind, key = _EVENT.unpack(data)
            if kind == _LISTENERS:
                self._listener_schedule.trigger(now_ns)
            elif kind == _ORIGINATED:
                originated.append(key)
            elif kind == _ORIGINATING:
                self._originating.add(unpack(key[16:32]))
                self._origin_schedule.trigger(now_ns)
            elif kind == _ENDED:
                ended.append(key)
            elif kind == _LINGERS:
                self._lingering.add(key, now_ns)
            else:
                raise ValueError(f"sockets.bpf.c reported an event of kind {kind}")
        events: list[SocketEvent] = [
            ConnectionsOriginated(dvipa, keys) for dvipa, keys in by_dvipa(originated).items()
        ]
        gone = [key for key in ended if not self._lives(key)]
        return events + [ConnectionsEnded(dvipa, keys) for dvipa, keys in by_dvipa(gone).items()]

    def _report_lingering(self, now_ns: int) -> list[SocketEvent]:
        ended = self._lingering.take(now_ns, self._lives)
        return [ConnectionsEnded(dvipa, keys) for dvipa, keys in by_dvipa(ended).items()]

    def _lives(self, key: bytes) -> bool:
        """Whether a connection with this key exists now: the same one ended before."""
        return self._maps["connections"].lookup(key) is not None

    def _find_originating(self) -> list[SocketEvent]:
        """Connections that got their port after they said that they open."""
        began_ns = time.monotonic_ns()
        found = []
        for dvipa in sorted(self._originating & self._dvipas, key=pack):
            known = set(self._table(dvipa))
            opening = self._diag.connections(dvipa, frozenset({State.SYN_SENT}))
            found += [key for key in opening if key not in known]
        self._insert(found, _LISTED | _ORIGINATED)
        self._origin_schedule.looked(began_ns, time.monotonic_ns())
        if self._origin_schedule.deadline_ns() is None:
            self._originating.clear()
        return [ConnectionsOriginated(dvipa, keys) for dvipa, keys in by_dvipa(found).items()]

    def _count_listeners(self) -> list[SocketEvent]:
        began_ns = time.monotonic_ns()
        found = self.listeners()
        self._listener_schedule.looked(began_ns, time.monotonic_ns())
        if found == self._reported:
            return []
        self._reported = found
        return [listeners_changed(found)]

    def _resync_if_lost(self) -> list[SocketEvent]:
        losses = self._loss_counts()
        if losses == self._losses:
            return []
        self._losses = losses
        self._fill(self._dvipas)
        self._listener_schedule.trigger(time.monotonic_ns())
        return [EventsLost(self._dvipas)]

    def _fill(self, dvipas: frozenset[Address]) -> None:
        """Brings the table in line with the sockets that exist.

        A socket may close between the listing and the insert, when the program has nothing to
        delete yet. So what was inserted is compared with a second listing.
        """
        known = {key for key, _ in self._rows(dvipas)}
        found = self._diag.connections_of(dvipas, CONNECTED)
        self._insert([key for key in found if key not in known], _LISTED)
        listed = [key for key, flags in self._rows(dvipas) if flags & _LISTED]
        if listed:
            living = set(self._diag.connections_of(dvipas, CONNECTED))
            gone = [key for key in listed if key not in living]
            self._maps["connections"].delete_batch(b"".join(gone))

    def _insert(self, keys: list[bytes], flags: int) -> None:
        room = self._maps["connections"].info.max_entries
        value = _VALUE.pack(time.monotonic_ns(), flags)
        some = keys[:room]
        self._maps["connections"].update_batch(b"".join(some), value * len(some))

    def _table(self, dvipa: Address) -> Iterator[bytes]:
        wanted = pack(dvipa)
        for keys, _values in self._maps["connections"].batches():
            yield from [
                keys[start : start + KEY_BYTES]
                for start in range(0, len(keys), KEY_BYTES)
                if keys[start + 16 : start + 32] == wanted
            ]

    def _rows(self, dvipas: frozenset[Address]) -> Iterator[tuple[bytes, int]]:
        wanted = {pack(dvipa) for dvipa in dvipas}
        for key, value in self._maps["connections"].items():
            if dvipa_of(key) in wanted:
                yield key, _VALUE.unpack(value)[1]

    def _loss_counts(self) -> tuple[int, int]:
        events, connections = (value for _index, value in sorted(self._maps["losses"].items()))
        return _COUNT.unpack(events)[0], _COUNT.unpack(connections)[0]

    def _set_timer(self) -> None:
        deadlines = (
            self._listener_schedule.deadline_ns(),
            self._origin_schedule.deadline_ns(),
            self._looked_ns + ENDS_NS * (1 + self._calm) if self._dvipas else None,
        )
        self._timer.set(min((each for each in deadlines if each is not None), default=None))


def _load(settings: SocketSettings) -> dict[str, Map]:
    """Loads the program with the pinned maps, or with new ones, and attaches it."""
    settings.pin_dir.mkdir(parents=True, exist_ok=True)
    compiled = BpfObject(settings.object_path)
    try:
        for definition in compiled.maps():
            if definition.name == "connections":
                definition.set_max_entries(settings.connections_max)
            if definition.name in _PINNED:
                path = settings.pin_dir / definition.name
                drop_other_shape(path, definition.shape)
                definition.set_pin_path(path)
            elif definition.name.endswith(".rodata"):
                definition.write_initial(struct.pack("=I", _NAMESPACE.stat().st_ino))
        compiled.load(NEEDS)
        link = compiled.program(PROGRAM).attach()
        pin_instead(link, settings.pin_dir / _LINK)
        return {name: Map(compiled.map_fd(name)) for name in (*_PINNED, _TALLIES)}
    finally:
        compiled.close()


def destroy(settings: SocketSettings) -> None:
    """Takes program and tables out of the kernel. Idempotent."""
    unpin(settings.pin_dir, (_LINK,), _PINNED)
