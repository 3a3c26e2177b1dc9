"""Who loses packets gets less, who does not answer gets nothing; and gets it back (P4)."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import EchoServer, NewConnections
from tests.e2e.cluster_tools import WAIT_S, echo_servers
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_workload import profile, rows

pytestmark = pytest.mark.e2e

INTERVAL_MS = 1000
RATE = 200
"""New connections per interval."""
DVIPA = "192.0.2.100"
FIREWALL = f"""
table ip broken {{
  chain path {{
    type filter hook prerouting priority -300
    ip daddr {DVIPA} tcp dport 80 drop
  }}
}}
"""


@contextmanager
def three_targets(
    make_cluster: MakeCluster, method: str
) -> Iterator[tuple[Cluster, dict[str, EchoServer], NewConnections]]:
    """Under load; all say that they have the same to spare."""
    cluster = make_cluster(
        lbs=1,
        targets=3,
        ports=(80,),
        profiles={"lb1": profile(DVIPA, method)},
        settings={"quality": {"interval_ms": INTERVAL_MS}, "workload": {"weight": 40}},
    )
    with echo_servers(cluster) as servers:
        dvipa = cluster.spec.dvipa()
        with NewConnections(
            cluster, "client", dvipa, 80, rate=RATE, requests=3, timeout_s=60
        ) as load:
            assert 0.3 < share(cluster, "t1") < 0.36
            yield cluster, servers, load


def chosen(cluster: Cluster) -> Counter[str]:
    """Connections that each target was given so far."""
    return Counter({name: row["total"] for name, row in rows(cluster).items()})


def pass_intervals(cluster: Cluster, intervals: float) -> None:
    """Wait until so many connections were distributed."""
    end = chosen(cluster).total() + intervals * RATE
    cluster.wait_until(lambda: chosen(cluster).total() >= end, WAIT_S, f"{intervals} intervals")


def share(cluster: Cluster, name: str, intervals: float = 1.5) -> float:
    """Its part of the connections from now on, for some intervals."""
    before = chosen(cluster)
    pass_intervals(cluster, intervals)
    got = chosen(cluster) - before
    return got[name] / got.total()


def table(cluster: Cluster) -> str:
    return cluster.run("lb1", ["dvipactl", "netstat", "vdpt"]).stdout


def test_a_target_that_loses_packets_gets_less_than_half(make_cluster: MakeCluster) -> None:
    with three_targets(make_cluster, "TARGCONTROLLED") as (cluster, _, load):
        before = share(cluster, "t1")
        cluster.loss("t1", 5)
        pass_intervals(cluster, 3)
        lossy = share(cluster, "t1", 2)
        assert lossy <= before / 2, (lossy, table(cluster))
        cluster.loss("t1", 0)
        cluster.wait_until(
            lambda: share(cluster, "t1") > 0.9 * before, WAIT_S, "t1 gets its share again"
        )
        assert load.stop().failed == {}


def test_a_server_that_stops_accepting_gets_nothing(make_cluster: MakeCluster) -> None:
    with three_targets(make_cluster, "ROUNDROBIN") as (cluster, servers, load):
        pid = servers["t1"].process.pid
        os.kill(pid, signal.SIGSTOP)
        pass_intervals(cluster, 2)
        assert share(cluster, "t1", 3) <= 0.01, table(cluster)
        assert "TSR: 000\n  TCSR: 100  CER: 100  SEF: 000" in table(cluster)
        os.kill(pid, signal.SIGCONT)
        pass_intervals(cluster, 2)
        assert share(cluster, "t1") > 0.3, table(cluster)
        assert load.stop().failed == {}


def test_a_target_that_cannot_be_reached_is_probed_and_returns(make_cluster: MakeCluster) -> None:
    """Its firewall drops what it is sent; it knows of nothing, and its heart beats."""
    with three_targets(make_cluster, "ROUNDROBIN") as (cluster, _, load):
        rules = cluster.paths.host("t1") / "broken.nft"
        rules.write_text(FIREWALL)
        cluster.run("t1", ["nft", "-f", str(rules)])
        pass_intervals(cluster, 2.5)
        assert 0 < share(cluster, "t1", 3) <= 0.01, table(cluster)
        assert "TSR: 000\n  TCSR: 000  CER: 100  SEF: 100" in table(cluster)
        cluster.run("t1", ["nft", "delete", "table", "ip", "broken"])
        cluster.wait_until(lambda: share(cluster, "t1") > 0.3, WAIT_S, "t1 is back")
        assert load.report().failed == {}  # what was lost is repeated after a longer time each
