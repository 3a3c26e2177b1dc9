"""Clusters of two mesh versions, and nodes that have none in common."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dvipad import __version__
from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections
from dvipad.versions import NEWEST, OLDEST
from tests.e2e.cluster_tools import WAIT_S, counters, echo_servers, wait_for_state
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_health import fill, small_disk

pytestmark = pytest.mark.e2e

HELD_BACK = {"mesh": {"newest_version": OLDEST}}
FUTURE = NEWEST + 1
GREET = """
import socket, sys
from ipaddress import ip_address
from dvipad.wire.codec import encode
from dvipad.wire.messages import Hello, Member
own, there, cluster, version = sys.argv[1:]
hello = Hello(cluster, Member("new", ip_address(own), 4780), 1, oldest=int(version),
              newest=int(version) + 1)
with socket.create_connection((there, 4780), 5, (own, 0)) as sock:
    sock.sendall(encode(hello))
    said = b""
    while data := sock.recv(4096):
        said += data
print(said.count(b'"reason":"version"'))
"""
"""A node of a later release says Hello, and reads until it is refused."""


def sysplex(cluster: Cluster, name: str) -> dict[str, Any]:
    """What `dvipactl sysplex --json` says on a node."""
    argv = [sys.executable, "-m", "dvipad.cli.dvipactl", "sysplex", "--json"]
    return dict(json.loads(cluster.run(name, argv).stdout))


def members(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in sysplex(cluster, name)["members"]}


def versions(cluster: Cluster, name: str) -> dict[str, int | None]:
    return {peer: row["mesh_version"] for peer, row in members(cluster, name).items()}


@pytest.mark.parametrize("held_back", ["lb1", "lb2", "t1"])
def test_a_node_of_the_former_version_takes_part_in_everything(
    make_cluster: MakeCluster, held_back: str
) -> None:
    cluster = make_cluster(targets=2, ports=(80,), host_settings={held_back: HELD_BACK})
    names = [host.name for host in cluster.spec.nodes()]

    def expected(name: str) -> dict[str, int]:
        return {peer: OLDEST if held_back in (name, peer) else NEWEST for peer in names}

    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        cluster.wait_until(
            lambda: all(versions(cluster, name) == expected(name) for name in names),
            WAIT_S,
            "each pair speaks the newest version of both",
        )
        for name in names:
            for peer, row in members(cluster, name).items():
                told = peer == name or expected(name)[peer] == NEWEST
                assert row["release"] == (__version__ if told else None)
        kept = LongConnections(cluster, "client", cluster.spec.dvipa(), 80, connections=50)
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        cluster.heal("lb1")
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_state(cluster, "lb2", "BACKUP")
        assert kept.stop().lost() == 0
    for name in names:
        mesh = counters(cluster, name)["mesh"]
        assert not {"version", "udp_version", "unknown_message", "unknown_field"} & mesh.keys()


def test_troubles_of_a_node_are_seen_at_the_others(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "state") as disk:
        cluster = make_cluster(
            targets=2,
            host_settings={"lb2": {"paths": {"state": str(disk)}}, "t2": HELD_BACK},
        )
        wait_for_state(cluster, "lb1", "ACTIVE")
        fill(disk)
        for name in ("lb1", "t1"):
            cluster.wait_until(
                lambda name=name: members(cluster, name)["lb2"]["troubles"] == ["storage full"],
                WAIT_S,
                f"{name} knows of it",
            )
        argv = [sys.executable, "-m", "dvipad.cli.dvipactl", "sysplex"]
        assert "    Trouble: storage full\n" in cluster.run("lb1", argv).stdout
        assert members(cluster, "t2")["lb2"]["troubles"] == []
        (disk / "big").unlink()
        cluster.wait_until(
            lambda: not members(cluster, "lb1")["lb2"]["troubles"], WAIT_S, "it is over there too"
        )


def test_who_has_no_version_in_common_is_refused_and_told_why(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    own, there = (str(cluster.spec.xcf(cluster.spec.host(name))) for name in ("client", "lb1"))
    argv = [sys.executable, "-c", GREET, own, there, cluster.spec.prefix, str(FUTURE)]
    for _ in range(3):
        assert cluster.run("client", argv).stdout == "1\n"
    reason = (
        f"node 'new' speaks mesh versions {FUTURE} to {FUTURE + 1}, this node {OLDEST} to {NEWEST}:"
        " upgrade node by node, one release at a time"
    )
    assert sysplex(cluster, "lb1")["refused"] == [{"xcf": own, "reason": reason}]
    assert counters(cluster, "lb1")["mesh"]["version"] == 3
    log = cluster.paths.log("lb1").read_text()
    assert log.count(f"the node at {own} is refused: {reason}") == 1
    assert sysplex(cluster, "lb2")["refused"] == []
