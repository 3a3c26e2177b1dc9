"""What the number of DVIPAs costs: nothing for a connection, some time to bring them up.

Two distributors, two targets, a client; every DVIPA has four ports and is distributed to both
targets. The labs with the fewest and with the most DVIPAs stand side by side and take turns, so
that noise hits both alike; the others come alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench.build import c_program
from bench.figures import Figure
from bench.loads import LATENCY
from bench.progress import say
from bench.rivals import CLIENT, targets_of
from bench.scale_figures import sized
from bench.scale_load import OWNER, QUEUE, Load, totals
from bench.scale_meter import Meter, idle_cores, program_statistics
from dvipad.adapters.bpf.layout import DVIPA_COLLECTING, Dvipa, Role
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.maps import Map
from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import UPLINK, LabSpec
from dvipad.lab.traffic import Nginx

PREFIX: Final = "bench-scale"
DVIPAS: Final = (1, 10, 100, 1000)
FEWEST, MOST = DVIPAS[0], DVIPAS[-1]
FIRST: Final = IPv4Address("198.18.0.1")
MASK: Final = "255.254.0.0"
ROUTE: Final = "198.18.0.0/15"
"""For measurements of networks (RFC 2544)."""
PORTS: Final = (80, 81, 82, 83)
WEB: Final = PORTS[0]
TIMERS: Final = {"heartbeat_ms": 500, "dead_ms": 5000}
"""The same for all sizes: four daemons with 1,000 DVIPAs start on the same few cores."""
IDLE_S: Final = 4.0
PROGRAM_S: Final = 1
CALM_S: Final = 8.0
"""Among others what targets list once more six seconds after they had to."""
UP_S: Final = 120.0
LOOK_S: Final = 0.05
READY_S: Final = 30.0
FEWER_ROUNDS: Final = 3
PAIR_ROUNDS: Final = 3
"""Rounds of the two that are compared, for each round asked for: their ratio must be known well."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one lab. `idle_cores`, `connection_us`: of the distributor's daemon and worker;
    `program_ns`: of its eBPF program, for a packet. The last three: requests of all rounds so far,
    those that failed, and those that the worker decided."""

    dvipas: int
    up_s: float
    idle_cores: float
    connection_us: float
    program_ns: float
    started: int
    failed: int
    queued: int


def profiles(dvipas: int, targets: Sequence[str]) -> dict[str, str]:
    """The profiles of the distributor and of its backup; `targets`: XCF addresses."""
    names = [str(FIRST + index) for index in range(dvipas)]
    listed = " ".join(targets)
    ports = " ".join(map(str, PORTS))
    primary = [f"  VIPADEFINE MOVEABLE IMMEDIATE {MASK} {name}" for name in names]
    for name in names:
        primary += [f"  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN {name} PORT {ports}"]
        primary += [f"    DESTIP {listed}"]
    backup = [f"  VIPABACKUP 100 MOVEABLE IMMEDIATE {MASK} {name}" for name in names]
    rows = {OWNER: primary, "lb2": backup}
    return {
        host: "\n".join(["VIPADYNAMIC", *lines, "ENDVIPADYNAMIC", ""])
        for host, lines in rows.items()
    }


class Lab:
    """A lab with `dvipas` DVIPAs, all of them up, and web servers."""

    def __init__(self, dvipas: int, prefix: str = PREFIX) -> None:
        """Nothing exists yet: that is what `with` does."""
        plain = LabSpec(prefix=f"{prefix}-{dvipas}", lbs=2, targets=2)
        xcfs = [str(plain.xcf(host)) for host in targets_of(plain)]
        spec = LabSpec(
            prefix=plain.prefix,
            lbs=2,
            targets=2,
            profiles=profiles(dvipas, xcfs),
            settings={"timers": TIMERS, "queue": QUEUE},
        )
        self.dvipas = dvipas
        self.cluster = Cluster(spec)
        self.load = Load(self.cluster, FIRST, WEB)
        self.up_s = 0.0
        self.meter: Meter
        self._running = ExitStack()

    def __enter__(self) -> Lab:
        try:
            destroy(self.cluster.spec.prefix)
            self._running.enter_context(self.cluster)
            began_s = time.monotonic()
            self._await_dvipas()
            self.up_s = time.monotonic() - began_s
            say(f"scale {self.dvipas} DVIPAs: up in {self.up_s:.1f} s")
            for host in targets_of(self.cluster.spec):
                self._running.callback(Nginx(self.cluster, host.name, [WEB]).stop)
            self.cluster.run(CLIENT, ["ip", "route", "add", ROUTE, "dev", UPLINK])
            self._await_servers()
            self.meter = Meter(self.cluster, OWNER)
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def _await_dvipas(self) -> None:
        """Wait until the distributor owns all of them, and the targets hide all of them."""
        wanted = {OWNER: Role.OWNER}
        wanted |= {host.name: Role.HIDDEN for host in targets_of(self.cluster.spec)}
        for name, role in wanted.items():
            path = self.cluster.paths.pins(name) / "dvipas"

            def have_all(path: Path = path, role: Role = role) -> bool:
                time.sleep(LOOK_S)
                return count_roles(path, role) == self.dvipas

            self.cluster.wait_until(have_all, UP_S, f"{name} has {self.dvipas} DVIPAs")

    def _await_servers(self) -> None:
        wanted = {host.name for host in targets_of(self.cluster.spec)}
        seen: set[str] = set()

        def all_seen() -> bool:
            argv = ["curl", "-gs", "--max-time", "1", wrk.url_of(FIRST, WEB)]
            seen.add(self.cluster.run(CLIENT, argv, check=False).stdout.strip())
            return seen >= wanted

        self.cluster.wait_until(all_seen, READY_S, f"all targets answer at {FIRST}")


def count_roles(path: Path, role: Role) -> int:
    """How many DVIPAs of the pinned map have `role`, and serve."""
    try:
        dvipas = Map.open(path)
    except BpfError:
        return 0  # not yet
    try:
        rows = [Dvipa.from_buffer_copy(value) for _, value in dvipas.items()]
    finally:
        dvipas.close()
    return sum(row.role == role and not row.flags & DVIPA_COLLECTING for row in rows)


def run(rounds: int, seconds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """All sizes; :data:`FEWEST` and :data:`MOST` side by side."""
    c_program(LATENCY)  # not while something is measured
    samples: list[Sample] = []
    with Lab(FEWEST) as few, Lab(MOST) as many:
        samples += measure((few, many), PAIR_ROUNDS * rounds, seconds)
    for dvipas in DVIPAS[1:-1]:
        with Lab(dvipas) as lab:
            samples += measure((lab,), min(rounds, FEWER_ROUNDS), seconds)
    return figures(samples), [{"part": "dvipas", **asdict(sample)} for sample in samples]


def measure(labs: Sequence[Lab], rounds: int, seconds: int) -> list[Sample]:
    """`rounds` of all `labs`, in an order that turns."""
    time.sleep(CALM_S)  # what coming up left to do is no part of any load
    samples = []
    for turn in range(rounds):
        idle = idle_cores([lab.meter for lab in labs], IDLE_S)
        pairs = list(zip(labs, idle, strict=True))
        for lab, cores in pairs[:: -1 if turn % 2 else 1]:
            connection_us = lab.meter.cost_us(cores, partial(lab.load.run, seconds))
            with program_statistics():
                program_ns = lab.meter.program_ns(partial(lab.load.run, PROGRAM_S))
            samples.append(_sample(lab, cores, connection_us, program_ns))
            say(f"scale {turn + 1}/{rounds}: {samples[-1]}")
    return samples


def _sample(lab: Lab, cores: float, connection_us: float, program_ns: float) -> Sample:
    requests = lab.load.started, lab.load.failed, lab.load.queued
    return Sample(lab.dvipas, lab.up_s, cores, connection_us, program_ns, *requests)


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """Medians for each size, and what a connection costs among the most against the fewest."""
    found: list[Figure] = []
    medians: dict[int, float] = {}
    loads: list[tuple[int, int, int]] = []
    for dvipas in sorted({sample.dvipas for sample in samples}):
        those = [sample for sample in samples if sample.dvipas == dvipas]
        costs = [sample.connection_us for sample in those]
        found.append(Figure(f"scale.up_s.{dvipas}", those[0].up_s, "s"))
        found += sized("idle_cpu", dvipas, [sample.idle_cores for sample in those], "core")
        found += sized("conn_cost_us", dvipas, costs, "us")
        found += sized("program_ns", dvipas, [sample.program_ns for sample in those], "ns")
        medians[dvipas] = statistics.median(costs)
        last = those[-1]
        loads.append((last.started, last.failed, last.queued))
    if medians.keys() >= {FEWEST, MOST}:
        name = f"scale.conn_cost_{MOST}_vs_{FEWEST}"
        found.append(Figure(name, medians[MOST] / medians[FEWEST], "ratio"))
    return [*found, *totals("dvipas", loads)]
