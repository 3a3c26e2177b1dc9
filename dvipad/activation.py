"""Addresses of a VIPARANGE by command: what MODDVIPA of z/OS does (D10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from dvipad.address import Address
from dvipad.core.effects import Decision, Refusal
from dvipad.core.inputs import DeleteAsked
from dvipad.core.orders import Orders
from dvipad.core.ranges import Code, Verdict
from dvipad.core.vipa import Trigger
from dvipad.wire.messages import Origin

if TYPE_CHECKING:
    from dvipad.daemon import Daemon

WAIT_S: Final = 8.0
"""An activation or a deletion that takes longer has failed; `dvipactl` waits 10 s."""
_ACTIVE: Final = "ACTIVE"
_DONE: Final = Verdict(Code.DONE)

Heard: TypeAlias = Decision | Refusal


@dataclass(slots=True)
class _Waiting:
    """Somebody who waits for a DVIPA; `failure`: why it is in vain."""

    failure: str = ""


class Activation:
    """Carries out ``dvipactl vipa activate | delete``. Raises ``OSError`` when an order cannot be
    kept."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._stepped = asyncio.Event()
        self._waiting: dict[Address, _Waiting] = {}

    def stepped(self) -> None:
        """The core took a step."""
        self._stepped.set()

    def heard(self, effect: Heard) -> None:
        """The core decided something, or refused it."""
        waiting = self._waiting.get(effect.dvipa)
        if waiting is None:
            return
        if isinstance(effect, Refusal):
            waiting.failure = effect.reason
        elif effect.trigger == Trigger.FAILED.value:
            waiting.failure = effect.detail

    async def activate(self, dvipa: Address) -> Verdict:
        """Make `dvipa` active here; what fails is not tried again later."""
        verdict = self._daemon.node.owners.parts.verdict(dvipa, Origin.IOCTL)
        if verdict.code is not Code.DONE:
            return verdict
        verdict = await self._order(dvipa, _activated(self._daemon.orders, dvipa), active=True)
        if verdict.code is not Code.DONE:
            self._daemon.order(self._daemon.orders.delete(dvipa))
        return verdict

    async def delete(self, dvipa: Address) -> Verdict:
        """Make `dvipa` inactive here, whether a command or a bind activated it."""
        verdict = self._daemon.node.owners.parts.deletable(dvipa)
        if verdict.code is not Code.DONE:
            return verdict
        return await self._order(dvipa, self._daemon.orders.delete(dvipa), active=False)

    async def _order(self, dvipa: Address, orders: Orders, *, active: bool) -> Verdict:
        if dvipa in self._waiting:
            return Verdict(Code.REFUSED, "another command for it is under way")
        waiting = self._waiting[dvipa] = _Waiting()
        try:
            self._daemon.order(orders)
            if not active:
                self._daemon.feed(DeleteAsked(dvipa))
            async with asyncio.timeout(WAIT_S):
                await self._until(lambda: waiting.failure or self._active(dvipa) is active)
        except TimeoutError:
            word = "active" if active else "deleted"
            waiting.failure = f"it is not {word} after {WAIT_S:g} s"
        finally:
            del self._waiting[dvipa]
        return Verdict(Code.REFUSED, waiting.failure) if waiting.failure else _DONE

    async def _until(self, holds: Callable[[], object]) -> None:
        while True:
            self._stepped.clear()
            if holds():
                return
            await self._stepped.wait()

    def _active(self, dvipa: Address) -> bool:
        rows = self._daemon.node.view().dvipas
        return any(row.dvipa == dvipa and row.status == _ACTIVE for row in rows)


def _activated(orders: Orders, dvipa: Address) -> Orders:
    """`orders`, and `dvipa` is activated. The core knows a new command by its number; the time
    grows also over deletions, of which nothing is kept."""
    now = (dvipa, time.monotonic_ns())
    return replace(orders, activated=orders.delete(dvipa).activated | {now})
