"""Real TCP through the data plane: client, distributor and targets on one bridge."""

from __future__ import annotations

import hashlib
import random
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dvipad.adapters.bpf.crt import Wanted
from dvipad.adapters.bpf.layout import Role, Tunnel
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.plane import DataPlane
from tests.e2e.dvs_network import inside, run
from tests.e2e.plane_lan import DVIPA, PORT, Lan, exchange, lan, xcf
from tests.e2e.plane_network import TUNNELS

pytestmark = pytest.mark.e2e

MEGABYTE = random.Random(1).randbytes(1 << 20)
DISTRIBUTOR = 1
TARGETS = (2, 3)


def distribute(net: Lan, outer: int) -> DataPlane:
    """A distributor of both DVIPAs, and two targets."""
    plane = net.node(DISTRIBUTOR, Role.OWNER)
    ring = tuple(xcf(number, outer) for number in TARGETS)
    for dvipa in DVIPA.values():
        plane.set_service(dvipa, PORT, ring, offload=True)
    for number in TARGETS:
        net.node(number, Role.HIDDEN).set_members(frozenset({xcf(DISTRIBUTOR, outer)}))
        net.serve(number)
    return plane


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_connections_are_distributed_and_carry_data(tunnel: Tunnel, outer: int, inner: int) -> None:
    with lan(outer, tunnel=tunnel) as net:
        plane = distribute(net, outer)
        served = Counter(exchange(net.connect(inner), b"hello") for _ in range(20))
        assert served == {2: 10, 3: 10}, "round robin is exact"
        before = plane.counters()["encapsulated"]
        exchange(net.connect(inner), MEGABYTE)
        packets = plane.counters()["encapsulated"] - before
        assert packets < len(MEGABYTE) // 1400 // 2, "large frames were cut up"
        totals = plane.totals()
        assert sorted(totals.values()) == [10, 11]
        counters = plane.counters()
        assert counters["chosen"] == counters["promoted"] == 21
        assert sum(net.planes[n].counters()["mss_clamped"] for n in TARGETS) == 21
        for name in ("too_big", "encapsulation_failed", "no_target", "malformed"):
            assert counters[name] == 0
        for number in TARGETS:
            assert net.planes[number].counters()["decapsulation_failed"] == 0


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_the_former_owner_relays_to_its_successor(tunnel: Tunnel, outer: int, inner: int) -> None:
    with lan(outer, tunnel=tunnel) as net:
        plane = distribute(net, outer)
        former = net.node(4, Role.MOVING, successor=xcf(DISTRIBUTOR, outer))
        plane.set_members(frozenset({xcf(4, outer)}))
        stale = f"ip -n {net.client} neigh replace {DVIPA[inner]} lladdr {net.mac(4)} dev eth0"
        run(*stale.split(), "nud", "permanent")
        served = Counter(exchange(net.connect(inner), MEGABYTE) for _ in range(2))
        assert served == {2: 1, 3: 1}
        relayed = plane.counters()["relayed"]
        assert relayed == former.counters()["moving_successor"] == former.counters()["encapsulated"]
        assert relayed < len(MEGABYTE) // 1400, "large frames were cut up"


def test_a_connection_survives_a_restart_of_the_daemon() -> None:
    with lan(4) as net:
        plane = distribute(net, 4)
        with net.connect(4) as connection:
            connection.sendall(MEGABYTE)
            plane.close()
            connection.sendall(MEGABYTE)
            again = net.open(DISTRIBUTOR)
            connection.sendall(MEGABYTE)
            connection.shutdown(socket.SHUT_WR)
            digest = connection.recv(100).decode().split()[1]
            assert digest == hashlib.md5(MEGABYTE * 3).hexdigest()
        assert {(each.dvipa, each.role) for each in again.adopted()} == {
            (dvipa, Role.OWNER) for dvipa in DVIPA.values()
        }
        assert [row.target for row in again.crt(Wanted(DVIPA[4]))] == [xcf(2, 4)]
        assert exchange(net.connect(4), b"") == 3, "the position in the ring was adopted too"


def test_destroy_leaves_nothing_of_ours_and_all_of_others() -> None:
    with lan(4) as net:
        distribute(net, 4)
        pins = net.planes[2].settings.pin_dir
        name = net.names[2]
        net.destroy(2)
        assert not pins.exists()
        assert "clsact" not in run("ip", "netns", "exec", name, "tc", "qdisc", "show")
        name = net.names[3]
        filter_of_others = "tc filter add dev eth0 ingress u32 match u32 0 0 classid 1:1"
        run("ip", "netns", "exec", name, *filter_of_others.split())
        net.destroy(3)
        left = run("ip", "netns", "exec", name, *["tc", "filter", "show", "dev", "eth0", "ingress"])
        assert "u32" in left
        assert "bpf" not in left


def test_pinned_maps_of_another_shape_are_named_and_kept() -> None:
    with lan(4) as net:
        plane = distribute(net, 4)
        other = replace(plane.settings, established=8192)
        with inside(net.names[1]), pytest.raises(BpfError, match="size 4096 there, 8192 here"):
            DataPlane.open(other)
        assert exchange(net.connect(4), b"still there") == 2
        mistaken = replace(plane.settings, uplinks=("eth7",))
        with inside(net.names[1]), pytest.raises(BpfError, match="uplink eth7: No such device"):
            DataPlane.open(mistaken)
        broken = replace(plane.settings, object_path=Path("/nonexistent.bpf.o"))
        with inside(net.names[1]), pytest.raises(BpfError, match="make -C bpf"):
            DataPlane.open(broken)
