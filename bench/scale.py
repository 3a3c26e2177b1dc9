"""`scale`: what more of everything costs: DVIPAs, nodes, connections.

A bar is that what a connection costs does not depend on how many DVIPAs, nodes, or other
connections there are.
"""

from __future__ import annotations

from typing import Any

from bench import scale_connections, scale_dvipas, scale_nodes
from bench.figures import Figure


def run(rounds: int, seconds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """All three; returns the figures, and every sample with the `part` that it is of."""
    figures: list[Figure] = []
    samples: list[dict[str, Any]] = []
    for found, rows in (
        scale_dvipas.run(rounds, seconds),
        scale_connections.run(rounds, seconds),
        scale_nodes.run(rounds),
    ):
        figures += found
        samples += rows
    return figures, samples
