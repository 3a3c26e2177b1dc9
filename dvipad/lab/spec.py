"""What a lab consists of: its hosts, their addresses, and the files that their daemons read.

One LAN, shared by everything (ARP and NDP work on it): 192.0.2.0/24 and 2001:db8:2::/64 (ranges
for documentation, RFC 5737 and RFC 3849). The last part of an address is the host's number:
distributors 1-9, targets 11-90, DVIPAs 100-199, clients 201-220. A node's XCF address is its
address on the LAN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import yaml

from dvipad.address import Address
from dvipad.config.health import HealthConfig
from dvipad.config.node import QueueConfig, TimersConfig
from dvipad.config.words import Tunnel

DEFAULT_PREFIX: Final = "dvipa"
MAX_LBS: Final = 9
MAX_TARGETS: Final = 80
MAX_CLIENTS: Final = 20
DVIPA_NUMBERS: Final = range(100, 200)
UPLINK: Final = "eth0"
TUNNELS: Final = tuple(tunnel.value for tunnel in Tunnel)
LAN: Final = "lan"
"""Name of the namespace that holds the bridge; no host is called so."""

FIRST_RANK: Final = 100
RANK_STEP: Final = 10

SLOW_VARIABLE: Final = "DVIPAD_LAB_SLOW"
"""Environment variable: how many times slower than others this machine is, 1 by default.

A lab there has longer timers, waits longer, and makes less traffic; see :class:`LabSpec`.
"""
MAX_SLOW: Final = 100.0
_TIMERS: Final = (
    "heartbeat_ms",
    "dead_ms",
    "restart_grace_ms",
    "join_ms",
    "collect_ms",
    "probe_ms",
)
_QUEUE_TIMERS: Final = ("stale_ms", "hung_ms")
_HEALTH_TIMERS: Final = ("persist_ms", "uplink_ms", "clear_ms")

_PREFIX = re.compile(r"[a-z][a-z0-9-]{0,20}")


class LabError(Exception):
    """A lab command cannot be carried out; the text says why and, if known, what helps."""


class Kind(Enum):
    """What a host of the lab is there for."""

    CLIENT = "client"
    LB = "lb"
    TARGET = "t"


def slowness() -> float:
    """The value of `DVIPAD_LAB_SLOW`; raises :class:`LabError` when it is not a number."""
    text = os.environ.get(SLOW_VARIABLE, "1")
    try:
        return float(text)
    except ValueError:
        raise LabError(f"{SLOW_VARIABLE}={text}: give a number from 1 to {MAX_SLOW:g}") from None


@dataclass(frozen=True, slots=True)
class Host:
    """One host: a network namespace called `<prefix>-<name>` with one uplink on the LAN."""

    name: str
    kind: Kind
    number: int

    def address(self, family: int) -> Address:
        """The host's address on the LAN; `family` is 4 or 6."""
        return lan_address(self.number, family)

    @property
    def mac(self) -> str:
        """The uplink's MAC address, the same after a power cut."""
        return f"02:00:00:00:02:{self.number:02x}"

    @property
    def has_daemon(self) -> bool:
        """Every host runs a daemon except the clients."""
        return self.kind is not Kind.CLIENT


def lan_address(number: int, family: int) -> Address:
    """Address `number` (0-255) of the LAN in `family` (4 or 6)."""
    if family == 4:
        return IPv4Address(f"192.0.2.{number}")
    return IPv6Address(f"2001:db8:2::{number}")


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A lab as asked for.

    `family`: of the DVIPA; `xcf_family`: of the tunnels' outer addresses, None = the same.
    `method`: DISTMETHOD, with its options; `weights`: WEIGHT, one per target.
    `profiles`: host name → text of its profile, instead of the built-in one ("" = no profile).
    `settings`: merged into every node file; `host_settings`: into one host's. `seed`: nodes get
    only the first distributor as peer and learn the others from it.
    `slow`: what the times in node files, all waiting, and the traffic's pauses are multiplied by,
    on a machine that is so much slower (an emulated one).
    Raises :class:`LabError` for values outside the limits.
    """

    prefix: str = DEFAULT_PREFIX
    lbs: int = 2
    targets: int = 3
    clients: int = 1
    tunnel: str = "ipip"
    family: int = 4
    xcf_family: int | None = None
    ports: tuple[int, ...] = (80, 7)
    method: str = "ROUNDROBIN"
    weights: tuple[int, ...] = ()
    seed: bool = False
    profiles: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    host_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    slow: float = field(default_factory=slowness)

    def __post_init__(self) -> None:
        checks = (
            (_PREFIX.fullmatch(self.prefix), f"prefix {self.prefix!r}: a-z, 0-9 and - only"),
            (1 <= self.lbs <= MAX_LBS, f"distributors: 1 to {MAX_LBS}"),
            (0 <= self.targets <= MAX_TARGETS, f"targets: 0 to {MAX_TARGETS}"),
            (1 <= self.clients <= MAX_CLIENTS, f"clients: 1 to {MAX_CLIENTS}"),
            (self.tunnel in TUNNELS, f"tunnel {self.tunnel!r}: one of {', '.join(TUNNELS)}"),
            (self.family in (4, 6), "family: 4 or 6"),
            (self.xcf_family in (None, 4, 6), "XCF family: 4 or 6"),
            (len(self.weights) in (0, self.targets), "weights: one for each target"),
            (1 <= self.slow <= MAX_SLOW, f"slowness: 1 to {MAX_SLOW:g}"),
        )
        for holds, complaint in checks:
            if not holds:
                raise LabError(complaint)
        strangers = {*self.profiles, *self.host_settings} - {host.name for host in self.hosts()}
        if strangers:
            raise LabError(f"no such host: {', '.join(sorted(strangers))}")

    def hosts(self) -> tuple[Host, ...]:
        """All hosts: clients, distributors, targets."""
        clients = (
            Host("client" if i == 1 else f"client{i}", Kind.CLIENT, 200 + i)
            for i in range(1, self.clients + 1)
        )
        lbs = (Host(f"lb{i}", Kind.LB, i) for i in range(1, self.lbs + 1))
        targets = (Host(f"t{i}", Kind.TARGET, 10 + i) for i in range(1, self.targets + 1))
        return (*clients, *lbs, *targets)

    def host(self, name: str) -> Host:
        """The host called `name`; raises :class:`LabError` when there is none."""
        for host in self.hosts():
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts())
        raise LabError(f"no host {name!r} in this lab; there are {names}")

    def nodes(self) -> tuple[Host, ...]:
        """The hosts that run a daemon."""
        return tuple(host for host in self.hosts() if host.has_daemon)

    def dvipa(self, index: int = 0) -> Address:
        """The DVIPA; further ones by `index`, for profiles of one's own."""
        return lan_address(DVIPA_NUMBERS[index], self.family)

    def xcf(self, host: Host) -> Address:
        """The XCF address of `host`."""
        return host.address(self.xcf_family or self.family)

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LabSpec:
        """The specification that :meth:`to_json` wrote."""
        values = dict(data)
        values["ports"] = tuple(values["ports"])
        values["weights"] = tuple(values["weights"])
        return LabSpec(**values)


def namespace_pattern(prefix: str) -> re.Pattern[str]:
    """Matches the namespaces of the lab `prefix`, and no other lab's."""
    kinds = "|".join(kind.value for kind in Kind)
    return re.compile(rf"{re.escape(prefix)}-({LAN}|({kinds})[0-9]*)")


def profile_text(spec: LabSpec, host: Host) -> str | None:
    """The profile of `host`, None without one: lb1 defines the DVIPA, the others back it up."""
    if host.name in spec.profiles:
        return spec.profiles[host.name] or None
    if host.kind is not Kind.LB:
        return None
    dvipa = spec.dvipa()
    named = f"255.255.255.0 {dvipa}" if spec.family == 4 else f"DVIPA1 {dvipa}/64"
    if host.number > 1:
        rank = FIRST_RANK - RANK_STEP * (host.number - 2)
        lines = [f"  VIPABACKUP {rank} MOVEABLE IMMEDIATE {named}"]
    else:
        lines = [f"  VIPADEFINE MOVEABLE IMMEDIATE {named}", *_distribute(spec)]
    return "\n".join(["VIPADYNAMIC", *lines, "ENDVIPADYNAMIC", ""])


def _distribute(spec: LabSpec) -> list[str]:
    targets = [host for host in spec.hosts() if host.kind is Kind.TARGET]
    if not targets:
        return []
    weights = [f" WEIGHT {weight}" for weight in spec.weights] or [""] * len(targets)
    name = str(spec.dvipa()) if spec.family == 4 else "DVIPA1"
    ports = " ".join(str(port) for port in spec.ports)
    return [
        f"  VIPADISTRIBUTE DISTMETHOD {spec.method} {name} PORT {ports}",
        "    DESTIP",
        *(f"      {spec.xcf(t)}{weight}" for t, weight in zip(targets, weights, strict=True)),
    ]


def node_settings(
    spec: LabSpec, host: Host, run: str, bpffs: str, profile: str | None
) -> dict[str, Any]:
    """The node file of `host` as YAML values; `run`, `bpffs` and `profile` are paths."""
    others = [node for node in spec.nodes() if node != host]
    peers = others[:1] if spec.seed else others
    settings: dict[str, Any] = {
        "node": host.name,
        "cluster": spec.prefix,
        "xcf": str(spec.xcf(host)),
        "uplinks": [UPLINK],
        "peers": [str(spec.xcf(peer)) for peer in peers],
        "tunnel": spec.tunnel,
        "paths": {"run": run, "bpffs": bpffs, "state": f"{run}.state"},
    }
    if profile is not None:
        settings["profile"] = profile
    merged = merge(merge(settings, stretched(spec.slow)), spec.settings)
    return merge(merged, spec.host_settings.get(host.name, {}))


def stretched(slow: float) -> dict[str, Any]:
    """The settings that keep a node `slow` times slower from taking slowness for death."""
    if slow == 1:
        return {}
    timers, queue, health = TimersConfig(), QueueConfig(), HealthConfig()
    return {
        "timers": {name: round(getattr(timers, name) * slow) for name in _TIMERS},
        "queue": {name: round(getattr(queue, name) * slow) for name in _QUEUE_TIMERS},
        "health": {name: round(getattr(health, name) * slow) for name in _HEALTH_TIMERS},
    }


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; mappings inside are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(inner, value) if both and isinstance(inner, Mapping) else value
    return merged


def yaml_text(settings: Mapping[str, Any]) -> str:
    """A node file's text."""
    return yaml.safe_dump(dict(settings), sort_keys=False)


def pairs(spec: LabSpec, one: str, other: str, one_way: bool) -> set[tuple[str, str]]:
    """The ways between two hosts that a cut closes: (from, to)."""
    first, second = spec.host(one).name, spec.host(other).name
    if first == second:
        raise LabError(f"{first}: a host has no path to itself")
    return {(first, second)} if one_way else {(first, second), (second, first)}
