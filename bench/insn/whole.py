"""`insnconn`: what a whole short connection costs the box in the middle, from SYN to last ACK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.build import FOLDER, c_program, ebpf_object
from bench.figures import Figure, compare
from bench.insn.host import measured
from bench.insn.kinds import WHOLE

PAIRS: Final = (("offload", "ipvs"), ("nfqueue", "haproxy"), ("offload", "haproxy"))

Samples = Mapping[str, Sequence[float]]


def run(rounds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Instructions of the box for a connection, for each path, and their ratios."""
    c_program(Path("insn/sender.c"))
    c_program(Path("insn/short.c"))
    ebpf_object(Path("insn/ends.bpf.c"))
    for turn in range(rounds):
        (FOLDER / WHOLE.file(turn)).write_bytes(WHOLE.frames(turn))
    samples = measured("bench.insn.whole_guest", "insnconn", rounds)
    rows = [
        {"path": path, "instructions": value}
        for path, values in samples.items()
        for value in values
    ]
    return figures(samples), rows


def figures(samples: Samples) -> list[Figure]:
    """The least of all rounds of each: a timer's tick only adds.

    What a real connection costs more with the queue worker than without is the worker's. What a
    target's word that a connection is over costs the distributor is part of a connection.
    """
    least = {name: min(values) for name, values in samples.items()}
    replayed = {
        path: least[f"replay.{path}"] - least["replay.drop"] for path in ("ipvs", "offload")
    }
    offload = replayed["offload"] + least["ended"]
    costs = {
        "ipvs": replayed["ipvs"],
        "offload": offload,
        "nfqueue": offload + least["real.nfqueue"] - least["real.offload"],
        "haproxy": least["real.haproxy"] - least["real.direct"],
    }
    spread = max(sorted(values)[len(values) // 2] / min(values) - 1 for values in samples.values())
    return [
        *(Figure(f"insnconn.{path}", value, "instructions") for path, value in costs.items()),
        Figure("insnconn.ended", least["ended"], "instructions"),
        *compare("insnconn.", costs, PAIRS),
        Figure("insnconn.spread", spread, "ratio"),
    ]
