"""The capabilities of the systemd unit are enough, and what the unit relies on holds."""

from __future__ import annotations

import configparser
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabSpec
from dvipad.lab.traffic import NewConnections
from tests.e2e.cluster_tools import WAIT_S, echo_servers, wait_for_holder, wait_for_state

pytestmark = pytest.mark.e2e

UNIT = Path(__file__).parents[2] / "systemd" / "dvipad.service"
RATE = 50.0


def service() -> dict[str, str]:
    """The section [Service] of the unit."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def capabilities() -> str:
    """Those of the unit, in the words of setpriv(1)."""
    wanted = service()["CapabilityBoundingSet"].lower().replace("cap_", "+").split()
    return ",".join(["-all", *wanted])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Daemons that have the capabilities of the unit and no others, as root has none beside."""
    listed = capabilities()
    made = Cluster(LabSpec(prefix=f"s{os.getpid()}", targets=2))
    made.wrapper = ("setpriv", "--inh-caps", listed, "--bounding-set", listed, "--")
    with made:
        yield made


def test_the_capabilities_of_the_unit_are_enough(cluster: Cluster) -> None:
    """Own, distribute, take over and take back, with worker, guard and socket events."""
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        new = NewConnections(cluster, "client", dvipa, cluster.spec.ports[0], rate=RATE)
        cluster.stop_daemon("lb1")
        wait_for_holder(cluster, dvipa, "lb2")
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        wait_for_state(cluster, "lb1", "ACTIVE")
        result = new.stop()
    assert result.started > 0
    assert not result.failed
    counters = cluster.ask("lb1", "counters")
    assert counters["queue"]["packets"] > 0
    log = cluster.paths.log("lb1").read_text()
    assert not [line for line in log.splitlines() if "missing" in line or "ERROR" in line]


def test_the_service_manager_hears_that_all_is_well(cluster: Cluster, tmp_path: Path) -> None:
    """READY, the watchdog, a reload with its beginning and its end, the goodbye."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(WAIT_S * cluster.spec.slow)
        cluster.stop_daemon("t1")
        cluster.wrapper = ("env", f"NOTIFY_SOCKET={path}")
        cluster.start_daemon("t1")

        def said(wanted: str) -> str:
            while True:
                words = manager.recv(4096).decode()
                if words.startswith(wanted):
                    return words

        said("READY=1")
        said("WATCHDOG=1")
        said("WATCHDOG=1")
        cluster.signal_daemon("t1", signal.SIGHUP)
        assert "MONOTONIC_USEC=" in said("RELOADING=1")
        said("READY=1")
        cluster.signal_daemon("t1", signal.SIGTERM)
        said("STOPPING=1")
