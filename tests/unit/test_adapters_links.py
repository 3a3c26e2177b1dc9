"""Messages of rtnetlink, as the kernel writes them."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.links import filters_removed, links, neighbours_asked, withdrawal

LOWER_UP = 0x10000
INCOMPLETE, REACHABLE = 1, 2


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(index: int, flags: int) -> bytes:
    return message(16, struct.pack("=BxHiII", 0, 1, index, flags, 0) + b"\x08\x00\x03\x00eth0")


def neighbour(index: int, state: int, address: str) -> bytes:
    packed = ip_address(address).packed
    family = AF_INET if len(packed) == 4 else AF_INET6
    attributes = struct.pack("=HH", 8, 8) + bytes(4) + struct.pack("=HH", 4 + len(packed), 1)
    return message(28, struct.pack("=BxxxiHBB", family, index, state, 0, 1) + attributes + packed)


def test_the_carrier_of_each_link_is_read() -> None:
    data = link(3, LOWER_UP | 1) + neighbour(3, REACHABLE, "192.0.2.1") + link(4, 1)
    assert list(links(data)) == [(3, True), (4, False)]


def test_filters_that_somebody_removed_are_told_from_new_ones() -> None:
    body = struct.pack("=BxxxiIII", 0, 7, 0, 0, 0)
    data = message(44, body) + link(3, LOWER_UP) + message(45, body) + message(37, body)
    assert list(filters_removed(data)) == [7, 7]


def test_only_neighbours_that_have_not_answered_are_asked_again() -> None:
    data = (
        neighbour(3, INCOMPLETE, "192.0.2.1")
        + neighbour(3, REACHABLE, "192.0.2.2")
        + neighbour(4, INCOMPLETE, "192.0.2.3")
        + neighbour(3, INCOMPLETE, "2001:db8::1")
    )
    assert list(neighbours_asked(data, 3)) == [
        (AF_INET, ip_address("192.0.2.1").packed),
        (AF_INET6, ip_address("2001:db8::1").packed),
    ]


def test_a_withdrawal_names_the_neighbour() -> None:
    address = ip_address("192.0.2.1").packed
    sent = withdrawal(AF_INET, 3, address)
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", sent)
    assert (length, kind, flags) == (len(sent), 29, 1)
    assert sent.endswith(address)


@given(st.binary(max_size=200))
def test_what_is_cut_off_is_left_out(data: bytes) -> None:
    list(links(data))
    list(neighbours_asked(data, 3))
    list(filters_removed(data))
