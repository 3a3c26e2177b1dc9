"""CRT, targets and services as user space sees them, up to their limits and beyond."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from dvipad.adapters.bpf.crt import Wanted
from dvipad.adapters.bpf.layout import (
    RING_MAX,
    ROUTE,
    SERVICES_MAX,
    TARGETS_MAX,
    Role,
    connection_key,
    split_keys,
)
from dvipad.adapters.bpf.libbpf import BpfError
from dvipad.adapters.bpf.service_table import ServiceRow
from dvipad.adapters.bpf.tables import AdoptedDvipa
from tests.e2e.plane_network import DROP, Bench
from tests.e2e.plane_packets import (
    CLIENT,
    DVIPA,
    OWN,
    PORT,
    TARGETS,
    four,
    from_client,
    key,
    own,
    serve,
    through_tunnel,
)

__all__ = ["four"]
pytestmark = pytest.mark.e2e
FAR_FUTURE_NS = 1 << 62


def keys(version: int, *ports: int) -> bytes:
    return b"".join(key(version, port) for port in ports)


@pytest.mark.parametrize("version", [4, 6])
def test_hearsay_does_not_override_what_was_chosen_here(four: Bench, version: int) -> None:
    own(four)
    serve(four, TARGETS[4][:1])
    four.ingress(*from_client(version, "S", port=1))
    old = key(version, 2)
    four.plane.insert_connections(TARGETS[4][0], b"", old)
    four.plane._crt._embryonic.update(old, ROUTE.pack(1, 0, 0, 1))  # long ago
    four.plane.insert_hearsay(TARGETS[4][1], keys(version, 1, 2, 3))
    found = four.plane.connections(DVIPA[version])
    assert found[TARGETS[4][0]] == (b"", key(version, 1))
    assert set(split_keys(found[TARGETS[4][1]][1])) == {key(version, 2), key(version, 3)}


def test_connections_of_targets_and_dvipas(four: Bench) -> None:
    plane, (a, b) = four.plane, TARGETS[4]
    assert plane.insert_connections(a, keys(4, 1, 2), keys(4, 3)) == 0
    assert plane.insert_connections(b, keys(4, 4) + keys(6, 5), b"") == 0
    plane.insert_connections(OWN[4], keys(4, 6), b"")
    found = plane.connections(DVIPA[4])
    assert found.keys() == {a, b, OWN[4]}
    assert {found[a][0][at : at + 36] for at in (0, 36)} == {key(4, 1), key(4, 2)}
    assert found[a][1] == key(4, 3)
    assert plane.connections(DVIPA[6]) == {b: (key(6, 5), b"")}
    assert plane.purge_dvipa(DVIPA[4]) == 5
    assert plane.connections(DVIPA[4]) == {}
    (row,) = plane.crt()
    assert (row.client, row.client_port, row.dvipa, row.dvipa_port) == (
        CLIENT[6],
        5,
        DVIPA[6],
        PORT,
    )
    assert (row.target, row.established, row.closing) == (b, True, False)


def test_a_promoted_connection_is_listed_once(four: Bench) -> None:
    own(four)
    serve(four, TARGETS[4])
    four.ingress(*from_client(4, "S"))
    four.ingress(*from_client(4, "A"))
    assert four.plane.connections(DVIPA[4]) == {TARGETS[4][0]: (key(4), b"")}
    assert [row.established for row in four.plane.crt(Wanted(DVIPA[4]))] == [True]


def test_only_what_a_target_means_is_ended(four: Bench) -> None:
    own(four)
    plane, (a, b) = four.plane, TARGETS[4]
    plane.insert_connections(a, keys(4, 1, 2, 3), keys(4, 2))
    four.ingress(*from_client(4, "FA", port=2))
    assert plane.end_connections(b, keys(4, 1, 2)) == b"", "of another target"
    assert plane.end_connections(a, keys(4, 1, 2, 9)) == key(4, 1), "may be a reopened port"
    assert {row.client_port for row in plane.crt()} == {1, 3}


def test_a_targets_list_ends_what_it_lacks(four: Bench) -> None:
    plane, (a, b) = four.plane, TARGETS[4]
    plane.insert_connections(a, keys(4, 1, 2), keys(4, 3))
    plane.insert_connections(b, keys(4, 4), b"")
    before_ns = time.monotonic_ns()
    plane.insert_connections(a, keys(4, 5), b"")
    assert plane.retain_connections(DVIPA[4], a, keys(4, 2), 0) == 0
    assert plane.retain_connections(DVIPA[6], a, b"", FAR_FUTURE_NS) == 0
    assert plane.retain_connections(DVIPA[4], a, keys(4, 2), before_ns) == 2
    ports = {row.client_port: row.target for row in plane.crt()}
    assert ports == {2: a, 5: a, 4: b}


def test_members_are_replaced(four: Bench) -> None:
    own(four, Role.HIDDEN)
    a, b = TARGETS[4]
    four.plane.set_members(frozenset({b}))
    packet = through_tunnel(from_client(4, "S"), 4, False, a)
    assert four.ingress(*packet).verdict == DROP
    four.plane.set_members(frozenset({a, b}))
    assert four.ingress(*packet).verdict != DROP


def test_dvipas_can_be_read_back(four: Bench) -> None:
    four.plane.set_dvipa(DVIPA[4], Role.OWNER, 7, collecting=True)
    four.plane.set_dvipa(DVIPA[6], Role.MOVING, 8, successor=TARGETS[4][0])
    assert set(four.plane.dvipas()) == {
        AdoptedDvipa(DVIPA[4], Role.OWNER, 7, True),
        AdoptedDvipa(DVIPA[6], Role.MOVING, 8, False),
    }
    four.plane.remove_dvipa(DVIPA[6])
    assert [each.dvipa for each in four.plane.dvipas()] == [DVIPA[4]]


def test_a_target_of_the_other_family_is_refused(four: Bench) -> None:
    with pytest.raises(ValueError, match="2001:db8::2 is not IPv4 like"):
        four.plane.set_service(DVIPA[4], PORT, TARGETS[6])


def test_the_ring_has_a_limit(four: Bench) -> None:
    four.plane.set_service(DVIPA[4], PORT, TARGETS[4] * (RING_MAX // 2), True)
    assert four.plane.services() == (
        ServiceRow(DVIPA[4], PORT, TARGETS[4] * (RING_MAX // 2), True),
    )
    with pytest.raises(ValueError, match=f"257 targets; {RING_MAX} is the limit"):
        four.plane.set_service(DVIPA[4], PORT, TARGETS[4][:1] * (RING_MAX + 1))


def test_services_have_a_limit_and_slots_start_from_zero(four: Bench) -> None:
    own(four)
    for port in range(1, SERVICES_MAX + 1):
        four.plane.set_service(DVIPA[4], port, TARGETS[4], True)
    with pytest.raises(BpfError, match=f"one too many: {SERVICES_MAX} is the limit"):
        four.plane.set_service(DVIPA[6], PORT, TARGETS[4])
    four.ingress(*from_client(4, "S"))
    assert four.plane.totals() == {(DVIPA[4], PORT, TARGETS[4][0]): 1}
    four.plane.remove_service(DVIPA[4], PORT)
    assert four.plane.totals() == {}
    four.plane.set_service(DVIPA[6], PORT, TARGETS[4], True)
    assert four.plane.totals() == {}
    four.ingress(*from_client(6, "S"))
    assert four.plane.totals() == {(DVIPA[6], PORT, TARGETS[4][0]): 1}


def test_targets_have_a_limit_and_free_indexes_are_used_again(four: Bench) -> None:
    plane = four.plane
    many = [ip_address("192.0.3.0") + number for number in range(1, TARGETS_MAX)]
    for number, target in enumerate(many):
        one = connection_key(CLIENT[4], 1 + number, DVIPA[4], PORT)
        plane.insert_connections(target, one, b"")
    one_more = ip_address("192.0.4.1")
    with pytest.raises(BpfError, match="is one too many: 256 is the limit"):
        plane.insert_connections(one_more, key(4, 9999), b"")
    plane.set_service(DVIPA[4], PORT, (many[7],))
    assert plane.purge_target(many[7]) == 1
    with pytest.raises(BpfError, match="one too many"):  # still in a ring
        plane.insert_connections(one_more, key(4, 9999), b"")
    plane.remove_service(DVIPA[4], PORT)
    assert plane.purge_target(many[7]) == 0
    plane.insert_connections(one_more, key(4, 9999), b"")
    assert {row.target for row in plane.crt()} == {*many, one_more} - {many[7]}


def test_a_new_target_does_not_inherit_totals(four: Bench) -> None:
    own(four)
    plane, (a, b) = four.plane, TARGETS[4]
    plane.set_service(DVIPA[4], PORT, (a,), True)
    four.ingress(*from_client(4, "S"))
    plane.set_service(DVIPA[4], PORT, (b,), True)
    assert plane.purge_target(a) == 1
    for number in range(TARGETS_MAX - 2):  # every index once more
        plane.insert_connections(ip_address("192.0.3.0") + number, key(4, 1), b"")
    assert plane.totals() == {}
