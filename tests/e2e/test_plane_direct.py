"""Established connections need no tunnel to a target on the same link; all else does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dvipad.adapters.bpf.layout import FRONT_MAX, FrontKind, Role, Tunnel, link_address
from tests.e2e import plane_lan
from tests.e2e.dvs_network import run
from tests.e2e.plane_lan import Lan, exchange, lan, xcf
from tests.e2e.plane_network import (
    DROP,
    OWN_MAC,
    PASS,
    PEER_MAC,
    REDIRECT,
    TUNNELS,
    Bench,
    bench,
    frame,
)
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    SEGMENTS,
    TARGETS,
    from_client,
    ip,
    key,
    own,
    serve,
)

pytestmark = pytest.mark.e2e
MEGABYTE = random.Random(1).randbytes(1 << 20)
STRANGER_MAC = "02:00:00:00:00:08"


@pytest.fixture
def direct() -> Iterator[Bench]:
    """A node whose targets and members are on its link; one of them has PEER_MAC."""
    with bench(str(OWN[4]), direct=True) as made:
        neighbour = f"{TARGETS[4][0]} lladdr {PEER_MAC} dev up0"
        run(*f"ip -n {made.netns} neigh add {neighbour}".split())
        made.plane.set_members(frozenset(TARGETS[4]))
        yield made


def known(made: Bench) -> None:
    own(made)
    serve(made, TARGETS[4])
    made.plane.insert_connections(TARGETS[4][1], key(4), b"")


def ways(made: Bench, packet: bytes) -> list[tuple[int, bytes, bytes, dict[str, int]]]:
    """What becomes of a packet the short way, and the long way."""
    row, seen = made.plane._front._rows[int(DVIPA[4]) % FRONT_MAX], []
    for kind in (row.kind, FrontKind.LONG_WAY):
        was, row.kind = row.kind, kind
        made.plane.insert_connections(TARGETS[4][1], key(4), b"")  # as if none had closed it
        result = made.run("ingress", packet)
        seen.append((result.verdict, result.packet, result.context[8:12], made.counted()))
        row.kind = was
    return seen


def test_it_stays_as_it_came_but_for_a_hop(direct: Bench) -> None:
    known(direct)
    packet = frame(*from_client(4, "PA", ttl=9, tos=0xB8))
    for verdict, sent, _mark, counted in ways(direct, packet):
        assert (verdict, counted) == (REDIRECT, {"hit_established": 1, "direct": 1})
        assert bytes(sent[34:]) == packet[34:]
        header = IP(bytes(sent[14:34]))
        assert (header.ttl, header.src, header.dst) == (8, str(CLIENT[4]), str(DVIPA[4]))
        check, header.chksum = header.chksum, None
        assert IP(bytes(header)).chksum == check


def test_a_full_packet_fits_that_no_tunnel_carries(direct: Bench) -> None:
    known(direct)
    header, tcp, _ = from_client(4, "A")
    packet = frame(header, tcp, Raw(bytes(1460)))
    assert [(verdict, c) for verdict, _, _, c in ways(direct, packet)] == [
        (REDIRECT, {"hit_established": 1, "direct": 1})
    ] * 2


@pytest.mark.parametrize("ttl", [0, 1])
def test_the_last_hop_is_taken_through_the_tunnel(direct: Bench, ttl: int) -> None:
    known(direct)
    for verdict, _, _, counted in ways(direct, frame(*from_client(4, "A", ttl=ttl))):
        assert (verdict, counted) == (REDIRECT, {"hit_established": 1, "encapsulated": 1})


def test_requests_and_handshakes_take_the_tunnel(direct: Bench) -> None:
    own(direct)
    serve(direct, TARGETS[4])
    assert direct.ingress(*from_client(4, "S")).verdict == REDIRECT
    assert direct.counted() == {"chosen": 1, "encapsulated": 1}
    assert direct.ingress(*from_client(4, "A")).verdict == REDIRECT
    assert direct.counted() == {"hit_embryonic": 1, "promoted": 1, "encapsulated": 1}
    for flags in ("A", "FA", "RA"):
        assert direct.ingress(*from_client(4, flags)).verdict == REDIRECT
        assert direct.counted() == {"hit_established": 1, "direct": 1}


def test_a_target_behind_a_router_is_reached_through_the_tunnel(direct: Bench) -> None:
    far = ip_address("10.9.9.9")
    run(*f"ip -n {direct.netns} route add {far} via 192.0.2.77".split())
    own(direct)
    direct.plane.insert_connections(far, key(4), b"")
    assert direct.ingress(*from_client(4, "A")).verdict == REDIRECT
    assert direct.counted() == {"hit_established": 1, "encapsulated": 1}


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(role=st.sampled_from([Role.OWNER, Role.HIDDEN]), **SEGMENTS)
def test_no_packet_tells_the_ways_apart(
    direct: Bench,
    tos: int,
    ttl: int,
    flags: str,
    payload: int,
    mangled: tuple[int, int] | None,
    role: Role,
) -> None:
    known(direct)
    direct.plane.purge_dvipa(DVIPA[4])
    direct.plane.set_dvipa(DVIPA[4], role, 1)
    header, tcp, _ = from_client(4, flags, tos=tos, ttl=ttl)
    packet = bytearray(frame(header, tcp, Raw(bytes(payload))))
    if mangled is not None:
        packet[mangled[0]] = mangled[1]
    short, long = ways(direct, bytes(packet))
    if not packet[47] & 0x02:  # a SYN moves the ring on
        assert short == long


def hidden(flags: str, mac: str, client: object = CLIENT[4]) -> bytes:
    tcp, data = from_client(4, flags)[1:]
    header = ip(ip_address(str(client)), DVIPA[4])
    return bytes(Ether(dst=OWN_MAC, src=mac) / header / tcp / data)


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R"])
def test_a_target_knows_what_a_member_forwarded(direct: Bench, flags: str) -> None:
    own(direct, Role.HIDDEN)
    for packet, verdict, counted in (
        (hidden(flags, PEER_MAC), PASS, {"hidden_direct": 1}),
        (hidden(flags, STRANGER_MAC), DROP, {"hidden_stray": 1}),
        (hidden(flags, PEER_MAC, TARGETS[4][0]), DROP, {"hidden_stray": 1}),
        (hidden("S", PEER_MAC), DROP, {"hidden_stray": 1}),
    ):
        for got, sent, _mark, counts in ways(direct, packet):
            assert (got, counts) == (verdict, counted)
            assert sent == packet


def test_members_cards_are_followed(direct: Bench) -> None:
    peers = direct.plane._maps["peers"]
    macs = {PEER_MAC: True, STRANGER_MAC: False}
    for _ in range(2):
        for mac, here in macs.items():
            assert (peers.lookup(link_address(bytes.fromhex(mac.replace(":", "")))) is None) != here
        change = f"{TARGETS[4][0]} lladdr {STRANGER_MAC} dev up0"
        run(*f"ip -n {direct.netns} neigh replace {change}".split())
        direct.plane.refresh_routes()
        macs = {PEER_MAC: False, STRANGER_MAC: True}
    direct.plane.set_members(frozenset())
    assert list(peers.items()) == []


def test_members_of_the_other_version_have_no_tunnel(direct: Bench) -> None:
    direct.plane.set_members(frozenset({TARGETS[4][0], TARGETS[6][0]}))
    assert set(direct.plane.tunnel_mtus()) == {TARGETS[4][0]}
    assert set(direct.plane._members.mtus) == {TARGETS[4][0]}


def node_pair(net: Lan, outer: int) -> None:
    plane = net.node(1, Role.OWNER)
    for dvipa in plane_lan.DVIPA.values():
        plane.set_service(dvipa, plane_lan.PORT, (xcf(2, outer),), offload=True)
    net.node(2, Role.HIDDEN).set_members(frozenset({xcf(1, outer)}))
    net.serve(2)


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
def test_real_connections_carry_data(tunnel: Tunnel, outer: int, inner: int) -> None:
    with lan(outer, tunnel=tunnel, direct=True) as net:
        node_pair(net, outer)
        assert exchange(net.connect(inner), MEGABYTE) == 2
        sent, received = net.planes[1].counters(), net.planes[2].counters()
        assert sent["direct"] == received["hidden_direct"]
        assert received["hidden_stray"] == received["decapsulation_failed"] == 0
        if inner == outer:
            assert sent["direct"] > sent["encapsulated"]
        else:  # a next hop of the other family is not one that the packet has
            assert sent["direct"] == 0


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_known_without_the_members_card(version: int) -> None:
    with lan(version, direct=True) as net:
        node_pair(net, version)
        peers = net.planes[2]._maps["peers"]
        for key_of, _value in list(peers.items()):
            peers.delete(key_of)
        assert exchange(net.connect(version), MEGABYTE) == 2
        assert net.planes[2].counters()["hidden_direct"] == net.planes[1].counters()["direct"] > 0
