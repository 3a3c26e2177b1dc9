"""What becomes of a packet: roles, CRT, choice of a target, what cannot be distributed."""

from __future__ import annotations

import errno
import socket
import struct
import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Dot1Q, Ether

from dvipad.adapters.bpf.layout import Role
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_network import DROP, PASS, PEER_MAC, REDIRECT, Bench, bench, frame
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    PORT,
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


# Roles


def test_packets_for_anybody_else_pass_uncounted(four: Bench) -> None:
    own(four)
    for layers in (
        [IP(src="203.0.113.9", dst="198.51.100.99"), TCP(flags="S")],
        [ip(CLIENT[4], DVIPA[4]), ICMP()],
        [IPv6(src="2001:db8::9", dst="2001:db8::99"), TCP(flags="S")],
    ):
        packet = frame(*layers)
        result = four.run("ingress", packet)
        assert (result.verdict, result.packet, four.counted()) == (PASS, packet, {})


def test_frames_for_another_host_pass(four: Bench) -> None:
    own(four, Role.HIDDEN)
    packet = bytes(Ether(dst=PEER_MAC, src=PEER_MAC) / IP(bytes(frame(*from_client(4, "S"))[14:])))
    assert four.run("ingress", packet).verdict == PASS
    assert four.counted() == {}
    tagged = bytes(Ether(frame()[:14]) / Dot1Q(vlan=5) / IP(frame(*from_client(4, "S"))[14:]))
    assert four.run("ingress", tagged).verdict == PASS
    assert four.counted() == {}


@pytest.mark.parametrize("version", [4, 6])
def test_a_hidden_dvipa_takes_nothing_directly(four: Bench, version: int) -> None:
    own(four, Role.HIDDEN)
    assert four.ingress(*from_client(version, "S")).verdict == DROP
    assert four.counted() == {"hidden_stray": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_moving_relays_by_crt_then_to_the_successor(four: Bench, version: int) -> None:
    own(four, Role.MOVING, successor=TARGETS[4][1])
    four.plane.insert_connections(TARGETS[4][0], key(version), b"")
    result = four.ingress(*from_client(version, "A"))
    assert (result.verdict, IP(result.packet[14:]).dst) == (REDIRECT, str(TARGETS[4][0]))
    result = four.ingress(*from_client(version, "A", port=1001))
    assert (result.verdict, IP(result.packet[14:]).dst) == (REDIRECT, str(TARGETS[4][1]))
    assert four.counted() == {"moving_successor": 1, "encapsulated": 1}
    relayed = through_tunnel(from_client(version, "A", port=1001), 4, False)
    assert four.ingress(*relayed).verdict == DROP
    assert four.counted() == {"moving_lost": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_who_gave_it_up_serves_what_the_successor_chose_it_for(four: Bench, version: int) -> None:
    former, successor, other = Role.MOVING, TARGETS[4][0], TARGETS[4][1]
    own(four, former, successor=successor)
    four.plane.set_members(frozenset(TARGETS[4]))
    chosen = through_tunnel(from_client(version, "S"), 4, False, successor)
    assert four.ingress(*chosen).verdict == DROP, "nobody listens"
    run("ip", "-n", four.netns, "addr", "add", f"{DVIPA[version]}", "dev", "lo", "nodad")
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with inside(four.netns), socket.socket(family) as listener:
        listener.bind((str(DVIPA[version]), PORT))
        listener.listen()
        four.counted()
        assert four.ingress(*chosen).verdict == PASS
        assert four.counted() == {"hidden_accepted": 1, "decapsulated": 1}
        elsewhere = through_tunnel(from_client(version, "S"), 4, False, other)
        assert four.ingress(*elsewhere).verdict == DROP, "a member that does not decide"
        acknowledged = through_tunnel(from_client(version, "A"), 4, False, successor)
        assert four.ingress(*acknowledged).verdict == DROP, "a listener would reset it"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("role", [Role.MOVING, Role.OWNER])
def test_two_that_take_each_other_for_the_target_do_not_play_ball(
    four: Bench, version: int, role: Role
) -> None:
    own(four, role, **({"successor": TARGETS[4][1]} if role is Role.MOVING else {}))
    four.plane.set_members(frozenset(TARGETS[4]))
    four.plane.insert_connections(TARGETS[4][0], b"", key(version))
    lost = through_tunnel(from_client(version, "A"), 4, False)
    assert four.ingress(*lost).verdict == DROP, "it does not end here, and must not be reset"
    assert four.counted()["relayed_back"] == 1
    elsewhere = through_tunnel(from_client(version, "A"), 4, False, TARGETS[4][1])
    assert four.ingress(*elsewhere).verdict == REDIRECT
    four.plane.purge_dvipa(DVIPA[version])
    four.plane.insert_connections(TARGETS[4][0], b"", key(version))
    back = through_tunnel(from_client(version, "S"), 4, False)
    assert four.ingress(*back).verdict == PASS, "the other one chose us"
    assert four.counted() == {"hit_embryonic": 1, "relayed_back": 1, "decapsulated": 1}
    assert four.ingress(*from_client(version, "A")).verdict == PASS, "it ends here from now on"


@pytest.mark.parametrize("version", [4, 6])
def test_an_owner_without_an_entry(four: Bench, version: int) -> None:
    own(four)
    assert four.ingress(*from_client(version, "A")).verdict == PASS
    assert four.counted() == {"no_entry": 1}
    assert four.ingress(*from_client(version, "S")).verdict == PASS
    assert four.counted() == {"no_service": 1}
    assert four.ingress(*from_client(version, "SA")).verdict == DROP
    assert four.counted() == {"synack_early": 1}
    own(four, collecting=True)
    for flags in ("A", "S", "SA", "R"):
        assert four.ingress(*from_client(version, flags)).verdict == DROP
        assert four.counted() == {"collecting": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_a_synack_that_a_socket_waits_for_passes(four: Bench, version: int) -> None:
    own(four)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    run("ip", "-n", four.netns, "addr", "add", f"{DVIPA[version]}", "dev", "lo", "nodad")
    run(*f"ip -n {four.netns} -{version} route add default dev up0".split())
    with inside(four.netns), socket.socket(family) as listener:
        listener.bind((str(DVIPA[version]), PORT))
        listener.listen()
        assert four.ingress(*from_client(version, "SA")).verdict == DROP, "no listener wants one"
    with inside(four.netns), socket.socket(family) as opening:
        opening.setblocking(False)
        opening.bind((str(DVIPA[version]), PORT))
        assert opening.connect_ex((str(CLIENT[version]), 1000)) == errno.EINPROGRESS
        assert four.ingress(*from_client(version, "SA")).verdict == PASS
        assert four.counted() == {"no_entry": 1}


# CRT


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_as_young_as_its_last_syn(four: Bench, version: int) -> None:
    own(four)
    four.plane.insert_connections(TARGETS[4][0], b"", key(version))
    first_ns = time.monotonic_ns()
    assert four.ingress(*from_client(version, "S")).verdict == REDIRECT
    assert four.plane.retain_connections(DVIPA[version], TARGETS[4][0], b"", first_ns) == 0
    now_ns = time.monotonic_ns()
    assert four.plane.retain_connections(DVIPA[version], TARGETS[4][0], b"", now_ns) == 1


def test_handshake_promotes_and_fin_lets_a_syn_start_anew(four: Bench) -> None:
    own(four)
    serve(four, TARGETS[4])
    first, second = (str(target) for target in TARGETS[4])

    def send(flags: str) -> tuple[str, dict[str, int]]:
        result = four.ingress(*from_client(4, flags))
        assert result.verdict == REDIRECT
        counted = four.counted()
        assert counted.pop("encapsulated") == 1
        return IP(result.packet[14:]).dst, counted

    assert send("S") == (first, {"chosen": 1})
    assert send("S") == (first, {"hit_embryonic": 1}), "a repeated SYN"
    assert [row.established for row in four.plane.crt()] == [False]
    assert send("A") == (first, {"promoted": 1, "hit_embryonic": 1})
    assert [row.established for row in four.plane.crt()] == [True]
    assert send("PA") == (first, {"hit_established": 1})
    assert send("S") == (first, {"hit_established": 1}), "its end was lost, or it is a repeat"
    assert send("FA") == (first, {"hit_established": 1})
    assert [row.closing for row in four.plane.crt()] == [True]
    assert send("A") == (first, {"hit_established": 1}), "half closed is legal"
    assert send("S") == (second, {"reopened": 1, "chosen": 1})
    assert send("A") == (second, {"promoted": 1, "hit_embryonic": 1})


def test_a_reset_does_not_promote(four: Bench) -> None:
    own(four)
    serve(four, TARGETS[4])
    four.ingress(*from_client(4, "S"))
    four.ingress(*from_client(4, "R"))
    assert four.counted() == {"hit_embryonic": 1, "encapsulated": 1}
    four.ingress(*from_client(4, "S"))
    assert four.counted() == {"reopened": 1, "chosen": 1, "encapsulated": 1}


def test_a_full_crt_keeps_embryonic_entries_in_use() -> None:
    with bench(str(OWN[4]), established=4) as made:
        own(made)
        serve(made, TARGETS[4])
        keys = b"".join(key(4, port) for port in range(1, 7))
        assert made.plane.insert_connections(TARGETS[4][0], keys, b"") == 2
        made.ingress(*from_client(4, "S", port=99))
        for _ in range(2):
            assert made.ingress(*from_client(4, "A", port=99)).verdict == REDIRECT
            assert made.counted() == {"established_full": 1, "hit_embryonic": 1, "encapsulated": 1}


def test_the_node_itself_as_target(four: Bench) -> None:
    own(four)
    serve(four, (OWN[4],))
    packet = frame(*from_client(4, "S"))
    result = four.run("ingress", packet)
    assert (result.verdict, result.packet) == (PASS, packet)
    assert four.counted() == {"chosen": 1}
    settings = four.plane.settings
    result = four.run("ingress", packet, struct.pack("=III", 0, 0, settings.queue_mark))
    mark = struct.unpack_from("=I", result.context, 8)
    assert mark == (settings.seen_mark,), "its own would queue it again"
    relayed = through_tunnel(from_client(4, "A"), 4, True)
    assert four.ingress(*relayed).packet == frame(*from_client(4, "A"))


def test_a_purged_target_and_its_index(four: Bench) -> None:
    own(four)
    four.plane.insert_connections(TARGETS[4][0], key(4, 1), key(4, 2))
    four.plane.insert_connections(TARGETS[4][1], key(4, 3), b"")
    assert four.plane.purge_target(TARGETS[4][0]) == 2
    assert [row.target for row in four.plane.crt()] == [TARGETS[4][1]]
    assert four.plane.connections(DVIPA[4]) == {TARGETS[4][1]: (key(4, 3), b"")}


def test_round_robin_is_exact_and_weights_too(four: Bench) -> None:
    own(four)
    a, b = TARGETS[4]
    serve(four, (a, b, b))
    for port in range(1, 301):
        four.ingress(*from_client(4, "S", port=port))
    assert four.plane.totals() == {(DVIPA[4], PORT, a): 100, (DVIPA[4], PORT, b): 200}


# What cannot be distributed


def test_fragments_options_extension_headers(four: Bench) -> None:
    own(four)
    serve(four, TARGETS[4])
    fragment = [IP(src="203.0.113.9", dst=str(DVIPA[4]), flags="MF"), TCP(flags="S")]
    assert four.ingress(*fragment).verdict == DROP
    assert four.counted() == {"fragment": 1}
    fragment = [ip(CLIENT[6], DVIPA[6]), IPv6ExtHdrFragment(m=1), TCP(flags="S")]
    assert four.ingress(*fragment).verdict == DROP
    assert four.counted() == {"fragment": 1}
    hidden = [ip(CLIENT[6], DVIPA[6]), IPv6ExtHdrHopByHop(), TCP(flags="S")]
    assert four.ingress(*hidden).verdict == DROP
    assert four.counted() == {"extension_header": 1}
    options = from_client(4, "S")
    options[0].options = [b"\x94\x04\x00\x00"]
    assert four.ingress(*options).verdict == REDIRECT


def test_malformed_packets_are_left_to_the_kernel(four: Bench) -> None:
    own(four)
    whole = frame(*from_client(4, "S"))
    for broken in (
        whole[:40],
        whole[:14] + b"\x44" + whole[15:],
        whole[:14] + b"\x65" + whole[15:],
        whole[:46] + b"\x40" + whole[47:],
        whole[:16] + b"\xff\xff" + whole[18:],
    ):
        result = four.run("ingress", broken)
        assert (result.verdict, result.packet) == (PASS, broken)
        assert four.counted() == {"malformed": 1}
    four.plane.insert_connections(TARGETS[4][0], key(4), b"")
    for length in range(34, len(whole)):  # the kernel runs no test on less
        assert four.run("ingress", whole[:length]).verdict in (PASS, REDIRECT)
