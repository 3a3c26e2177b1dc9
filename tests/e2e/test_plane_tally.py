"""What is counted for each target: packets, bytes; connections that are new, over, active."""

from __future__ import annotations

import pytest

from dvipad.adapters.bpf.counting import Traffic
from dvipad.adapters.bpf.plane import REOPENED_NS, DataPlane
from dvipad.adapters.bpf.tally import ENDED_MAX
from dvipad.core.policy_rows import PolicyRow
from tests.e2e.plane_network import REDIRECT, Bench, frame
from tests.e2e.plane_packets import DVIPA, OWN, PORT, TARGETS, four, from_client, key, serve
from tests.e2e.plane_packets import own as owned

__all__ = ["four"]
pytestmark = pytest.mark.e2e
A, B = TARGETS[4]
ROWS = tuple((DVIPA[4], PORT, xcf) for xcf in (A, B, OWN[4]))


def census(plane: DataPlane) -> list[int]:
    while plane.tally.count_on():
        pass
    return plane.tally.rows(ROWS).active


def test_packets_and_bytes_go_to_the_target_that_got_them(four: Bench) -> None:
    owned(four)
    serve(four, TARGETS[4])
    four.plane.insert_connections(A, key(4, 1), b"")
    four.plane.insert_connections(B, key(4, 2), b"")
    for port, times in ((1, 3), (2, 1)):
        packet = from_client(4, "A", port=port)
        for _ in range(times):
            assert four.ingress(*packet).verdict == REDIRECT
    size = len(frame(*packet)) - len(frame())
    traffic = four.plane.traffic()
    assert traffic[A]["fast"] == Traffic(3, 3 * size)
    assert traffic[B]["fast"] == Traffic(1, size)
    assert OWN[4] not in traffic
    assert four.plane.counters()["encapsulated"] == 4


def test_a_forgotten_target_stays_in_the_sums(four: Bench) -> None:
    owned(four)
    serve(four, TARGETS[4])
    four.plane.insert_connections(A, key(4, 1), b"")
    four.ingress(*from_client(4, "A", port=1))
    before = four.plane.counters()
    serve(four, (B,))
    four.plane.purge_target(A)
    assert A not in four.plane.traffic()
    assert four.plane.counters() == before
    four.plane.insert_connections(A, key(4, 1), b"")
    assert four.plane.traffic()[A]["fast"] == Traffic(0, 0)


def test_new_active_and_ended_are_told_by_row(four: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    owned(four)
    serve(four, TARGETS[4])
    for port in range(1, 7):
        four.ingress(*from_client(4, "S", port=port))
        four.ingress(*from_client(4, "A", port=port))
    plane = four.plane
    found = plane.tally.rows(ROWS)
    assert found.chosen == [3, 3, 0]
    assert found.active == [0, 0, 0], "nobody has counted yet"
    assert census(plane) == [3, 3, 0]
    assert plane.tally.census is not None
    assert plane.tally.census.entries["established4"] == 6
    first = {xcf: old for xcf, (old, _) in plane.connections(DVIPA[4]).items()}
    monkeypatch.setattr("dvipad.adapters.bpf.plane.REOPENED_NS", -REOPENED_NS)
    plane.end_connections(A, first[A][:72] + first[B][:36])  # one of them is not A's
    assert plane.tally.rows(ROWS).ended == [2, 0, 0]
    assert census(plane) == [1, 3, 0]
    plane.remove_service(DVIPA[4], PORT)
    assert plane.tally.rows(ROWS).chosen == [0, 0, 0]


@pytest.mark.parametrize("policies", [(), (PolicyRow("all", ring=TARGETS[4]),)])
def test_connections_whose_client_answered_are_counted(
    four: Bench, policies: tuple[PolicyRow, ...]
) -> None:
    """Whoever chose them; a repeated packet, or a connection that was learnt, is none."""
    owned(four)
    four.plane.set_service(DVIPA[4], PORT, TARGETS[4], policies=policies)
    for port in range(1, 7):
        four.ingress(*from_client(4, "S", port=port))
    for port in (1, 1, 3):
        four.ingress(*from_client(4, "A", port=port))
    four.plane.insert_connections(B, b"", key(4, 99))
    four.ingress(*from_client(4, "A", port=99))
    reached = four.plane.distribution.reached
    assert reached(ROWS) == [(3, 2), (3, 0), (0, 0)]
    four.plane.set_service(DVIPA[4], PORT, TARGETS[4])
    assert reached(ROWS) == [(3, 2), (3, 0), (0, 0)], "a policy's count becomes its service's"
    four.plane.remove_service(DVIPA[4], PORT)
    assert reached(ROWS) == [(0, 0)] * 3


def test_ipv6_is_counted_too(four: Bench) -> None:
    four.plane.insert_connections(A, key(6, 1) + key(6, 2), key(6, 3))
    while four.plane.tally.count_on():
        pass
    rows = ((DVIPA[6], PORT, A),)
    assert four.plane.tally.rows(rows).active == [2]
    assert four.plane.tally.census is not None
    assert four.plane.tally.census.entries["embryonic6"] == 1
    four.plane.tally.ended(four.plane._targets.index(A), key(6, 1) * 2)
    assert four.plane.tally.rows(rows).ended == [2]


def test_ended_connections_of_too_many_rows_begin_again(
    four: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvipad.adapters.bpf.tally.ENDED_MAX", 1)
    index = four.plane._targets.index(A)
    four.plane.tally.ended(index, key(4, 1))
    four.plane.tally.ended(index, key(6, 1))
    assert four.plane.tally.rows(((DVIPA[4], PORT, A), (DVIPA[6], PORT, A))).ended == [0, 1]
    assert ENDED_MAX >= 4096
