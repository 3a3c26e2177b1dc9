"""The traffic programs: they see what happens on the network, and do not invent anything."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import pytest

from dvipad.address import Address
from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabError
from dvipad.lab.traffic import EchoServer, LongConnections, NewConnections, Nginx

pytestmark = pytest.mark.e2e

MakeCluster = Callable[..., Cluster]


def add_dvipa(cluster: Cluster, host: str) -> Address:
    """Put the DVIPA on `host` as an ordinary address."""
    dvipa = cluster.spec.dvipa()
    suffix = ["128", "nodad"] if isinstance(dvipa, IPv6Address) else ["32"]
    words = [f"{dvipa}/{suffix[0]}", "dev", "eth0", *suffix[1:]]
    cluster.run(host, ["ip", "address", "add", *words])
    return dvipa


@pytest.mark.parametrize("family", [4, 6])
def test_long_connections_see_gaps(make_cluster: MakeCluster, family: int) -> None:
    cluster = make_cluster(daemons=False, targets=1, family=family)
    dvipa = add_dvipa(cluster, "t1")
    with (
        EchoServer(cluster, "t1") as server,
        LongConnections(cluster, "client", dvipa, 7, connections=50) as connections,
    ):
        assert connections.opened.servers["t1"]["connections"] == 50
        calm = cluster.wait_until(
            lambda: (r := connections.report()).echoed >= 500 and r, 10, "500 echoes"
        )
        assert calm and calm.lost() == 0 and calm.states == {"open": 50}
        connections.phase("cut")
        cluster.cut("client", "t1")
        cluster.wait_until(lambda: connections.report().quiet_ms() > 300, 5, "silence")
        cluster.join("client", "t1")
        cluster.wait_until(lambda: connections.report().quiet_ms() < 100, 10, "echoes again")
        report = connections.stop()
        assert report.phase == "cut"
        assert 300 < report.max_gap_ms() < 5000
        assert report.max_gap_ms(without=["t1"]) == 0
        assert report.lost() == 0
        counts = server.stop()
        assert counts["accepted"] == 50
        assert counts.get("corrupt", 0) == 0


def test_big_frames_survive_loss(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, targets=1)
    dvipa = add_dvipa(cluster, "t1")
    with (
        EchoServer(cluster, "t1"),
        LongConnections(
            cluster, "client", dvipa, 7, connections=10, size=20000, interval_ms=50
        ) as connections,
    ):
        cluster.loss("t1", 2)
        cluster.wait_until(lambda: connections.report().echoed >= 100, 20, "100 echoes")
        assert connections.stop().lost() == 0


def test_a_power_cut_is_silent_and_a_killed_server_is_not(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, targets=2)
    addresses = {name: cluster.spec.host(name).address(4) for name in ("t1", "t2")}
    with (
        EchoServer(cluster, "t1"),
        EchoServer(cluster, "t2") as killed,
        LongConnections(cluster, "client", addresses["t1"], 7, connections=5) as to_t1,
        LongConnections(cluster, "client", addresses["t2"], 7, connections=5) as to_t2,
    ):
        cluster.fail("t1")
        killed.kill()
        cluster.wait_until(lambda: to_t2.report().lost() == 5, 5, "the server is gone")
        silent = cluster.wait_until(
            lambda: (r := to_t1.report()).quiet_ms() > 500 and r, 5, "silence"
        )
        assert silent and silent.states == {"open": 5}
        assert to_t2.report().lost(without=["t2"]) == 0


def test_new_connections_at_500_per_second(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, targets=1)
    dvipa = add_dvipa(cluster, "t1")
    with (
        EchoServer(cluster, "t1"),
        NewConnections(cluster, "client", dvipa, 7, count=1000, requests=3) as connections,
    ):
        report = connections.finish()
    assert report.answered == 1000
    assert report.failed == {}
    assert report.servers == {"t1": 1000}
    assert report.slowed == 0
    assert report.seconds < 3


def test_a_retransmitted_syn_counts_as_slowed_and_a_refusal_as_failed(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(daemons=False, targets=1)
    t1 = cluster.spec.host("t1").address(4)
    with EchoServer(cluster, "t1"):
        cluster.run("client", ["ping", "-c", "1", str(t1)])
        cluster.cut("client", "t1")
        with NewConnections(cluster, "client", t1, 7, rate=100, count=5) as connections:
            cluster.wait_until(lambda: connections.report().started == 5, 5, "all have started")
            cluster.join("client", "t1")
            report = connections.finish()
    assert (report.answered, report.slowed, report.failed) == (5, 5, {})
    assert report.retransmits >= 5
    with NewConnections(cluster, "client", t1, 7, rate=100, count=5) as connections:
        assert connections.finish().failed == {"ECONNREFUSED": 5}
    with pytest.raises(LabError, match="ECONNREFUSED"):
        LongConnections(cluster, "client", t1, 7, connections=3)


@pytest.mark.parametrize("family", [4, 6])
def test_nginx_says_where_it_is(make_cluster: MakeCluster, family: int) -> None:
    cluster = make_cluster(daemons=False, targets=1, family=family)
    dvipa = add_dvipa(cluster, "t1")
    host = f"[{dvipa}]" if family == 6 else str(dvipa)
    nginx = Nginx(cluster, "t1")
    assert cluster.run("client", ["curl", "-gs", f"http://{host}/"]).stdout == "t1\n"
    argv = wrk.command(
        wrk.url_of(dvipa, 80),
        cluster.paths.host("client"),
        connections=4,
        seconds=1,
        new_connections=True,
    )
    result = wrk.parse(cluster.run("client", argv).stdout.splitlines())
    assert result.errors == {}
    assert result.servers == {"t1": result.requests}
    nginx.stop()
    assert cluster.run("client", ["curl", "-gs", f"http://{host}/"], check=False).returncode == 7
    Nginx(cluster, "t1", ports=[8080], bind=[dvipa])
    assert cluster.run("client", ["curl", "-gs", f"http://{host}:8080/"]).stdout == "t1\n"
