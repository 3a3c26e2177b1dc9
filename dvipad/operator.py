"""What the daemon answers the operator over the control socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from dvipad.adapters.control import ControlError, ControlServer
from dvipad.adapters.jsonable import jsonable
from dvipad.address import Address

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

CRT_ROWS_MAX: Final = 100_000
"""Rows of the CRT in one answer, at the most."""
CRT_ROWS: Final = 1_000
"""Rows of the CRT in one answer, unless asked for more."""


class Operator:
    """Serves ``view``, ``crt``, ``counters`` and ``config``."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._server = ControlServer(
            daemon.config.paths.run / "control.sock",
            {
                "view": self._view,
                "crt": self._crt,
                "counters": self._counters,
                "config": self._config,
            },
        )

    async def start(self) -> None:
        """Listen for `dvipactl`."""
        await self._server.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def _view(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        view = jsonable(self._daemon.node.view())
        view["wall_ms"] = time.time_ns() // 1_000_000
        totals = await self._kernel(self._daemon.kernel.plane.totals)
        for row in view["targets"]:
            key = (ip_address(row["dvipa"]), row["port"], ip_address(row["xcf"]))
            row["total"] = totals.get(key, 0)
        return {"view": view}

    async def _crt(self, request: Mapping[str, Any]) -> dict[str, Any]:
        dvipa = _address(request.get("dvipa"))
        limit = request.get("limit", CRT_ROWS)
        if not isinstance(limit, int) or not 0 < limit <= CRT_ROWS_MAX:
            raise ControlError(f"limit is a number from 1 to {CRT_ROWS_MAX}")
        rows = await self._kernel(lambda: self._daemon.kernel.crt(dvipa))
        return {"total": len(rows), "rows": jsonable(rows[:limit])}

    async def _counters(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        daemon = self._daemon
        return {
            "plane": await self._kernel(daemon.kernel.plane.counters),
            "sockets": daemon.kernel.sockets.counters(),
            "queue": daemon.queue.counters() if daemon.queue else {},
            "mesh": dict(daemon.mesh.counters),
            "runner": {"backlog": daemon.runner.backlog, "failures": daemon.runner.failures},
            "pids": daemon.queue.pids() if daemon.queue else {},
        }

    async def _config(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "profile": jsonable(self._daemon.profile),
            "node": jsonable(self._daemon.config),
        }

    async def _kernel(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._daemon.thread, work)


def _address(text: object) -> Address | None:
    if text is None:
        return None
    try:
        return ip_address(str(text))
    except ValueError as error:
        raise ControlError(f"{text!r} is no IP address") from error
