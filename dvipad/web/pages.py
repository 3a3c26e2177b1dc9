"""The page of the cluster, and what it asks for; everything is read only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from dvipad.config.values import read_number
from dvipad.web.live import Live, TooMany
from dvipad.web.source import NoAnswer, Source

FILES: Final = Path(__file__).parent / "page"
ROWS_MAX: Final = 20
"""Connections in one answer."""
WRITE_S: Final = 10.0
"""A browser that takes nothing for so long is dropped."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Nothing from elsewhere, nothing guessed, no frame around it, no old page after an upgrade."""


@web.middleware
async def guarded(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers with `HEADERS`; a daemon that does not answer is a 503 with the reason."""
    try:
        response = await handler(request)
    except NoAnswer as error:
        response = _refused(503, str(error))
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


def _refused(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


class Pages:
    """`/` and `/api/…`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._live = Live(source)

    def routes(self) -> list[web.AbstractRouteDef]:
        """All of them."""
        return [
            web.get("/", self._index),
            web.static("/page", FILES),
            web.get("/api/view", self._view),
            web.get("/api/events", self._events),
            web.get("/api/connection", self._connection),
            web.get("/api/live", self._stream),
        ]

    async def _index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(FILES / "index.html")

    async def _view(self, _request: web.Request) -> web.Response:
        return web.json_response((await self._source.ask("view"))["view"])

    async def _events(self, request: web.Request) -> web.Response:
        after = read_number(request.query.get("after", "0"), 0, 2**53)
        if after is None:
            return _refused(400, "after is the number of an event, or 0")
        answer = await self._source.ask("events", after=after)
        return web.json_response({key: answer[key] for key in ("events", "lost", "newest")})

    async def _connection(self, request: web.Request) -> web.Response:
        """Where connections of ``client`` go; ``port`` and ``dvipa`` narrow it down."""
        asked: dict[str, Any] = {"limit": ROWS_MAX}
        for name in ("client", "dvipa"):
            text = request.query.get(name, "").strip()
            if not text:
                continue
            try:
                asked[name] = str(ip_address(text))
            except ValueError:
                return _refused(400, f"{name} {text!r} is no IP address")
        if "client" not in asked:
            return _refused(400, "client is missing: the address of a client")
        if port := request.query.get("port", "").strip():
            asked["client_port"] = read_number(port, 1, 65_535)
            if asked["client_port"] is None:
                return _refused(400, f"port {port!r} is no number from 1 to 65535")
        answer = await self._source.ask("crt", **asked)
        return web.json_response({key: answer[key] for key in ("total", "rows")})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events for as long as the browser listens."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        async with aclosing(self._live.subscribe()) as messages:
            try:
                async for name, content in messages:
                    if not response.prepared:
                        await response.prepare(request)
                    text = json.dumps(content, separators=(",", ":"))
                    async with asyncio.timeout(WRITE_S):
                        await response.write(f"event: {name}\ndata: {text}\n\n".encode())
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()  # what it has not read is not kept for it
            except TooMany:
                return _refused(503, "too many browsers")
            except ConnectionError:
                pass  # it has gone
        return response
