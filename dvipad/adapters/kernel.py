"""Carries effects out in the kernel: data plane, addresses, announcements, sockets.

Everything here runs in one thread. Adapters do not remember, they compare: `repair` brings what
the kernel lists back to what was wanted, whoever changed it.
"""

from __future__ import annotations

import errno
import logging
import select
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from dvipad.adapters.addresses import Addresses
from dvipad.adapters.announce import Announcer
from dvipad.adapters.bind_events import BindSettings
from dvipad.adapters.bpf import layout, loader
from dvipad.adapters.bpf.crt import CrtRow, Wanted
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.mtu import TunnelMtu
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.ranges import RangeWatcher
from dvipad.adapters.socket_events import EventsLost, SocketSettings, Watcher
from dvipad.adapters.sockets import open_watcher
from dvipad.address import Address
from dvipad.core.effects import (
    Announce,
    CountConnections,
    DumpCrt,
    DumpSockets,
    EndConnections,
    InsertConnections,
    PlaceAddress,
    PurgeTarget,
    RemoveAddress,
    RemoveDvipa,
    RemoveService,
    RetainConnections,
    Role,
    SetDvipa,
    SetMembers,
    SetService,
    WatchDvipas,
    WatchRanges,
)
from dvipad.core.inputs import (
    AddressesBound,
    Adopted,
    AdoptedService,
    ConnectionsCounted,
    CrtDumped,
    EventsMissed,
    Input,
    SocketsDumped,
)

KernelEffect: TypeAlias = (
    SetDvipa
    | RemoveDvipa
    | PlaceAddress
    | RemoveAddress
    | Announce
    | SetService
    | RemoveService
    | SetMembers
    | WatchDvipas
    | WatchRanges
    | CountConnections
    | InsertConnections
    | EndConnections
    | RetainConnections
    | PurgeTarget
    | DumpSockets
    | DumpCrt
)

_ROLES: Final = {
    Role.OWNER: layout.Role.OWNER,
    Role.HIDDEN: layout.Role.HIDDEN,
    Role.MOVING: layout.Role.MOVING,
}
_NS_PER_MS: Final = 1_000_000

UNCLEAR_MAX: Final = 4096
"""Batches of ended connections that are looked at once more; further ones stay in the CRT until
the target's next snapshot."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """`polling`: this kernel reports no socket events, so sockets are listed at intervals.
    `run`: a folder that is empty after a restart of the host."""

    plane: PlaneSettings
    sockets: SocketSettings
    binds: BindSettings
    run: Path
    polling: bool = False


class Kernel:
    """The kernel side of one node. Raises ``OSError`` when the kernel refuses something."""

    def __init__(self, settings: KernelSettings) -> None:
        with ExitStack() as stack:
            self._addresses = Addresses(settings.plane.uplinks[0])
            stack.callback(self._addresses.close)
            self.plane = self._open_plane(settings.plane)
            stack.callback(self.plane.close)
            self._no_xdp = ""
            self._attach_xdp()
            self._announcer = Announcer(settings.plane.uplinks)
            stack.callback(self._announcer.close)
            self.sockets: Watcher = open_watcher(settings.sockets, settings.polling)
            stack.callback(self.sockets.close)
            self.ranges = RangeWatcher(settings.binds, settings.run)
            stack.callback(self.ranges.close)
            self._events = select.epoll()
            stack.callback(self._events.close)
            for watcher in (self.sockets, self.ranges):
                self._events.register(watcher.fileno(), select.EPOLLIN)
            self._stack = stack.pop_all()
        self._placed: dict[Address, bool] = {}
        self._unclear: list[tuple[Address, bytes]] = []
        self.tunnels: dict[Address, TunnelMtu] = {}
        """What fits the tunnel to each member, as `repair` found last."""

    def _open_plane(self, settings: PlaneSettings) -> DataPlane:
        """After an upgrade the maps of the former version may not fit. A node that owns nothing
        does without what is in them: connections that end here are in its sockets."""
        try:
            return DataPlane.open(settings)
        except loader.OtherMaps as error:
            left = self._addresses.listed()
            if any(left.values()):
                raise
            log.warning("%s; this node owns no DVIPA, so they are put aside", error)
        loader.discard(settings.pin_dir)
        plane = DataPlane.open(settings)
        for dvipa in left:
            plane.set_dvipa(dvipa, layout.Role.HIDDEN, 0)
        return plane

    def close(self) -> None:
        """Leave: programs, maps and addresses stay in the kernel and go on."""
        self._stack.close()

    def destroy(self) -> None:
        """Leave nothing behind."""
        self.ranges.destroy()
        self.sockets.destroy()
        for dvipa in self._addresses.listed():
            self._addresses.remove(dvipa)
        self.plane.destroy()
        self.close()

    def ending(self, dvipas: Iterable[Address]) -> Counter[tuple[Address, int]]:
        """Connections of these DVIPAs that end here, by DVIPA and port."""
        ending: Counter[tuple[Address, int]] = Counter()
        for dvipa in dvipas:
            keys = b"".join(self.sockets.connections(dvipa))
            ending.update((dvipa, key[3]) for key in layout.CONNECTION.iter_unpack(keys))
        return ending

    # -- start --------------------------------------------------------------------------------

    def adopted(self) -> tuple[Adopted, ...]:
        """What a former daemon left: its DVIPAs; addresses that no rule covers are removed."""
        found = self.plane.adopted()
        services: dict[Address, list[AdoptedService]] = {}
        for row in sorted(self.plane.services(), key=lambda row: row.port):
            services.setdefault(row.dvipa, []).append(AdoptedService(row.port, row.ring))
        known = {row.dvipa for row in found}
        for dvipa, owned in self._addresses.listed().items():
            if dvipa in known:
                self._placed[dvipa] = owned
            else:
                self._addresses.remove(dvipa)
        return tuple(
            Adopted(
                row.dvipa,
                row.role is layout.Role.OWNER and self._placed.get(row.dvipa, False),
                row.epoch,
                row.collecting,
                tuple(services.get(row.dvipa, ())),
            )
            for row in found
        )

    # -- effects ------------------------------------------------------------------------------

    def carry_out(self, effect: KernelEffect) -> Input | None:
        """Carry `effect` out; returns the answer of those that ask for one."""
        match effect:
            case SetDvipa():
                self._set_dvipa(effect)
            case RemoveDvipa():
                self._forget(effect.dvipa)
            case PlaceAddress():
                self._addresses.place(effect.dvipa, effect.owned)
                self._placed[effect.dvipa] = effect.owned
            case RemoveAddress():
                self._placed.pop(effect.dvipa, None)
                self._addresses.remove(effect.dvipa)
            case Announce():
                self.announce(effect.dvipa)
            case SetService():
                turns = (effect.ring, effect.offload, effect.policies, effect.balanced)
                self.plane.set_service(effect.dvipa, effect.port, *turns)
            case RemoveService():
                self.plane.remove_service(effect.dvipa, effect.port)
            case SetMembers():
                self.plane.set_members(effect.members)
                self._check_tunnels()
            case WatchDvipas():
                self.sockets.watch(effect.dvipas)
            case WatchRanges():
                self.ranges.watch(effect.ranges)
                return None if effect.ranges else AddressesBound(())
            case DumpSockets():
                established, embryonic = self.sockets.connections(effect.dvipa)
                return SocketsDumped(effect.effect_id, established, embryonic)
            case CountConnections():
                ending = b"".join(self.sockets.connections(effect.dvipa))
                count = self.plane.count_connections(effect.dvipa, ending)
                return ConnectionsCounted(effect.effect_id, count)
            case DumpCrt():
                return self._dump_crt(effect)
            case _:
                self._connections(effect)
        return None

    def _connections(
        self, effect: InsertConnections | EndConnections | RetainConnections | PurgeTarget
    ) -> None:
        match effect:
            case InsertConnections():
                heard = effect.embryonic if effect.hearsay else b""
                said = b"" if effect.hearsay else effect.embryonic
                self.plane.insert_connections(effect.target, effect.established, said)
                if heard:
                    self.plane.insert_hearsay(effect.target, self._elsewhere(heard))
            case EndConnections():
                unclear = self.plane.end_connections(effect.target, effect.keys)
                if unclear and len(self._unclear) < UNCLEAR_MAX:
                    self._unclear.append((effect.target, unclear))
            case RetainConnections():
                before_ns = max(0, effect.before_ms) * _NS_PER_MS
                self.plane.retain_connections(effect.dvipa, effect.target, effect.keys, before_ns)
            case PurgeTarget():
                self.plane.purge_target(effect.target)
            case _:
                assert_never(effect)

    def _elsewhere(self, keys: bytes) -> bytes:
        """Those of `keys` that have no socket on this host."""
        named = set(layout.split_keys(keys))
        for dvipa in {layout.dvipa_of(key) for key in named}:
            for known in self.sockets.connections(dvipa):
                named.difference_update(layout.split_keys(known))
        return b"".join(sorted(named))

    def _set_dvipa(self, effect: SetDvipa) -> None:
        self.plane.set_dvipa(
            effect.dvipa,
            _ROLES[effect.role],
            effect.epoch,
            collecting=effect.collecting,
            quiet=effect.quiet,
            successor=effect.successor,
        )
        if effect.role is Role.MOVING:
            self.plane.await_worker()

    def _forget(self, dvipa: Address) -> None:
        for row in self.plane.services():
            if row.dvipa == dvipa:
                self.plane.remove_service(dvipa, row.port)
        self.plane.remove_dvipa(dvipa)
        self.plane.purge_dvipa(dvipa)

    def _dump_crt(self, effect: DumpCrt) -> CrtDumped:
        entries = self.plane.connections(effect.dvipa)
        return CrtDumped(
            effect.effect_id,
            tuple((target, old, new) for target, (old, new) in entries.items()),
        )

    def announce(self, dvipa: Address) -> None:
        """Tell the network, if the address is still owned here."""
        if self._placed.get(dvipa, False):
            self._announcer.announce([dvipa])

    # -- events and repair --------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when :meth:`read_events` has something to do."""
        return self._events.fileno()

    def read_events(self) -> list[Input]:
        """What happened to sockets since the last call."""
        return [
            *self.ranges.read_events(),
            *(
                EventsMissed(event.dvipas) if isinstance(event, EventsLost) else event
                for event in self.sockets.read_events()
            ),
        ]

    def repair(self) -> list[Address]:
        """To be called about once a second: puts back addresses that somebody removed, and
        returns them; does the same for programs; follows routes; ends connections that were too
        young to tell."""
        self.plane.refresh_routes()
        with suppress(BpfError):  # an uplink is away; it is tried again
            self.plane.attach()
        self._attach_xdp()
        self._check_tunnels()
        unclear, self._unclear = self._unclear, []
        for target, keys in unclear:
            self.plane.end_connections(target, keys)
        listed = self._addresses.listed()
        missing = [dvipa for dvipa, owned in self._placed.items() if listed.get(dvipa) is not owned]
        for dvipa in missing:
            self._addresses.place(dvipa, self._placed[dvipa])
            self.announce(dvipa)
        self.ranges.repair()
        return missing

    def _attach_xdp(self) -> None:
        """Without it packets take the way through TC; said once for each cause."""
        try:
            self.plane.attach_xdp()
            self._no_xdp = ""
        except BpfError as error:
            if str(error) != self._no_xdp:
                self._no_xdp = str(error)
                log.error("%s", error)

    def _check_tunnels(self) -> None:
        """Say what fits each tunnel: before it takes traffic, and when that changes."""
        found = self.plane.tunnel_mtus()
        for mtu in set(found.values()):
            new = [xcf for xcf in found if found[xcf] == mtu != self.tunnels.get(xcf)]
            if new:
                level = logging.WARNING if mtu.narrow() else logging.INFO
                names = ", ".join(map(str, sorted(new)))
                log.log(level, "tunnel to %s %s", names, mtu.text(self.plane.uplink_mtu))
        self.tunnels = found

    def crt(self, wanted: Wanted) -> list[CrtRow]:
        """The CRT, from the map that holds it."""
        return self.plane.crt(wanted)


def describe(error: OSError) -> str:
    """One line for the log and for `EffectFailed`."""
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{name}: {error}" if name else str(error)
