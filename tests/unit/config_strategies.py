"""Hypothesis strategies: profiles and node files that the grammar can say."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal, TypeVar

from hypothesis import strategies as st

from dvipad.address import Address
from dvipad.config.health import HEALTH_LIMITS, HealthConfig
from dvipad.config.model import (
    DAY_MINUTES,
    OWNER_RANK,
    Backup,
    Comparison,
    Condition,
    Define,
    Device,
    DistMethod,
    Distribute,
    Hours,
    Label,
    Match,
    Moveable,
    Otherwise,
    Policy,
    PortRange,
    Prefix,
    Profile,
    Range,
    Route,
    Subset,
    TargetSpec,
    Use,
)
from dvipad.config.node import (
    QUEUE_LIMITS,
    TABLE_LIMITS,
    TIMER_LIMITS,
    MeshConfig,
    NodeConfig,
    Peer,
    QueueConfig,
    TablesConfig,
    TimersConfig,
    VxlanConfig,
)
from dvipad.config.paths import PathsConfig
from dvipad.config.policies import DSCP_MAX, FIGURES, WEIGHT_MAX
from dvipad.config.quality import QUALITY_LIMITS, QualityConfig
from dvipad.config.values import network_of
from dvipad.config.web import WebConfig
from dvipad.config.words import Direct, Quorum, Tunnel, Xdp
from dvipad.config.workload import WORKLOAD_LIMITS, WorkloadConfig
from dvipad.versions import NEWEST, OLDEST

T = TypeVar("T")

_DVIPA4 = int(IPv4Address("198.18.0.0"))
_DVIPA6 = int(IPv6Address("2001:db8::"))
_XCF4 = int(IPv4Address("203.0.113.0"))
_XCF6 = int(IPv6Address("2001:db8:ffff::"))


def _dvipa(family: int, host: int) -> Address:
    return IPv4Address(_DVIPA4 + host) if family == 4 else IPv6Address(_DVIPA6 + host)


def _xcf(family: int, host: int) -> Address:
    return IPv4Address(_XCF4 + host) if family == 4 else IPv6Address(_XCF6 + host)


@st.composite
def _entry(draw: st.DrawFn, number: int) -> Define | Backup:
    """The definition of the DVIPA with this `number`, which no other has."""
    family = draw(st.sampled_from((4, 6)))
    address = _dvipa(family, 5 + 4 * number)
    length = draw(st.integers(8, 30)) if family == 4 else draw(st.integers(1, 128))
    named = family == 6 and draw(st.booleans())
    interface = f"V6_{number}" if named else None
    cluster_ports = draw(st.booleans())
    modes = st.sampled_from((Moveable.IMMEDIATE, Moveable.WHENIDLE))
    if draw(st.booleans()):
        return Define(address, length, draw(modes), interface, cluster_ports)
    rank = draw(st.integers(1, 254))
    moveable = draw(st.none() | modes)
    prefix_length = None if moveable is None else length
    return Backup(address, rank, moveable, prefix_length, interface, cluster_ports)


@st.composite
def _range(draw: st.DrawFn) -> Range:
    family = draw(st.sampled_from((4, 6)))
    length = draw(st.integers(16, 32)) if family == 4 else draw(st.integers(32, 128))
    subnet = network_of(_dvipa(family, draw(st.integers(0, 65_535))), length)
    name = draw(st.none() | st.sampled_from(("APPS", "R-1"))) if family == 6 else None
    modes = st.sampled_from((Moveable.NONDISRUPTIVE, Moveable.DISRUPTIVE))
    return Range(subnet.network_address, length, draw(modes), name, draw(st.booleans()))


@st.composite
def _ports(draw: st.DrawFn, low: int, high: int) -> tuple[PortRange, ...]:
    """Ports and ranges between `low` and `high`, in any order, that do not overlap."""
    edges = sorted(draw(st.sets(st.integers(low, high), max_size=24)))
    spans = [PortRange(first, last) for first, last in zip(edges[::2], edges[1::2], strict=False)]
    single = draw(st.booleans())
    if single:
        spans = [PortRange(span.first, span.first) for span in spans]
    return tuple(draw(st.permutations(spans)))


@st.composite
def _targets(draw: st.DrawFn, method: DistMethod, family: int) -> tuple[TargetSpec, ...]:
    least = 2 if method is DistMethod.HOTSTANDBY else 1
    hosts = draw(st.lists(st.integers(1, 200), min_size=least, max_size=6, unique=True))
    targets = [TargetSpec(_xcf(family, host)) for host in hosts]
    if method in (DistMethod.ROUNDROBIN, DistMethod.WEIGHTEDACTIVE):
        targets = [replace(target, weight=draw(st.integers(1, 99))) for target in targets]
    if method is DistMethod.HOTSTANDBY:
        ranks = st.integers(1, 254)
        targets = [replace(target, standby_rank=draw(ranks)) for target in targets]
        chosen = draw(st.integers(0, len(targets) - 1))
        targets[chosen] = replace(targets[chosen], standby_rank=OWNER_RANK)
    return tuple(targets)


@st.composite
def _distribute(draw: st.DrawFn, dvipa: Address, family: int, low: int) -> Distribute:
    method = draw(st.sampled_from(DistMethod))
    targets = draw(_targets(method, family))
    all_nodes = method is not DistMethod.HOTSTANDBY and draw(st.booleans())
    standby = method is DistMethod.HOTSTANDBY
    return Distribute(
        dvipa,
        draw(_ports(low, low + 9_999)),
        None if all_nodes else targets,
        method,
        cluster_ports=draw(st.booleans()),
        timed_affinity_s=draw(st.integers(0, 65_535)),
        auto_affinity=draw(st.booleans()),
        optlocal=draw(st.none() | st.integers(0, 16)),
        auto_switch_back=not standby or draw(st.booleans()),
        health_switch=not standby or draw(st.booleans()),
        paused=draw(st.booleans()),
        offload=draw(st.booleans()),
    )


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Profiles without any error, as the parser would make them."""
    entries = [draw(_entry(number)) for number in range(draw(st.integers(0, 5)))]
    family = draw(st.sampled_from((4, 6)))
    distributes: list[Distribute] = []
    for entry in entries:
        for index in range(draw(st.integers(0, 2))):
            value = draw(_distribute(entry.dvipa, family, 1 + 20_000 * index))
            ported = {other.ports for other in distributes if other.dvipa == entry.dvipa}
            if value.ports not in ported:
                distributes.append(value)
    ranges = draw(st.lists(_range(), max_size=3, unique_by=lambda r: (r.network, r.prefix_length)))
    hosts = draw(st.lists(st.integers(1, 200), max_size=3, unique=True))
    routes = [Route(_xcf(family, host), _xcf(family, 250)) for host in hosts]
    return Profile(
        tuple(entry for entry in entries if isinstance(entry, Define)),
        tuple(entry for entry in entries if isinstance(entry, Backup)),
        tuple(ranges),
        tuple(distributes),
        tuple(routes),
    )


def _numbers(limits: dict[str, tuple[int, int]]) -> dict[str, st.SearchStrategy[int]]:
    return {key: st.integers(low, high) for key, (low, high) in limits.items()}


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_addresses = st.builds(_xcf, st.sampled_from((4, 6)), st.integers(1, 100))
_peers = st.builds(
    Peer, st.builds(_xcf, st.sampled_from((4, 6)), st.integers(101, 200)), st.integers(1, 65_535)
)
_UNPRINTABLE: tuple[Literal["C", "Z"], ...] = ("C", "Z")
_characters = st.characters(exclude_categories=_UNPRINTABLE, exclude_characters="/:")
_paths = st.builds(
    Path, st.text(st.characters(exclude_categories=_UNPRINTABLE), max_size=20).map("/x".__add__)
)

_healths = st.builds(HealthConfig, st.booleans(), st.booleans(), **_numbers(HEALTH_LIMITS))
_webs = st.builds(
    WebConfig,
    st.integers(1, 65_535),
    st.lists(_addresses, max_size=3, unique=True).map(tuple),
)
_words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True) | st.just("null")
_labels = st.dictionaries(_words, _words, max_size=3).map(
    lambda found: tuple(Label(key, value) for key, value in sorted(found.items()))
)
_workloads = st.builds(
    WorkloadConfig,
    st.integers(*WORKLOAD_LIMITS["interval_ms"]),
    st.none() | st.from_regex(r"(/[a-z0-9:@ \"\\.-]{3,20}){1,3}", fullmatch=True),
    st.none() | st.integers(*WORKLOAD_LIMITS["cpu_percent"]),
    st.none() | st.integers(*WORKLOAD_LIMITS["weight"]),
)


@st.composite
def nodes(draw: st.DrawFn) -> NodeConfig:
    """Node files without any error."""
    timers = draw(st.builds(TimersConfig, **_numbers(TIMER_LIMITS)))
    dead_ms = max(timers.dead_ms, 2 * timers.heartbeat_ms)
    redial_max_ms = max(timers.redial_max_ms, timers.redial_min_ms)
    queue = draw(st.builds(QueueConfig, **_numbers(QUEUE_LIMITS)))
    interfaces = st.text(_characters, min_size=1, max_size=15).filter(
        lambda name: name not in (".", "..", "lo")
    )
    return NodeConfig(
        draw(_names),
        draw(_addresses),
        tuple(draw(st.lists(interfaces, min_size=1, max_size=3, unique=True))),
        draw(_names),
        tuple(draw(st.lists(_peers, max_size=4, unique=True))),
        MeshConfig(draw(st.integers(1, 65_535)), draw(st.integers(OLDEST, NEWEST))),
        draw(st.sampled_from(Tunnel)),
        VxlanConfig(draw(st.integers(1, 65_535))),
        draw(st.sampled_from(Direct)),
        draw(st.none() | _paths),
        PathsConfig(draw(_paths), draw(_paths), draw(_paths)),
        replace(timers, dead_ms=dead_ms, redial_max_ms=redial_max_ms),
        replace(queue, stale_ms=max(queue.stale_ms, queue.hung_ms)),
        draw(st.builds(TablesConfig, **_numbers(TABLE_LIMITS))),
        draw(st.sampled_from(Quorum)),
        draw(_healths),
        draw(st.sampled_from(Xdp)),
        draw(_webs),
        draw(_workloads),
        draw(st.builds(QualityConfig, **_numbers(QUALITY_LIMITS))),
        draw(st.none() | _paths),
        draw(_labels),
        draw(st.none() | _paths),
        draw(st.none() | _names.map(lambda name: name[:63])),
    )


def _span(ends: tuple[int, int]) -> PortRange:
    return PortRange(*sorted(ends))


def _some(values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(values, max_size=3, unique=True).map(tuple)


_prefixes = st.builds(
    lambda address, length: Prefix(network_of(address, length).network_address, length),
    _addresses,
    st.integers(0, 32),
)
_minutes = st.integers(0, DAY_MINUTES - 1)
_subsets = st.builds(
    Subset,
    _some(_words),
    _labels,
    _some(
        st.builds(
            Condition, st.sampled_from(FIGURES), st.sampled_from(Comparison), st.integers(0, 99)
        )
    ),
).filter(lambda subset: subset != Subset())
_policies = st.builds(
    Policy,
    _words,
    st.builds(
        Match,
        _some(_addresses),
        _some(st.tuples(st.integers(1, 65_535), st.integers(1, 65_535)).map(_span)),
        _some(_prefixes),
        _some(st.integers(0, DSCP_MAX)),
        _some(st.from_regex(r"[a-z0-9@.-]{1,15}", fullmatch=True)),
        _some(st.sampled_from(Device)),
        _some(st.builds(Hours, _minutes, _minutes).filter(lambda span: span.start != span.end)),
        _some(st.integers(0, 6)).map(lambda days: tuple(sorted(days))),
    ),
    _subsets,
    st.none() | st.integers(0, WEIGHT_MAX),
    st.sampled_from(Use),
    st.sampled_from(Otherwise),
)


def policies() -> st.SearchStrategy[tuple[Policy, ...]]:
    """Policies without any error."""
    return st.lists(_policies, max_size=4, unique_by=lambda policy: policy.name).map(tuple)
