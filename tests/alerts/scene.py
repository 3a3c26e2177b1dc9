"""A cluster under a real Prometheus, with traffic, in which every alert can be caused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.prometheus import Prometheus, prometheus
from dvipad.lab.spec import LabSpec
from dvipad.lab.traffic import EchoServer, LongConnections, NewConnections
from dvipad.lab.web import web_server
from tests.e2e.cluster_tools import follow_policies, follow_status, wait_for_state
from tests.e2e.test_health import small_disk

NODES: Final = ("lb1", "lb2", "t1", "t2")
PORT: Final = 80
ROOM: Final = 128
"""Connections that the CRT of lb1 has room for."""
FIRE_S: Final = 40.0
END_S: Final = 60.0


class Scene:
    """What the tests cause, and what they wait for."""

    def __init__(self, cluster: Cluster, asked: Prometheus, disk: Path) -> None:
        self.cluster = cluster
        self.prometheus = asked
        self.disk = disk
        self.pending = cluster.paths.host("lb1") / "pending"
        """What a status object of lb1 reads."""
        self.began = time.time()
        self.webs: dict[str, ExitStack] = {}
        self.servers: dict[str, EchoServer] = {}

    def serve_web(self, name: str) -> None:
        """`dvipad web` on a node, from now on."""
        stack = self.webs[name] = ExitStack()
        stack.enter_context(web_server(self.cluster, name))

    def heal(self, name: str) -> None:
        """Power for a node, and its web server."""
        self.cluster.heal(name)
        self.serve_web(name)

    def fail(self, name: str) -> None:
        """Cut the power of a node."""
        self.cluster.fail(name)
        self.webs.pop(name)

    def scraped(self) -> bool:
        """Whether each node was heard of: what grew before that does not show in a rate."""
        return len(self.prometheus.query("up == 1")) == len(NODES)

    def fires(self, *names: str) -> None:
        """Wait until each of these alerts has fired; some are over soon."""
        awaited = set(names)

        def all_fired(firing: set[str]) -> bool:
            awaited.difference_update(firing)
            return not awaited

        self._await(all_fired, FIRE_S, f"{', '.join(names)} fire")

    def calm(self) -> None:
        """Wait until no alert fires."""
        self._await(lambda firing: not firing, END_S, "no alert fires")

    def _await(self, holds: object, timeout_s: float, what: str) -> None:
        assert callable(holds)
        seen: list[set[str]] = [set()]

        def now() -> bool:
            seen[0] = self.prometheus.firing()
            return bool(holds(seen[0]))

        try:
            self.cluster.wait_until(now, timeout_s, what)
        except Exception as error:
            error.add_note(f"firing: {sorted(seen[0])}")
            raise

    def close(self) -> None:
        """End the web servers."""
        for stack in self.webs.values():
            stack.close()


def _status(file: Path) -> dict[str, Any]:
    known = {"name": "pending", "kind": "exec", "options": {"command": f"cat {file}"}}
    rule = {"name": "all", "by": "least-loaded", "figure": "pending.value"}
    return {"objects": [known], "preferences": [rule]}


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Two distributors and two targets, all well; ten connections, and twenty new ones a second."""
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "state"))
        spec = LabSpec(
            prefix=f"a{os.getpid()}",
            lbs=2,
            targets=2,
            clients=2,
            ports=(PORT,),
            settings={"quality": {"interval_ms": 1000}},
            host_settings={
                "lb1": {"tables": {"established": ROOM}},
                "t2": {"paths": {"state": str(disk)}},
            },
        )
        destroy(spec.prefix)
        cluster = stack.enter_context(Cluster(spec))
        made = Scene(cluster, stack.enter_context(prometheus(cluster, "client", NODES)), disk)
        stack.callback(made.close)
        for name in NODES:
            made.serve_web(name)
        for name in ("t1", "t2"):
            made.servers[name] = EchoServer(cluster, name, [PORT])
        wait_for_state(cluster, "lb1", "ACTIVE")
        made.pending.write_text("3")
        follow_status(cluster, "lb1", json.dumps(_status(made.pending)))
        follow_policies(cluster, "lb1", "policies: [{name: all, targets: {nodes: [t1, t2]}}]")
        dvipa = spec.dvipa()
        held = LongConnections(cluster, "client", dvipa, PORT, connections=10)
        stack.callback(held.kill)
        stack.callback(NewConnections(cluster, "client", dvipa, PORT, rate=20).kill)
        cluster.wait_until(made.scraped, END_S, "Prometheus heard of all nodes")
        made.calm()
        yield made
