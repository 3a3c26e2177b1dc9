"""``/metrics``: what the daemon tells, for Prometheus.

Most lines are rows for each DVIPA, port and target. Their text is made once, by prometheus-client,
and kept until the rows change; a scrape puts numbers in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from aiohttp import web
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from dvipad.web.families import CONNECTIONS, DVIPAS, FAMILIES, NODE, Family, Kind
from dvipad.web.source import NoAnswer, Source

__all__ = ["FAMILIES", "Metrics", "Scrape"]

Json: TypeAlias = Mapping[str, Any]
Encoder: TypeAlias = Callable[[Any], bytes]

_UP: Final = "dvipad_up"
_EOF: Final = b"# EOF\n"
_HOLE: Final = (b" NaN\n", b" %d\n")
"""How a line ends into which a number is to be put: as it is made, and as it is kept."""


class Metrics:
    """The route; what it keeps is for one daemon."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._edition: Any = None
        self._rows: Json = {}
        self._kept: dict[str, tuple[bytes, bytes]] = {}

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.get("/metrics", self.serve)]

    async def serve(self, request: web.Request) -> web.Response:
        """Always 200: a daemon that does not answer is a fact to be told (``dvipad_up 0``)."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        try:
            answer = await self._source.ask("stats", known=self._edition)
        except NoAnswer:
            body = _text(encode, [metric(_family(_UP), [[0]])])
        else:
            body = self.render(answer, encode, content_type)
        if "openmetrics" in content_type:
            body += _EOF
        return web.Response(body=body, headers={"Content-Type": content_type})

    def render(self, answer: Json, encode: Encoder, content_type: str) -> bytes:
        """All lines, but for the end of OpenMetrics."""
        if "rows" in answer:
            self._edition, self._rows, self._kept = answer["edition"], answer["rows"], {}
        if content_type not in self._kept:
            self._kept[content_type] = self._keep(encode)
        rows, holes = self._kept[content_type]
        found = answer["connections"]
        numbers = (*found["new"], *found["ended"], *found["active"])
        samples = {_UP: [[1]], **answer["samples"]}
        node = [metric(family, samples.get(family.name, ())) for family in NODE]
        return _text(encode, node) + rows + holes % numbers

    def _keep(self, encode: Encoder) -> tuple[bytes, bytes]:
        """Lines that are complete, and lines with holes."""
        samples = row_samples(self._rows)
        targets = [[*row[:3], math.nan] for row in self._rows["targets"]]
        holes = _text(encode, [metric(family, targets) for family in CONNECTIONS])
        rows = _text(encode, [metric(family, samples[family.name]) for family in DVIPAS])
        return rows, holes.replace(b"%", b"%%").replace(*_HOLE)


class Scrape:
    """What `prometheus_client` asks for metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._metrics


def row_samples(rows: Json) -> dict[str, list[list[Any]]]:
    """Samples of `DVIPAS`, by name, of the rows that the daemon told."""
    dvipas, targets = rows["dvipas"], rows["targets"]
    return {
        "dvipad_dvipa_role": [
            [row["dvipa"], role, int(has)] for row in dvipas for role, has in row["roles"].items()
        ],
        "dvipad_dvipa_status": [[row["dvipa"], row["status"], row["origin"], 1] for row in dvipas],
        "dvipad_dvipa_epoch": [[row["dvipa"], row["epoch"]] for row in dvipas],
        "dvipad_dvipa_owner": [[row["dvipa"], row["owner"], 1] for row in dvipas if row["owner"]],
        "dvipad_target_listeners": [[*row[:3], row[3]] for row in targets],
        "dvipad_target_weight": [[*row[:3], row[4]] for row in targets],
    }


def metric(family: Family, samples: Iterable[Iterable[Any]]) -> Metric:
    """`family` with `samples`: values of its labels, and a number; of a histogram, what
    `Histogram.row` gives."""
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for *labels, (buckets, total) in samples:
            histogram.add_metric(labels, buckets, total)
        return histogram
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    made = make(family.name, family.help, labels=family.labels)
    for *labels, value in samples:
        made.add_metric([str(label) for label in labels], value)
    return made


def _family(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def _text(encode: Encoder, metrics: Iterable[Metric]) -> bytes:
    return encode(Scrape(metrics)).removesuffix(_EOF)
