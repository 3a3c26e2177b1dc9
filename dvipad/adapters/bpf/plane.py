"""The data plane of one node: eBPF programs on its uplinks, and the maps that steer them.

Maps are pinned and are the whole state, so packets flow while no process is there, and a daemon
that starts anew adopts what it finds (:meth:`DataPlane.adopted`). Not safe for threads.
"""

from __future__ import annotations

import ctypes
import time
from contextlib import suppress
from typing import Final

from dvipad.adapters.bpf import device, loader, xdp
from dvipad.adapters.bpf.counting import Counts, Traffic, flooded
from dvipad.adapters.bpf.crt import EVERYTHING, CrtRow, CrtTable, Ender, Wanted
from dvipad.adapters.bpf.crt_map import CrtMap
from dvipad.adapters.bpf.front import FrontTable
from dvipad.adapters.bpf.layout import (
    DVIPA_COLLECTING,
    DVIPA_QUIET,
    THIS_NODE,
    Dvipa,
    Role,
    Shared,
    Tunnel,
)
from dvipad.adapters.bpf.libbpf import BpfError, BpfObject
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.members import MemberTable
from dvipad.adapters.bpf.mtu import TunnelMtu, tunnel_mtu
from dvipad.adapters.bpf.rtnetlink import open_netlink
from dvipad.adapters.bpf.service_table import ServiceRow, ServiceTable
from dvipad.adapters.bpf.settings import PlaneSettings, compile_settings
from dvipad.adapters.bpf.tables import AdoptedDvipa, TargetTable
from dvipad.adapters.bpf.tally import Tally
from dvipad.adapters.bpf.tunnel_device import TunnelDevice
from dvipad.adapters.bpf.xdp import XdpMode
from dvipad.address import Address, pack, unpack
from dvipad.core.policy_rows import PolicyRow

REOPENED_NS: Final = 500_000_000
"""A client that opens a port again within this time after a reset is not told from before."""
WORKER_S: Final = 0.02
"""So long a worker may take for the SYNs in its hands; one that takes longer is hung, or dead."""
WORKER_LOOK_S: Final = 0.0002


class DataPlane:
    """Everything that user space tells the programs, and asks of them.

    Kernel refusals raise :class:`BpfError`; what cannot be meant raises ``ValueError``.
    """

    def __init__(self, settings: PlaneSettings, loaded: BpfObject, maps: dict[str, Map]) -> None:
        self.settings = settings
        self._object = loaded
        self._maps = maps
        version = settings.xcf.version
        self._routes = device.Routes(version)
        self._targets = TargetTable(maps["targets"], settings, self._routes)
        self._members = MemberTable(maps["members"], maps["peers"], self._routes, version)
        # Then a SYN for the worker cannot be marked as a multicast (bpf/distribute.bpf.c).
        self._held = device.drops_multicast(settings.uplinks)
        self.distribution = ServiceTable(maps, self._targets, self._held)
        self.tally = Tally(maps, self.distribution, self._targets)
        ender = Ender(maps["endings"], loaded.program("dvipad_end").fd, self.tally.ended)
        established = CrtMap(maps["established4"], maps["established6"])
        embryonic = CrtMap(maps["embryonic4"], maps["embryonic6"])
        self._crt = CrtTable(established, embryonic, self._targets, ender)
        self._counts = Counts(maps["counters"], maps["traffic"])
        self._front = FrontTable(maps["front4"], settings.tunnel)
        self._memory = maps["shared"].memory()
        self._shared = Shared.from_buffer(self._memory)
        self._handed = ctypes.c_uint64.from_buffer(maps["sent"].memory())
        self._adopted = self.dvipas()
        for row in self._adopted:
            self._front.set(row.dvipa, row.role)
        self._compiled = (0, 0)
        self._device = TunnelDevice(settings, loaded)
        self._ends_here = False
        self._netlink = open_netlink()  # of the namespace of the uplinks, wherever we are called
        self.uplink_mtu = settings.mtu or 0
        """MTU of the narrowest uplink."""

    @classmethod
    def open(cls, settings: PlaneSettings) -> DataPlane:
        """Loads the data plane, or adopts a pinned one and replaces its programs without a gap.

        Raises :class:`BpfError` that names what is missing: an uplink, the compiled object, a
        kernel feature, or pinned maps that another version made.
        """
        if not settings.uplinks:
            raise ValueError("a data plane needs an uplink")
        for name in settings.uplinks:
            device.device(name)  # one that is missing is said before anything is loaded
        loaded, maps = loader.load(settings)
        try:
            plane = cls(settings, loaded, maps)
            plane._device.ensure()  # before any packet is sent through it
            plane.refresh_routes()
            plane.attach()
            plane._device.remove_others()
        except BaseException:
            for each in maps.values():
                each.close()
            loaded.close()
            raise
        return plane

    def attach(self) -> None:
        """Puts the programs on the uplinks; to be repeated: somebody may have taken them off, or
        made an uplink anew. Packets never meet an uplink without them in between."""
        devices = tuple(device.device(name) for name in self.settings.uplinks)
        self._ends_here = (
            self._held
            or any(row.role is not Role.OWNER for row in self.dvipas())
            or any(self.settings.xcf in row.targets for row in self.distribution.rows())
        )
        loader.attach(self._object, self._maps["uplinks"], devices, self._ends_here)
        self._device.ensure()
        self._fit_mss()

    def attach_xdp(self) -> None:
        """The same for XDP; where that cannot be :class:`BpfError`, and TC does all of the work."""
        settings = self.settings
        if settings.xdp is XdpMode.OFF:
            xdp.detach(settings.pin_dir)
            return
        if settings.tunnel is not Tunnel.IPIP or settings.xcf.version != 4:
            raise BpfError(xdp.IDLE)
        devices = [device.device(name) for name in settings.uplinks]
        xdp.attach(settings.pin_dir, self.program_fd(xdp.PROGRAM), devices, settings.xdp)

    def _end_here(self) -> None:
        """From now on connections may end here."""
        if not self._ends_here:
            loader.attach_egress(self._netlink, self._object, self._maps["uplinks"])
            self._ends_here = True

    def program_fd(self, name: str) -> int:
        """The descriptor of a loaded program, for test runs."""
        return self._object.program(name).fd

    # DVIPAs

    def adopted(self) -> tuple[AdoptedDvipa, ...]:
        """The DVIPAs that the maps knew when they were opened."""
        return self._adopted

    def dvipas(self) -> tuple[AdoptedDvipa, ...]:
        """The DVIPAs that the maps know."""
        found = []
        for key, value in self._maps["dvipas"].items():
            entry = Dvipa.from_buffer_copy(value)
            collecting = bool(entry.flags & DVIPA_COLLECTING)
            found.append(AdoptedDvipa(unpack(key), Role(entry.role), entry.epoch, collecting))
        return tuple(found)

    def set_dvipa(
        self,
        dvipa: Address,
        role: Role,
        epoch: int,
        collecting: bool = False,
        quiet: bool = False,
        successor: Address | None = None,
    ) -> None:
        """Sets what this node is to a DVIPA; packets are treated so from this instant on.

        `collecting`: an owner whose CRT is incomplete. `quiet`: an owner to be, that answers no
        ARP and no NDP yet. `successor`: XCF address of who has a MOVING DVIPA now.
        """
        if role is not Role.OWNER:
            self._end_here()
        index = THIS_NODE if successor is None else self._targets.index(successor)
        flags = (DVIPA_COLLECTING if collecting else 0) | (DVIPA_QUIET if quiet else 0)
        value = Dvipa(role=role, flags=flags, epoch=epoch, successor=index)
        self._maps["dvipas"].update(pack(dvipa), bytes(value))
        self._front.set(dvipa, role)
        self._fit_mss()

    def remove_dvipa(self, dvipa: Address) -> None:
        """Forgets a DVIPA; its packets are ordinary ones. Services and CRT entries stay."""
        self._maps["dvipas"].delete(pack(dvipa))
        self._front.set(dvipa, None)

    # Distribution

    def set_service(
        self,
        dvipa: Address,
        port: int,
        ring: tuple[Address, ...],
        offload: bool = False,
        policies: tuple[PolicyRow, ...] | None = (),
        balanced: bool = False,
    ) -> None:
        """Distributes a port over a ring of targets, replacing the ring atomically.

        Equal targets get connections in proportion to how often they stand in it; `balanced`: have
        them. `offload`: never ask the queue worker. The own XCF address is this node. `policies`
        None: they stay.
        """
        rings = (ring, *(row.ring for row in policies or ()))
        if any(self.settings.xcf in turns for turns in rings):
            self._end_here()
        self.distribution.set(dvipa, port, ring, offload, policies, balanced)
        self._fit_mss()

    def remove_service(self, dvipa: Address, port: int) -> None:
        """Ends the distribution of a port; its connections go on."""
        self.distribution.remove(dvipa, port)

    def services(self) -> tuple[ServiceRow, ...]:
        """All distributed ports."""
        return self.distribution.rows()

    def totals(self) -> dict[tuple[Address, int, Address], int]:
        """Connections chosen so far for (DVIPA, port, target)."""
        return self.distribution.totals()

    def set_members(self, members: frozenset[Address]) -> None:
        """Sets whose tunnel packets are accepted."""
        self._members.update(members)
        self._fit_mss()

    def refresh_routes(self) -> None:
        """To be called after links, addresses, routes or neighbours changed."""
        self._targets.refresh_routes()
        self._members.refresh_routes()
        if not self.settings.mtu:
            devices = (device.device(name) for name in self.settings.uplinks)
            with suppress(BpfError):  # an uplink is away: what it carried is as good as any
                self.uplink_mtu = min(each.mtu for each in devices)
        self._fit_mss()

    def tunnel_mtus(self) -> dict[Address, TunnelMtu]:
        """The tunnels to all targets, and from all members, to which there is a route."""
        xcf, tunnel = self.settings.xcf, self.settings.tunnel
        return {
            each: tunnel_mtu(mtu, xcf.version, tunnel)
            for each, mtu in self._route_mtus().items()
            if mtu and each != xcf
        }

    def _route_mtus(self) -> dict[Address, int]:
        return {**self._members.mtus, **self._targets.mtus}

    def _fit_mss(self) -> None:
        """What a connection of this node's offers must fit whichever tunnel it comes through."""
        mtu = min(self.uplink_mtu, *(mtu for mtu in self._route_mtus().values() if mtu), 0xFFFF)
        now = (mtu, self._device.ifindex)
        if mtu and now != self._compiled:
            value = compile_settings(self.settings, *now)
            self._maps["settings"].update(loader.ZERO, bytes(value))
            self._compiled = now

    # Connections; keys are packed `layout.CONNECTION`s

    def insert_connections(self, target: Address, established: bytes, embryonic: bytes) -> int:
        """Enters connections of a target (NEWCONN); returns for how many there was no room."""
        index = self._targets.index(target)
        self._fit_mss()
        return self._crt.insert(index, established, embryonic)

    def insert_hearsay(self, target: Address, keys: bytes) -> None:
        """Enters connections of which another node says that a target has them, as embryonic.

        What was chosen here less than `CHOSEN_NS` ago stays: the client sent its SYN again, and
        the answer that it got came from there.
        """
        index = self._targets.index(target)
        self._fit_mss()
        self._crt.insert_hearsay(index, keys)

    def end_connections(self, target: Address, keys: bytes) -> bytes:
        """Removes connections that `target` says are over (TERMCONN).

        A client may have opened the same port again by now: an entry of another target is not
        what the target speaks of, and of one that is younger than `REOPENED_NS`, and not closing,
        nobody can tell. Returns the keys of the latter: ask again later.
        """
        index = self._targets.find(target)
        if index is None:
            return b""
        return self._crt.end(index, keys, time.monotonic_ns() - REOPENED_NS)

    def purge_target(self, target: Address) -> int:
        """Removes all connections of a target that left; returns how many entries."""
        index = self._targets.find(target)
        if index is None:
            return 0
        count = self._crt.purge_target(index)
        if not self._refers_to(target, index):
            self.distribution.slots.forget_target(index)
            self._counts.forget(index)
            self.tally.forget(index)
            self._targets.free(target)
        return count

    def _refers_to(self, target: Address, index: int) -> bool:
        if any(target in row.targets for row in self.distribution.rows()):
            return True
        values = (value for _key, value in self._maps["dvipas"].items())
        return any(Dvipa.from_buffer_copy(value).successor == index for value in values)

    def purge_dvipa(self, dvipa: Address) -> int:
        """Removes all connections of a DVIPA; returns how many entries."""
        return self._crt.purge_dvipa(dvipa)

    def connections(self, dvipa: Address) -> dict[Address, tuple[bytes, bytes]]:
        """The connections of a DVIPA: target → packed (established, embryonic) keys."""
        return self._crt.connections(dvipa)

    def count_connections(self, dvipa: Address, others: bytes = b"") -> int:
        """How many connections a DVIPA has here, in the CRT and among the keys `others`."""
        return self._crt.count(dvipa, others)

    def retain_connections(
        self, dvipa: Address, target: Address, keys: bytes, before_ns: int
    ) -> int:
        """Removes connections of (DVIPA, target), older than `before_ns`, that `keys` lacks.

        After a target said which it has: what it does not have is over. Returns how many entries.
        """
        index = self._targets.find(target)
        return 0 if index is None else self._crt.retain(dvipa, index, keys, before_ns)

    def crt(self, wanted: Wanted = EVERYTHING) -> list[CrtRow]:
        """The connection routing table, or a part of it."""
        return self._crt.rows(wanted)

    # Life

    def counters(self) -> dict[str, int]:
        """Packets by verdict and reason (``bpf/dvipad.h``), since the maps were made."""
        return self._counts.by_reason()

    def traffic(self) -> dict[Address, dict[str, Traffic]]:
        """What went to each target that has an index, by way (``enum way``)."""
        targets = self._targets.indexes()
        rows = self._counts.of_targets(list(targets.values()))
        return dict(zip(targets, rows, strict=True))

    def used(self) -> dict[str, int]:
        """Entries of tables that user space fills, by the name of the map."""
        return {"services": self.distribution.count, "targets": len(self._targets.indexes())}

    def limits(self) -> dict[str, int]:
        """Room in each map."""
        return {name: table.info.max_entries for name, table in self._maps.items()}

    def undecided(self) -> int:
        """SYNs that the worker has in its hands."""
        return max(0, self._handed.value - self._shared.done)

    def budget_spent(self) -> bool:
        """Whether more SYNs arrive on some CPU than the worker is meant to decide."""
        settings = compile_settings(self.settings, self.uplink_mtu)
        return flooded(self._maps["budget"], settings, time.monotonic_ns())

    def await_worker(self) -> None:
        """Returns when the SYNs that the worker has been handed are decided, or take too long.

        Whoever gives a DVIPA up hands its CRT over after this: what was decided later would be
        known here only, and the client's next packet goes to the successor.
        """
        handed, until = self._handed.value, time.monotonic() + WORKER_S
        while self._shared.done < handed and time.monotonic() < until:
            time.sleep(WORKER_LOOK_S)

    def renew_lease(self, until_ns: int, grace_until_ns: int = 0) -> None:
        """The daemon is well until `until_ns`; if it dies, the kernel acts for it until
        `grace_until_ns`. After that owned DVIPAs are not answered for, and nothing is chosen.

        Times of CLOCK_MONOTONIC.
        """
        self._shared.grace_until_ns = max(until_ns, grace_until_ns)
        self._shared.lease_until_ns = until_ns

    def grace_over(self) -> bool:
        """Whether the daemon was away for longer than the kernel acts for it."""
        return time.monotonic_ns() > self._shared.grace_until_ns

    def close(self) -> None:
        """Lets go of the data plane; it goes on."""
        self._routes.close()
        self._netlink.close()
        self._device.close()
        for each in self._maps.values():
            each.close()
        self._object.close()

    def destroy(self) -> None:
        """Ends the data plane: programs off the uplinks, pins away, nothing is left."""
        self.close()
        loader.remove(self.settings.pin_dir)
