"""What connections of each port sent, summed up when they end."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from dvipad.adapters.socket_events import SocketSettings, Tally, Watcher
from dvipad.adapters.sockets import open_watcher
from dvipad.address import Address
from tests.e2e.dvs_network import eventually
from tests.e2e.test_sockets import DVIPA4, DVIPA6, connect, family, kernel, settings

__all__ = ["kernel", "settings"]
pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("dvipa", [DVIPA4, DVIPA6])
def test_what_connections_sent_is_summed_up_when_they_end(kernel: Watcher, dvipa: Address) -> None:
    """SYN, FIN and three segments; not what an application opens with the DVIPA as source."""
    listener, client, server, _ = connect(dvipa, 8080)
    assert kernel.tallies() == {(dvipa, 8080): Tally(1, 0, 0, 0, 0)}
    for _ in range(3):
        server.sendall(b"x")
        assert client.recv(1) == b"x"
    for each in (server, client):
        each.close()
    eventually(lambda: kernel.tallies() == {(dvipa, 8080): Tally(1, 1, 5, 0, 0)})
    with closing(socket.socket(family(str(dvipa)))) as own:
        own.bind((str(dvipa), 0))
        own.connect((str(dvipa), 8080))
        listener.accept()[0].close()
    listener.close()
    eventually(lambda: kernel.tallies() == {(dvipa, 8080): Tally(2, 2, 7, 0, 0)})


def test_a_poller_sums_up_nothing(settings: SocketSettings) -> None:
    with closing(open_watcher(settings, polling=True)) as watcher:
        assert watcher.tallies() is None
