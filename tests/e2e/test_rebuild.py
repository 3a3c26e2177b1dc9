"""The CRT of thousands of real connections at a takeover; the crowd that opens and asks them."""

from __future__ import annotations

import os

import pytest

from bench import rebuild
from dvipad.lab import network
from dvipad.lab.crowd import Crowd
from dvipad.lab.spec import LabError, slowness
from dvipad.lab.traffic import EchoServer
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

CONNECTIONS = 10_000


@pytest.mark.parametrize("family", [4, 6])
def test_a_big_crt_is_rebuilt(family: int) -> None:
    """D8, D9: the new distributor knows every connection, and every connection still answers."""
    prefix = f"r{os.getpid()}"
    count = int(CONNECTIONS / slowness())
    sample = rebuild.measure(count, family, prefix)
    assert sample.entries == count
    assert (sample.lost, sample.takeback_lost) == (0, 0)
    assert 0 < sample.detect_ms < sample.total_gap_ms
    assert not network.existing(prefix)


@pytest.mark.parametrize("family", [4, 6])
def test_a_crowd_is_spread_over_its_clients_and_asked_one_by_one(
    make_cluster: MakeCluster, family: int
) -> None:
    cluster = make_cluster(daemons=False, clients=2, targets=1, lbs=1, family=family)
    address = cluster.spec.host("t1").address(family)
    with EchoServer(cluster, "t1") as server, Crowd(cluster, address, 7, 601, rate=0) as crowd:
        report = crowd.check()
        assert (report.states, report.servers, report.lost) == ({"open": 601}, {"t1": 601}, 0)
        assert server.stop()["frames"] == 601
        ended = crowd.check()
        assert ended.lost == 601
        assert ended.states.get("open", 0) == 0


def test_silent_connections_are_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, clients=2, targets=1, lbs=1)
    address = cluster.spec.host("t1").address(4)
    with (
        EchoServer(cluster, "t1"),
        Crowd(cluster, address, 7, 600, rate=100, quiet_s=1.5) as crowd,
    ):
        assert crowd.check().lost == 0
        crowd.phase("cut")
        cluster.cut("client2", "t1")
        report = crowd.check()
        assert (report.lost, report.unanswered, report.states) == (300, 300, {"open": 600})
        assert report.max_gap_ms >= 1500


def test_a_crowd_that_is_refused_says_so(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, clients=1, targets=1, lbs=1)
    address = cluster.spec.host("t1").address(4)
    with pytest.raises(LabError, match="ECONNREFUSED"):
        Crowd(cluster, address, 7, 10)
