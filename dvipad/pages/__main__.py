"""``python -m dvipad.pages man|completion|reference TO``: writes what is made from the code."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dvipad import __version__
from dvipad.pages import commands, configuration
from dvipad.pages.blocks import Block, Head, Para, Terms, man, markdown
from dvipad.pages.completion import SHELLS, completion

MANUAL: Final = Path(__file__).parents[2] / "docs" / "manual.md"
_ORIGIN: Final = "Made by `make docs` from the grammar and from the node file's keys."


def reference() -> str:
    """docs/reference.md."""
    manual = MANUAL.read_text()
    files = (configuration.node_file, configuration.policies_file, configuration.status_file)
    blocks = [block for file in files for block in file(manual)] + configuration.profile()
    return f"# Configuration reference\n\n{_ORIGIN}\n\n{markdown(blocks)}"


def man_pages() -> dict[str, str]:
    """Name of the file, and the page."""
    parsers = commands.parsers()
    pages: dict[tuple[str, int], tuple[str, list[Block]]] = {
        ("dvipad", 8): ("dynamic VIPAs and their distribution", commands.page(parsers["dvipad"])),
        ("dvipactl", 1): ("show and steer dvipad", commands.page(parsers["dvipactl"])),
        ("dvipad.yaml", 5): ("node file of dvipad", configuration.node_file(MANUAL.read_text())),
        ("dvipad.policies", 5): (
            "policies file of dvipad",
            configuration.policies_file(MANUAL.read_text()),
        ),
        ("dvipad.status", 5): (
            "status file of dvipad",
            configuration.status_file(MANUAL.read_text()),
        ),
        ("dvipad.profile", 5): ("profile of dvipad", configuration.profile()),
    }
    if metrics := _metrics():
        pages["dvipad-metrics", 7] = ("metrics of dvipad", metrics)
    built_s = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    edition = __version__, time.strftime("%Y-%m-%d", time.gmtime(built_s))
    return {
        f"{name}.{section}": man(name, section, about, blocks, edition)
        for (name, section), (about, blocks) in pages.items()
    }


def _metrics() -> list[Block]:
    try:
        families = importlib.import_module("dvipad.web.metrics").FAMILIES
    except ModuleNotFoundError:
        return []
    kinds = [(family, getattr(family, "kind", None) or family.type) for family in families]
    rows = tuple(
        (family.name, family.help, str(getattr(kind, "value", kind))) for family, kind in kinds
    )
    return [
        Head("Description"),
        Para("What `dvipad web` serves at `/metrics`."),
        Head("Metrics"),
        Terms(("metric", "meaning", "type"), rows),
    ]


def completions() -> dict[str, str]:
    """Name of the file, and the completion."""
    return {
        f"{shell}/{name.format(command)}": completion(parser, shell)
        for shell, name in SHELLS.items()
        for command, parser in commands.parsers().items()
    }


def main(what: str, target: Path) -> int:
    """Write the pages of one kind; returns the exit status."""
    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "man": man_pages,
        "completion": completions,
        "reference": lambda: {"reference.md": reference()},
    }
    if what not in kinds:
        print(f"one of {', '.join(kinds)}, not {what!r}", file=sys.stderr)
        return 2
    for name, text in kinds[what]().items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
