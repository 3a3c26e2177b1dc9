"""Targets that are nothing but their sessions, many of them in one process.

Each has an address of its own on this host, a session with the distributor, a listener that it
tells of, and, while it is told to, figures of status objects that all change once a second. Their
heartbeats go by TCP. Commands on standard input: ``figures``, ``quiet``; each is answered with what
was sent since the one before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from dvipad.core.figures import UNIT
from dvipad.versions import NEWEST, OLDEST
from dvipad.wire.codec import encode
from dvipad.wire.messages import (
    Figures,
    Hello,
    Member,
    NodeFigures,
    PortStatus,
    SrvStat,
    VipaList,
)
from dvipad.wire.session import Session, SessionSettings, State

PORT: Final = 4780
INTERVAL_S: Final = 1.0
LOOK_S: Final = 0.05
DEAD_MS: Final = 3000
"""Silence that means death: this is one process of ordinary priority on a busy machine."""
FIGURE_MAX: Final = 100
READ_BYTES: Final = 1 << 16


def now_ms() -> int:
    """Of the sessions' clock."""
    return time.monotonic_ns() // 1_000_000


class Peer:
    """One of them; `bytes`, `messages`: figures that it sent."""

    def __init__(self, number: int, arguments: argparse.Namespace) -> None:
        address = ip_address(arguments.first) + number
        self._address, self._distributor = str(address), arguments.distributor
        self._dvipa, self._port = ip_address(arguments.dvipa), arguments.port
        self.name = f"t{number + 1}"
        hello = Hello(
            arguments.cluster,
            Member(self.name, address, PORT),
            time.time_ns(),
            oldest=OLDEST,
            newest=NEWEST,
        )
        self.session = Session(hello, SessionSettings(dead_ms=DEAD_MS), now_ms())
        self._names = tuple(f"object{index}.value" for index in range(arguments.objects))
        self._said = False
        self._random = random.Random(number)
        self.bytes = self.messages = 0

    async def run(self) -> None:
        """Until the session ends."""
        reader, self._writer = await asyncio.open_connection(
            self._distributor, PORT, local_addr=(self._address, 0)
        )
        beating = asyncio.get_running_loop().create_task(self._beat())
        self._flush()
        greeted = False
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                self.session.receive_data(data, now_ms())
                while self.session.next_event() is not None:
                    pass
                if self.session.state is State.OPEN and not greeted:
                    greeted = True
                    self.session.send(VipaList(()), now_ms())
                    listening = (PortStatus(self._port, 1),)
                    self.session.send(SrvStat(self._dvipa, True, listening), now_ms())
                self._flush()
        beating.cancel()

    async def _beat(self) -> None:
        while (due_ms := self.session.deadline()) is not None:
            left_s = max(0, due_ms - now_ms()) / 1000
            await asyncio.sleep(min(left_s, LOOK_S))  # it may be due sooner by then
            self.session.handle_deadline(now_ms())
            self._flush()

    def _flush(self) -> None:
        data = self.session.data_to_send()
        if data:
            self._writer.write(data)

    def tell(self) -> None:
        """All its figures are others now."""
        if self.session.state is not State.OPEN:
            return
        values = tuple(self._random.randrange(FIGURE_MAX * UNIT) for _ in self._names)
        names, self._said = (() if self._said else self._names), True
        frame = encode(Figures((NodeFigures(self.name, names, values),)), self.session.version)
        self.bytes += len(frame)
        self.messages += 1
        self.session.send_frame(frame, now_ms())
        self._flush()


async def _tell(peers: Sequence[Peer], on: asyncio.Event) -> None:
    """Each peer once in an interval, at a moment of its own, while it is `on`."""
    while True:
        for peer in peers:
            await on.wait()
            peer.tell()
            await asyncio.sleep(INTERVAL_S / len(peers))


async def serve(arguments: argparse.Namespace) -> None:
    """All of them, until the input ends."""
    peers = [Peer(number, arguments) for number in range(arguments.peers)]
    loop, on = asyncio.get_running_loop(), asyncio.Event()
    tasks = [loop.create_task(peer.run()) for peer in peers]
    tasks.append(loop.create_task(_tell(peers, on)))
    while any(peer.session.state is not State.OPEN for peer in peers):
        await asyncio.sleep(0.05)
    _say("open")
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        before = [(peer.bytes, peer.messages) for peer in peers]
        for peer in peers:
            peer.bytes = peer.messages = 0
        on.set() if command == "figures" else on.clear()
        ended = sum(peer.session.state is not State.OPEN for peer in peers)
        totals = [sum(column) for column in zip(*before, strict=True)]
        _say("sent", bytes=totals[0], messages=totals[1], ended=ended)


def _say(event: str, **values: int) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("distributor", "first", "dvipa", "cluster"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("peers", "objects", "port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
