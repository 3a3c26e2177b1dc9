"""The short way decides as the long way does, to the last byte; and is taken."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption_NOP
from scapy.packet import Raw

from dvipad.adapters.bpf.counting import COUNTERS
from dvipad.adapters.bpf.layout import FRONT_MAX, FrontKind, Role, index_key
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.address import Address
from tests.e2e import plane_lan
from tests.e2e.plane_lan import exchange, lan, xcf
from tests.e2e.plane_network import DROP, PASS, REDIRECT, Bench, frame
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    SEGMENTS,
    TARGETS,
    four,
    from_client,
    key,
    own,
    serve,
    through_tunnel,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e

Seen = tuple[int, bytes, bytes, dict[str, int]]


def short_ways(plane: DataPlane) -> int:
    """How many packets took it."""
    hidden = plane._maps["counters"].lookup(index_key(COUNTERS.index("fast_hidden")))
    assert hidden is not None
    forwarded = sum(ways["fast"].packets for ways in plane.traffic().values())
    return forwarded + sum(memoryview(hidden).cast("Q"))


def kinds(plane: DataPlane, dvipa: Address = DVIPA[4]) -> Any:
    return plane._front._rows[int(dvipa) % FRONT_MAX]


def both_ways(made: Bench, packet: bytes) -> tuple[Seen, Seen, int]:
    """What becomes of a packet the short way and the long way; how often the short was taken."""
    row, seen = kinds(made.plane), []
    before = short_ways(made.plane)
    for kind in (row.kind, FrontKind.LONG_WAY):
        was, row.kind = row.kind, kind
        result = made.run("ingress", packet)
        mark = result.context[8:12]
        seen.append((result.verdict, result.packet, mark, made.counted()))
        row.kind = was
    return seen[0], seen[1], short_ways(made.plane) - before


def known(made: Bench) -> None:
    own(made)
    serve(made, TARGETS[4])
    made.plane.insert_connections(TARGETS[4][1], key(4), b"")


def test_an_established_connection_takes_the_short_way(four: Bench) -> None:
    known(four)
    for flags in ("A", "PA", "AU"):
        short, long, taken = both_ways(four, frame(*from_client(4, flags, tos=0xB8)))
        assert short == long
        assert short[0] == REDIRECT
        assert taken == 1
        header = IP(short[1][14:])
        assert (header.src, header.dst, header.tos) == (str(OWN[4]), str(TARGETS[4][1]), 0xB8)
        check = header.chksum
        del header.chksum
        assert IP(bytes(header)).chksum == check


def test_large_frames_take_it_in_and_out() -> None:
    data = bytes(1 << 20)
    with lan(4) as net:
        plane = net.node(1, Role.OWNER)
        plane.set_service(plane_lan.DVIPA[4], plane_lan.PORT, (xcf(2, 4),), offload=True)
        target = net.node(2, Role.HIDDEN)
        target.set_members(frozenset({xcf(1, 4)}))
        net.serve(2)
        assert exchange(net.connect(4), data) == 2
        packets = plane.counters()["encapsulated"]
        assert packets < len(data) // 1400 // 2, "large frames were cut up"
        first_and_last = 4  # SYN, its ACK, FIN, and what repeats one of them
        assert short_ways(plane) >= packets - first_and_last
        assert short_ways(target) == target.counters()["decapsulated"] == packets


def hidden(made: Bench) -> None:
    own(made, Role.HIDDEN)
    made.plane.set_members(frozenset(TARGETS[4]))


def test_a_target_takes_it_out_of_a_tunnel(four: Bench) -> None:
    hidden(four)
    for flags in ("S", "A", "PA", "FA", "R"):
        packet = frame(*through_tunnel(from_client(4, flags), 4, False))
        short, long, taken = both_ways(four, packet)
        assert short == long
        assert (short[0], taken) == (PASS, 1)
        assert IP(short[1][14:]).dst == str(DVIPA[4])
    stranger = frame(*through_tunnel(from_client(4, "A"), 4, False, IPv4Address("192.0.2.99")))
    short, long, taken = both_ways(four, stranger)
    assert short == long
    assert (short[0], taken) == (DROP, 0)


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    outer_tos=st.integers(0, 255),
    flags=st.sampled_from(["S", "A", "PA", "FA", "R", ""]),
    payload=st.integers(0, 1400),
    mangled=st.one_of(st.none(), st.tuples(st.integers(14, 73), st.integers(0, 255))),
)
@example(outer_tos=0, flags="S", payload=0, mangled=(17, 0))  # an outer length of nothing
def test_no_tunnelled_packet_tells_the_ways_apart(
    four: Bench, outer_tos: int, flags: str, payload: int, mangled: tuple[int, int] | None
) -> None:
    hidden(four)
    packet = bytearray(frame(*through_tunnel(from_client(4, flags), 4, False), Raw(bytes(payload))))
    packet[15] = outer_tos
    if mangled is not None:
        packet[mangled[0]] = mangled[1]
    short, long, _ = both_ways(four, bytes(packet))
    assert short == long


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**SEGMENTS)
def test_no_packet_tells_the_ways_apart(
    four: Bench,
    tos: int,
    ttl: int,
    flags: str,
    payload: int,
    mangled: tuple[int, int] | None,
) -> None:
    known(four)  # what a FIN or RST marks is entered anew
    four.plane.purge_dvipa(DVIPA[4])
    header, tcp, _ = from_client(4, flags, tos=tos, ttl=ttl)
    packet = bytearray(frame(header, tcp, Raw(bytes(payload))))
    if mangled is not None:
        packet[mangled[0]] = mangled[1]
    seen = []
    for _ in range(2):
        four.plane.insert_connections(TARGETS[4][1], key(4), b"")
        seen.append(both_ways(four, bytes(packet))[:2])
    (short, _), (_, long) = seen
    if not packet[47] & 0x02:  # a SYN moves the ring on
        assert short == long


@pytest.mark.parametrize("role", [Role.HIDDEN, Role.MOVING, Role.OWNER])
def test_only_what_is_forwarded_takes_it(four: Bench, role: Role) -> None:
    known(four)
    four.plane.set_dvipa(DVIPA[4], role, 2)
    short, long, taken = both_ways(four, frame(*from_client(4, "A")))
    assert short == long
    assert taken == (role is not Role.HIDDEN)


def test_options_are_for_the_long_way(four: Bench) -> None:
    known(four)
    short, long, taken = both_ways(four, frame(*from_client(4, "A", options=[IPOption_NOP()] * 4)))
    assert short == long
    assert taken == 0


def test_dvipas_that_share_a_row_are_told_apart(four: Bench) -> None:
    known(four)
    assert isinstance(DVIPA[4], IPv4Address)
    other = DVIPA[4] + FRONT_MAX
    stranger = DVIPA[4] + 2 * FRONT_MAX
    packet = frame(IP(src=str(CLIENT[4]), dst=str(stranger)), from_client(4, "A")[1])
    assert four.run("ingress", packet).verdict == PASS
    four.plane.set_dvipa(other, Role.HIDDEN, 1)
    assert kinds(four.plane).kind == FrontKind.LONG_WAY
    assert both_ways(four, frame(*from_client(4, "A")))[0][0] == REDIRECT
    assert four.run("ingress", packet).verdict == PASS
    four.plane.remove_dvipa(other)
    assert both_ways(four, frame(*from_client(4, "A")))[2] == 1
    four.plane.remove_dvipa(DVIPA[4])
    assert kinds(four.plane).kind == FrontKind.NONE
    assert four.run("ingress", frame(*from_client(4, "A"))).verdict == PASS
