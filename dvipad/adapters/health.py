"""Looks for troubles of this node: uplinks, routes, a starved loop, storage, the mesh.

Links and routes are read when the kernel says that they changed, all else at intervals. Reading
is done in threads: a full or hanging disk, or a million routes, must not hold up heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.adapters.events import about
from dvipad.adapters.storage import why_not_writable
from dvipad.adapters.troubles import Patience, Persistence, Stalls, Trouble
from dvipad.adapters.uplinks import Changes, routed, works

SETTLE_S: Final = 0.02
"""Links and routes change in swarms: they are read so long after the first change."""
LOOK_S: Final = 5.0
"""Links and routes are read so often even if no change was heard of."""
STORAGE_S: Final = 1.0
MESH_S: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """`folders` must be writable. A loop that is later than `late_ms` again and again starves."""

    uplinks: tuple[str, ...]
    folders: tuple[Path, ...]
    late_ms: int
    patience: Patience


class Health:
    """`tell` gets all troubles that are reported, when that changes; `mesh_broken` says why the
    mesh is; `counters` counts how often each was reported. To be used in one event loop."""

    def __init__(
        self,
        settings: HealthSettings,
        reader: Executor,
        writer: Executor,
        mesh_broken: Callable[[], Awaitable[str | None]],
        tell: Callable[[frozenset[str]], None],
        counters: Counter[str],
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._writer = writer
        self._mesh_broken = mesh_broken
        self._tell = tell
        self._counters = counters
        self._persistence = Persistence(settings.patience)
        self._present: dict[Trouble, str] = {}
        self._stalls = Stalls(settings.late_ms)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._told: frozenset[Trouble] = frozenset()

    async def run(self) -> None:
        """Look until cancelled. What is wrong from the start is reported at once."""
        changes = Changes()
        try:
            await self._look(at_once=True)
            await self._try_storage(at_once=True)
            self._loop.add_reader(changes.fileno(), changes.drain, self._changed.set)
            async with asyncio.TaskGroup() as group:
                for work in (self._links(), self._storage(), self._mesh()):
                    group.create_task(work)
        finally:
            self._loop.remove_reader(changes.fileno())
            changes.close()
            if self._timer is not None:
                self._timer.cancel()

    def ran(self, late_ms: int) -> None:
        """The loop ran, so many milliseconds later than it should; to be said often."""
        starved = self._stalls.ran(late_ms, self._now_ms())
        if starved or Trouble.STARVED in self._present:
            self._see(Trouble.STARVED, f"late by {late_ms} ms" if starved else "")

    def forgive(self) -> None:
        """The operator says that the node is well; what is still wrong must last once more."""
        self._persistence.forgive(self._now_ms())
        self._report()

    # -- what is looked at ----------------------------------------------------------------------

    async def _links(self) -> None:
        while True:
            waiting = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((waiting,), timeout=LOOK_S)
            waiting.cancel()
            await asyncio.sleep(SETTLE_S)
            self._changed.clear()
            await self._look()

    async def _look(self, *, at_once: bool = False) -> None:
        uplinks = self._settings.uplinks
        working = [uplink for uplink in uplinks if works(uplink)]
        names = ", ".join(uplinks)
        dead = "" if working else f"none of {names} works"
        route = True
        if working:  # without an uplink there is no route either: one trouble, not two
            with contextlib.suppress(OSError):  # the kernel does not tell: no proof of anything
                route = await self._loop.run_in_executor(self._reader, routed, uplinks)
        lost = "" if route else f"no route leads over {names}"
        self._see(Trouble.NO_UPLINK, dead, at_once=at_once)
        self._see(Trouble.NO_ROUTE, lost, at_once=at_once)

    async def _storage(self) -> None:
        while True:
            await asyncio.sleep(STORAGE_S)
            await self._try_storage()

    async def _try_storage(self, *, at_once: bool = False) -> None:
        why: str | None = None
        for folder in self._settings.folders:
            looking = self._loop.run_in_executor(self._writer, why_not_writable, folder)
            await asyncio.wait((looking,), timeout=STORAGE_S)
            if not looking.done():
                self._see(Trouble.STORAGE, f"{folder} does not answer", at_once=at_once)
            why = await looking
            if why is not None:
                break
        self._see(Trouble.STORAGE, why or "", at_once=at_once)

    async def _mesh(self) -> None:
        while True:
            await asyncio.sleep(MESH_S)
            self._see(Trouble.MESH, await self._mesh_broken() or "")

    # -- what is made of it ---------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _see(self, trouble: Trouble, why: str, *, at_once: bool = False) -> None:
        """`why` it is there; empty: it is not."""
        if why:
            self._present[trouble] = why
        else:
            self._present.pop(trouble, None)
        self._persistence.see(self._present.keys(), self._now_ms(), at_once=at_once)
        self._report()

    def _expire(self) -> None:
        self._timer = None
        self._persistence.expire(self._now_ms())
        self._report()

    def _report(self) -> None:
        now = self._persistence.reported
        for trouble in sorted(now - self._told, key=lambda each: each.value):
            self._counters[f"trouble_{trouble.name.lower()}"] += 1
            told = about("trouble", trouble=trouble, over=False)
            detail = self._present.get(trouble, "")
            log.warning('trouble="%s" detail="%s"', trouble.value, detail, extra=told)
        for trouble in sorted(self._told - now, key=lambda each: each.value):
            told = about("trouble", trouble=trouble, over=True)
            log.warning('trouble over="%s"', trouble.value, extra=told)
        changed, self._told = now != self._told, now
        self._arm()
        if changed:
            self._tell(frozenset(trouble.value for trouble in now))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self._persistence.deadline()
        if due_ms is not None:
            # A clock that is cut to ms must have reached the deadline.
            self._timer = self._loop.call_at(due_ms / 1000 + 0.0001, self._expire)
