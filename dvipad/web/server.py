"""The web server of a node. It asks the daemon for reports, and has no other way to it.

``/healthz``: the daemon answers. ``/readyz``: the node has joined, and knows of no trouble. The
page is in :mod:`dvipad.web.pages`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from aiohttp import web

from dvipad import logs
from dvipad.adapters.notify import notify
from dvipad.address import Address
from dvipad.config.errors import errors
from dvipad.config.node import NodeConfig, check_node
from dvipad.web.metrics import Metrics
from dvipad.web.pages import Pages, guarded
from dvipad.web.source import NoAnswer, Source

LOOPBACKS: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

log = logging.getLogger("dvipad.web")


def application(source: Source) -> web.Application:
    """All that is served."""
    health = Health(source)
    app = web.Application(middlewares=[guarded])
    app.add_routes([web.get("/healthz", health.alive), web.get("/readyz", health.ready)])
    app.add_routes(Pages(source).routes())
    app.add_routes(Metrics(source).routes())
    return app


class Health:
    """Answers of one word for load balancers and watchdogs, with the reason when it is no."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def alive(self, _request: web.Request) -> web.Response:
        """200 while the daemon answers, else 503."""
        try:
            await self._source.ask("events", after=0)
        except NoAnswer as error:
            return _no(str(error))
        return web.Response(text="ok\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """200 while the node is a healthy member of its cluster, else 503."""
        try:
            view = (await self._source.ask("view"))["view"]
        except NoAnswer as error:
            return _no(str(error))
        reasons = list(view["troubles"]) + ([] if view["joined"] else ["not joined"])
        return _no(", ".join(reasons)) if reasons else web.Response(text="ready\n")


def _no(reason: str) -> web.Response:
    return web.Response(status=503, text=f"{reason}\n")


def listens_on(config: NodeConfig) -> tuple[Address, ...]:
    """The addresses of the node file, or those that each node has."""
    return config.web.listen or (config.xcf, *LOOPBACKS)


async def serve(config: NodeConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``OSError`` when it can listen nowhere."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(Source(config.paths.run / "view.sock")), access_log=None)
    await runner.setup()
    try:
        await _listen(runner, config)
        notify("READY=1")
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, config: NodeConfig) -> None:
    """Addresses that this host lacks, as ::1 without IPv6, are left out, and named."""
    failures = []
    for address in listens_on(config):
        try:
            await web.TCPSite(runner, str(address), config.web.port).start()
        except OSError as error:
            failures.append(error)
            level = logging.ERROR if config.web.listen else logging.WARNING
            log.log(level, "%s port %d: %s", address, config.web.port, error)
    if not runner.sites:
        raise failures[0]
    log.info("page and metrics: %s", ", ".join(site.name for site in runner.sites))


def main(path: Path) -> int:
    """Serve the node that `path` (YAML) describes; returns the exit status."""
    logs.set_up()
    parsed = check_node(path)
    if parsed.node is None or errors(parsed.problems):
        print(*parsed.problems, sep="\n", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(parsed.node))
    except OSError as error:
        log.critical("cannot serve: %s", error)
        return 1
    return 0
