"""`docs/protocol.md` says what the code of the mesh does: messages, fields, faults and limits."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import pytest

from dvipad.adapters.bpf.layout import CONNECTION
from dvipad.adapters.mesh import MAX_BUFFERED
from dvipad.address import Address
from dvipad.config.model import Position
from dvipad.versions import GREETING, NEWEST, OLDEST
from dvipad.wire import codec, datagram, framing, links, mesh, messages, redial, session
from dvipad.wire.errors import Fault
from tests.documents.blocks import ROOT

TEXT: Final = (ROOT / "docs/protocol.md").read_text()
SECTIONS: Final[dict[str, str]] = dict(
    re.findall(r"^#+ ([\d.]+ .+)\n((?:(?!#).*\n?)*)", TEXT, re.MULTILINE)
)
NAMES: Final[dict[Any, str]] = {
    Address: "address",
    int: "number",
    bool: "flag",
    str: "text",
    bytes: "connections",
}
LIMITS: Final = {
    "MAX_FRAME": framing.MAX_FRAME,
    "MAX_GREETING": session.MAX_GREETING,
    "MAX_ITEMS": codec.MAX_ITEMS,
    "MAX_TEXT": codec.MAX_TEXT,
    "MAX_CONNECTIONS": messages.MAX_CONNECTIONS,
    "MAX_DATAGRAM": datagram.MAX_DATAGRAM,
    "MAX_PEERS": mesh.MAX_PEERS,
    "MAX_UNGREETED": mesh.MAX_UNGREETED,
    "MAX_UNGREETED_EACH": mesh.MAX_UNGREETED_EACH,
    "MAX_ENDPOINTS": redial.MAX_ENDPOINTS,
    "MAX_MISFITS": links.MAX_MISFITS,
}


def section(name: str) -> str:
    found = [text for title, text in SECTIONS.items() if title.split(" ", 1)[1] == name]
    assert len(found) == 1, f"docs/protocol.md has {len(found)} sections {name!r}"
    return found[0]


def table(name: str) -> list[list[str]]:
    """The rows of a section's tables, without their heads, as cells without marks."""
    lines = [line for line in section(name).splitlines() if line.startswith("|")]
    rows = [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines]
    ruled = [index for index, row in enumerate(rows) if set(row) == {"---"}]
    heads = {index - 1 for index in ruled}
    return [row for index, row in enumerate(rows) if index not in heads and index not in ruled]


def kind_name(hint: Any) -> str:
    """What the document calls a type."""
    if hint in NAMES:
        return NAMES[hint]
    if get_origin(hint) is tuple:
        return f"list of {kind_name(get_args(hint)[0])}"
    if get_origin(hint) in (Union, UnionType):
        kinds = tuple(kind for kind in get_args(hint) if kind is not type(None))
        inner = Union[kinds]  # noqa: UP007 - made at run time
        return f"{kind_name(inner)} or null"
    name: str = hint.__name__
    return name


def inside(hint: Any) -> set[type]:
    """The values and words that a type has in it."""
    if is_dataclass(hint) and isinstance(hint, type):
        kinds = get_type_hints(hint)
        below = [inside(kinds[item.name]) for item in fields(hint) if kinds[item.name] != Position]
        return {hint}.union(*below)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {hint}
    return set().union(*map(inside, get_args(hint)))


FOUND: Final = set().union(*map(inside, codec.TYPES.values()))
WORDS: Final = {kind for kind in FOUND if issubclass(kind, Enum)}
VALUES: Final = FOUND - WORDS - set(codec.TYPES.values())


def default_name(default: Any) -> str:
    if default is MISSING:
        return ""
    if isinstance(default, Enum):
        return str(default.value)
    if default is None:
        return "null"
    if isinstance(default, bytes):
        return "none"
    return str(default).lower() if isinstance(default, int) else "empty"


def test_every_message_has_its_number() -> None:
    told = dict(re.findall(r"^### 4\.(\d+) (\w+)$", TEXT, re.MULTILINE))
    assert told == {str(number): kind.__name__ for number, kind in codec.TYPES.items()}


@pytest.mark.parametrize(
    "kind",
    [*codec.TYPES.values(), *sorted(VALUES, key=lambda kind: str(kind.__name__))],
    ids=lambda kind: kind.__name__,
)
def test_every_field_is_told(kind: Any) -> None:
    kinds = get_type_hints(kind)
    expected = []
    for item in fields(kind):
        if kinds[item.name] is Position:
            continue
        limits = codec._RANGES.get((kind, item.name))
        span = "–".join(map(str, limits)) if limits else ""  # noqa: RUF001 - as in the document
        expected.append([item.name, kind_name(kinds[item.name]), span, default_name(item.default)])
    assert table(kind.__name__) == expected


def test_every_value_and_word_is_told() -> None:
    told = re.findall(r"^### 5\.\d+ (\w+)$", TEXT, re.MULTILINE)
    assert sorted(told) == sorted([*(kind.__name__ for kind in VALUES), "Words"])
    words = {kind.__name__: ", ".join(item.value for item in kind) for kind in WORDS}
    assert dict(table("Words")) == words


def test_frames_and_datagrams() -> None:
    spoken = " and ".join(str(version) for version in range(OLDEST, NEWEST + 1))
    assert f"\nVersions {spoken}. " in TEXT
    assert f"the greeting, have version {GREETING} for ever" in TEXT
    assert "| 14 | H | header" in TEXT and framing.PREFIX_SIZE == 14
    assert f"The datagram has {datagram.BEAT_SIZE} bytes" in TEXT
    for magic in (framing.MAGIC, datagram.MAGIC):
        assert f"| magic `{magic.decode()}` |" in TEXT
    assert CONNECTION.size == codec.CONNECTION_SIZE
    assert f"One connection is {codec.CONNECTION_SIZE} bytes" in TEXT


def test_what_each_version_brought() -> None:
    told = dict(table("Versions"))
    assert list(told) == [str(version) for version in range(1, NEWEST + 1)]
    for (kind, field), version in codec.SINCE.items():
        assert ".".join(filter(None, (kind.__name__, field))) in told[str(version)].split(", ")
        assert f"ince version {version}" in section(kind.__name__)


def test_every_fault_is_told() -> None:
    assert [row[0] for row in table("Faults")] == [fault.value for fault in Fault]


def test_limits() -> None:
    assert {name: int(limit) for name, limit, _ in table("Limits")} == LIMITS
    assert f"when {MAX_BUFFERED >> 20} MiB" in TEXT
    kinds = {kind: limits for kind, _, limits in table("Values")}
    assert kinds["text"].startswith(f"{codec.MAX_TEXT} characters")
    assert kinds["list of X"] == f"{codec.MAX_ITEMS} items"
    assert f"{messages.MAX_CONNECTIONS} connections" in kinds["connections"]
    assert codec.MAX_NUMBER == 2**63 - 1 and "2^63 - 1" in kinds["number"]


def test_states_of_a_session() -> None:
    told = {row[0] for row in table("Sessions")} | {row[-1] for row in table("Sessions")}
    assert {state.name for state in session.State} <= told


def test_timers() -> None:
    settings = session.SessionSettings()
    assert f"`heartbeat_ms` ({settings.heartbeat_ms})" in TEXT
    assert f"`dead_ms` ({settings.dead_ms})" in TEXT
    assert f"not OPEN {settings.handshake_ms} ms after" in TEXT.replace("\n", " ")
