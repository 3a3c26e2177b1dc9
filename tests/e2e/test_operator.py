"""What an operator sees and does: dvipactl, rubbish on the sockets, a profile that is broken."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import WAIT_S, counters, echo_servers, state, wait_for_state
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

CONNECTIONS = 12


def dvipactl(cluster: Cluster, host: str, *arguments: str) -> str:
    """Standard output of `dvipactl` for the daemon of `host`."""
    path = str(cluster.paths.control(host))
    command = [sys.executable, "-m", "dvipad.cli.dvipactl", "--socket", path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def netstat(cluster: Cluster, host: str, report: str) -> Any:
    """A report as JSON."""
    return json.loads(dvipactl(cluster, host, "netstat", report, "--json"))


def test_the_reports_show_the_cluster(make_cluster: MakeCluster) -> None:
    """NETSTAT VIPADCFG, VIPADYN, VDPT, VCRT, as text and as JSON."""
    cluster = make_cluster()
    dvipa = str(cluster.spec.dvipa())
    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=CONNECTIONS)
        (primary,) = netstat(cluster, "lb1", "vipadyn")
        (backup,) = netstat(cluster, "lb2", "vipadyn")
        (target,) = netstat(cluster, "t1", "vipadyn")
        table = netstat(cluster, "lb1", "vdpt")
        routes = netstat(cluster, "lb1", "vcrt")
        texts = {
            report: dvipactl(cluster, "lb1", "netstat", report)
            for report in ("vipadcfg", "vipadyn", "vdpt", "vcrt")
        }
        long.stop()
    assert (primary["status"], primary["origin"]) == ("ACTIVE", "VIPADEFINE")
    assert (backup["status"], backup["origin"], backup["rank"]) == ("BACKUP", "VIPABACKUP", 100)
    assert (target["status"], target["dist_status"]) == ("ACTIVE", "target")
    assert {row["owner"] for row in (primary, backup, target)} == {"lb1"}
    assert {row["epoch"] for row in (primary, backup, target)} == {1}
    assert sorted(row["total"] for row in table if row["port"] == 7) == [4, 4, 4]
    assert routes["total"] == CONNECTIONS
    assert {row["dvipa"] for row in routes["rows"]} == {dvipa}
    assert target["last_decision"] is None
    assert primary["last_decision"]["trigger"] and primary["last_decision"]["action"]
    assert f"{primary['last_decision']['action']}\n" in texts["vipadyn"]
    assert "VIPA Define" in texts["vipadcfg"] and "VIPA Distribute" in texts["vipadcfg"]
    assert f"IpAddr/PrefixLen: {dvipa}" in texts["vipadyn"]
    assert f"Dest:      {dvipa}..7" in texts["vdpt"]
    assert f"{CONNECTIONS} of {CONNECTIONS} records displayed" in texts["vcrt"]


def test_rubbish_harms_nothing(make_cluster: MakeCluster) -> None:
    """Malformed frames and requests are answered or counted; the cluster goes on."""
    cluster = make_cluster()
    rubbish = [b"\0" * 4096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b"{" * 70_000]
    with echo_servers(cluster):
        for data in rubbish:
            script = (
                "import socket,sys;"
                f"s=socket.create_connection(('{cluster.view('lb1')['xcf']}',4780),5);"
                "s.sendall(sys.stdin.buffer.read());s.shutdown(1);s.settimeout(5);"
                "\nwhile s.recv(4096): pass"
            )
            subprocess.run(
                cluster.command("client", [sys.executable, "-c", script]),
                input=data,
                check=False,
                capture_output=True,
                timeout=20,
            )
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(cluster.paths.control("lb1")))
                control.settimeout(5)
                control.sendall(data + b"\n")
                answer = json.loads(control.makefile("rb").readline())
                assert answer["ok"] is False
        mesh = counters(cluster, "lb1")["mesh"]
        report = NewConnections(
            cluster, "client", cluster.spec.dvipa(), 80, rate=100, count=60
        ).finish()
    assert report.failed == {}
    assert sum(mesh.values()) >= len(rubbish), mesh
    assert cluster.daemon_alive("lb1")


def test_a_broken_profile_changes_nothing(make_cluster: MakeCluster) -> None:
    """Reload: a defect is refused and said; a good profile is followed without a disturbance."""
    cluster = make_cluster()
    profile = cluster.paths.profile("lb1")
    good = profile.read_text()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=30)
        profile.write_text(good.replace("VIPADEFINE", "VIPADEFINED"))
        cluster.signal_daemon("lb1", signal.SIGHUP)
        cluster.wait_until(
            lambda: "configuration not changed" in cluster.paths.log("lb1").read_text(),
            WAIT_S,
            "refusal",
        )
        assert state(cluster, "lb1") == "ACTIVE"
        profile.write_text(good.replace(" 80 7", " 80 7 8080"))
        cluster.signal_daemon("lb1", signal.SIGHUP)
        cluster.wait_until(
            lambda: any(row["port"] == 8080 for row in cluster.view("lb1")["targets"]),
            WAIT_S,
            "the new port",
        )
        result = long.stop()
    assert result.lost() == 0
