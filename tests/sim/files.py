"""Scenario files: a cluster, what befalls it and what is expected, as YAML that anybody can read.

`load` raises `ConfigError` with everything that is wrong, each with file, line and key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import yaml

from dvipad.address import Address
from dvipad.config.errors import ConfigError, Problem, in_order
from dvipad.config.model import Profile
from dvipad.config.profile import parse_profile
from dvipad.config.values import read_address, read_number
from dvipad.config.yamldoc import Document, Mapping, scalar
from dvipad.core.inputs import Listener

from .expect import (
    During,
    Even,
    Expectation,
    Lost,
    Opened,
    Owner,
    Owners,
    Refused,
    Relays,
    Targets,
    Warned,
)
from .scenario import EMPTY, Fault, HostPlan, Kind, Scenario

FOLDER: Final = Path(__file__).parent / "scenarios"
"""Where the files are that the tests run."""
LONGEST_MS: Final = 60_000
MOST: Final = 1_000
"""Of anything that a file counts."""
CLOCKS_MS: Final = 1_300
"""Host clocks differ by so much."""
CLIENTS: Final = ("c1", "c2")
NOBODY: Final = "nobody"
KEYS: Final = (
    *("lesson", "pain", "seed", "heals_ms", "ports"),
    *("hosts", "connections", "faults", "expect"),
)
WHEN: Final = ("at_ms", "from_ms", "until_ms")
EXPECT: Final = {
    "owner": ("of", *WHEN),
    "owners_at_most": ("of", *WHEN),
    "targets": ("of", "port", *WHEN),
    "refusal": ("of", "host"),
    "warning": ("host",),
    "opened": (),
    "lost": (),
    "even_within": ("among",),
    "relays": (),
}
"""What may be expected, and the further keys of it."""
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Opening:
    """A client connects at `at_ms`."""

    at_ms: int
    dvipa: Address
    port: int
    messages: int
    pause_ms: int


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """What a file says. `late`: listeners that open at a time; `warnings`: of the profiles."""

    path: Path
    lesson: str
    scenario: Scenario
    openings: tuple[Opening, ...]
    late: tuple[tuple[int, str, Listener], ...]
    warnings: tuple[tuple[str, Problem], ...]
    expectations: tuple[Expectation, ...]

    def with_seed(self, seed: int) -> ScenarioFile:
        """The same with other chances: delays of packets and effects, choices of clients."""
        return replace(self, scenario=replace(self.scenario, seed=seed))


def load(path: Path) -> ScenarioFile:
    """The scenario file `path`; raises ``ConfigError``, or ``OSError``."""
    return parse(path.read_text(encoding="utf-8"), path)


def parse(text: str, path: Path) -> ScenarioFile:
    """Like :func:`load`, of `text`."""
    document = Document(path.name)
    reader = _Reader(document, path)
    root = document.compose(text)
    found = reader.read(root) if root is not None else None
    if found is None or document.problems:
        raise ConfigError(in_order(document.problems))
    return found


class _Reader:
    """Reads one file; what is wrong is noted in its document."""

    def __init__(self, document: Document, path: Path) -> None:
        self._document = document
        self._path = path
        self._names: set[str] = set()
        self._late: list[tuple[int, str, Listener]] = []
        self._warnings: list[tuple[str, Problem]] = []
        self._heals_ms = LONGEST_MS

    def read(self, root: yaml.Node) -> ScenarioFile | None:
        """The whole file; complete only when nothing was noted."""
        top = Mapping(self._document, root, KEYS, "a scenario")
        for key in ("lesson", "pain", "heals_ms", "hosts", "expect"):
            self._need(top, root, key, "the scenario")
        self._heals_ms = top.number("heals_ms", LONGEST_MS, 1, LONGEST_MS, "ms")
        hosts = self._hosts(top)
        self._names = {host.name for host in hosts}
        faults = tuple(self._each(top, "faults", self._fault))
        named = _named(host.profile for host in hosts)
        wanted = [fault.dvipa for fault in faults if fault.kind in (Kind.BIND, Kind.ACTIVATE)]
        ranged = {dvipa: None for dvipa in wanted if dvipa is not None and dvipa not in named}
        named |= {
            dvipa: None for dvipa in _named(host.other for host in hosts) if dvipa not in ranged
        }
        if not named:
            remedy = "Give at least one profile a VIPADEFINE or VIPABACKUP."
            self._document.error(root, "no profile in hosts names a DVIPA", remedy)
        numbers = top.items("ports", _port, "List TCP ports.", MOST)
        scenario = Scenario(
            top.number("seed", 1, 0, 2**32),
            hosts,
            tuple(named),
            tuple(port for _, port in numbers),
            faults,
            one_seed=False,
            safety_ms=self._heals_ms,
            connections=0,
            fail_percent=0,
            ranged=tuple(ranged),
        )
        openings = [one for row in self._each(top, "connections", self._openings) for one in row]
        return ScenarioFile(
            self._path,
            top.text("lesson", str, "Write one line.") or "",
            scenario,
            tuple(openings),
            tuple(self._late),
            tuple(self._warnings),
            tuple(self._each(top, "expect", self._expectation)),
        )

    # -- pieces -------------------------------------------------------------------------------

    def _need(self, mapping: Mapping, node: yaml.Node, key: str, what: str) -> None:
        if mapping.node(key) is None:
            self._document.error(node, f"{what} has no '{key}'", f"Write '{key}: …'.")

    def _each(
        self, top: Mapping, key: str, read: Callable[[yaml.Node], _Value | None]
    ) -> list[_Value]:
        node = top.node(key)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._document.error(node, f"{key} is not a list", "Begin each entry with '- '.")
            return []
        values = [read(item) for item in node.value]
        return [value for value in values if value is not None]

    def _address(self, mapping: Mapping, key: str) -> Address | None:
        return mapping.text(key, read_address, "Give an IPv4 or IPv6 address.")

    def _name(self, mapping: Mapping, key: str, *others: str) -> str | None:
        known = (*sorted(self._names), *others)
        choose: Callable[[str], str | None] = {name: name for name in known}.get
        return mapping.text(key, choose, f"Give one of {', '.join(known)}.")

    def _members(self, mapping: Mapping, key: str, *others: str) -> tuple[str, ...]:
        known = (*sorted(self._names), *others)
        choose: Callable[[str], str | None] = {name: name for name in known}.get
        remedy = f"Give some of {', '.join(known)}."
        return tuple(name for _, name in mapping.items(key, choose, remedy, MOST))

    # -- hosts --------------------------------------------------------------------------------

    def _hosts(self, top: Mapping) -> tuple[HostPlan, ...]:
        node = top.node("hosts")
        if node is None:
            return ()
        if not isinstance(node, yaml.MappingNode):
            self._document.error(node, "hosts is not a mapping", "Write 'name:' for each host.")
            return ()
        hosts = [
            self._host(str(key.value), value, number)
            for number, (key, value) in enumerate(node.value)
        ]
        return tuple(host for host in hosts if host is not None)

    def _host(self, name: str, node: yaml.Node, number: int) -> HostPlan | None:
        keys = ("xcf", "profile", "reloads_to", "listeners", "starts_ms")
        mapping = Mapping(self._document, node, keys, f"host {name}")
        self._need(mapping, node, "xcf", f"host {name}")
        xcf = self._address(mapping, "xcf")
        listeners = self._each(mapping, "listeners", partial(self._listener, name))
        if xcf is None:
            return None
        return HostPlan(
            name,
            xcf,
            self._profile(mapping, "profile", name),
            tuple(listeners),
            CLOCKS_MS * number,
            mapping.number("starts_ms", 0, 0, LONGEST_MS, "ms"),
            self._profile(mapping, "reloads_to", name),
        )

    def _profile(self, mapping: Mapping, key: str, name: str) -> Profile:
        text = mapping.text(key, str, "Write 'VIPADYNAMIC', statements and 'ENDVIPADYNAMIC'.")
        if text is None:
            return EMPTY
        parsed = parse_profile(text, f"{self._path.name}: hosts.{name}.{key}")
        for problem in parsed.problems:
            if problem.severity.value == "warning":
                self._warnings.append((name, problem))
            else:
                self._document.problems.append(problem)
        return parsed.profile

    def _listener(self, name: str, node: yaml.Node) -> Listener | None:
        if isinstance(node, yaml.ScalarNode):
            remedy = "Give a TCP port, or {port: …, address: …, opens_ms: …}."
            port = scalar(self._document, node, "listener", _port, remedy)
            return None if port is None else Listener(None, port, 1)
        mapping = Mapping(self._document, node, ("port", "address", "opens_ms"), "a listener")
        self._need(mapping, node, "port", "the listener")
        listener = Listener(
            self._address(mapping, "address"), mapping.number("port", 1, 1, 65_535), 1
        )
        opens_ms = mapping.number("opens_ms", 0, 0, self._heals_ms, "ms")
        if opens_ms:
            self._late.append((opens_ms, name, listener))
        return listener

    # -- what happens -------------------------------------------------------------------------

    def _fault(self, node: yaml.Node) -> Fault | None:
        keys = ("at_ms", "what", "hosts", "lasts_ms", "port", "of")
        mapping = Mapping(self._document, node, keys, "a fault")
        for key in ("at_ms", "what"):
            self._need(mapping, node, key, "the fault")
        kinds = {kind.value: kind for kind in Kind}
        choose: Callable[[str], Kind | None] = kinds.get
        kind = mapping.text("what", choose, f"Give one of: {', '.join(kinds)}.")
        hosts = self._members(mapping, "hosts", *CLIENTS)
        if kind is None:
            return None
        if kind is Kind.STRANGER:
            hosts = ("stranger",)
        elif not hosts:
            self._need(mapping, node, "hosts", "the fault")
            return None
        if kind in (Kind.STRANGER, Kind.BIND, Kind.ACTIVATE, Kind.DEACTIVATE):
            self._need(mapping, node, "of", "the fault")
        return Fault(
            mapping.number("at_ms", 0, 0, self._heals_ms, "ms"),
            kind,
            hosts,
            mapping.number("lasts_ms", LONGEST_MS, 0, LONGEST_MS, "ms"),
            mapping.number("port", 0, 0, 65_535),
            self._address(mapping, "of"),
        )

    def _openings(self, node: yaml.Node) -> list[Opening] | None:
        keys = ("at_ms", "to", "port", "count", "every_ms", "messages", "pause_ms")
        mapping = Mapping(self._document, node, keys, "connections")
        for key in ("at_ms", "to", "port"):
            self._need(mapping, node, key, "the entry of connections")
        dvipa = self._address(mapping, "to")
        first_ms = mapping.number("at_ms", 0, 0, self._heals_ms, "ms")
        every_ms = mapping.number("every_ms", 10, 1, LONGEST_MS, "ms")
        if dvipa is None:
            return None
        one = Opening(
            first_ms,
            dvipa,
            mapping.number("port", 1, 1, 65_535),
            mapping.number("messages", 10_000, 1, 10_000),
            mapping.number("pause_ms", 50, 1, 10_000, "ms"),
        )
        count = mapping.number("count", 1, 1, MOST)
        return [replace(one, at_ms=first_ms + index * every_ms) for index in range(count)]

    # -- what is expected ---------------------------------------------------------------------

    def _expectation(self, node: yaml.Node) -> Expectation | None:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        given = [str(key.value) for key, _ in pairs if key.value in EXPECT]
        if not given:
            remedy = f"Begin with one of {', '.join(EXPECT)}."
            self._document.error(node, "it is not clear what is expected", remedy)
            return None
        kind, further = given[0], EXPECT[given[0]]
        mapping = Mapping(self._document, node, (kind, *further), kind)
        for key in further:
            if key not in WHEN:
                self._need(mapping, node, key, kind)
        dvipa = self._address(mapping, "of") if "of" in further else None
        if "of" in further and dvipa is None:
            return None
        if dvipa is not None and kind != "refusal":
            return self._lasting(node, mapping, kind, dvipa)
        return self._once(mapping, kind, dvipa)

    def _lasting(
        self, node: yaml.Node, mapping: Mapping, kind: str, dvipa: Address
    ) -> Expectation | None:
        if mapping.node("at_ms") is None:
            for key in ("from_ms", "until_ms"):
                self._need(mapping, node, key, f"{kind}, without at_ms,")
        at_ms = mapping.number("at_ms", 0, 0, self._heals_ms, "ms")
        during = During(
            mapping.number("from_ms", at_ms, 0, self._heals_ms, "ms"),
            mapping.number("until_ms", at_ms, 0, self._heals_ms, "ms"),
        )
        if during.from_ms > during.until_ms:
            self._document.error(node, "from_ms is later than until_ms", "Exchange them.")
        if kind == "owner":
            name = self._name(mapping, "owner", NOBODY)
            return Owner(dvipa, None if name == NOBODY else name, during)
        if kind == "owners_at_most":
            return Owners(dvipa, mapping.number(kind, 1, 0, MOST), during)
        names = frozenset(self._members(mapping, "targets"))
        return Targets(dvipa, mapping.number("port", 1, 1, 65_535), names, during)

    def _once(self, mapping: Mapping, kind: str, dvipa: Address | None) -> Expectation | None:
        host = self._name(mapping, "host") if "host" in EXPECT[kind] else ""
        words = ""
        if kind in ("refusal", "warning"):
            words = mapping.text(kind, str, "Give some words of it.") or ""
            if host is None or not words:
                return None
            return Warned(host, words) if dvipa is None else Refused(dvipa, host, words)
        number = mapping.number(kind, 0, 0, MOST)
        if kind == "even_within":
            names = frozenset(self._members(mapping, "among"))
            return Even(names, number) if names else None
        if kind == "opened":
            return Opened(number)
        return Lost(number) if kind == "lost" else Relays(number)


def _port(text: str) -> int | None:
    return read_number(text, 1, 65_535)


def _named(profiles: Iterable[Profile]) -> dict[Address, None]:
    named: dict[Address, None] = {}
    for profile in profiles:
        named |= dict.fromkeys(define.dvipa for define in profile.defines)
        named |= dict.fromkeys(backup.dvipa for backup in profile.backups)
    return named
