"""`make bench`: through the DVIPA against straight to the targets, in one run.

Absolute figures vary from run to run, and client, distributor and targets share the machine's
cores: the ratio of the two is what counts. Rounds of both kinds alternate; the medians are shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from dvipad.address import Address
from dvipad.lab import wrk
from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import Kind, LabError, LabSpec
from dvipad.lab.traffic import Nginx

PREFIX: Final = "bench"
PORT: Final = 80
CONNECTIONS: Final = 16
READY_S: Final = 20.0
SPARE_S: Final = 20.0

LOADS: Final = {"new connections/s": True, "requests/s, kept alive": False}
"""What is measured → whether every request has a connection of its own."""


def measure(cluster: Cluster, address: Address, new_connections: bool, seconds: int) -> float:
    """Requests per second from the client to `address`; raises :class:`LabError` on any error."""
    folder = cluster.paths.host("client")
    argv = wrk.command(
        wrk.url_of(address, PORT),
        folder,
        connections=CONNECTIONS,
        seconds=seconds,
        new_connections=new_connections,
    )
    done = cluster.run("client", argv, timeout_s=seconds + SPARE_S)
    result = wrk.parse(done.stdout.splitlines())
    strangers = set(result.servers) - {host.name for host in cluster.spec.hosts()}
    if result.errors or strangers:
        raise LabError(f"wrk to {address}: errors {result.errors}, answers {result.servers}")
    return result.rate_per_s


def compare(
    cluster: Cluster, rounds: int, seconds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Load → (rates straight to a target, rates through the DVIPA), one of each per round."""
    targets = [host for host in cluster.spec.hosts() if host.kind is Kind.TARGET]
    rates: dict[str, tuple[list[float], list[float]]] = {load: ([], []) for load in LOADS}
    for number in range(rounds):
        straight = targets[number % len(targets)].address(cluster.spec.family)
        for load, new_connections in LOADS.items():
            for place, address in enumerate((straight, cluster.spec.dvipa())):
                rate = measure(cluster, address, new_connections, seconds)
                rates[load][place].append(rate)
    return rates


def run(spec: LabSpec, rounds: int, seconds: int) -> dict[str, dict[str, float]]:
    """Bring a lab up and measure; load → `straight`, `dvipa` (medians per second) and `ratio`."""
    destroy(spec.prefix)
    with Cluster(spec) as cluster, ExitStack() as running:
        targets = {host.name for host in spec.hosts() if host.kind is Kind.TARGET}
        for name in sorted(targets):
            running.callback(Nginx(cluster, name, [PORT]).stop)
        seen: set[str] = set()

        def all_seen() -> bool:
            argv = ["curl", "-gs", "--max-time", "1", wrk.url_of(spec.dvipa(), PORT)]
            seen.add(cluster.run("client", argv, check=False).stdout.strip())
            return seen >= targets

        cluster.wait_until(all_seen, READY_S, f"all targets answer at {spec.dvipa()}")
        rates = compare(cluster, rounds, seconds)
    figures = {}
    for load, (straight, through) in rates.items():
        both = statistics.median(straight), statistics.median(through)
        figures[load] = {"straight": both[0], "dvipa": both[1], "ratio": both[1] / both[0]}
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table, or JSON; exit status 1 when something did not work."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of one measurement")
    parser.add_argument("--tunnel", choices=("ipip", "gre"), default="ipip")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("rounds and seconds are 1 or more")
    spec = LabSpec(prefix=PREFIX, tunnel=arguments.tunnel, family=arguments.family)
    try:
        figures = run(spec, arguments.rounds, arguments.seconds)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(figures))
        return 0
    print(f"{'':<24}{'straight':>12}{'by DVIPA':>12}{'ratio':>8}")
    for load, row in figures.items():
        print(f"{load:<24}{row['straight']:>12.0f}{row['dvipa']:>12.0f}{row['ratio']:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
