"""What the number of established connections costs: memory, new connections, a look at the CRT.

One lab grows from 100 to 50,000 real connections, from several client hosts, and shrinks again.
Memory and the cost of new connections are measured on the way up, reports on the way down: what a
report leaves in a process must not count as the price of connections.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final

from bench.build import c_program
from bench.figures import Figure
from bench.loads import LATENCY
from bench.progress import say
from bench.rivals import await_service, targets_of
from bench.scale_figures import sized
from bench.scale_load import OWNER, QUEUE, Load, totals
from bench.scale_meter import Meter, idle_cores
from dvipad.adapters.bpf.maps import Map
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.crowd import Crowd
from dvipad.lab.spec import LabError, LabSpec
from dvipad.lab.traffic import EchoServer, Nginx

PREFIX: Final = "bench-scale-held"
HELD: Final = (100, 1_000, 10_000, 50_000)
FEWEST, MOST = HELD[0], HELD[-1]
ECHO, WEB = 7, 80
CLIENTS: Final = 5
IDLE_S: Final = 3.0
CALM_S: Final = 3.0
READY_S: Final = 20.0
REPORT_S: Final = 60.0
ROUNDS_OF_REPORTS: Final = 3
ALL_ROWS: Final = "100000"
REPORTS: Final = {"vcrt_s": (), "vcrt_all_s": ("--max", ALL_ROWS)}
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """With `held` connections: resident KiB and bytes of maps of each node; new connections at
    that many, one value a round; reports, in s. `left_kb`: resident, after the way down."""

    held: int
    resident_kb: Mapping[str, int]
    maps: Mapping[str, int]
    connection_us: Sequence[float]
    started: int
    failed: int
    queued: int
    reports_s: Mapping[str, Sequence[float]] = field(default_factory=dict)
    left_kb: Mapping[str, int] = field(default_factory=dict)


class Lab:
    """The lab; connections come and go by :meth:`grow` and :meth:`shrink`."""

    def __init__(self, running: ExitStack) -> None:
        """All of it is taken down with `running`."""
        spec = LabSpec(prefix=PREFIX, clients=CLIENTS, ports=(ECHO, WEB), settings={"queue": QUEUE})
        destroy(PREFIX)
        self.cluster = running.enter_context(Cluster(spec))
        for host in targets_of(spec):
            running.enter_context(EchoServer(self.cluster, host.name, [ECHO]))
            running.callback(Nginx(self.cluster, host.name, [WEB]).stop)
        await_service(self.cluster, ECHO, {host.name for host in targets_of(spec)})
        self.meters = {host.name: Meter(self.cluster, host.name) for host in spec.nodes()}
        self._running = running
        self._crowds: list[tuple[Crowd, ExitStack]] = []

    def grow(self, connections: int) -> None:
        """So many more, all of them answered."""
        stack = self._running.enter_context(ExitStack())
        crowd = Crowd(self.cluster, self.cluster.spec.dvipa(), ECHO, connections, rate=0)
        stack.enter_context(crowd)
        self._crowds.append((crowd, stack))
        self.check()
        time.sleep(CALM_S)  # what opening left to do is not part of what follows

    def shrink(self, left: int) -> None:
        """The last ones end; returns when the CRT holds no more than `left`."""
        self._crowds.pop()[1].close()
        self.cluster.wait_until(lambda: self.entries() <= left, READY_S, f"the CRT has {left}")
        self.check()

    def check_owner(self) -> None:
        """Raises :class:`LabError` when the DVIPA has moved: then its CRT is somewhere else."""
        states = [row["state"] for row in self.cluster.view(OWNER)["dvipas"]]
        if states != ["ACTIVE"]:
            tail = self.cluster.paths.log_tail(OWNER)
            raise LabError(f"{OWNER} does not own the DVIPA any more, {states}:\n{tail}")

    def check(self) -> None:
        """Raises :class:`LabError` when a connection does not answer."""
        lost = sum(crowd.check().lost for crowd, _ in self._crowds)
        if lost:
            raise LabError(f"{lost} held connections were lost")

    def entries(self) -> int:
        """Established connections of the distributor's CRT."""
        established = Map.open(self.cluster.paths.pins(OWNER) / "established4")
        try:
            return sum(len(keys) for keys, _ in established.batches()) // established.key_size
        finally:
            established.close()

    def report_s(self, options: Sequence[str]) -> float:
        """How long `dvipactl netstat vcrt` takes on the distributor, start of Python included."""
        command = " ".join(["dvipactl netstat vcrt", *options, ">/dev/null"])
        began_s = time.monotonic()
        self.cluster.run(OWNER, ["sh", "-c", command], timeout_s=REPORT_S)
        return time.monotonic() - began_s

    def resident_kb(self) -> dict[str, int]:
        """Of the daemon and its workers, by node."""
        return {name: meter.resident_kb() for name, meter in self.meters.items()}

    def maps(self) -> dict[str, int]:
        """Bytes of the maps of each node."""
        return {name: sum(meter.maps().values()) for name, meter in self.meters.items()}


def run(rounds: int, seconds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """One lab, up and down; `rounds` of new connections at each size."""
    c_program(LATENCY)
    samples: list[Sample] = []
    with ExitStack() as running:
        lab = Lab(running)
        time.sleep(CALM_S)
        for before, held in pairwise((0, *HELD)):
            lab.grow(held - before)
            samples.append(_measure(lab, held, rounds, seconds))
        for index in reversed(range(len(HELD))):
            samples[index] = _reported(lab, samples[index])
            if index:
                lab.shrink(HELD[index - 1])
    return figures(samples), [{"part": "connections", **asdict(sample)} for sample in samples]


def _measure(lab: Lab, held: int, rounds: int, seconds: int) -> Sample:
    if (entries := lab.entries()) < held:
        raise LabError(f"the CRT has {entries} of {held} connections")
    lab.check_owner()
    owner = lab.meters[OWNER]
    resident_kb, maps = lab.resident_kb(), lab.maps()
    load = Load(lab.cluster, lab.cluster.spec.dvipa(), WEB)
    costs = []
    for _ in range(rounds):
        (cores,) = idle_cores([owner], IDLE_S)
        costs.append(owner.cost_us(cores, partial(load.run, seconds)))
    lab.check()
    say(
        f"scale {held} connections: {sum(resident_kb.values())} KiB resident, a new one "
        f"{statistics.median(costs):.0f} us, {load.failed} failed"
    )
    requests = load.started, load.failed, load.queued
    return Sample(held, resident_kb, maps, costs, *requests)


def _reported(lab: Lab, sample: Sample) -> Sample:
    times = {
        name: [lab.report_s(options) for _ in range(ROUNDS_OF_REPORTS)]
        for name, options in REPORTS.items()
    }
    lab.check_owner()
    say(f"scale {sample.held} connections: reports {times}")
    return replace(sample, reports_s=times, left_kb=lab.resident_kb())


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """By number of connections, and the memory of the most against the fewest."""
    found: list[Figure] = []
    for sample in samples:
        held = sample.held
        for name, kb in (("rss", sample.resident_kb), ("rss_left", sample.left_kb)):
            for of, value in (("", sum(kb.values())), ("_distributor", kb.get(OWNER, 0))):
                found.append(Figure(f"scale.{name}{of}_mb.{held}", value * 1024 / MIB, "MiB"))
        of_owner = sample.maps[OWNER]
        found.append(Figure(f"scale.maps_mb.{held}", sum(sample.maps.values()) / MIB, "MiB"))
        found.append(Figure(f"scale.maps_distributor_mb.{held}", of_owner / MIB, "MiB"))
        found += sized("conn_cost_us_held", held, sample.connection_us, "us")
        for name, times in sample.reports_s.items():
            found += sized(name, held, times, "s")
    by_size = {sample.held: sample.resident_kb for sample in samples}
    if by_size.keys() >= {FEWEST, MOST}:
        few, many = by_size[FEWEST], by_size[MOST]
        name = f"scale.rss_{MOST}_vs_{FEWEST}"
        ratio = sum(many.values()) / sum(few.values())
        found.append(Figure(name, ratio, "ratio"))
        owners = many[OWNER] / few[OWNER]
        found.append(Figure(f"scale.rss_distributor_{MOST}_vs_{FEWEST}", owners, "ratio"))
    loads = [(sample.started, sample.failed, sample.queued) for sample in samples]
    return [*found, *totals("connections", loads)]
