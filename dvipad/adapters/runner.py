"""Carries out effects in the order in which the core wants them.

Messages leave through the mesh, everything else goes to the kernel in a thread of its own; the
next effect starts when the one before has ended. Results come back as inputs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Final, Protocol

from dvipad.adapters.kernel import Kernel, KernelEffect, describe
from dvipad.address import Address
from dvipad.core.effects import (
    Announce,
    Broadcast,
    Decision,
    Effect,
    Leave,
    Refusal,
    Send,
    Sequence,
    Step,
)
from dvipad.core.inputs import EffectDone, EffectFailed, Input
from dvipad.wire.messages import Message

ANNOUNCE_AGAIN_S: Final = (0.1, 1.0)
"""An announcement may be lost; it is repeated after these times while the address is owned."""

log = logging.getLogger(__name__)


class Transport(Protocol):
    """Where messages leave."""

    def send(self, peer: str, message: Message) -> bool:
        """To one peer; False when there is no session with it."""

    def broadcast(self, message: Message) -> None:
        """To every peer."""


class Runner:
    """`feed` takes results as inputs; `leave` is called when the core says that all is done,
    `heard` when it decides something, or refuses what was asked for."""

    def __init__(
        self,
        kernel: Kernel,
        thread: Executor,
        transport: Transport,
        feed: Callable[[Input], None],
        leave: Callable[[], None],
        heard: Callable[[Decision | Refusal], None],
    ) -> None:
        self._kernel = kernel
        self._thread = thread
        self._transport = transport
        self._feed = feed
        self._leave = leave
        self._heard = heard
        self._queue: asyncio.Queue[Effect] = asyncio.Queue()
        self.failures = 0

    def submit(self, effects: Iterable[Effect]) -> None:
        """Queue effects; decisions and refusals are logged at once."""
        for effect in effects:
            if isinstance(effect, Decision):
                log_decision(effect)
                self._heard(effect)
            elif isinstance(effect, Refusal):
                log.warning('dvipa=%s refused="%s"', effect.dvipa, effect.reason)
                self._heard(effect)
            else:
                self._queue.put_nowait(effect)

    @property
    def backlog(self) -> int:
        """Effects that wait."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Carry effects out until cancelled."""
        while True:
            await self._carry_out(await self._queue.get())

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Sequence():
                await self._sequence(effect)
            case Leave():
                self._leave()
            case Decision() | Refusal():
                raise AssertionError("never queued")
            case _:
                failure = await self.attempt(effect)
                if failure is not None:
                    log.error("%s failed: %s", type(effect).__name__, failure)

    async def _sequence(self, sequence: Sequence) -> None:
        for step in sequence.steps:
            failure = await self.attempt(step)
            if failure is not None:
                reason = f"{type(step).__name__}: {failure}"
                log.error("%s failed, %s", type(step).__name__, failure)
                self._feed(EffectFailed(sequence.effect_id, reason))
                return
        self._feed(EffectDone(sequence.effect_id))

    async def attempt(self, effect: Step | KernelEffect) -> str | None:
        """Carry one effect out; returns why it failed, or None."""
        if isinstance(effect, Send):
            self._transport.send(effect.peer, effect.message)
            return None
        if isinstance(effect, Broadcast):
            self._transport.broadcast(effect.message)
            return None
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._thread, self._kernel.carry_out, effect)
        except OSError as error:
            self.failures += 1
            return describe(error)
        if isinstance(effect, Announce):
            self._announce_again(effect.dvipa)
        if answer is not None:
            self._feed(answer)
        return None

    def _announce_again(self, dvipa: Address) -> None:
        loop = asyncio.get_running_loop()
        for delay_s in ANNOUNCE_AGAIN_S:
            loop.call_later(
                delay_s, loop.run_in_executor, self._thread, self._kernel.announce, dvipa
            )


def log_decision(decision: Decision) -> None:
    """One line for each row of the ownership table that was taken."""
    log.warning(
        'dvipa=%s trigger="%s" action="%s" from=%s to=%s epoch=%d owner=%s%s',
        decision.dvipa,
        decision.trigger,
        decision.action,
        decision.before,
        decision.after,
        decision.epoch,
        decision.owner,
        f' detail="{decision.detail}"' if decision.detail else "",
    )
