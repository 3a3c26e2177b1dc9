"""What the daemon tells everybody who may look: reports that change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dvipad import __version__
from dvipad.adapters.bpf.crt import Wanted
from dvipad.adapters.bpf.tally import Row
from dvipad.adapters.control import ControlError, Handler
from dvipad.adapters.jsonable import jsonable
from dvipad.address import Address
from dvipad.core.view import NodeView
from dvipad.counting import Counting
from dvipad.stats import Stats

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

T = TypeVar("T")

PORT_MAX: Final = 65_535
CRT_ROWS_MAX: Final = 100_000
"""Rows of the CRT in one answer, at the most."""
CRT_ROWS: Final = 1_000
"""Rows of the CRT in one answer, unless asked for more."""
WAIT_MAX_S: Final = 30
"""A reader of events waits so long for the next one, at the most."""


class Reports:
    """Serves ``view``, ``crt``, ``counters``, ``config``, ``events``, ``stats`` and ``orders``."""

    def __init__(self, daemon: Daemon, counting: Counting) -> None:
        self._daemon = daemon
        self._stats = Stats(daemon, counting)

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {
            "view": self._view,
            "crt": self._crt,
            "counters": self._counters,
            "config": self._config,
            "events": self._events,
            "stats": self._stats.answer,
            "orders": self._orders,
        }

    async def _view(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        seen = self._daemon.node.view()
        wall_ms = time.time_ns() // 1_000_000
        plane = self._daemon.kernel.plane
        counts = await self._kernel(lambda: (plane.totals(), plane.distribution.active()))
        view = await asyncio.to_thread(_view_json, seen, *counts)
        view["wall_ms"] = wall_ms
        self._add_links(view)
        return {"view": view}

    def _add_links(self, view: dict[str, Any]) -> None:
        """What the mesh knows of the members: the version that is spoken with each, and what each
        says of itself, if that version lets it; and whom it refuses."""
        links = {link.peer: link for link, _ in self._daemon.mesh.links()}
        for row in view["members"]:
            row |= {"mesh_version": None, "release": None, "troubles": []}
            link = links.get(row["name"])
            if row["name"] == view["name"]:
                newest = self._daemon.config.mesh.newest_version
                row |= {"mesh_version": newest, "release": __version__}
                row["troubles"] = view["troubles"]
            elif link is not None:
                row["mesh_version"] = link.version
                row |= jsonable(link.status) if link.status else {}
        misfits = self._daemon.mesh.misfits()
        view["refused"] = [{"xcf": str(xcf), "reason": why} for xcf, why in misfits.items()]

    async def _crt(self, request: Mapping[str, Any]) -> dict[str, Any]:
        dvipa = read_address(request.get("dvipa"))
        limit = request.get("limit", CRT_ROWS)
        if not isinstance(limit, int) or not 0 < limit <= CRT_ROWS_MAX:
            raise ControlError(f"limit is a number from 1 to {CRT_ROWS_MAX}")
        client, port = read_address(request.get("client")), request.get("client_port")
        if port is not None and (type(port) is not int or not 0 < port <= PORT_MAX):
            raise ControlError(f"client_port is a number from 1 to {PORT_MAX}")
        wanted = Wanted(dvipa, client, port)
        rows = await self._kernel(lambda: self._daemon.kernel.crt(wanted))
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
            "workload": daemon.workload.counters(),
            "quality": dict(daemon.workload.quality.agent.counters),
            "mesh": dict(daemon.mesh.counters),
            "runner": {"backlog": daemon.runner.backlog, "failures": daemon.runner.failures},
            "pids": daemon.queue.pids() if daemon.queue else {},
        }

    async def _config(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "profile": jsonable(self._daemon.profile),
            "node": jsonable(self._daemon.config),
        }

    async def _events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Those after number ``after`` (0: all that are kept); if there is none, waits ``wait_s``
        seconds for one. ``lost``: forgotten before they were asked for."""
        after, wait_s = request.get("after", 0), request.get("wait_s", 0)
        if type(after) is not int or after < 0:
            raise ControlError("after is the number of an event, or 0")
        if type(wait_s) not in (int, float) or not 0 <= wait_s <= WAIT_MAX_S:
            raise ControlError(f"wait_s is a number of seconds from 0 to {WAIT_MAX_S}")
        if wait_s:
            await self._daemon.events.wait(after, wait_s)
        events, lost = self._daemon.events.after(after)
        rows = [
            {
                "number": event.number,
                "wall_ms": event.wall_ms,
                "level": event.level,
                "text": event.text,
                **event.about,
            }
            for event in events
        ]
        return {"events": rows, "lost": lost, "newest": self._daemon.events.newest}

    async def _orders(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """What is ordered now; what a drain waits for, the connections that end here; and who
        would take each DVIPA that is owned here, None if nobody."""
        owners = self._daemon.node.owners
        backups = {str(v.dvipa): owners.backup(v.dvipa) for v in owners if v.owning}
        hidden = frozenset(self._daemon.node.target.hidden)
        ending = await self._kernel(lambda: self._daemon.kernel.ending(hidden))
        rows = [
            {"dvipa": str(dvipa), "port": port, "connections": count}
            for (dvipa, port), count in ending.items()
        ]
        orders = jsonable(self._daemon.orders)
        return {"orders": orders, "ending": rows, "backups": backups}

    async def _kernel(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._daemon.thread, work)


def read_address(text: object) -> Address | None:
    """The address `text` of a request, None if there is none; raises `ControlError`."""
    if text is None:
        return None
    try:
        return ip_address(str(text))
    except ValueError as error:
        raise ControlError(f"{text!r} is no IP address") from error


def _view_json(seen: NodeView, totals: Mapping[Row, int], active: Mapping[Row, int]) -> Any:
    """What the node sees, with the connections that every target was given; and those that it has,
    if its method counts them."""
    view = jsonable(seen)
    for row, target in zip(view["targets"], seen.targets, strict=True):
        key = (target.dvipa, target.port, target.xcf)
        row["total"], row["connections"] = totals.get(key, 0), active.get(key)
    return view
