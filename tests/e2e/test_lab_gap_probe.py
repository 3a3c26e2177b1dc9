"""The gap probe on a network: it sees a gap as it is, and leaves nothing behind at the server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabError
from dvipad.lab.traffic import EchoServer, GapProbe, LongConnections

pytestmark = pytest.mark.e2e

MakeCluster = Callable[..., Cluster]


@pytest.mark.parametrize("family", [4, 6])
def test_a_gap_is_as_long_as_the_cut(make_cluster: MakeCluster, family: int) -> None:
    cluster = make_cluster(daemons=False, targets=1, family=family)
    t1 = cluster.spec.host("t1").address(family)
    with (
        EchoServer(cluster, "t1") as server,
        LongConnections(cluster, "client", t1, 7, connections=50) as connections,
        GapProbe(cluster, "client", t1, 7) as probe,
    ):
        cluster.wait_until(lambda: probe.report().answered >= 200, 5, "200 answers")
        probe.phase("cut")
        began_ns = time.monotonic_ns()
        cluster.cut("client", "t1")
        cluster.wait_until(lambda: probe.report().quiet_ms > 400, 5, "silence")
        cluster.join("client", "t1")
        ended_ns = time.monotonic_ns()
        cluster.wait_until(lambda: probe.report().quiet_ms < 100, 5, "answers again")
        report = probe.phase("rest")
        slack_ms = 50 + report.own_stall_ms
        assert report.refused == 0
        assert 400 < report.max_gap_ms < (ended_ns - began_ns) / 1e6 + slack_ms
        assert connections.stop().lost() == 0
        counts = server.stop()
        assert counts["accepted"] == 50  # no probe ever became a connection


def test_refusals_and_silence_are_not_answers(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False, targets=1)
    t1 = cluster.spec.host("t1").address(4)
    with (
        EchoServer(cluster, "t1") as server,
        GapProbe(cluster, "client", t1, 7) as probe,
    ):
        server.stop()
        probe.phase("refused")
        cluster.wait_until(lambda: probe.report().refused >= 20, 5, "refusals")
        assert probe.stop().quiet_ms > 50
    with pytest.raises(LabError, match="does not answer"):
        GapProbe(cluster, "client", cluster.spec.dvipa(), 7)
