"""The profile and the node file, as the code reads them; meanings of keys are the manual's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Container, Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from dvipad.config import distribute, dns, keywords, policies, statements, status
from dvipad.config.health import HEALTH_LIMITS
from dvipad.config.keywords import Keyword, Unsupported
from dvipad.config.labels import LABELS_MAX
from dvipad.config.node import MESH_LIMITS, QUEUE_LIMITS, TABLE_LIMITS, TIMER_LIMITS, parse_node
from dvipad.config.profile import PARSERS
from dvipad.config.quality import QUALITY_LIMITS
from dvipad.config.workload import WORKLOAD_LIMITS
from dvipad.pages.blocks import Block, Code, Head, Para, Terms

LIMITS: Final = {
    f"{section}.{key}": limits
    for section, table in (
        ("timers", TIMER_LIMITS), ("queue", QUEUE_LIMITS), ("tables", TABLE_LIMITS),
        ("health", HEALTH_LIMITS), ("mesh", MESH_LIMITS), ("web", {"port": (1, 65_535)}),
        ("vxlan", {"port": (1, 65_535)}), ("workload", WORKLOAD_LIMITS),
        ("quality", QUALITY_LIMITS),
    )
    for key, limits in table.items()
}  # fmt: skip
_ROW: Final = re.compile(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
_SYNTAX: Final = re.compile(r"``(.+?)``", re.DOTALL)
_NOT_WRITTEN: Final = ("position", "profile_position", "policies_position", "status_position")
SECTIONS: Final = (
    "mesh",
    "vxlan",
    "paths",
    "timers",
    "queue",
    "tables",
    "health",
    "web",
    "workload",
    "quality",
)


def keys_of_code() -> dict[str, str]:
    """Every key of the node file, and its default as it is written."""
    parsed = parse_node("{node: x, xcf: 192.0.2.1, uplinks: [eth0]}", "x", Path())
    assert parsed.node is not None, parsed.problems
    required = {"node": "required", "xcf": "required", "uplinks": "required"}
    return required | _defaults(parsed.node, "")


def _defaults(config: Any, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if name in SECTIONS and is_dataclass(value):
            found |= _defaults(value, f"{name}.")
        elif field.name not in (*_NOT_WRITTEN, "name", "xcf", "uplinks"):
            found[name] = _written(value)
    return found


def _written(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "value", value))


def keys_of_policies() -> tuple[str, ...]:
    """Every key of a policy."""
    inner = {"match": policies.MATCH_KEYS, "targets": policies.TARGET_KEYS}
    return tuple(
        name
        for key in policies.POLICY_KEYS
        for name in ([f"{key}.{each}" for each in inner[key]] if key in inner else [key])
    )


def keys_of_status() -> tuple[str, ...]:
    """Every key of the status file."""
    keys = zip(
        status.TOP_KEYS, (status.OBJECT_KEYS, status.PREFERENCE_KEYS, dns.NAME_KEYS), strict=True
    )
    return tuple(f"{section}.{key}" for section, names in keys for key in names)


def keys_of_manual(manual: str, known: Container[str]) -> dict[str, tuple[str, str]]:
    """Meaning and default of each key, from the tables ``key | meaning | default``."""
    found: dict[str, tuple[str, str]] = {}
    for names, meaning, default in _ROW.findall(manual):
        keys = [name.strip("`") for name in names.split(", ")]
        values = [value.strip("`") for value in default.split(", ")]
        if len(values) == len(keys) and all(key in known for key in keys):
            found |= {key: (meaning, value) for key, value in zip(keys, values, strict=True)}
    return found


def node_file(manual: str) -> list[Block]:
    """All keys of the node file, with meaning, default and limits."""
    told = keys_of_manual(manual, keys_of_code())
    rows = []
    for key, default in keys_of_code().items():
        low, high = LIMITS.get(key, ("", ""))
        span = f"{low} to {high}" if key in LIMITS else ""
        rows.append((f"`{key}`", told.get(key, ("", ""))[0], default, span))
    return [
        Head("Node file"),
        Para(
            "YAML. `a.b` is key `b` of the mapping `a`. Sections that are named are the manual's."
        ),
        Terms(("key", "meaning", "default", "limits"), tuple(rows)),
    ]


def policies_file(manual: str) -> list[Block]:
    """All keys of the policies file, with meaning, default and limits."""
    keys = keys_of_policies()
    told = keys_of_manual(manual, keys)
    limits = (
        ("policies", f"at most {policies.POLICIES_MAX} in the file"),
        ("values of a key", f"at most {policies.VALUES_MAX}"),
        ("labels", f"at most {LABELS_MAX} of a node or a policy"),
        ("threshold", f"0 to {policies.WEIGHT_MAX}"),
        ("figures of `where`", ", ".join(policies.FIGURES)),
        ("names of DSCPs", ", ".join(sorted(policies.DSCPS))),
    )
    return [
        Head("Policies file"),
        Para("YAML: below `policies:` a list of policies. `a.b` is key `b` of the mapping `a`."),
        Terms(("key", "meaning", "default"), tuple((f"`{key}`", *told[key]) for key in keys)),
        Head("Limits of policies"),
        Terms(("of", "limits"), limits),
    ]


def status_file(manual: str) -> list[Block]:
    """All keys of the status file, with meaning, default and limits."""
    keys = keys_of_status()
    told = keys_of_manual(manual, keys)
    counts = (
        ("objects", status.OBJECTS_MAX),
        ("preferences", status.PREFERENCES_MAX),
        ("farms of a preference", status.FARMS_MAX),
        ("dns", dns.NAMES_MAX),
    )
    spans = [
        (f"`{section}.{key}`", f"{low} to {high}")
        for section, limits in (("objects", status.STATUS_LIMITS), ("dns", dns.DNS_LIMITS))
        for key, (low, high) in limits.items()
    ]
    limits = (*((f"`{name}`", f"at most {count}") for name, count in counts), *spans)
    return [
        Head("Status file"),
        Para("YAML. `a.b` is key `b` of each entry of the list `a`."),
        Terms(("key", "meaning", "default"), tuple((f"`{key}`", *told[key]) for key in keys)),
        Head("Limits of the status file"),
        Terms(("of", "limits"), limits),
    ]


def profile() -> list[Block]:
    """The grammar of the profile."""
    parsers = [*PARSERS.values(), distribute.parse_distribute]
    limits = (
        ("rank", f"{statements.MIN_RANK} to {statements.MAX_RANK}"),
        ("WEIGHT", f"0 to {distribute.MAX_WEIGHT}, {distribute.DEFAULT_WEIGHT} by default"),
        ("TIMEDAFFINITY", f"0 to {distribute.MAX_AFFINITY_S} seconds"),
        ("OPTLOCAL", f"0 to {distribute.MAX_OPTLOCAL}"),
        ("PORT", f"at most {distribute.MAX_PORTS} ports and ranges in a statement"),
        ("DESTIP", f"at most {distribute.MAX_TARGETS} targets in a statement"),
    )
    words = sorted(set(_keywords()), key=lambda word: word.name)
    return [
        Head("Profile"),
        Para("Statements stand between `VIPADYNAMIC` and `ENDVIPADYNAMIC`; `;` starts a comment."),
        Code("\n".join(_syntax(parser) for parser in parsers)),
        Para(f"Options of VIPADISTRIBUTE: {_codes(keywords.DISTRIBUTE_OPTIONS)}."),
        Para(f"Methods of DISTMETHOD: {_codes(keywords.METHODS)}."),
        Head("Limits"),
        Terms(("of", "limits"), limits),
        Head("Keywords"),
        Para("In any case; each may be abbreviated, not shorter than this."),
        Terms(("keyword", "shortest"),
              tuple((f"`{word.name}`", f"`{word.name[: word.minimum]}`") for word in words)),
        Head("What z/OS has and dvipad has not"),
        Terms(("keyword", "what to do"), _foreign()),
    ]  # fmt: skip


def _codes(words: Iterable[Keyword]) -> str:
    return ", ".join(f"`{word.name}`" for word in words)


def _syntax(parser: Any) -> str:
    match = _SYNTAX.search(inspect.getdoc(parser) or "")
    assert match, f"{parser.__name__}: its docstring has no syntax"
    return match.group(1)


def _keywords() -> list[Keyword]:
    refused = {entry.keyword for entry in _unsupported()}
    return [word for word in keywords.RESERVED if word not in refused]


def _unsupported() -> tuple[Unsupported, ...]:
    return keywords.UNSUPPORTED_IN_DEFINITIONS + keywords.UNSUPPORTED_IN_DISTRIBUTE


def _foreign() -> tuple[tuple[str, str], ...]:
    rows = {f"`{entry.keyword.name}`": entry.remedy for entry in _unsupported()}
    for name, remedy in keywords.FOREIGN_STATEMENTS.items():
        rows[f"`{name}` (statement)"] = remedy
    return tuple(rows.items())
