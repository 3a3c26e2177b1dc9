"""Path MTU discovery over real paths: narrow ways to the client, narrow tunnels, and takeovers."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dvipad.adapters.bpf.layout import Role, Tunnel, connection_key
from dvipad.adapters.bpf.plane import DataPlane
from tests.e2e.dvs_network import eventually, inside, run
from tests.e2e.plane_lan import DVIPA, PORT, Lan, lan, xcf
from tests.e2e.plane_network import TUNNELS, namespace

pytestmark = pytest.mark.e2e

MEGABYTE: Final = bytes(index % 251 for index in range(1 << 20))
CLIENT: Final = {4: "203.0.113.9", 6: "2001:db8:2::9"}
INSIDE: Final = {4: "192.0.2.254", 6: "2001:db8::fe"}
MIDDLE: Final = {4: "10.9.9", 6: "2001:db8:9:"}
OWNER, TARGET, BACKUP = 1, 2, 3
# tcpi_rcv_mss, tcpi_unacked, tcpi_pmtu in struct tcp_info
_RECEIVED_AT, _UNACKED_AT, _PMTU_AT = 20, 24, 60


class FarClient:
    """A client behind two routers, between which the link carries `mtu` bytes."""

    def __init__(self, name: str, routers: tuple[str, str], mtu: int) -> None:
        self.name = name
        outer, self.inner = routers
        cable(name, "eth0", outer, "client", 1500)
        cable(outer, "middle", self.inner, "middle", mtu)
        for version, (net4, prefix) in {4: ("203.0.113.", 24), 6: ("2001:db8:2::", 64)}.items():
            middle = MIDDLE[version] + ("." if version == 4 else ":")
            for where, device, address in (
                (name, "eth0", f"{net4}9/{prefix}"),
                (outer, "client", f"{net4}1/{prefix}"),
                (outer, "middle", f"{middle}1/{prefix}"),
                (self.inner, "middle", f"{middle}2/{prefix}"),
                (self.inner, "eth0", f"{INSIDE[version]}/{prefix}"),
            ):
                nodad = ["nodad"] if version == 6 else []
                run("ip", "-n", where, "addr", "add", address, "dev", device, *nodad)
            route(name, version, "default", f"{net4}1")
            route(outer, version, "default", f"{middle}2")
            route(self.inner, version, f"{net4}/{prefix}".replace("./", ".0/"), f"{middle}1")

    def connect(self, version: int) -> socket.socket:
        """A connection to a DVIPA, that does not wait for ever."""
        with inside(self.name):
            return socket.create_connection((str(DVIPA[version]), PORT), timeout=10)


def cable(a: str, a_device: str, b: str, b_device: str, mtu: int) -> None:
    run(*f"ip -n {a} link add {a_device} type veth peer name {b_device} netns {b}".split())
    for name, device in ((a, a_device), (b, b_device)):
        run("ip", "-n", name, "link", "set", device, "mtu", str(mtu), "up")


def route(name: str, version: int, where: str, via: str, *options: str) -> None:
    run("ip", "-n", name, f"-{version}", "route", "replace", where, "via", via, *options)


@contextmanager
def far_client(net: Lan, mtu: int) -> Iterator[FarClient]:
    """A client `mtu` away; its inner router is host 8 of the LAN."""
    with namespace() as name, namespace() as outer:
        inner = net.host(8)
        for router in (outer, inner):
            for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
                run("ip", "netns", "exec", router, "sysctl", "-qw", setting)
        yield FarClient(name, (outer, inner), mtu)


class Server:
    """On the target: takes what a client uploads, and sends it back after its end."""

    def __init__(self, net: Lan, number: int) -> None:
        self.pmtu: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self._listeners = []
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with inside(net.names[number]):
                listener = socket.create_server((str(DVIPA[version]), PORT), family=family)
            self._listeners.append(listener)
            threading.Thread(target=self._serve, args=(listener, version), daemon=True).start()

    def _serve(self, listener: socket.socket, version: int) -> None:
        while True:
            try:
                connection, _peer = listener.accept()
            except OSError:
                listener.close()
                return
            with connection:
                self.received[version], self.pmtu[version] = answer(connection)

    def knows(self, version: int, mtu: int) -> bool:
        """Whether the last connection ended with this path MTU."""
        return self.pmtu.get(version) == mtu

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)


def answer(connection: socket.socket) -> tuple[int, int]:
    """Sends back what comes; returns the size of the segments that came, and the path MTU as the
    connection knows it in the end."""
    connection.settimeout(20)
    data = b""
    while part := connection.recv(1 << 16):
        data += part
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (received,) = struct.unpack_from("=I", info, _RECEIVED_AT)
    connection.sendall(data)
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    while not ended(info):
        select.select([], [], [], 0.005)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return received, int(struct.unpack_from("=I", info, _PMTU_AT)[0])


def ended(info: bytes) -> bool:
    """Whether all that was sent is acknowledged."""
    return not struct.unpack_from("=I", info, _UNACKED_AT)[0]


def up(connection: socket.socket) -> None:
    connection.sendall(MEGABYTE)


def down(connection: socket.socket) -> None:
    """Ends the upload, and takes it back; the time limit of the connection finds a stall."""
    connection.shutdown(socket.SHUT_WR)
    digest = hashlib.md5()
    while part := connection.recv(1 << 16):
        digest.update(part)
    assert digest.digest() == hashlib.md5(MEGABYTE).digest()
    connection.close()


@contextmanager
def cluster(mtu: int, outer: int, tunnel: Tunnel) -> Iterator[tuple[Lan, FarClient, Server]]:
    """An owner, a target, and a client that is `mtu` away from both."""
    with lan(outer, tunnel=tunnel) as net:
        owner = net.node(OWNER, Role.OWNER)
        target = net.node(TARGET, Role.HIDDEN)
        target.set_members(frozenset({xcf(OWNER, outer), xcf(BACKUP, outer)}))
        for dvipa in DVIPA.values():
            owner.set_service(dvipa, PORT, (xcf(TARGET, outer),), offload=True)
        with far_client(net, mtu) as client:
            ways_out(net, OWNER, TARGET)
            server = Server(net, TARGET)
            try:
                yield net, client, server
            finally:
                server.close()


def ways_out(net: Lan, *numbers: int) -> None:
    for number in numbers:
        for version, via in INSIDE.items():
            route(net.names[number], version, "default", via)


def refresh(net: Lan, number: int) -> DataPlane:
    with inside(net.names[number]):
        net.planes[number].refresh_routes()
    return net.planes[number]


@pytest.mark.parametrize("mtu", [1400, 1280])
@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
def test_a_narrow_way_to_the_client(outer: int, tunnel: Tunnel, mtu: int) -> None:
    with cluster(mtu, outer, tunnel) as (net, client, server):
        for version in (4, 6):
            connection = client.connect(version)
            up(connection)
            down(connection)
            eventually(partial(server.knows, version, mtu))
            learnt = run("ip", "-n", net.names[TARGET], "route", "get", CLIENT[version])
            assert f"mtu {mtu}" in learnt, "only this connection knows"
        assert net.planes[OWNER].counters()["icmp_hit"] >= 2
        assert net.planes[OWNER].counters()["too_big"] == 0


def narrow(net: Lan, outer: int, mtu: int) -> DataPlane:
    """Leaves the owner's tunnel to the target a route of `mtu` bytes."""
    way = f"ip -n {net.names[OWNER]} -{outer} route replace {xcf(TARGET, outer)} dev eth0"
    run(*way.split(), "mtu", "lock", str(mtu))
    return refresh(net, OWNER)


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
def test_a_tunnel_narrower_than_the_target_knows(outer: int, tunnel: Tunnel) -> None:
    with cluster(1500, outer, tunnel) as (net, client, _server):
        owner = narrow(net, outer, 1360)
        for version in (4, 6):
            connection = client.connect(version)
            up(connection)
            down(connection)
            learnt = run("ip", "-n", client.name, "route", "get", str(DVIPA[version]))
            assert f"mtu {owner.tunnel_mtus()[xcf(TARGET, outer)].inner_mtu}" in learnt
        counters = owner.counters()
        assert counters["too_big_answered"] >= 2
        assert counters["too_big_unanswered"] == 0


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
def test_what_was_joined_is_cut_into_what_fits(outer: int, tunnel: Tunnel) -> None:
    with cluster(1500, outer, tunnel) as (net, client, server):
        owner = narrow(net, outer, 1490)
        for version in (4, 6):
            connection = client.connect(version)
            up(connection)
            down(connection)
            eventually(partial(server.received.get, version))
            headers = (20 if version == 4 else 40) + 20 + 12  # with timestamps
            room = owner.tunnel_mtus()[xcf(TARGET, outer)].inner_mtu
            assert server.received[version] + headers <= room
        counters = owner.counters()
        assert counters["encapsulation_failed"] == counters["too_big_unanswered"] == 0


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
def test_errors_find_the_target_right_after_a_takeover(outer: int, tunnel: Tunnel) -> None:
    with cluster(1400, outer, tunnel) as (net, client, server):
        owner, backup = net.planes[OWNER], net.node(BACKUP, Role.HIDDEN)
        for version in (4, 6):
            connection = client.connect(version)
            up(connection)
            name = connection.getsockname()
            key = connection_key(ip_address(name[0]), name[1], DVIPA[version], PORT)
            backup.insert_connections(xcf(TARGET, outer), key, b"")
            backup.set_dvipa(DVIPA[version], Role.OWNER, 2)
            owner.set_dvipa(DVIPA[version], Role.HIDDEN, 2)
            neighbour = f"ip -n {client.inner} neigh replace {DVIPA[version]} dev eth0 lladdr"
            run(*neighbour.split(), net.mac(BACKUP), "nud", "permanent")
            down(connection)
            eventually(partial(server.knows, version, 1400))
        assert backup.counters()["icmp_hit"] >= 2
        assert owner.counters()["icmp_hit"] == 0


@pytest.mark.parametrize("outer", [4, 6])
def test_routers_between_the_nodes_are_heeded(outer: int) -> None:
    with lan(outer) as net, far_client(net, 1400):
        plane = net.node(OWNER, Role.OWNER)
        ways_out(net, OWNER)
        remote = ip_address(MIDDLE[outer] + (".1" if outer == 4 else ":1"))
        plane.set_members(frozenset({remote, xcf(TARGET, outer)}))
        for protocol in (4, 41, 47):
            run("ip", "-n", net.names[OWNER], f"-{outer}", "route", "flush", "cache")
            mtus = refresh(net, OWNER).tunnel_mtus()
            assert {each.route_mtu for each in mtus.values()} == {1500}
            send_raw(net.names[OWNER], outer, str(remote), protocol)
            eventually(lambda: refresh(net, OWNER).tunnel_mtus()[remote].route_mtu == 1400)
        assert plane.tunnel_mtus()[xcf(TARGET, outer)].route_mtu == 1500


def send_raw(name: str, outer: int, destination: str, protocol: int) -> None:
    """A tunnel packet of 1500 bytes that must not be fragmented."""
    packet: Any
    if outer == 4:
        packet = IP(src=str(xcf(OWNER, 4)), dst=destination, proto=protocol, flags="DF")
    else:
        packet = IPv6(src=str(xcf(OWNER, 6)), dst=destination, nh=protocol)
    data = bytes(packet / Raw(bytes(1500 - len(packet))))
    family = socket.AF_INET if outer == 4 else socket.AF_INET6
    with inside(name), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as handle:
        if outer == 6:
            handle.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        handle.sendto(data, (destination, 0))
