"""Metrics of status objects, of what they decide, and of names in the DNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvipad.status.objects import DOWN, Result

if TYPE_CHECKING:
    from dvipad.daemon import Daemon
    from dvipad.node_stats import Samples

_DOWN = {result.value for result in DOWN}
_KNOWN = _DOWN | {Result.OK.value}


def status_samples(daemon: Daemon) -> Samples:
    """All of them, by name."""
    objects, names = daemon.status.objects(), daemon.status.names()
    figures = daemon.node.workloads.figures
    return {
        "dvipad_status_figure": [
            (node, *name.split(".", 1), value)
            for node, found in figures.all().items()
            for name, value in found.items()
        ],
        "dvipad_status_object_up": [
            (row["object"], int(row["result"] not in _DOWN))
            for row in objects
            if row["result"] in _KNOWN
        ],
        "dvipad_status_readings_total": [
            (row["object"], result, count)
            for row in objects
            for result, count in row["results"].items()
        ],
        "dvipad_status_process_restarts_total": [(daemon.status.restarts,)],
        "dvipad_status_figures_ignored_total": [(figures.ignored,)],
        "dvipad_status_preferred": [
            (row["dvipa"], str(row["port"]), row["server"], 1)
            for row in daemon.status.services()
            if row["server"]
        ],
        "dvipad_dns_updates_total": [
            (row["name"], result, count)
            for row in names
            for result, count in row["results"].items()
        ],
        "dvipad_dns_waiting": [(sum(row["wanted"] != row["has"] for row in names),)],
    }
