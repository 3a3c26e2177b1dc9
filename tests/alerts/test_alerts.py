"""Every alert fires by its cause and ends without it; every panel of every dashboard has data."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
import yaml

from bench.build import c_program
from bench.flood import FLOOD
from dvipad.adapters.announce import Announcer
from dvipad.lab import faults
from dvipad.lab.prometheus import CONFIG, RULES
from dvipad.lab.spec import UPLINK
from dvipad.lab.system import run
from dvipad.lab.traffic import EchoServer, LongConnections
from tests.alerts.panels import queries
from tests.alerts.scene import PORT, ROOM, Scene, scene
from tests.e2e.cluster_tools import WAIT_S, counters
from tests.e2e.dvs_network import inside
from tests.e2e.test_health import fill

FLOOD_S = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("alerts")) as found:
        yield found


def kill_worker(made: Scene) -> None:
    """Twice; each time its successor is there."""
    for _ in range(2):
        pids = counters(made.cluster, "lb1")["pids"]
        os.kill(pids["worker"], signal.SIGKILL)

        def replaced(dead: int = pids["worker"]) -> bool:
            return counters(made.cluster, "lb1")["pids"]["worker"] not in (0, dead)

        made.cluster.wait_until(replaced, WAIT_S, "another worker is there")


def reload(made: Scene, name: str, text: str) -> None:
    made.cluster.paths.profile(name).write_text(text)
    made.cluster.signal_daemon(name, signal.SIGHUP)


def test_troubles_of_nodes(made: Scene) -> None:
    """A full disk, a profile with a defect, a worker that dies, a CRT without room, and nothing
    that a status object could read."""
    dvipa = made.cluster.spec.dvipa()
    fill(made.disk)
    made.pending.unlink()
    profile = made.cluster.paths.profile("lb2").read_text()
    reload(made, "lb2", "VIPADYNAMIC\n  VIPABACKUP 999\nENDVIPADYNAMIC\n")
    kill_worker(made)
    many = LongConnections(
        made.cluster, "client2", dvipa, PORT, connections=ROOM - 20, interval_ms=1000.0
    )
    made.fires(
        "DvipadNodeInTrouble",
        "DvipadConfigReloadFailed",
        "DvipadQueueWorkerRestarting",
        "DvipadCrtNearFull",
        "DvipadStatusObjectDown",
    )
    many.stop()
    made.pending.write_text("3")
    (made.disk / "big").unlink()
    reload(made, "lb2", profile)
    made.calm()


def test_floods_and_strangers(made: Scene) -> None:
    """More SYNs than the worker should decide; and another host that has the DVIPA."""
    dvipa = made.cluster.spec.dvipa()
    argv = [str(c_program(FLOOD)), UPLINK, made.cluster.spec.host("lb1").mac]
    flood = made.cluster.popen("client2", [*argv, str(dvipa), str(PORT), str(FLOOD_S)])
    made.fires("DvipadFlood")
    flood.wait(FLOOD_S + WAIT_S)
    stranger = made.cluster.namespace("client2")
    run(["ip", "-n", stranger, "address", "add", f"{dvipa}/32", "dev", UPLINK])
    with inside(stranger):
        announcer = Announcer([UPLINK])
    announcer.announce([dvipa])
    announcer.close()
    made.fires("DvipadAddressConflict")
    run(["ip", "-n", stranger, "address", "delete", f"{dvipa}/32", "dev", UPLINK])
    made.calm()


def test_targets_that_are_lost(made: Scene) -> None:
    """A server hangs; it ends, then the other one."""
    hung = made.servers["t1"].process.pid
    os.kill(hung, signal.SIGSTOP)
    made.fires("DvipadTargetMute")
    os.kill(hung, signal.SIGCONT)
    made.calm()
    made.servers["t1"].stop()
    made.fires("DvipadTargetLost")
    made.servers["t2"].stop()
    made.fires("DvipadNoTarget")
    for name in ("t1", "t2"):
        made.servers[name] = EchoServer(made.cluster, name, [PORT])
    made.calm()


def test_a_daemon_that_is_dead(made: Scene) -> None:
    made.cluster.signal_daemon("t2", signal.SIGKILL)
    made.fires("DvipadDaemonDown", "DvipadPeerLost")
    made.cluster.start_daemon("t2")
    made.calm()


def test_a_node_that_is_refused(made: Scene) -> None:
    """Its node file names another cluster."""
    path = made.cluster.paths.node_file("t2")
    right = path.read_text()
    made.cluster.stop_daemon("t2")
    path.write_text(right.replace(f"cluster: {made.cluster.spec.prefix}", "cluster: other"))
    made.cluster.start_daemon("t2")
    made.fires("DvipadPeerRefused")
    made.cluster.stop_daemon("t2")
    path.write_text(right)
    made.cluster.start_daemon("t2")
    made.calm()


def test_a_firewall_for_udp(made: Scene) -> None:
    faults.lose_mesh(made.cluster, 100.0, ("udp",))
    made.fires("DvipadUdpBlocked")
    faults.mend(made.cluster)
    made.calm()


def test_a_power_cut(made: Scene) -> None:
    made.fail("lb1")
    made.fires("DvipadNodeDown", "DvipadTakeover", "DvipadNoBackup", "DvipadPeerLost")
    made.heal("lb1")
    made.calm()


def test_a_partition(made: Scene) -> None:
    """Prometheus still reaches both sides."""
    faults.partition(made.cluster, ["lb1"], ["lb2", "t1", "t2"])
    made.fires("DvipadSplitBrain", "DvipadMeshBroken")
    faults.mend(made.cluster)
    made.calm()


def test_nobody_is_left(made: Scene) -> None:
    made.fail("lb1")
    made.fail("lb2")
    made.fires("DvipadNoOwner")
    made.heal("lb1")
    made.heal("lb2")
    made.calm()


def test_every_alert_has_fired(made: Scene) -> None:
    """By what the tests above did: an alert without a cause in them is not tested."""
    groups = yaml.safe_load((CONFIG / RULES).read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    seconds = int(time.time() - made.began) + 1
    rows = made.prometheus.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])')
    assert {row["metric"]["alertname"] for row in rows} == alerts


def test_every_panel_has_data(made: Scene) -> None:
    empty = []
    chosen = {
        "cluster": made.cluster.spec.prefix,
        "instance": "lb1",
        "dvipa": str(made.cluster.spec.dvipa()),
        "__rate_interval": "5s",
    }
    for where, query in queries(chosen):
        values = made.prometheus.history(query, made.began, time.time())
        if not any(value == value for value in values):  # NaN is no data
            empty.append(where)
    assert empty == []
