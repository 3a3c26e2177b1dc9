"""The kernel's tunnel device, where the node file asks for one: made, kept, and removed.

One device serves all targets, in "external" mode (``ip-link(8)``): the eBPF program gives each
packet its addresses. By rtnetlink: pyroute2 cannot make an external ``ip6gre``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf import tc
from dvipad.adapters.bpf.filters import DEVICE_INGRESS
from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.bpf.libbpf import BpfError, BpfObject
from dvipad.adapters.bpf.rtnetlink import (
    CREATE,
    EXCLUSIVE,
    attribute,
    attributes,
    change,
    messages,
    open_netlink,
    request,
)
from dvipad.adapters.bpf.settings import PlaneSettings

NAMES: Final = {
    Tunnel.IPIP_DEVICE: "dvipad-ipip",
    Tunnel.GRE_DEVICE: "dvipad-gre",
    Tunnel.VXLAN: "dvipad-vxlan",
}
DUMMY_ADDRESS: Final = bytes((192, 0, 0, 8))
"""The IPv4 dummy address (RFC 7600): the reverse path filter, even a loose one, lets nothing in by
a device without an address. Of host scope, the kernel never sends from it."""
LOOSE: Final = 2
"""Value of ``rp_filter``: clients are reached by another device than the one that their packets
come in by. Of this and the value for all devices the larger one counts."""

_NEWLINK: Final = 16
_DELLINK: Final = 17
_GETLINK: Final = 18
_SETLINK: Final = 19
_NEWADDR: Final = 20
_IFNAME: Final = 3
_LINKINFO: Final = 18
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_AF_SPEC: Final = 26
_INET_CONF: Final = 1
_RP_FILTER: Final = 8  # counted from 1
_INET6_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_MODE_NONE: Final = 1
_IFA_LOCAL: Final = 2
_SCOPE_HOST: Final = 254
_IFF_UP: Final = 0x1
_IFF_NOARP: Final = 0x80

_COLLECT_METADATA: Final = {"ipip": 19, "ip6tnl": 19, "gre": 18, "ip6gre": 18, "vxlan": 25}
_VXLAN_LEARNING: Final = 7
_VXLAN_PORT: Final = 15
_VXLAN_ZERO_CSUM6_RX: Final = 20

_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device as it has to be. `data`: attributes of its kind."""

    name: str
    kind: str
    data: dict[int, bytes]


def wanted(tunnel: Tunnel, version: int, vxlan_port: int) -> Wanted | None:
    """The device for a tunnel between XCF addresses of `version`; None: the program does it all."""
    kinds = {
        Tunnel.IPIP_DEVICE: {4: "ipip", 6: "ip6tnl"}[version],
        Tunnel.GRE_DEVICE: {4: "gre", 6: "ip6gre"}[version],
        Tunnel.VXLAN: "vxlan",
    }
    kind = kinds.get(tunnel)
    if kind is None:
        return None
    if kind != "vxlan":
        return Wanted(NAMES[tunnel], kind, {_COLLECT_METADATA[kind]: b""})
    data = {
        _COLLECT_METADATA[kind]: b"\1",
        _VXLAN_LEARNING: b"\0",
        _VXLAN_PORT: vxlan_port.to_bytes(2, "big"),
        _VXLAN_ZERO_CSUM6_RX: b"\1",
    }
    return Wanted(NAMES[tunnel], kind, data)


@dataclass(frozen=True, slots=True)
class _Found:
    ifindex: int
    flags: int
    kind: str
    data: dict[int, bytes]
    rp_filter: int


class TunnelDevice:
    """The device of one data plane, in the network namespace in which this was made.

    `ifindex` is 0 until :meth:`ensure` made or found it, and where the program needs none.
    """

    def __init__(self, settings: PlaneSettings, loaded: BpfObject) -> None:
        self.ifindex = 0
        self._wanted = wanted(settings.tunnel, settings.xcf.version, settings.vxlan_port)
        self._loaded = loaded
        self._netlink = open_netlink()

    def ensure(self) -> None:
        """Sees to it that the device is there, up, with the program on it; what is right is left
        alone. Raises :class:`BpfError` that says what is in the way."""
        if self._wanted is None:
            return
        program_fd = self._loaded.program(DEVICE_INGRESS.program).fd
        try:
            self.ifindex = _ensure(self._netlink, self._wanted, program_fd)
        except OSError as error:
            raise _explained(self._wanted, error) from None

    def remove_others(self) -> None:
        """Removes devices that another setting left, now that no packet goes there."""
        remove(self._netlink, self._wanted.name if self._wanted else None)

    def close(self) -> None:
        """Lets go of the device; it goes on."""
        self._netlink.close()


def _ensure(netlink: socket.socket, device: Wanted, program_fd: int) -> int:
    found = _find(netlink, device.name)
    if found is not None and not _fits(found, device):
        _change(netlink, _DELLINK, 0, found.ifindex)
        found = None
    found = found or _create(netlink, device)
    tc.create_clsact(found.ifindex)
    DEVICE_INGRESS.attach(netlink, found.ifindex, program_fd)
    _set_up(netlink, found)
    return found.ifindex


def remove(netlink: socket.socket, keep: str | None = None) -> None:
    """Removes our devices, but for the one called `keep`."""
    for name in NAMES.values():
        found = None if name == keep else _find(netlink, name)
        if found is not None:
            with suppress(OSError):  # somebody else was faster
                _change(netlink, _DELLINK, 0, found.ifindex)


def _find(netlink: socket.socket, name: str) -> _Found | None:
    question = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFNAME, name.encode() + b"\0")
    try:
        _kind, payload = next(messages(netlink, request(_GETLINK, 0, question)))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
    _family, _type, ifindex, flags, _mask = _LINK.unpack_from(payload)
    found = attributes(payload[_LINK.size :])
    info = attributes(found.get(_LINKINFO, b""))
    inet = attributes(attributes(found.get(_AF_SPEC, b"")).get(socket.AF_INET, b""))
    at = (_RP_FILTER - 1) * 4
    rp_filter = int.from_bytes(inet.get(_INET_CONF, b"")[at : at + 4], sys.byteorder)
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode()
    return _Found(ifindex, flags, kind, attributes(info.get(_INFO_DATA, b"")), rp_filter)


def _fits(found: _Found, device: Wanted) -> bool:
    return found.kind == device.kind and device.data.items() <= found.data.items()


def _create(netlink: socket.socket, device: Wanted) -> _Found:
    data = b"".join(attribute(kind, value) for kind, value in device.data.items())
    info = attribute(_INFO_KIND, device.kind.encode()) + attribute(_INFO_DATA, data)
    body = attribute(_IFNAME, device.name.encode() + b"\0") + attribute(_LINKINFO, info)
    _change(netlink, _NEWLINK, CREATE | EXCLUSIVE, 0, body)
    made = _find(netlink, device.name)
    if made is None:
        raise OSError(errno.ENODEV, "it is gone already")
    return made


def _set_up(netlink: socket.socket, found: _Found) -> None:
    """What is right is not set again: that would be a change of a link for all who watch them."""
    if found.rp_filter != LOOSE:
        value = attribute(_RP_FILTER, LOOSE.to_bytes(4, sys.byteorder))
        conf = attribute(socket.AF_INET, attribute(_INET_CONF, value))
        _change(netlink, _SETLINK, 0, found.ifindex, attribute(_AF_SPEC, conf))
    address = _ADDRESS.pack(socket.AF_INET, 32, 0, _SCOPE_HOST, found.ifindex)
    message = address + attribute(_IFA_LOCAL, DUMMY_ADDRESS)
    with suppress(FileExistsError):
        change(netlink, _NEWADDR, CREATE | EXCLUSIVE, message)
    flags = _IFF_UP | _IFF_NOARP
    if found.flags & flags == flags:
        return
    none = attribute(_INET6_ADDR_GEN_MODE, bytes((_ADDR_GEN_MODE_NONE,)))
    with suppress(OSError):  # a host without IPv6
        body = attribute(_AF_SPEC, attribute(socket.AF_INET6, none))
        _change(netlink, _SETLINK, 0, found.ifindex, body)
    change(netlink, _SETLINK, 0, _LINK.pack(0, 0, found.ifindex, flags, flags))


def _change(netlink: socket.socket, kind: int, flags: int, ifindex: int, body: bytes = b"") -> None:
    change(netlink, kind, flags, _LINK.pack(0, 0, ifindex, 0, 0) + body)


def _explained(device: Wanted, error: OSError) -> BpfError:
    number = error.errno or errno.EIO
    port = int.from_bytes(device.data.get(_VXLAN_PORT, b""), "big")
    remedies = {
        errno.EOPNOTSUPP: f"this kernel has no {device.kind}; load its module, or say another "
        "'tunnel:' in the node file",
        errno.EEXIST: f"another {device.kind} device is in external mode; there can be one only",
        errno.EADDRINUSE: f"UDP port {port} is in use; say another 'vxlan: {{port: …}}' in the "
        "node files of the cluster",
    }
    text = remedies.get(number, os.strerror(number))
    return BpfError(number, f"tunnel device {device.name} ({device.kind}): {text}")
