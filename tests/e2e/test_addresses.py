"""Addresses and announcements on real interfaces: placing, moving, repairing, telling."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA
from scapy.layers.l2 import ARP, Ether

from dvipad.adapters.addresses import Addresses
from dvipad.adapters.announce import Announcer
from dvipad.address import Address
from tests.e2e.dvs_network import SLOW, inside, namespace, pair, run, wait_readable

pytestmark = pytest.mark.e2e

DVIPA4, DVIPA6 = ip_address("198.51.100.1"), ip_address("2001:db8:ff::1")


@pytest.fixture
def node() -> Iterator[str]:
    with namespace() as name, namespace() as peer, pair(name, peer):
        yield name


def shown(node: str, dvipa: Address) -> set[str]:
    """Interfaces of `node` that have `dvipa`."""
    lines = run("ip", "-n", node, "-o", "address", "show", "to", f"{dvipa}").splitlines()
    return {line.split()[1] for line in lines}


@pytest.mark.parametrize("dvipa", [DVIPA4, DVIPA6], ids=["v4", "v6"])
def test_every_transition_and_repeats(node: str, dvipa: Address) -> None:
    home = {False: {"lo"}, True: {"lo"} if dvipa.version == 4 else {"eth0"}}
    with inside(node), Addresses("eth0") as addresses:
        for owned in (False, False, True, True, False, True):
            addresses.place(dvipa, owned)
            assert shown(node, dvipa) == home[owned]
            assert addresses.listed() == {dvipa: owned}
        addresses.remove(dvipa)
        addresses.remove(dvipa)
        assert shown(node, dvipa) == set()
        assert addresses.listed() == {}


def test_a_later_start_adopts_and_leaves_others_alone(node: str) -> None:
    run("ip", "-n", node, "addr", "add", "203.0.113.9/32", "dev", "lo")
    with inside(node):
        with Addresses("eth0") as before:
            before.place(DVIPA4, True)
            before.place(DVIPA6, False)
        with Addresses("eth0") as after:
            assert after.listed() == {DVIPA4: True, DVIPA6: False}
            after.remove(IPv4Address("203.0.113.9"))
            assert shown(node, IPv4Address("203.0.113.9")) == {"lo"}


def test_hundreds_move_in_a_fraction_of_a_second(node: str) -> None:
    dvipas = [IPv6Address(int(DVIPA6) + i) for i in range(300)]
    with inside(node), Addresses("eth0") as addresses:
        for dvipa in dvipas:
            addresses.place(dvipa, False)
        began = time.monotonic()
        for dvipa in dvipas:
            addresses.place(dvipa, True)
        assert time.monotonic() - began < 3 * SLOW
        assert addresses.listed() == dict.fromkeys(dvipas, True)


def test_a_placed_address_takes_packets_at_once(node: str) -> None:
    """The kernel answers before it has made the route: 1 of 10 was refused."""
    with inside(node), Addresses("eth0") as addresses:
        for number in range(100):
            dvipa = IPv6Address(int(DVIPA6) + number)
            for owned in (number % 2 == 0, number % 2 != 0):
                addresses.place(dvipa, owned)
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                    probe.connect((str(dvipa), 9))


def test_one_that_somebody_removed_can_be_placed_again(node: str) -> None:
    with inside(node), Addresses("eth0") as addresses:
        addresses.place(DVIPA6, True)
        run("ip", "addr", "del", f"{DVIPA6}/128", "dev", "eth0")
        assert addresses.listed() == {}
        addresses.place(DVIPA6, False)
        run("ip", "addr", "del", f"{DVIPA6}/128", "dev", "lo")
        addresses.remove(DVIPA6)
        assert addresses.listed() == {}


def test_loopback_comes_up_and_the_uplink_must_exist() -> None:
    with namespace() as name:
        run("ip", "-n", name, "link", "set", "lo", "down")
        with inside(name):
            with pytest.raises(OSError, match="no interface eth7"):
                Addresses("eth7")
            Addresses("lo").close()
        assert "UP" in run("ip", "-n", name, "link", "show", "lo")


@pytest.mark.parametrize("dvipa", [DVIPA4, DVIPA6], ids=["v4", "v6"])
def test_connections_survive_a_change_of_owner(node: str, dvipa: Address) -> None:
    family = socket.AF_INET if dvipa.version == 4 else socket.AF_INET6
    with inside(node), Addresses("eth0") as addresses:
        addresses.place(dvipa, False)
        listener = socket.create_server((str(dvipa), 80), family=family)
        client = socket.create_connection((str(dvipa), 80), timeout=5)
        server, _ = listener.accept()
        with listener, client, server:
            for owned in (True, False, True, False):
                addresses.place(dvipa, owned)
                client.sendall(b"still here")
                assert server.recv(100) == b"still here"


def test_the_kernel_never_chooses_a_dvipa_as_source(node: str) -> None:
    run("ip", "-n", node, "addr", "add", "192.0.2.1/24", "dev", "eth0")
    with inside(node), Addresses("eth0") as addresses:
        addresses.place(DVIPA4, True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.2", 9))
            assert probe.getsockname()[0] == "192.0.2.1"


def test_it_works_in_a_thread_of_its_own(node: str) -> None:
    def place() -> dict[Address, bool]:
        with inside(node), Addresses("eth0") as addresses:
            addresses.place(DVIPA6, True)
            return addresses.listed()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(place).result() == {DVIPA6: True}


def test_neighbours_hear_of_256_addresses() -> None:
    dvipas: list[Address] = [IPv4Address(int(DVIPA4) + i) for i in range(128)]
    dvipas += [IPv6Address(int(DVIPA6) + i) for i in range(128)]
    with namespace() as name, namespace() as peer, pair(name, peer):
        with inside(peer):
            listening = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            listening.bind(("eth0", 3))
        with inside(name):
            announcer = Announcer(["eth0"])
            mac = _mac("eth0")
        with listening:
            assert announcer.announce(dvipas) == {}
            heard = _heard(listening, mac)
        announcer.close()
    assert heard == {(str(d), form) for d in dvipas for form in _forms(d)}


def test_a_link_that_is_down_is_reported_and_the_other_served() -> None:
    with namespace() as name, namespace() as peer, pair(name, peer), inside(name):
        run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
        announcer = Announcer(["eth1", "eth0"])
        assert list(announcer.announce([DVIPA4])) == ["eth1"]
        run("ip", "link", "del", "eth1")
        assert list(announcer.announce([DVIPA4])) == ["eth1"]
        run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
        run("ip", "link", "set", "eth1", "up")
        run("ip", "link", "set", "eth2", "up")
        assert announcer.announce([DVIPA4]) == {}
        announcer.close()


def _forms(dvipa: Address) -> tuple[str, ...]:
    return ("request", "reply") if dvipa.version == 4 else ("advertisement",)


def _mac(interface: str) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((interface, 0))
        mac: bytes = probe.getsockname()[4]
        return mac.hex(":")


def _heard(listening: socket.socket, mac: str) -> set[tuple[str, str]]:
    """Announcements of `mac` in what has arrived: (address, form)."""
    heard = set()
    while wait_readable(listening.fileno(), 0.2):
        frame = Ether(listening.recv(2048))
        if frame.src != mac:
            continue
        if ARP in frame and frame[ARP].psrc == frame[ARP].pdst:
            heard.add((frame[ARP].psrc, "request" if frame[ARP].op == 1 else "reply"))
        elif ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt.startswith("2001:db8:ff:"):
            heard.add((frame[ICMPv6ND_NA].tgt, "advertisement"))
    return heard
