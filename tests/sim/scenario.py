"""From a seed to a cluster, its faults and its traffic, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Final

from dvipad.address import Address
from dvipad.config.model import (
    Backup,
    Define,
    DistMethod,
    Distribute,
    Moveable,
    PortRange,
    Profile,
    Range,
    TargetSpec,
)
from dvipad.core.context import Timers
from dvipad.core.inputs import Listener
from dvipad.wire.session import SessionSettings

TIMERS: Final = Timers(
    dead_ms=300, restart_grace_ms=1_000, join_ms=300, collect_ms=250, moving_ms=600
)
SESSION: Final = SessionSettings(heartbeat_ms=100, dead_ms=300, handshake_ms=500)
BEATS_MS: Final = (30, 60, 100)
"""Intervals of heartbeats by UDP; the seed chooses."""
REDIAL_MS: Final = (50, 400)
"""Shortest and longest interval between dials."""
FIRST_FAULT_MS: Final = 1_200
"""Before that the cluster comes up and connections are opened."""


class Kind(Enum):
    """What can happen to a cluster."""

    POWER = "power cut"
    KILL = "daemon killed"
    STOP = "clean stop"
    CUT = "link cut"
    PARTITION = "partition"
    STALL = "daemon stalls"
    LISTENER = "listener flips"
    SLOW = "slow effects"
    MISS = "socket events lost"
    DEACTIVATE = "DVIPA deactivated"
    QUIESCE = "target quiesced"
    OUTSIDE = "out of the group"
    TROUBLE = "in trouble"
    BIND = "address of a range bound"
    RELOAD = "another profile"
    ACTIVATE = "address of a range activated"
    STRANGER = "stranger has the address"
    FIREWALL = "mesh filtered"


WEIGHTS: Final = {
    Kind.POWER: 6,
    Kind.KILL: 6,
    Kind.STOP: 3,
    Kind.CUT: 3,
    Kind.PARTITION: 2,
    Kind.STALL: 3,
    Kind.LISTENER: 4,
    Kind.SLOW: 2,
    Kind.MISS: 1,
    Kind.DEACTIVATE: 2,
    Kind.QUIESCE: 2,
    Kind.OUTSIDE: 2,
    Kind.TROUBLE: 2,
    Kind.RELOAD: 2,
}
BIND_PORT: Final = 8080
"""Applications that bind an address of a range listen there."""


EMPTY: Final = Profile()


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` befalls `hosts` at `at_ms` and is over after `lasts_ms`."""

    at_ms: int
    kind: Kind
    hosts: tuple[str, ...]
    lasts_ms: int
    port: int = 0
    dvipa: Address | None = None


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A host: its profile, its listeners; `offset_ms`: its clock against that of the world.

    `other`: the profile that it gets by a reload.
    """

    name: str
    xcf: Address
    profile: Profile
    listeners: tuple[Listener, ...]
    offset_ms: int
    start_ms: int
    other: Profile = EMPTY


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation.

    `ranged`: addresses of a VIPARANGE that applications bind. `fail_percent`: sequences that
    fail at one of their steps.
    """

    seed: int
    hosts: tuple[HostPlan, ...]
    dvipas: tuple[Address, ...]
    ports: tuple[int, ...]
    faults: tuple[Fault, ...]
    one_seed: bool
    safety_ms: int
    connections: int
    fail_percent: int
    ranged: tuple[Address, ...] = ()

    def host(self, name: str) -> HostPlan:
        """The plan of the host with that name."""
        return next(host for host in self.hosts if host.name == name)


def make_scenario(seed: int) -> Scenario:
    """The scenario of `seed`; the same one each time."""
    random = Random(seed)
    version = random.choice((4, 4, 6))
    owners = [f"lb{number}" for number in range(1, random.choice((1, 2, 2, 2, 3, 3)) + 1)]
    targets = [f"t{number}" for number in range(1, random.choice((1, 2, 2, 3, 4)) + 1)]
    rivals = seed % 25 == 0 and len(owners) > 1
    names = owners + targets
    xcf = {name: _xcf(version, index) for index, name in enumerate(names)}
    dvipas = tuple(_dvipa(version, number) for number in range(random.choice((1, 1, 1, 2))))
    ports = random.choice(((80,), (80,), (80, 443)))
    profiles, others = dict.fromkeys(names, Profile()), dict.fromkeys(names, Profile())
    for dvipa in dvipas:
        _plan_dvipa(random, dvipa, owners, xcf, ports, profiles, rivals)
        _plan_dvipa(random, dvipa, owners, xcf, ports, others, False)
    ranged: tuple[Address, ...] = ()
    if random.random() < 0.3:
        ranged = (_dvipa(version, 200),)
        moveable = random.choice((Moveable.NONDISRUPTIVE,) * 3 + (Moveable.DISRUPTIVE,))
        row = Range(_dvipa(version, 200), 120 if version == 6 else 29, moveable)
        for each in (profiles, others):
            each |= {name: replace(profile, ranges=(row,)) for name, profile in each.items()}
    apart = Fault(0, Kind.CUT, (owners[0], owners[-1]), 1_600)
    hosts = tuple(
        replace(_host(random, name, xcf, profiles[name], dvipas, ports), other=others[name])
        for name in names
    )
    safety_ms = random.choice((2_500, 3_500, 4_500))
    return Scenario(
        seed,
        hosts,
        dvipas,
        ports,
        (
            *([apart] if rivals else []),
            *_faults(random, owners, names, ports, safety_ms, dvipas),
            *_binds(random, names, ranged, safety_ms),
            *_filters(Random(f"filters of {seed}"), names, safety_ms),
        ),
        random.random() < 0.3,
        safety_ms,
        random.randint(6, 16),
        random.choice((0, 0, 0, 0, 5)),
        ranged,
    )


def stressed(seed: int) -> Scenario:
    """The scenario of `seed` with more of everything: an owner that is cut off or without power,
    a slow target, listeners that flip, and many connections."""
    scenario = make_scenario(seed)
    names = [host.name for host in scenario.hosts]
    owners = [name for name in names if name.startswith("lb")]
    targets = [name for name in names if name.startswith("t")]
    first = owners[seed // 2 % len(owners)]
    dark = Fault(1_400, Kind.PARTITION if seed % 2 else Kind.POWER, (first,), 700 + seed % 2 * 200)
    slow = [Fault(1_300, Kind.SLOW, (name,), 900) for name in targets[seed % 2 :][:1]]
    flips = [
        Fault(2_400 + 150 * index, Kind.LISTENER, (name,), 600, scenario.ports[0])
        for index, name in enumerate(targets)
    ]
    faults = sorted((*scenario.faults, dark, *slow, *flips), key=lambda fault: fault.at_ms)
    return replace(scenario, faults=tuple(faults), connections=90, safety_ms=4_500)


def _xcf(version: int, index: int) -> Address:
    if version == 4:
        return IPv4Address("192.0.2.0") + 1 + index
    return IPv6Address("2001:db8::") + 1 + index


def _dvipa(version: int, index: int) -> Address:
    if version == 4:
        return IPv4Address("203.0.113.1") + index
    return IPv6Address("2001:db8:1::1") + index


def _plan_dvipa(
    random: Random,
    dvipa: Address,
    owners: list[str],
    xcf: dict[str, Address],
    ports: tuple[int, ...],
    profiles: dict[str, Profile],
    rivals: bool,
) -> None:
    """Who may own `dvipa`, and how each of them distributes it; `rivals`: all are equal."""
    order = random.sample(owners, len(owners))
    common = _distribute(random, dvipa, xcf, ports)
    for index, name in enumerate(order):
        profile = profiles[name]
        if rivals:
            backup = Backup(dvipa, 10, Moveable.IMMEDIATE, 24)
            profile = replace(profile, backups=(*profile.backups, backup))
        elif index == 0 and random.random() < 0.9:
            moveable = Moveable.IMMEDIATE if random.random() < 0.85 else Moveable.WHENIDLE
            define = Define(dvipa, 24, moveable)
            profile = replace(profile, defines=(*profile.defines, define))
        elif index == 0 or random.random() < 0.9:
            rank = random.choice((1, 10, 10, 200))
            creates = random.random() < 0.7
            backup = Backup(
                dvipa, rank, Moveable.IMMEDIATE if creates else None, 24 if creates else None
            )
            profile = replace(profile, backups=(*profile.backups, backup))
        else:
            continue
        luck = random.random()
        if index == 0 or rivals or luck < 0.4:
            profile = replace(profile, distributes=(*profile.distributes, common))
        elif luck < 0.55:
            other = _distribute(random, dvipa, xcf, ports)
            profile = replace(profile, distributes=(*profile.distributes, other))
        profiles[name] = profile


_BY_WEIGHT = (
    DistMethod.BASEWLM,
    DistMethod.SERVERWLM,
    DistMethod.TARGCONTROLLED,
    DistMethod.WEIGHTEDACTIVE,
)


def _distribute(
    random: Random, dvipa: Address, xcf: dict[str, Address], ports: tuple[int, ...]
) -> Distribute:
    spans = random.choice(((), tuple(PortRange(port, port) for port in ports)))
    targets: tuple[TargetSpec, ...] | None = None
    if random.random() < 0.5:
        listed = [name for name in xcf if name.startswith("t") or random.random() < 0.4]
        if len(listed) > 1 and random.random() < 0.4:
            listed.remove(random.choice(listed))
        targets = tuple(TargetSpec(xcf[name], random.randint(1, 4)) for name in listed)
    method = random.choice((DistMethod.ROUNDROBIN, DistMethod.WEIGHTEDACTIVE))
    if method is DistMethod.WEIGHTEDACTIVE:  # without a chance: seeds go on meaning what they meant
        method = _BY_WEIGHT[sum(target.weight for target in targets or ()) % len(_BY_WEIGHT)]
    return Distribute(dvipa, spans, targets, method)


def _host(
    random: Random,
    name: str,
    xcf: dict[str, Address],
    profile: Profile,
    dvipas: tuple[Address, ...],
    ports: tuple[int, ...],
) -> HostPlan:
    serves = name.startswith("t") or random.random() < 0.4
    listeners = tuple(
        Listener(None if random.random() < 0.7 else dvipa, port, 1)
        for dvipa in dvipas
        for port in ports
        if serves and random.random() < 0.9
    )
    unique = {(listener.address, listener.port): listener for listener in listeners}
    start_ms = random.choice((0, 0, 0, random.randint(0, 900)))
    return HostPlan(
        name, xcf[name], profile, tuple(unique.values()), random.randint(0, 5_000), start_ms
    )


def _faults(
    random: Random,
    owners: list[str],
    names: list[str],
    ports: tuple[int, ...],
    safety_ms: int,
    dvipas: tuple[Address, ...],
) -> tuple[Fault, ...]:
    kinds = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=random.choice((1, 1, 2, 3, 5)))
    faults: list[Fault] = []
    for kind in kinds:
        at_ms = random.randint(FIRST_FAULT_MS, safety_ms - 100)
        some = owners if random.random() < 0.6 else names
        name = random.choice(some)
        lasts_ms = random.choice((60, 250, 500, 900, 1_600, 2_500))
        match kind:
            case Kind.CUT:
                other = random.choice([other for other in names if other != name])
                faults.append(Fault(at_ms, kind, (name, other), lasts_ms))
            case Kind.PARTITION:
                everybody = [*names, "c1", "c2"]
                side = random.sample(everybody, random.randint(1, len(everybody) - 1))
                faults.append(Fault(at_ms, kind, tuple(side), lasts_ms))
            case Kind.STALL:
                faults.append(Fault(at_ms, kind, (name,), random.choice((50, 150, 280, 600))))
            case Kind.LISTENER:
                port = random.choice(ports)
                faults.append(Fault(at_ms, kind, (random.choice(names),), lasts_ms, port))
            case Kind.QUIESCE:
                port = random.choice((0, *ports))
                faults.append(Fault(at_ms, kind, (random.choice(names),), lasts_ms, port))
            case Kind.RELOAD:
                some_hosts = names if random.random() < 0.5 else [name]
                faults.append(Fault(at_ms, kind, tuple(some_hosts), 0))
            case Kind.DEACTIVATE:
                faults.append(Fault(at_ms, kind, (name,), lasts_ms, 0, random.choice(dvipas)))
            case _:
                faults.append(Fault(at_ms, kind, (name,), lasts_ms))
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


def _filters(random: Random, names: list[str], safety_ms: int) -> list[Fault]:
    """Now and then a firewall stops the mesh of one node, to some others or to all."""
    if random.random() >= 0.08:
        return []
    one, *others = random.sample(names, len(names))
    at_ms = random.randint(FIRST_FAULT_MS, safety_ms - 500)
    lasts_ms = random.choice((500, 1_500, 2_500, 3_500))
    cut_off = others[: random.choice((1, len(others)))]
    return [Fault(at_ms, Kind.FIREWALL, (one, other), lasts_ms) for other in cut_off]


def _binds(
    random: Random, names: list[str], ranged: tuple[Address, ...], safety_ms: int
) -> tuple[Fault, ...]:
    """Applications that bind addresses of a range, each for a while."""
    faults = [
        Fault(
            random.randint(400, safety_ms - 100),
            Kind.BIND,
            (random.choice(names),),
            random.choice((500, 900, 1_600, 4_000)),
            BIND_PORT,
            dvipa,
        )
        for dvipa in ranged
        for _ in range(random.choice((1, 2, 2, 3)))
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))
