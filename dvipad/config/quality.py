"""The section `quality` of the node file: how services are watched, and what loss cuts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from dvipad.config.yamldoc import Mapping

QUALITY_LIMITS: Final = {
    "interval_ms": (1_000, 600_000),
    "loss_per_mille": (1, 1_000),
    "loss_cut_percent": (0, 100),
    "loss_most_percent": (0, 100),
    "timeout_per_mille": (1, 1_000),
    "timeout_cut_percent": (0, 100),
    "timeout_most_percent": (0, 100),
    "connections": (0, 100_000_000),
}


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Quality of service and responsiveness of this node's services.

    `interval_ms`: over which they are measured. Each whole multiple of `…_per_mille` of the
    segments that were lost, or timed out, cuts a weight by `…_cut_percent`, up to
    `…_most_percent`. `connections`: what each service is built for, 0: nobody says.
    """

    interval_ms: int = 60_000
    loss_per_mille: int = 20
    loss_cut_percent: int = 25
    loss_most_percent: int = 95
    timeout_per_mille: int = 50
    timeout_cut_percent: int = 50
    timeout_most_percent: int = 100
    connections: int = 0


def read_quality(top: Mapping) -> QualityConfig:
    """The section `quality`; what is wrong with it is noted, and is as by default then."""
    values = Mapping(top.document, top.node("quality"), QUALITY_LIMITS, "quality")
    return QualityConfig(**values.numbers(QUALITY_LIMITS, asdict(QualityConfig())))
