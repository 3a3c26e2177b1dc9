"""YAML with positions: composes a document and reads typed values out of its mappings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import yaml

from dvipad.config.errors import Problem
from dvipad.config.model import Position
from dvipad.config.values import read_number

_Value = TypeVar("_Value")
_MAX_YAML_CHARACTERS: Final = 65_536
_NULL: Final = "tag:yaml.org,2002:null"
_EMPTY: Final = ("", "null", "~")


def top_of(text: str | None) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values at the top of a YAML file, to see what it is; none when that is no mapping.
    What is wrong with it is another's to say."""
    root = None if text is None else Document("").compose(text)
    return root.value if isinstance(root, yaml.MappingNode) else []


class Document:
    """One YAML file: its problems so far, and positions of its nodes."""

    def __init__(self, file: str) -> None:
        self.file: Final = file
        self.problems: list[Problem] = []

    def position(self, node: yaml.Node) -> Position:
        """Where `node` starts."""
        return self._at(node.start_mark)

    def _at(self, mark: yaml.Mark | None) -> Position:
        return Position(self.file, mark.line + 1, mark.column + 1) if mark else self._start()

    def _start(self) -> Position:
        return Position(self.file, 1, 1)

    def error(self, node: yaml.Node, message: str, remedy: str) -> None:
        """Notes an error at `node`, with its text when it is a plain value."""
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        self.problems.append(Problem(self.position(node), text, message, remedy))

    def error_at(self, position: Position, text: str, message: str, remedy: str) -> None:
        """Notes an error at `position`."""
        self.problems.append(Problem(position, text, message, remedy))

    def compose(self, text: str) -> yaml.Node | None:
        """The root node of `text`; None when it is empty or no YAML, which is then noted."""
        remedy = "Correct the YAML: two blanks for each level, 'key: value' on each line."
        if len(text) > _MAX_YAML_CHARACTERS:
            message = f"longer than {_MAX_YAML_CHARACTERS} characters"
            self.error_at(self._start(), "", message, "A node file has a page at most.")
            return None
        loader: yaml.SafeLoader | None = None
        try:
            loader = yaml.SafeLoader(text)
            return loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.error_at(self._at(mark), "", f"not YAML: {error.problem}", remedy)
        except yaml.reader.ReaderError as error:
            self.error_at(*self._unreadable(text, int(error.position)))
        except (ValueError, OverflowError, RecursionError) as error:
            # PyYAML lets these through for wild escapes, huge numbers and deep nesting.
            mark = loader.get_mark() if loader is not None else None
            self.error_at(self._at(mark), "", f"not YAML: {error}", remedy)
        return None

    def _unreadable(self, text: str, index: int) -> tuple[Position, str, str, str]:
        line = text.count("\n", 0, index) + 1
        column = index - (text.rfind("\n", 0, index) + 1) + 1
        remedy = "Remove the character: it is not allowed in YAML."
        return Position(self.file, line, column), text[index : index + 1], "not YAML", remedy


class Mapping:
    """A YAML mapping of which each known key is read once; the others are errors.

    Every reader reports what is wrong, and then answers the default.
    """

    def __init__(
        self, document: Document, node: yaml.Node | None, known: Iterable[str], what: str
    ) -> None:
        self.document: Final = document
        self._nodes: dict[str, yaml.Node] = {}
        self._known: Final = tuple(known)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._add(key, value, what)
        elif node is not None:
            remedy = f"Write 'key: value' lines; keys are {', '.join(self._known)}."
            document.error(node, f"{what} is not a mapping", remedy)

    def _add(self, key: yaml.Node, value: yaml.Node, what: str) -> None:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in self._known:
            close = difflib.get_close_matches(name.lower()[:40], self._known, 1, 0.6)
            remedy = f"Keys of {what} are {', '.join(self._known)}."
            if close:
                remedy = f"Did you mean {close[0]}? {remedy}"
            self.document.error(key, "unknown key", remedy)
        elif name in self._nodes:
            self.document.error(key, "a key that is given before", "Keep one of them.")
        else:
            self._nodes[name] = value

    def node(self, key: str) -> yaml.Node | None:
        """The value of `key` as a YAML node, None when it is not given."""
        return self._nodes.get(key)

    def number(self, key: str, default: int, low: int, high: int, unit: str = "") -> int:
        """A decimal number from `low` to `high`."""
        node = self._nodes.get(key)
        if node is None:
            return default
        value = read_number(node.value, low, high) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            remedy = f"Give a whole number from {low} to {high}{unit and ' ' + unit}."
            self.document.error(node, f"{key} is not such a number", remedy)
            return default
        return value

    def numbers(
        self, limits: dict[str, tuple[int, int]], defaults: dict[str, int]
    ) -> dict[str, int]:
        """Decimal numbers, each within its `limits`; what is absent or refused is as by default."""
        return {
            key: self.number(key, defaults[key], low, high, "ms" * key.endswith("_ms"))
            for key, (low, high) in limits.items()
        }

    def text(self, key: str, read: Callable[[str], _Value], remedy: str) -> _Value | None:
        """A plain value that `read` understands; None when absent or refused."""
        node = self._nodes.get(key)
        return None if node is None else scalar(self.document, node, key, read, remedy)

    def items(
        self, key: str, read: Callable[[str], _Value | None], remedy: str, limit: int
    ) -> tuple[tuple[yaml.Node, _Value], ...]:
        """A list of values, or one value for a list of one, each with its node."""
        node = self._nodes.get(key)
        if node is None:
            return ()
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if len(nodes) > limit:
            self.document.error(node, f"more than {limit} entries in {key}", "Shorten the list.")
            return ()
        values = [(item, scalar(self.document, item, key, read, remedy)) for item in nodes]
        return tuple((item, value) for item, value in values if value is not None)

    def mappings(self, key: str, limit: int) -> tuple[yaml.Node, ...]:
        """The entries of a list, each of which should be a mapping."""
        node = self._nodes.get(key)
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value in _EMPTY):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.document.error(node, f"{key} is not a list", f"Write '{key}:', and '- …' below.")
            return ()
        if len(node.value) > limit:
            self.document.error(node, f"more than {limit} entries in {key}", "Shorten the list.")
            return ()
        return tuple(node.value)


def scalar(
    document: Document,
    node: yaml.Node,
    what: str,
    read: Callable[[str], _Value],
    remedy: str,
) -> _Value | None:
    """The plain value `node` as `read` understands it; anything else is noted."""
    if not isinstance(node, yaml.ScalarNode):
        document.error(node, f"{what} is not a plain value", remedy)
        return None
    value: _Value | None = None
    if node.value and node.tag != _NULL and "\0" not in node.value:
        value = read(node.value)
    if value is None:
        document.error(node, f"{what} is not valid", remedy)
    return value
