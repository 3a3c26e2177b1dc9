"""How many connections a DVIPA has: the CRT, and those that end here."""

from __future__ import annotations

import time

import pytest

from dvipad.adapters.bpf.crt import OPENING_NS
from tests.e2e.plane_network import Bench
from tests.e2e.plane_packets import DVIPA, OWN, TARGETS, four, from_client, key, serve
from tests.e2e.plane_packets import own as owned

__all__ = ["four"]
pytestmark = pytest.mark.e2e


def test_each_connection_counts_once(four: Bench) -> None:
    plane, (a, b) = four.plane, TARGETS[4]
    assert plane.count_connections(DVIPA[4]) == 0
    plane.insert_connections(a, key(4, 1) + key(4, 2), key(4, 2) + key(4, 3))
    plane.insert_connections(b, key(4, 4) + key(6, 5), b"")
    plane.insert_connections(OWN[4], key(4, 6), b"")
    assert plane.count_connections(DVIPA[4]) == 5
    assert plane.count_connections(DVIPA[4], key(4, 6) + key(4, 7)) == 6
    assert plane.count_connections(DVIPA[6]) == 1


def test_a_handshake_that_is_over_does_not_count(
    four: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(four)
    serve(four, TARGETS[4])
    four.ingress(*from_client(4, "S", port=1))
    four.ingress(*from_client(4, "S", port=2))
    assert four.plane.count_connections(DVIPA[4]) == 2
    four.ingress(*from_client(4, "R", port=1))
    assert four.plane.count_connections(DVIPA[4]) == 1
    much_later_ns = time.monotonic_ns() + OPENING_NS + 1
    monkeypatch.setattr("dvipad.adapters.bpf.crt.time.monotonic_ns", lambda: much_later_ns)
    assert four.plane.count_connections(DVIPA[4]) == 0
