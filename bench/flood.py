"""`flood`: SYNs from random addresses, as fast as they go, at a service with honest clients.

One lab: a distributor, three targets, an honest client and one that floods. In each round the
honest requests are measured twice, without the flood and in it; the long connections live on
through all rounds.
"""

from __future__ import annotations

import statistics
import subprocess
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.build import c_program
from bench.figures import Figure, summary
from bench.loads import LATENCY, latency_argv, parse_latency
from bench.progress import say
from bench.rivals import await_service
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import UPLINK, Kind, LabError, LabSpec
from dvipad.lab.traffic import EchoServer, LongConnections, LongReport, Nginx

PREFIX: Final = "bench-flood"
FLOOD: Final = Path("flood.c")
HONEST, FLOODER, OWNER = "client", "client2", "lb1"
WEB, ECHO = 80, 7
CONNECTIONS: Final = 1_000
INTERVAL_MS: Final = 500.0
NEW_PER_S: Final = 200
HEAD_START_S: Final = 1
"""The flood is on before the honest requests begin, and until after their end."""
READY_S: Final = 20.0
SPARE_S: Final = 30.0
RANDOM: Final = {4: "198.18.0.0/15", 6: "2001:2::/48"}
"""Where the flood seems to come from (RFC 2544, RFC 5180)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. `rate`: SYNs per second of the flood; `failed` of `started` honest requests;
    `chosen`, `queued`: connections that the kernel and the worker decided meanwhile."""

    rate: float
    quiet_us: float
    flood_us: float
    started: int
    failed: int
    chosen: int
    queued: int


def run(rounds: int, seconds: int, family: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Honest clients without a flood and in one."""
    for source in (LATENCY, FLOOD):
        c_program(source)
    spec = LabSpec(prefix=PREFIX, lbs=1, clients=2, family=family, ports=(WEB, ECHO))
    destroy(spec.prefix)
    with Cluster(spec) as cluster, ExitStack() as running:
        for host in spec.hosts():
            if host.kind is Kind.TARGET:
                running.enter_context(EchoServer(cluster, host.name, [ECHO]))
                running.callback(Nginx(cluster, host.name, [WEB]).stop)
                back = f"ip route add {RANDOM[family]} via {_address(spec, FLOODER)}"
                cluster.run(host.name, back.split())
        targets = {host.name for host in spec.hosts() if host.kind is Kind.TARGET}
        await_service(cluster, ECHO, targets)
        dvipa, many = spec.dvipa(), CONNECTIONS
        held = LongConnections(
            cluster, HONEST, dvipa, ECHO, connections=many, interval_ms=INTERVAL_MS
        )
        running.callback(held.kill)
        samples = [_round(cluster, seconds, turn) for turn in range(rounds)]
        return figures(samples, held.stop()), [asdict(sample) for sample in samples]


def _address(spec: LabSpec, name: str) -> str:
    return str(spec.host(name).address(spec.family))


def _round(cluster: Cluster, seconds: int, turn: int) -> Sample:
    quiet = _honest(cluster, seconds)
    before = _counters(cluster)
    argv = [str(c_program(FLOOD)), UPLINK, cluster.spec.host(OWNER).mac]
    argv += [str(cluster.spec.dvipa()), str(WEB), str(seconds + 2 * HEAD_START_S)]
    flood = cluster.popen(FLOODER, argv, stdout=subprocess.PIPE)
    _await_flood(cluster, before["chosen"])
    flooded = _honest(cluster, seconds)
    words = flood.communicate(timeout=SPARE_S)[0].split()
    if flood.returncode or words[::2] != ["sent", "seconds"]:
        raise LabError(f"flood: {' '.join(words) or 'it said nothing'}")
    after = _counters(cluster)
    sample = Sample(
        float(words[1]) / float(words[3]),
        quiet["p99_us"],
        flooded["p99_us"],
        int(flooded["started"]),
        int(flooded["failed"]),
        after["chosen"] - before["chosen"],
        after["queued"] - before["queued"],
    )
    say(f"flood {turn + 1}: {sample}")
    return sample


def _honest(cluster: Cluster, seconds: int) -> dict[str, float]:
    argv = latency_argv(cluster.spec.dvipa(), WEB, NEW_PER_S, seconds)
    return parse_latency(cluster.run(HONEST, argv, timeout_s=seconds + SPARE_S).stdout)


def _counters(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = cluster.ask(OWNER, "counters")["plane"]
    return found


def _await_flood(cluster: Cluster, chosen: int) -> None:
    def has_begun() -> bool:
        return _counters(cluster)["chosen"] > chosen + NEW_PER_S

    cluster.wait_until(has_begun, READY_S, "the flood arrives")


def figures(samples: list[Sample], held: LongReport) -> list[Figure]:
    """Medians of the rounds; connections lost and requests failed in all of them."""
    quiet = [sample.quiet_us for sample in samples]
    flooded = [sample.flood_us for sample in samples]
    slower = statistics.median(flooded) / statistics.median(quiet)
    started = sum(sample.started for sample in samples)
    return [
        *summary("flood.rate", [sample.rate for sample in samples], "SYN/s"),
        *summary("flood.p99_quiet_us", quiet, "us"),
        *summary("flood.p99_us", flooded, "us"),
        Figure("flood.p99_vs_quiet", slower, "ratio"),
        Figure("flood.established", CONNECTIONS, "connections"),
        Figure("flood.established_lost", held.lost(), "connections"),
        Figure("flood.new", started, "connections"),
        Figure("flood.new_failed", sum(s.failed for s in samples) / started, "ratio"),
    ]
