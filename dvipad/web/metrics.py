"""``/metrics``: what the daemon tells, for Prometheus.

Most lines are of rows for each DVIPA, port and target. prometheus-client takes 30 µs for a line; so
theirs are made here, and kept until the rows change, and a scrape puts numbers in.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_HOLE: Final = "\0"
"""Where a number is to be put in."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
"""In the value of a label (exposition formats of Prometheus)."""


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
        samples = {_UP: [[1]], **answer["samples"]}
        node = [metric(family, samples.get(family.name, ())) for family in NODE]
        return _text(encode, node) + rows + holes % unpack(answer["connections"])

    def _keep(self, encode: Encoder) -> tuple[bytes, bytes]:
        """Lines that are complete, and lines with holes for numbers."""
        samples = row_samples(self._rows)
        rows = [lines(encode, family, samples[family.name]) for family in DVIPAS]
        targets = [(row[:3], _HOLE) for row in self._rows["targets"]]
        holes = [lines(encode, family, targets) for family in CONNECTIONS]
        template = "".join(holes).replace("%", "%%").replace(_HOLE, "%d")
        return "".join(rows).encode(), template.encode()


class Scrape:
    """What `prometheus_client` asks for metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._metrics


def row_samples(rows: Json) -> dict[str, list[tuple[Sequence[object], object]]]:
    """Samples of `DVIPAS`, by name, of the rows that the daemon told: labels and number."""
    dvipas, targets = rows["dvipas"], rows["targets"]
    return {
        "dvipad_dvipa_role": [
            ((row["dvipa"], role), int(has)) for row in dvipas for role, has in row["roles"].items()
        ],
        "dvipad_dvipa_status": [
            ((row["dvipa"], row["status"], row["origin"]), 1) for row in dvipas
        ],
        "dvipad_dvipa_epoch": [((row["dvipa"],), row["epoch"]) for row in dvipas],
        "dvipad_dvipa_owner": [((row["dvipa"], row["owner"]), 1) for row in dvipas if row["owner"]],
        "dvipad_target_listeners": [(row[:3], row[3]) for row in targets],
        "dvipad_target_weight": [(row[:3], row[4]) for row in targets if row[4] is not None],
    }


def lines(
    encode: Encoder, family: Family, samples: Iterable[tuple[Sequence[object], object]]
) -> str:
    """The lines of a gauge or counter, its head first."""
    head = _text(encode, [metric(family, ())]).decode()
    text = [head]
    for values, number in samples:
        pairs = zip(family.labels, values, strict=True)
        labels = ",".join(f'{name}="{_escape(value)}"' for name, value in pairs)
        text.append(f"{family.name}{{{labels}}} {number}\n")
    return "".join(text)


def _escape(value: object) -> str:
    return str(value).translate(_ESCAPES)


def unpack(numbers: str) -> tuple[int, ...]:
    """Those that ``stats`` packs: base64, 8 bytes each, little-endian."""
    return tuple(memoryview(b64decode(numbers)).cast("Q"))


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
