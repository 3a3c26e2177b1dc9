"""Section `dns` of the status file: names that follow the preferred server, or farm (S5)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import yaml

from dvipad.address import Address
from dvipad.config.labels import read_word
from dvipad.config.model import NOWHERE, Position
from dvipad.config.values import read_address
from dvipad.config.words import one_of
from dvipad.config.yamldoc import Document, Mapping, scalar

NAMES_MAX: Final = 64
ADDRESSES_MAX: Final = 256
DNS_LIMITS: Final = {"ttl": (0, 604_800), "server_port": (1, 65_535), "timeout_ms": (10, 60_000)}
DNS_DEFAULTS: Final = {"ttl": 0, "server_port": 53, "timeout_ms": 1000}
NAME_KEYS: Final = (
    "name", "zone", "dvipa", "port", "give", "addresses", "server", "server_port", "key", "ttl",
    "timeout_ms",
)  # fmt: skip
_DOMAIN: Final = re.compile(
    r"(?=.{1,254}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)


class Give(Enum):
    """Whose address a name has."""

    SERVER = "server"
    FARM = "farm"


@dataclass(frozen=True, slots=True)
class NameConfig:
    """`name` in `zone` has the address of the preferred server or farm of (`dvipa`, `port`).

    `addresses`: by node or farm; a node without one has its XCF address. `key`: the file of the
    TSIG key, None: updates are not signed. `ttl`: seconds.
    """

    name: str
    zone: str
    dvipa: Address
    port: int
    server: Address
    give: Give = Give.SERVER
    addresses: tuple[tuple[str, Address], ...] = ()
    server_port: int = 53
    key: Path | None = None
    ttl: int = 0
    timeout_ms: int = 1000
    position: Position = field(default=NOWHERE, compare=False)


def read_names(top: Mapping, folder: Path) -> tuple[NameConfig, ...]:
    """The names; what is wrong with them is noted."""
    found: dict[str, NameConfig] = {}
    for node in top.mappings("dns", NAMES_MAX):
        values = Mapping(top.document, node, NAME_KEYS, "an entry of dns")
        name = _read_name(values, node, folder)
        if name is None:
            continue
        if name.name in found:
            top.document.error(node, f"{name.name} is given before", "Keep one of them.")
        found.setdefault(name.name, name)
    return tuple(found.values())


def _read_name(values: Mapping, node: yaml.Node, folder: Path) -> NameConfig | None:
    document = values.document
    name = values.text("name", _read_domain, "Give a name, as www.example.org.")
    zone = values.text("zone", _read_domain, "Give the zone of the name, as example.org.")
    dvipa = values.text("dvipa", read_address, "Give an address, as 192.0.2.100.")
    server = values.text("server", read_address, "Give the address of the name server.")
    port = values.number("port", 0, 1, 65_535)
    for key in ("name", "dvipa", "port", "server"):
        if values.node(key) is None:
            example = {"name": "www.example.org", "port": "80"}.get(key, "192.0.2.100")
            document.error(node, f"{key} is missing", f"Write '{key}: {example}'.")
    give = values.text("give", one_of(Give), "Say server or farm.") or Give.SERVER
    addresses = _read_addresses(document, values.node("addresses"))
    if give is Give.FARM and not addresses:
        remedy = "Write 'addresses: {east: 192.0.2.100}', the DVIPA of each farm."
        document.error(node, "addresses is missing: farms have none of themselves", remedy)
    numbers = values.numbers(DNS_LIMITS, DNS_DEFAULTS)
    key_file = values.text("key", Path, "Give the path of a key file, as tsig-keygen writes it.")
    if name is not None and zone is None and values.node("zone") is None:
        zone = name.partition(".")[2] or name
    if name is None or zone is None or dvipa is None or server is None or not port:
        return None
    if not f".{name}".endswith(f".{zone}"):
        document.error(node, f"{name} is not in the zone {zone}", "Correct one of them.")
    place = document.position(node)
    file = None if key_file is None else folder / key_file
    return NameConfig(
        name, zone, dvipa, port, server, give, addresses, key=file, position=place, **numbers
    )


def _read_domain(text: str) -> str | None:
    return text.lower().rstrip(".") if _DOMAIN.fullmatch(text) else None


def _read_addresses(document: Document, node: yaml.Node | None) -> tuple[tuple[str, Address], ...]:
    remedy = "Write 'addresses: {t1: 198.51.100.11, t2: 198.51.100.12}'."
    if node is None:
        return ()
    if not isinstance(node, yaml.MappingNode) or len(node.value) > ADDRESSES_MAX:
        document.error(node, f"addresses is not a mapping of at most {ADDRESSES_MAX}", remedy)
        return ()
    found: dict[str, Address] = {}
    for key, value in node.value:
        name = scalar(document, key, "a node or a farm", read_word, remedy)
        address = scalar(document, value, "its address", read_address, remedy)
        if name is not None and address is not None:
            found[name] = address
    return tuple(sorted(found.items()))
