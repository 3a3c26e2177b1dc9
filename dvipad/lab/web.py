"""The web server of a node of the lab, and how to ask it from another host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from dvipad.config.web import DEFAULT_WEB_PORT
from dvipad.lab.cluster import Cluster

START_S: Final = 20.0
STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class WebServer:
    """Where `dvipad web` of host `name` answers; `pid`: its process."""

    cluster: Cluster
    name: str
    pid: int

    def url(self, path: str = "/") -> str:
        """Where hosts of the lab find `path`."""
        host = self.cluster.spec.host(self.name).address(self.cluster.spec.family)
        return f"http://{f'[{host}]' if host.version == 6 else host}:{DEFAULT_WEB_PORT}{path}"

    def get(self, path: str, *, seen_by: str = "client") -> tuple[int, str]:
        """HTTP status and body of `path`, as the host `seen_by` gets them; 0: no answer."""
        argv = ["curl", "-s", "-m", "20", "-w", "\n%{http_code}", self.url(path)]
        body, _, code = self.cluster.run(seen_by, argv, check=False).stdout.rpartition("\n")
        return int(code), body


@contextmanager
def web_server(cluster: Cluster, name: str) -> Iterator[WebServer]:
    """Runs `dvipad web` on host `name`; it answers from the first moment to the last."""
    argv = [sys.executable, "-m", "dvipad.cli.dvipad", "web", str(cluster.paths.node_file(name))]
    with cluster.paths.log(name).open("a") as log:
        process = cluster.popen(name, argv, stdout=log, stderr=log)
    server = WebServer(cluster, name, process.pid)
    try:
        what = f"the web server of {name} answers"
        cluster.wait_until(lambda: server.get("/healthz")[0] != 0, START_S, what)
        yield server
        process.terminate()
        process.wait(STOP_S)
    finally:
        process.kill()
        process.wait()
