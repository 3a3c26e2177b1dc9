"""What the data plane asks the kernel about devices and routes: ioctl and rtnetlink."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.rtnetlink import attribute, attributes, messages, open_netlink, request
from dvipad.address import Address

_SIOCGIFNAME: Final = 0x8910
_SIOCGIFADDR: Final = 0x8915
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFHWADDR: Final = 0x8927
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GGRO: Final = 0x2B
_ARPHRD_ETHER: Final = 1

_GETROUTE: Final = 26
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_METRICS: Final = 8
_RTA_MULTIPATH: Final = 9
_RTA_VIA: Final = 18
_RTAX_MTU: Final = 2
_SO_ATTACH_FILTER: Final = 26
_SYSCTL: Final = "/proc/sys/net/ipv6/conf/{}/drop_unicast_in_l2_multicast"
_IPV6_RECVERR: Final = 25
_BPF_RETURN: Final = 0x06
_TUNNEL_PROTOCOLS: Final = (4, 41, 47)

_GETNEIGH: Final = 30
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NUD_VALID: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""Reachable, stale, delayed, probed, permanent (rtnetlink(7))."""

_RTMSG: Final = struct.Struct("=8BI")
_NDMSG: Final = struct.Struct("=B3xiHBB")


@dataclass(frozen=True, slots=True)
class Device:
    """An Ethernet device. `address`: its first IPv4 address, None without one; `mac`: 6 bytes."""

    name: str
    ifindex: int
    mtu: int
    address: IPv4Address | None
    mac: bytes


@dataclass(frozen=True, slots=True)
class RouteTo:
    """How packets reach an address now. `mtu`: of the route, or else of its device. `next_hop`:
    a gateway, or the address itself; None: of the other family, or several."""

    ifindex: int
    mtu: int
    next_hop: Address | None


def _ioctl(handle: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(handle, request, struct.pack("16s24x", name.encode()))[16:]


def device(name: str) -> Device:
    """The device called `name`; raises :class:`BpfError` when it cannot be an uplink."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            ifindex = socket.if_nametoindex(name)
            kind, mac = struct.unpack_from("=H6s", _ioctl(handle, _SIOCGIFHWADDR, name))
            (mtu,) = struct.unpack_from("=i", _ioctl(handle, _SIOCGIFMTU, name))
        except OSError as error:
            number = error.errno or errno.ENODEV  # if_nametoindex sets none
            raise BpfError(number, f"uplink {name}: {os.strerror(number)}") from None
        if kind != _ARPHRD_ETHER:
            raise BpfError(f"uplink {name} is not an Ethernet device (type {kind})")
        try:
            address = IPv4Address(_ioctl(handle, _SIOCGIFADDR, name)[4:8])
        except OSError:
            address = None
    return Device(name, ifindex, mtu, address, mac)


def joins_segments(name: str) -> bool:
    """Whether GRO is on: what the device receives may be several segments in one."""
    request = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GGRO, 0), 8)
    ifreq = struct.pack("@16sP16x", name.encode(), ctypes.addressof(request))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            fcntl.ioctl(handle, _SIOCETHTOOL, ifreq)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise BpfError(error.errno or errno.EIO, f"GRO of {name}: {error}") from None
            return False
    return bool(struct.unpack("=II", request.raw)[1])


def _deaf(family: socket.AddressFamily, protocol: int) -> socket.socket:
    """A raw socket that receives nothing; ICMP errors about its protocol take effect all the
    same: the kernel then knows the MTU of the path."""
    handle = socket.socket(family, socket.SOCK_RAW, protocol)
    nothing = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RETURN, 0, 0, 0), 8)
    program = struct.pack("@HP", 1, ctypes.addressof(nothing))
    handle.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    if family == socket.AF_INET6:  # asks for it; the errors that nobody reads fill that buffer
        handle.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    return handle


def drops_multicast(uplinks: Iterable[str]) -> bool:
    """Whether this host drops unicast packets in link-layer multicasts (IPv6; ip-sysctl)."""
    switches = (_SYSCTL.format(name) for name in ("all", *uplinks))
    return any(Path(name).exists() and Path(name).read_text().strip() == "1" for name in switches)


class Routes:
    """Asks for routes in the network namespace in which it was made.

    `version`: of the XCF addresses. While this lives, the kernel heeds routers that find our
    tunnel packets too big, as it would for a tunnel device of its own.
    """

    def __init__(self, version: int) -> None:
        self._netlink = open_netlink()
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._deaf = [_deaf(family, protocol) for protocol in _TUNNEL_PROTOCOLS]

    def to(self, address: Address) -> RouteTo | None:
        """The kernel's route to `address`; None when there is none (yet)."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        packed = address.packed
        destination = attribute(_RTA_DST, packed)
        header = _RTMSG.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
        question = request(_GETROUTE, 0, header + destination)
        try:
            _kind, payload = next(messages(self._netlink, question))
            found = attributes(payload[_RTMSG.size :])
            ifindex = int.from_bytes(found.get(_RTA_OIF, b""), sys.byteorder)
            metrics = attributes(found.get(_RTA_METRICS, b""))
            mtu = int.from_bytes(metrics.get(_RTAX_MTU, b""), sys.byteorder)
            return RouteTo(ifindex, mtu or self._mtu(ifindex), _next_hop(found, address))
        except OSError:
            return None  # no route, or its device is just going: both may change

    def macs(self, route: RouteTo) -> tuple[bytes, bytes] | None:
        """MAC addresses of the route's next hop and of its device, if the kernel knows both now."""
        if route.next_hop is None:
            return None
        family = socket.AF_INET if route.next_hop.version == 4 else socket.AF_INET6
        header = _NDMSG.pack(family, route.ifindex, 0, 0, 0)
        question = request(_GETNEIGH, 0, header + attribute(_NDA_DST, route.next_hop.packed))
        try:
            _kind, payload = next(messages(self._netlink, question))
            own = _ioctl(self._ioctl, _SIOCGIFHWADDR, self._name(route.ifindex))[2:8]
        except OSError:
            return None
        state = _NDMSG.unpack_from(payload)[2]
        mac = attributes(payload[_NDMSG.size :]).get(_NDA_LLADDR, b"")
        return (mac, own) if state & _NUD_VALID and len(mac) == len(own) else None

    def _name(self, ifindex: int) -> str:
        request = struct.pack("=16xi20x", ifindex)
        return fcntl.ioctl(self._ioctl, _SIOCGIFNAME, request)[:16].rstrip(b"\0").decode()

    def _mtu(self, ifindex: int) -> int:
        name = self._name(ifindex)
        (mtu,) = struct.unpack_from("=i", _ioctl(self._ioctl, _SIOCGIFMTU, name))
        return int(mtu)

    def close(self) -> None:
        """Closes the sockets."""
        for each in (self._netlink, self._ioctl, *self._deaf):
            each.close()


def _next_hop(found: dict[int, bytes], address: Address) -> Address | None:
    if found.keys() & {_RTA_VIA, _RTA_MULTIPATH}:
        return None
    gateway = found.get(_RTA_GATEWAY)
    return address if gateway is None else ip_address(gateway)
