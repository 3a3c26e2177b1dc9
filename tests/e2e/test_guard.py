"""Somebody takes the programs off the distributor's uplink: nothing is reset meanwhile."""

from __future__ import annotations

import os
import socket

import pytest

from dvipad.adapters.bpf.layout import Role
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.commands import run_command
from dvipad.adapters.guard import COMMENT, guard_rules, probe_guard
from dvipad.adapters.xtables import Xtables, XtablesRules
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabSpec
from dvipad.lab.traffic import EchoServer
from tests.e2e.dvs_network import eventually, inside, run
from tests.e2e.plane_lan import DVIPA, PORT, Lan, lan, xcf

pytestmark = pytest.mark.e2e

DISTRIBUTOR, TARGET = 1, 2
MARKED = "-t mangle -I INPUT -p tcp -m mark ! --mark 0 -j DROP"
"""A rule of somebody else's, that our mark must not meet."""


def test_this_host_can_have_it() -> None:
    assert probe_guard() is Xtables.NFT


def guarded(net: Lan, number: int, xtables: Xtables) -> XtablesRules:
    """The guard on one node."""
    settings = net.planes[number].settings
    rules = guard_rules(xtables, settings.seen_mark, settings.guard())
    with inside(net.names[number]):
        rules.ensure()
        assert rules.present()
        for command in xtables.value:
            assert run_command([command, *MARKED.split()]).code == 0
    return rules


def distribute(net: Lan, version: int) -> DataPlane:
    """A distributor that is a target, too."""
    plane = net.node(DISTRIBUTOR, Role.OWNER)
    ring = (xcf(TARGET, 4), xcf(DISTRIBUTOR, 4))
    plane.set_service(DVIPA[version], PORT, ring, offload=True)
    net.node(TARGET, Role.HIDDEN).set_members(frozenset({xcf(DISTRIBUTOR, 4)}))
    for number in (DISTRIBUTOR, TARGET):
        net.serve(number)
    return plane


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("xtables", list(Xtables))
def test_connections_wait_for_the_program(xtables: Xtables, version: int) -> None:
    with lan(4) as net:
        plane = distribute(net, version)
        for number in (DISTRIBUTOR, TARGET):
            guarded(net, number, xtables)
        open_ones = [net.connect(version) for _ in range(2)]
        run(*f"tc -n {net.names[DISTRIBUTOR]} qdisc del dev eth0 clsact".split())
        for each in open_ones:
            each.sendall(b"into the dark")
        eventually(lambda: plane.counters()["unseen"] >= len(open_ones) or None)
        with inside(net.names[DISTRIBUTOR]):
            plane.attach()
        served = {exchange_rest(each) for each in open_ones}
        assert served == {DISTRIBUTOR, TARGET}


def exchange_rest(connection: socket.socket) -> int:
    """The node that answers a connection to which something was written before."""
    with connection:
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(100):
            answer += part
    return int(answer.split()[0])


def test_without_a_guard_they_are_reset() -> None:
    with lan(4) as net:
        distribute(net, 4)
        connection = net.connect(4)  # to the target: it is first in the ring
        run(*f"tc -n {net.names[DISTRIBUTOR]} qdisc del dev eth0 clsact".split())
        with connection, pytest.raises(ConnectionResetError):
            connection.sendall(b"into the dark")
            connection.recv(1)


def test_what_is_no_dvipa_is_left_alone() -> None:
    with lan(4) as net:
        plane = distribute(net, 4)
        rules = guarded(net, DISTRIBUTOR, Xtables.NFT)
        with inside(net.names[DISTRIBUTOR]):
            listener = socket.create_server(("192.0.2.1", 22))
        with inside(net.client):
            there = ("192.0.2.1", 22)
            socket.create_connection(there, timeout=5).close()
            run(*f"tc -n {net.names[DISTRIBUTOR]} qdisc del dev eth0 clsact".split())
            socket.create_connection(there, timeout=5).close()
        listener.close()
        assert plane.counters()["unseen"] == 0
        with inside(net.names[DISTRIBUTOR]):
            rules.remove()
            assert not rules.present()


def test_in_and_out_leaves_no_trace() -> None:
    with lan(4) as net:
        net.node(DISTRIBUTOR, Role.OWNER)
        with inside(net.names[DISTRIBUTOR]):
            before = run("nft", "list", "ruleset")
            settings = net.planes[DISTRIBUTOR].settings
            rules = guard_rules(Xtables.NFT, settings.seen_mark, settings.guard())
            rules.ensure()
            rules.remove()
            assert run("nft", "list", "ruleset") == before


def test_a_node_that_stops_takes_its_guard_along() -> None:
    spec = LabSpec(prefix=f"g{os.getpid()}", lbs=1, targets=0)
    with Cluster(spec, daemons=False) as cluster:
        rules = ["nft", "list", "ruleset"]
        before = cluster.run("lb1", rules).stdout
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        chain = ["iptables-nft", "-t", "mangle", "-S", "PREROUTING"]
        cluster.wait_until(
            lambda: COMMENT in cluster.run("lb1", chain, check=False).stdout, 10, "the guard"
        )
        cluster.stop_daemon("lb1")
        assert cluster.run("lb1", rules).stdout == before


def test_a_pure_target_has_no_worker_no_rules_and_leaves_no_mark() -> None:
    spec = LabSpec(prefix=f"g{os.getpid()}", lbs=1, targets=2)
    with Cluster(spec) as cluster, EchoServer(cluster, "t1", [80]):
        assert cluster.ask("lb1", "counters")["pids"]
        assert cluster.ask("t1", "counters")["pids"] == {}
        before = cluster.run("t2", ["nft", "list", "ruleset"]).stdout
        assert cluster.run("t1", ["nft", "list", "ruleset"]).stdout == before == ""
        marked = "iptables-nft -t mangle -A INPUT -m mark ! --mark 0 -j DROP"
        cluster.run("t1", marked.split())
        cluster.wait_until(
            lambda: any(row["ready"] for row in cluster.view("lb1")["targets"]), 10, "t1 is ready"
        )
        with inside(cluster.namespace("client")):
            socket.create_connection((str(spec.dvipa()), 80), timeout=5).close()
