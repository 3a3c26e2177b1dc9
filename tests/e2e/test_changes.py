"""Policies and methods change while wrk runs: no request fails (P2, P3)."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from typing import Final

import pytest

from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import Nginx
from tests.e2e.cluster_tools import (
    counters,
    follow_policies,
    follow_profile,
    profile,
    targets_of,
    wait_for_targets,
)
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

METHODS: Final = ("BASEWLM", "LEASTCONN", "SERVERWLM", "WEIGHTEDACTIVE", "ROUNDROBIN")
POLICIES: Final = (
    {"targets": {"nodes": ["t1"]}},
    {"match": {"port": "80"}, "targets": {"nodes": ["t2", "t3"]}},
    {"match": {"dscp": "ef"}, "targets": {"nodes": ["t1"]}, "use": "restrict"},
)
CHANGES: Final = 10
IDLE: Final = ("chrt", "-i", "0")
"""wrk takes what others leave, or it would starve the cluster and whatever else runs."""
CONNECTIONS: Final = 16
PACKETS: Final = 1_000
"""That are forwarded between two changes, at least."""
TIMEOUT_S: Final = 30
"""wrk itself may have to wait for a processor."""
LONGEST_S: Final = 600
"""wrk is told to end as soon as all has changed."""


def _forwarded(cluster: Cluster) -> int:
    plane = counters(cluster, "lb1")["plane"]
    return int(plane["encapsulated"] + plane["direct"])


def _requests_go_on(cluster: Cluster) -> None:
    goal = _forwarded(cluster) + PACKETS
    cluster.wait_until(lambda: _forwarded(cluster) >= goal, 10, "requests go on")


def _change(cluster: Cluster, number: int) -> None:
    """Methods and policies by turns."""
    turn = number // 2
    if number % 2:
        policy = POLICIES[turn % len(POLICIES)] | {"name": f"p{number}"}
        follow_policies(cluster, "lb1", json.dumps({"policies": [policy]}))
    else:
        text = profile(str(cluster.spec.dvipa()), METHODS[turn % len(METHODS)])
        follow_profile(cluster, "lb1", text)


@pytest.mark.parametrize("new_connections", [True, False], ids=["new", "kept"])
def test_no_request_of_wrk_fails(make_cluster: MakeCluster, new_connections: bool) -> None:
    """Ten changes; a connection for each request, and connections that are kept."""
    cluster = make_cluster()
    dvipa, folder = cluster.spec.dvipa(), cluster.paths.host("client")
    argv = wrk.command(
        wrk.url_of(dvipa, 80),
        folder,
        connections=CONNECTIONS,
        seconds=LONGEST_S,
        new_connections=new_connections,
        timeout_s=TIMEOUT_S,
    )
    with ExitStack() as stack:
        for name in targets_of(cluster):
            stack.callback(Nginx(cluster, name).stop)
        wait_for_targets(cluster, "lb1", len(targets_of(cluster)))
        output = (folder / "wrk.out").open("w+")
        stack.callback(output.close)
        process = cluster.popen("client", [*IDLE, *argv], stdout=output, stderr=subprocess.STDOUT)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        for number in range(CHANGES):
            _change(cluster, number)
            _requests_go_on(cluster)
        process.send_signal(signal.SIGINT)
        process.wait()
        output.seek(0)
        result = wrk.parse(output)
    assert result.errors == {}
    assert set(result.servers) == set(targets_of(cluster))
    assert sum(result.servers.values()) == result.requests > CHANGES
