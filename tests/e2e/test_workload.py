"""Who is busy gets less, and gets it back: weights that are measured, and weights by order."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from dvipad.lab.capacity import Capacity
from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import EchoServer, NewConnections
from tests.e2e.cluster_tools import echo_servers, profile, wait_for_targets
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

INTERVAL_MS = 1000
FOLLOWS_S = 30.0
HOG = ("sh", "-c", "while :; do :; done")


def rows(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The DPT of the distributor, by target."""
    return {row["name"]: row for row in cluster.view("lb1")["targets"] if row["ready"]}


def shares(cluster: Cluster, count: int) -> dict[str, int]:
    """Who got how many of `count` connections; none fails."""
    load = NewConnections(cluster, "client", cluster.spec.dvipa(), 80, rate=200, count=count)
    report = load.finish()
    assert report.failed == {}
    return dict(report.servers)


def announce(cluster: Cluster, host: str, weight: str) -> None:
    cluster.run(host, ["dvipactl", "vary", "sysplex", "announce", weight])


def test_targets_announce_their_weights(make_cluster: MakeCluster) -> None:
    """TARGCONTROLLED: the operator of a target says what it takes, by file or by order."""
    cluster = make_cluster(
        lbs=1,
        targets=3,
        ports=(80,),
        profiles={"lb1": profile("192.0.2.100", "TARGCONTROLLED")},
        settings={"workload": {"interval_ms": INTERVAL_MS}},
        host_settings={"t1": {"workload": {"weight": 10}}},
    )
    with echo_servers(cluster):
        cluster.wait_until(
            lambda: rows(cluster)["t1"]["source"] == "announced", FOLLOWS_S, "t1 announces"
        )
        assert shares(cluster, 90) == {"t1": 30, "t2": 30, "t3": 30}  # others: the average
        announce(cluster, "t2", "20")
        announce(cluster, "t3", "0")
        wanted = {"t1": 10, "t2": 20, "t3": 0}
        cluster.wait_until(
            lambda: {name: row["weight"] for name, row in rows(cluster).items()} == wanted,
            FOLLOWS_S,
            "the distributor follows",
        )
        assert shares(cluster, 90) == {"t1": 30, "t2": 60}
        table = cluster.run("lb1", ["dvipactl", "netstat", "vdpt"]).stdout
        assert "WLM: 20A" in table and "DistMethod: Targcontrolled" in table
        cluster.stop_daemon("t2")
        cluster.start_daemon("t2")
        wait_for_targets(cluster, "lb1", 3)
        cluster.wait_until(
            lambda: rows(cluster)["t2"]["weight"] == 20, FOLLOWS_S, "the order outlives a restart"
        )


def test_a_busy_target_gets_less_and_gets_it_back(make_cluster: MakeCluster) -> None:
    """SERVERWLM, of a server whose cgroup is known; BASEWLM instead where it is not. A hog takes
    most of what t1 has."""
    with ExitStack() as stack:
        top = stack.enter_context(Capacity(f"dvipad-lab-{os.getpid()}", None))
        hosts = {name: stack.enter_context(Capacity(name, 0.3, top)) for name in ("t1", "t2")}
        server = stack.enter_context(Capacity("server", None, hosts["t2"]))
        busy = stack.enter_context(Capacity("hog", 0.25, hosts["t1"]))
        cluster = make_cluster(
            lbs=1,
            targets=2,
            ports=(80,),
            profiles={"lb1": profile("192.0.2.100", "SERVERWLM")},
            settings={"workload": {"interval_ms": INTERVAL_MS}},
            host_settings={
                name: {"workload": {"cgroup": host.name, "cpu_percent": 30}}
                for name, host in hosts.items()
            },
        )
        stack.enter_context(EchoServer(cluster, "t1", (80,)))
        echo = [sys.executable, "-m", "dvipad.lab.echo", "--name=t2", "--port=80"]
        log = stack.enter_context((cluster.paths.host("t2") / "echo.log").open("w"))
        cluster.popen("t2", server.inside(echo), stdin=subprocess.PIPE, stdout=log, stderr=log)
        wait_for_targets(cluster, "lb1", 2)

        def weights() -> tuple[int, int]:
            """Of t1 and t2; 0 before they are known."""
            found = rows(cluster)
            if [found[name]["source"] for name in hosts] != ["base", "server"]:
                return 0, 0
            return found["t1"]["weight"], found["t2"]["weight"]

        def balanced() -> bool:
            one, other = weights()
            return min(one, other) > 0.8 * max(one, other)

        cluster.wait_until(balanced, FOLLOWS_S, "both have the same to spare")
        hog = cluster.popen("t1", busy.inside(HOG))
        cluster.wait_until(lambda: weights()[0] * 3 < weights()[1], FOLLOWS_S, "t1 is busy")
        got = shares(cluster, 100)
        assert got.get("t1", 0) * 2 < got["t2"], (got, weights())
        hog.kill()
        cluster.wait_until(balanced, FOLLOWS_S, "t1 has as much to spare as before")
        got = shares(cluster, 100)
        assert got["t1"] * 2 > got["t2"], (got, weights())


STANDBY = "192.0.2.11 PREFERRED 192.0.2.12 BACKUP 10 192.0.2.13 BACKUP 20"


def test_hot_standby(make_cluster: MakeCluster) -> None:
    """HOTSTANDBY: one gets all; who takes over from it, and whether it comes back."""
    cluster = make_cluster(
        lbs=1,
        targets=3,
        ports=(80,),
        profiles={"lb1": profile("192.0.2.100", "HOTSTANDBY NOAUTOSWITCHBACK", STANDBY)},
    )
    with EchoServer(cluster, "t1", (80,)) as preferred, ExitStack() as stack:
        wait_for_targets(cluster, "lb1", 1)  # whoever comes first stays, without a way back
        for name in ("t2", "t3"):
            stack.enter_context(EchoServer(cluster, name, (80,)))
        wait_for_targets(cluster, "lb1", 3)
        assert shares(cluster, 10) == {"t1": 10}
        preferred.stop()
        wait_for_targets(cluster, "lb1", 2)
        assert shares(cluster, 10) == {"t3": 10}
        table = cluster.run("lb1", ["dvipactl", "netstat", "vdpt"]).stdout
        assert "SrvType: Preferred" in table and "Hotstandby,Inactive" in table
        with EchoServer(cluster, "t1", (80,)):
            wait_for_targets(cluster, "lb1", 3)
            assert shares(cluster, 10) == {"t3": 10}
            file = cluster.paths.profile("lb1")
            file.write_text(profile("192.0.2.100", "HOTSTANDBY", STANDBY))
            cluster.run("lb1", ["dvipactl", "vary", "obeyfile", str(file)])
            cluster.wait_until(
                lambda: shares(cluster, 10) == {"t1": 10}, FOLLOWS_S, "connections go back"
            )
