"""Metrics of the daemon itself, its mesh and its core: nothing here asks the kernel for long."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, TypeAlias

from dvipad.adapters.histogram import HistogramRow
from dvipad.adapters.troubles import Trouble
from dvipad.core.fitness import WELL
from dvipad.core.membership import Life
from dvipad.status.samples import status_samples

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

Value: TypeAlias = int | float | HistogramRow
Samples: TypeAlias = dict[str, Sequence[tuple[str | Value, ...]]]
"""By name of the metric: rows of values of its labels, and a number or a histogram at the end."""

_UDP: Final = "udp_"
_TROUBLE: Final = "trouble_"
_CARE: Final = dict.fromkeys(("probed", "in_use", "claimed_elsewhere", "seen_elsewhere"), 0)
"""Told from the start: what is told when it happens first has not grown."""
_MS: Final = 0.001
_US: Final = 0.000_001
_PERCENT: Final = 0.01


@cache
def build_version() -> str:
    """The version of dvipad that runs."""
    try:
        return version("dvipad")
    except PackageNotFoundError:
        return "unknown"


def node_samples(daemon: Daemon) -> Samples:
    """All of them, by name."""
    config, context = daemon.config, daemon.node.context
    counters = daemon.care.counters
    return {
        "dvipad_build_info": [(build_version(), platform.python_version(), 1)],
        "dvipad_node_info": [(config.name, config.cluster, str(config.xcf), 1)],
        "dvipad_joined": [(int(context.joined),)],
        "dvipad_trouble": [
            (trouble.value, int(trouble.value in context.troubles)) for trouble in Trouble
        ],
        "dvipad_troubles_total": [
            (trouble.value, counters[f"{_TROUBLE}{trouble.name.lower()}"]) for trouble in Trouble
        ],
        "dvipad_care_total": counted((_CARE | counters).items(), without=_TROUBLE),
        "dvipad_policy_targets": [
            (str(dvipa), port, row.name, row.targets)
            for dvipa, port, row in daemon.node.distributor.policies()
        ],
        **_measured(daemon),
        **_workload(daemon),
        **_quality(daemon),
        **_mesh(daemon),
        **status_samples(daemon),
    }


def counted(rows: Iterable[tuple[str, int]], *, without: str = "\0") -> list[tuple[str, int]]:
    """Rows with a reason and a number; not those that begin with `without`."""
    return sorted(row for row in rows if not row[0].startswith(without))


def _measured(daemon: Daemon) -> Samples:
    measures = daemon.measures
    return {
        "dvipad_decisions_total": [(*row, count) for row, count in measures.decisions.items()],
        "dvipad_move_seconds": [(name, taken.row()) for name, taken in measures.moves.items()],
        "dvipad_moves_abandoned_total": list(measures.abandoned.items()),
        "dvipad_refusals_total": [(measures.refusals,)],
        "dvipad_loop_late_seconds": [(measures.late.row(),)],
        "dvipad_runner_backlog": [(daemon.runner.backlog,)],
        "dvipad_runner_failures_total": [(daemon.runner.failures,)],
        "dvipad_config_generation": [(measures.generation,)],
        "dvipad_config_reload_ok": [(int(not measures.reload_failed),)],
        "dvipad_config_reloaded_timestamp_seconds": [(measures.reloaded_s,)],
        "dvipad_events_total": [(daemon.events.newest,)],
    }


def _workload(daemon: Daemon) -> Samples:
    known = daemon.node.workloads.known()
    agent = daemon.workload.agent
    return {
        "dvipad_node_weight": [
            (name, said.host) for name, said in known.items() if said.host is not None
        ],
        "dvipad_server_weight": [
            (name, str(server.address or "*"), str(server.port), server.weight)
            for name, said in known.items()
            for server in said.servers
        ],
        "dvipad_node_announced_weight": [
            (name, said.announced) for name, said in known.items() if said.announced is not None
        ],
        "dvipad_node_cpus": [
            (name, said.millicpus / 1000) for name, said in known.items() if said.host is not None
        ],
        "dvipad_workload": [] if agent.reading is None else list(agent.reading.figures()),
        "dvipad_workload_lapsed_total": [(daemon.node.workloads.lapsed,)],
        "dvipad_workload_looks_total": counted(agent.counters.items()),
    }


def _quality(daemon: Daemon) -> Samples:
    agent = daemon.workload.quality.agent
    services = [((str(each.dvipa), each.port), each) for each in agent.said.services]
    return {
        "dvipad_service_quality": [
            (*labels, what, part * _PERCENT)
            for labels, each in services
            for what, part in (
                ("loss", each.loss / 10),
                ("timeouts", each.timeouts / 10),
                ("queue", each.queue),
                ("use", each.use),
                ("cer", each.cer),
                ("sef", each.sef),
                ("left", each.left),
            )
            if part is not None
        ],
        "dvipad_service_round_trip_seconds": [
            (*labels, each.round_trip_us * _US)
            for labels, each in services
            if each.round_trip_us is not None
        ],
        "dvipad_target_fitness": [
            (str(dvipa), port, row.name, what, part * _PERCENT)
            for (dvipa, port), service in daemon.node.distributor.services().items()
            for row in service.rows
            if (fitness := daemon.node.distributor.fitness(row.name, dvipa, port)) != WELL
            for what, part in (
                ("tsr", fitness.tsr),
                ("tcsr", fitness.tcsr),
                ("cer", fitness.cer),
                ("sef", fitness.sef),
                ("left", fitness.left),
            )
        ],
        "dvipad_quality_looks_total": counted(agent.counters.items()),
    }


def _mesh(daemon: Daemon) -> Samples:
    counters: Mapping[str, int] = daemon.mesh.counters
    links = daemon.mesh.links()
    udp = [(name.removeprefix(_UDP), n) for name, n in counters.items() if name.startswith(_UDP)]
    return {
        "dvipad_peer_up": [
            (peer.member.name, int(peer.life is Life.UP)) for peer in daemon.node.context.membership
        ],
        "dvipad_peer_round_trip_seconds": [
            (link.peer, measured.round_trip_us * _US)
            for link, measured in links
            if measured.round_trip_us is not None
        ],
        "dvipad_peer_retransmits_total": [
            (link.peer, measured.retransmits) for link, measured in links
        ],
        "dvipad_peer_silence_seconds": [(link.peer, link.silence_ms * _MS) for link, _ in links],
        "dvipad_peer_udp_blocked": [(link.peer, int(link.deaf)) for link, _ in links],
        "dvipad_peer_mesh_version": [(link.peer, link.version) for link, _ in links],
        "dvipad_peers_refused": [(len(daemon.mesh.misfits()),)],
        "dvipad_dead_seconds": [(daemon.config.timers.dead_ms * _MS,)],
        "dvipad_mesh_datagrams_total": counted(udp),
        "dvipad_mesh_events_total": counted(counters.items(), without=_UDP),
    }
