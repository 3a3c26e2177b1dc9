"""The kernel's tunnel device: it is made, kept and removed, and lets nothing in but members'."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from dvipad.adapters.bpf.layout import Role, Tunnel, connection_key
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.tunnel_device import NAMES
from tests.e2e.dvs_network import eventually, inside, run
from tests.e2e.plane_lan import DVIPA, PORT, Lan, exchange, lan, xcf
from tests.e2e.plane_network import NOT_HERE, PEER_MAC, PROGRAMMED
from tests.e2e.test_plane_traffic import DISTRIBUTOR, MEGABYTE, TARGETS, distribute

pytestmark = pytest.mark.e2e

DEVICES = [
    pytest.param(tunnel, id=tunnel.name.lower())
    for tunnel in Tunnel
    if tunnel not in (*PROGRAMMED, *NOT_HERE)
]


def links(net: Lan, number: int) -> list[str]:
    """Our devices on a node."""
    shown = run("ip", "-n", net.names[number], "-brief", "link", "show")
    return [line.split()[0].split("@")[0] for line in shown.splitlines() if "dvipad-" in line]


def repair(net: Lan, number: int) -> DataPlane:
    with inside(net.names[number]):
        net.planes[number].attach()
    return net.planes[number]


def serves(net: Lan) -> bool:
    return {exchange(net.connect(4), b"hello") for _ in TARGETS} == set(TARGETS)


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("tunnel", DEVICES)
def test_it_is_adopted_repaired_and_removed(tunnel: Tunnel, outer: int) -> None:
    name = NAMES[tunnel]
    with lan(outer, tunnel=tunnel) as net:
        distribute(net, outer)
        assert [links(net, each) for each in (1, 2, 3)] == [[name]] * 3
        index = run("ip", "-n", net.names[1], "-o", "link", "show", name).split(":")[0]
        net.planes[1].close()
        net.open(1)
        assert run("ip", "-n", net.names[1], "-o", "link", "show", name).split(":")[0] == index
        assert serves(net)
        for harm in ("link set {} down", "link del {}", "address flush dev {}"):
            for number in (1, 2):
                run(*f"ip -n {net.names[number]} {harm.format(name)}".split())
                repair(net, number)
            assert serves(net), harm
        run("ip", "netns", "exec", net.names[2], *f"tc qdisc del dev {name} clsact".split())
        repair(net, 2)
        assert serves(net)
        net.destroy(2)
        assert links(net, 2) == []


@pytest.mark.parametrize("tunnel", DEVICES)
def test_reverse_path_filters_let_clients_in(tunnel: Tunnel) -> None:
    with lan(4, tunnel=tunnel) as net:
        distribute(net, 4)
        for number in TARGETS:
            for strict in ("all", "eth0"):
                key = f"net.ipv4.conf.{strict}.rp_filter=1"
                run("ip", "netns", "exec", net.names[number], "sysctl", "-qw", key)
        assert serves(net)


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("tunnel", DEVICES)
def test_nodes_with_and_without_it_understand_each_other(
    tunnel: Tunnel, outer: int, inner: int
) -> None:
    with lan(outer, tunnel=tunnel) as net:
        distribute(net, outer)
        net.planes[3].close()
        without = replace(net.planes[3].settings, tunnel=Tunnel.GRE)
        with inside(net.names[3]):
            net.planes[3] = DataPlane.open(without)
        assert links(net, 3) == [], "it is not needed any more"
        served = {exchange(net.connect(inner), MEGABYTE) for _ in TARGETS}
        assert served == set(TARGETS)
        net.planes[1].close()
        with inside(net.names[1]):
            net.planes[1] = DataPlane.open(replace(net.planes[1].settings, tunnel=Tunnel.GRE))
        assert {exchange(net.connect(inner), MEGABYTE) for _ in TARGETS} == set(TARGETS)


@pytest.mark.parametrize("tunnel", DEVICES)
def test_strangers_are_refused(tunnel: Tunnel) -> None:
    with lan(4, tunnel=tunnel) as net:
        distribute(net, 4)
        target = net.planes[2]
        target.set_members(frozenset({xcf(9, 4)}))
        with inside(net.client), socket.socket() as connection:
            connection.setblocking(False)
            connection.connect_ex((str(DVIPA[4]), PORT))
            eventually(lambda: target.counters()["tunnel_stranger"] > 0)
        assert target.counters()["hidden_accepted"] == 0


@pytest.mark.parametrize("tunnel", DEVICES)
def test_what_goes_round_ends(tunnel: Tunnel) -> None:
    """Three nodes, each of which takes the next one for the target of a connection."""
    numbers = (1, 2, 3)
    with lan(4, tunnel=tunnel) as net:
        for number in numbers:
            plane = net.node(number, Role.OWNER)
            plane.set_members(frozenset(xcf(each, 4) for each in numbers))
            key = connection_key(xcf(9, 4), 1000, DVIPA[4], PORT)
            plane.insert_connections(xcf(number % 3 + 1, 4), key, b"")
        packet = Ether(dst=net.mac(1), src=PEER_MAC) / IP(src=str(xcf(9, 4)), dst=str(DVIPA[4]))
        packet /= TCP(sport=1000, dport=PORT, flags="A")
        with inside(net.client), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            wire.send(bytes(packet))

        def counted(name: str) -> int:
            return sum(plane.counters()[name] for plane in net.planes.values())

        eventually(lambda: counted("tunnel_loop") == 1)
        assert counted("relayed") == 63


def test_a_port_in_use_is_named() -> None:
    with lan(4) as net:
        plane = net.node(DISTRIBUTOR, Role.OWNER)
        plane.close()
        with inside(net.names[1]), socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 4789))
            with pytest.raises(BpfError, match="UDP port 4789 is in use; say another"):
                DataPlane.open(replace(plane.settings, tunnel=Tunnel.VXLAN))
        net.open(1)
        assert links(net, 1) == []
