"""Status objects with real daemons: who is down gets nothing, who is better gets more (S1-S4)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import NewConnections
from tests.e2e.cluster_tools import (
    WAIT_S,
    echo_servers,
    follow_status,
    wait_for_holder,
    wait_for_state,
)
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

TARGETS = ("t1", "t2", "t3")
FEWEST = {"name": "web", "by": "fewest-clients", "figure": "app.clients"}
NOTHING = "objects: []"
CHANGES = 10
EACH = 40
"""Connections between two changes."""


class Application:
    """What the status objects of the targets read: a program that prints the file of its host."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        for name in TARGETS:
            self.says(name, clients=0)

    def says(self, name: str, **figures: float) -> None:
        """From now on it says that."""
        self.prints(name, json.dumps(figures))

    def prints(self, name: str, text: str, status: int = 0) -> None:
        """From now on it prints `text`, and ends with `status`."""
        new = self._folder / f"{name}.new"
        new.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        new.chmod(0o755)
        new.rename(self._folder / name)

    def status_file(self, name: str, interval_ms: int = 200, **keys: Any) -> str:
        """A status file of a target, with what `keys` say of its status object."""
        options = {"command": str(self._folder / name)}
        known = {"name": "app", "kind": "exec", "port": 80, "options": options}
        times = {"interval_ms": interval_ms, "timeout_ms": 2000}
        return json.dumps({"objects": [{**known, **times, **keys}]})

    def watch(self, **keys: Any) -> None:
        """All targets have that status object."""
        for name in TARGETS:
            follow_status(self.cluster, name, self.status_file(name, **keys))


def prefer(cluster: Cluster, *preferences: Mapping[str, Any], host: str = "lb1") -> None:
    follow_status(cluster, host, json.dumps({"preferences": preferences}))


def weights(cluster: Cluster, host: str = "lb1") -> dict[str, int]:
    """Weights of the targets that are ready."""
    rows = cluster.view(host)["targets"]
    return {row["name"]: row["weight"] for row in rows if row["ready"]}


def until_weights(cluster: Cluster, wanted: Mapping[str, int], host: str = "lb1") -> None:
    seen: list[dict[str, int]] = []

    def now() -> bool:
        seen.append(weights(cluster, host))
        return seen[-1] == wanted

    try:
        cluster.wait_until(now, WAIT_S, f"weights of {host} are {wanted}")
    finally:
        print("weights:", seen[-1])


def shares(cluster: Cluster, count: int) -> dict[str, int]:
    load = NewConnections(cluster, "client", cluster.spec.dvipa(), 80, rate=200, count=count)
    report = load.finish()
    assert report.failed == {}
    return dict(report.servers)


def result(cluster: Cluster, name: str) -> str:
    """What came of the last reading of the status object of `name`."""
    return str(cluster.ask(name, "status")["objects"][0]["result"])


def until_result(cluster: Cluster, name: str, wanted: str) -> None:
    cluster.wait_until(lambda: result(cluster, name) == wanted, WAIT_S, f"{name} says {wanted}")


def test_weights_follow_figures_and_a_backup_goes_on(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(ports=(80,))
    with echo_servers(cluster):
        application = Application(cluster, tmp_path)
        application.watch()
        for host in ("lb1", "lb2"):
            prefer(cluster, FEWEST, host=host)
        until_weights(cluster, {"t1": 64, "t2": 64, "t3": 64})
        application.says("t2", clients=1)
        application.says("t3", clients=63)
        until_weights(cluster, {"t1": 64, "t2": 32, "t3": 1})
        got = shares(cluster, 97)
        assert (got["t1"], got["t2"]) == (64, 32), got
        shown = json.loads(cluster.run("lb1", ["dvipactl", "status", "--json"]).stdout)
        assert shown["services"][0]["server"] == "t1"
        assert shown["figures"]["t3"] == {"app.clients": 63}
        assert "Preferred: t1" in cluster.run("lb1", ["dvipactl", "status"]).stdout
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_holder(cluster, cluster.spec.dvipa(), "lb2")
        until_weights(cluster, {"t1": 64, "t2": 32, "t3": 1}, "lb2")


def test_who_fails_is_taken_out_and_who_says_rubbish_is_not(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(lbs=1, ports=(80,))
    with echo_servers(cluster):
        application = Application(cluster, tmp_path)
        application.watch(timeout_ms=500)
        prefer(cluster, FEWEST)
        application.says("t3", clients=1)
        until_weights(cluster, {"t1": 64, "t2": 64, "t3": 32})
        for text in ("no JSON", "NaN", '{"clients": -1}', "[1]", '{"clients": "many"}'):
            application.prints("t2", text)
            result_of = "out_of_range" if text[0] in "N{" and "many" not in text else "rubbish"
            until_result(cluster, "t2", result_of)
            until_weights(cluster, {"t1": 64, "t2": 48, "t3": 32})
        application.prints("t2", "", status=3)
        until_weights(cluster, {"t1": 64, "t3": 32})
        assert "t2" not in shares(cluster, 30)
        assert "exit status 3" in cluster.run("t2", ["dvipactl", "status"]).stdout
        application.says("t2", clients=0)
        until_weights(cluster, {"t1": 64, "t2": 64, "t3": 32})
        hangs = application.status_file("t2", options={"command": "sleep 100"}, timeout_ms=300)
        follow_status(cluster, "t2", hangs)
        until_result(cluster, "t2", "timeout")
        until_weights(cluster, {"t1": 64, "t3": 32})
        follow_status(cluster, "t2", NOTHING)
        until_weights(cluster, {"t1": 64, "t2": 48, "t3": 32})


def status_process(cluster: Cluster, name: str) -> int:
    """The status process of a node; 0: there is none."""
    daemon = cluster.daemon_pid(name)
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    for child in children:
        if b"dvipad.status.process" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return 0


def test_the_status_process_may_die(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(lbs=1, ports=(80,))
    with echo_servers(cluster):
        application = Application(cluster, tmp_path)
        application.watch()
        prefer(cluster, FEWEST)
        until_weights(cluster, {"t1": 64, "t2": 64, "t3": 64})
        first = status_process(cluster, "t1")
        os.kill(first, signal.SIGKILL)
        application.says("t1", clients=1)
        until_weights(cluster, {"t1": 32, "t2": 64, "t3": 64})
        assert status_process(cluster, "t1") not in (0, first)
        assert shares(cluster, 10)
        follow_status(cluster, "t1", NOTHING)
        cluster.wait_until(lambda: not status_process(cluster, "t1"), WAIT_S, "there is none")


def test_a_farm_counts_as_one_and_has_a_policy_of_its_own(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """S4: farms are compared by their distance, east's targets by their clients."""
    farms = {"t1": {"farm": "east"}, "t2": {"farm": "east"}, "t3": {"farm": "west"}}
    cluster = make_cluster(lbs=1, ports=(80,), host_settings=farms)
    with echo_servers(cluster):
        application = Application(cluster, tmp_path)
        application.says("t1", hops=1, clients=0)
        application.says("t2", hops=1, clients=3)
        application.says("t3", hops=3, clients=0)
        application.watch()
        east = {"by": "fewest-clients", "figure": "app.clients"}
        closest = {"name": "web", "by": "closest", "figure": "app.hops", "farms": {"east": east}}
        prefer(cluster, closest)
        until_weights(cluster, {"t1": 64, "t2": 16, "t3": 40})
        found = cluster.ask("lb1", "status")["services"][0]
        assert (found["server"], found["farm"]) == ("t1", "east")
        application.says("t3", hops=0)
        cluster.wait_until(
            lambda: cluster.ask("lb1", "status")["services"][0]["farm"] == "west",
            WAIT_S,
            "west is preferred",
        )


def test_changes_under_load_break_no_request(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """S3: preference, status objects and members change while connections are opened."""
    cluster = make_cluster(lbs=1, ports=(80,))
    with echo_servers(cluster):
        application = Application(cluster, tmp_path)
        application.watch()
        dvipa = cluster.spec.dvipa()
        formula = {"name": "web", "by": "formula", "formula": "64 - app.clients"}
        changes: tuple[Callable[[], object], ...] = (
            lambda: prefer(cluster, FEWEST),
            lambda: application.says("t1", clients=30),
            lambda: prefer(cluster, formula),
            lambda: application.prints("t2", "", status=1),
            lambda: follow_status(cluster, "t3", NOTHING),
            lambda: application.says("t2", clients=5),
            lambda: prefer(cluster),
            lambda: application.watch(interval_ms=100),
            lambda: prefer(cluster, {**FEWEST, "by": "best-throughput"}),
            lambda: application.prints("t1", "NaN"),
        )
        assert len(changes) == CHANGES
        load = NewConnections(cluster, "client", dvipa, 80, rate=100)
        for change in changes:
            change()
            load.phase("next")
            cluster.wait_until(lambda: load.report().answered >= EACH, WAIT_S, "they go on")
            assert load.report().failed == {}
        assert load.stop().failed == {}
