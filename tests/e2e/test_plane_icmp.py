"""ICMP byte by byte: what a client is told whose packet is too big, and whom errors go to."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from dvipad.adapters.bpf.layout import Role, Tunnel
from dvipad.adapters.bpf.settings import TUNNEL_HEADER
from dvipad.adapters.bpf.tc import test_run
from dvipad.address import Address
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_network import (
    DROP,
    OWN_MAC,
    PASS,
    PEER_MAC,
    PROGRAMMED,
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
    PORT,
    TARGETS,
    four,
    ip,
    key,
    own,
    through_tunnel,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e

HEADERS: Final = {4: 40, 6: 60}
"""IP and TCP, without options."""

SHORTEST: Final = {4: 576, 6: 1280}
ROUTER: Final = {4: "203.0.113.1", 6: "2001:db8:2::1"}


def of_length(version: int, length: int) -> list[Packet]:
    """A client's packet of `length` bytes."""
    tcp = TCP(sport=1000, dport=PORT, flags="A", seq=7, options=[("NOP", None)] * 4)
    data = bytes(index % 251 for index in range(length - HEADERS[version] - 4))
    return [ip(CLIENT[version], DVIPA[version]), tcp, Raw(data)]


def answer(version: int, quoted: bytes, mtu: int) -> bytes:
    """The frame that tells the client, checksums by scapy."""
    back = Ether(dst=PEER_MAC, src=OWN_MAC)
    header = ip(DVIPA[version], CLIENT[version])
    if version == 4:
        header.tos, header.id, header.flags = 0xC0, 0, "DF"
        error = ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(quoted[: 576 - 28])
    else:
        error = ICMPv6PacketTooBig(mtu=mtu) / Raw(quoted[: 1280 - 48])
    return bytes(back / header / error)


def narrow(made: Bench, outer: int, mtu: int, target: Address | None = None) -> None:
    """Makes the route to the first target one of `mtu` bytes."""
    where = target or TARGETS[outer][0]
    if outer == 6:
        run(*f"ip -n {made.netns} -6 addr replace {OWN[6]}/64 dev up0 nodad".split())
    route = f"ip -n {made.netns} -{outer} route replace {where}/{where.max_prefixlen} dev up0"
    run(*route.split(), "mtu", "lock", str(mtu))
    made.plane.refresh_routes()


def connected(made: Bench, target: Address) -> None:
    own(made)
    made.plane.insert_connections(target, key(4) + key(6), b"")


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
def test_the_client_is_told_what_fits(outer: int, tunnel: Tunnel) -> None:
    with bench(str(OWN[outer]), tunnel=tunnel) as made:
        connected(made, TARGETS[outer][0])
        narrow(made, outer, 1500)
        room = 1500 - (20 if outer == 4 else 40) - TUNNEL_HEADER[tunnel]
        for version in (4, 6):
            assert made.ingress(*of_length(version, room)).verdict == REDIRECT
            assert made.counted() == {"hit_established": 1, "encapsulated": 1}
            packet = frame(*of_length(version, room + 1))
            result = made.run("ingress", packet)
            assert result.verdict == REDIRECT
            assert made.counted() == {"hit_established": 1, "too_big": 1, "too_big_answered": 1}
            assert result.packet == answer(version, packet[14:], room)


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_is_asked_for_less_than_every_link_carries(four: Bench, version: int) -> None:
    connected(four, TARGETS[4][0])
    narrow(four, 4, SHORTEST[version])
    packet = frame(*of_length(version, SHORTEST[version] + 1))
    result = four.run("ingress", packet)
    assert (result.verdict, result.packet) == (
        REDIRECT,
        answer(version, packet[14:], SHORTEST[version]),
    )
    assert four.ingress(*of_length(version, SHORTEST[version])).verdict == DROP
    assert four.counted() == {"hit_established": 1, "too_big": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_each_packet_of_what_gro_joined_counts(four: Bench, version: int) -> None:
    connected(four, TARGETS[4][0])
    narrow(four, 4, 1400)
    packet = frame(*of_length(version, 3000))
    segment = 1401 - HEADERS[version] - 4
    context = bytearray(192)  # struct __sk_buff
    struct.pack_into("=I", context, 164, 2)  # gso_segs
    struct.pack_into("=I", context, 176, segment)  # gso_size
    result = four.run("ingress", packet, bytes(context))
    assert four.counted() == {"hit_established": 1, "too_big": 1, "too_big_answered": 1}
    assert (result.verdict, result.packet) == (REDIRECT, answer(version, packet[14:], 1380))
    assert struct.unpack_from("=I", result.context, 164) == (0,), "it is one packet now"


@pytest.mark.parametrize("gre", [False, True])
@pytest.mark.parametrize("outer", [4, 6])
def test_the_client_is_told_by_a_relay_too(outer: int, gre: bool) -> None:
    with bench(str(OWN[outer])) as made:
        made.plane.set_members(frozenset(TARGETS[outer]))
        connected(made, TARGETS[outer][0])
        narrow(made, outer, 1400)
        room = 1400 - (20 if outer == 4 else 40) - (4 if gre else 0)
        for version in (4, 6):
            inner = of_length(version, room)
            assert (
                made.ingress(*through_tunnel(inner, outer, gre, TARGETS[outer][1])).verdict
                == REDIRECT
            )
            assert made.counted() == {"hit_established": 1, "relayed": 1}
            inner = of_length(version, room + 1)
            result = made.ingress(*through_tunnel(inner, outer, gre, TARGETS[outer][1]))
            assert result.verdict == REDIRECT
            assert made.counted() == {"hit_established": 1, "too_big": 1, "too_big_answered": 1}
            packet = frame(*inner)
            assert result.packet[14:] == answer(version, packet[14:], room)[14:]
            assert result.packet[12:14] == packet[12:14]


def test_a_flood_is_not_answered_by_a_flood(four: Bench) -> None:
    connected(four, TARGETS[4][0])
    packet = frame(*of_length(4, 1500))
    program = four.plane.program_fd("dvipad_ingress")
    sent = 0
    with inside(four.netns):
        while four.plane.counters()["too_big_unanswered"] == 0:
            for _ in range(200):
                test_run(program, packet)
            sent += 200
            assert sent < 20_000
    counters = four.plane.counters()
    assert counters["too_big"] == sent
    assert counters["too_big_answered"] + counters["too_big_unanswered"] == sent
    assert counters["too_big_answered"] >= 50


@pytest.mark.parametrize("version", [4, 6])
def test_the_mss_fits_the_narrowest_tunnel(four: Bench, version: int) -> None:
    own(four, Role.HIDDEN)
    near, far = TARGETS[4]
    four.plane.set_members(frozenset({near, far}))

    def offered() -> int:
        option = TCP(sport=PORT, dport=1000, flags="SA", options=[("MSS", 1460)])
        result = four.run("egress", frame(ip(DVIPA[version], CLIENT[version]), option))
        return int(dict(Ether(result.packet)[TCP].options)["MSS"])

    def fitting(mtu: int) -> int:
        return mtu - 24 - HEADERS[version]

    assert offered() == fitting(1500)
    narrow(four, 4, 1400, far)
    assert offered() == fitting(1400)
    assert [each.route_mtu for _xcf, each in sorted(four.plane.tunnel_mtus().items())] == [
        1500,
        1400,
    ]
    narrow(four, 4, 1600, far)
    assert offered() == fitting(1500), "no more than the uplink carries"
    narrow(four, 4, 1300, far)
    four.plane.set_members(frozenset({near}))
    assert offered() == fitting(1500)
    four.plane.set_service(DVIPA[version], PORT, (far,))
    assert offered() == fitting(1300), "before it gets its first connection"


# Errors about what a DVIPA sent


def quoted(version: int, port: int = 1000) -> bytes:
    """What a router quotes at least of a packet of the DVIPA: 8 bytes of TCP."""
    tcp = TCP(sport=PORT, dport=port, flags="A", seq=7)
    packet = ip(DVIPA[version], CLIENT[version]) / tcp / Raw(bytes(1400))
    return bytes(packet)[: HEADERS[version] - 12]


def error(version: int, about: bytes | None = None, kind: Packet | None = None) -> list[Packet]:
    """An ICMP error of a router for the DVIPA: too big, if not another kind."""
    header = IP(src=ROUTER[4], dst=str(DVIPA[4])) if version == 4 else None
    if header is None:
        header = IPv6(src=ROUTER[6], dst=str(DVIPA[6]))
    too_big = ICMP(type=3, code=4, nexthopmtu=1400) if version == 4 else ICMPv6PacketTooBig()
    return [header, kind or too_big, Raw(quoted(version) if about is None else about)]


KINDS: Final = [
    (4, ICMP(type=3, code=4, nexthopmtu=1400)),
    (4, ICMP(type=3, code=1)),
    (4, ICMP(type=11)),
    (4, ICMP(type=12)),
    (6, ICMPv6PacketTooBig(mtu=1400)),
    (6, ICMPv6DestUnreach()),
    (6, ICMPv6TimeExceeded()),
    (6, ICMPv6ParamProblem()),
]


@pytest.mark.parametrize("tunnel", PROGRAMMED)
@pytest.mark.parametrize("outer", [4, 6])
def test_errors_go_to_the_target_of_the_connection(outer: int, tunnel: Tunnel) -> None:
    with bench(str(OWN[outer]), tunnel=tunnel) as made:
        own(made)
        made.plane.insert_connections(TARGETS[outer][1], key(4), key(6))
        for version, kind in KINDS:
            packet = frame(*error(version, kind=kind))
            result = made.run("ingress", packet)
            assert result.verdict == REDIRECT
            assert made.counted() == {"icmp_hit": 1, "encapsulated": 1}
            header = ip(OWN[outer], TARGETS[outer][1])
            outermost = type(header)(result.packet[14:])
            assert (outermost.src, outermost.dst) == (header.src, header.dst)
            assert result.packet.endswith(packet[14:])
        rows = {row.dvipa: row for row in made.plane.crt()}
        assert not rows[DVIPA[6]].established, "a router's word is no ACK of the client"


@pytest.mark.parametrize("version", [4, 6])
def test_errors_about_unknown_connections(four: Bench, version: int) -> None:
    own(four)
    packet = frame(*error(version))
    result = four.run("ingress", packet)
    assert (result.verdict, result.packet) == (PASS, packet)
    assert four.counted() == {"icmp_no_entry": 1}
    own(four, collecting=True)
    assert four.run("ingress", packet).verdict == DROP
    assert four.counted() == {"collecting": 1}
    four.plane.insert_connections(TARGETS[4][0], key(version), b"")
    assert four.run("ingress", packet).verdict == REDIRECT, "collected so far is enough"
    own(four)
    four.plane.purge_target(TARGETS[4][0])
    four.plane.insert_connections(OWN[4], key(version), b"")
    assert four.run("ingress", packet).verdict == PASS, "of this node's own"
    assert four.counted() == {"icmp_hit": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_errors_after_a_move(four: Bench, version: int) -> None:
    own(four, Role.MOVING, successor=TARGETS[4][1])
    four.plane.insert_connections(TARGETS[4][0], key(version), b"")
    result = four.ingress(*error(version))
    assert (result.verdict, IP(result.packet[14:]).dst) == (REDIRECT, str(TARGETS[4][0]))
    other = error(version, quoted(version, 1001))
    result = four.ingress(*other)
    assert (result.verdict, IP(result.packet[14:]).dst) == (REDIRECT, str(TARGETS[4][1]))
    assert four.counted() == {"moving_successor": 1, "encapsulated": 1}
    assert four.ingress(*through_tunnel(other, 4, False)).verdict == DROP
    assert four.counted() == {"moving_lost": 1}
    own(four)
    result = four.ingress(*through_tunnel(error(version), 4, True))
    assert (result.verdict, IP(result.packet[14:]).dst) == (REDIRECT, str(TARGETS[4][0]))
    assert four.counted() == {"icmp_hit": 1, "relayed": 1}


@pytest.mark.parametrize("gre", [False, True])
@pytest.mark.parametrize("outer", [4, 6])
def test_a_target_takes_errors_out_of_the_tunnel(outer: int, gre: bool) -> None:
    with bench(str(OWN[outer])) as made:
        made.plane.set_members(frozenset(TARGETS[outer]))
        own(made, Role.HIDDEN)
        for version in (4, 6):
            result = made.ingress(*through_tunnel(error(version), outer, gre))
            assert (result.verdict, result.packet) == (PASS, frame(*error(version)))
            assert made.counted() == {"hidden_accepted": 1, "decapsulated": 1}


def test_what_is_no_error_about_a_connection_is_an_ordinary_packet(four: Bench) -> None:
    connected(four, TARGETS[4][0])
    foreign = bytearray(quoted(4))
    foreign[12:16] = bytes(4)
    later = bytearray(quoted(4))
    later[6:8] = b"\x00\x10"
    udp = ip(DVIPA[6], CLIENT[6]) / UDP(sport=PORT, dport=1000)
    hidden = ip(DVIPA[6], CLIENT[6]) / IPv6ExtHdrDestOpt() / TCP(sport=PORT, dport=1000)
    fragment = error(4)
    fragment[0].flags = "MF"
    for layers in (
        error(4, bytes(foreign)),
        error(4, bytes(later)),
        error(6, bytes(udp)),
        error(6, bytes(hidden)),
        error(4, b""),
        error(6, quoted(6)[:-1]),
        error(4, kind=ICMP(type=8)),
        error(6, kind=ICMPv6EchoRequest()),
        error(4, quoted(6)),
        fragment,
    ):
        packet = frame(*layers)
        result = four.run("ingress", packet)
        assert (result.verdict, result.packet, four.counted()) == (PASS, packet, {})


def test_an_error_that_does_not_fit_is_not_answered_by_one(four: Bench) -> None:
    connected(four, TARGETS[4][0])
    narrow(four, 4, 1290)
    long = error(6, quoted(6) + bytes(1232 - len(quoted(6))))
    assert len(frame(*long)) == 14 + 1280
    assert four.ingress(*long).verdict == DROP
    assert four.counted() == {"icmp_hit": 1, "too_big": 1}
