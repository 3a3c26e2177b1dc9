"""Packets of clients and tunnels for the data plane's tests, and a plane to send them to."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from dvipad.adapters.bpf.layout import Role, connection_key
from dvipad.address import Address
from tests.e2e.plane_network import Bench, bench

OWN = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
TARGETS = {
    4: (ip_address("192.0.2.2"), ip_address("192.0.2.3")),
    6: (ip_address("2001:db8::2"), ip_address("2001:db8::3")),
}
DVIPA = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8:1::1")}
CLIENT = {4: ip_address("203.0.113.9"), 6: ip_address("2001:db8:2::9")}
PORT = 80
SEGMENTS: dict[str, st.SearchStrategy[Any]] = {
    "tos": st.integers(0, 255),
    "ttl": st.integers(0, 255),
    "flags": st.sampled_from(["A", "PA", "FA", "R", "RA", "", "SA", "AE"]),
    "payload": st.integers(0, 1460),
    "mangled": st.one_of(st.none(), st.tuples(st.integers(14, 53), st.integers(0, 255))),
}
"""Segments of a connection, and a byte of them that is another one."""


def ip(source: Address, destination: Address, **fields: Any) -> Packet:
    if source.version == 4:
        return IP(src=str(source), dst=str(destination), **fields)
    if "tos" in fields:
        fields["tc"] = fields.pop("tos")
    return IPv6(src=str(source), dst=str(destination), **fields)


def from_client(version: int, flags: str, port: int = 1000, **fields: Any) -> list[Packet]:
    return [
        ip(CLIENT[version], DVIPA[version], **fields),
        TCP(sport=port, dport=PORT, flags=flags, seq=7),
        Raw(b"payload"),
    ]


def through_tunnel(
    inner: list[Packet], outer: int, gre: bool, source: Address | None = None, **fields: Any
) -> list[Packet]:
    header = ip(source or TARGETS[outer][0], OWN[outer], **fields)
    return [header, *([GRE()] if gre else []), *inner]


def key(version: int, port: int = 1000) -> bytes:
    return connection_key(CLIENT[version], port, DVIPA[version], PORT)


def own(plane_bench: Bench, role: Role = Role.OWNER, **options: bool | Address) -> None:
    for dvipa in DVIPA.values():
        plane_bench.plane.set_dvipa(dvipa, role, 1, **options)  # type: ignore[arg-type]


def serve(plane_bench: Bench, ring: tuple[Address, ...], offload: bool = True) -> None:
    for dvipa in DVIPA.values():
        plane_bench.plane.set_service(dvipa, PORT, ring, offload)


@pytest.fixture
def four() -> Iterator[Bench]:
    with bench(str(OWN[4])) as made:
        made.plane.set_members(frozenset(TARGETS[4]))
        yield made
