"""Methods that count connections, and standby that outlives its distributor, in whole clusters."""

from __future__ import annotations

import math
import random
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.frames import MAX_NAME, WHO
from dvipad.lab.traffic import EchoServer
from tests.e2e.cluster_tools import (
    echo_servers,
    profile,
    wait_for_holder,
    wait_for_state,
    wait_for_targets,
)
from tests.e2e.conftest import MakeCluster
from tests.e2e.dvs_network import inside

pytestmark = pytest.mark.e2e

WEIGHTS = (10, 20, 30)
HELD = 720
"""Connections that are open at a time."""
MEAN_S = 4.0
"""How long one is, on average: some end at once, some last for many times that."""
LOOKS = 20
LOOK_S = 0.2
CLOSE = 0.05
"""How far from the proportion a target may be."""
STANDBY = "192.0.2.11 PREFERRED 192.0.2.12 BACKUP 10"


class Clients:
    """Connections from the client host; each knows which target it is with."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._dvipa = str(cluster.spec.dvipa())
        self.open: list[tuple[float, str, socket.socket]] = []
        """When it ends, its target, itself."""

    def connect(self, until_s: float = 0.0) -> str:
        """One more; returns its target."""
        sock = socket.create_connection((self._dvipa, 80), 10 * self._cluster.spec.slow)
        sock.sendall(WHO)
        name = sock.recv(MAX_NAME).decode().strip()
        self.open.append((until_s, name, sock))
        return name

    def close(self, until_s: float = math.inf, name: str = "") -> None:
        """Close those that end by then; only those of target `name`, if one is given."""
        for each in list(self.open):
            if each[0] <= until_s and name in ("", each[1]):
                self.open.remove(each)
                each[2].close()

    def active(self) -> Counter[str]:
        return Counter(name for _, name, _ in self.open)


def told(cluster: Cluster, host: str = "lb1") -> dict[str, int]:
    """Active connections of the targets, as their distributor counts them."""
    rows = cluster.view(host)["targets"]
    return {row["name"]: row["connections"] for row in rows if row["connections"]}


def wait_until_told(cluster: Cluster, wanted: Counter[str], host: str = "lb1") -> None:
    cluster.wait_until(
        lambda: told(cluster, host) == dict(wanted), 10.0, f"{host} counts {dict(wanted)}"
    )


@pytest.mark.parametrize("offload", ["", " OFFLOAD"], ids=["worker", "kernel"])
def test_active_connections_keep_the_proportion(make_cluster: MakeCluster, offload: str) -> None:
    """WEIGHTEDACTIVE 10:20:30, connections of random length: within 5 %, whenever one looks."""
    method = f"WEIGHTEDACTIVE{offload}"
    cluster = make_cluster(lbs=1, ports=(80,), method=method, weights=WEIGHTS)
    chance = random.Random(7)
    with echo_servers(cluster), inside(cluster.namespace("client")):
        clients, worst, looks = Clients(cluster), 0.0, 0
        began = looked = time.monotonic()
        while looks < LOOKS:
            now = time.monotonic()
            clients.close(now)
            if len(clients.open) < HELD:
                clients.connect(now + chance.expovariate(1 / MEAN_S))
            if now < began + MEAN_S or now < looked + LOOK_S or len(clients.open) < HELD - 20:
                continue
            looked, looks = now, looks + 1
            active, everything = clients.active(), len(clients.open)
            for name, weight in zip(("t1", "t2", "t3"), WEIGHTS, strict=True):
                share = everything * weight / sum(WEIGHTS)
                worst = max(worst, abs(active[name] / share - 1))
        assert worst <= CLOSE
        wait_until_told(cluster, clients.active())
        clients.close()


def test_the_fewest_connections(make_cluster: MakeCluster) -> None:
    """LEASTCONN: who lost some gets the next; so does a new distributor, which was told of all."""
    cluster = make_cluster(lbs=2, ports=(80,), method="LEASTCONN")
    with echo_servers(cluster), inside(cluster.namespace("client")):
        clients = Clients(cluster)
        for _ in range(9):
            clients.connect()
        assert clients.active() == {"t1": 3, "t2": 3, "t3": 3}
        table = cluster.run("lb1", ["dvipactl", "netstat", "vdpt"]).stdout
        assert table.count("ActiveConn: 0000000003") == 3
        clients.close(name="t2")
        wait_until_told(cluster, clients.active())
        assert [clients.connect() for _ in range(3)] == ["t2"] * 3
        clients.close(name="t3")
        wait_until_told(cluster, clients.active())
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_holder(cluster, cluster.spec.dvipa(), "lb2")
        wait_until_told(cluster, clients.active(), "lb2")
        assert [clients.connect() for _ in range(3)] == ["t3"] * 3
        assert Counter(clients.connect() for _ in range(3)) == {"t1": 1, "t2": 1, "t3": 1}
        clients.close()


def test_who_is_active_stays_so(make_cluster: MakeCluster) -> None:
    """HOTSTANDBY NOAUTOSWITCHBACK: neither a restart, a takeover nor a takeback leads back to the
    preferred target."""
    text = profile("192.0.2.100", "HOTSTANDBY NOAUTOSWITCHBACK", STANDBY)
    cluster = make_cluster(lbs=2, targets=2, ports=(80,), profiles={"lb1": text})
    with ExitStack() as stack:
        stack.enter_context(inside(cluster.namespace("client")))
        clients = Clients(cluster)
        stack.enter_context(EchoServer(cluster, "t2", (80,)))
        wait_for_targets(cluster, "lb1", 1)
        stack.enter_context(EchoServer(cluster, "t1", (80,)))
        wait_for_targets(cluster, "lb1", 2)
        assert clients.connect() == "t2"
        cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
        cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), 5.0, "the daemon is dead")
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_targets(cluster, "lb1", 2)
        assert clients.connect() == "t2", "a restart"
        cluster.stop_daemon("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_holder(cluster, cluster.spec.dvipa(), "lb2")
        assert clients.connect() == "t2", "a takeover"
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_holder(cluster, cluster.spec.dvipa(), "lb1")
        wait_for_targets(cluster, "lb1", 2)
        assert clients.connect() == "t2", "a takeback"
        clients.close()


def test_an_application_of_a_target_stays_there(make_cluster: MakeCluster) -> None:
    """OPTLOCAL 0, whatever is said; without a listener it is refused."""
    cluster = make_cluster(lbs=1, targets=2, ports=(80,))
    with EchoServer(cluster, "t1", (80,)), EchoServer(cluster, "t2", (80,)) as second:
        wait_for_targets(cluster, "lb1", 2)
        with inside(cluster.namespace("t2")):
            clients = Clients(cluster)
            assert [clients.connect() for _ in range(3)] == ["t2"] * 3
            clients.close()
            second.stop()
            wait_for_targets(cluster, "lb1", 1)
            with pytest.raises(ConnectionRefusedError):
                clients.connect()
        with inside(cluster.namespace("lb1")), pytest.raises(ConnectionRefusedError):
            clients.connect()
