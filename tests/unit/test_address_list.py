"""Messages of rtnetlink that list addresses."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.address_list import Listed, parse
from dvipad.adapters.bpf.rtnetlink import attribute
from dvipad.address import Address

LOCAL, ADDRESS, LABEL, METRIC, PROTOCOL = 2, 1, 3, 9, 11


def message(address: Address, index: int, *rows: bytes) -> bytes:
    family = 2 if address.version == 4 else 10
    return struct.pack("=BBBBI", family, address.max_prefixlen, 0, 0, index) + b"".join(rows)


@given(st.ip_addresses(), st.integers(1, 2**31), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_what_the_kernel_says_is_read(
    address: Address, index: int, protocol: int, metric: int
) -> None:
    rows = (
        attribute(ADDRESS, address.packed),
        attribute(LABEL, b"lo\0"),
        attribute(METRIC, struct.pack("=I", metric)),
        attribute(PROTOCOL, bytes([protocol])),
    )
    assert parse(message(address, index, *rows)) == Listed(address, index, protocol, metric)


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1"])
def test_an_address_without_a_protocol_is_nobodys(text: str) -> None:
    address = ip_address(text)
    row = parse(message(address, 1, attribute(ADDRESS, address.packed)))
    assert (row.protocol, row.metric) == (0, 0)


def test_the_local_end_counts() -> None:
    """IFA_ADDRESS is the other end on a point-to-point interface."""
    rows = attribute(ADDRESS, IPv4Address("192.0.2.2").packed), attribute(LOCAL, bytes(3) + b"\1")
    assert parse(message(IPv4Address(0), 7, *rows)) == Listed(IPv4Address("0.0.0.1"), 7, 0, 0)
    assert parse(message(IPv6Address(0), 7, attribute(ADDRESS, bytes(16)))).address.version == 6
