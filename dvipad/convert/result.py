"""From what was found to the text of a profile and of a node file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from dvipad.address import Address
from dvipad.config.distribute import DEFAULT_WEIGHT
from dvipad.config.model import (
    Backup,
    Define,
    DistMethod,
    Distribute,
    Moveable,
    PortRange,
    Profile,
    TargetSpec,
)
from dvipad.config.show import show_profile
from dvipad.convert import haproxy, ipvs, keepalived
from dvipad.convert.found import Floating, Found, Note, Real, Service

_OWN: Final = "{key} is not said in these files: write it, dvipad --check says how"
_Read = Callable[[str, str], Found]


@dataclass(frozen=True, slots=True)
class Converted:
    """The two files, and what is not in them."""

    profile: str
    node: str
    notes: tuple[Note, ...]


def reader_of(text: str) -> _Read:
    """The program whose file this is."""
    firsts = [words[0] for line in text.splitlines() if (words := line.split())]
    if any(word in ("-A", "-a") for word in firsts):
        return ipvs.read
    plain = "{" not in text.split("#")[0]
    if plain and any(word in haproxy.SECTIONS for word in firsts):
        return haproxy.read
    return keepalived.read


def convert(files: dict[Path, str]) -> Converted:
    """The profile and the node file that say what these files, of one host, say."""
    found = Found("")
    for path, text in files.items():
        found.add(reader_of(text)(text, str(path)))
    floating = {each.address: each for each in found.floating}
    services = [each for service in found.services for each in _addressed(service, found)]
    for service in services:
        if service.address is not None and service.address not in floating:
            longest = service.address.max_prefixlen
            floating[service.address] = Floating(service.address, longest, None)
            reason = "no file says the length of its prefix, and who else has it"
            found.left(0, str(service.address), reason)
    profile = Profile(
        defines=tuple(
            Define(each.address, each.prefix_length, Moveable.IMMEDIATE, _interface(each, number))
            for number, each in enumerate(floating.values(), 1)
            if each.rank is None
        ),
        backups=tuple(
            Backup(each.address, each.rank, Moveable.IMMEDIATE, each.prefix_length,
                   _interface(each, number))
            for number, each in enumerate(floating.values(), 1)
            if each.rank is not None
        ),
        distributes=tuple(_distributes(services)),
    )  # fmt: skip
    notes = tuple(dict.fromkeys(found.notes))
    return Converted(show_profile(profile), _node(found, services), notes)


def _interface(floating: Floating, number: int) -> str | None:
    """An IPv6 DVIPA has a name."""
    return f"DVIPA{number}" if floating.address.version == 6 else None


def _addressed(service: Service, found: Found) -> list[Service]:
    """A wildcard is every virtual address of the host."""
    if not service.servers:
        found.left(0, f"port {service.port}", "no server of it could be converted")
        return []
    if service.address is not None:
        return [service]
    addresses = [each.address for each in found.floating]
    if not addresses:
        found.left(0, f"port {service.port}", "no address: convert keepalived.conf with it")
    kept = (service.port, service.method, service.servers, service.affinity_s)
    return [Service(address, *kept) for address in addresses]


def _distributes(services: list[Service]) -> list[Distribute]:
    """One statement for all ports that are served alike."""
    ports: dict[tuple[Address, DistMethod, tuple[Real, ...], int], list[int]] = defaultdict(list)
    for each in services:
        assert each.address is not None
        ports[each.address, each.method, each.servers, each.affinity_s].append(each.port)
    return [
        Distribute(
            dvipa,
            tuple(PortRange(port, port) for port in sorted(set(numbers))),
            _targets(servers),
            method,
            timed_affinity_s=affinity_s,
        )
        for (dvipa, method, servers, affinity_s), numbers in ports.items()
    ]


def _targets(servers: tuple[Real, ...]) -> tuple[TargetSpec, ...]:
    alike = len({each.weight for each in servers}) == 1
    return tuple(
        TargetSpec(each.address, DEFAULT_WEIGHT if alike or each.weight is None else each.weight)
        for each in servers
    )


def _node(found: Found, services: list[Service]) -> str:
    """Every other host is a peer, targets too."""
    others = [*found.peers, *(real.address for each in services for real in each.servers)]
    values = {
        "node": found.name,
        "xcf": None if found.xcf is None else str(found.xcf),
        "uplinks": list(dict.fromkeys(found.interfaces)) or None,
        "peers": list(dict.fromkeys(str(each) for each in others if each != found.xcf)),
        "profile": "profile",
    }
    missing = [key for key in ("node", "xcf", "uplinks") if values[key] is None]
    lines = [f"# {_OWN.format(key=key)}" for key in missing]
    known = {key: value for key, value in values.items() if value}
    return "\n".join([*lines, yaml.safe_dump(known, sort_keys=False)])
