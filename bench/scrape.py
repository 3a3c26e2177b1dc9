"""`scrape`: what Prometheus costs a distributor of 1,000 DVIPAs, of four ports and two targets."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.figures import Figure, summary
from bench.progress import say
from bench.scale_dvipas import MOST, Lab
from bench.scale_load import OWNER
from bench.scale_meter import Meter, cpu_s, idle_cores
from dvipad.lab.web import WebServer, web_server

SCRAPES: Final = 20
"""In a round, one after the other."""
FIRST: Final = 3
"""Before they count: the first ones make the lines that are kept, and count the CRT."""
REST_S: Final = 1.0
IDLE_S: Final = 4.0
LATE_S: Final = (0.005, 0.01, 0.05)
"""Turns of the loop that are later than this are told."""
PREFIX: Final = "bench-scrape"


@dataclass(frozen=True, slots=True)
class Sample:
    """A round, for one scrape. CPU times, user and system: of the daemon, without what it spends
    when nobody asks, and of `dvipad web`; `wall_ms`: until the client has all."""

    daemon_ms: float
    web_ms: float
    wall_ms: float
    bytes: int


def run(rounds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """`rounds` of `SCRAPES`."""
    with Lab(MOST, PREFIX) as lab, web_server(lab.cluster, OWNER) as web:
        for _ in range(FIRST):
            say(f"scrape: one of the first: {_scrape(web)[0] * 1000:.1f} ms")
            time.sleep(REST_S)
        before = _late(web)
        samples = [_round(web, lab.meter) for _ in range(rounds)]
        after = _late(web)
    found = [
        *summary("scrape.cpu_ms", [each.daemon_ms + each.web_ms for each in samples], "ms"),
        *summary("scrape.daemon_ms", [each.daemon_ms for each in samples], "ms"),
        *summary("scrape.web_ms", [each.web_ms for each in samples], "ms"),
        *summary("scrape.wall_ms", [each.wall_ms for each in samples], "ms"),
        Figure("scrape.bytes", samples[-1].bytes, "bytes"),
        Figure("scrape.loop_turns", _over(after, 0) - _over(before, 0), "turns"),
    ]
    for bound_s in LATE_S:
        late = _over(after, bound_s) - _over(before, bound_s)
        found.append(Figure(f"scrape.loop_late_{bound_s * 1000:g}_ms", late, "turns"))
    return found, [asdict(each) for each in samples]


def _round(web: WebServer, meter: Meter) -> Sample:
    idle = idle_cores([meter], IDLE_S)[0]
    pids, began_s = meter.pids(), time.monotonic()
    before = cpu_s(pids), cpu_s([web.pid])
    taken = [_scrape(web) for _ in range(SCRAPES)]
    after, elapsed_s = (cpu_s(pids), cpu_s([web.pid])), time.monotonic() - began_s
    daemon_s = after[0] - before[0] - idle * elapsed_s
    wall_s = statistics.median(each for each, _ in taken)
    each = [part * 1000 / SCRAPES for part in (daemon_s, after[1] - before[1])]
    sample = Sample(each[0], each[1], wall_s * 1000, taken[-1][1])
    say(f"scrape: {sample}")
    return sample


def _over(buckets: dict[float, float], bound_s: float) -> float:
    return sum(count for upper_s, count in buckets.items() if upper_s > bound_s)


def _late(web: WebServer) -> dict[float, float]:
    """How often the daemon's loop was late, by upper bound in seconds."""
    lines = web.get("/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith("dvipad_loop_late_seconds_bucket")]
    sums = {float(line.split('"')[1]): float(line.split()[1]) for line in found}
    return {
        upper_s: n - before
        for (upper_s, n), before in zip(sums.items(), [0, *sums.values()], strict=False)
    }


def _scrape(web: WebServer) -> tuple[float, int]:
    """How long it took, in seconds, and how many bytes came."""
    argv = ["curl", "-s", "-o", "/dev/null", "-m", "20", "-w", "%{time_total} %{size_download}"]
    words = web.cluster.run("client", [*argv, web.url("/metrics")]).stdout.split()
    return float(words[0]), int(words[1])
