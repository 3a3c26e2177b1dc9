"""From the node file to the settings of the parts."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Final

from dvipad import __version__
from dvipad.adapters.bind_events import BindSettings
from dvipad.adapters.bpf.layout import Tunnel
from dvipad.adapters.bpf.settings import SEEN_MARK, PlaneSettings, object_file
from dvipad.adapters.bpf.xdp import XdpMode
from dvipad.adapters.features import Features
from dvipad.adapters.guard import guard_rules
from dvipad.adapters.kernel import KernelSettings
from dvipad.adapters.queue import QueueSettings
from dvipad.adapters.socket_events import SocketSettings
from dvipad.adapters.xtables import XtablesRules
from dvipad.config.model import FARM, Label
from dvipad.config.node import NodeConfig
from dvipad.config.words import Direct, Quorum
from dvipad.core.context import NodeSettings, Timers
from dvipad.versions import OLDEST
from dvipad.wire.mesh import MeshSettings
from dvipad.wire.messages import Hello, Member
from dvipad.wire.redial import Endpoint
from dvipad.wire.session import SessionSettings

BEATS_PER_DEATH: Final = 10
"""Heartbeats by UDP in `dead_ms`: all of them but one or two must be lost to look like a death."""
BEAT_MIN_MS: Final = 5
BEATS_PER_HEARTBEAT: Final = 2
"""Datagrams are read as often as they are sent, so late by an interval: no death is known later
than by TCP alone."""
STUCK_FACTOR: Final = 10
STUCK_MIN_MS: Final = 3000
"""TCP repeats what was lost after 200 ms, and then more and more seldom; `dead_ms` has no part in
that."""


def core_settings(config: NodeConfig) -> NodeSettings:
    """Who this node is, and the core's timers."""
    timers = config.timers
    farm = () if config.farm is None else (Label(FARM, config.farm),)
    return NodeSettings(
        config.name,
        config.xcf,
        len(config.peers),
        Timers(
            dead_ms=timers.dead_ms,
            restart_grace_ms=timers.restart_grace_ms,
            join_ms=timers.join_ms,
            collect_ms=timers.collect_ms,
            moving_ms=timers.moving_ms,
        ),
        config.quorum is Quorum.MAJORITY,
        tuple(sorted((*config.labels, *farm))),
    )


def mesh_settings(config: NodeConfig) -> MeshSettings:
    """The mesh; the wall clock makes the incarnation grow with each start."""
    member = Member(config.name, config.xcf, config.mesh.port)
    timers = config.timers
    session = SessionSettings(
        heartbeat_ms=timers.heartbeat_ms,
        dead_ms=timers.dead_ms,
        beat_ms=min(
            timers.heartbeat_ms // BEATS_PER_HEARTBEAT,
            max(BEAT_MIN_MS, timers.dead_ms // BEATS_PER_DEATH),
        ),
        stuck_ms=max(STUCK_MIN_MS, STUCK_FACTOR * timers.dead_ms),
    )
    return MeshSettings(
        Hello(
            config.cluster,
            member,
            time.time_ns(),
            oldest=OLDEST,
            newest=config.mesh.newest_version,
        ),
        tuple(Endpoint(peer.address, peer.port) for peer in config.peers),
        session,
        timers.redial_min_ms,
        timers.redial_max_ms,
        secrets.token_bytes(32),
        __version__,
    )


def plane_settings(config: NodeConfig) -> PlaneSettings:
    """The data plane."""
    return PlaneSettings(
        xcf=config.xcf,
        uplinks=config.uplinks,
        tunnel=Tunnel[config.tunnel.name],
        vxlan_port=config.vxlan.port,
        pin_dir=config.paths.bpffs,
        liveness_port=config.mesh.port,
        mesh_port=config.mesh.port,
        xdp=XdpMode(config.xdp.value),
        direct=config.direct is Direct.AUTO,
        stale_ms=config.queue.stale_ms,
        budget_per_s=config.queue.budget_per_s,
        window=config.queue.window,
        established=config.tables.established,
        embryonic=config.tables.embryonic,
    )


def kernel_settings(config: NodeConfig, features: Features) -> KernelSettings:
    """Everything that works in the kernel, with what this host has."""
    sockets = SocketSettings(
        config.paths.bpffs / "sockets",
        object_file("sockets.bpf.o"),
        config.tables.established,
    )
    binds = BindSettings(config.paths.bpffs / "binds", object_file("binds.bpf.o"))
    polling = not features.tracepoint
    plane = plane_settings(config)
    if not guarded(config, features):
        plane = replace(plane, seen_mark=0)  # nobody would take the mark away
    return KernelSettings(plane, sockets, binds, config.paths.run, polling)


def distributes(config: NodeConfig) -> bool:
    """Whether the node may ever own a DVIPA. One without a profile is a target for all its life:
    it decides nothing, and what the program does not see never reaches its stack."""
    return config.profile is not None


def guarded(config: NodeConfig, features: Features) -> bool:
    """Whether the node has a guard."""
    return distributes(config) and features.guard is not None


def node_guard(features: Features, plane: PlaneSettings) -> XtablesRules | None:
    """The guard of a data plane, None when this host cannot have it."""
    if features.guard is None:
        return None
    return guard_rules(features.guard, SEEN_MARK, plane.guard())


def queue_settings(config: NodeConfig) -> QueueSettings:
    """The queue worker."""
    return QueueSettings(
        pin_dir=config.paths.bpffs,
        run_dir=config.paths.run,
        number=config.queue.number,
        stale_ms=config.queue.stale_ms,
        hung_ms=config.queue.hung_ms,
    )
