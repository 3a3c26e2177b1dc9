"""Who answers for a DVIPA on the link; and the MSS that it offers."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from dvipad.adapters.bpf.layout import Role
from dvipad.address import Address
from tests.e2e.dvs_network import inside
from tests.e2e.plane_network import DROP, PASS, PEER_MAC, Bench, frame
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    PORT,
    four,
    ip,
    own,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e


# Neighbours


def arp(target: Address) -> bytes:
    request = ARP(op=1, psrc="192.0.2.9", hwsrc=PEER_MAC, pdst=str(target))
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER_MAC) / request)


def solicitation(target: Address) -> bytes:
    return frame(IPv6(src="fe80::9", dst="ff02::1:ff00:1"), ICMPv6ND_NS(tgt=str(target)))


@pytest.mark.parametrize("version", [4, 6])
def test_who_answers_for_a_dvipa(four: Bench, version: int) -> None:
    ask = arp if version == 4 else solicitation
    hidden = "arp_hidden" if version == 4 else "ndp_hidden"
    for role in (Role.HIDDEN, Role.MOVING):
        own(four, role)
        assert four.run("ingress", ask(DVIPA[version])).verdict == DROP
        assert four.counted() == {hidden: 1}
        assert four.run("ingress", ask(OWN[version])).verdict == PASS
        assert four.counted() == {}
    own(four, quiet=True)
    assert four.run("ingress", ask(DVIPA[version])).verdict == DROP
    assert four.counted() == {hidden: 1}
    own(four)
    assert four.run("ingress", ask(DVIPA[version])).verdict == PASS
    four.plane.renew_lease(time.monotonic_ns() - 1)
    assert four.run("ingress", ask(DVIPA[version])).verdict == DROP
    assert four.counted() == {"lease_lapsed": 1}


def egress_arp(sender: Address, ifindex: int) -> tuple[bytes, bytes]:
    layer = ARP(op=1, psrc=str(sender), hwsrc=PEER_MAC, pdst="192.0.2.9")
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER_MAC) / layer), struct.pack(
        "=10I", *([0] * 9), 0
    ) + struct.pack("=I", ifindex)


def test_arp_requests_do_not_name_a_hidden_dvipa(four: Bench) -> None:
    with inside(four.netns):
        ifindex = socket.if_nametoindex("up0")
    packet, context = egress_arp(DVIPA[4], ifindex)
    own(four)
    assert four.run("arp", packet, context).packet == packet
    for role, quiet in ((Role.HIDDEN, False), (Role.MOVING, False), (Role.OWNER, True)):
        own(four, role, quiet=quiet)
        result = four.run("arp", packet, context)
        assert result.verdict == PASS
        assert result.packet == egress_arp(OWN[4], ifindex)[0]
        assert four.counted() == {"arp_rewritten": 1}


# MSS


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize("before", [[], [("NOP", None)], [("SAckOK", b""), ("Timestamp", (1, 2))]])
def test_mss_is_clamped(four: Bench, version: int, flags: str, before: list[object]) -> None:
    own(four, Role.HIDDEN)
    fits = 1436 if version == 4 else 1416

    def offer(mss: int) -> bytes:
        options = [*before, ("MSS", mss), ("WScale", 7)]
        tcp = TCP(sport=PORT, dport=1000, flags=flags, options=options)
        return frame(ip(DVIPA[version], CLIENT[version]), tcp)

    result = four.run("egress", offer(1460))
    assert (result.verdict, result.packet) == (PASS, offer(fits)), "the checksum included"
    assert four.counted() == {"mss_clamped": 1}
    assert four.run("egress", offer(500)).packet == offer(500)
    assert four.counted() == {}


def test_mss_of_others_and_broken_options_stay(four: Bench) -> None:
    own(four)
    other = frame(
        ip(OWN[4], CLIENT[4]), TCP(sport=PORT, dport=1000, flags="S", options=[("MSS", 1460)])
    )
    assert four.run("egress", other).packet == other
    for options in (b"\x03\x00\x02\x04\x05\xb4", b"\x00\x02\x04\x05\xb4", b"\xff\xff\x02\x04"):
        tcp = TCP(sport=PORT, dport=1000, flags="S", dataofs=5 + (len(options) + 3) // 4)
        broken = frame(ip(DVIPA[4], CLIENT[4]), tcp, Raw(options.ljust(8, b"\0")))
        assert four.run("egress", broken).packet == broken
