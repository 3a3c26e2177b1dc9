"""Netfilter rules of ours are there as long as the daemon runs, whoever flushes them."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final, Protocol

from dvipad.adapters.nft_generation import generation

REPAIR_S: Final = 1.0

log = logging.getLogger(__name__)


class KernelRules(Protocol):
    """Rules in the kernel. Raise ``OSError`` when a command fails."""

    @property
    def by_nftables(self) -> bool:
        """Whether they are part of the ruleset of nftables."""

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
    known: int | None = None
    while True:
        await asyncio.sleep(REPAIR_S)
        try:
            now = generation() if rules.by_nftables else None
            if now is not None and now == known:
                continue  # nobody touched anything
            known = now
            if not await loop.run_in_executor(thread, rules.present):
                log.warning("somebody removed %s; it is put back", what)
                await loop.run_in_executor(thread, rules.ensure)
        except OSError as error:
            log.error("%s cannot be put back: %s", what, error)
