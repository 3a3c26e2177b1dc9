"""Watches which addresses of this node's VIPARANGEs applications bind (D10).

The programs in ``bpf/binds.bpf.c`` keep a pinned table of bound sockets and go on while no daemon
runs; a restarted daemon adopts the table and replaces the programs. inet_diag finds sockets that
were bound before a range was watched.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import time
from typing import Final

from dvipad.adapters.bind_events import (
    BindSettings,
    BindWatcher,
    Ranges,
    Reports,
    Subnets,
)
from dvipad.adapters.binds_poll import PollingBindWatcher
from dvipad.adapters.bpf.cgroup import root_cgroup
from dvipad.adapters.bpf.libbpf import BpfError, BpfObject, RingBuffer
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.pins import drop_other_shape, pin_instead, unpin
from dvipad.adapters.inet_diag import InetDiag
from dvipad.adapters.socket_events import Schedule
from dvipad.adapters.timer import Timer
from dvipad.core.inputs import AddressesBound

LISTEN_MS: Final = 5
"""An application has so long from `bind` to `listen`: the address comes with the report, and
clients of a node that had it until then must find somebody who listens."""
NEEDS: Final = "cgroup programs (CONFIG_CGROUP_BPF), and network namespaces with cookies"

_SO_NETNS_COOKIE: Final = 71
_NS_PER_MS: Final = 1_000_000
_NUMBER: Final = struct.Struct("=Q")
_SUBNET: Final = struct.Struct("=I16s")
_BOUND: Final = struct.Struct("=16sQ")
_WATCHED: Final = struct.pack("=I", 1)
_PINNED: Final = ("ranges", "bound", "bind_counts")
_PROGRAMS: Final = ("bound4", "bound6", "binding4", "binding6", "released")
_COUNTERS: Final = ("binds", "releases", "lost_binds")

log = logging.getLogger(__name__)


def open_bind_watcher(settings: BindSettings) -> BindWatcher:
    """The watcher that this kernel can have; with a warning if that is the polling one."""
    try:
        return ProgramBindWatcher(settings)
    except BpfError as error:
        log.warning(
            "the kernel does not report binds to addresses of a VIPARANGE (%s); sockets are "
            "listed every %d ms",
            error,
            settings.poll_ms,
        )
        return PollingBindWatcher(settings)


class ProgramBindWatcher:
    """The :class:`BindWatcher` by cgroup programs. Raises ``BpfError`` when they are refused."""

    def __init__(self, settings: BindSettings) -> None:
        self._settings = settings
        self._schedule = Schedule((LISTEN_MS,))
        self._reports = Reports()
        self._woken: list[bytes] = []
        with contextlib.ExitStack() as stack:
            self._maps = _load(settings)
            for each in self._maps.values():
                stack.callback(each.close)
            self._diag = InetDiag()
            stack.callback(self._diag.close)
            self._timer = Timer()
            stack.callback(self._timer.close)
            self._ring = RingBuffer(self._maps["wakes"].fd, self._woken.append)
            stack.callback(self._ring.close)
            self._epoll = select.epoll()
            stack.callback(self._epoll.close)
            self._epoll.register(self._ring.fileno(), select.EPOLLIN)
            self._epoll.register(self._timer.fileno(), select.EPOLLIN)
            self._resources = stack.pop_all()

    def close(self) -> None:
        """Stops reading; programs and table go on."""
        self._resources.close()

    def destroy(self) -> None:
        """See ``BindWatcher.destroy``."""
        self.close()
        destroy(self._settings)

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""
        return self._epoll.fileno()

    def watch(self, ranges: Ranges) -> None:
        """See ``BindWatcher.watch``."""
        subnets = Subnets(ranges)
        table = self._maps["ranges"]
        known = [key for key, _value in table.items()]
        wanted = {_SUBNET.pack(*row) for row in subnets.rows}
        for key in wanted.difference(known):
            table.update(key, _WATCHED)
        for key in set(known) - wanted:
            table.delete(key)
        gone = [cookie for cookie, (packed, _) in self._rows().items() if packed not in subnets]
        self._maps["bound"].delete_batch(b"".join(gone))
        self._fill(subnets)
        self._reports.again()
        self._schedule.trigger(time.monotonic_ns() - LISTEN_MS * _NS_PER_MS)  # nothing to wait for
        self._timer.set(self._schedule.deadline_ns())

    def read_events(self) -> list[AddressesBound]:
        """See ``BindWatcher.read_events``."""
        self._ring.consume()
        began_ns = time.monotonic_ns()
        if self._woken:
            self._woken.clear()
            if self._schedule.deadline_ns() is None:  # or many binds would put off the first one
                self._schedule.trigger(began_ns)
        events: list[AddressesBound] = []
        if self._schedule.take(began_ns):
            events = self._reports.compare(self._rows().values())
            self._schedule.looked(began_ns, time.monotonic_ns())
        self._timer.set(self._schedule.deadline_ns())
        return events

    def counters(self) -> dict[str, int]:
        """See ``BindWatcher.counters``."""
        values = (value for _index, value in sorted(self._maps["bind_counts"].items()))
        return dict(zip(_COUNTERS, (_NUMBER.unpack(each)[0] for each in values), strict=True))

    def _rows(self) -> dict[bytes, tuple[bytes, int]]:
        """Socket cookie → packed address, number of the bind."""
        return {cookie: _BOUND.unpack(value) for cookie, value in self._maps["bound"].items()}

    def _fill(self, subnets: Subnets) -> None:
        """Sockets that were bound before. One may close between the listing and the insert, when
        the program has nothing to delete yet: so what was inserted is compared with a second
        listing."""
        if not subnets.rows:
            return
        known, now_ns = self._rows(), time.monotonic_ns()
        bound = self._maps["bound"]
        listed = {
            cookie: packed
            for cookie, packed in self._diag.bound().items()
            if packed in subnets and cookie not in known
        }
        room = bound.info.max_entries - len(known)
        new = list(listed)[: max(0, room)]
        bound.update_batch(b"".join(new), b"".join(_BOUND.pack(listed[c], now_ns) for c in new))
        if new:
            living = self._diag.bound()
            bound.delete_batch(b"".join(cookie for cookie in new if cookie not in living))


def netns_cookie() -> int:
    """The number that the kernel gives the network namespace of the calling thread (5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            data = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _NUMBER.size)
        except OSError as error:
            raise BpfError(error.errno, f"cookie of the network namespace: {error}") from error
    return int(_NUMBER.unpack(data)[0])


def _load(settings: BindSettings) -> dict[str, Map]:
    """Loads the programs with the pinned tables, or with new ones, and attaches them."""
    compiled = BpfObject(settings.object_path)
    try:
        with root_cgroup() as cgroup:
            settings.pin_dir.mkdir(parents=True, exist_ok=True)
            for definition in compiled.maps():
                if definition.name in _PINNED:
                    path = settings.pin_dir / definition.name
                    drop_other_shape(path, definition.shape)
                    definition.set_pin_path(path)
                elif definition.name.endswith(".rodata"):
                    definition.write_initial(_NUMBER.pack(netns_cookie()))
            compiled.load(NEEDS)
            for name in _PROGRAMS:
                link = compiled.program(name).attach_cgroup(cgroup)
                pin_instead(link, settings.pin_dir / name)
        return {name: Map(compiled.map_fd(name)) for name in (*_PINNED, "wakes")}
    except BaseException:
        destroy(settings)  # all of them, or none
        raise
    finally:
        compiled.close()


def destroy(settings: BindSettings) -> None:
    """Takes programs and tables out of the kernel. Idempotent."""
    unpin(settings.pin_dir, _PROGRAMS, _PINNED)
