"""The list of metrics: in step with the manual, and named by the rules; the lines of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

from dvipad.adapters.histogram import Histogram
from dvipad.stats import pack
from dvipad.web.families import CONNECTIONS, DVIPAS, FAMILIES, Kind, table
from dvipad.web.metrics import PIECE, Metrics
from dvipad.web.source import Source

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
PARSERS: list[tuple[str, Callable[[str], Any]]] = [
    ("application/openmetrics-text; version=1.0.0", strict),
    ("text/plain", plain),
]


def test_the_manual_has_the_table() -> None:
    assert "\n".join(table()) in DOCUMENT.read_text(), "dvipad.web.families.table() has the lines"


def test_names_follow_the_conventions() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert re.fullmatch(r"dvipad_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER), family.name
        assert not re.search(r"_(ms|us|ns|kb|mb|percent|milli\w*)(_|$)", family.name)
        assert "|" not in family.help
        assert len(family.help) > 15


def test_histograms_count_what_is_below_each_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    buckets, total = histogram.row()
    assert buckets == [("0.1", 2), ("1.0", 3), ("+Inf", 4)]
    assert total == pytest.approx(7.65)


@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 3), max_size=2 * PIECE), st.data())
@settings(deadline=None, max_examples=30)
def test_numbers_come_to_their_rows(
    columns: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Also to rows of which only some have changed since the last scrape."""
    metrics = Metrics(Source(Path("nobody")))
    told = answer("t1")
    told["rows"]["targets"] = [["192.0.2.100", port, "t1", 1, None] for port in range(len(columns))]
    for _ in range(2):
        told["connections"] = pack(*zip(*columns, strict=True))
        text = metrics.render(told, "text/plain").decode()
        told.pop("rows", None)
        for place, kind in enumerate(("new_total", "ended_total", "active")):
            found = re.findall(rf"^dvipad_connections_{kind}{{.*}} (\d+)$", text, re.MULTILINE)
            assert found == [str(row[place]) for row in columns]
        if columns:
            columns[data.draw(st.integers(0, len(columns) - 1))] = (1, 2, 3)


def answer(name: str) -> dict[str, Any]:
    """One DVIPA, with one target of that name."""
    row = {
        "dvipa": "192.0.2.100",
        "roles": {"owner": True, "backup": False, "target": False},
        "status": "ACTIVE",
        "origin": "VIPADEFINE",
        "epoch": 3,
        "owner": name,
    }
    return {
        "edition": [1, 1],
        "rows": {"dvipas": [row], "targets": [["192.0.2.100", 80, name, 2, 10]]},
        "connections": pack([7], [4], [3]),
        "samples": {"dvipad_move_seconds": [["takeback", [[["1.0", 1], ["+Inf", 2]], 5.5]]]},
    }


@pytest.mark.parametrize(("accept", "parse"), PARSERS, ids=["openmetrics", "text"])
@pytest.mark.parametrize("name", ["t1", 'a"b\\c\nd', "100%d %% NaN"])
def test_lines_say_what_the_daemon_said(
    accept: str, parse: Callable[[str], Any], name: str, tmp_path: Path
) -> None:
    _encode, content_type = choose_encoder(accept)
    metrics = Metrics(Source(tmp_path / "nobody"))
    first = answer(name)
    metrics.render(first, content_type)
    del first["rows"]
    first["connections"] = pack([8], [5], [2])
    text = metrics.render(first, content_type).decode()
    families = list(parse(text + ("# EOF\n" if parse is strict else "")))
    samples = {
        (sample.name, *dict(sorted(sample.labels.items(), key=_le_last)).values()): sample.value
        for family in families
        for sample in family.samples
    }
    row = ("192.0.2.100", "80", name)
    assert samples["dvipad_connections_new_total", *row] == 8
    assert samples["dvipad_connections_ended_total", *row] == 5
    assert samples["dvipad_connections_active", *row] == 2
    assert samples["dvipad_target_listeners", *row] == 2
    assert samples["dvipad_target_weight", *row] == 10
    assert samples["dvipad_dvipa_owner", "192.0.2.100", name] == 1
    assert samples["dvipad_move_seconds_bucket", "takeback", "+Inf"] == 2
    known = {family.name.removesuffix("_total") for family in FAMILIES}
    assert {family.name.removesuffix("_total") for family in families} <= known
    for family in (*DVIPAS, *CONNECTIONS):
        assert f"# HELP {family.name.removesuffix('_total')}" in text


def _le_last(label: tuple[str, str]) -> bool:
    return label[0] == "le"


def test_rows_that_are_gone_have_no_lines(tmp_path: Path) -> None:
    _encode, content_type = choose_encoder("text/plain")
    metrics = Metrics(Source(tmp_path / "nobody"))
    metrics.render(answer("t1"), content_type)
    nothing = {
        "edition": [1, 2],
        "rows": {"dvipas": [], "targets": []},
        "connections": pack(),
        "samples": {},
    }
    assert b"192.0.2.100" not in metrics.render(nothing, content_type)
