"""Subnets and reports of binds: what is in a range, what counts as new."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.bind_events import Reports, Subnets
from dvipad.address import Address, pack
from dvipad.core.inputs import AddressesBound

A, B = ip_address("192.0.2.1"), ip_address("2001:db8::1")
ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Address, int]:
    network = draw(ADDRESSES)
    return network, draw(st.integers(0, network.max_prefixlen))


@given(st.frozensets(ranges(), max_size=5), ADDRESSES)
def test_an_address_is_in_a_range_as_ipaddress_has_it(
    some: frozenset[tuple[Address, int]], address: Address
) -> None:
    naive = any(address in ip_network(row, strict=False) for row in some)
    mapped = address.version == 6 and address.ipv4_mapped is not None
    assert mapped or (pack(address) in Subnets(some)) == (
        naive
        or any(network.version == 6 and _covers_mapped(network, n, address) for network, n in some)
    )


def _covers_mapped(network: Address, length: int, address: Address) -> bool:
    """An IPv6 range so wide that it has the mapped IPv4 addresses, too."""
    return int.from_bytes(pack(address), "big") >> (128 - length) == int(network) >> (128 - length)


def test_a_host_of_a_subnet_names_the_subnet() -> None:
    subnets = Subnets(frozenset({(ip_address("192.0.2.77"), 24)}))
    assert pack(A) in subnets
    assert pack(ip_address("192.0.3.1")) not in subnets


def test_changes_are_reported_once() -> None:
    reports = Reports()
    assert reports.compare([]) == []
    one = [(pack(A), 5)]
    assert reports.compare(one) == [AddressesBound(((A, 5),))]
    assert reports.compare(one) == []
    assert reports.compare([*one, (pack(B), 6)]) == [AddressesBound(((A, 5), (B, 6)))]
    assert reports.compare([(pack(B), 6)]) == [AddressesBound(((B, 6),))]
    reports.again()
    assert reports.compare([(pack(B), 6)]) == [AddressesBound(((B, 6),))]
    assert reports.compare([(pack(B), 6)]) == []


def test_the_end_of_the_latest_socket_is_no_new_bind() -> None:
    reports = Reports()
    reports.compare([(pack(A), 5), (pack(A), 9)])
    assert reports.compare([(pack(A), 5)]) == []
    assert reports.compare([(pack(A), 5), (pack(A), 12)]) == [AddressesBound(((A, 12),))]
