"""The gap probe: segments that a stack accepts, and an account that is not fooled."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from dvipad.lab.gap_probe import ACK, RST, SYN, Probes, Segment, checksum, read_segment, syn

PORTS = (40001, 40002, 40003)
MS = 1_000_000
ports = st.integers(1, 65535)
sequences = st.integers(0, 2**32 - 1)


def answer(probe: tuple[int, int], flags: int = SYN | ACK, port: int = 7) -> Segment:
    return Segment(port, probe[0], (probe[1] + 1) % 2**32, flags)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.tuples(ports, ports), sequences)
def test_a_syn_is_as_scapy_would_write_it(
    source: IPv4Address, destination: IPv4Address, numbers: tuple[int, int], sequence: int
) -> None:
    segment = TCP(sport=numbers[0], dport=numbers[1], seq=sequence, flags="S", window=65535)
    packet = IP(src=str(source), dst=str(destination)) / segment
    assert syn(source, destination, numbers, sequence) == bytes(packet)[20:]


def test_the_kernel_completes_the_checksum_of_ip6() -> None:
    source, destination = ip_address("2001:db8::1"), ip_address("2001:db8::2")
    segment = syn(source, destination, (1, 2), 3)
    assert isinstance(source, IPv6Address) and len(segment) == 20
    assert struct.unpack_from("!HHI", segment) == (1, 2, 3)
    assert segment[13] == SYN and segment[16:18] == b"\0\0"


@given(st.binary(max_size=64))
def test_a_checksum_checks_itself(data: bytes) -> None:
    even = data + b"\0" * (len(data) % 2)
    assert checksum(even + struct.pack("!H", checksum(even))) == 0


@given(st.binary(max_size=80), st.sampled_from([4, 6]))
def test_any_bytes_are_read_or_passed_over(packet: bytes, version: int) -> None:
    segment = read_segment(packet, version)
    start = (packet[0] & 0x0F) * 4 if version == 4 and packet else 0
    assert (segment is None) == (len(packet) < start + 20)


def test_a_segment_is_found_behind_ip_options() -> None:
    header = struct.pack("!HHIIBBHHH", 7, 40001, 5, 6, 0x50, SYN | ACK, 0, 0, 0)
    assert read_segment(header, 6) == Segment(7, 40001, 6, SYN | ACK)
    assert read_segment(b"\x46" + bytes(23) + header, 4) == Segment(7, 40001, 6, SYN | ACK)


def test_a_gap_is_between_answers_whatever_was_sent_meanwhile() -> None:
    probes = Probes(PORTS, 7, 2**32 - 2)
    sent = [probes.next() for _ in range(5)]
    assert [port for port, _ in sent] == [40001, 40002, 40003, 40001, 40002]
    assert [sequence for _, sequence in sent] == [2**32 - 2, 2**32 - 1, 0, 1, 2]
    probes.received(answer(sent[0]), 10 * MS)
    probes.received(answer(sent[3]), 250 * MS)
    probes.received(answer(sent[4]), 255 * MS)
    assert (probes.sent, probes.answered, probes.gap_ns) == (5, 3, 240 * MS)
    assert probes.quiet_ns(300 * MS) == 45 * MS


def test_a_gap_that_is_on_goes_into_the_next_phase() -> None:
    probes = Probes(PORTS, 7, 0)
    sent = [probes.next() for _ in range(3)]
    probes.received(answer(sent[0]), 10 * MS)
    probes.begin()
    assert (probes.answered, probes.gap_ns) == (0, 0)
    probes.received(answer(sent[2]), 110 * MS)
    assert (probes.answered, probes.gap_ns) == (1, 100 * MS)


@pytest.mark.parametrize(
    "segment",
    [
        Segment(7, 40002, 101, SYN | ACK),  # the port of another probe
        Segment(8, 40001, 101, SYN | ACK),  # another server
        Segment(7, 40001, 100, SYN | ACK),  # acknowledges what was not sent
        Segment(7, 40002, 102, SYN | ACK),  # a probe that is still to come
        Segment(7, 40001, 101, ACK),
    ],
)
def test_what_does_not_answer_a_probe_does_not_end_a_gap(segment: Segment) -> None:
    probes = Probes(PORTS, 7, 100)
    probes.next()
    probes.received(segment, 5)
    assert (probes.answered, probes.refused, probes.last_ns) == (0, 0, 0)


def test_a_refusal_is_no_answer() -> None:
    probes = Probes(PORTS, 7, 100)
    probes.received(answer(probes.next(), RST | ACK), 5)
    assert (probes.answered, probes.refused, probes.last_ns) == (0, 1, 0)
