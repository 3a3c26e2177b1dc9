"""Netfilter rules of ours are there as long as the daemon runs, whoever flushes them."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final, Protocol

REPAIR_S: Final = 1.0

log = logging.getLogger(__name__)


class KernelRules(Protocol):
    """Rules in the kernel. Raise ``OSError`` when a command fails."""

    def present(self) -> bool:
        """Whether exactly these are in the kernel."""

    def ensure(self) -> None:
        """Puts them in, once."""

    def remove(self) -> None:
        """Takes them out."""


async def keep_rules(rules: KernelRules, what: str, thread: Executor) -> None:
    """Puts `rules` back when somebody removed them, until cancelled; `what` they are, in the log.

    `thread` runs the commands; they may take a while.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(REPAIR_S)
        try:
            if not await loop.run_in_executor(thread, rules.present):
                log.warning("somebody removed %s; it is put back", what)
                await loop.run_in_executor(thread, rules.ensure)
        except OSError as error:
            log.error("%s cannot be put back: %s", what, error)
