"""`/metrics` of real nodes: what is told is true, every metric is there, and promtool likes it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dvipad.lab.traffic import LongConnections
from dvipad.lab.web import WebServer, web_server
from dvipad.web.metrics import FAMILIES
from tests.e2e.cluster_tools import (
    WAIT_S,
    echo_servers,
    follow_policies,
    follow_status,
    wait_for_state,
)
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

STATUS = """
objects: [{name: one, kind: exec, interval_ms: 100, options: {command: echo 1}}]
preferences: [{name: web, by: fastest, figure: web.time_ms}]
dns: [{name: www.example.org, dvipa: "DVIPA", port: 80, server: 192.0.2.201}]
"""
Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(web: WebServer) -> Samples:
    """Every sample, by name and labels."""
    code, text = web.get("/metrics")
    assert code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, labels: Mapping[str, object] | None = None) -> float | None:
    """The sum of all samples with that name and at least these labels; None: there is none."""
    wanted = {(key, str(each)) for key, each in (labels or {}).items()}
    found = [number for (own, has), number in samples.items() if own == name and has >= wanted]
    return sum(found) if found else None


def eventually(web: WebServer, holds: Callable[[Samples], bool], what: str) -> Samples:
    """The first scrape of which that holds."""
    last: list[Samples] = []

    def now() -> bool:
        last[:] = [scrape(web)]
        return holds(last[0])

    web.cluster.wait_until(now, WAIT_S, what)
    return last[0]


@pytest.mark.parametrize("family", [4, 6])
def test_connections_packets_and_roles_are_told(make_cluster: MakeCluster, family: int) -> None:
    cluster = make_cluster(family=family, targets=2, ports=(80,))
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster), web_server(cluster, "lb1") as web:
        wait_for_state(cluster, "lb1", "ACTIVE")
        follow_policies(cluster, "lb1", "policies: [{name: all, targets: {nodes: [t1, t2]}}]")
        follow_status(cluster, "lb1", STATUS.replace("DVIPA", str(dvipa)))
        LongConnections(cluster, "client", dvipa, 80, connections=10)
        active = eventually(
            web,
            lambda found: (
                value(found, "dvipad_connections_active") == 10
                and value(found, "dvipad_node_weight", {"node": "t1"}) is not None
                and value(found, "dvipad_status_figure", {"object": "one"}) is not None
            ),
            "10 are counted, and t1 has measured itself",
        )
        assert value(active, "dvipad_connections_new_total", {"dvipa": dvipa, "port": 80}) == 10
        for target in ("t1", "t2"):
            each = {"target": target}
            assert value(active, "dvipad_connections_active", each) == 5
            assert (value(active, "dvipad_target_bytes_total", each) or 0) > 0
            assert value(active, "dvipad_target_listeners", each) == 1
            assert value(active, "dvipad_peer_up", {"peer": target}) == 1
        roles = {
            role: value(active, "dvipad_dvipa_role", {"dvipa": dvipa, "role": role})
            for role in ("owner", "backup", "target")
        }
        assert value(active, "dvipad_policy_connections_total", {"policy": "all"}) == 10
        assert value(active, "dvipad_policy_refused_total", {"policy": "all"}) == 0
        assert value(active, "dvipad_policy_targets", {"policy": "all"}) == 2
        assert roles == {"owner": 1, "backup": 0, "target": 0}
        assert value(active, "dvipad_status_figure", {"object": "one"}) == 1
        assert value(active, "dvipad_status_object_up", {"object": "one"}) == 1
        assert value(active, "dvipad_syn_choices_total", {"by": "worker"}) == 10
        assert value(active, "dvipad_crt_entries", {"table": "established"}) == 10
        assert value(active, "dvipad_move_seconds_count", {"trigger": "first"}) == 1
        told = {name for name, _labels in active}
        missing = [each.name for each in FAMILIES if not any(n.startswith(each.name) for n in told)]
        # Weights are told where they differ, those of servers where these have cgroups, announced
        # ones where an operator does, events of the mesh once there are some. Services are watched
        # where they are, and targets while something is not well.
        assert set(missing) <= {
            "dvipad_target_weight",
            "dvipad_server_weight",
            "dvipad_node_announced_weight",
            "dvipad_mesh_events_total",
            "dvipad_service_quality",
            "dvipad_service_round_trip_seconds",
            "dvipad_target_fitness",
        }


def test_moves_and_their_times_are_told(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    with web_server(cluster, "lb2") as web:
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        taken = scrape(web)
        assert value(taken, "dvipad_move_seconds_count", {"trigger": "owner lost"}) == 1
        assert 0 < (value(taken, "dvipad_move_seconds_sum", {"trigger": "owner lost"}) or 0) < 10
        assert value(taken, "dvipad_dvipa_owner", {"owner": "lb2"}) == 1
        assert value(taken, "dvipad_peer_up", {"peer": "lb1"}) == 0
        epoch = value(taken, "dvipad_dvipa_epoch")
        cluster.heal("lb1")
        wait_for_state(cluster, "lb2", "BACKUP")
        given = eventually(
            web,
            lambda found: value(found, "dvipad_dvipa_owner", {"owner": "lb1"}) == 1,
            "lb2 tells who the owner is",
        )
        assert (value(given, "dvipad_dvipa_epoch") or 0) > (epoch or 0)
        assert value(given, "dvipad_dvipa_role", {"role": "backup"}) == 1
        assert value(given, "dvipad_decisions_total", {"action": "give up"}) == 1


def test_a_daemon_that_is_dead_is_told(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    with web_server(cluster, "t1") as web:
        assert value(scrape(web), "dvipad_up") == 1
        cluster.signal_daemon("t1", signal.SIGKILL)
        assert scrape(web) == {("dvipad_up", frozenset()): 0.0}


def test_promtool_and_openmetrics_accept_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    with web_server(cluster, "lb1") as web:
        _code, text = web.get("/metrics")
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        accept = "Accept: application/openmetrics-text; version=1.0.0"
        argv = ["curl", "-s", "-m", "20", "-H", accept, web.url("/metrics")]
        strict = cluster.run("client", argv).stdout
        assert strict.endswith("# EOF\n")
        assert strict.count("# EOF") == 1
        assert "# TYPE dvipad_connections_new counter" in strict
