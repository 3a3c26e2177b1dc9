"""Frames that ask who has an address, and those that tell: ARP and neighbour discovery.

Asked by ARP probes (RFC 5227, 2.1.1) and by the neighbour solicitations of duplicate address
detection (RFC 4862, 5.4.2). Everything is a whole Ethernet frame.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, assert_never

from dvipad.adapters.announce import checksum
from dvipad.address import Address

MAX_ADDRESSES: Final = 256
"""Addresses of each family in one filter: a socket's options have 20 KB on older kernels
(`net.core.optmem_max`), and for a moment the filter before is there, too."""
FRAME_BYTES: Final = 128
"""Of a frame, as much as is looked at."""

_BROADCAST: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ND: Final = struct.Struct("!6s6sHIHBB16s16sBBHI16s")
_ETHERTYPE_ARP: Final = 0x0806
_ETHERTYPE_IPV6: Final = 0x86DD
_IPV4: Final = 0x0800
_ETHERNET: Final = 1
_REQUEST: Final = 1
_REPLY: Final = 2
_ICMPV6: Final = 58
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_HOPS: Final = 255
_SOLICITED_NODE: Final = IPv6Address("ff02::1:ff00:0")
_UNSPECIFIED: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Claim:
    """The host with link-layer address `mac` says that it has `address`.

    `probing`: it only wants to have it, and asks as we do.
    """

    address: Address
    mac: bytes
    probing: bool = False


def group_mac(address: IPv6Address) -> bytes:
    """The link-layer address of the solicited-node group of `address` (RFC 4291, RFC 2464)."""
    return b"\x33\x33\xff" + address.packed[-3:]


def probe_frame(mac: bytes, address: Address) -> bytes:
    """The question of the host with `mac` whether anybody has `address`."""
    if isinstance(address, IPv4Address):
        ethernet = (_BROADCAST, mac, _ETHERTYPE_ARP)
        arp = (_ETHERNET, _IPV4, 6, 4, _REQUEST, mac, bytes(4), bytes(6), address.packed)
        return _ARP.pack(*ethernet, *arp)
    if isinstance(address, IPv6Address):
        return _solicitation(mac, address)
    assert_never(address)


def _solicitation(mac: bytes, address: IPv6Address) -> bytes:
    group = IPv6Address(int(_SOLICITED_NODE) | int(address) & 0xFF_FFFF).packed
    length = 24
    body = struct.pack("!BBHI16s", _SOLICITATION, 0, 0, 0, address.packed)
    pseudo = _UNSPECIFIED + group + struct.pack("!II", length, _ICMPV6)
    return _ND.pack(
        group_mac(address),
        mac,
        _ETHERTYPE_IPV6,
        6 << 28,
        length,
        _ICMPV6,
        _HOPS,
        _UNSPECIFIED,
        group,
        _SOLICITATION,
        0,
        checksum(pseudo + body),
        0,
        address.packed,
    )


def read_claim(frame: bytes) -> Claim | None:
    """What `frame` says about who has, or wants, which address; None: nothing."""
    (kind,) = struct.unpack_from("!H", frame, 12) if len(frame) >= 14 else (0,)
    if kind == _ETHERTYPE_ARP and len(frame) >= _ARP.size:
        return _read_arp(frame)
    if kind == _ETHERTYPE_IPV6 and len(frame) >= _ND.size:
        return _read_nd(frame)
    return None


def _read_arp(frame: bytes) -> Claim | None:
    """RFC 5227, 2.1.1: the sender of any ARP packet has its address; who probes has none yet."""
    fields = _ARP.unpack_from(frame)
    if fields[3:7] != (_ETHERNET, _IPV4, 6, 4) or fields[7] not in (_REQUEST, _REPLY):
        return None
    mac, sender, target = fields[8], IPv4Address(fields[9]), IPv4Address(fields[11])
    if int(sender):
        return Claim(sender, mac)
    return Claim(target, mac, probing=True) if fields[7] == _REQUEST else None


def _read_nd(frame: bytes) -> Claim | None:
    """RFC 4862, 5.4.3 and 5.4.4; one that passed a router is none (RFC 4861, 7.1)."""
    fields = _ND.unpack_from(frame)
    mac, protocol, hops, source = fields[1], fields[5], fields[6], fields[7]
    kind, code, target = fields[9], fields[10], IPv6Address(fields[13])
    if protocol != _ICMPV6 or hops != _HOPS or code != 0:
        return None
    if kind == _ADVERTISEMENT:
        return Claim(target, mac)
    if kind == _SOLICITATION and source == _UNSPECIFIED:
        return Claim(target, mac, probing=True)
    return None


# -- classic BPF ------------------------------------------------------------------------------

_LD_WORD, _LD_HALF, _LD_BYTE = 0x20, 0x28, 0x30
_JUMP, _JUMP_IF_EQUAL, _RETURN = 0x05, 0x15, 0x06
_AUXILIARY: Final = 0xFFFF_F000
_PACKET_TYPE: Final = _AUXILIARY + 4
_VLAN_TAGGED: Final = _AUXILIARY + 48
_OUTGOING: Final = 4
_INSTRUCTION: Final = struct.Struct("=HBBI")
_AT_TYPE, _AT_ARP_SENDER = 12, 28
_AT_NEXT_HEADER, _AT_SOURCE, _AT_ND_TYPE, _AT_ND_TARGET_END = 20, 22, 54, 74
_DROP: Final = (_RETURN, 0, 0, 0)
_ACCEPT: Final = (_RETURN, 0, 0, FRAME_BYTES)

_Instruction = tuple[int, int, int, int]


def every_claim() -> bytes:
    """A classic BPF program (`struct sock_filter`s) that lets pass what may be a claim or a probe.

    What this host sends, and what belongs to a VLAN on the interface, passes neither here nor by
    `claims_of`.
    """
    nd: tuple[_Instruction, ...] = (
        (_LD_BYTE, 0, 0, _AT_NEXT_HEADER),
        (_JUMP_IF_EQUAL, 1, 0, _ICMPV6),
        _DROP,
        (_LD_BYTE, 0, 0, _AT_ND_TYPE),
        (_JUMP_IF_EQUAL, 4, 0, _ADVERTISEMENT),
        (_JUMP_IF_EQUAL, 0, 2, _SOLICITATION),
        (_LD_WORD, 0, 0, _AT_SOURCE),
        (_JUMP_IF_EQUAL, 1, 0, 0),
        _DROP,
        _ACCEPT,
    )
    return _program([_ACCEPT], nd)


def claims_of(addresses: Collection[Address]) -> bytes:
    """The same for claims of these addresses only, at most `MAX_ADDRESSES` of each family.

    An IPv6 address is compared by its last word: few others have the same, `read_claim` tells.
    """
    ipv4 = sorted({int(each) for each in addresses if each.version == 4})
    words = sorted({int(each) & 0xFFFF_FFFF for each in addresses if each.version == 6})
    if len(ipv4) > MAX_ADDRESSES or len(words) > MAX_ADDRESSES:
        raise ValueError("too many addresses for one filter")
    arp = ((_LD_WORD, 0, 0, _AT_ARP_SENDER), *_any_of(ipv4), _DROP)
    nd: tuple[_Instruction, ...] = (
        (_LD_BYTE, 0, 0, _AT_NEXT_HEADER),
        (_JUMP_IF_EQUAL, 1, 0, _ICMPV6),
        _DROP,
        (_LD_BYTE, 0, 0, _AT_ND_TYPE),
        (_JUMP_IF_EQUAL, 1, 0, _ADVERTISEMENT),
        _DROP,
        (_LD_WORD, 0, 0, _AT_ND_TARGET_END),
        *_any_of(words),
        _DROP,
    )
    return _program(arp, nd)


def _any_of(values: Collection[int]) -> Iterator[_Instruction]:
    for value in values:
        yield _JUMP_IF_EQUAL, 0, 1, value
        yield _ACCEPT


def _program(arp: Collection[_Instruction], nd: Collection[_Instruction]) -> bytes:
    program: list[_Instruction] = [
        (_LD_WORD, 0, 0, _VLAN_TAGGED),
        (_JUMP_IF_EQUAL, 1, 0, 0),
        _DROP,
        (_LD_WORD, 0, 0, _PACKET_TYPE),
        (_JUMP_IF_EQUAL, 0, 1, _OUTGOING),
        _DROP,
        (_LD_HALF, 0, 0, _AT_TYPE),
        (_JUMP_IF_EQUAL, 1, 0, _ETHERTYPE_ARP),
        (_JUMP, 0, 0, len(arp)),
        *arp,
        (_JUMP_IF_EQUAL, 1, 0, _ETHERTYPE_IPV6),
        _DROP,
        *nd,
    ]
    return b"".join(_INSTRUCTION.pack(*each) for each in program)
