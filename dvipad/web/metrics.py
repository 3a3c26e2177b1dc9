"""``/metrics``: what the daemon tells, for Prometheus.

prometheus-client negotiates the format, and makes the heads of the metrics. Lines are made here: it
takes 20 µs for each, and there are tens of thousands. Those of rows for each DVIPA, port and target
are kept until the rows change, and a scrape puts numbers in.
"""

from __future__ import annotations

import asyncio
import struct
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Final, TypeAlias

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.exposition import generate_latest as plain
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from dvipad.web.families import CONNECTIONS, DVIPAS, FAMILIES, NODE, Family, Kind
from dvipad.web.source import NoAnswer, Source

__all__ = ["FAMILIES", "Metrics"]

Json: TypeAlias = Mapping[str, Any]
Samples: TypeAlias = Mapping[str, Sequence[Sequence[Any]]]

_UP: Final = "dvipad_up"
_END: Final = "# EOF\n"
_EOF: Final = _END.encode()
_HOLE: Final = "\0"
"""Where a number is to be put in."""
PIECE: Final = 250
"""Lines that are filled at once."""
NUMBER: Final = 8
"""Bytes of a number that ``stats`` packs."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
"""In the value of a label (exposition formats of Prometheus)."""


class Metrics:
    """The route; what it keeps is for one daemon."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._edition: Any = None
        self._rows: Json = {}
        self._kept: dict[str, tuple[bytes, list[_Piece]]] = {}
        self._asking = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.get("/metrics", self.serve)]

    async def serve(self, request: web.Request) -> web.Response:
        """Always 200: a daemon that does not answer is a fact to be told (``dvipad_up 0``)."""
        _encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with self._asking:  # an answer without rows is for the rows that were known
            try:
                answer = await self._source.ask("stats", known=self._edition)
            except NoAnswer:
                body = lines(content_type, NODE[:1], {_UP: [(0,)]}).encode()
            else:
                body = self.render(answer, content_type)
        if _is_open(content_type):
            body += _EOF
        return web.Response(body=body, headers={"Content-Type": content_type})

    def render(self, answer: Json, content_type: str) -> bytes:
        """All lines, but for the end of OpenMetrics."""
        if "rows" in answer:
            self._edition, self._rows, self._kept = answer["edition"], answer["rows"], {}
        if content_type not in self._kept:
            self._kept[content_type] = self._keep(content_type)
        rows, pieces = self._kept[content_type]
        node = lines(content_type, NODE, {_UP: [(1,)], **answer["samples"]}).encode()
        numbers = b64decode(answer["connections"])
        sizes = accumulate((piece.size for piece in pieces), initial=0)
        filled = [
            piece.fill(numbers[at : at + piece.size])
            for piece, at in zip(pieces, sizes, strict=False)
        ]
        return b"".join((node, rows, *filled))

    def _keep(self, content_type: str) -> tuple[bytes, list[_Piece]]:
        """Lines that are complete, and lines with holes for numbers."""
        rows = lines(content_type, DVIPAS, row_samples(self._rows))
        targets = [(*row[:3], _HOLE) for row in self._rows["targets"]]
        holes = lines(content_type, CONNECTIONS, {each.name: targets for each in CONNECTIONS})
        each = holes.splitlines(keepends=True)
        starts = range(0, len(each), PIECE)
        return rows.encode(), [_Piece("".join(each[at : at + PIECE])) for at in starts]


class _Piece:
    """Lines with holes, and as they were filled last: most connections are of few DVIPAs."""

    def __init__(self, text: str) -> None:
        self.size = text.count(_HOLE) * NUMBER
        self._template = text.replace("%", "%%").replace(_HOLE, "%d").encode()
        self._numbers = b""
        self._filled = self._template % () if not self.size else b""

    def fill(self, numbers: bytes) -> bytes:
        """The lines with `numbers`, 8 bytes each, little-endian."""
        if numbers != self._numbers:
            values = struct.unpack(f"<{len(numbers) // NUMBER}Q", numbers)
            self._numbers, self._filled = numbers, self._template % values
        return self._filled


def row_samples(rows: Json) -> dict[str, list[Sequence[Any]]]:
    """Samples of `DVIPAS`, by name, of the rows that the daemon told."""
    dvipas, targets = rows["dvipas"], rows["targets"]
    return {
        "dvipad_dvipa_role": [
            (row["dvipa"], role, int(has)) for row in dvipas for role, has in row["roles"].items()
        ],
        "dvipad_dvipa_status": [(row["dvipa"], row["status"], row["origin"], 1) for row in dvipas],
        "dvipad_dvipa_epoch": [(row["dvipa"], row["epoch"]) for row in dvipas],
        "dvipad_dvipa_owner": [(row["dvipa"], row["owner"], 1) for row in dvipas if row["owner"]],
        "dvipad_target_listeners": [row[:4] for row in targets],
        "dvipad_target_weight": [(*row[:3], row[4]) for row in targets if row[4] is not None],
    }


def lines(content_type: str, families: Iterable[Family], samples: Samples) -> str:
    """The lines of `families`. `samples`, by name: values of the labels, and a number, or what
    `Histogram.row` gives."""
    text = []
    for family in families:
        text.append(_head(content_type, family))
        for *values, value in samples.get(family.name, ()):
            pairs = zip(family.labels, values, strict=True)
            labels = [f'{name}="{_escape(each)}"' for name, each in pairs]
            if family.kind is Kind.HISTOGRAM:
                text += _histogram(family.name, labels, *value)
            else:
                text.append(_line(family.name, labels, value))
    return "".join(text)


def _histogram(
    name: str, labels: list[str], buckets: Sequence[tuple[str, int]], total: float
) -> Iterator[str]:
    for bound, count in buckets:
        yield _line(f"{name}_bucket", [*labels, f'le="{bound}"'], count)
    yield _line(f"{name}_count", labels, buckets[-1][1])
    yield _line(f"{name}_sum", labels, total)


def _line(name: str, labels: list[str], value: object) -> str:
    braces = f"{{{','.join(labels)}}}" if labels else ""
    return f"{name}{braces} {value}\n"


def _escape(value: object) -> str:
    return str(value).translate(_ESCAPES)


@cache
def _head(content_type: str, family: Family) -> str:
    """HELP and TYPE."""
    encode = openmetrics if _is_open(content_type) else plain
    name = family.name.removesuffix("_total")
    return encode(_Heads([Metric(name, family.help, family.kind.value)])).decode().replace(_END, "")


def _is_open(content_type: str) -> bool:
    return "openmetrics" in content_type


class _Heads:
    """What prometheus-client asks for metrics."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
