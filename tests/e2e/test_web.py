"""The web server of a node: health over HTTP, and no way to change anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from dvipad.cli.ask import Refused, ask
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabSpec
from dvipad.lab.traffic import LongConnections
from dvipad.lab.web import WebServer, web_server
from tests.e2e.cluster_tools import WAIT_S, echo_servers, wait_for_state
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def served() -> Iterator[WebServer]:
    """The web server of a node that is up."""
    spec = LabSpec(prefix=f"w{os.getpid()}", lbs=1, targets=0)
    with Cluster(spec) as cluster, web_server(cluster, "lb1") as web:
        yield web


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


def test_the_page_and_what_it_asks_for(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    dvipa = str(cluster.spec.dvipa())
    with echo_servers(cluster), web_server(cluster, "lb1") as web:
        wait_for_state(cluster, "lb1", "ACTIVE")
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=3)
        for path in ("/", "/page/app.js", "/page/style.css"):
            assert web.get(path)[0] == 200
        view = json.loads(web.get("/api/view")[1])
        assert view["dvipas"][0]["owner"] == "lb1"
        client = str(cluster.spec.host("client").address(4))
        found = json.loads(web.get(f"/api/connection?client={client}&dvipa={dvipa}")[1])
        assert found["total"] == 3
        port = found["rows"][0]["client_port"]
        one = json.loads(web.get(f"/api/connection?client={client}&port={port}")[1])
        assert [row["client_port"] for row in one["rows"]] == [port]
        assert json.loads(web.get("/api/connection?client=192.0.2.250")[1])["total"] == 0
        long.stop()
        newest = json.loads(web.get("/api/events?after=0")[1])["newest"]
        assert json.loads(web.get(f"/api/events?after={newest}")[1])["events"] == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/connection", "client is missing"),
        ("/api/connection?client=web.example", "no IP address"),
        ("/api/connection?client=192.0.2.1&port=x", "port 'x'"),
        ("/api/connection?client=192.0.2.1&dvipa=%00", "no IP address"),
        ("/api/events?after=-1", "after is"),
    ],
)
def test_bad_questions_are_refused(served: WebServer, path: str, words: str) -> None:
    code, body = served.get(path)
    assert code == 400
    assert words in json.loads(body)["error"]


def test_nothing_comes_from_elsewhere_and_nothing_can_be_changed(served: WebServer) -> None:
    argv = ["curl", "-s", "-i", served.url("/")]
    headers = served.cluster.run("client", argv).stdout.lower()
    assert "default-src 'self'" in headers
    script = served.get("/page/app.js")[1]
    for known in ("http://www.w3.org/2000/svg", "http://${host}"):
        script = script.replace(known, "")
    assert "http" not in script + served.get("/")[1] + served.get("/page/style.css")[1]
    for method in ("POST", "PUT", "DELETE"):
        argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]
        assert served.cluster.run("client", [*argv, served.url("/api/view")]).stdout == "405"


def test_a_browser_hears_of_a_takeover_and_of_a_dead_daemon(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    with web_server(cluster, "lb2") as web:
        wait_for_state(cluster, "lb1", "ACTIVE")
        argv = ["curl", "-s", "-N", "-m", "60", web.url("/api/live")]
        browser = cluster.popen("client", argv, stdout=subprocess.PIPE)
        assert browser.stdout is not None
        said = messages(browser.stdout)
        view = next(data for name, data in said if name == "view")
        assert view["dvipas"][0]["owner"] == "lb1"
        cluster.fail("lb1")
        decided = next(
            event
            for name, data in said
            if name == "events"
            for event in data
            if event["kind"] == "decision" and event["after"] == "TAKEOVER"
        )
        assert decided["dvipa"] == str(cluster.spec.dvipa())
        assert next(
            data for name, data in said if name == "view" and data["dvipas"][0]["owner"] == "lb2"
        )
        cluster.signal_daemon("lb2", signal.SIGKILL, workers=True)
        assert next(data["reason"] for name, data in said if name == "down")
        cluster.start_daemon("lb2")
        assert next(data for name, data in said if name == "view")
        browser.terminate()
        browser.wait()


def messages(stream: IO[str]) -> Iterator[tuple[str, Any]]:
    """Name and content of server-sent events."""
    for line in stream:
        if line.startswith("event: "):
            yield line[7:].strip(), json.loads(next(stream)[6:])
