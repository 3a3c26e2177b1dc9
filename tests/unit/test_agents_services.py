"""The agent of services: which sockets are whose, and when it speaks of one."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from dvipad.adapters.inet_diag import ListenerKey, Row, State
from dvipad.adapters.socket_events import Service, Tally
from dvipad.address import Address
from dvipad.agents.quality import Cuts
from dvipad.agents.responsiveness import LOOKS
from dvipad.agents.services import HOLDS, Connections, ServicesAgent, Sight, Tallies
from dvipad.wire.messages import Quality, ServiceQuality

D1, D2 = IPv4Address("192.0.2.100"), IPv6Address("2001:db8::100")
CLIENT = IPv4Address("198.51.100.7")
FOUR, SIX = (D1, 80), (D2, 80)


def row(local: Address, number: int, state: State, info: bytes = b"", waiting: int = 0) -> Row:
    family = 2 if local.version == 4 else 10
    remote = CLIENT.packed if local.version == 4 else IPv6Address("2001:db8::7").packed
    ports = ((80).to_bytes(2, "big"), number.to_bytes(2, "big"))
    cookie = number.to_bytes(8, "big")
    return Row(family, state, 0, *ports, local.packed, remote, False, cookie, waiting, 10, 0, info)


def listening(key: ListenerKey, waiting: int = 0, number: int = 1) -> tuple[ListenerKey, Row]:
    return key, row(D1, number, State.LISTEN, waiting=waiting)


def info(segments: int, retransmits: int) -> bytes:
    found = bytearray(248)
    struct.pack_into("=I", found, 68, 1_500)
    struct.pack_into("=I", found, 100, retransmits)
    struct.pack_into("=I", found, 156, segments)
    return bytes(found)


def agent() -> ServicesAgent:
    return ServicesAgent(1_000, Cuts())


def after(
    watched: ServicesAgent,
    services: list[Service],
    *sights: tuple[Tallies, list[tuple[ListenerKey, Row]]],
) -> Quality:
    for tallies, listeners in sights:
        said = watched.look(services, Sight(tallies, listeners, tallies))
    return said


def test_nothing_is_said_of_services_that_are_well_and_have_no_connections() -> None:
    said = after(agent(), [FOUR, SIX], *[({}, [listening((None, 80))])] * 9)
    assert said == Quality(HOLDS * 1_000)


def test_a_wildcard_listener_serves_all_and_one_of_the_address_comes_first() -> None:
    hung, fine = listening((None, 80), waiting=4), listening((D1, 80), number=2)
    said = after(agent(), [FOUR, SIX], *[({}, [hung, fine])] * (LOOKS + 1))
    assert said.services == (ServiceQuality(*SIX, sef=0, queue=40),)


def test_what_any_dvipa_of_a_wildcard_listener_gets_is_accepted_by_it() -> None:
    looks = [
        ({SIX: Tally(100 * number, 0, 0, 0, 0)}, [listening((None, 80), waiting=1)])
        for number in range(LOOKS + 1)
    ]
    assert {each.sef for each in after(agent(), [FOUR, SIX], *looks).services} == {100}


def test_where_nobody_counts_a_queue_that_moves_is_enough() -> None:
    queues = [5, 4, 5, 4, 5]
    looks: list[tuple[Tallies, list[tuple[ListenerKey, Row]]]] = [
        (None, [listening((None, 80), waiting=each)]) for each in queues
    ]
    assert after(agent(), [FOUR], *looks).services[0].sef > 0
    looks = [(None, [listening((None, 80), waiting=5)])] * (LOOKS + 1)
    assert after(agent(), [FOUR], *looks).services[0].sef == 0


def test_connections_are_those_of_their_service() -> None:
    watched, counted = agent(), {FOUR: Tally(9, 0, 0, 0, 0), (D1, 443): Tally(99, 99, 99, 99, 99)}

    def look(*rows: Row, half_open: tuple[Row, ...] = ()) -> Quality:
        found = Connections(rows, True, half_open)
        return watched.look([FOUR, SIX], Sight(counted, [], counted, found))

    look(row(D1, 1, State.ESTABLISHED, info(99, 0)))
    said = look(
        row(D1, 1, State.ESTABLISHED, info(1_099, 50)),
        row(D2, 2, State.ESTABLISHED, info(499, 0)),
        row(IPv4Address("192.0.2.1"), 3, State.ESTABLISHED, info(10**6, 10**6)),
    )
    assert said.services == (
        ServiceQuality(*FOUR, left=50, loss=50, round_trip_us=1_500),
        ServiceQuality(*SIX, round_trip_us=1_500),
    )
    stuck = tuple(row(D2, number, State.SYN_RECV) for number in range(5))
    look(half_open=stuck)
    assert [each.cer for each in look(half_open=stuck).services] == [100, 0]


def test_bad_readings_are_counted_and_say_nothing() -> None:
    watched = agent()
    for info_read in (b"", bytes(100), info(500, 500)[:232], info(5, 5)):
        rows = [row(D1, 1, State.ESTABLISHED, info_read)]
        said = watched.look([FOUR], Sight({}, [], {}, Connections(rows, False, ())))
    assert [each.loss for each in said.services] in ([], [0])
    wanted = {"looks": 4, "connections": 4, "cut_short": 4, "no_info": 2, "no_timeouts": 3}
    assert watched.counters == {**wanted, "backwards": 1, "unreadable": 0}


def test_services_that_are_gone_are_forgotten() -> None:
    watched = agent()
    hung: list[tuple[Tallies, list[tuple[ListenerKey, Row]]]]
    hung = [({}, [listening((None, 80), waiting=4)])] * (LOOKS + 1)
    assert after(watched, [FOUR], *hung).services
    assert not after(watched, [], ({}, [])).services
    assert {each.sef for each in after(watched, [FOUR], hung[0]).services} == {100}
