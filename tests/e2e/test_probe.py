"""Probes on real links: who has an address is found and named, in a fraction of a second."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.packet_socket import PacketSocket
from dvipad.adapters.probe import Prober
from dvipad.adapters.probe_frames import every_claim, probe_frame
from dvipad.address import Address
from tests.e2e.dvs_network import SLOW, inside, namespace, pair, run
from tests.e2e.plane_lan import DVIPA, lan

pytestmark = pytest.mark.e2e

PROBE_MS = round(200 * SLOW)
FREE: dict[int, Address] = {4: ip_address("192.0.2.77"), 6: ip_address("2001:db8::77")}
both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@contextmanager
def two_hosts(mac: str = "02:00:00:00:00:99") -> Iterator[tuple[str, str]]:
    """A node and another host, joined by a cable; the node's MAC address ends in 02."""
    with namespace() as node, namespace() as other, pair(node, other):
        run("ip", "-n", node, "link", "set", "eth0", "address", "02:00:00:00:00:02")
        run("ip", "-n", other, "link", "set", "eth0", "address", mac)
        yield node, other


async def probe_all(
    addresses: list[Address], uplinks: tuple[str, ...] = ("eth0",)
) -> list[BaseException | None]:
    """What came of probing them all at once."""
    counters: Counter[str] = Counter()
    with ThreadPoolExecutor(1) as closer:
        prober = Prober(uplinks, PROBE_MS, closer, counters)
        results = await asyncio.gather(*map(prober.probe, addresses), return_exceptions=True)
    assert counters["probed"] == len(addresses)
    assert counters["in_use"] == sum(result is not None for result in results)
    return results


def probe(node: str, *addresses: Address) -> list[BaseException | None]:
    with inside(node):
        return asyncio.run(probe_all(list(addresses)))


def place(host: str, address: Address, interface: str = "eth0") -> None:
    length = address.max_prefixlen
    run(*f"ip -n {host} address add {address}/{length} dev {interface}".split(), *_nodad(address))


def _nodad(address: Address) -> tuple[str, ...]:
    return ("nodad",) if address.version == 6 else ()


@both
def test_one_that_another_host_has_is_refused_and_says_who(version: int) -> None:
    with two_hosts() as (node, other):
        place(other, FREE[version])
        began = time.monotonic()
        (error,) = probe(node, FREE[version])
        assert time.monotonic() - began < PROBE_MS / 1000
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRINUSE
    assert f"{FREE[version]} is in use by 02:00:00:00:00:99 on eth0" in str(error)


@both
def test_one_that_nobody_has_passes_after_the_whole_time(version: int) -> None:
    with two_hosts() as (node, _other):
        began = time.monotonic()
        assert probe(node, FREE[version]) == [None]
        assert PROBE_MS / 1000 <= time.monotonic() - began < 3 * PROBE_MS / 1000


def test_many_are_probed_at_the_same_time() -> None:
    addresses: list[Address] = [IPv4Address(int(FREE[4]) + i) for i in range(50)]
    addresses += [IPv6Address(int(FREE[6]) + i) for i in range(50)]
    with two_hosts() as (node, other):
        place(other, addresses[7])
        place(other, addresses[60])
        began = time.monotonic()
        results = probe(node, *addresses)
        assert time.monotonic() - began < 4 * PROBE_MS / 1000
    taken = [address for address, result in zip(addresses, results, strict=True) if result]
    assert taken == [addresses[7], addresses[60]]


@both
@pytest.mark.parametrize("rival", ["02:00:00:00:00:01", "02:00:00:00:00:03"])
def test_of_two_that_ask_at_the_same_time_the_lower_goes_on(version: int, rival: str) -> None:
    address = FREE[version]

    async def both_ask(node: str, other: str) -> list[BaseException | None]:
        with inside(other):
            asking = PacketSocket("eth0", every_claim())
        with inside(node):
            probing = asyncio.ensure_future(probe_all([address]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asking.send(probe_frame(asking.link_layer()[1], address))
            try:
                return await probing
            finally:
                asking.close()

    with two_hosts(rival) as (node, other):
        (error,) = asyncio.run(both_ask(node, other))
    assert (error is None) == (rival > "02:00:00:00:00:02")
    assert error is None or f"is asked for by {rival}" in str(error)


@both
def test_the_node_itself_and_members_that_hide_it_do_not_answer(version: int) -> None:
    with lan(4) as net:
        node = net.host(8)
        net.node(1, Role.HIDDEN)
        assert probe(node, DVIPA[version]) == [None]
        assert probe(net.names[1], DVIPA[version]) == [None]
        net.node(2, Role.OWNER)
        for asking in (node, net.names[1]):
            (error,) = probe(asking, DVIPA[version])
            assert f"is in use by {net.mac(2)}" in str(error)


def test_an_uplink_that_is_down_or_missing_keeps_nobody_from_asking() -> None:
    with two_hosts() as (node, other):
        run(*f"ip -n {node} link add eth1 type veth peer name eth2".split())
        place(other, FREE[4])
        with inside(node):
            (error,) = asyncio.run(probe_all([FREE[4]], ("eth1", "eth7", "eth0")))
            assert "on eth0" in str(error)
            run("ip", "link", "set", "eth0", "down")
            assert asyncio.run(probe_all([FREE[4]], ("eth1", "eth7", "eth0"))) == [None]
