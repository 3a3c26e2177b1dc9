"""The status file (YAML): status objects, preferences by their figures, and names in the DNS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import yaml

from dvipad.address import Address
from dvipad.config.dns import NameConfig, read_names
from dvipad.config.errors import Problem, in_order
from dvipad.config.formula import why_no_formula
from dvipad.config.kinds import KINDS, TIMEOUT_MS, why_no_options
from dvipad.config.labels import WORD_REMEDY, read_word
from dvipad.config.model import NOWHERE, By, FarmScore, PortRange, Position, Preference, Score
from dvipad.config.policies import VALUES_MAX, read_ports
from dvipad.config.source import read_source
from dvipad.config.values import read_address
from dvipad.config.words import one_of
from dvipad.config.yamldoc import Document, Mapping, scalar, top_of

T = TypeVar("T")

OBJECTS_MAX: Final = 32
"""Status objects of a node."""
PREFERENCES_MAX: Final = 64
FARMS_MAX: Final = 64
"""Farms of a preference."""
STATUS_LIMITS: Final = {"interval_ms": (100, 86_400_000), "timeout_ms": (10, 60_000)}
TOP_KEYS: Final = ("objects", "preferences", "dns")
OBJECT_KEYS: Final = ("name", "kind", "port", "dvipa", "interval_ms", "timeout_ms", "options")
PREFERENCE_KEYS: Final = ("name", "dvipa", "port", "by", "figure", "formula", "farms")
SCORE_KEYS: Final = ("by", "figure", "formula")
_OBJECT: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_FIGURE: Final = re.compile(r"[a-z][a-z0-9_]{0,30}\.[a-z][a-z0-9_]{0,30}")
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class ObjectConfig:
    """A status object: what of `kind` reads every `interval_ms`, for `timeout_ms` at most.

    When it fails, the instance of the application on `port` is down: that of `dvipa` if it names
    one. `port` None: nothing is, whatever it says.
    """

    name: str
    kind: str
    port: int | None = None
    dvipa: Address | None = None
    interval_ms: int = 1000
    timeout_ms: int = TIMEOUT_MS
    options: tuple[tuple[str, str], ...] = ()
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """What a status file says."""

    objects: tuple[ObjectConfig, ...] = ()
    preferences: tuple[Preference, ...] = ()
    names: tuple[NameConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedStatus:
    """What a status file says (None when it has errors), and everything wrong with it."""

    status: StatusConfig | None
    problems: tuple[Problem, ...]


def check_status(path: Path) -> ParsedStatus:
    """:func:`parse_status` for a file; one that cannot be read is a problem too."""
    source = read_source(path)
    if source.text is None:
        return ParsedStatus(None, source.problems)
    parsed = parse_status(source.text, source.file, path.parent)
    problems = in_order((*source.problems, *parsed.problems))
    return ParsedStatus(None if problems else parsed.status, problems)


def is_status(path: Path) -> bool:
    """Whether a YAML file is a status file, by its keys."""
    return any(key.value in TOP_KEYS for key, _ in top_of(read_source(path).text))


def parse_status(text: str, file: str, folder: Path) -> ParsedStatus:
    """The status file in `text`; a relative path of a key starts at `folder`. Never raises."""
    document = Document(file)
    root = document.compose(text)
    status = StatusConfig()
    if root is not None:
        top = Mapping(document, root, TOP_KEYS, "the status file")
        status = StatusConfig(
            each_once(top, "objects", OBJECT_KEYS, OBJECTS_MAX, _read_object),
            each_once(top, "preferences", PREFERENCE_KEYS, PREFERENCES_MAX, _read_preference),
            read_names(top, folder),
        )
    problems = in_order(document.problems)
    return ParsedStatus(None if problems else status, problems)


def each_once(
    top: Mapping,
    key: str,
    keys: tuple[str, ...],
    limit: int,
    read: Callable[[Mapping, yaml.Node], T | None],
) -> tuple[T, ...]:
    """A list of mappings, each with a name of its own."""
    document, found = top.document, dict[str, T]()
    for node in top.mappings(key, limit):
        values = Mapping(document, node, keys, f"an entry of {key}")
        made = read(values, node)
        if made is None:
            continue
        name = str(getattr(made, "name"))  # noqa: B009 - each kind of entry has one
        if name in found:
            document.error(node, f"{name} is given before", "Give it another name.")
        found.setdefault(name, made)
    return tuple(found.values())


def _read_object(values: Mapping, node: yaml.Node) -> ObjectConfig | None:
    document = values.document
    words = "Give small letters, digits and '_', beginning with a letter, at most 31."
    name = values.text("name", lambda text: text if _OBJECT.fullmatch(text) else None, words)
    kinds = f"Kinds are {', '.join(KINDS)}, and entry points of the group dvipad.status_objects."
    kind = values.text("kind", lambda text: text if _KIND.fullmatch(text) else None, kinds)
    for key, example in (("name", "web"), ("kind", "http")):
        if values.node(key) is None:
            document.error(node, f"{key} is missing", f"Write '{key}: {example}'.")
    port = values.number("port", 0, 1, 65_535) or None
    dvipa = values.text("dvipa", read_address, "Give an address, as 192.0.2.100.")
    if dvipa is not None and port is None:
        document.error(node, "dvipa without a port", "Say whose instance it is: 'port: 80'.")
    default = ObjectConfig("", "")
    times = values.numbers(STATUS_LIMITS, {key: getattr(default, key) for key in STATUS_LIMITS})
    options = _read_options(document, values.node("options"))
    if kind is not None:
        wrong = why_no_options(kind, options, port)
        if wrong is not None:
            document.error(values.node("options") or node, *wrong)
    if name is None or kind is None:
        return None
    given = tuple(sorted(options.items()))
    return ObjectConfig(
        name, kind, port, dvipa, **times, options=given, position=document.position(node)
    )


def _read_options(document: Document, node: yaml.Node | None) -> dict[str, str]:
    remedy = "Write plain values: {url: 'http://127.0.0.1/health'}."
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        document.error(node, "options is not a mapping", remedy)
        return {}
    if len(node.value) > VALUES_MAX:
        document.error(node, f"more than {VALUES_MAX} options", "Shorten them.")
        return {}
    found: dict[str, str] = {}
    for key, value in node.value:
        name = scalar(document, key, "the name of an option", str, remedy)
        text = scalar(document, value, "the value of an option", str, remedy)
        if name is not None and text is not None:
            found[name] = text
    return found


def _read_preference(values: Mapping, node: yaml.Node) -> Preference | None:
    document = values.document
    name = values.text("name", read_word, WORD_REMEDY)
    if values.node("name") is None:
        document.error(node, "name is missing", "Write 'name: web'.")
    score = _read_score(values, node)
    dvipas: tuple[tuple[yaml.Node, Address], ...]
    dvipas = values.items("dvipa", read_address, "Give addresses, as 192.0.2.100.", VALUES_MAX)
    spans = "Give ports from 1 to 65535, or ranges as 8000-8099."
    ports: tuple[tuple[yaml.Node, PortRange], ...]
    ports = values.items("port", read_ports, spans, VALUES_MAX)
    farms = _read_farms(document, values.node("farms"))
    if name is None or score is None:
        return None
    dvipa = tuple(each for _, each in dvipas)
    port = tuple(each for _, each in ports)
    return Preference(name, score, dvipa, port, farms, document.position(node))


def _read_farms(document: Document, node: yaml.Node | None) -> tuple[FarmScore, ...]:
    remedy = "Write 'farms: {east: {by: fewest-clients, figure: redis.clients}}'."
    if node is None:
        return ()
    if not isinstance(node, yaml.MappingNode) or len(node.value) > FARMS_MAX:
        document.error(node, f"farms is not a mapping of at most {FARMS_MAX} farms", remedy)
        return ()
    found: dict[str, FarmScore] = {}
    for key, value in node.value:
        farm = scalar(document, key, "the name of a farm", read_word, WORD_REMEDY)
        score = _read_score(Mapping(document, value, SCORE_KEYS, "a farm"), value)
        if farm is None or score is None:
            continue
        if farm in found:
            document.error(key, "a farm that is given before", "Keep one of them.")
        found.setdefault(farm, FarmScore(farm, score))
    return tuple(found.values())


def _read_score(values: Mapping, node: yaml.Node) -> Score | None:
    document = values.document
    by = values.text("by", one_of(By), f"Say {', '.join(word.value for word in By)}.")
    if values.node("by") is None:
        document.error(node, "by is missing", "Write 'by: fastest'.")
    if by is None:
        return None
    key, other = ("formula", "figure") if by is By.FORMULA else ("figure", "formula")
    given = values.node(key)
    if values.node(other) is not None:
        document.error(values.node(other) or node, f"{other} with by: {by.value}", f"Give {key}.")
    if given is None:
        example = "64 - redis.clients / 10" if by is By.FORMULA else "web.time_ms"
        document.error(node, f"{key} is missing", f"Write '{key}: {example}'.")
        return None
    if by is By.FORMULA:
        text = values.text(key, str, "Write an expression over figures: 64 - redis.clients / 10.")
        wrong = None if text is None else why_no_formula(text)
        if wrong is not None:
            document.error(given, *wrong)
            return None
    else:
        words = "Name a figure of a status object: web.time_ms."
        text = values.text(key, lambda t: t if _FIGURE.fullmatch(t) else None, words)
    return None if text is None else Score(by, text)
