"""Frames whose headers are not in the linear part of the buffer, as some cards deliver them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from tests.e2e.dvs_network import inside, run, wait_readable
from tests.e2e.plane_network import FOREVER_NS, namespace, pin_folder
from tests.e2e.plane_packets import CLIENT, DVIPA, PORT, TARGETS, from_client, through_tunnel

pytestmark = pytest.mark.e2e

_TUNSETIFF: Final = 0x400454CA
_TAP_FLAGS: Final = 0x0002 | 0x1000 | 0x0010 | 0x0020  # TAP, NO_PI, NAPI, NAPI_FRAGS
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_SGRO: Final = 0x2C


@contextmanager
def tap(name: str) -> Iterator[int]:
    """A card whose received frames lie in pages: only what is written first is linear."""
    handle = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_FLAGS))
        yield handle
    finally:
        os.close(handle)


def gro_off(name: str) -> None:
    """GRO would move the headers into the linear part."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sQ16x", name.encode(), ctypes.addressof(value))
        fcntl.ioctl(control, _SIOCETHTOOL, request)


@contextmanager
def uplink() -> Iterator[tuple[int, str, DataPlane]]:
    """A data plane whose uplink is such a card; its packets for the targets can be read."""
    with namespace() as name, inside(name), tap("up0") as handle:
        run(*f"ip -n {name} addr add 192.0.2.1/24 dev up0".split())
        gro_off("up0")
        run("ip", "-n", name, "link", "set", "up0", "up")
        for address in (*TARGETS[4], *CLIENT.values()):
            neighbour = f"ip -n {name} neigh add {address} lladdr 02:00:00:00:00:02 dev up0"
            run(*neighbour.split(), "nud", "permanent")
        plane = DataPlane.open(
            PlaneSettings(ip_address("192.0.2.1"), ("up0",), pin_dir=pin_folder(), mtu=1500)
        )
        try:
            plane.renew_lease(FOREVER_NS)
            plane.set_members(frozenset(TARGETS[4]))
            yield handle, name, plane
        finally:
            plane.destroy()


def receive(handle: int, name: str, *layers: Packet) -> None:
    """Lets the card receive a frame of which only the Ethernet header is linear."""
    mac = run("ip", "netns", "exec", name, "cat", "/sys/class/net/up0/address").strip()
    packet: Packet = Ether(dst=mac, src="02:00:00:00:00:07")
    for layer in layers:
        packet = packet / layer
    data = bytes(packet)
    os.writev(handle, [data[:14], data[14:20], data[20:]])


@pytest.mark.parametrize("version", [4, 6])
def test_headers_in_pages_are_pulled_in(version: int) -> None:
    with uplink() as (handle, name, plane):
        plane.set_dvipa(DVIPA[version], Role.OWNER, 1)
        plane.set_service(DVIPA[version], PORT, TARGETS[4], offload=True)
        sent = from_client(version, "S")
        receive(handle, name, *sent)
        while True:
            assert wait_readable(handle, 5), plane.counters()
            outer = Ether(os.read(handle, 2000)).getlayer(IP)
            if outer is not None and outer.dst == str(TARGETS[4][0]):
                break
        expected = sent[0]
        for layer in sent[1:]:
            expected = expected / layer
        assert bytes(outer.payload) == bytes(expected)
        counters = plane.counters()
        assert counters["chosen"] == counters["encapsulated"] == 1


@pytest.mark.parametrize("version", [4, 6])
def test_tunnel_headers_in_pages_are_pulled_in(version: int) -> None:
    with uplink() as (handle, name, plane):
        plane.set_dvipa(DVIPA[version], Role.HIDDEN, 1)
        run("ip", "-n", name, "addr", "add", str(DVIPA[version]), "dev", "lo")
        run(*f"ip -n {name} -{version} route add default dev up0".split())
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with socket.create_server((str(DVIPA[version]), PORT), family=family):
            receive(
                handle, name, *through_tunnel(from_client(version, "S"), 4, True, TARGETS[4][0])
            )
            while plane.counters()["mss_clamped"] == 0:  # of the SYN-ACK that answers it
                assert wait_readable(handle, 5), plane.counters()
                os.read(handle, 2000)
        assert plane.counters()["decapsulated"] == 1
