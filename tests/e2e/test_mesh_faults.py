"""A mesh that loses packets moves nothing, and one that is really broken is given up in time."""

from __future__ import annotations

import time

import pytest

from dvipad.lab import faults
from dvipad.lab.cluster import Cluster
from dvipad.setup import STUCK_MIN_MS
from tests.chaos.scene import hold
from tests.e2e.cluster_tools import counters, state, wait_for_state
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

WAIT_S = 15.0
LOSS_S = 20.0
FLAPS = 5
MISSING = "heartbeats by UDP from node"


def epoch(cluster: Cluster) -> int:
    """The highest epoch of the DVIPA that a node knows; it grows with each move."""
    return max(
        int(row["epoch"])
        for host in cluster.spec.nodes()
        for row in cluster.view(host.name)["dvipas"]
    )


def sessions(cluster: Cluster, name: str) -> set[str]:
    """The nodes with which `name` has a session."""
    return {row["name"] for row in cluster.view(name)["members"] if row["life"] == "up"}


def others(cluster: Cluster, name: str) -> set[str]:
    return {host.name for host in cluster.spec.nodes()} - {name}


def wait_until_whole(cluster: Cluster) -> None:
    """Wait until lb1 owns the DVIPA, and everybody has a session with everybody."""
    wait_for_state(cluster, "lb1", "ACTIVE")
    cluster.wait_until(
        lambda: all(
            sessions(cluster, host.name) == others(cluster, host.name)
            for host in cluster.spec.nodes()
        ),
        WAIT_S,
        "all sessions are open",
    )


def lost_sessions(cluster: Cluster, name: str) -> int:
    mesh = counters(cluster, name)["mesh"]
    return sum(mesh.get(word, 0) for word in ("silent", "stuck", "timeout", "reset", "eof"))


@pytest.mark.parametrize("family", [4, 6])
def test_a_link_that_flaps_moves_nothing(make_cluster: MakeCluster, family: int) -> None:
    """A cable that is away for 100 ms is no dead host, however often."""
    cluster = make_cluster(family=family)
    wait_until_whole(cluster)
    before = epoch(cluster)
    for _ in range(FLAPS):
        faults.set_link(cluster, "lb1", up=False)
        hold(0.1 * cluster.spec.slow)
        faults.set_link(cluster, "lb1", up=True)
        hold(0.5 * cluster.spec.slow)
    assert epoch(cluster) == before
    assert state(cluster, "lb1") == "ACTIVE"
    assert counters(cluster, "lb1")["mesh"]["carrier_back"] >= 1
    assert lost_sessions(cluster, "lb2") == 0


def test_a_fifth_of_the_mesh_lost_moves_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    wait_until_whole(cluster)
    before = epoch(cluster)
    faults.lose_mesh(cluster, 20.0)
    hold(LOSS_S)
    assert epoch(cluster) == before
    faults.mend(cluster)
    wait_until_whole(cluster)
    assert epoch(cluster) == before


def test_a_firewall_that_knows_tcp_only_is_told_of_and_does_no_harm(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(targets=1)
    wait_until_whole(cluster)
    before = epoch(cluster)
    faults.lose_mesh(cluster, 100.0, ("udp",))

    def is_told() -> bool:
        return all(
            counters(cluster, host.name)["mesh"].get("udp_missing", 0)
            == len(others(cluster, host.name))
            for host in cluster.spec.nodes()
        )

    cluster.wait_until(is_told, WAIT_S * cluster.spec.slow, "missing datagrams are counted")
    hold(1.5 * STUCK_MIN_MS / 1000 * cluster.spec.slow)
    assert epoch(cluster) == before
    assert sessions(cluster, "lb1") == others(cluster, "lb1")
    assert is_told()
    log = cluster.paths.log("lb1").read_text()
    assert [log.count(f"{MISSING} {name} do not") for name in others(cluster, "lb1")] == [1, 1]
    cluster.fail("lb1")
    wait_for_state(cluster, "lb2", "ACTIVE")


def test_a_firewall_that_knows_udp_only_ends_the_sessions_in_time(
    make_cluster: MakeCluster,
) -> None:
    """Heartbeats that arrive do not hide that messages do not."""
    cluster = make_cluster(targets=1)
    wait_until_whole(cluster)
    faults.lose_mesh(cluster, 100.0, ("tcp",))
    began_s = time.monotonic()
    cluster.wait_until(lambda: not sessions(cluster, "lb1"), WAIT_S, "no session is left")
    took_s = time.monotonic() - began_s
    assert took_s > 0.5 * STUCK_MIN_MS / 1000
    assert took_s < (STUCK_MIN_MS / 1000 + 1.5) * cluster.spec.slow
    faults.mend(cluster)
    wait_until_whole(cluster)
