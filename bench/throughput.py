"""`conn`, `keepalive`, `bulk`, `latency`: all rivals in each round, the same load on each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import loads
from bench.build import c_program
from bench.figures import Figure, compare, summary
from bench.progress import say
from bench.rivals import RIVALS, Labs, Rival

CALIBRATION_S: Final = 2

Values = Mapping[str, float]
"""What was measured → value, in the plan's unit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One load: who takes part, in which unit, and which ratios are told."""

    rivals: tuple[str, ...]
    unit: str
    pairs: tuple[tuple[str, str], ...]


_DVIPAD_PAIRS: Final = (
    ("dvipad", "direct"),
    ("dvipad", "route"),
    ("dvipad", "haproxy"),
    ("dvipad", "dnat"),
)
_ALL: Final = ("direct", "route", "dvipad", "haproxy", "dnat")
CONN: Final = Plan(
    ("direct", "route", "nfqueue", "offload", "haproxy", "dnat"),
    "conn/s",
    tuple(
        (own, other)
        for own in ("nfqueue", "offload")
        for other in ("direct", "route", "haproxy", "dnat")
    ),
)
KEEPALIVE: Final = Plan(_ALL, "req/s", _DVIPAD_PAIRS)
BULK: Final = Plan(_ALL, "Gbit/s", _DVIPAD_PAIRS)
LATENCY: Final = Plan(_ALL, "us", _DVIPAD_PAIRS)

BULK_KINDS: Final = {"1": (1, False), "8": (8, False), "1_down": (1, True), "8_down": (8, True)}
"""Part of the name → streams, and whether the server sends."""

Result = tuple[list[Figure], list[dict[str, Any]]]
Measure = Callable[[Rival, int], Values]


def interleave(
    name: str, labs: Labs, plan: Plan, rounds: int, measure: Measure
) -> list[dict[str, Any]]:
    """All rivals in each round, in an order that turns; one sample per rival and round."""
    rivals = [RIVALS[rival](labs) for rival in plan.rivals]
    samples = []
    for turn in range(rounds):
        for place in range(len(rivals)):
            rival = rivals[(turn + place) % len(rivals)]
            try:
                values = measure(rival, turn)
            finally:
                rival.stop()
            shown = " ".join(f"{key}={value:.5g}" for key, value in values.items())
            say(f"{name} {turn + 1}/{rounds}: {rival.name}: {shown} {plan.unit}")
            samples.append({"rival": rival.name, "round": turn + 1, "values": dict(values)})
    return samples


def figures(
    prefixes: Mapping[str, str], plan: Plan, samples: Sequence[Mapping[str, Any]]
) -> list[Figure]:
    """`prefixes`: key in the samples → what the names of its figures begin with."""
    found = []
    for key, prefix in prefixes.items():
        medians = {}
        for rival in plan.rivals:
            own = [s["values"][key] for s in samples if s["rival"] == rival]
            medians[rival] = statistics.median(own)
            found += summary(f"{prefix}{rival}", own, plan.unit)
        found += compare(prefix, medians, plan.pairs)
    return found


def conn(labs: Labs, rounds: int, seconds: int) -> Result:
    """Connections per second: connect, request, answer, close; 64 at a time."""
    return _requests("conn", labs, CONN, rounds, seconds)


def keepalive(labs: Labs, rounds: int, seconds: int) -> Result:
    """Requests per second on 64 connections that stay."""
    return _requests("keepalive", labs, KEEPALIVE, rounds, seconds)


def _requests(name: str, labs: Labs, plan: Plan, rounds: int, seconds: int) -> Result:
    def measure(rival: Rival, turn: int) -> Values:
        address = rival.start(turn)
        rate = loads.requests_per_s(
            rival.cluster, address, rival.port(), seconds, new_connections=plan is CONN
        )
        return {"rate": rate}

    samples = interleave(name, labs, plan, rounds, measure)
    return figures({"rate": f"{name}."}, plan, samples), samples


def bulk(labs: Labs, rounds: int, seconds: int) -> Result:
    """Bytes: 1 and 8 streams, from the client (`bulk1`) and to it (`bulk1_down`)."""

    def measure(rival: Rival, turn: int) -> Values:
        address = rival.bulk()
        return {
            kind: loads.bulk_gbit_per_s(rival.cluster, address, seconds, streams, down=down)
            for kind, (streams, down) in BULK_KINDS.items()
        }

    samples = interleave("bulk", labs, BULK, rounds, measure)
    prefixes = {kind: f"bulk{kind}." for kind in BULK_KINDS}
    return figures(prefixes, BULK, samples), samples


def latency(labs: Labs, rounds: int, seconds: int) -> Result:
    """Connect and request at half of the rate at which plain routing is exhausted."""
    route = RIVALS["route"](labs)
    try:
        full = loads.requests_per_s(
            route.cluster, route.start(0), route.port(), CALIBRATION_S, new_connections=True
        )
    finally:
        route.stop()
    c_program(loads.LATENCY)  # not while something is measured

    def measure(rival: Rival, turn: int) -> Values:
        address = rival.start(turn)
        found = loads.latency_us(rival.cluster, address, rival.port(), full / 2, seconds)
        return {"p50": found["p50_us"], "p99": found["p99_us"]}

    samples = interleave("latency", labs, LATENCY, rounds, measure)
    prefixes = {"p50": "latency.p50_", "p99": "latency.p99_"}
    rate = Figure("latency.rate", full / 2, "conn/s")
    return [rate, *figures(prefixes, LATENCY, samples)], samples
