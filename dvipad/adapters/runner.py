"""Carries out effects in the order in which the core wants them.

Messages leave through the mesh, everything else goes to the kernel in a thread of its own; the
next effect starts when the one before has ended. A probe of a DVIPA is waited for by that DVIPA's
effects only. Results come back as inputs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from itertools import count
from typing import Final, Protocol

from dvipad.adapters.events import about
from dvipad.adapters.jsonable import jsonable
from dvipad.adapters.kernel import Kernel, KernelEffect, describe
from dvipad.adapters.lanes import Lane, NewestList, Turn, concerns, gives_up
from dvipad.address import Address
from dvipad.core.effects import (
    Announce,
    Broadcast,
    Decision,
    Effect,
    Leave,
    Preferred,
    ProbeAddress,
    Refusal,
    Send,
    Sequence,
    Step,
)
from dvipad.core.inputs import EffectDone, EffectFailed, Input
from dvipad.wire.messages import Message, VipaList

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
    `heard` when it decides or prefers something, or refuses what was asked for. `probe` raises
    ``OSError`` when another host has the address."""

    def __init__(
        self,
        kernel: Kernel,
        thread: Executor,
        transport: Transport,
        feed: Callable[[Input], None],
        leave: Callable[[], None],
        heard: Callable[[Decision | Refusal | Preferred], None],
        probe: Callable[[Address], Awaitable[None]],
    ) -> None:
        self._kernel = kernel
        self._thread = thread
        self._transport = transport
        self._feed = feed
        self._leave = leave
        self._heard = heard
        self._probe = probe
        self._numbers = count()
        self._number = 0
        self._queue: asyncio.Queue[Turn | Lane] = asyncio.Queue()
        self._lanes: dict[Address, Lane] = {}
        self._newest = NewestList()
        self.failures = 0

    def submit(self, effects: Iterable[Effect]) -> None:
        """Queue effects; decisions and refusals are logged at once."""
        for effect in effects:
            if isinstance(effect, Decision):
                log_decision(effect)
                self._heard(effect)
            elif isinstance(effect, Refusal):
                told = about("refusal", dvipa=effect.dvipa, reason=effect.reason)
                log.warning('dvipa=%s refused="%s"', effect.dvipa, effect.reason, extra=told)
                self._heard(effect)
            elif isinstance(effect, Preferred):
                self._heard(effect)
            else:
                self._queue.put_nowait(Turn(next(self._numbers), effect))

    @property
    def backlog(self) -> int:
        """Effects that wait."""
        return self._queue.qsize() + sum(1 + len(lane.waiting) for lane in self._lanes.values())

    async def run(self) -> None:
        """Carry effects out until cancelled."""
        try:
            while True:
                item = await self._queue.get()
                if isinstance(item, Turn):
                    await self._turn(item)
                else:
                    await self._probed(item)
        finally:
            for lane in self._lanes.values():
                lane.probe.cancel()

    async def _turn(self, turn: Turn) -> None:
        """Carry an effect out, or have it wait for the probe of its DVIPA."""
        dvipa = concerns(turn.effect)
        lane = None if dvipa is None else self._lanes.get(dvipa)
        if lane is not None and not gives_up(turn.effect):
            lane.waiting.append(turn)
            return
        if lane is not None:
            lane.probe.cancel()
            await self._end(lane, "given up while the address was probed")
        self._number = turn.number
        await self._carry_out(turn.effect)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Sequence():
                await self._sequence(effect)
            case Leave():
                self._leave()
            case Decision() | Refusal() | Preferred():
                raise AssertionError("never queued")
            case _:
                failure = await self.attempt(effect)
                if failure is not None:
                    log.error("%s failed: %s", type(effect).__name__, failure)

    async def _sequence(self, sequence: Sequence) -> None:
        for index, step in enumerate(sequence.steps):
            if isinstance(step, ProbeAddress):
                rest = replace(sequence, steps=sequence.steps[index + 1 :])
                self._begin_probe(step.dvipa, Turn(self._number, rest))
                return
            failure = await self.attempt(step)
            if failure is not None:
                reason = f"{type(step).__name__}: {failure}"
                log.error("%s failed, %s", type(step).__name__, failure)
                self._feed(EffectFailed(sequence.effect_id, reason))
                return
        self._feed(EffectDone(sequence.effect_id))

    def _begin_probe(self, dvipa: Address, turn: Turn) -> None:
        probe = asyncio.ensure_future(self._ask_network(dvipa))
        lane = self._lanes[dvipa] = Lane(turn, probe)
        probe.add_done_callback(lambda _: self._queue.put_nowait(lane))

    async def _ask_network(self, dvipa: Address) -> None:
        await self._probe(dvipa)

    async def _probed(self, lane: Lane) -> None:
        """The probe of a DVIPA has ended; its effects go on, unless the core gave up meanwhile."""
        if lane not in self._lanes.values():
            if not lane.probe.cancelled():
                lane.probe.exception()  # it came too late
            return
        try:
            lane.probe.result()
        except OSError as error:
            await self._end(lane, f"{ProbeAddress.__name__}: {describe(error)}")
        else:
            await self._end(lane, None)

    async def _end(self, lane: Lane, failure: str | None) -> None:
        """Carry out what waited for the probe of a DVIPA; of its sequence nothing if it failed."""
        sequence = lane.turn.effect
        assert isinstance(sequence, Sequence)
        self._lanes = {dvipa: each for dvipa, each in self._lanes.items() if each is not lane}
        if failure is None:
            await self._turn(lane.turn)
        else:
            log.error("not taken: %s", failure)
            self._feed(EffectFailed(sequence.effect_id, failure))
        for turn in lane.waiting:
            await self._turn(turn)

    async def attempt(self, effect: Step | KernelEffect) -> str | None:
        """Carry one effect out; returns why it failed, or None."""
        if isinstance(effect, Send):
            self._transport.send(effect.peer, self._message(effect.message))
            return None
        if isinstance(effect, Broadcast):
            self._transport.broadcast(self._message(effect.message))
            return None
        loop = asyncio.get_running_loop()
        try:
            if isinstance(effect, ProbeAddress):
                await self._probe(effect.dvipa)
                return None
            answer = await loop.run_in_executor(self._thread, self._kernel.carry_out, effect)
        except OSError as error:
            self.failures += 1
            return describe(error)
        if isinstance(effect, Announce):
            self._announce_again(effect.dvipa)
        if answer is not None:
            self._feed(answer)
        return None

    def _message(self, message: Message) -> Message:
        if isinstance(message, VipaList):
            return self._newest.instead_of(self._number, message)
        return message

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
        extra=about("decision", **jsonable(decision)),
    )
