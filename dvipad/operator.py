"""What the daemon answers the operator over the control socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dvipad.activation import Activation
from dvipad.adapters.control import ControlError, ControlServer
from dvipad.adapters.jsonable import jsonable
from dvipad.address import Address
from dvipad.config.errors import errors
from dvipad.config.profile import check_profile
from dvipad.core.orders import WHOLE_TARGET, Verb
from dvipad.core.view import NodeView

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

PORT_MAX: Final = 65_535
CRT_ROWS_MAX: Final = 100_000
"""Rows of the CRT in one answer, at the most."""
CRT_ROWS: Final = 1_000
"""Rows of the CRT in one answer, unless asked for more."""


class Operator:
    """Serves reports (``view``, ``crt``, ``counters``, ``config``) and orders (``vary``,
    ``obeyfile``, ``vipa``, ``drained``)."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.activation = Activation(daemon)
        self._server = ControlServer(
            daemon.config.paths.run / "control.sock",
            {
                "view": self._view,
                "crt": self._crt,
                "counters": self._counters,
                "config": self._config,
                "vary": self._vary,
                "obeyfile": self._obeyfile,
                "vipa": self._vipa,
                "drained": self._drained,
            },
        )

    async def start(self) -> None:
        """Listen for `dvipactl`."""
        await self._server.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def _view(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        seen = self._daemon.node.view()
        wall_ms = time.time_ns() // 1_000_000
        totals = await self._kernel(self._daemon.kernel.plane.totals)
        view = await asyncio.to_thread(_view_json, seen, totals)
        view["wall_ms"] = wall_ms
        return {"view": view}

    async def _crt(self, request: Mapping[str, Any]) -> dict[str, Any]:
        dvipa = _address(request.get("dvipa"))
        limit = request.get("limit", CRT_ROWS)
        if not isinstance(limit, int) or not 0 < limit <= CRT_ROWS_MAX:
            raise ControlError(f"limit is a number from 1 to {CRT_ROWS_MAX}")
        rows = await self._kernel(lambda: self._daemon.kernel.crt(dvipa))
        shown = await asyncio.to_thread(jsonable, rows[:limit])
        return {"total": len(rows), "rows": shown}

    async def _counters(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        daemon = self._daemon
        return {
            "plane": await self._kernel(daemon.kernel.plane.counters),
            "sockets": daemon.kernel.sockets.counters(),
            "ranges": await self._kernel(daemon.kernel.ranges.counters),
            "queue": daemon.queue.counters() if daemon.queue else {},
            "care": dict(daemon.care.counters),
            "mesh": dict(daemon.mesh.counters),
            "runner": {"backlog": daemon.runner.backlog, "failures": daemon.runner.failures},
            "pids": daemon.queue.pids() if daemon.queue else {},
        }

    async def _config(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "profile": jsonable(self._daemon.profile),
            "node": jsonable(self._daemon.config),
        }

    async def _vary(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """An order: ``verb``, and ``dvipa`` or ``port`` where it takes one."""
        try:
            verb = Verb(request.get("verb"))
        except ValueError as error:
            raise ControlError(f"verb is one of {', '.join(v.value for v in Verb)}") from error
        dvipa, port = _address(request.get("dvipa")), request.get("port", WHOLE_TARGET)
        if type(port) is not int or not 0 <= port <= PORT_MAX:
            raise ControlError(f"port is a number from 1 to {PORT_MAX}")
        if dvipa is not None and self._daemon.node.owners.get(dvipa) is None:
            raise ControlError(f"{dvipa} is neither defined nor backed up here")
        try:
            self._daemon.order(self._daemon.orders.with_order(verb, dvipa, port))
        except (ValueError, OSError) as error:
            raise ControlError(str(error)) from error
        if verb is Verb.JOINGROUP:
            self._daemon.care.joined()
        return {"orders": jsonable(self._daemon.orders)}

    async def _obeyfile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Follow the profile in ``path`` from now on; ``dry`` only checks it."""
        parsed = check_profile(Path(str(request.get("path"))))
        problems = [str(problem) for problem in parsed.problems]
        accepted = parsed.profile is not None and not errors(parsed.problems)
        if accepted and parsed.profile is not None and request.get("dry") is not True:
            self._daemon.follow(parsed.profile)
        return {"accepted": accepted, "problems": problems}

    async def _vipa(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``verb`` activate or delete, and ``dvipa``: an address of a VIPARANGE. Answers with a
        result of MODDVIPA, and the reason when nothing was done."""
        verbs = {"activate": self.activation.activate, "delete": self.activation.delete}
        work, dvipa = verbs.get(str(request.get("verb"))), _address(request.get("dvipa"))
        if work is None or dvipa is None:
            raise ControlError(f"verb is one of {', '.join(verbs)}, and takes a dvipa")
        try:
            verdict = await work(dvipa)
        except OSError as error:
            raise ControlError(str(error)) from error
        return {"dvipa": str(dvipa), "code": verdict.code.value, "reason": verdict.reason}

    async def _drained(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Whether no connection of a DVIPA ends here."""
        hidden = frozenset(self._daemon.node.target.hidden)
        return {"drained": await self._kernel(lambda: self._daemon.kernel.idle(hidden))}

    async def _kernel(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._daemon.thread, work)


def _address(text: object) -> Address | None:
    if text is None:
        return None
    try:
        return ip_address(str(text))
    except ValueError as error:
        raise ControlError(f"{text!r} is no IP address") from error


def _view_json(seen: NodeView, totals: Mapping[tuple[Address, int, Address], int]) -> Any:
    """What the node sees, with the connections that every target was given."""
    view = jsonable(seen)
    for row, target in zip(view["targets"], seen.targets, strict=True):
        row["total"] = totals.get((target.dvipa, target.port, target.xcf), 0)
    return view
