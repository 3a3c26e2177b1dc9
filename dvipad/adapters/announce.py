"""Tells the neighbours where a DVIPA is now (D12).

Gratuitous ARP in both forms (RFC 5227, 1.1 and 3: some hosts learn from requests only, some from
replies only) and unsolicited Neighbor Advertisements (RFC 4861, 7.2.6), many addresses through
one packet socket for each uplink.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from socket import AF_PACKET, SOCK_RAW, socket
from typing import Final, assert_never

from dvipad.address import Address

_BROADCAST: Final = b"\xff" * 6
_ALL_NODES: Final = IPv6Address("ff02::1")
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
_ARP_REQUEST: Final = 1
_ARP_REPLY: Final = 2
_ETHERNET: Final = 1
_ICMPV6: Final = 58
_NEIGHBOR_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x2000_0000
_TARGET_LINK_LAYER_ADDRESS: Final = 2
_GONE: Final = (errno.ENXIO, errno.ENODEV, errno.EBADF)

_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_ADVERTISEMENT: Final = struct.Struct("!BBHI16sBB6s")


def arp_frames(mac: bytes, dvipa: IPv4Address) -> tuple[bytes, bytes]:
    """The gratuitous ARP request and reply, whole Ethernet frames, that say `dvipa` is at `mac`."""
    header = _BROADCAST + mac + b"\x08\x06"
    ip = dvipa.packed
    request = _ARP.pack(1, 0x0800, 6, 4, _ARP_REQUEST, mac, ip, bytes(6), ip)
    reply = _ARP.pack(1, 0x0800, 6, 4, _ARP_REPLY, mac, ip, _BROADCAST, ip)
    return header + request, header + reply


def advertisement_frame(mac: bytes, dvipa: IPv6Address) -> bytes:
    """The unsolicited Neighbor Advertisement, a whole Ethernet frame, with the override flag."""
    length = _ADVERTISEMENT.size
    source, destination = dvipa.packed, _ALL_NODES.packed

    def message(checksum: int) -> bytes:
        return _ADVERTISEMENT.pack(
            _NEIGHBOR_ADVERTISEMENT,
            0,
            checksum,
            _OVERRIDE,
            source,
            _TARGET_LINK_LAYER_ADDRESS,
            1,
            mac,
        )

    pseudo = source + destination + struct.pack("!II", length, _ICMPV6)
    header = _IPV6.pack(6 << 28, length, _ICMPV6, 255, source, destination)
    return _ALL_NODES_MAC + mac + b"\x86\xdd" + header + message(checksum(pseudo + message(0)))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def frames(mac: bytes, dvipas: Iterable[Address]) -> list[bytes]:
    """All frames that announce `dvipas` at `mac`."""
    made: list[bytes] = []
    for dvipa in dvipas:
        if isinstance(dvipa, IPv4Address):
            made += arp_frames(mac, dvipa)
        elif isinstance(dvipa, IPv6Address):
            made.append(advertisement_frame(mac, dvipa))
        else:
            assert_never(dvipa)
    return made


class Announcer:
    """Sends announcements on `uplinks`. Sends only, so it needs no privilege after the start.

    Raises ``OSError`` when an uplink does not exist, ``PermissionError`` without CAP_NET_RAW.
    """

    def __init__(self, uplinks: Iterable[str]) -> None:
        self._sockets = {uplink: _packet_socket(uplink) for uplink in uplinks}

    def announce(self, dvipas: Iterable[Address]) -> dict[str, OSError]:
        """Announces all `dvipas` on all uplinks, with each uplink's own link-layer address.

        Returns the uplinks where that failed (a link that is down, say): the others have been
        served. An uplink without link-layer addresses of Ethernet needs no announcement.
        """
        wanted = tuple(dvipas)
        failed = {}
        for uplink in self._sockets:
            try:
                self._announce_on(uplink, wanted)
            except OSError as error:
                failed[uplink] = error
        return failed

    def _announce_on(self, uplink: str, dvipas: tuple[Address, ...]) -> None:
        try:
            _send(self._sockets[uplink], dvipas)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._sockets[uplink].close()  # the interface was made anew under the same name
            self._sockets[uplink] = _packet_socket(uplink)
            _send(self._sockets[uplink], dvipas)

    def close(self) -> None:
        """Closes the sockets."""
        for each in self._sockets.values():
            each.close()


def _packet_socket(uplink: str) -> socket:
    made = socket(AF_PACKET, SOCK_RAW, 0)  # protocol 0: it never receives
    try:
        made.bind((uplink, 0))
    except OSError:
        made.close()
        raise
    return made


def _send(through: socket, dvipas: tuple[Address, ...]) -> None:
    name, _protocol, _kind, hardware, mac = through.getsockname()  # read each time: it can change
    if not name:
        raise OSError(errno.ENODEV, "the interface is gone")
    if hardware != _ETHERNET:
        return
    for frame in frames(mac, dvipas):
        through.send(frame)
