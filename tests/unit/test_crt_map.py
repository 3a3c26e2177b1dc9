"""Keys of the CRT, short in the map of IPv4 connections."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.bpf.crt_map import SHORT, is_short, lengthen, shorten
from dvipad.adapters.bpf.layout import connection_key

addresses = st.ip_addresses(v=4)
ports = st.integers(0, 65535)
connections = st.tuples(addresses, ports, addresses, ports)


@given(st.lists(connections))
def test_short_keys_are_long_ones_again(
    known: list[tuple[IPv4Address, int, IPv4Address, int]],
) -> None:
    keys = [connection_key(*each) for each in known]
    assert all(is_short(key) and len(shorten(key)) == SHORT for key in keys)
    assert lengthen(b"".join(map(shorten, keys))) == b"".join(keys)


@given(st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped), ports)
def test_keys_of_ipv6_are_long(client: IPv4Address, port: int) -> None:
    assert not is_short(connection_key(client, port, client, port))
