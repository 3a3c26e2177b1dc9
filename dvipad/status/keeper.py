"""The daemon's end of status objects: keeps the status process, and tells core and operators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dvipad.adapters.control import Handler
from dvipad.adapters.events import about
from dvipad.adapters.jsonable import jsonable
from dvipad.config.status import StatusConfig
from dvipad.core.effects import Preferred
from dvipad.core.inputs import PreferencesChanged
from dvipad.status.lines import BEAT_S, LINE_MAX, line, object_order, parse
from dvipad.status.names import Names
from dvipad.status.readings import Readings

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

GATHER_S: Final = 0.01
"""Readings that come within so long are told the core at once."""
HUNG_BEATS: Final = 10
"""A process that says nothing for so many beats hangs, and is replaced."""
AGAIN_S: Final = 1.0
"""Between the end of a process and its successor, when nobody asked for one."""
RENEW_S: Final = 60.0
"""Zones are told again what they should know after so long: they may have been loaded anew."""
LEAVE_S: Final = 1.0
"""A process that was told to end, and did not, is killed after so long."""
COMMAND: Final = (sys.executable, "-I", "-m", "dvipad.status.process")

log = logging.getLogger(__name__)


class StatusKeeper:
    """Serves ``status``. There is a status process while there are status objects or names."""

    def __init__(self, daemon: Daemon, status: StatusConfig) -> None:
        """`status`: as it is at the start."""
        self._daemon = daemon
        self._status = status
        self._readings = Readings(time.monotonic)
        self._names = Names(lambda name: daemon.node.context.xcf_of(name))
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Event()
        self._telling: asyncio.TimerHandle | None = None
        self.restarts = 0

    # -- what the core is told ----------------------------------------------------------------

    def follow(self, status: StatusConfig) -> None:
        """The status file says this from now on."""
        before, self._status = self._status, status
        self._readings.follow(status.objects)
        self._names.follow(status.names)
        self._daemon.feed(PreferencesChanged(status.preferences))
        self._daemon.feed(self._readings.event())
        if (before.objects, before.names) != (status.objects, status.names):
            self._changed.set()

    def preferred(self, effect: Preferred) -> None:
        """Another target or farm is the best one for a service."""
        self._names.preferred(effect)
        self._order_names()

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._status.objects:
            self._daemon.feed(self._readings.event())

    def _order_names(self) -> None:
        """Whoever asks for it while the core takes a step: names are looked at after that."""
        asyncio.get_running_loop().call_soon(self._order_news)

    def _order_news(self) -> None:
        services_of = self._daemon.node.distributor.services_of
        for order in self._names.news(lambda dvipa: bool(services_of(dvipa))):
            self._write(order)

    # -- the process --------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep it, until cancelled."""
        self.follow(self._status)
        while True:
            self._changed.clear()
            if not self._status.objects and not self._status.names:
                await self._changed.wait()
                continue
            try:
                await self._live()
            except (OSError, ValueError, TypeError, LookupError) as error:
                log.error("the status process: %s", error)
            finally:
                self._end()
            if not self._changed.is_set():
                self.restarts += 1
                log.error("the status process ended; there will be another one")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), AGAIN_S)

    async def _live(self) -> None:
        """One life of the process, until it ends, hangs, or another one is wanted."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=pipe, stdout=pipe, limit=LINE_MAX
        )
        for config in self._status.objects:
            self._write(object_order(config))
        self._order_news()
        for order in self._names.wanted():
            self._write(order)
        loop = asyncio.get_running_loop()
        hearing, asked = loop.create_task(self._hear()), loop.create_task(self._changed.wait())
        try:
            await asyncio.wait({hearing, asked}, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
        finally:
            hearing.cancel()
            asked.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            asyncio.get_running_loop().call_later(LEAVE_S, _kill, process)

    async def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        renew_s = time.monotonic() + RENEW_S
        while True:
            limit_s = HUNG_BEATS * BEAT_S
            try:
                data = await asyncio.wait_for(self._process.stdout.readline(), limit_s)
            except TimeoutError:
                log.error("the status process hangs")
                return
            if not data:
                return
            self._heard(parse(data))
            if time.monotonic() >= renew_s:
                renew_s = time.monotonic() + RENEW_S
                for order in self._names.wanted():
                    self._write(order)

    def _heard(self, message: Mapping[str, Any]) -> None:
        if "object" in message:
            self._readings.told(message)
            if self._telling is None:
                loop = asyncio.get_running_loop()
                self._telling = loop.call_later(GATHER_S, self._tell)
        elif "name" in message:
            self._names.told(message)
            self._log_name(message)
        else:
            self._tell()  # it beats: what is silent, and who is told, may have changed
            self._order_news()

    def _log_name(self, message: Mapping[str, Any]) -> None:
        told = about("dns", name=message["name"], address=message["address"])
        if message["error"]:
            log.warning("name %s: %s", message["name"], message["error"], extra=told)
        else:
            log.info("name %s has %s", message["name"], message["address"], extra=told)

    def _write(self, order: Mapping[str, Any]) -> None:
        """What is not written now is written to the next process."""
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(line(order))

    # -- what is asked ------------------------------------------------------------------------

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {"status": self._answer}

    async def _answer(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Status objects of this node, figures of all nodes that it knows, its preferences and
        what they make of the targets, names in the DNS."""
        node = self._daemon.node
        return {
            "objects": self.objects(),
            "figures": {name: dict(each) for name, each in node.workloads.figures.all().items()},
            "preferences": jsonable(self._status.preferences),
            "services": self.services(),
            "names": self.names(),
        }

    def objects(self) -> list[dict[str, Any]]:
        """Status objects of this node."""
        return self._readings.rows()

    def names(self) -> list[dict[str, Any]]:
        """Names in the DNS that this node knows."""
        return self._names.rows()

    def services(self) -> list[dict[str, Any]]:
        """What preferences make of the targets that this node distributes to."""
        node, found = self._daemon.node, []
        for (dvipa, port), service in node.distributor.services().items():
            rule = node.workloads.preferences.of(dvipa, port)
            if rule is None:
                continue
            targets = [
                {"name": row.name, "ready": row.ready, "weight": row.weight, "from": row.source}
                for row in service.rows
            ]
            found.append(
                {
                    "dvipa": str(dvipa),
                    "port": port,
                    "preference": rule.name,
                    "server": service.best.server,
                    "farm": service.best.farm,
                    "targets": jsonable(targets),
                }
            )
        return found


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
