"""The queries of the dashboards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "config" / "grafana"


def queries(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where it is, and the query, with `values` for its variables."""
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"]
                for name, value in values.items():
                    query = query.replace(f"${name}", value)
                yield f"{path.stem}: {panel['title']} {target['refId']}", query
