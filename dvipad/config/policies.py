"""The policies file (YAML): which targets serve which connection requests (P1-P3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final, TypeVar

import yaml

from dvipad.config.errors import Problem, in_order
from dvipad.config.labels import WORD_REMEDY, read_labels, read_word
from dvipad.config.model import (
    DAY_MINUTES,
    Comparison,
    Condition,
    Device,
    Hours,
    Match,
    Otherwise,
    Policy,
    PortRange,
    Prefix,
    Subset,
    Use,
)
from dvipad.config.source import read_source
from dvipad.config.values import read_address, read_number
from dvipad.config.words import one_of
from dvipad.config.yamldoc import Document, Mapping, top_of

T = TypeVar("T")

POLICIES_MAX: Final = 64
"""Policies in a file."""
VALUES_MAX: Final = 256
"""Values of one key of a policy."""
WEIGHT_MAX: Final = 64
FIGURES: Final = ("weight", "ready", "connections", "tsr", "quality")
"""What a condition may look at."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DSCP_MAX: Final = 63
DSCPS: Final = {
    "be": 0, "le": 1, "va": 44, "ef": 46,
    **{f"cs{number}": 8 * number for number in range(8)},
    **{f"af{a}{b}": 8 * a + 2 * b for a in range(1, 5) for b in range(1, 4)},
}  # fmt: skip
"""Names of code points (IANA, dscp-registry)."""

POLICY_KEYS: Final = ("name", "match", "targets", "threshold", "use", "else")
MATCH_KEYS: Final = ("dvipa", "port", "clients", "dscp", "interface", "device", "hours", "days")
TARGET_KEYS: Final = ("nodes", "labels", "where")
_CONDITION: Final = re.compile(r"([a-z_]+) *(<=|>=|<|>|=) *([0-9]{1,10})")
_HOURS: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])-([01]?[0-9]|2[0-4]):([0-5][0-9])")
_INTERFACE: Final = re.compile(r"[^\s/:\x00-\x1f]{1,15}")


@dataclass(frozen=True, slots=True)
class ParsedPolicies:
    """What a policies file says (None when it has errors), and everything wrong with it."""

    policies: tuple[Policy, ...] | None
    problems: tuple[Problem, ...]


def check_policies(path: Path) -> ParsedPolicies:
    """:func:`parse_policies` for a file; one that cannot be read is a problem too."""
    source = read_source(path)
    if source.text is None:
        return ParsedPolicies(None, source.problems)
    parsed = parse_policies(source.text, source.file)
    problems = in_order((*source.problems, *parsed.problems))
    return ParsedPolicies(None if problems else parsed.policies, problems)


def are_policies(path: Path) -> bool:
    """Whether a YAML file is one of policies: in a node file the same key names such a file."""
    return any(
        key.value == "policies" and isinstance(value, yaml.SequenceNode)
        for key, value in top_of(read_source(path).text)
    )


def parse_policies(text: str, file: str) -> ParsedPolicies:
    """The policies in `text`, in their order. Never raises."""
    document = Document(file)
    root = document.compose(text)
    policies: tuple[Policy, ...] = ()
    if root is not None:
        top = Mapping(document, root, ("policies",), "the policies file")
        policies = _read_list(document, top.mappings("policies", POLICIES_MAX))
    problems = in_order(document.problems)
    return ParsedPolicies(None if problems else policies, problems)


def _read_list(document: Document, nodes: tuple[yaml.Node, ...]) -> tuple[Policy, ...]:
    found: dict[str, Policy] = {}
    for item in nodes:
        policy = _read_policy(Mapping(document, item, POLICY_KEYS, "a policy"), item)
        if policy is None:
            continue
        if policy.name in found:
            document.error(item, f"policy {policy.name} is given before", "Give it another name.")
        found.setdefault(policy.name, policy)
    return tuple(found.values())


def _read_policy(values: Mapping, node: yaml.Node) -> Policy | None:
    document = values.document
    name = values.text("name", read_word, WORD_REMEDY)
    if values.node("name") is None:
        document.error(node, "name is missing", "Write 'name: office'.")
    use = values.text("use", one_of(Use), "Say prefer or restrict.") or Use.PREFER
    words = "Say any, best-outside or refuse."
    default = Otherwise.REFUSE if use is Use.RESTRICT else Otherwise.ANY
    otherwise = values.text("else", one_of(Otherwise), words) or default
    threshold = None
    if values.node("threshold") is not None:
        threshold = values.number("threshold", 0, 0, WEIGHT_MAX)
    match = _read_match(Mapping(document, values.node("match"), MATCH_KEYS, "match"))
    subset = _read_subset(document, node, values.node("targets"))
    if name is None:
        return None
    return Policy(name, match, subset, threshold, use, otherwise, document.position(node))


def _read_match(values: Mapping) -> Match:
    def all_of(key: str, read: Callable[[str], T | None], remedy: str) -> tuple[T, ...]:
        return tuple(value for _, value in values.items(key, read, remedy, VALUES_MAX))

    days = all_of("days", _read_days, "Give days as mon, or mon-fri.")
    return Match(
        all_of("dvipa", read_address, "Give addresses, as 192.0.2.100."),
        all_of("port", read_ports, "Give ports from 1 to 65535, or ranges as 8000-8099."),
        all_of("clients", _read_prefix, "Give subnets, as 192.0.2.0/24 or 2001:db8::/32."),
        all_of("dscp", read_dscp, "Give numbers from 0 to 63, or names as ef, af41, cs3."),
        all_of("interface", _read_interface, "Give names of interfaces, as 'ip link' shows them."),
        all_of("device", one_of(Device), "Devices are linux, windows, apple and other."),
        all_of("hours", _read_hours, 'Give times of the day, quoted: "08:00-18:00".'),
        tuple(sorted({day for span in days for day in span})),
    )


def _read_subset(document: Document, policy: yaml.Node, given: yaml.Node | None) -> Subset:
    values = Mapping(document, given, TARGET_KEYS, "targets")
    if not any(values.node(key) for key in TARGET_KEYS):
        what = "targets is missing" if given is None else "targets names nobody"
        remedy = "Write 'targets: {nodes: [...]}', or labels, or where: [weight > 40]."
        document.error(given or policy, what, remedy)
    figures = ", ".join(FIGURES)
    where = f"Compare a figure ({figures}) with a number by <, <=, =, >= or >: weight > 40."
    return Subset(
        tuple(name for _, name in values.items("nodes", read_word, WORD_REMEDY, VALUES_MAX)),
        read_labels(document, values.node("labels")),
        tuple(each for _, each in values.items("where", _read_condition, where, VALUES_MAX)),
    )


def read_ports(text: str) -> PortRange | None:
    """A port, or a range of ports; None for anything else."""
    low, dash, high = text.partition("-")
    first, last = (read_number(part, 1, 65_535) for part in (low, high if dash else low))
    return PortRange(first, last) if first and last and first <= last else None


def _read_prefix(text: str) -> Prefix | None:
    try:
        network = ip_network(text)
    except ValueError:
        return None
    return Prefix(network.network_address, network.prefixlen)


def read_dscp(text: str) -> int | None:
    """The code point of that name or number; None when there is none."""
    return DSCPS.get(text.lower(), read_number(text, 0, DSCP_MAX))


def _read_interface(text: str) -> str | None:
    return text if text.isprintable() and _INTERFACE.fullmatch(text) else None


def _read_hours(text: str) -> Hours | None:
    found = _HOURS.fullmatch(text.replace(" ", ""))
    if found is None:
        return None
    a, b, c, d = map(int, found.groups())
    start, end = 60 * a + b, 60 * c + d
    return Hours(start, end % DAY_MINUTES) if end <= DAY_MINUTES and start != end else None


def _read_days(text: str) -> tuple[int, ...] | None:
    low, dash, high = text.lower().partition("-")
    if low not in DAYS or (dash and high not in DAYS):
        return None
    first = DAYS.index(low)
    count = (DAYS.index(high) - first) % 7 if dash else 0
    return tuple((first + step) % 7 for step in range(count + 1))


def _read_condition(text: str) -> Condition | None:
    found = _CONDITION.fullmatch(text.strip())
    if found is None or found[1] not in FIGURES:
        return None
    return Condition(found[1], Comparison(found[2]), int(found[3]))
