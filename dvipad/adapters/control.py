"""The control socket: what `dvipactl` asks the daemon.

One JSON object a line in, one out: ``{"command": "view"}`` answers ``{"ok": true, …}``, a request
that cannot be served ``{"ok": false, "error": "…"}``. Rubbish is answered and harms nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

LINE_MAX: Final = 65_536
"""Bytes of a request, at the most."""
CLIENTS_MAX: Final = 32
"""Clients at once; further ones are told so."""
PIECE: Final = 250
"""Items of a list that are made JSON at once: the daemon does nothing else meanwhile, and a list of
50,000 connections would take as long as it takes others to believe that it is dead."""
OWNER_ONLY: Final = 0o600
IDLE_S: Final = 60.0
"""A client that says nothing for so long is dropped."""

Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]

log = logging.getLogger(__name__)


class ControlError(Exception):
    """The request cannot be served; the text says why."""


class ControlServer:
    """Serves `handlers`, by command, on a Unix socket with the permissions `mode`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], mode: int) -> None:
        self._path = path
        self._mode = mode
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listen; a socket that a dead daemon left is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._client, path=str(self._path), limit=LINE_MAX
        )
        self._path.chmod(self._mode)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > CLIENTS_MAX:
                await _answer(writer, {"ok": False, "error": "too many clients"})
                return
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._clients -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
            except ValueError:
                await _answer(writer, {"ok": False, "error": f"a request has {LINE_MAX} bytes"})
                return
            if not line:
                return
            await _answer(writer, await self._handle(line))

    async def _handle(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ControlError("a request is a JSON object")
            handler = self._handlers.get(str(request.get("command")))
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise ControlError(f"unknown command; there are {known}")
            return {"ok": True, **await handler(request)}
        except (ValueError, RecursionError) as error:
            return {"ok": False, "error": f"not JSON: {error}"}
        except ControlError as error:
            return {"ok": False, "error": str(error)}


async def _answer(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    for piece in pieces(answer):
        writer.write(piece.encode())
        await asyncio.sleep(0)
    writer.write(b"\n")
    await writer.drain()


def pieces(value: object) -> Iterator[str]:
    """The JSON of `value` in pieces, none of which takes long to make."""
    if isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            yield f"{',' if index else '{'}{json.dumps(key)}:"
            yield from pieces(item)
        yield "}" if value else "{}"
    elif isinstance(value, list) and len(value) > PIECE:
        for start in range(0, len(value), PIECE):
            part = json.dumps(value[start : start + PIECE], separators=(",", ":"))
            yield f"{',' if start else '['}{part[1:-1]}"
        yield "]"
    else:
        yield json.dumps(value, separators=(",", ":"))
