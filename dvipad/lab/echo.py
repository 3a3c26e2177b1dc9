"""The lab's server: says who it is, checks every frame that it gets, and sends it back.

    python -m dvipad.lab.echo --name t1 --port 7 [--port 9] [--bind ADDRESS]

Prints `{"event": "listening", …}` when it can be reached, and its counts when it is stopped.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from dvipad.address import Address, parse
from dvipad.lab.frames import WHO, FrameError, take_frames
from dvipad.lab.tool import emit, prepare_process

BACKLOG: Final = 4096
ACCEPTS_PER_TURN: Final = 64
READ_BYTES: Final = 262144
OUTBOX_LIMIT: Final = 1 << 20
"""A client that does not read its answers is not read from beyond this."""


class Client:
    """One accepted connection."""

    __slots__ = ("framed", "inbox", "outbox", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.framed = False


class EchoServer:
    """Listens on `ports` of `addresses`, and serves until :meth:`stop`."""

    def __init__(
        self, name: str, addresses: Sequence[Address | None], ports: Sequence[int]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._name = name.encode() + b"\n"
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._running = True
        self._listeners = {}
        for port in ports:
            for address in addresses:
                for listener in _listen(address, port):
                    self._listeners[listener.fileno()] = listener
                    self._epoll.register(listener, select.EPOLLIN)

    def stop(self) -> None:
        """End :meth:`serve` soon; for a signal handler."""
        self._running = False

    def serve(self) -> None:
        """Accept and answer until stopped."""
        while self._running:
            for fd, events in self._epoll.poll(1.0):
                listener = self._listeners.get(fd)
                if listener is not None:
                    self._accept(listener)
                elif (client := self._clients.get(fd)) is not None:
                    self._serve_client(client, events)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self.counts["accept_errors"] += 1
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[sock.fileno()] = Client(sock)
            self._epoll.register(sock, select.EPOLLIN)
            self.counts["accepted"] += 1

    def _serve_client(self, client: Client, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._send(client, b"")
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                data = client.sock.recv(READ_BYTES)
                if not data:
                    self._close(client, "closed")
                    return
                client.inbox += data
                self._send(client, self._answer(client))
        except BlockingIOError:
            return
        except FrameError as error:
            emit("corrupt", reason=str(error))
            self._close(client, "corrupt")
        except OSError:
            self._close(client, "reset")

    def _answer(self, client: Client) -> bytes:
        answer = b""
        while not client.framed and len(client.inbox) >= len(WHO):
            if client.inbox.startswith(WHO):
                del client.inbox[: len(WHO)]
                answer += self._name
            else:
                client.framed = True
        if client.framed:
            frames, echo = take_frames(client.inbox)
            self.counts["frames"] += len(frames)
            answer += echo
        return answer

    def _send(self, client: Client, data: bytes) -> None:
        """Send what is waiting and `data`; a blocked client is left alone until it reads again."""
        blocked = bool(client.outbox)
        client.outbox += data
        if client.outbox:
            try:
                sent = client.sock.send(client.outbox)
            except BlockingIOError:
                sent = 0
            del client.outbox[:sent]
        if client.outbox or blocked:
            reading = select.EPOLLIN if len(client.outbox) < OUTBOX_LIMIT else 0
            writing = select.EPOLLOUT if client.outbox else 0
            self._epoll.modify(client.sock, reading | writing)

    def _close(self, client: Client, how: str) -> None:
        self.counts[how] += 1
        del self._clients[client.sock.fileno()]
        self._epoll.unregister(client.sock)
        client.sock.close()


def _listen(address: Address | None, port: int) -> list[socket.socket]:
    """Sockets that listen on `port` of an address, None: on the wildcards of both families."""
    wildcards = [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)]
    one = (str(address), socket.AF_INET6 if address and address.version == 6 else socket.AF_INET)
    listeners = []
    for text, family in wildcards if address is None else [one]:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((text, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="dvipad.lab.echo", description=__doc__.split("\n")[0])
    parser.add_argument("--name", required=True, help="what it answers to `who`")
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--bind", type=parse, action="append", help="default: any address")
    arguments = parser.parse_args(argv)
    prepare_process()
    server = EchoServer(arguments.name, arguments.bind or [None], arguments.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    emit("listening", name=arguments.name, ports=arguments.port)
    server.serve()
    emit("result", **server.counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
