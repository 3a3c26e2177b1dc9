"""Labels: properties of nodes, as ``rack: a``, in node files and in policies."""

from __future__ import annotations

import re
from typing import Final

import yaml

from dvipad.config.model import FARM, Label
from dvipad.config.yamldoc import Document, Mapping, scalar

LABELS_MAX: Final = 16
"""Labels of a node, and of a policy, at the most."""
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_WORDS: Final = "Give letters, digits, '.', '-' and '_', at most 63: {rack: a, speed: fast}."


WORD_REMEDY: Final = "Give letters, digits, '.', '-' and '_', at most 63."


def read_word(text: str) -> str | None:
    """`text` when it can be a key or a value of a label."""
    return text if _WORD.fullmatch(text) else None


def read_labels(document: Document, node: yaml.Node | None) -> tuple[Label, ...]:
    """The labels of the mapping `node`, sorted; what is wrong with it is noted."""
    if node is None:
        return ()
    if not isinstance(node, yaml.MappingNode):
        document.error(node, "labels is not a mapping", _WORDS)
        return ()
    if len(node.value) > LABELS_MAX:
        document.error(node, f"more than {LABELS_MAX} labels", "Keep those that policies use.")
        return ()
    found: dict[str, str] = {}
    for key, value in node.value:
        name = scalar(document, key, "the name of a label", read_word, _WORDS)
        word = scalar(document, value, "the value of a label", read_word, _WORDS)
        if name in found:
            document.error(key, "a label that is given before", "Keep one of them.")
        elif name is not None and word is not None:
            found[name] = word
    return tuple(Label(name, word) for name, word in sorted(found.items()))


def read_farm(top: Mapping, labels: tuple[Label, ...]) -> str | None:
    """The key `farm` of a node file; it counts as one of the `labels`."""
    farm: str | None = top.text(FARM, read_word, "Give the name of a farm, as east.")
    given = top.node(FARM)
    if given is not None and any(label.key == FARM for label in labels):
        top.document.error(given, "a label farm is given, too", "Keep one of them.")
    return farm
