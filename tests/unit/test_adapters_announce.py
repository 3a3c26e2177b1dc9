"""The frames that announce a DVIPA, read back by scapy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from dvipad.adapters.announce import advertisement_frame, arp_frames, frames

MACS = st.binary(min_size=6, max_size=6)


@given(MACS, st.ip_addresses(v=4))
def test_gratuitous_arp_in_both_forms(mac: bytes, dvipa: IPv4Address) -> None:
    for frame, operation in zip(arp_frames(mac, dvipa), (1, 2), strict=True):
        parsed = Ether(frame)
        assert parsed.dst == "ff:ff:ff:ff:ff:ff"
        assert parsed.src == mac.hex(":")
        arp = parsed[ARP]
        assert (arp.op, arp.psrc, arp.pdst) == (operation, str(dvipa), str(dvipa))
        assert arp.hwsrc == mac.hex(":")


@given(MACS, st.ip_addresses(v=6))
def test_unsolicited_advertisement(mac: bytes, dvipa: IPv6Address) -> None:
    parsed = Ether(advertisement_frame(mac, dvipa))
    assert (parsed.dst, parsed.src) == ("33:33:00:00:00:01", mac.hex(":"))
    ip = parsed[IPv6]
    assert (IPv6Address(ip.src), ip.dst, ip.hlim) == (dvipa, "ff02::1", 255)
    advertisement = ip[ICMPv6ND_NA]
    assert (advertisement.R, advertisement.S, advertisement.O) == (0, 0, 1)
    assert IPv6Address(advertisement.tgt) == dvipa
    assert advertisement[ICMPv6NDOptDstLLAddr].lladdr == mac.hex(":")
    sent = advertisement.cksum
    del advertisement.cksum
    assert IPv6(bytes(ip))[ICMPv6ND_NA].cksum == sent


def test_families_mix() -> None:
    made = frames(bytes(6), [IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")])
    assert [frame[12:14] for frame in made] == [b"\x08\x06", b"\x08\x06", b"\x86\xdd"]
