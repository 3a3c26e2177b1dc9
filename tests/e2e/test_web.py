"""The web server of a node: health over HTTP, and no way to change anything."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dvipad.cli.ask import Refused, ask
from dvipad.lab.web import web_server
from tests.e2e.cluster_tools import WAIT_S, wait_for_state
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("family", [4, 6])
def test_health_says_how_the_daemon_is(make_cluster: MakeCluster, family: int) -> None:
    cluster = make_cluster(family=family, targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    with web_server(cluster, "lb1") as web:
        assert web.get("/healthz") == (200, "ok\n")
        cluster.wait_until(
            lambda: web.get("/readyz") == (200, "ready\n"), WAIT_S, "the node is ready"
        )
        cluster.signal_daemon("lb1", signal.SIGKILL)
        code, reason = web.get("/healthz")
        assert (code, "is dvipad running?" in reason) == (503, True)
        assert web.get("/readyz")[0] == 503


def test_the_socket_of_reports_takes_no_orders(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    view: Path = cluster.paths.control("lb1").with_name("view.sock")
    assert view.stat().st_mode & 0o777 == 0o660
    events = ask(view, {"command": "events", "after": 0})["events"]
    taken = [event for event in events if event["kind"] == "decision"]
    assert taken[-1]["after"] == "ACTIVE"
    assert taken[-1]["dvipa"] == str(cluster.spec.dvipa())
    assert json.dumps(taken)
    with pytest.raises(Refused, match="unknown command"):
        ask(view, {"command": "vary", "verb": "leavegroup"})
    for wrong in ({"after": -1}, {"after": "x"}, {"wait_s": 99}, {"wait_s": True}):
        with pytest.raises(Refused):
            ask(view, {"command": "events", **wrong})
