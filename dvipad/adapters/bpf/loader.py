"""Brings the compiled programs and their pinned maps together, and onto the uplinks."""

from __future__ import annotations

import ctypes
import errno
import socket
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf import bpffs, device, tc, tunnel_device, xdp
from dvipad.adapters.bpf.filters import (
    ARP_EGRESS,
    DEVICE_INGRESS,
    EGRESS,
    GONE,
    INGRESS,
    has_filters,
)
from dvipad.adapters.bpf.layout import (
    GUARD,
    LAYOUT_VERSION,
    MAPS,
    Settings,
    Uplink,
    index_key,
    key_index,
)
from dvipad.adapters.bpf.libbpf import BpfError, BpfObject, MapDefinition
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.rtnetlink import open_netlink
from dvipad.adapters.bpf.settings import PlaneSettings

NEEDS: Final = (
    "Linux 6.1 or later with CONFIG_BPF_SYSCALL, CONFIG_DEBUG_INFO_BTF, CONFIG_NET_CLS_ACT, "
    "CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS (bpf_skb_adjust_room, bpf_redirect_neigh, "
    "memory-mapped arrays), and the privilege to load programs (CAP_BPF, CAP_NET_ADMIN)"
)
ZERO: Final = index_key(0)
"""Key of the one value of `settings` and `shared`."""

_SHAPE: Final = ("type", "key size", "value size", "size", "flags")


class OtherMaps(BpfError):
    """The pinned maps are another version's, or another configuration's."""


def discard(pin_dir: Path) -> None:
    """Take away the names of the maps that another version pinned. The programs that are attached
    go on with them until they are replaced."""
    for pin in pin_dir.iterdir():
        if pin.is_file():
            pin.unlink()


def load(settings: PlaneSettings) -> tuple[BpfObject, dict[str, Map]]:
    """Loads the programs on the maps pinned in `pin_dir`, made there if they are not.

    Pinned maps of another shape or layout raise :class:`OtherMaps` and stay as they are.
    """
    loaded = BpfObject(settings.program())
    try:
        bpffs.prepare(settings.pin_dir)
        sizes = {
            **dict.fromkeys(("established4", "established6"), settings.established),
            **dict.fromkeys(("embryonic4", "embryonic6"), settings.embryonic),
        }
        definitions = [each for each in loaded.maps() if not each.internal]
        for definition in definitions:
            if definition.name in sizes:
                definition.set_max_entries(sizes[definition.name])
            path = settings.pin_dir / definition.name
            _compare(definition, path)
            definition.set_pin_path(path)
        _compare_layout(settings.pin_dir)
        for program in loaded.programs():
            if program.name == DEVICE_INGRESS.program:  # it takes as long as all others together
                program.set_autoload(settings.tunnel in tunnel_device.NAMES)
        loaded.load(NEEDS)
        loaded.pin_program("dvipad_guard", settings.guard())
        maps = {each.name: Map(loaded.map_fd(each.name)) for each in definitions}
    except BaseException:
        loaded.close()
        bpffs.clear(settings.pin_dir, ())  # an empty folder, mounted for nothing
        raise
    return loaded, maps


def _pinned(path: Path) -> Map | None:
    try:
        return Map.open(path)
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _compare(definition: MapDefinition, path: Path) -> None:
    pinned = _pinned(path)
    if pinned is None:
        return
    try:
        different = [
            f"{what} {has} there, {needs} here"
            for what, has, needs in zip(_SHAPE, pinned.shape, definition.shape, strict=True)
            if has != needs
        ]
    finally:
        pinned.close()
    if different:
        raise OtherMaps(
            f"pinned map {path} differs from this version's or this configuration's: "
            f"{', '.join(different)}. It cannot be adopted; connections that are distributed now "
            f"would be lost. Stop dvipad on this node when a backup can take its DVIPAs over, "
            f"remove {path.parent}, and start it again"
        )


def _compare_layout(pin_dir: Path) -> None:
    pinned = _pinned(pin_dir / "settings")
    if pinned is None:
        return
    try:
        found = Settings.from_buffer_copy(pinned.lookup(ZERO) or bytes(ctypes.sizeof(Settings)))
    finally:
        pinned.close()
    if found.layout not in (0, LAYOUT_VERSION):  # 0: created, and never written
        raise OtherMaps(
            f"the maps pinned in {pin_dir} have layout {found.layout}, this version of dvipad "
            f"has {LAYOUT_VERSION}. They cannot be adopted; remove {pin_dir} when a backup can "
            f"take this node's DVIPAs over, and start again"
        )


def attach(
    loaded: BpfObject, uplinks: Map, devices: tuple[device.Device, ...], ends_here: bool
) -> None:
    """Puts the programs on the devices, and takes them off devices that are uplinks no more.

    `ends_here`: connections may end at this node, so its answers have to be looked at.
    """
    with open_netlink() as netlink:
        for each in devices:
            _attach(netlink, loaded, uplinks, each)
        if ends_here:
            attach_egress(netlink, loaded, uplinks)
        keep = {each.ifindex for each in devices}
        for key, _value in list(uplinks.items()):
            if key_index(key) not in keep:
                _detach(netlink, uplinks, key)
            elif not ends_here:
                EGRESS.detach(netlink, key_index(key))


def _attach(netlink: socket.socket, loaded: BpfObject, uplinks: Map, uplink: device.Device) -> None:
    key = index_key(uplink.ifindex)
    known = uplinks.lookup(key)
    made = known is not None and Uplink.from_buffer_copy(known).made_clsact != 0
    made = tc.create_clsact(uplink.ifindex) or made
    address = uplink.address.packed if uplink.address else bytes(4)
    value = Uplink(address=(ctypes.c_ubyte * 4)(*address), made_clsact=made)
    uplinks.update(key, bytes(value))
    for hook in (ARP_EGRESS, INGRESS):
        hook.attach(netlink, uplink.ifindex, loaded.program(hook.program).fd)


def attach_egress(netlink: socket.socket, loaded: BpfObject, uplinks: Map) -> None:
    """Has the answers of connections that end at this node looked at."""
    program = loaded.program(EGRESS.program).fd
    for key, _value in list(uplinks.items()):
        try:
            EGRESS.attach(netlink, key_index(key), program)
        except BpfError as error:
            if error.errno not in GONE:  # it is looked for once a second
                raise


def _detach(netlink: socket.socket, uplinks: Map, key: bytes) -> None:
    """Takes the programs off one device, and its clsact qdisc if we made it and it is unused."""
    ifindex = key_index(key)
    value = uplinks.lookup(key)
    for hook in (INGRESS, EGRESS, ARP_EGRESS):
        hook.detach(netlink, ifindex)
    made = value is not None and Uplink.from_buffer_copy(value).made_clsact != 0
    if made and _unused(netlink, ifindex):
        tc.destroy_clsact(ifindex)
    uplinks.delete(key)


def _unused(netlink: socket.socket, ifindex: int) -> bool:
    try:
        return not has_filters(netlink, ifindex)
    except OSError:
        return False  # the device is gone, and its qdisc with it


def remove(pin_dir: Path) -> None:
    """Takes away everything of the data plane that is pinned in `pin_dir`, loaded by whomever.

    Must run in the network namespace of the uplinks. What is not there is no error.
    """
    uplinks = _pinned(pin_dir / "uplinks") if pin_dir.is_dir() else None
    if uplinks is not None:
        with open_netlink() as netlink:
            for key, _value in list(uplinks.items()):
                _detach(netlink, uplinks, key)
            tunnel_device.remove(netlink)
        uplinks.close()
    xdp.detach(pin_dir)
    bpffs.clear(pin_dir, (*MAPS, GUARD))
