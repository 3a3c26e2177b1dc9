"""The section `workload` of the node file: how a node measures what it has to spare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dvipad.config.values import read_number
from dvipad.config.yamldoc import Mapping

WORKLOAD_LIMITS: Final = {
    "interval_ms": (1_000, 60_000),
    "cpu_percent": (1, 1_000_000),
    "weight": (0, 64),
}
_CGROUP: Final = re.compile(r"(/[^/\x00-\x1f]{1,255}){1,32}")


@dataclass(frozen=True, slots=True)
class WorkloadConfig:
    """Weights of the methods that follow the workload.

    `interval_ms`: between looks. `cgroup`: all that is in it is this node, None: the machine.
    `cpu_percent`: what the node has, in hundredths of a CPU; None: all that machine and cgroup
    allow. `weight`: what it announces for TARGCONTROLLED until an order says otherwise.
    """

    interval_ms: int = 2000
    cgroup: str | None = None
    cpu_percent: int | None = None
    weight: int | None = None


def read_workload(top: Mapping) -> WorkloadConfig:
    """The section `workload`; what is wrong with it is noted, and is as by default then."""
    known = ("interval_ms", "cgroup", "cpu_percent", "weight")
    values = Mapping(top.document, top.node("workload"), known, "workload")
    default_ms = WorkloadConfig().interval_ms
    remedy = "Give a path below the cgroups' root, as in /proc/PID/cgroup: /machine.slice/node1."
    return WorkloadConfig(
        values.number("interval_ms", default_ms, *WORKLOAD_LIMITS["interval_ms"], "ms"),
        values.text("cgroup", _read_cgroup, remedy),
        _optional(values, "cpu_percent"),
        _optional(values, "weight"),
    )


def _optional(values: Mapping, key: str) -> int | None:
    low, high = WORKLOAD_LIMITS[key]
    remedy = f"Give a whole number from {low} to {high}."
    return values.text(key, lambda text: read_number(text, low, high), remedy)


def _read_cgroup(text: str) -> str | None:
    fits = _CGROUP.fullmatch(text) and not {".", ".."} & set(text.split("/"))
    return text if fits else None
