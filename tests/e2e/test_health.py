"""Troubles on a real host: a cable, routes, a full disk; what lasts is told, and what is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dvipad.adapters.health import Health, HealthSettings
from dvipad.adapters.storage import NAME, why_not_writable
from dvipad.adapters.troubles import Patience
from dvipad.adapters.uplinks import neighbour_macs, routed, works
from tests.e2e.dvs_network import SLOW, eventually, inside, namespace, pair, run
from tests.e2e.test_probe import FREE

pytestmark = pytest.mark.e2e

CLEAR_MS = 300
LATE_MS = 10_000
WAIT_S = 10 * SLOW
PATIENCE = Patience(persist_ms=200, uplink_ms=100, clear_ms=CLEAR_MS)


@dataclass
class Scene:
    """What a node that looks after itself told; `mesh`: what it is told of its mesh."""

    health: Health = field(init=False)
    told: asyncio.Queue[frozenset[str]] = field(default_factory=asyncio.Queue)
    counters: Counter[str] = field(default_factory=Counter)
    mesh: str | None = None

    async def next(self) -> frozenset[str]:
        return await asyncio.wait_for(self.told.get(), WAIT_S)

    async def mesh_broken(self) -> str | None:
        return self.mesh


Story = Callable[[Scene], Awaitable[None]]


def play(
    story: Story,
    node: str,
    folders: tuple[Path, ...] = (),
    patience: Patience = PATIENCE,
    uplinks: tuple[str, ...] = ("eth0",),
) -> Scene:
    """Runs `story` beside the health of `node`."""

    async def tell_all() -> Scene:
        scene = Scene()
        settings = HealthSettings(uplinks, folders, LATE_MS, patience)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            scene.health = Health(
                settings, reader, writer, scene.mesh_broken, scene.told.put_nowait, scene.counters
            )
            running = asyncio.ensure_future(scene.health.run())
            try:
                await story(scene)
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
        return scene

    with inside(node):
        return asyncio.run(tell_all())


@contextmanager
def hosts() -> Iterator[tuple[str, str]]:
    """A node with an address on its uplink, and what its cable leads to."""
    with namespace() as node, namespace() as peer, pair(node, peer):
        run(*f"ip -n {node} address add 192.0.2.1/24 dev eth0".split())
        yield node, peer


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "big").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def test_a_loop_that_is_late_again_and_again_starves() -> None:
    async def story(scene: Scene) -> None:
        for late_ms in (LATE_MS + 1, LATE_MS, LATE_MS + 1):
            scene.health.ran(late_ms)
        assert scene.told.empty()
        scene.health.ran(LATE_MS + 1)
        assert await scene.next() == {"loop starved"}

    with hosts() as (node, _):
        scene = play(story, node)
        assert scene.counters["trouble_starved"] == 1


def test_a_cable_that_is_pulled_is_told_and_one_that_flaps_is_not() -> None:
    with hosts() as (node, peer):

        async def story(scene: Scene) -> None:
            for state in ("down", "up"):
                run("ip", "-n", peer, "link", "set", "eth0", state)
            run("ip", "-n", peer, "link", "set", "eth0", "down")
            assert await scene.next() == {"no uplink"}
            run("ip", "-n", peer, "link", "set", "eth0", "up")
            assert await scene.next() == frozenset()
            run("ip", "-n", node, "link", "delete", "eth0")
            assert await scene.next() == {"no uplink"}

        scene = play(story, node)
        assert scene.counters == {"trouble_no_uplink": 2}


def test_one_uplink_of_two_is_enough() -> None:
    with hosts() as (node, _peer):
        run(*f"ip -n {node} link add eth1 type veth peer name eth2".split())

        async def story(scene: Scene) -> None:
            assert works("eth0")
            assert not works("eth1")
            run("ip", "-n", node, "link", "set", "eth0", "down")
            assert await scene.next() == {"no uplink"}

        play(story, node, uplinks=("eth1", "eth0"))


def test_a_node_without_routes_is_not_ready() -> None:
    with hosts() as (node, _peer):

        async def story(scene: Scene) -> None:
            assert routed(("eth0",))
            run(*f"ip -n {node} address delete 192.0.2.1/24 dev eth0".split())
            assert await scene.next() == {"routing not ready"}
            run(*f"ip -n {node} address add 2001:db8::1/64 dev eth0 nodad".split())
            assert await scene.next() == frozenset()

        play(story, node)


def test_trouble_at_the_start_is_told_at_once_and_sticks_without_rejoin() -> None:
    patience = Patience(60_000, 60_000, 1, rejoin=False)
    with hosts() as (node, peer):
        run("ip", "-n", peer, "link", "set", "eth0", "down")
        with inside(node):
            eventually(lambda: not works("eth0"))  # the kernel tells changes one by one

        async def story(scene: Scene) -> None:
            assert await scene.next() == {"no uplink"}
            run("ip", "-n", peer, "link", "set", "eth0", "up")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scene.told.get(), 0.3)
            scene.health.forgive()
            assert await scene.next() == frozenset()

        play(story, node, patience=patience)


def test_a_full_disk_is_told_until_there_is_room(tmp_path: Path) -> None:
    with hosts() as (node, _peer), small_disk(tmp_path / "run") as folder:

        async def story(scene: Scene) -> None:
            assert why_not_writable(folder) is None
            fill(folder)
            assert "No space" in (why_not_writable(folder) or "")
            assert await scene.next() == {"storage full"}
            (folder / "big").unlink()
            assert await scene.next() == frozenset()
            assert not (folder / NAME).exists()

        play(story, node, (folder,))


def test_a_folder_that_is_not_there_yet_is_looked_for_above(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state") as folder:
        missing = folder / "a" / "b"
        assert why_not_writable(missing) is None
        fill(folder)
        assert why_not_writable(missing) == f"{folder}: no space left"
        run("mount", "-o", "remount,ro", str(folder))
        assert "Read-only" in (why_not_writable(folder) or "")
        assert why_not_writable(missing) == f"{folder}: read-only"


def test_a_broken_mesh_is_told() -> None:
    with hosts() as (node, _peer):

        async def story(scene: Scene) -> None:
            scene.mesh = "192.0.2.2 there, but no answer from the mesh"
            assert await scene.next() == {"mesh broken"}
            scene.mesh = None
            assert await scene.next() == frozenset()

        play(story, node)


def test_neighbours_are_known_by_address() -> None:
    with hosts() as (node, _peer), inside(node):
        for address, mac in ((FREE[4], "02:00:00:00:00:05"), (FREE[6], "02:00:00:00:00:06")):
            run(*f"ip neigh add {address} lladdr {mac} dev eth0".split())
        assert neighbour_macs([FREE[6]]) == {bytes.fromhex("020000000006"): FREE[6]}
        assert neighbour_macs([]) == {}
