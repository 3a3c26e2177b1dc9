"""Reports of the daemon, for the web server: from the socket that carries no orders."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

ANSWER_MAX: Final = 64 * 1024 * 1024
"""Bytes of an answer, at the most."""
TIMEOUT_S: Final = 10.0


class NoAnswer(Exception):
    """The daemon does not answer, or says no; the text says why."""


class Source:
    """Asks the daemon behind `path`, a connection for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(
        self, command: str, *, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> dict[str, Any]:
        """One report; raises `NoAnswer`."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange({"command": command, **fields})
        except (OSError, ValueError) as error:
            words = str(error) or "no answer in time"
            raise NoAnswer(f"{self._path}: {words}; is dvipad running?") from error
        if not answer.get("ok"):
            raise NoAnswer(str(answer.get("error", "the daemon closed the connection")))
        return answer

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=ANSWER_MAX)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
            return answer if isinstance(answer, dict) else {}
        finally:
            writer.close()
