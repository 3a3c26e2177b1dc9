"""Tunnel headers, byte by byte: scapy makes packets, the kernel runs the program on them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dvipad.adapters.bpf.layout import TUNNEL_ID, Role, Tunnel
from tests.e2e.plane_network import DROP, PASS, PROGRAMMED, REDIRECT, Bench, bench, frame
from tests.e2e.plane_packets import (
    OWN,
    TARGETS,
    four,
    from_client,
    ip,
    key,
    own,
    serve,
    through_tunnel,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("tunnel", PROGRAMMED)
@pytest.mark.parametrize("outer", [4, 6])
def test_encapsulated_bytes(outer: int, tunnel: Tunnel) -> None:
    with bench(str(OWN[outer]), tunnel=tunnel) as made:
        own(made)
        serve(made, TARGETS[outer][:1])
        for inner in (4, 6):
            packet = frame(*from_client(inner, "S", tos=0xBB))
            result = made.run("ingress", packet)
            assert result.verdict == REDIRECT
            assert made.counted() == {"chosen": 1, "encapsulated": 1}
            protocol = {"proto" if outer == 4 else "nh": 4 if inner == 4 else 41}
            expected = ip(OWN[outer], TARGETS[outer][0], tos=0xBB, **protocol)
            if outer == 4:
                expected.id, expected.flags, expected.ttl = 0, "DF", 64
            if tunnel is Tunnel.GRE:
                expected = expected / GRE(proto=0x0800 if inner == 4 else 0x86DD)
                expected.setfieldval("proto" if outer == 4 else "nh", 47)
            assert result.packet[14:] == bytes(expected / Raw(packet[14:]))
            if inner != outer:  # else the kernel writes the neighbour's over what is there
                kind = 0x0800 if outer == 4 else 0x86DD
                assert result.packet[:14] == packet[:12] + kind.to_bytes(2, "big")


def vxlan(port: int = 4789, vni: int = TUNNEL_ID) -> list[Packet]:
    card = {"dst": "02:00:00:00:00:01", "src": "02:00:00:00:00:02"}
    return [UDP(sport=49152, dport=port), VXLAN(vni=vni, flags="Instance"), Ether(**card)]


@pytest.mark.parametrize(
    "middle",
    [[], [GRE()], [GRE(key_present=1, key=5)], vxlan()],
    ids=["ipip", "gre", "key", "vxlan"],
)
@pytest.mark.parametrize("outer", [4, 6])
def test_decapsulated_bytes(outer: int, middle: list[Packet]) -> None:
    with bench(str(OWN[outer])) as made:
        made.plane.set_members(frozenset(TARGETS[outer]))
        own(made, Role.HIDDEN)
        for inner in (4, 6):
            plain = from_client(inner, "S", tos=2)
            result = made.ingress(*through_tunnel([*middle, *plain], outer, False))
            assert result.verdict == PASS
            assert made.counted() == {"hidden_accepted": 1, "decapsulated": 1}
            assert result.packet == frame(*plain)
            result = made.ingress(*through_tunnel([*middle, *plain], outer, False, tos=3))
            assert result.packet == frame(*from_client(inner, "S", tos=3)), "congestion got lost"


def test_vxlan_for_another_target_is_readdressed_without_a_checksum() -> None:
    for outer in (4, 6):
        with bench(str(OWN[outer])) as made:
            made.plane.set_members(frozenset(TARGETS[outer]))
            own(made)
            made.plane.insert_connections(TARGETS[outer][1], key(4), b"")
            limit = "ttl" if outer == 4 else "hlim"
            middle, inner = vxlan(), from_client(4, "A")
            came = through_tunnel([*middle, *inner], outer, False, **{limit: 9})
            assert made.ingress(*came).verdict == REDIRECT
            left = ip(OWN[outer], TARGETS[outer][1], **{limit: 8})
            middle[0].chksum = 0
            assert made.run("ingress", frame(*came)).packet == frame(left, *middle, *inner)


def test_a_tunnel_packet_for_another_target_is_readdressed() -> None:
    for outer in (4, 6):
        with bench(str(OWN[outer])) as made:
            made.plane.set_members(frozenset(TARGETS[outer]))
            own(made)
            made.plane.insert_connections(TARGETS[outer][1], key(4), b"")
            inner = from_client(4, "A")
            limit: Any = {"ttl" if outer == 4 else "hlim": 9}
            result = made.ingress(*through_tunnel(inner, outer, False, **limit))
            assert (result.verdict, made.counted()) == (
                REDIRECT,
                {"hit_established": 1, "relayed": 1},
            )
            left = {"ttl" if outer == 4 else "hlim": 8}
            assert result.packet == frame(ip(OWN[outer], TARGETS[outer][1], **left), *inner)
            limit = {"ttl" if outer == 4 else "hlim": 1}
            assert made.ingress(*through_tunnel(inner, outer, True, **limit)).verdict == DROP
            assert made.counted() == {"hit_established": 1, "tunnel_loop": 1}


def test_tunnels_of_strangers_and_of_others(four: Bench) -> None:
    own(four, Role.HIDDEN)
    plain = from_client(4, "S")
    stranger = ip_address("192.0.2.77")
    assert four.ingress(*through_tunnel(plain, 4, False, stranger)).verdict == DROP
    assert four.counted() == {"tunnel_stranger": 1}
    elsewhere = [IP(src="203.0.113.9", dst="198.51.100.99"), TCP()]
    assert four.ingress(*through_tunnel(elsewhere, 4, True, stranger)).verdict == PASS
    assert four.counted() == {}, "the host may have tunnels of its own"
    header = ip(TARGETS[4][0], OWN[4])
    numbered = four.ingress(header, GRE(seqnum_present=1, sequence_number=5), *plain)
    assert (numbered.verdict, four.counted()) == (PASS, {"tunnel_malformed": 1})
    strange = [IP(src=str(stranger), dst=str(OWN[4])), *vxlan(), *plain]
    assert (four.ingress(*strange).verdict, four.counted()) == (DROP, {"tunnel_stranger": 1})
    for others in (vxlan(port=4790), vxlan(vni=1), [UDP(dport=4789)]):
        assert four.ingress(header, *others, *plain).verdict == PASS
        assert four.counted() == {}
    fragment = four.ingress(IP(src=header.src, dst=header.dst, flags="MF", proto=4), *plain)
    assert (fragment.verdict, four.counted()) == (PASS, {"tunnel_malformed": 1})
