"""Orders of the operator, on a cluster under traffic: nothing is lost, nothing is forgotten."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import echo_servers, state, wait_for_state, wait_for_targets
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_operator import dvipactl, netstat

pytestmark = pytest.mark.e2e


def vary(cluster: Cluster, host: str, *arguments: str) -> str:
    """`dvipactl vary` on `host`."""
    return dvipactl(cluster, host, "vary", *arguments)


def restart(cluster: Cluster, host: str) -> None:
    """Kill the daemon of `host`, and start it again."""
    cluster.signal_daemon(host, signal.SIGKILL, workers=True)
    cluster.wait_until(lambda: not cluster.daemon_alive(host), 5.0, "the daemon is dead")
    cluster.start_daemon(host)
    cluster.wait_ready([host])


def test_deactivate_and_reactivate(make_cluster: MakeCluster) -> None:
    """The DVIPA moves to the backup, stays there, also over a restart, and comes back."""
    cluster = make_cluster()
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", dvipa, 7, connections=100)
        new = NewConnections(cluster, "client", dvipa, 80, rate=100)
        vary(cluster, "lb1", "sysplex", "deactivate", str(dvipa), "--wait")
        assert state(cluster, "lb2") == "ACTIVE"
        (row,) = netstat(cluster, "lb1", "vipadyn")
        assert row["status"] == "DEACTIVATED"
        restart(cluster, "lb1")
        wait_for_state(cluster, "lb1", "BACKUP")
        (row,) = netstat(cluster, "lb1", "vipadyn")
        assert (row["status"], row["owner"]) == ("DEACTIVATED", "lb2")
        vary(cluster, "lb1", "sysplex", "reactivate", str(dvipa))
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_state(cluster, "lb2", "BACKUP")
        result = long.stop()
        report = new.stop()
    assert result.lost() == 0
    assert report.failed == {}


def test_quiesce_drains_a_target(make_cluster: MakeCluster) -> None:
    """A quiesced target, or port, gets nothing new, and keeps what it has."""
    cluster = make_cluster()
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", dvipa, 7, connections=30)
        vary(cluster, "t1", "sysplex", "quiesce", "target")
        vary(cluster, "t2", "sysplex", "quiesce", "port=80")
        wait_for_targets(cluster, "lb1", 3)
        report = NewConnections(cluster, "client", dvipa, 80, rate=200, count=60).finish()
        assert report.servers == {"t3": 60}
        result = long.stop()
        vary(cluster, "t1", "sysplex", "quiesce", "target", "--wait", "--timeout", "30")
        vary(cluster, "t1", "sysplex", "resume", "target")
        vary(cluster, "t2", "sysplex", "resume", "port=80")
        wait_for_targets(cluster, "lb1", 6)
    assert result.lost() == 0
    assert report.failed == {}


def test_a_pause_outlives_failover_and_restarts(make_cluster: MakeCluster) -> None:
    """What is paused stays so: another distributor, another daemon, another boot."""
    cluster = make_cluster()
    with echo_servers(cluster):
        vary(cluster, "t1", "sysplex", "pause", "target")
        wait_for_targets(cluster, "lb1", 4)
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_targets(cluster, "lb2", 4)
        restart(cluster, "t1")
        wait_for_targets(cluster, "lb2", 4)
        orders = json.loads(vary(cluster, "t1", "sysplex", "joingroup", "--json"))
        assert orders["paused"] == [0]


def test_leave_and_join(make_cluster: MakeCluster) -> None:
    """A node that leaves the group owns nothing and serves nothing, until it joins again."""
    cluster = make_cluster()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=30)
        vary(cluster, "lb1", "sysplex", "leavegroup", "--wait")
        assert state(cluster, "lb2") == "ACTIVE"
        vary(cluster, "lb1", "sysplex", "joingroup")
        wait_for_state(cluster, "lb1", "ACTIVE")
        result = long.stop()
    assert result.lost() == 0


def test_obeyfile_and_syntaxcheck(make_cluster: MakeCluster) -> None:
    """A good profile is followed, a broken one refused with its problems, a dry run is dry."""
    cluster = make_cluster()
    profile = cluster.paths.profile("lb1")
    other = profile.with_name("other.profile")
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=30)
        other.write_text(profile.read_text().replace("VIPADISTRIBUTE", "VIPADISTRIBUTED"))
        with pytest.raises(subprocess.CalledProcessError) as refused:
            vary(cluster, "lb1", "obeyfile", str(other))
        assert "other.profile:3:3: error" in refused.value.stderr
        other.write_text(profile.read_text().replace("PORT 80 7", "PORT 7"))
        assert "no errors" in vary(cluster, "lb1", "syntaxcheck", str(other))
        wait_for_targets(cluster, "lb1", 6)
        vary(cluster, "lb1", "obeyfile", str(other))
        wait_for_targets(cluster, "lb1", 3)
        result = long.stop()
    assert result.lost() == 0
