"""Names in the DNS follow the preferred server and farm, in knot and in bind9 (S5)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvipad.lab.cluster import Cluster
from tests.e2e.cluster_tools import WAIT_S, echo_servers, follow_status
from tests.e2e.conftest import MakeCluster
from tests.e2e.name_servers import SERVERS, ZONE, NameServer, name_server
from tests.e2e.test_status import FEWEST, Application, until_weights

pytestmark = pytest.mark.e2e

INTERVAL_MS = 500
LATE_MS = 200
"""On a machine that has time the new answer is there an interval and this after the preferred one
became another."""
BUSY = 10
"""So many times later on one that has none."""
WWW, APP = f"www.{ZONE}", f"app.{ZONE}"
FARMS = {"east": "192.0.2.150", "west": "192.0.2.151"}


def names(cluster: Cluster, server: NameServer, **www: Any) -> str:
    """A status file of the distributor: a preference, and two names."""
    common = {
        "dvipa": str(cluster.spec.dvipa()),
        "port": 80,
        "server": str(server.address),
        "key": str(server.key),
        "timeout_ms": 500,
    }
    farm = {"name": APP, "give": "farm", "addresses": FARMS, "ttl": 30}
    return json.dumps(
        {"preferences": [FEWEST], "dns": [{"name": WWW, **common, **www}, {**farm, **common}]}
    )


def until_answer(
    cluster: Cluster, server: NameServer, name: str, wanted: str, kind: str = "A"
) -> float:
    """How long it took until `dig` says that, in ms."""
    began_s = time.monotonic()
    cluster.wait_until(
        lambda: server.dig(name, kind) == wanted, WAIT_S, f"{name} has the address {wanted}"
    )
    return (time.monotonic() - began_s) * 1000


@pytest.mark.parametrize("kind", SERVERS)
def test_names_follow_the_preferred_one(
    make_cluster: MakeCluster, tmp_path: Path, kind: str
) -> None:
    farms = {"t1": {"farm": "east"}, "t2": {"farm": "east"}, "t3": {"farm": "west"}}
    cluster = make_cluster(lbs=1, ports=(80,), host_settings=farms)
    with echo_servers(cluster) as servers, name_server(cluster, kind) as server:
        application = Application(cluster, tmp_path)
        for name, clients in (("t2", 1), ("t3", 3)):
            application.says(name, clients=clients)
        application.watch(interval_ms=INTERVAL_MS)
        follow_status(cluster, "lb1", names(cluster, server))
        until_answer(cluster, server, WWW, "192.0.2.11")
        until_answer(cluster, server, APP, FARMS["east"])
        assert (server.ttl(WWW), server.ttl(APP)) == (0, 30)
        until_weights(cluster, {"t1": 64, "t2": 32, "t3": 16})

        def changes(change: Callable[[], object], www: str, farm: str) -> None:
            change()
            took_ms = until_answer(cluster, server, WWW, www)
            print(f"{kind}: {www} after {took_ms:.0f} ms")
            assert took_ms <= BUSY * (INTERVAL_MS + LATE_MS)
            until_answer(cluster, server, APP, FARMS[farm])

        changes(lambda: application.says("t3", clients=0), "192.0.2.11", "west")
        changes(lambda: application.says("t1", clients=9), "192.0.2.13", "west")
        changes(lambda: application.prints("t3", "", status=1), "192.0.2.12", "east")
        changes(servers["t2"].stop, "192.0.2.11", "east")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_dead_name_server_learns_everything_when_it_is_back(
    make_cluster: MakeCluster, tmp_path: Path, kind: str
) -> None:
    cluster = make_cluster(lbs=1, ports=(80,))
    with echo_servers(cluster), name_server(cluster, kind) as server:
        application = Application(cluster, tmp_path)
        for name, clients in (("t2", 1), ("t3", 3)):
            application.says(name, clients=clients)
        application.watch()
        other = {"t1": "198.51.100.1", "t2": "2001:db8::2", "t3": "198.51.100.3"}
        follow_status(cluster, "lb1", names(cluster, server, addresses=other))
        until_answer(cluster, server, WWW, "198.51.100.1")
        server.die()

        def waits(address: str) -> None:
            def now() -> bool:
                row = cluster.ask("lb1", "status")["names"][0]
                return bool(row["error"]) and row["wanted"] == address != row["has"]

            cluster.wait_until(now, WAIT_S, f"the zone has not yet {address}")

        application.says("t1", clients=5)
        waits("2001:db8::2")
        application.says("t2", clients=9)
        waits("198.51.100.3")
        application.says("t2", clients=1)
        application.says("t3", clients=2)
        waits("2001:db8::2")
        server.start()
        until_answer(cluster, server, WWW, "2001:db8::2", "AAAA")
        assert server.dig(WWW) == "", "its former address is gone"
        cluster.wait_until(
            lambda: cluster.ask("lb1", "status")["names"][0]["has"] == "2001:db8::2",
            WAIT_S,
            "the daemon knows",
        )
