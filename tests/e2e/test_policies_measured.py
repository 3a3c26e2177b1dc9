"""Subsets that are made of what targets say of themselves, while they say it (P1)."""

from __future__ import annotations

import pytest

from dvipad.lab.cluster import Cluster
from tests.e2e.cluster_tools import WAIT_S, echo_servers, wait_until_carried_out
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_policies import follow, who
from tests.e2e.test_workload import announce, profile

pytestmark = pytest.mark.e2e


def served(cluster: Cluster, ring: list[str]) -> set[str]:
    """Who serves, once the policy leads to `ring`."""
    cluster.wait_until(
        lambda: cluster.ask("lb1", "policies")["services"][0]["ring"] == ring,
        WAIT_S,
        f"the policy leads to {ring}",
    )
    wait_until_carried_out(cluster, "lb1")
    return set(who(cluster))


def test_the_subset_is_who_has_something_to_spare(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        lbs=1,
        targets=2,
        ports=(80,),
        profiles={"lb1": profile("192.0.2.100", "TARGCONTROLLED")},
        settings={"workload": {"interval_ms": 1000}},
        host_settings={name: {"workload": {"weight": 50}} for name in ("t1", "t2")},
    )
    with echo_servers(cluster):
        follow(cluster, {"targets": {"where": ["weight > 40"]}, "use": "restrict"})
        assert served(cluster, ["t1", "t2"]) == {"t1", "t2"}
        announce(cluster, "t1", "30")
        assert served(cluster, ["t2"]) == {"t2"}
        announce(cluster, "t2", "40")
        assert served(cluster, []) == {"refused"}
        announce(cluster, "t1", "41")
        assert served(cluster, ["t1"]) == {"t1"}
