"""`choice`: three targets, one with half of its CPU taken by a hog, requests that cost CPU time.

Two labs stand side by side, made alike: one in which dvipad distributes a port by BASEWLM and one
by ROUNDROBIN, and one with HAProxy (leastconn). Each target is a cgroup with a part of a CPU; where
requests are measured the hog of the first one runs, and nowhere else.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import loads
from bench.build import c_program
from bench.figures import Figure, compare, summary
from bench.haproxy import HAProxy
from bench.progress import say
from bench.rivals import BOX, CLIENT, targets_of
from dvipad.address import Address
from dvipad.lab.capacity import Capacity
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.nginx import listening_ports
from dvipad.lab.spec import LabSpec

PREFIX: Final = "bench-choice"
WORK: Final = Path("work.c")
CPUS: Final = 0.4
"""What each target has."""
HOG_CPUS: Final = 0.2
COST_US: Final = 3_000
LOAD: Final = 0.7
"""Of what the targets can do beside the hog, measured one by one."""
CALIBRATION_S: Final = 2
SETTLE_S: Final = 8
"""The same load, before anything is measured: weights follow, queues have the length they keep."""
LONGER: Final = 4
"""Measured so many times longer than other loads: there are few requests in a second."""
INTERVAL_MS: Final = 1_000
READY_S: Final = 20.0
HOG: Final = ("sh", "-c", "while :; do :; done")
PORTS: Final = {"roundrobin": 80, "basewlm": 81, "haproxy_leastconn": 80}
PAIRS: Final = (("basewlm", "roundrobin"), ("basewlm", "haproxy_leastconn"))


def profile_text(spec: LabSpec) -> str:
    """A port for each method."""
    dvipa = spec.dvipa()
    defined = f"255.255.255.0 {dvipa}" if spec.family == 4 else f"DVIPA1 {dvipa}/64"
    name = str(dvipa) if spec.family == 4 else "DVIPA1"
    targets = " ".join(str(spec.xcf(host)) for host in targets_of(spec))
    return "\n".join(
        [
            "VIPADYNAMIC",
            f"  VIPADEFINE MOVEABLE IMMEDIATE {defined}",
            *(
                f"  VIPADISTRIBUTE DISTMETHOD {method.upper()} {name} PORT {PORTS[method]}"
                f" DESTIP {targets}"
                for method in ("roundrobin", "basewlm")
            ),
            "ENDVIPADYNAMIC",
            "",
        ]
    )


class Farm:
    """A lab whose targets have a part of a CPU each, and servers that work."""

    def __init__(self, spec: LabSpec, *, daemons: bool) -> None:
        """Nothing exists yet: that is what `with` does."""
        self._names = [host.name for host in targets_of(spec)]
        self._top = f"{spec.prefix}-{os.getpid()}"
        workloads = {
            name: {
                "workload": {
                    "interval_ms": INTERVAL_MS,
                    "cgroup": f"/{self._top}/{name}",
                    "cpu_percent": round(100 * CPUS),
                }
            }
            for name in self._names
        }
        self.cluster = Cluster(replace(spec, host_settings=workloads), daemons=daemons)
        self._running = ExitStack()

    def __enter__(self) -> Farm:
        try:
            destroy(self.cluster.spec.prefix)
            top = self._running.enter_context(Capacity(self._top, None))
            hosts = [self._running.enter_context(Capacity(n, CPUS, top)) for n in self._names]
            self._hog = self._running.enter_context(Capacity("hog", HOG_CPUS, hosts[0]))
            servers = [self._running.enter_context(Capacity("server", None, h)) for h in hosts]
            self._running.enter_context(self.cluster)
            for name, server in zip(self._names, servers, strict=True):
                self._serve(name, server)
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.close()

    def _serve(self, name: str, server: Capacity) -> None:
        for port in sorted(set(PORTS.values())):
            argv = [str(c_program(WORK)), str(port), str(COST_US)]
            process = self.cluster.popen(name, server.inside(argv))

            def listens(pid: int = process.pid, port: int = port) -> bool:
                tables = Path(f"/proc/{pid}/net/tcp6").read_text()
                return port in listening_ports(tables)

            self.cluster.wait_until(listens, READY_S, f"a server of {name} listens")

    @contextmanager
    def hogged(self) -> Iterator[None]:
        """The first target is busy."""
        hog = self.cluster.popen(self._names[0], self._hog.inside(HOG))
        try:
            yield
        finally:
            hog.kill()
            hog.wait()

    def capacity(self) -> float:
        """Requests per second that all targets together can do, while the first is busy."""
        spec = self.cluster.spec
        addresses = [host.address(spec.family) for host in targets_of(spec)]
        with self.hogged():
            return sum(
                loads.requests_per_s(
                    self.cluster, address, PORTS["basewlm"], CALIBRATION_S, new_connections=True
                )
                for address in addresses
            )

    def load(self, address: Address, port: int, rate: float, seconds: float) -> dict[str, float]:
        """Requests at that rate: what latency.c says of them."""
        argv = loads.latency_argv(address, port, rate, round(seconds))
        done = self.cluster.run(CLIENT, argv, timeout_s=seconds + loads.SPARE_S)
        return loads.parse_latency(done.stdout)


def run(rounds: int, seconds: int, family: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """All three in each round, in an order that turns."""
    for source in (loads.LATENCY, WORK):
        c_program(source)
    plain = LabSpec(prefix=f"{PREFIX}-plain", lbs=1, family=family)
    own = replace(plain, prefix=PREFIX, profiles={BOX: profile_text(plain)})
    samples: list[dict[str, Any]] = []
    with Farm(own, daemons=True) as dvipad, Farm(plain, daemons=False) as other:
        names, rate = list(PORTS), LOAD * dvipad.capacity()
        for turn in range(rounds):
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                farm = other if name == "haproxy_leastconn" else dvipad
                sample = _measure(name, farm, rate, LONGER * seconds)
                say(f"choice {turn + 1}/{rounds}: {name}: {sample}")
                samples.append({"rival": name, "round": turn + 1, "values": sample})
    return figures(samples, rate), samples


def _measure(name: str, farm: Farm, rate: float, seconds: int) -> dict[str, float]:
    cluster, port = farm.cluster, PORTS[name]
    with ExitStack() as stack:
        address = cluster.spec.dvipa()
        if not cluster.daemons:
            address = cluster.spec.host(BOX).address(cluster.spec.family)
            servers = [host.address(cluster.spec.family) for host in targets_of(cluster.spec)]
            proxy = HAProxy(cluster, BOX, {port: servers}, balance="leastconn")
            stack.callback(proxy.stop)
        stack.enter_context(farm.hogged())
        farm.load(address, port, rate, SETTLE_S)
        before = _given(cluster, port)
        found = farm.load(address, port, rate, seconds)
        given = [after - early for after, early in zip(_given(cluster, port), before, strict=True)]
    share = given[0] / sum(given) if sum(given) else 0.0
    return {
        "p50": found["p50_us"] / 1000,
        "p99": found["p99_us"] / 1000,
        "failed": found["failed"],
        "share": share,
    }


def _given(cluster: Cluster, port: int) -> list[int]:
    """Connections that dvipad gave to each target so far; none without it."""
    if not cluster.daemons:
        return []
    rows = [row for row in cluster.view(BOX)["targets"] if row["port"] == port]
    return [row["total"] for row in sorted(rows, key=lambda row: str(row["name"]))]


def figures(samples: list[dict[str, Any]], rate: float) -> list[Figure]:
    """Medians of the rounds, ratios of them, and what failed in all."""
    found = [Figure("choice.rate", rate, "req/s")]
    for key in ("p50", "p99"):
        medians = {}
        for name in PORTS:
            own = [sample["values"][key] for sample in samples if sample["rival"] == name]
            medians[name] = statistics.median(own)
            found += summary(f"choice.{key}_{name}", own, "ms")
        found += compare(f"choice.{key}_", medians, PAIRS)
    for name in PORTS:
        of = [sample["values"] for sample in samples if sample["rival"] == name]
        found.append(Figure(f"choice.failed_{name}", sum(v["failed"] for v in of), "requests"))
        if any(values["share"] for values in of):
            shares = [values["share"] for values in of]
            found += summary(f"choice.busy_share_{name}", shares, "ratio")
    return found
