"""Frames that ask for an address and those that answer, against scapy; the filter, interpreted."""

from __future__ import annotations

import struct
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from dvipad.adapters.announce import frames
from dvipad.adapters.probe_frames import (
    MAX_ADDRESSES,
    Claim,
    claims_of,
    every_claim,
    probe_frame,
    read_claim,
)
from dvipad.address import Address

MACS = st.binary(min_size=6, max_size=6)
ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
OUTGOING, HERE = 4, 0


def accepts(program: bytes, frame: bytes, *, kind: int = HERE, vlan: bool = False) -> bool:
    """What the kernel makes of a classic BPF program, as far as these use it."""
    auxiliary = {0xFFFF_F000 + 4: kind, 0xFFFF_F000 + 48: int(vlan)}
    sizes = {0x20: 4, 0x28: 2, 0x30: 1}
    code = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation in sizes:
            end = k + sizes[operation]
            if k not in auxiliary and end > len(frame):
                return False
            value = auxiliary[k] if k in auxiliary else int.from_bytes(frame[k:end], "big")
        elif operation == 0x15:
            at += if_true if value == k else if_false
        elif operation == 0x05:
            at += k
        else:
            assert operation == 0x06
            return bool(k)


def arp(sender: str, target: str, mac: bytes, operation: str = "is-at") -> bytes:
    return bytes(Ether() / ARP(op=operation, psrc=sender, pdst=target, hwsrc=mac.hex(":")))


def advertisement(target: str, mac: bytes, hops: int = 255) -> bytes:
    return bytes(Ether(src=mac.hex(":")) / IPv6(hlim=hops) / ICMPv6ND_NA(tgt=target))


@given(MACS, st.ip_addresses(v=4))
def test_an_arp_probe_names_no_sender(mac: bytes, address: IPv4Address) -> None:
    parsed = Ether(probe_frame(mac, address))
    assert (parsed.dst, parsed.src) == ("ff:ff:ff:ff:ff:ff", mac.hex(":"))
    asked = parsed[ARP]
    assert (asked.op, asked.psrc, asked.pdst) == (1, "0.0.0.0", str(address))
    assert (asked.hwsrc, asked.hwdst) == (mac.hex(":"), "00:00:00:00:00:00")


@given(MACS, st.ip_addresses(v=6))
def test_a_solicitation_comes_from_nowhere(mac: bytes, address: IPv6Address) -> None:
    parsed = Ether(probe_frame(mac, address))
    ip = parsed[IPv6]
    assert (ip.src, ip.hlim) == ("::", 255)
    assert (
        IPv6Address(ip.dst).packed
        == bytes.fromhex("ff0200000000000000000001ff") + (address.packed[-3:])
    )
    assert parsed.dst == "33:33:ff:" + address.packed[-3:].hex(":")
    assert IPv6Address(ip[ICMPv6ND_NS].tgt) == address
    sent = ip[ICMPv6ND_NS].cksum
    del ip[ICMPv6ND_NS].cksum
    assert IPv6(bytes(ip))[ICMPv6ND_NS].cksum == sent


@given(MACS, ADDRESSES)
def test_what_we_send_is_read_back(mac: bytes, address: Address) -> None:
    assert read_claim(probe_frame(mac, address)) == Claim(address, mac, probing=True)
    for frame in frames(mac, [address]):
        claim = read_claim(frame)
        if int(address):
            assert claim == Claim(address, mac)


@given(MACS)
def test_answers_are_claims(mac: bytes) -> None:
    address4, address6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
    assert read_claim(arp("192.0.2.1", "0.0.0.0", mac)) == Claim(address4, mac)
    assert read_claim(arp("192.0.2.1", "192.0.2.7", mac, "who-has")) == Claim(address4, mac)
    assert read_claim(advertisement("2001:db8::1", mac)) == Claim(address6, mac)
    assert read_claim(advertisement("2001:db8::1", mac, hops=254)) is None
    question = IPv6(src="fe80::1", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::1")
    assert read_claim(bytes(Ether() / question)) is None


@given(st.binary(max_size=100))
def test_nothing_is_too_strange_to_read(frame: bytes) -> None:
    read_claim(frame)
    read_claim(frame[:12] + b"\x08\x06" + frame[12:])
    read_claim(frame[:12] + b"\x86\xdd" + frame[12:])


@given(st.lists(ADDRESSES, max_size=40), ADDRESSES.filter(int), MACS)
def test_the_filter_lets_pass_what_is_about_its_addresses(
    wanted: Collection[Address], other: Address, mac: bytes
) -> None:
    program = claims_of(wanted)
    last_words = {int(each) & 0xFFFF_FFFF for each in wanted if each.version == 6}
    for address in filter(int, (*wanted, other)):
        known = address in wanted
        if address.version == 6:
            known = int(address) & 0xFFFF_FFFF in last_words
        assert all(accepts(program, frame) == known for frame in frames(mac, [address]))


@given(ADDRESSES.filter(int), MACS)
def test_who_asks_hears_claims_and_probes_of_others(address: Address, mac: bytes) -> None:
    program = every_claim()
    for frame in (probe_frame(mac, address), *frames(mac, [address])):
        assert accepts(program, frame)
        assert not accepts(program, frame, kind=OUTGOING)
        assert not accepts(program, frame, vlan=True)
    assert not accepts(claims_of([address]), probe_frame(mac, address))


def test_ordinary_traffic_wakes_nobody() -> None:
    strange = [
        bytes(Ether(type=0x0800)) + bytes(60),
        bytes(Ether() / IPv6(src="2001:db8::1", nh=6)) + bytes(40),
        bytes(Ether() / IPv6(src="fe80::1") / ICMPv6ND_NS(tgt="2001:db8::1")),
    ]
    for program in (every_claim(), claims_of([ip_address("2001:db8::1")])):
        assert not any(accepts(program, frame) for frame in strange)


def test_the_filter_has_limits() -> None:
    most: list[Address] = [IPv4Address(1 + i) for i in range(MAX_ADDRESSES)]
    most += [IPv6Address(1 + i) for i in range(MAX_ADDRESSES)]
    program = claims_of(most)
    assert len(program) // 8 <= 4096
    assert all(accepts(program, frames(bytes(6), [each])[-1]) for each in (most[0], most[-1]))
    with pytest.raises(ValueError, match="too many"):
        claims_of([*most, IPv4Address(0x7FFF_FFFF)])
