"""`rebuild`: the owner of 50,000 connections dies; how soon does the backup know all of them?

Real connections from several client hosts to several targets. The owner's link is cut and its
processes are killed; the backup takes over and collects its CRT from the targets. What the backup's
data plane does is read from its own maps, what it decides from its log, and what became of the
connections is asked of every single one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.figures import Figure, summary
from bench.progress import say
from dvipad.adapters.bpf.layout import DVIPA_COLLECTING, Dvipa, Role
from dvipad.adapters.bpf.maps import Map
from dvipad.address import pack
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.crowd import Crowd, CrowdReport
from dvipad.lab.spec import Kind, LabError, LabSpec
from dvipad.lab.traffic import EchoServer

PREFIX: Final = "bench-rebuild"
PORT: Final = 7
CONNECTIONS: Final = 50_000
CLIENTS: Final = 5
ASKED_PER_S: Final = 500.0
"""Connections that have data under way, so that some of it meets the gap."""
READY_S: Final = 20.0
CALM_S: Final = 2.0
TAKEOVER_S: Final = 20.0
LOOK_S: Final = 0.0005

_TIMES: Final = (
    "detect_ms",
    "claim_ms",
    "crt_ms",
    "total_gap_ms",
    "answer_gap_ms",
    "takeback_gap_ms",
    "opening_ms",
)
_DECISION: Final = re.compile(r'(\d\d):(\d\d):(\d\d\.\d+) .* action="take over" ')
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One takeover, in the order of events.

    `detect_ms`: from just before the owner's link is cut to the backup's decision to take over;
    `claim_ms`: from there until its data plane has the address; `crt_ms`: from the decision until
    its data plane serves the whole CRT; `total_gap_ms`: from the cut until then. `entries`: of the
    CRT at that moment. `answer_gap_ms`: the longest time in which a client got no answer;
    `lost`: connections that did not answer rightly afterwards. Then the owner comes back:
    `takeback_gap_ms` and `takeback_lost` are the same of that.
    """

    connections: int
    opening_ms: float
    detect_ms: float
    claim_ms: float
    crt_ms: float
    total_gap_ms: float
    answer_gap_ms: float
    entries: int
    lost: int
    takeback_gap_ms: float
    takeback_lost: int


class Watch(threading.Thread):
    """Looks into the maps of a node until it has a DVIPA and the whole CRT of it.

    Times are of CLOCK_MONOTONIC, in s; 0.0: not yet.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(daemon=True)
        pins = cluster.paths.pins(name)
        self._dvipas = Map.open(pins / "dvipas")
        self._established = Map.open(pins / f"established{cluster.spec.family}")
        self._key = pack(cluster.spec.dvipa())
        self.owned_s = self.complete_s = 0.0
        self.entries = 0

    def run(self) -> None:
        """Look until the CRT is complete, or for too long."""
        give_up_s = time.monotonic() + TAKEOVER_S
        while time.monotonic() < give_up_s and not self.complete_s:
            self._look()
            time.sleep(LOOK_S)
        size = self._established.key_size
        self.entries = sum(len(keys) // size for keys, _ in self._established.batches())
        self._dvipas.close()
        self._established.close()

    def _look(self) -> None:
        value = self._dvipas.lookup(self._key)
        entry = Dvipa() if value is None else Dvipa.from_buffer_copy(value)
        if entry.role != Role.OWNER:
            return
        now_s = time.monotonic()
        self.owned_s = self.owned_s or now_s
        if not entry.flags & DVIPA_COLLECTING:
            self.complete_s = now_s


def decided_s(log: str, now_s: float, day_s: float) -> float:
    """When the last decision to take over in a daemon's `log` was made, in s.

    `now_s` is the time at `day_s` seconds after midnight in the clock of the log. Raises
    :class:`LabError` when there is none.
    """
    found = _DECISION.findall(log)
    if not found:
        raise LabError("the backup has not decided to take over")
    hours, minutes, seconds = found[-1]
    at_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return now_s - (day_s - at_s) % _DAY_S


def measure(connections: int, family: int, prefix: str = PREFIX) -> Sample:
    """One takeover in a fresh lab; raises :class:`LabError` when there is none."""
    spec = LabSpec(prefix=prefix, family=family, ports=(PORT,), clients=CLIENTS)
    destroy(prefix)
    with Cluster(spec) as cluster, ExitStack() as running:
        targets = [host.name for host in spec.hosts() if host.kind is Kind.TARGET]
        for name in targets:
            running.enter_context(EchoServer(cluster, name, [PORT]))

        def known() -> bool:
            rows = cluster.view("lb1")["targets"]
            return len([row for row in rows if row["ready"] > 0]) == len(targets)

        cluster.wait_until(known, READY_S, "lb1 knows the servers")
        began_s = time.monotonic()
        crowd = running.enter_context(
            Crowd(cluster, spec.dvipa(), PORT, connections, rate=ASKED_PER_S)
        )
        opening_ms = (time.monotonic() - began_s) * 1000
        if lost := crowd.check().lost:
            raise LabError(f"{lost} connections fail before anything was done to them")
        time.sleep(CALM_S)  # what the opening left to do is not part of the takeover
        return _cut_power(cluster, crowd, opening_ms)


def _cut_power(cluster: Cluster, crowd: Crowd, opening_ms: float) -> Sample:
    crowd.phase("takeover")
    watch = Watch(cluster, "lb2")
    watch.start()
    cut_s = time.monotonic()
    cluster.fail("lb1")
    watch.join()
    if not watch.complete_s:
        raise LabError(f"lb2 does not take over:\n{cluster.paths.log_tail('lb2')}")
    report = crowd.check()
    log = cluster.paths.log("lb2").read_text(errors="replace")
    now = time.localtime(wall_s := time.time())
    day_s = now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec + wall_s % 1
    at_s = decided_s(log, time.monotonic(), day_s)
    back = _give_power_back(cluster, crowd)
    return Sample(
        connections=crowd.connections,
        opening_ms=opening_ms,
        detect_ms=(at_s - cut_s) * 1000,
        claim_ms=(watch.owned_s - at_s) * 1000,
        crt_ms=(watch.complete_s - at_s) * 1000,
        total_gap_ms=(watch.complete_s - cut_s) * 1000,
        answer_gap_ms=report.max_gap_ms,
        entries=watch.entries,
        lost=report.lost,
        takeback_gap_ms=back.max_gap_ms,
        takeback_lost=back.lost,
    )


def _give_power_back(cluster: Cluster, crowd: Crowd) -> CrowdReport:
    crowd.phase("takeback")
    cluster.heal("lb1")
    dvipa = str(cluster.spec.dvipa())

    def is_owner() -> bool:
        rows = cluster.view("lb1")["dvipas"]
        return any(row["dvipa"] == dvipa and row["state"] == "ACTIVE" for row in rows)

    cluster.wait_until(is_owner, TAKEOVER_S, "lb1 takes the address back")
    return crowd.check()


def run(rounds: int, family: int, connections: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """All rounds; returns the figures, and every sample."""
    samples: list[Sample] = []
    for number in range(1, rounds + 1):
        sample = measure(connections, family)
        samples.append(sample)
        say(
            f"rebuild {number}/{rounds}: CRT of {sample.entries} in {sample.crt_ms:.0f} ms, "
            f"gap {sample.total_gap_ms:.0f} ms, {sample.lost} lost; takeback: "
            f"gap {sample.takeback_gap_ms:.0f} ms, {sample.takeback_lost} lost"
        )
    return figures(samples), [asdict(sample) for sample in samples]


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """Times: median, smallest, largest. Lost: the most in any round; entries: the fewest."""
    found = [Figure("rebuild.connections", samples[0].connections, "connections")]
    for name in _TIMES:
        found += summary(f"rebuild.{name}", [getattr(sample, name) for sample in samples], "ms")
    entries = min(sample.entries for sample in samples)
    found.append(Figure("rebuild.entries", entries, "connections"))
    for name in ("lost", "takeback_lost"):
        lost = max(getattr(sample, name) for sample in samples)
        found.append(Figure(f"rebuild.{name}", lost, "connections"))
    return found
