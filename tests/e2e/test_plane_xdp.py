"""XDP forwards what the short way on TC would, to the byte, and leaves it the rest."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from dvipad.adapters.bpf import xdp
from dvipad.adapters.bpf.device import device
from dvipad.adapters.bpf.layout import Role, Tunnel
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.tc import test_run
from dvipad.adapters.bpf.xdp import XdpMode
from tests.e2e import plane_lan
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_lan import Lan, exchange, lan, xcf
from tests.e2e.plane_network import REDIRECT, Bench, bench, frame
from tests.e2e.plane_packets import DVIPA, OWN, TARGETS, from_client, key, own, serve

pytestmark = pytest.mark.e2e

XDP_PASS, XDP_TX = 2, 3
TARGET = TARGETS[4][1]
TARGET_MAC = "02:00:00:00:00:21"
SIOCETHTOOL, GRO, CHECKSUMS = 0x8946, 0x2C, 0x17


@pytest.fixture(scope="module")
def known() -> Iterator[Bench]:
    """A distributor that knows a connection, and its target's MAC address."""
    with bench(str(OWN[4]), xdp=XdpMode.NATIVE) as made:
        neighbour = f"ip -n {made.netns} neigh add {TARGET} lladdr {TARGET_MAC} dev up0"
        run(*neighbour.split(), "nud", "permanent")
        own(made)
        serve(made, TARGETS[4])
        yield made


def own_mac(made: Bench) -> bytes:
    with inside(made.netns):
        return device("up0").mac


def early(made: Bench, packet: bytes) -> tuple[int, bytes]:
    """What XDP makes of a frame that up0 received: its verdict, and the packet behind Ethernet."""
    with inside(made.netns):
        context = struct.pack("=6I", 0, len(packet), 0, socket.if_nametoindex("up0"), 0, 0)
        done = test_run(made.plane.program_fd("dvipad_xdp"), packet, context)
    return done.verdict, done.packet


def arriving(made: Bench, *layers: Packet) -> bytes:
    return own_mac(made) + frame(*layers)[6:]


def test_an_established_connection_leaves_at_once(known: Bench) -> None:
    known.plane.insert_connections(TARGET, key(4), b"")
    before = known.plane.counters()
    verdict, packet = early(known, arriving(known, *from_client(4, "PA", tos=0xB8)))
    assert verdict == XDP_TX
    ethernet = Ether(packet)
    assert ethernet.dst == TARGET_MAC
    assert packet[6:12] == own_mac(known)
    assert (ethernet[IP].src, ethernet[IP].dst) == (str(OWN[4]), str(TARGET))
    now = known.plane.counters()
    changed = {name: now[name] - was for name, was in before.items() if now[name] != was}
    assert changed == {"hit_established": 1, "encapsulated": 1}


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tos=st.integers(0, 255),
    ttl=st.integers(0, 255),
    flags=st.sampled_from(["A", "PA", "FA", "R", "S", "", "SA", "AE"]),
    payload=st.integers(0, 1460),
    mangled=st.one_of(st.none(), st.tuples(st.integers(12, 53), st.integers(0, 255))),
)
def test_what_leaves_early_is_what_tc_would_send(
    known: Bench, tos: int, ttl: int, flags: str, payload: int, mangled: tuple[int, int] | None
) -> None:
    known.plane.purge_dvipa(DVIPA[4])
    known.plane.insert_connections(TARGET, key(4), b"")
    header, tcp, _ = from_client(4, flags, tos=tos, ttl=ttl)
    packet = bytearray(arriving(known, header, tcp, Raw(bytes(payload))))
    if mangled is not None:
        packet[mangled[0]] = mangled[1]
    verdict, sent = early(known, bytes(packet))
    if verdict == XDP_PASS:
        assert sent == bytes(packet)
        return
    assert verdict == XDP_TX
    late = known.run("ingress", bytes(6) + packet[6:])  # its test runs come from loopback
    assert (late.verdict, late.packet[14:]) == (REDIRECT, sent[14:])


def test_what_is_not_its_business_goes_on(known: Bench) -> None:
    plane = known.plane
    plane.insert_connections(TARGET, key(4), b"")
    good = arriving(known, *from_client(4, "A"))
    assert early(known, good)[0] == XDP_TX
    for packet in (
        arriving(known, *from_client(4, "S")),
        arriving(known, *from_client(4, "A", port=1001)),
        arriving(known, *from_client(4, "A", options=[IPOption_NOP()] * 4)),
        arriving(known, *from_client(4, "A"), Raw(bytes(1461))),
        arriving(known, *from_client(6, "A")),
        bytes.fromhex("020000000098") + good[6:],
        good[:12] + b"\x81\x00\x00\x05" + good[12:],
        good[:53],
    ):
        assert early(known, packet) == (XDP_PASS, packet)
    plane.renew_lease(1)
    assert early(known, good)[0] == XDP_PASS, "nobody keeps the MAC addresses up to date"
    plane.renew_lease(1 << 62)
    run(*f"ip -n {known.netns} neigh del {TARGET} dev up0".split())
    with inside(known.netns):
        plane.refresh_routes()
        assert early(known, good)[0] == XDP_PASS, "the neighbour is not known"
    run(*f"ip -n {known.netns} neigh add {TARGET} lladdr {TARGET_MAC} dev up0".split())
    with inside(known.netns):
        plane.refresh_routes()
    for role, verdict in ((Role.HIDDEN, XDP_PASS), (Role.MOVING, XDP_TX), (Role.OWNER, XDP_TX)):
        plane.set_dvipa(DVIPA[4], role, 2)
        assert early(known, good)[0] == verdict


def switch(name: str, what: int, on: bool) -> None:
    """Switches an offload of a device on or off."""
    value = ctypes.create_string_buffer(struct.pack("=II", what, on), 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("@16sP16x", name.encode(), ctypes.addressof(value))
        fcntl.ioctl(handle, SIOCETHTOOL, request)


def elsewhere(plane: DataPlane, name: str, mode: XdpMode) -> None:
    """Has the program on another device, or for somebody else."""
    folder = plane.settings.pin_dir / "elsewhere"
    folder.mkdir()
    xdp.attach(folder, plane.program_fd("dvipad_xdp"), [device(name)], mode)


def forget_elsewhere(plane: DataPlane) -> None:
    folder = plane.settings.pin_dir / "elsewhere"
    if folder.exists():
        xdp.detach(folder)
        folder.rmdir()


def distribute(net: Lan) -> tuple[DataPlane, DataPlane]:
    """A distributor and its target, which know each other's MAC addresses."""
    distributor = net.node(1, Role.OWNER)
    target = net.node(2, Role.HIDDEN)
    target.set_members(frozenset({xcf(1, 4)}))
    net.serve(2)
    run("ip", "netns", "exec", net.names[1], "ping", "-c1", "-q", str(xcf(2, 4)))
    distributor.set_service(plane_lan.DVIPA[4], plane_lan.PORT, (xcf(2, 4),), offload=True)
    return distributor, target


def taken(plane: DataPlane) -> int:
    return sum(ways["fast_xdp"].packets for ways in plane.traffic().values())


@pytest.mark.parametrize("mode", [XdpMode.GENERIC, XdpMode.NATIVE])
def test_real_connections_over_veth(mode: XdpMode) -> None:
    data = bytes(range(256)) * 4096
    with lan(4, xdp=mode) as net:
        plane, target = distribute(net)
        if mode is XdpMode.NATIVE:  # a veth sends frames to an end that has a program only
            with inside(net._bridge):
                elsewhere(plane, "port1", mode)
        with inside(net.client):
            switch("eth0", CHECKSUMS, False)  # which a frame in native XDP must bring along
        with inside(net.names[1]):
            plane.attach_xdp()
            plane.attach_xdp()
        shown = run(*f"ip -n {net.names[1]} link show eth0".split())
        assert ("xdpgeneric" in shown) == (mode is XdpMode.GENERIC)
        assert "xdp" in shown
        for _ in range(10):
            assert exchange(net.connect(4), b"hello") == 2
        assert taken(plane) >= 10
        assert exchange(net.connect(4), data) == 2
        assert target.counters()["decapsulated"] == plane.counters()["encapsulated"]
        plane.close()
        assert exchange(net.connect(4), data) == 2
        again = net.open(1)
        with inside(net.names[1]):
            again.attach_xdp()
            assert len(list(again.settings.pin_dir.glob("xdp_*"))) == 1
        assert exchange(net.connect(4), data) == 2
        forget_elsewhere(again)
        net.destroy(1)
        assert "xdp" not in run(*f"ip -n {net.names[1]} link show eth0".split())


def test_frames_that_gro_joined_are_not_for_generic() -> None:
    with lan(4, xdp=XdpMode.GENERIC) as net:
        plane, _ = distribute(net)
        with inside(net.names[1]):
            switch("eth0", GRO, True)
            with pytest.raises(BpfError, match="ethtool -K eth0 gro off"):
                plane.attach_xdp()


def test_the_program_of_somebody_else_stays() -> None:
    with lan(4, xdp=XdpMode.GENERIC) as net:
        plane, _ = distribute(net)
        with inside(net.names[1]):
            elsewhere(plane, "eth0", XdpMode.GENERIC)
            with pytest.raises(BpfError, match="another XDP program is there"):
                plane.attach_xdp()
            assert "xdp" in run(*f"ip -n {net.names[1]} link show eth0".split())
        forget_elsewhere(plane)


@pytest.mark.parametrize(
    "options", [{"outer": 6}, {"outer": 4, "tunnel": Tunnel.GRE}], ids=["IPv6", "GRE"]
)
def test_where_it_has_nothing_to_do_it_says_so(options: dict[str, Any]) -> None:
    with lan(**options, xdp=XdpMode.GENERIC) as net:
        plane = net.node(1, Role.OWNER)
        with inside(net.names[1]), pytest.raises(BpfError, match="tunnel: ipip"):
            plane.attach_xdp()
