"""The model printed back in the config language; that text parses to the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Final, TypeAlias

from dvipad.address import Address
from dvipad.config.distribute import DEFAULT_WEIGHT
from dvipad.config.health import HealthConfig
from dvipad.config.model import (
    OWNER_RANK,
    Backup,
    Define,
    DistMethod,
    Distribute,
    PortRange,
    Profile,
    Range,
    Route,
    TargetSpec,
)
from dvipad.config.node import (
    NodeConfig,
    Peer,
    QueueConfig,
    TablesConfig,
    TimersConfig,
)
from dvipad.config.quality import QualityConfig
from dvipad.config.values import mask_text

_INDENT: Final = "  "
_Section: TypeAlias = TimersConfig | QueueConfig | TablesConfig | HealthConfig | QualityConfig
_PORTS_PER_LINE: Final = 10


def show_profile(profile: Profile) -> str:
    """`profile` as a VIPADYNAMIC block, one statement for each entry, nothing abbreviated."""
    lines = ["VIPADYNAMIC"]
    for define in profile.defines:
        lines.append(_INDENT + _define(define))
    for backup in profile.backups:
        lines.append(_INDENT + _backup(backup))
    for range_ in profile.ranges:
        lines.append(_INDENT + _range(range_))
    for route in profile.routes:
        lines.append(_INDENT + _route(route))
    for distribute in profile.distributes:
        lines += (_INDENT + line for line in _distribute(distribute))
    lines.append("ENDVIPADYNAMIC")
    return "\n".join(lines) + "\n"


def _define(entry: Define) -> str:
    place = _place(entry.dvipa, entry.prefix_length, entry.interface)
    return f"VIPADEFINE MOVEABLE {entry.moveable.value}{_cluster(entry.cluster_ports)} {place}"


def _backup(entry: Backup) -> str:
    moveable = "" if entry.moveable is None else f" MOVEABLE {entry.moveable.value}"
    place = _place(entry.dvipa, entry.prefix_length, entry.interface)
    return f"VIPABACKUP {entry.rank}{moveable}{_cluster(entry.cluster_ports)} {place}"


def _range(entry: Range) -> str:
    place = _place(entry.network, entry.prefix_length, entry.interface)
    moveable = entry.moveable.value
    return f"VIPARANGE DEFINE MOVEABLE {moveable}{_cluster(entry.cluster_ports)} {place}"


def _route(entry: Route) -> str:
    return f"VIPAROUTE DEFINE {entry.xcf} {entry.target}"


def _cluster(cluster_ports: bool) -> str:
    return " CLUSTERPORTS" if cluster_ports else ""


def _place(address: Address, prefix_length: int | None, interface: str | None) -> str:
    if address.version == 4:
        return str(address) if prefix_length is None else f"{mask_text(prefix_length)} {address}"
    name = "" if interface is None else f"{interface} "
    length = "" if prefix_length is None else f"/{prefix_length}"
    return f"{name}{address}{length}"


def _distribute(entry: Distribute) -> Iterator[str]:
    yield " ".join(("VIPADISTRIBUTE DEFINE", *_options(entry), str(entry.dvipa)))
    ports = [_port(port) for port in entry.ports]
    for start in range(0, len(ports), _PORTS_PER_LINE):
        keyword = "PORT" if start == 0 else "    "
        yield f"{_INDENT}{keyword} {' '.join(ports[start : start + _PORTS_PER_LINE])}"
    if entry.targets is None:
        yield f"{_INDENT}DESTIP ALL"
        return
    keyword = "DESTIP"
    for target in entry.targets:
        yield f"{_INDENT}{keyword} {_target(target)}"
        keyword = " " * len(keyword)


def _options(entry: Distribute) -> Iterator[str]:
    yield f"DISTMETHOD {entry.method.value}"
    if entry.method is DistMethod.HOTSTANDBY:
        yield "AUTOSWITCHBACK" if entry.auto_switch_back else "NOAUTOSWITCHBACK"
        yield "HEALTHSWITCH" if entry.health_switch else "NOHEALTHSWITCH"
    if entry.optlocal is not None:
        yield f"OPTLOCAL {entry.optlocal}"
    if entry.cluster_ports:
        yield "CLUSTERPORTS"
    if entry.timed_affinity_s:
        yield f"TIMEDAFFINITY {entry.timed_affinity_s}"
    if entry.auto_affinity:
        yield "AUTOAFFINITY"
    if entry.paused:
        yield "PAUSE"
    if entry.offload:
        yield "OFFLOAD"


def _port(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _target(target: TargetSpec) -> str:
    text = str(target.xcf)
    if target.weight != DEFAULT_WEIGHT:
        text += f" WEIGHT {target.weight}"
    if target.standby_rank == OWNER_RANK:
        text += " PREFERRED"
    elif target.standby_rank is not None:
        text += f" BACKUP {target.standby_rank}"
    return text


def show_node(node: NodeConfig) -> str:
    """`node` as a node file with every value that it starts with, defaults included."""
    lines = [
        f"node: {_quoted(node.name)}",
        f"cluster: {_quoted(node.cluster)}",
        f"xcf: {_quoted(str(node.xcf))}",
        f"uplinks: [{', '.join(_quoted(name) for name in node.uplinks)}]",
        f"peers: [{', '.join(_quoted(_peer(peer)) for peer in node.peers)}]",
        f"mesh: {{port: {node.mesh.port}, newest_version: {node.mesh.newest_version}}}",
        f"tunnel: {node.tunnel.value}",
        f"vxlan: {{port: {node.vxlan.port}}}",
        f"direct: {node.direct.value}",
        f"xdp: {node.xdp.value}",
        f"quorum: {node.quorum.value}",
    ]
    if node.profile is not None:
        lines.append(f"profile: {_quoted(str(node.profile.absolute()))}")
    if node.policies is not None:
        lines.append(f"policies: {_quoted(str(node.policies.absolute()))}")
    if node.status is not None:
        lines.append(f"status: {_quoted(str(node.status.absolute()))}")
    if node.farm is not None:
        lines.append(f"farm: {_quoted(node.farm)}")
    labels = ", ".join(f"{_quoted(label.key)}: {_quoted(label.value)}" for label in node.labels)
    lines.append(f"labels: {{{labels}}}")
    run, bpffs = _quoted(str(node.paths.run)), _quoted(str(node.paths.bpffs))
    state = _quoted(str(node.paths.state))
    lines.append(f"paths: {{run: {run}, bpffs: {bpffs}, state: {state}}}")
    lines += _section("timers", node.timers)
    lines += _section("queue", node.queue)
    lines += _section("tables", node.tables)
    lines += _section("health", node.health)
    lines += _section("quality", node.quality)
    listen = ", ".join(_quoted(str(address)) for address in node.web.listen)
    lines.append(f"web: {{port: {node.web.port}, listen: [{listen}]}}")
    workload = {field.name: getattr(node.workload, field.name) for field in fields(node.workload)}
    given = (
        f"{name}: {_quoted(value) if isinstance(value, str) else value}"
        for name, value in workload.items()
        if value is not None
    )
    lines.append(f"workload: {{{', '.join(given)}}}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML double-quoted scalar; JSON is none beyond U+FFFF, where it writes surrogates."""
    escaped = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


def _peer(peer: Peer) -> str:
    host = f"[{peer.address}]" if peer.address.version == 6 else str(peer.address)
    return f"{host}:{peer.port}"


def _section(name: str, values: _Section) -> Iterator[str]:
    yield f"{name}:"
    for field in fields(values):
        yield f"  {field.name}: {json.dumps(getattr(values, field.name))}"
