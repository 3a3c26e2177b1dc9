"""The keys and values of the eBPF maps, as ``bpf/dvipad.h`` defines them.

Addresses are the 16 bytes of :func:`dvipad.address.pack`; ports in keys are in network order;
everything else is in the host's order. A test compares sizes and offsets with the BTF of the
compiled object.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from dvipad.address import Address, pack, unpack

LAYOUT_VERSION: Final = 8
DVIPAS_MAX: Final = 1024
SERVICES_MAX: Final = 4096
TARGETS_MAX: Final = 256
RING_MAX: Final = 256
MEMBERS_MAX: Final = 1024
UPLINKS_MAX: Final = 64
ENDING_MAX: Final = 256
FRONT_MAX: Final = 4096
PREFIXES_MAX: Final = 65536
TEXTS_MAX: Final = 16384
TEXT_BYTES: Final = 4096
THIS_NODE: Final = 0
"""Index of this node in `targets`."""
TUNNEL_ID: Final = 4780
"""VNI of VXLAN."""

DVIPA_COLLECTING: Final = 1
DVIPA_QUIET: Final = 2
SERVICE_OFFLOAD: Final = 1
SERVICE_HELD: Final = 2
POLICY_BITS: Final = 160
POLICY_UNSEEN: Final = 0xFFFF_FFFF
POLICY_NONE: Final = 0xFFFF_FFFE

ADDRESS_SIZE: Final = 16
CONNECTION: Final = struct.Struct("!16s16sHH")
"""One CRT key: client address, DVIPA, client port, DVIPA port; 36 bytes, network order."""

ROUTE: Final = struct.Struct("=IBxHQ")
"""One CRT value: target index, closing, chooser, created_ns."""
POLICY_KEY: Final = struct.Struct("=II16s")
"""``struct policy_key``: prefix length, set, client."""
TEXT_KEY: Final = struct.Struct("=II")
"""``struct text_key``: set, part."""

MAPS: Final = (
    "dvipas",
    "services",
    "targets",
    "members",
    "peers",
    "established4",
    "established6",
    "embryonic4",
    "embryonic6",
    "front4",
    "settings",
    "shared",
    "uplinks",
    "policies",
    "policy_rings",
    "policy_texts",
    "refused",
    "cursors",
    "sent",
    "totals",
    "active",
    "completed",
    "budget",
    "answers",
    "counters",
    "traffic",
    "endings",
)
"""The maps of the data plane, each pinned by its name."""
GUARD: Final = "guard"
"""Name of the pinned program that netfilter asks (``bpf/guard.h``)."""


class Role(IntEnum):
    """What this node is to a DVIPA, as far as packets are concerned."""

    OWNER = 1
    HIDDEN = 2
    MOVING = 3


class FrontKind(IntEnum):
    """``enum front_kind``: what the short way makes of a destination."""

    NONE = 0
    FORWARDS = 1
    LONG_WAY = 2
    HIDDEN = 3


class Tunnel(IntEnum):
    """How a node encapsulates; every node accepts all."""

    IPIP = 0
    GRE = 1
    IPIP_DEVICE = 2
    GRE_DEVICE = 3
    VXLAN = 4


class Connection(ctypes.Structure):
    """``struct connection``: key of the CRT's maps for IPv6."""

    _fields_ = (
        ("client", ctypes.c_ubyte * 16),
        ("dvipa", ctypes.c_ubyte * 16),
        ("client_port", ctypes.c_ubyte * 2),
        ("dvipa_port", ctypes.c_ubyte * 2),
    )


class Connection4(ctypes.Structure):
    """``struct connection4``: key of the CRT's maps for IPv4."""

    _fields_ = (
        ("client", ctypes.c_ubyte * 4),
        ("dvipa", ctypes.c_ubyte * 4),
        ("client_port", ctypes.c_ubyte * 2),
        ("dvipa_port", ctypes.c_ubyte * 2),
    )


class Front(ctypes.Structure):
    """``struct front``: value of `front4`."""

    dvipa: ctypes.Array[ctypes.c_ubyte]
    kind: int
    _fields_ = (("dvipa", ctypes.c_ubyte * 4), ("kind", ctypes.c_uint32))


class Route(ctypes.Structure):
    """``struct route``: value of the CRT's maps."""

    target: int
    closing: int
    chooser: int
    created_ns: int
    _fields_ = (
        ("target", ctypes.c_uint32),
        ("closing", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
        ("chooser", ctypes.c_uint16),
        ("created_ns", ctypes.c_uint64),
    )


class End(IntEnum):
    """``enum end``: what became of a connection that a target says is over."""

    KEPT = 0
    DELETED = 1
    UNCLEAR = 2


class Ending(ctypes.Structure):
    """``struct ending``: value of `endings`, the argument of the program ``dvipad_end``."""

    target: int
    count: int
    before_ns: int
    _fields_ = (
        ("target", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("before_ns", ctypes.c_uint64),
        ("keys", Connection * ENDING_MAX),
        ("result", ctypes.c_ubyte * ENDING_MAX),
    )


class Dvipa(ctypes.Structure):
    """``struct dvipa``: value of `dvipas`."""

    role: int
    flags: int
    epoch: int
    successor: int
    _fields_ = (
        ("role", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("epoch", ctypes.c_uint64),
        ("successor", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


class ServiceKey(ctypes.Structure):
    """``struct service_key``: key of `services`."""

    _fields_ = (
        ("dvipa", ctypes.c_ubyte * 16),
        ("port", ctypes.c_ubyte * 2),
        ("pad", ctypes.c_uint16),
    )


class Service(ctypes.Structure):
    """``struct service``: value of `services`."""

    slot: int
    service: int
    flags: int
    shares: int
    ring_len: int
    policies: int
    ring: ctypes.Array[ctypes.c_uint16]
    _fields_ = (
        ("slot", ctypes.c_uint16),
        ("service", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("shares", ctypes.c_uint16),
        ("ring_len", ctypes.c_uint32),
        ("policies", ctypes.c_uint32),
        ("ring", ctypes.c_uint16 * RING_MAX),
    )


class Refused(ctypes.Structure):
    """``struct refused``: value of `refused`."""

    by_program: int
    by_worker: int
    _fields_ = (("by_program", ctypes.c_uint64), ("by_worker", ctypes.c_uint64))


class Target(ctypes.Structure):
    """``struct target``: value of `targets`."""

    xcf: ctypes.Array[ctypes.c_ubyte]
    family: int
    ifindex: int
    mtu: int
    next_hop_known: int
    next_hop: ctypes.Array[ctypes.c_ubyte]
    header_sum: int
    mac_known: int
    direct: int
    _fields_ = (
        ("xcf", ctypes.c_ubyte * 16),
        ("family", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("next_hop_known", ctypes.c_uint32),
        ("next_hop", ctypes.c_ubyte * 16),
        ("header_sum", ctypes.c_uint32),
        ("source4", ctypes.c_ubyte * 4),
        ("mac", ctypes.c_ubyte * 6),
        ("own_mac", ctypes.c_ubyte * 6),
        ("mac_known", ctypes.c_uint16),
        ("direct", ctypes.c_uint16),
    )


class Uplink(ctypes.Structure):
    """``struct uplink``: value of `uplinks`."""

    address: ctypes.Array[ctypes.c_ubyte]
    made_clsact: int
    _fields_ = (
        ("address", ctypes.c_ubyte * 4),
        ("made_clsact", ctypes.c_uint32),
    )


class Settings(ctypes.Structure):
    """``struct settings``: the one value of `settings`."""

    xcf: ctypes.Array[ctypes.c_ubyte]
    stale_ns: int
    budget_cost_ns: int
    budget_burst_ns: int
    layout: int
    xcf_family: int
    tunnel: int
    queue_mark: int
    seen_mark: int
    window: int
    liveness_port: ctypes.Array[ctypes.c_ubyte]
    mss4: int
    mss6: int
    mesh_port: ctypes.Array[ctypes.c_ubyte]
    device: int
    overhead: int
    vxlan_port: ctypes.Array[ctypes.c_ubyte]
    _fields_ = (
        ("xcf", ctypes.c_ubyte * 16),
        ("stale_ns", ctypes.c_uint64),
        ("budget_cost_ns", ctypes.c_uint64),
        ("budget_burst_ns", ctypes.c_uint64),
        ("layout", ctypes.c_uint32),
        ("xcf_family", ctypes.c_uint32),
        ("tunnel", ctypes.c_uint32),
        ("queue_mark", ctypes.c_uint32),
        ("seen_mark", ctypes.c_uint32),
        ("window", ctypes.c_uint32),
        ("liveness_port", ctypes.c_ubyte * 2),
        ("mss4", ctypes.c_uint16),
        ("mss6", ctypes.c_uint16),
        ("mesh_port", ctypes.c_ubyte * 2),
        ("device", ctypes.c_uint32),
        ("overhead", ctypes.c_uint16),
        ("vxlan_port", ctypes.c_ubyte * 2),
    )


class Shared(ctypes.Structure):
    """``struct shared``: the one value of `shared`, memory-mapped."""

    beat_ns: int
    done: int
    lease_until_ns: int
    grace_until_ns: int
    _fields_ = (
        ("beat_ns", ctypes.c_uint64),
        ("done", ctypes.c_uint64),
        ("lease_until_ns", ctypes.c_uint64),
        ("grace_until_ns", ctypes.c_uint64),
    )


def connection_key(client: Address, client_port: int, dvipa: Address, dvipa_port: int) -> bytes:
    """The 36-byte CRT key of a connection."""
    return CONNECTION.pack(pack(client), pack(dvipa), client_port, dvipa_port)


def dvipa_of(key: bytes) -> Address:
    """The DVIPA in the key of a connection."""
    return unpack(key[16:32])


def split_keys(keys: bytes) -> Iterator[bytes]:
    """The single CRT keys of a batch; raises ``ValueError`` when its length is no multiple."""
    if len(keys) % CONNECTION.size:
        raise ValueError(f"{len(keys)} bytes are no batch of {CONNECTION.size}-byte CRT keys")
    return (keys[at : at + CONNECTION.size] for at in range(0, len(keys), CONNECTION.size))


def index_key(index: int) -> bytes:
    """The key of an array, or of `uplinks`."""
    return index.to_bytes(4, sys.byteorder)


def key_index(key: bytes) -> int:
    """The index that :func:`index_key` made `key` of."""
    return int.from_bytes(key, sys.byteorder)


def link_address(mac: bytes) -> bytes:
    """The key of `peers`."""
    return mac + bytes(2)


def share(target: int, weight: int) -> int:
    """A share in a ring: a target index, and its weight of 1 to 255."""
    return weight << 8 | target


def shares(service: Service) -> list[tuple[int, int]]:
    """Target indexes and weights, as :func:`share` packed them."""
    first = service.ring_len
    packed = service.ring[first : first + service.shares]
    return [(each & 0xFF, each >> 8) for each in packed]


def service_key(dvipa: Address, port: int) -> bytes:
    """The key of `services`."""
    return pack(dvipa) + port.to_bytes(2, "big") + bytes(2)


def service_of(key: bytes) -> tuple[Address, int]:
    """The DVIPA and port that :func:`service_key` made `key` of."""
    return unpack(key[:16]), int.from_bytes(key[16:18], "big")
