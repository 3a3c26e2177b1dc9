"""`takeover`: the owner's power is cut; how long is the address silent, and who loses connections.

Every contender gets a lab of its own, made alike, one after the other in each round: a client, two
boxes in the middle, three servers. The same traffic, the same fault.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.figures import Figure, compare, summary
from bench.haproxy import HAProxy
from bench.keepalived import Keepalived, Vrrp
from bench.progress import say
from bench.rivals import await_service
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import Kind, LabError, LabSpec
from dvipad.lab.traffic import (
    EchoServer,
    GapProbe,
    LongConnections,
    LongReport,
    NewConnections,
)

PREFIX: Final = "bench-takeover"
PORT: Final = 7
CONNECTIONS: Final = 200
INTERVAL_MS: Final = 50.0
NEW_PER_S: Final = 100.0
PROBE_INTERVAL_MS: Final = 5.0
READY_S: Final = 20.0
CALM_S: Final = (2.0, 3.0)
"""Before the fault: by chance, so that it does not come at always the same time after an advert."""
TAKEOVER_S: Final = 20.0
SETTLE_S: Final = 30.0
FLOWING_MS: Final = 1000.0
"""A connection flows when something came back within this time."""
PROBES_AGAIN: Final = 50
"""The address has been taken over when so many probes in a row were answered by the backup."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Who holds the address; `vrrp`: keepalived and HAProxy, otherwise dvipad with `settings`."""

    name: str
    settings: Mapping[str, Any]
    vrrp: bool = False
    advert_s: float | None = None


CONTENDERS: Final = (
    Contender("dvipad", {}),
    Contender("dvipad_tuned", {"timers": {"heartbeat_ms": 30, "dead_ms": 90}}),
    Contender("keepalived_default", {}, vrrp=True),
    Contender("keepalived_tuned", {}, vrrp=True, advert_s=0.1),
)

PAIRS: Final = (
    ("dvipad", "keepalived_default"),
    ("dvipad", "keepalived_tuned"),
    ("dvipad_tuned", "keepalived_tuned"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One takeover. `gap_ms`: the address answered nobody; `lost`: of the long connections.

    `new_failed`, `new_slowed`: connections that were to be opened meanwhile; `longest_gap_ms`: on a
    long connection that lived; `own_stall_ms`: how late the prober was at worst.
    """

    contender: str
    gap_ms: float
    lost: int
    new_failed: int
    new_slowed: int
    longest_gap_ms: float
    own_stall_ms: float


def measure(contender: Contender, family: int, prefix: str = PREFIX) -> Sample:
    """One takeover in a fresh lab; raises :class:`LabError` when there is none."""
    spec = LabSpec(prefix=prefix, family=family, ports=(PORT,), settings=contender.settings)
    destroy(spec.prefix)
    with Cluster(spec, daemons=not contender.vrrp) as cluster, ExitStack() as running:
        targets = [host.name for host in spec.hosts() if host.kind is Kind.TARGET]
        for name in targets:
            running.enter_context(EchoServer(cluster, name, [PORT]))
        if contender.vrrp:
            _start_rivals(cluster, contender)
        await_service(cluster, PORT, set(targets))
        return _cut_power(cluster, contender, running)


def _start_rivals(cluster: Cluster, contender: Contender) -> None:
    """keepalived and HAProxy on both boxes; the first becomes master before the second starts."""
    spec = cluster.spec
    vrrp = Vrrp(spec.dvipa(), contender.advert_s)
    servers = [h.address(spec.family) for h in spec.hosts() if h.kind is Kind.TARGET]
    for name in ("lb1", "lb2"):
        HAProxy(cluster, name, {PORT: servers})
        keepalived = Keepalived(cluster, name, vrrp, master=name == "lb1")

        def is_master(keepalived: Keepalived = keepalived) -> bool:
            keepalived.check()
            command = ["ip", "address", "show", "to", str(spec.dvipa())]
            return str(spec.dvipa()) in cluster.run("lb1", command).stdout

        cluster.wait_until(is_master, READY_S, "keepalived on lb1 is master")


def _cut_power(cluster: Cluster, contender: Contender, running: ExitStack) -> Sample:
    dvipa = cluster.spec.dvipa()
    long = running.enter_context(
        LongConnections(
            cluster, "client", dvipa, PORT, connections=CONNECTIONS, interval_ms=INTERVAL_MS
        )
    )
    new = running.enter_context(NewConnections(cluster, "client", dvipa, PORT, rate=NEW_PER_S))
    probe = running.enter_context(GapProbe(cluster, "client", dvipa, PORT, PROBE_INTERVAL_MS))
    time.sleep(random.uniform(*CALM_S))  # what starts up must not be mistaken for the takeover
    if long.report().lost() or new.report().failed:
        raise LabError(f"{contender.name}: connections fail before anything was done to them")
    for program in (long, new, probe):
        program.phase("takeover")
    cluster.fail("lb1")

    def taken_over() -> bool:
        return cluster.holder(dvipa) == "lb2" and probe.report().quiet_ms < 10 * PROBE_INTERVAL_MS

    cluster.wait_until(taken_over, TAKEOVER_S, f"{contender.name}: lb2 takes over")
    gap = probe.report()
    again = gap.answered + PROBES_AGAIN
    cluster.wait_until(lambda: probe.report().answered >= again, TAKEOVER_S, "it goes on answering")
    cluster.wait_until(lambda: _settled(long.report()), SETTLE_S, "connections end or go on")
    gap = probe.stop()
    opened = new.stop()
    report = long.stop()
    return Sample(
        contender=contender.name,
        gap_ms=gap.max_gap_ms,
        lost=report.lost(),
        new_failed=sum(opened.failed.values()),
        new_slowed=opened.slowed,
        longest_gap_ms=report.max_gap_ms(),
        own_stall_ms=gap.own_stall_ms,
    )


def _settled(report: LongReport) -> bool:
    return report.quiet_ms() < FLOWING_MS


def run(rounds: int, family: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """All contenders in each round; returns the figures, and every sample."""
    samples: list[Sample] = []
    for number in range(1, rounds + 1):
        for contender in CONTENDERS:
            sample = measure(contender, family)
            samples.append(sample)
            say(
                f"takeover {number}/{rounds}: {sample.contender}: {sample.gap_ms:.0f} ms, "
                f"{sample.lost} lost, {sample.new_failed} new failed"
            )
    return figures(samples), [asdict(sample) for sample in samples]


def figures(samples: Sequence[Sample]) -> list[Figure]:
    """Gap: median, smallest, largest. Lost: the most in any takeover of that contender.

    `keepalived_lost` is the better one of the two that keepalived has.
    """
    found: list[Figure] = [Figure("takeover.connections", CONNECTIONS, "connections")]
    lost: dict[str, int] = {}
    medians: dict[str, float] = {}
    for name in dict.fromkeys(sample.contender for sample in samples):
        own = [sample for sample in samples if sample.contender == name]
        lost[name] = max(sample.lost for sample in own)
        medians[name] = statistics.median(sample.gap_ms for sample in own)
        found += summary(f"takeover.{name}_ms", [sample.gap_ms for sample in own], "ms")
        found.append(Figure(f"takeover.{name}_lost", lost[name], "connections"))
        failed = max(sample.new_failed for sample in own)
        found.append(Figure(f"takeover.{name}_new_failed", failed, "connections"))
        stall_ms = max(sample.own_stall_ms for sample in own)
        found.append(Figure(f"takeover.{name}_prober_late_ms", stall_ms, "ms"))
    rivals = [count for name, count in lost.items() if name.startswith("keepalived")]
    if rivals:
        found.append(Figure("takeover.keepalived_lost", min(rivals), "connections"))
    return found + compare("takeover.", medians, PAIRS)
