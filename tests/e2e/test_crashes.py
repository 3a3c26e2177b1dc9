"""Processes die or hang under load: connections do not notice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import counters, echo_servers, state, wait_for_holder, wait_for_state
from tests.e2e.conftest import MakeCluster
from tests.e2e.dvs_network import SLOW

pytestmark = pytest.mark.e2e

RATE = 250.0
"""Connections per second: servers and client have to keep up on two cores beside five daemons."""
ENOUGH = 125
"""Answers that show that load flows."""
EVENTS = 3
SLOWED_MAX = 10
"""The queue's window: so many SYNs a worker that is killed may have in hand."""
SLOWED_SHARE = 0.02
"""Of all, on a machine so busy that a starting daemon keeps servers from running."""
DEAD_MS = round(1_500 * SLOW)
"""Longer than a daemon that starts on such a machine keeps its peers waiting for a greeting."""


def worker_pid(cluster: Cluster) -> int:
    """The queue worker of the distributor; 0 while there is none."""
    return int(counters(cluster, "lb1")["pids"]["worker"])


def another_worker(cluster: Cluster, before: int) -> None:
    """Wait until a successor decides."""
    cluster.wait_until(
        lambda: worker_pid(cluster) not in (0, before), 10.0, "there is another queue worker"
    )


def kill_worker(cluster: Cluster) -> None:
    """SIGKILL for the queue worker."""
    before = worker_pid(cluster)
    os.kill(before, signal.SIGKILL)
    another_worker(cluster, before)


def hang_worker(cluster: Cluster) -> None:
    """SIGSTOP for the queue worker."""
    before = worker_pid(cluster)
    os.kill(before, signal.SIGSTOP)
    another_worker(cluster, before)


def kill_daemon(cluster: Cluster) -> None:
    """SIGKILL for the daemon and all its processes; it starts again as a service manager would."""
    cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
    cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), 5.0, "the daemon is dead")
    cluster.start_daemon("lb1")
    cluster.wait_ready(["lb1"])
    wait_for_state(cluster, "lb1", "ACTIVE")


@pytest.mark.parametrize("event", [kill_worker, hang_worker, kill_daemon])
def test_under_load_nothing_fails(
    make_cluster: MakeCluster, event: Callable[[Cluster], None]
) -> None:
    """At many new connections a second: none fails, none is lost, few wait for a second SYN."""
    cluster = make_cluster(settings={"timers": {"dead_ms": DEAD_MS}})
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=50)
        for number in range(EVENTS):
            new = NewConnections(cluster, "client", dvipa, 80, rate=RATE)
            cluster.wait_until(lambda new=new: new.report().answered > ENOUGH, 10.0, "load flows")
            event(cluster)
            so_far = new.report().answered
            cluster.wait_until(
                lambda new=new, so_far=so_far: new.report().answered > so_far + ENOUGH,
                10.0,
                "load flows again",
            )
            report = new.stop()
            print(f"{event.__name__} {number}: {report}")
            assert report.failed == {}
            # An emulated machine takes a second for a connection without repeating anything.
            slowed = report.slowed if SLOW == 1 else report.retransmits
            assert slowed <= max(SLOWED_MAX, SLOWED_SHARE * report.started)
        result = long.stop()
        assert state(cluster, "lb2") == "BACKUP"
        epoch = cluster.view("lb1")["dvipas"][0]["epoch"]
    assert result.lost() == 0
    assert epoch == 1, "the address moved although the daemon was back in time"


def test_a_daemon_that_stays_away_loses_its_address(make_cluster: MakeCluster) -> None:
    """After the grace period a backup has it, and the kernel left behind answers no ARP."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=50)
        cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
        wait_for_state(cluster, "lb2", "ACTIVE")
        cluster.run("client", ["ip", "neigh", "flush", "all"])
        cluster.wait_until(lambda: cluster.holder(dvipa) == "lb2", 10.0, "the client asks anew")
        result = long.stop()
    assert result.lost() == 0


def test_a_hung_distributor_is_fenced_and_yields_when_it_wakes(make_cluster: MakeCluster) -> None:
    """SIGSTOP for longer than others wait: a backup takes over, what wakes up believes it not."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=100)
        new = NewConnections(cluster, "client", dvipa, 80, rate=100)
        cluster.signal_daemon("lb1", signal.SIGSTOP)
        wait_for_state(cluster, "lb2", "ACTIVE")
        cluster.run("client", ["ip", "neigh", "flush", "all"])
        answered = new.report().answered
        cluster.wait_until(lambda: new.report().answered > answered + 300, 15.0, "load flows")
        wait_for_holder(cluster, dvipa, "lb2")
        cluster.signal_daemon("lb1", signal.SIGCONT)
        wait_for_state(cluster, "lb2", "BACKUP")
        wait_for_state(cluster, "lb1", "ACTIVE")
        answered = new.report().answered
        cluster.wait_until(lambda: new.report().answered > answered + 100, 15.0, "load flows")
        result = long.stop()
        report = new.stop()
        log = cluster.paths.log("lb1").read_text()
    assert result.lost() == 0
    assert report.failed == {}
    assert "this node did not run for" in log
    assert 'trigger="higher claim"' in log


def flush_rules(cluster: Cluster) -> None:
    """Somebody flushes the firewall: the rule for NFQUEUE is gone."""
    for command in ("iptables", "ip6tables"):
        cluster.run("lb1", [command, "-t", "raw", "-F"])
    cluster.wait_until(
        lambda: "removed the rule" in cluster.paths.log("lb1").read_text(), 5.0, "repair"
    )


def delete_address(cluster: Cluster) -> None:
    """Somebody deletes the DVIPA by hand."""
    dvipa = str(cluster.spec.dvipa())
    cluster.run("lb1", ["ip", "address", "delete", f"{dvipa}/32", "dev", "lo"])
    cluster.wait_until(
        lambda: f"somebody removed {dvipa}" in cluster.paths.log("lb1").read_text(), 5.0, "repair"
    )


def delete_programs(cluster: Cluster) -> None:
    """Somebody deletes the clsact qdisc of the uplink, and the eBPF programs with it."""
    cluster.run("lb1", ["tc", "qdisc", "delete", "dev", "eth0", "clsact"])
    show = ["tc", "filter", "show", "dev", "eth0", "ingress"]
    cluster.wait_until(
        lambda: "dvipad_ingress" in cluster.run("lb1", show).stdout, 5.0, "the program is back"
    )


def test_programs_that_somebody_removes_are_put_back(make_cluster: MakeCluster) -> None:
    """Connections made in between may be refused; new ones are served within seconds."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        delete_programs(cluster)
        report = NewConnections(cluster, "client", dvipa, 80, rate=100, count=50).finish()
    assert report.failed == {}


@pytest.mark.parametrize("event", [flush_rules, delete_address])
def test_what_somebody_removes_is_put_back(
    make_cluster: MakeCluster, event: Callable[[Cluster], None]
) -> None:
    """Repaired within seconds; until then clients wait, and are not refused."""
    cluster = make_cluster()
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        long = LongConnections(cluster, "client", dvipa, 7, connections=50)
        new = NewConnections(cluster, "client", dvipa, 80, rate=200)
        event(cluster)
        answered = new.report().answered
        cluster.wait_until(lambda: new.report().answered > answered + 200, 10.0, "load flows")
        report = new.stop()
        result = long.stop()
    assert report.failed == {}
    assert result.lost() == 0
