"""A cluster with its servers, to which a fault happens, and whether it is whole again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import Kind, LabError
from dvipad.lab.system import alive
from dvipad.lab.traffic import EchoServer

WAIT_S: Final = 15.0
TICK_S: Final = 0.02
POLL_S: Final = 0.1
"""Views are asked for at this pace while a cluster recovers: asking more often would be load."""


def hold(seconds: float) -> None:
    """Let a fault last: return when `seconds` have passed on the monotonic clock."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, TICK_S))


class Scene:
    """A cluster that is up, with an echo server on every target; `running` ends them."""

    def __init__(self, cluster: Cluster, running: ExitStack, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.dvipa = cluster.spec.dvipa()
        self.facts: list[str] = []
        self._running = running

    # Who is there

    def _of(self, kind: Kind) -> list[str]:
        return [host.name for host in self.cluster.spec.hosts() if host.kind is kind]

    @property
    def lbs(self) -> list[str]:
        """The owner lb1, and its backups."""
        return self._of(Kind.LB)

    @property
    def targets(self) -> list[str]:
        """All targets."""
        return self._of(Kind.TARGET)

    @property
    def nodes(self) -> list[str]:
        """All hosts with a daemon."""
        return [host.name for host in self.cluster.spec.nodes()]

    def others(self, *names: str) -> list[str]:
        """All hosts, clients too, except `names`."""
        return [host.name for host in self.cluster.spec.hosts() if host.name not in names]

    def shuffled(self) -> list[str]:
        """All nodes in an order that the run's seed decides."""
        names = self.nodes
        self.random.shuffle(names)
        return names

    # Acts that faults are made of

    def serve(self, *names: str) -> None:
        """Start the echo server of these targets."""
        for name in names:
            ports = self.cluster.spec.ports
            self._running.enter_context(EchoServer(self.cluster, name, ports))

    def power_up(self, *names: str) -> None:
        """Give hosts their power back, targets with their server; return when they answer."""
        for name in names:
            self.cluster.heal(name, wait=False)
        self.serve(*(name for name in names if name in self.targets))
        self.cluster.wait_ready(names)

    def power_cut(self, *names: str) -> None:
        """Cut the power of these hosts, one right after the other."""
        for name in names:
            self.cluster.fail(name)

    def restart(self, *names: str) -> None:
        """Start the daemons of these hosts again, and return when they answer."""
        began_s = time.monotonic()
        for name in names:
            self.cluster.start_daemon(name)
        self.cluster.wait_ready(names)
        took_ms = (time.monotonic() - began_s) * 1000
        self.facts.append(f"{' '.join(names)} answered {took_ms:.0f} ms after the start")

    def worker_pid(self, name: str) -> int:
        """The queue worker of a node; 0 while there is none."""
        pid = int(self.cluster.ask(name, "counters")["pids"]["worker"])
        return pid if pid and alive(pid) else 0

    # What it is like

    def row(self, name: str) -> dict[str, Any]:
        """The DVIPA in the view of a node; empty when that knows nothing of it."""
        rows = self.cluster.view(name)["dvipas"]
        return next((row for row in rows if row["dvipa"] == str(self.dvipa)), {})

    def state(self, name: str) -> str:
        """The DVIPA's state on a node; empty while its daemon does not answer."""
        try:
            return str(self.row(name).get("state", ""))
        except LabError:
            return ""

    def wait_for_owner(self, name: str) -> None:
        """Wait until the DVIPA is ACTIVE on `name`: it has the address, and a complete CRT."""
        self.cluster.wait_until(
            lambda: self.state(name) == "ACTIVE", WAIT_S, f"{name} owns {self.dvipa}"
        )

    def epoch(self) -> int:
        """The highest epoch of the DVIPA that a node knows."""
        return max((int(self.row(name).get("epoch", 0)) for name in self.answering()), default=0)

    def answering(self) -> Iterable[str]:
        """The nodes whose daemons answer."""
        for name in self.nodes:
            try:
                self.cluster.view(name)
            except LabError:
                continue
            yield name

    def missing(self) -> str:
        """What full redundancy lacks, in words; empty when nothing does.

        Full: lb1 owns the DVIPA, its backups are backups, every node has a session with every
        other one, and every target serves every port.
        """
        try:
            views = {name: self.cluster.view(name) for name in self.nodes}
        except LabError as error:
            return str(error)
        for name, view in views.items():
            up = {row["name"] for row in view["members"] if row["life"] in ("up", "self")}
            if absent := set(self.nodes) - up:
                return f"{name} has no session with {', '.join(sorted(absent))}"
        for name in self.lbs:
            wanted = "ACTIVE" if name == self.lbs[0] else "BACKUP"
            states = [row["state"] for row in views[name]["dvipas"]]
            if states != [wanted]:
                return f"{name} is {states} and not {wanted}"
        ready = sum(row["ready"] > 0 for row in views[self.lbs[0]]["targets"])
        wanted_rows = len(self.targets) * len(self.cluster.spec.ports)
        if ready != wanted_rows:
            return f"{ready} of {wanted_rows} targets are in the DPT"
        return ""

    def wait_until_full(self) -> None:
        """Wait for full redundancy; raises :class:`LabError` with what lacks."""
        end = time.monotonic() + WAIT_S
        while lacking := self.missing():
            if time.monotonic() >= end:
                raise LabError(f"not within {WAIT_S:g} s: {lacking}")
            time.sleep(POLL_S)
