"""The node file (YAML): who this node is, its uplinks, its peers, its timers and limits."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from dvipad.address import Address
from dvipad.config.errors import Problem, in_order
from dvipad.config.health import HealthConfig, read_health
from dvipad.config.labels import read_farm, read_labels
from dvipad.config.model import NOWHERE, Label, Position
from dvipad.config.paths import PathsConfig, read_paths
from dvipad.config.quality import QualityConfig, read_quality
from dvipad.config.source import read_source
from dvipad.config.values import read_address, read_number, why_not_unicast
from dvipad.config.web import WebConfig, read_web
from dvipad.config.words import Direct, Quorum, Tunnel, Xdp, one_of
from dvipad.config.workload import WorkloadConfig, read_workload
from dvipad.config.yamldoc import Document, Mapping
from dvipad.versions import NEWEST, OLDEST

DEFAULT_PORT: Final = 4780
MAX_PEERS: Final = 64
MAX_UPLINKS: Final = 16

_KEYS: Final = (
    "node",
    "cluster",
    "xcf",
    "uplinks",
    "peers",
    "mesh",
    "tunnel",
    "vxlan",
    "direct",
    "xdp",
    "profile",
    "policies",
    "status",
    "farm",
    "labels",
    "paths",
    "timers",
    "queue",
    "tables",
    "quorum",
    "health",
    "web",
    "workload",
    "quality",
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_INTERFACE: Final = re.compile(r"[^\s/:\x00-\x1f]{1,15}")


_QUORUMS = "Quorums are none (a cluster of two owners) and majority."


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the mesh of another node listens."""

    address: Address
    port: int = DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """The control mesh. `newest_version` of its protocol that this node speaks."""

    port: int = DEFAULT_PORT
    newest_version: int = NEWEST


@dataclass(frozen=True, slots=True)
class VxlanConfig:
    """`port`: UDP, where VXLAN goes; the same on all nodes."""

    port: int = 4789


@dataclass(frozen=True, slots=True)
class TimersConfig:
    """Times of failure detection and of moves.

    A peer is dead after `dead_ms` of silence; one whose daemon died on a living host, after
    `restart_grace_ms`. `join_ms`: how long a starting node listens to the others before it
    takes anything. `collect_ms`: how long a new owner waits for NEWCONN. `moving_ms`: how long
    an old owner relays. `redial_min_ms`, `redial_max_ms`: pauses between dials of a peer.
    `probe_ms`: how long the network is asked whether another host has an address; 0: not at all.
    """

    heartbeat_ms: int = 100
    dead_ms: int = 300
    restart_grace_ms: int = 4000
    join_ms: int = 500
    collect_ms: int = 1000
    moving_ms: int = 3000
    redial_min_ms: int = 50
    redial_max_ms: int = 2000
    probe_ms: int = 200

    @property
    def lease_ms(self) -> int:
        """How long the kernel decides for a daemon that is not heard of: less than `dead_ms`."""
        return self.dead_ms - self.heartbeat_ms


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """SYN decisions in user space.

    `number` of the NFQUEUE; when more than `budget_per_s` SYNs a second arrive on a CPU, the kernel
    decides all of them until they are fewer; at most `window` are undecided; a worker is passed
    over after `stale_ms` without a beat and killed after `hung_ms`.
    """

    number: int = 4780
    budget_per_s: int = 2000
    window: int = 10
    stale_ms: int = 300
    hung_ms: int = 150


@dataclass(frozen=True, slots=True)
class TablesConfig:
    """Entries of the CRT: `established` never evicts, `embryonic` drops the oldest."""

    established: int = 262_144
    embryonic: int = 65_536


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node file.

    `name` is unique in the `cluster`; `xcf` is the node's tunnel endpoint and what DESTIP lists.
    The first of `uplinks` carries owned IPv6 DVIPAs. `profile` None: a pure target. `labels`: what
    policies select targets by. `farm`: to which the node belongs; it counts as a label, too.
    """

    name: str
    xcf: Address
    uplinks: tuple[str, ...]
    cluster: str = "dvipad"
    peers: tuple[Peer, ...] = ()
    mesh: MeshConfig = MeshConfig()
    tunnel: Tunnel = Tunnel.IPIP
    vxlan: VxlanConfig = VxlanConfig()
    direct: Direct = Direct.AUTO
    profile: Path | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    timers: TimersConfig = TimersConfig()
    queue: QueueConfig = QueueConfig()
    tables: TablesConfig = TablesConfig()
    quorum: Quorum = Quorum.NONE
    health: HealthConfig = field(default_factory=HealthConfig)
    xdp: Xdp = Xdp.OFF
    web: WebConfig = field(default_factory=WebConfig)
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    policies: Path | None = None
    labels: tuple[Label, ...] = ()
    status: Path | None = None
    farm: str | None = None
    position: Position = field(default=NOWHERE, compare=False)
    profile_position: Position = field(default=NOWHERE, compare=False)
    policies_position: Position = field(default=NOWHERE, compare=False)
    status_position: Position = field(default=NOWHERE, compare=False)
    """Where `xcf`, `profile`, `policies` and `status` stand, for problems between files."""


@dataclass(frozen=True, slots=True)
class ParsedNode:
    """What a node file says (None when it is not complete), and everything wrong with it."""

    node: NodeConfig | None
    problems: tuple[Problem, ...]


MESH_LIMITS: Final = {"port": (1, 65_535), "newest_version": (OLDEST, NEWEST)}
TIMER_LIMITS: Final = {
    "heartbeat_ms": (10, 60_000),
    "dead_ms": (20, 600_000),
    "restart_grace_ms": (0, 600_000),
    "join_ms": (0, 600_000),
    "collect_ms": (1, 600_000),
    "moving_ms": (1, 86_400_000),
    "redial_min_ms": (1, 600_000),
    "redial_max_ms": (1, 600_000),
    "probe_ms": (0, 10_000),
}
QUEUE_LIMITS: Final = {
    "number": (0, 65_535),
    "budget_per_s": (0, 1_000_000),
    "window": (1, 4_096),
    "stale_ms": (10, 60_000),
    "hung_ms": (10, 60_000),
}
TABLE_LIMITS: Final = {
    "established": (16, 16_777_216),
    "embryonic": (16, 16_777_216),
}


def check_node(path: Path) -> ParsedNode:
    """:func:`parse_node` for a file; one that cannot be read is a problem too."""
    source = read_source(path)
    if source.text is None:
        return ParsedNode(None, source.problems)
    parsed = parse_node(source.text, source.file, path.parent)
    problems = in_order((*source.problems, *parsed.problems))
    return ParsedNode(None if problems else parsed.node, problems)


def parse_node(text: str, file: str, folder: Path) -> ParsedNode:
    """The node file in `text`; a relative profile path starts at `folder`. Never raises."""
    document = Document(file)
    root = document.compose(text)
    if root is None:
        if not document.problems:
            remedy = "Write at least 'node:', 'xcf:' and 'uplinks:'."
            document.error_at(Position(file, 1, 1), "", "an empty node file", remedy)
        return ParsedNode(None, in_order(document.problems))
    node = _read(Mapping(document, root, _KEYS, "the node file"), folder)
    problems = in_order(document.problems)
    return ParsedNode(None if problems else node, problems)


def _read(top: Mapping, folder: Path) -> NodeConfig | None:
    names = "Give letters, digits, '.', '-' and '_', at most 64, starting with a letter or digit."
    name = top.text("node", _read_name, names)
    own = "Give the node's own IPv4 or IPv6 address, as 192.0.2.1."
    xcf: Address | None = top.text("xcf", read_host, own)
    uplinks = _read_uplinks(top)
    for key, example in (("node", "lb1"), ("xcf", "192.0.2.1"), ("uplinks", "[eth0]")):
        if top.node(key) is None:
            start = Position(top.document.file, 1, 1)
            top.document.error_at(start, "", f"{key} is missing", f"Write '{key}: {example}'.")
    mesh = MeshConfig(**_numbers(top, "mesh", MESH_LIMITS, MeshConfig()))
    quorum: Quorum | None = top.text("quorum", one_of(Quorum), _QUORUMS)
    words = ", ".join(word.value for word in Tunnel)
    tunnels = f"Tunnels are {words}; all nodes of a cluster use the same."
    tunnel = top.text("tunnel", one_of(Tunnel), tunnels) or Tunnel.IPIP
    vxlan = VxlanConfig(**_numbers(top, "vxlan", {"port": (1, 65_535)}, VxlanConfig()))
    direct = top.text("direct", one_of(Direct), "Say auto or off.") or Direct.AUTO
    xdp = top.text("xdp", one_of(Xdp), "Say off, generic or native.") or Xdp.OFF
    profile = top.text("profile", Path, "Give the path of the profile.")
    policies = top.text("policies", Path, "Give the path of the policies file.")
    status = top.text("status", Path, "Give the path of the status file.")
    cluster = top.text("cluster", _read_name, names) or "dvipad"
    timers = TimersConfig(**_numbers(top, "timers", TIMER_LIMITS, TimersConfig()))
    queue = QueueConfig(**_numbers(top, "queue", QUEUE_LIMITS, QueueConfig()))
    tables = TablesConfig(**_numbers(top, "tables", TABLE_LIMITS, TablesConfig()))
    _check_timers(top, timers)
    _check_queue(top, queue)
    paths, peers = read_paths(top), _read_peers(top, mesh.port, xcf)
    labels = read_labels(top.document, top.node("labels"))
    if name is None or xcf is None:
        return None
    return NodeConfig(
        name,
        xcf,
        uplinks,
        cluster,
        peers,
        mesh,
        tunnel,
        vxlan,
        direct,
        None if profile is None else folder / profile,
        paths,
        timers,
        queue,
        tables,
        quorum or Quorum.NONE,
        read_health(top),
        xdp,
        read_web(top),
        read_workload(top),
        read_quality(top),
        None if policies is None else folder / policies,
        labels,
        None if status is None else folder / status,
        read_farm(top, labels),
        *(_position(top, key) for key in ("xcf", "profile", "policies", "status")),
    )


def _position(top: Mapping, key: str) -> Position:
    node = top.node(key)
    return Position(top.document.file, 1, 1) if node is None else top.document.position(node)


def _read_name(text: str) -> str | None:
    return text if _NAME.fullmatch(text) else None


def _read_interface(text: str) -> str | None:
    if not text.isprintable() or text in (".", "..", "lo"):
        return None
    return text if _INTERFACE.fullmatch(text) else None


def read_host(text: str) -> Address | None:
    """The unicast address `text` of a host; None for anything else."""
    address = read_address(text)
    return None if address is None or why_not_unicast(address) else address


def read_peer(text: str, default_port: int) -> Peer | None:
    """``address``, ``ipv4:port`` or ``[ipv6]:port``; None for anything else."""
    address = read_host(text)
    if address is not None:
        return Peer(address, default_port)
    base, colon, tail = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        base, colon, tail = text, ":", str(default_port)
    bracketed = base.startswith("[") and base.endswith("]")
    address = read_host(base[1:-1] if bracketed else base)
    port = read_number(tail, 1, 65_535)
    if not colon or address is None or port is None or bracketed is not (address.version == 6):
        return None
    return Peer(address, port)


def _read_uplinks(top: Mapping) -> tuple[str, ...]:
    remedy = "Give names of interfaces, as 'ip link' shows them: [eth0]. 'lo' is none."
    uplinks = top.items("uplinks", _read_interface, remedy, MAX_UPLINKS)
    seen: set[str] = set()
    for node, name in uplinks:
        if name in seen:
            top.document.error(node, "an uplink that is listed before", "Name each once.")
        seen.add(name)
    given = top.node("uplinks")
    if given is not None and not uplinks and given.value in ([], ""):
        top.document.error(given, "no uplink", remedy)
    return tuple(name for _, name in uplinks)


def _read_peers(top: Mapping, port: int, xcf: Address | None) -> tuple[Peer, ...]:
    remedy = (
        "Give an address, with a port if it is not the mesh's: 192.0.2.2, '[2001:db8::2]:4780'."
    )
    peers = top.items("peers", lambda text: read_peer(text, port), remedy, MAX_PEERS)
    seen: set[Peer] = set()
    for node, peer in peers:
        if peer in seen:
            top.document.error(node, "a peer that is listed before", "Name each once.")
        if xcf is not None and peer == Peer(xcf, port):
            top.document.error(node, "this node itself as a peer", "List the other nodes only.")
        seen.add(peer)
    return tuple(peer for _, peer in peers)


def _numbers(
    top: Mapping,
    section: str,
    limits: dict[str, tuple[int, int]],
    default: MeshConfig | VxlanConfig | TimersConfig | QueueConfig | TablesConfig,
) -> dict[str, int]:
    """The numbers of a `section`, all of which have a default."""
    return Mapping(top.document, top.node(section), limits, section).numbers(
        limits, asdict(default)
    )


def _check_timers(top: Mapping, timers: TimersConfig) -> None:
    if timers.dead_ms < 2 * timers.heartbeat_ms:
        message = f"dead_ms {timers.dead_ms} is less than two heartbeats of {timers.heartbeat_ms}"
        remedy = "Raise dead_ms or lower heartbeat_ms: one late heartbeat is no death."
        top.document.error_at(_position(top, "timers"), "", message, remedy)
    if timers.redial_max_ms < timers.redial_min_ms:
        message = f"redial_max_ms is less than redial_min_ms {timers.redial_min_ms}"
        top.document.error_at(_position(top, "timers"), "", message, "Swap or correct them.")


def _check_queue(top: Mapping, queue: QueueConfig) -> None:
    if queue.stale_ms < queue.hung_ms:
        message = f"stale_ms {queue.stale_ms} is less than hung_ms {queue.hung_ms}"
        remedy = "Raise stale_ms: a hung worker is to be replaced before it is passed over."
        top.document.error_at(_position(top, "queue"), "", message, remedy)
