"""The order of effects, while some DVIPAs are probed."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import pytest

from dvipad.adapters.kernel import Kernel
from dvipad.adapters.runner import Runner
from dvipad.address import Address
from dvipad.core.effects import (
    Broadcast,
    DumpSockets,
    Effect,
    InsertConnections,
    PlaceAddress,
    ProbeAddress,
    Role,
    Send,
    Sequence,
    SetDvipa,
    SetMembers,
)
from dvipad.core.inputs import EffectDone, EffectFailed, Input
from dvipad.wire.messages import Dvipa, Members, Message, Move, VipaEntry, VipaList

A, B = ip_address("192.0.2.100"), ip_address("2001:db8::100")
END = "end"
XCF = ip_address("192.0.2.11")


@dataclass
class Scene:
    """A runner whose kernel and mesh only note, and whose probes end when the test says so."""

    done: list[object] = field(default_factory=list)
    fed: list[Input] = field(default_factory=list)
    probes: dict[Address, asyncio.Future[None]] = field(default_factory=dict)
    runner: Runner = field(init=False)
    ended: asyncio.Event = field(init=False)

    def carry_out(self, effect: Effect) -> None:
        self.done.append(effect)

    def send(self, peer: str, message: Message) -> bool:
        assert peer == END
        self.ended.set()
        return True

    def broadcast(self, message: Message) -> None:
        self.done.append(message)

    async def probe(self, dvipa: Address) -> None:
        self.probes[dvipa] = asyncio.get_running_loop().create_future()
        await self.probes[dvipa]

    async def quiet(self) -> None:
        """Until the runner has nothing to do but to wait for probes."""
        for _ in range(10):  # a probe that ends is known some turns of the loop later
            await asyncio.sleep(0)
        self.ended = asyncio.Event()
        self.runner.submit([Send(END, Members(()))])
        await asyncio.wait_for(self.ended.wait(), 5)


def play(story: Callable[[Scene], Awaitable[None]]) -> Scene:
    scene = Scene()

    async def run() -> None:
        with ThreadPoolExecutor(1) as thread:
            scene.runner = Runner(
                cast(Kernel, cast(Any, scene)),
                thread,
                scene,
                scene.fed.append,
                lambda: None,
                lambda _: None,
                scene.probe,
            )
            running = asyncio.ensure_future(scene.runner.run())
            try:
                await story(scene)
            finally:
                running.cancel()
                await asyncio.wait((running,))
            assert running.cancelled()

    asyncio.run(run())
    return scene


def owner(dvipa: Address, epoch: int = 1) -> SetDvipa:
    return SetDvipa(dvipa, Role.OWNER, epoch)


def hidden(dvipa: Address) -> SetDvipa:
    return SetDvipa(dvipa, Role.HIDDEN, 1)


def listed(*dvipas: Address) -> VipaList:
    return VipaList(tuple(VipaEntry(dvipa, 1, True, True, 1) for dvipa in dvipas))


def taking(effect_id: int, dvipa: Address, *claimed: Address) -> Sequence:
    steps = (owner(dvipa), Broadcast(listed(*claimed)), PlaceAddress(dvipa, True))
    return Sequence(effect_id, (ProbeAddress(dvipa), *steps))


def test_a_probe_holds_up_its_own_dvipa_only() -> None:
    dump, members = DumpSockets(7, A), SetMembers(frozenset({XCF}))
    insert = InsertConnections(XCF, b"", b"")
    claim = Broadcast(Dvipa(Move.COMPLETE, A, 1))

    async def story(scene: Scene) -> None:
        scene.runner.submit([taking(1, A), dump, claim, members, insert, owner(B)])
        await scene.quiet()
        assert scene.done == [members, insert, owner(B)]
        assert scene.runner.backlog == 3
        scene.done.clear()
        scene.probes[A].set_result(None)
        await scene.quiet()
        assert scene.done == [
            owner(A),
            listed(),
            PlaceAddress(A, True),
            dump,
            claim.message,
        ]
        assert scene.runner.backlog == 0

    assert play(story).fed == [EffectDone(1)]


def test_probes_go_on_together_and_one_that_fails_fails_alone() -> None:
    async def story(scene: Scene) -> None:
        scene.runner.submit([taking(1, A), taking(2, B), DumpSockets(7, A)])
        await scene.quiet()
        assert set(scene.probes) == {A, B}
        scene.probes[A].set_exception(OSError(errno.EADDRINUSE, "taken by 02:00:00:00:00:01"))
        scene.probes[B].set_result(None)
        await scene.quiet()

    scene = play(story)
    failed, done = scene.fed
    assert isinstance(failed, EffectFailed)
    assert failed.effect_id == 1
    assert failed.reason.startswith("ProbeAddress: EADDRINUSE")
    assert "02:00:00:00:00:01" in failed.reason
    assert done == EffectDone(2)
    assert scene.done == [DumpSockets(7, A), owner(B), listed(), PlaceAddress(B, True)]


def test_what_gives_up_does_not_wait() -> None:
    async def story(scene: Scene) -> None:
        scene.runner.submit([taking(1, A), DumpSockets(7, A)])
        await scene.quiet()
        scene.runner.submit([Sequence(2, (hidden(A),)), owner(A)])
        await scene.quiet()
        assert scene.probes[A].cancelled()

    scene = play(story)
    assert scene.done == [DumpSockets(7, A), hidden(A), owner(A)]
    failed, done = scene.fed
    assert isinstance(failed, EffectFailed)
    assert (failed.effect_id, done) == (1, EffectDone(2))


def test_a_second_takeover_ends_the_probe_of_the_first() -> None:
    async def story(scene: Scene) -> None:
        scene.runner.submit([taking(1, A)])
        await scene.quiet()
        first = scene.probes[A]
        first.set_exception(OSError(errno.EADDRINUSE, "too late"))
        scene.runner.submit([taking(2, A)])
        await scene.quiet()
        await scene.quiet()
        scene.probes[A].set_result(None)
        await scene.quiet()

    failed, done = play(story).fed
    assert isinstance(failed, EffectFailed)
    assert (failed.effect_id, done) == (1, EffectDone(2))


def part(epoch: int, *dvipas: Address) -> VipaList:
    entries = tuple(VipaEntry(dvipa, 1, True, True, epoch) for dvipa in dvipas)
    return VipaList(entries, whole=False)


@pytest.mark.parametrize(
    ("meanwhile", "late"),
    [
        (part(2, B), part(1, A)),
        (part(2, A), part(2, A)),
        (VipaList((VipaEntry(A, 1, True, True, 3),)), part(3, A)),
        (listed(B), part(1)),
    ],
    ids=["another DVIPA", "a newer part", "a newer whole list", "gone since"],
)
def test_no_part_of_a_list_follows_what_is_newer(meanwhile: VipaList, late: VipaList) -> None:
    async def story(scene: Scene) -> None:
        scene.runner.submit([Sequence(1, (ProbeAddress(A), Broadcast(part(1, A))))])
        await scene.quiet()
        scene.runner.submit([Broadcast(meanwhile)])
        await scene.quiet()
        scene.probes[A].set_result(None)
        await scene.quiet()

    lists = [each for each in play(story).done if isinstance(each, VipaList)]
    assert lists == [meanwhile, late]
