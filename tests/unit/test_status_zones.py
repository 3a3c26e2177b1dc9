"""Names in zones: updates in their order, again until they are taken, and only the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dvipad.status import zones
from dvipad.status.zones import UpdateError, Zones, update

ORDER: Mapping[str, Any] = {
    "name": "www.example.org",
    "zone": "example.org",
    "address": "192.0.2.11",
    "server": "127.0.0.1",
    "server_port": 9,
    "key": None,
    "ttl": 0,
    "timeout_s": 1.0,
}


class Server:
    """A name server that is dead until told otherwise; what it took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dead = True
        self.took: list[tuple[str, str]] = []
        self.tried = asyncio.Event()
        monkeypatch.setattr(zones, "update", self.update)
        monkeypatch.setattr(zones, "AGAIN_S", (0.001,))

    async def update(self, order: Mapping[str, Any]) -> None:
        self.tried.set()
        await asyncio.sleep(0)
        if self.dead:
            raise UpdateError("it is dead")
        self.took.append((order["name"], order["address"]))


def test_nothing_is_lost_while_the_server_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Mapping[str, Any]] = []

    async def scene() -> Server:
        server, made = Server(monkeypatch), Zones(said.append)

        def want(name: str, address: str) -> None:
            made.want({**ORDER, "name": name, "address": address})

        want("a", "192.0.2.1")
        want("b", "192.0.2.1")
        await server.tried.wait()
        want("c", "192.0.2.1")
        want("a", "192.0.2.2")
        want("d", "192.0.2.1")
        made.forget("d")
        while not any(each["error"] for each in said):
            await asyncio.sleep(0)
        server.dead = False
        while len(server.took) < 3:
            await asyncio.sleep(0)
        want("b", "192.0.2.3")
        while len(server.took) < 4:
            await asyncio.sleep(0)
        return server

    server = asyncio.run(asyncio.wait_for(scene(), 10))
    assert server.took == [
        ("b", "192.0.2.1"),
        ("c", "192.0.2.1"),
        ("a", "192.0.2.2"),
        ("b", "192.0.2.3"),
    ]
    assert {each["error"] for each in said} == {"", "it is dead"}


def test_one_dead_server_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> Server:
        server, made = Server(monkeypatch), Zones(lambda said: None)
        alive = server.update

        async def one_is_dead(order: Mapping[str, Any]) -> None:
            if order["server"] == "192.0.2.1":
                raise UpdateError("it is dead")
            server.dead = False
            await alive(order)

        monkeypatch.setattr(zones, "update", one_is_dead)
        made.want({**ORDER, "server": "192.0.2.1"})
        made.want({**ORDER, "name": "b", "server": "192.0.2.2"})
        while not server.took:
            await asyncio.sleep(0)
        return server

    assert asyncio.run(asyncio.wait_for(scene(), 10)).took == [("b", "192.0.2.11")]


def refused(**change: object) -> str:
    with pytest.raises(UpdateError) as caught:
        asyncio.run(update({**ORDER, **change}))
    return str(caught.value)


def test_what_cannot_be_updated_says_why(tmp_path: Path) -> None:
    assert "Connection" in refused()
    assert "No such file" in refused(key=str(tmp_path / "none"))
    file = tmp_path / "key"
    file.write_text("nonsense")
    assert "no key as tsig-keygen writes it" in refused(key=str(file))
    file.write_text('key "dvipad" { algorithm hmac-md4711; secret "c2VjcmV0"; };')
    assert refused(key=str(file))
    file.write_text('key "dvipad" {\n\talgorithm hmac-sha256;\n\tsecret "c2VjcmV0";\n};\n')
    assert "Connection" in refused(key=str(file))
