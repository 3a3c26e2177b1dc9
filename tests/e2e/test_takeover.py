"""Real power cuts: takeover and takeback, with connections that carry checked data all the time."""

from __future__ import annotations

import sys

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import (
    echo_servers,
    state,
    wait_for_holder,
    wait_for_state,
    wait_for_targets,
)
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_distribution import FLAVOURS, MIXED, STOCK_DEVICES, VXLAN6

pytestmark = pytest.mark.e2e

CONNECTIONS = 200
FLOWING_MS = 400.0


def wait_until_data_flows(cluster: Cluster, long: LongConnections) -> None:
    """Wait until something came back on every connection lately."""
    quiet_ms = FLOWING_MS * cluster.spec.slow
    cluster.wait_until(lambda: long.report().quiet_ms() < quiet_ms, 15.0, "data flows")


@pytest.mark.parametrize("options", [*FLAVOURS, MIXED, VXLAN6, *STOCK_DEVICES])
def test_takeover_and_takeback_lose_nothing(
    make_cluster: MakeCluster, options: dict[str, object]
) -> None:
    """D8, D9: the distributor loses its power, and comes back."""
    cluster = make_cluster(**options)
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
        new = NewConnections(cluster, "client", dvipa, 80, rate=50)
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_until_data_flows(cluster, long)
        wait_for_holder(cluster, dvipa, "lb2")
        takeover = long.phase("takeback")
        cluster.heal("lb1")
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_state(cluster, "lb2", "BACKUP")
        wait_until_data_flows(cluster, long)
        wait_for_holder(cluster, dvipa, "lb1")
        takeback = long.stop()
        report = new.stop()
    assert takeover.lost() == 0
    assert takeback.lost() == 0
    assert takeback.states == {"open": CONNECTIONS}
    assert report.failed == {}


def test_a_clean_stop_gives_the_address_to_the_backup(make_cluster: MakeCluster) -> None:
    """A node that leaves hands over before it goes; nothing is lost, nobody waits for silence."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
        new = NewConnections(cluster, "client", dvipa, 80, rate=100)
        cluster.stop_daemon("lb1")
        assert state(cluster, "lb2") == "ACTIVE"
        wait_until_data_flows(cluster, long)
        left = cluster.run("lb1", ["ip", "-brief", "address", "show", "dev", "lo"]).stdout
        rules = cluster.run("lb1", ["iptables-save"]).stdout
        filters = cluster.run("lb1", ["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout
        pins = cluster.paths.pins("lb1")
        pinned = sorted(pins.rglob("*")) if pins.exists() else []
        result = long.stop()
        report = new.stop()
    assert result.lost() == 0
    assert report.failed == {}
    assert report.slowed == 0
    assert pinned == []
    assert str(dvipa) not in left
    assert "dvipad" not in rules
    assert filters == ""


def test_without_moveable_a_backup_takes_over_what_was_active(make_cluster: MakeCluster) -> None:
    """z/OS: VIPABACKUP without MOVEABLE takes over, and never creates."""
    profile = "VIPADYNAMIC\n VIPABACKUP 50 192.0.2.100\nENDVIPADYNAMIC\n"
    cluster = make_cluster(profiles={"lb2": profile})
    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")


def test_a_target_that_stops_keeps_its_connections(make_cluster: MakeCluster) -> None:
    """A target's daemon may be restarted under its servers; `cleanup` removes what it left."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=30)
        cluster.stop_daemon("t1")
        wait_for_targets(cluster, "lb1", 4)
        report = NewConnections(cluster, "client", dvipa, 80, rate=100, count=50).finish()
        wait_until_data_flows(cluster, long)
        result = long.stop()
        file = str(cluster.paths.node_file("t1"))
        cluster.run("t1", [sys.executable, "-m", "dvipad.cli.dvipad", "cleanup", file])
        left = cluster.run("t1", ["ip", "-brief", "address", "show", "dev", "lo"]).stdout
    assert result.lost() == 0
    assert report.failed == {}
    assert "t1" not in report.servers
    assert str(dvipa) not in left
    assert not any(cluster.paths.pins("t1").rglob("*"))
